"""The Wide ResNet of the TRADES experiments on CIFAR-10."""

import keras

from wmr_tf.architectures import _layers, _preactivation

BLOCKS_PER_STAGE = 5  # two convolutions each, in three stages; with the stem and three shortcuts the 34 of the name
WIDTH = 10


def wide_resnet_34_10(num_classes: int = 10, input_shape: tuple[int, int, int] = (32, 32, 3)) -> keras.Model:
    """Return a new WRN-34-10 without dropout, 46,160,474 trainable parameters at ten classes.

    A 3x3 convolution of 16 filters, three stages of five pre-activation blocks (160, 320 and 640 filters; the last two
    stages halve the image), BatchNorm, ReLU, the global average and the logits. Initialised as in the public code of
    TRADES: N(0, 2 / fan_out) in the convolutions, uniform in +-1 / sqrt(fan_in) and a zero bias in the last layer.

    Args:
        num_classes: Number of classes, at least 2.
        input_shape: `(height, width, channels)` of an image; height and width at least 8.

    Returns:
        A Keras model of images `[batch, *input_shape]` in [0, 1] that returns float32 logits `[batch, num_classes]`.

    Raises:
        InvalidInput: If `num_classes` or `input_shape` is out of these ranges.

    Example:
        >>> from wmr_tf import architectures
        >>> architectures.wide_resnet_34_10().output_shape
        (None, 10)

    Note: The public code also creates a copy of the first stage that it never uses; it is left out here. Keras's
        BatchNorm keeps the biased variance of the batch where PyTorch's keeps the unbiased one.

    Source: Zagoruyko and Komodakis, "Wide Residual Networks" (BMVC 2016), as in `models/wideresnet.py` of
    https://github.com/yaodongyu/TRADES.
    """
    image = _layers.image_input(input_shape)
    x = _layers.conv(image, 16, 3, initializer=_layers.he_normal_fan_out, name="stem")
    x = _preactivation.features(x, (16 * WIDTH, 32 * WIDTH, 64 * WIDTH), BLOCKS_PER_STAGE)
    return keras.Model(image, _layers.logits(x, num_classes), name="wide_resnet_34_10")
