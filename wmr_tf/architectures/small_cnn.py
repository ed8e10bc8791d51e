"""The small convnet of the TRADES experiments on MNIST."""

import keras
from keras import layers

from wmr_tf.architectures import _layers

MINIMUM_SIZE = 16  # ((16 - 2 - 2) / 2 - 2 - 2) / 2 = 1 pixel is left before the dense layers


def small_cnn(num_classes: int = 10, input_shape: tuple[int, int, int] = (28, 28, 1)) -> keras.Model:
    """Return a new SmallCNN for MNIST, 312,202 parameters.

    Twice two 3x3 convolutions without padding (32 filters, then 64) and a 2x2 max-pool, two dense layers of 200 units
    with dropout 0.5 after the first, and the logits. Initialised as in the public code of TRADES: N(0, 2 / fan_in) and
    zero biases in the convolutions, uniform in +-1 / sqrt(fan_in) in the hidden dense layers, zeros in the last layer,
    so that a new network returns zero logits.

    Args:
        num_classes: Number of logits, at least 2.
        input_shape: `(height, width, channels)` of an image; height and width at least 16.

    Returns:
        A Keras model of images `[batch, *input_shape]` in [0, 1] that returns float32 logits `[batch, num_classes]`.

    Raises:
        InvalidInput: If `num_classes` or `input_shape` is out of these ranges.

    Example:
        >>> from wmr_tf import architectures
        >>> architectures.small_cnn().count_params()
        312202

    Source: Zhang et al., "Theoretically Principled Trade-off between Robustness and Accuracy" (ICML 2019), and
    `models/small_cnn.py` of https://github.com/yaodongyu/TRADES.
    """
    image = _layers.image_input(input_shape, minimum=MINIMUM_SIZE)
    x = _conv(image, 32, "conv1")
    x = _conv(x, 32, "conv2")
    x = layers.MaxPooling2D(name="pool1")(x)
    x = _conv(x, 64, "conv3")
    x = _conv(x, 64, "conv4")
    x = layers.MaxPooling2D(name="pool2")(x)
    x = layers.Flatten(name="flatten")(x)
    x = _dense(x, 200, "dense1")
    x = layers.Dropout(0.5, name="dropout")(x)
    x = _dense(x, 200, "dense2")
    return keras.Model(image, _layers.logits(x, num_classes, kernel="zeros"), name="small_cnn")


def _conv(x: keras.KerasTensor, filters: int, name: str) -> keras.KerasTensor:
    return layers.Conv2D(filters, 3, activation="relu", kernel_initializer=_layers.he_normal(), name=name)(x)


def _dense(x: keras.KerasTensor, units: int, name: str) -> keras.KerasTensor:
    kernel, bias = _layers.torch_uniform(), _layers.torch_bias(x.shape[-1])
    return layers.Dense(units, activation="relu", kernel_initializer=kernel, bias_initializer=bias, name=name)(x)
