"""ResNets for small images: ResNet-18, and the ResNet-20 of CIFAR-10."""

import keras
from keras import layers

from wmr_tf.architectures import _layers


def resnet18(num_classes: int = 10, input_shape: tuple[int, int, int] = (32, 32, 3)) -> keras.Model:
    """Return a new ResNet-18 with the stem for small images, 11,173,962 trainable parameters at ten classes.

    A 3x3 convolution at stride 1 without max-pool, four stages of two post-activation blocks (64, 128, 256 and 512
    filters; the last three stages halve the image), the global average and the logits. Kernels, and the bias of the
    last layer, start uniform in +-1 / sqrt(fan_in), the default of PyTorch.

    Args:
        num_classes: Number of classes, at least 2.
        input_shape: `(height, width, channels)` of an image; height and width at least 8.

    Returns:
        A Keras model of images `[batch, *input_shape]` in [0, 1] that returns float32 logits `[batch, num_classes]`.

    Raises:
        InvalidInput: If `num_classes` or `input_shape` is out of these ranges.

    Example:
        >>> from wmr_tf import architectures
        >>> architectures.resnet18(num_classes=200, input_shape=(64, 64, 3)).output_shape
        (None, 200)

    Note: Keras's BatchNorm keeps the biased variance of the batch where PyTorch's keeps the unbiased one.

    Source: He et al., "Deep Residual Learning for Image Recognition" (CVPR 2016), and the `BasicBlock` of
    `models/resnet.py` in https://github.com/kuangliu/pytorch-cifar.
    """
    return _resnet("resnet18", num_classes, input_shape, widths=(64, 128, 256, 512), blocks=2)


def resnet20(num_classes: int = 10, input_shape: tuple[int, int, int] = (32, 32, 3)) -> keras.Model:
    """Return a new ResNet-20, the small one made for CIFAR-10: 272,474 trainable parameters at ten classes.

    A 3x3 convolution at stride 1, three stages of three post-activation blocks (16, 32 and 64 filters; the last two
    stages halve the image), the global average and the logits: 40.8 M multiply-adds for 32x32. Initialised as
    `resnet18`.

    Args:
        num_classes: Number of classes, at least 2.
        input_shape: `(height, width, channels)` of an image; height and width at least 8.

    Returns:
        A Keras model of images `[batch, *input_shape]` in [0, 1] that returns float32 logits `[batch, num_classes]`.

    Raises:
        InvalidInput: If `num_classes` or `input_shape` is out of these ranges.

    Example:
        >>> from wmr_tf import architectures
        >>> architectures.resnet20(num_classes=3, input_shape=(28, 28, 1)).output_shape
        (None, 3)

    Note: Where a block widens, its shortcut is a 1x1 convolution with BatchNorm; the paper's fills up with zeros.

    Source: He et al., "Deep Residual Learning for Image Recognition" (CVPR 2016), section 4.2.
    """
    return _resnet("resnet20", num_classes, input_shape, widths=(16, 32, 64), blocks=3)


def _resnet(
    name: str, num_classes: int, input_shape: tuple[int, int, int], *, widths: tuple[int, ...], blocks: int
) -> keras.Model:
    image = _layers.image_input(input_shape)
    x = layers.ReLU(name="stem_relu")(_conv_bn(image, widths[0], 3, 1, "stem"))
    for stage, filters in enumerate(widths, start=1):
        for block in range(1, blocks + 1):
            stride = 2 if stage > 1 and block == 1 else 1
            x = _block(x, filters, stride, f"stage{stage}_block{block}")
    x = layers.GlobalAveragePooling2D(name="average")(x)
    outputs = _layers.logits(x, num_classes, bias=_layers.torch_bias(x.shape[-1]))
    return keras.Model(image, outputs, name=name)


def _block(x: keras.KerasTensor, filters: int, stride: int, name: str) -> keras.KerasTensor:
    residual = _conv_bn(x, filters, 3, stride, f"{name}_conv1")
    residual = layers.ReLU(name=f"{name}_relu1")(residual)
    residual = _conv_bn(residual, filters, 3, 1, f"{name}_conv2")
    changes_shape = stride != 1 or x.shape[-1] != filters
    shortcut = _conv_bn(x, filters, 1, stride, f"{name}_shortcut") if changes_shape else x
    x = layers.Add(name=f"{name}_add")([residual, shortcut])
    return layers.ReLU(name=f"{name}_relu2")(x)


def _conv_bn(x: keras.KerasTensor, filters: int, size: int, stride: int, name: str) -> keras.KerasTensor:
    return _layers.conv_bn(x, filters, size, stride=stride, initializer=_layers.torch_uniform, name=name)
