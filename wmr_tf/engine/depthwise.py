"""A depthwise convolution whose gradient for the images is computed in float32 where the processor has no other."""

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf


def convolve(images: tf.Tensor, kernel: tf.Tensor, **settings: Any) -> tf.Tensor:
    """Return `keras.ops.depthwise_conv(images, kernel, **settings)`; in bfloat16 with a faster gradient.

    TensorFlow's kernel for that gradient takes 25 times as long in bfloat16 as in float32, on a processor
    (`benchmarks.profile`). A convolution is linear, so its gradient does not depend on the images: it is taken in
    float32 at zeros.

    Args:
        images: Floats `[batch, height, width, channels]`.
        kernel: Floats `[rows, columns, channels, multiplier]`, constant: no gradient flows to it.
        **settings: Strides, padding, data format and dilation rate.

    Returns:
        Floats `[batch, height', width', channels * multiplier]`.

    Example:
        >>> convolve(tf.ones([2, 8, 8, 3]), tf.ones([3, 3, 3, 1]), padding="valid").shape
        TensorShape([2, 6, 6, 3])
    """
    if images.dtype != tf.bfloat16 or tf.config.list_physical_devices("GPU"):
        return keras.ops.depthwise_conv(images, kernel, **settings)

    @tf.custom_gradient
    def convolved(images: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], tf.Tensor]]:
        def backward(upstream: tf.Tensor) -> tf.Tensor:
            anywhere = tf.zeros(tf.shape(images), tf.float32)
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch(anywhere)
                outputs = keras.ops.depthwise_conv(anywhere, tf.cast(kernel, tf.float32), **settings)
            return tf.cast(tape.gradient(outputs, anywhere, tf.cast(upstream, tf.float32)), images.dtype)

        return keras.ops.depthwise_conv(images, kernel, **settings), backward

    return convolved(images)
