"""The layers that the architectures share: convolution, BatchNorm and initialisation as PyTorch has them.

Every BatchNorm of the package is made by `batch_norm`, and every one that directly follows a convolution by `conv_bn`.

An initialiser of Keras returns the same numbers each time it is called, so what is passed around here is a function
that makes a new one for each weight.
"""

from collections.abc import Callable

import keras
from keras import layers

from wmr_tf import checks

InitializerFactory = Callable[[], keras.Initializer]


def he_normal() -> keras.Initializer:
    """Return PyTorch's `kaiming_normal_`: N(0, 2 / fan_in), not truncated as Keras's `he_normal` is."""
    return keras.initializers.VarianceScaling(scale=2.0, mode="fan_in", distribution="untruncated_normal")


def he_normal_fan_out() -> keras.Initializer:
    """Return N(0, 2 / fan_out), as Wide ResNets initialise their convolutions."""
    return keras.initializers.VarianceScaling(scale=2.0, mode="fan_out", distribution="untruncated_normal")


def torch_uniform() -> keras.Initializer:
    """Return PyTorch's default for kernels: uniform in +-1 / sqrt(fan_in)."""
    return keras.initializers.VarianceScaling(scale=1 / 3, mode="fan_in", distribution="uniform")


def torch_bias(fan_in: int) -> keras.Initializer:
    """Return PyTorch's default for biases: uniform in +-1 / sqrt(fan_in), the fan-in of the kernel beside it."""
    bound = fan_in**-0.5
    return keras.initializers.RandomUniform(-bound, bound)


def conv(
    x: keras.KerasTensor, filters: int, size: int, *, stride: int = 1, initializer: InitializerFactory, name: str
) -> keras.KerasTensor:
    """Return a convolution without bias that is padded by `size // 2` zeros on all four sides, at stride 2 too.

    Keras's `padding="same"` puts the zeros of a stride-2 convolution at the bottom and the right only, which shifts the
    image by one pixel; hence the padding of its own.
    """
    padding = "same" if stride == 1 else "valid"
    if stride > 1 and size > 1:
        x = layers.ZeroPadding2D(size // 2, name=f"{name}_pad")(x)
    convolution = layers.Conv2D(
        filters, size, stride, padding, use_bias=False, kernel_initializer=initializer(), name=name
    )
    return convolution(x)


def batch_norm(x: keras.KerasTensor, *, name: str) -> keras.KerasTensor:
    """Return BatchNorm with the momentum and epsilon of PyTorch (whose momentum 0.1 is Keras's 0.9)."""
    return layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name=name)(x)


def conv_bn(
    x: keras.KerasTensor, filters: int, size: int, *, stride: int = 1, initializer: InitializerFactory, name: str
) -> keras.KerasTensor:
    """Return `conv` followed by `batch_norm`, the latter named `{name}_bn`."""
    x = conv(x, filters, size, stride=stride, initializer=initializer, name=name)
    return batch_norm(x, name=f"{name}_bn")


def logits(
    x: keras.KerasTensor,
    num_classes: int,
    *,
    kernel: keras.Initializer | str | None = None,
    bias: keras.Initializer | str = "zeros",
) -> keras.KerasTensor:
    """Return the last layer, in float32 under every precision; its kernel starts as PyTorch's unless `kernel` is given.

    Raises:
        InvalidInput: If there are fewer than two classes.
    """
    units = checks.at_least("num_classes", num_classes, 2)
    kernel = kernel or torch_uniform()
    last = layers.Dense(units, kernel_initializer=kernel, bias_initializer=bias, dtype="float32", name="logits")
    return last(x)


def image_input(input_shape: tuple[int, int, int], minimum: int = 8) -> keras.KerasTensor:
    """Return the input of a network; `minimum` is the height and width below which its images would shrink to nothing.

    Raises:
        InvalidInput: If `input_shape` is not that of an image of that size or more, channels last.
    """
    checks.require(
        _is_image_shape(input_shape, minimum),
        "input_shape",
        got=input_shape,
        expected=f"(height, width, channels) with a height and width of at least {minimum}",
        fix="Give the shape of one image, channels last, without the batch, or choose another architecture.",
    )
    return keras.Input(input_shape, name="image")


def _is_image_shape(shape: object, minimum: int) -> bool:
    if not isinstance(shape, tuple | list) or len(shape) != 3 or not all(isinstance(size, int) for size in shape):
        return False
    height, width, channels = shape
    return min(height, width) >= minimum and channels >= 1
