"""A convnet small enough to train within seconds."""

import keras
from keras import layers

from wmr_tf.architectures import _layers


def digits_cnn(num_classes: int = 10, input_shape: tuple[int, int, int] = (8, 8, 1)) -> keras.Model:
    """Return a new network for the 8x8 digits of scikit-learn, about 38,000 parameters.

    Two 3x3 convolutions of 32 filters, a 2x2 max-pool, one of 64 filters, and the logits. It has neither BatchNorm nor
    dropout, so that it computes the same in training and in inference.

    Args:
        num_classes: Number of logits, at least 2.
        input_shape: `(height, width, channels)` of an image; height and width at least 8.

    Returns:
        A Keras model of images `[batch, *input_shape]` in [0, 1] that returns float32 logits `[batch, num_classes]`.

    Raises:
        InvalidInput: If `num_classes` or `input_shape` is out of these ranges.

    Example:
        >>> from wmr_tf import architectures
        >>> architectures.digits_cnn().output_shape
        (None, 10)
    """
    image = _layers.image_input(input_shape)
    x = _conv(image, 32, "conv1")
    x = _conv(x, 32, "conv2")
    x = layers.MaxPooling2D(name="pool")(x)
    x = _conv(x, 64, "conv3")
    x = layers.Flatten(name="flatten")(x)
    return keras.Model(image, _layers.logits(x, num_classes), name="digits_cnn")


def _conv(x: keras.KerasTensor, filters: int, name: str) -> keras.KerasTensor:
    kernel = _layers.he_normal()
    return layers.Conv2D(filters, 3, padding="same", activation="relu", kernel_initializer=kernel, name=name)(x)
