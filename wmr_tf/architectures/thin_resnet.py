"""A thin pre-activation ResNet that two cores can train against attacks."""

import keras

from wmr_tf.architectures import _layers, _preactivation

WIDTHS = (48, 96, 192)
BLOCKS_PER_STAGE = 1
FIRST_SIZE = 16
"""About how high and wide the first stage's images are: at full size most of the time goes into thin layers."""


def thin_resnet(num_classes: int = 10, input_shape: tuple[int, int, int] = (32, 32, 3)) -> keras.Model:
    """Return a new thin pre-activation ResNet, 27.5 M multiply-adds and 691,258 trainable parameters.

    A convolution of 48 filters that brings the image to about 16x16, three stages of one pre-activation block (48, 96
    and 192 filters; the last two stages halve the image), BatchNorm, ReLU, the global average and the logits. The
    convolution is 3x3 at stride 2 for 32x32, and 5x5 at stride 4 for 64x64: 28.1 M multiply-adds at 200 classes.
    ResNet-18 has 555.4 M and 2,222 M. Initialised as `wide_resnet_34_10`.

    Args:
        num_classes: Number of classes, at least 2.
        input_shape: `(height, width, channels)` of an image; height and width at least 8.

    Returns:
        A Keras model of images `[batch, *input_shape]` in [0, 1] that returns float32 logits `[batch, num_classes]`.

    Raises:
        InvalidInput: If `num_classes` or `input_shape` is out of these ranges.

    Example:
        >>> from wmr_tf import architectures
        >>> architectures.thin_resnet(num_classes=200, input_shape=(64, 64, 3)).output_shape
        (None, 200)

    Note: No paper's network: it is made so that adversarial training takes minutes. Few layers at half the size run
        faster than more and thinner ones of as many multiply-adds at full size.

    Source: The blocks of He et al., "Identity Mappings in Deep Residual Networks" (ECCV 2016).
    """
    image = _layers.image_input(input_shape)
    stride = max(1, min(input_shape[:2]) // FIRST_SIZE)
    size = 2 * (max(stride, 2) // 2) + 1  # odd, and no pixel is left out
    x = _layers.conv(image, WIDTHS[0], size, stride=stride, initializer=_layers.he_normal_fan_out, name="stem")
    x = _preactivation.features(x, WIDTHS, BLOCKS_PER_STAGE)
    return keras.Model(image, _layers.logits(x, num_classes), name="thin_resnet")
