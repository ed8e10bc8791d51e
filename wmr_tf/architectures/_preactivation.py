"""Residual stages whose blocks normalise and rectify before each convolution, which wide and thin ResNets share."""

from collections.abc import Iterable

import keras
from keras import layers

from wmr_tf.architectures import _layers


def features(x: keras.KerasTensor, widths: Iterable[int], blocks: int) -> keras.KerasTensor:
    """Return what the last layer sees: stages of pre-activation blocks, BatchNorm, ReLU and the global average.

    Args:
        x: The output of the stem.
        widths: Filters of each stage; every stage but the first halves the image.
        blocks: How many blocks each stage has, of two 3x3 convolutions each.

    Returns:
        Features `[batch, filters of the last stage]`.
    """
    for stage, filters in enumerate(widths, start=1):
        for block in range(1, blocks + 1):
            stride = 2 if stage > 1 and block == 1 else 1
            x = _block(x, filters, stride, f"stage{stage}_block{block}")
    x = _bn_relu(x, "final")
    return layers.GlobalAveragePooling2D(name="average")(x)


def _block(x: keras.KerasTensor, filters: int, stride: int, name: str) -> keras.KerasTensor:
    init = _layers.he_normal_fan_out
    activated = _bn_relu(x, f"{name}_input")
    residual = _layers.conv_bn(activated, filters, 3, stride=stride, initializer=init, name=f"{name}_conv1")
    residual = layers.ReLU(name=f"{name}_relu")(residual)
    residual = _layers.conv(residual, filters, 3, initializer=init, name=f"{name}_conv2")
    shortcut = x
    if x.shape[-1] != filters:  # a block that widens takes its shortcut after the activation, the others before it
        shortcut = _layers.conv(activated, filters, 1, stride=stride, initializer=init, name=f"{name}_shortcut")
    return layers.Add(name=f"{name}_add")([residual, shortcut])


def _bn_relu(x: keras.KerasTensor, name: str) -> keras.KerasTensor:
    return layers.ReLU(name=f"{name}_relu")(_layers.batch_norm(x, name=f"{name}_bn"))
