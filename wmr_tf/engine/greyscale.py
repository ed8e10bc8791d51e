"""A convolution of one-channel images whose gradient for the images is a sum of shifted planes."""

from collections.abc import Callable

import tensorflow as tf


def convolve(images: tf.Tensor, kernel: tf.Tensor, padding: str) -> tf.Tensor:
    """Return `tf.nn.conv2d(images, kernel, strides=1, padding)`, with a faster gradient for the images.

    That gradient is a convolution with a single output channel, so code that is vectorised over channels wastes most
    of each vector. Here one matrix product gives a plane for each pixel of the kernel; the gradient is the sum of these
    planes, each shifted to its pixel's place. It takes a third to a half of the time on a CPU (`benchmarks.profile`).

    Args:
        images: Floats `[batch, height, width, 1]`.
        kernel: Floats `[rows, columns, 1, filters]`, constant: no gradient flows to it.
        padding: "valid" or "same".

    Returns:
        Floats `[batch, height', width', filters]`.

    Example:
        >>> convolve(tf.ones([2, 8, 8, 1]), tf.ones([3, 3, 1, 4]), "valid").shape
        TensorShape([2, 6, 6, 4])
    """
    rows, columns, _, filters = kernel.shape

    def backward(upstream: tf.Tensor) -> tf.Tensor:
        pixels = tf.reshape(kernel, [rows * columns, filters])
        planes = tf.matmul(pixels, tf.reshape(upstream, [-1, filters]), transpose_b=True)
        planes = tf.reshape(tf.cast(planes, tf.float32), [rows, columns, *tf.unstack(tf.shape(upstream)[:3])])
        shifted = [
            tf.pad(planes[row, column], [[0, 0], [row, rows - 1 - row], [column, columns - 1 - column]])
            for row in range(rows)
            for column in range(columns)
        ]
        gradient = tf.add_n(shifted)
        if padding == "same":  # the sum is that of images with the padding around them
            top, left, shape = (rows - 1) // 2, (columns - 1) // 2, tf.shape(images)
            gradient = gradient[:, top : top + shape[1], left : left + shape[2]]
        return tf.reshape(tf.cast(gradient, images.dtype), tf.shape(images))

    @tf.custom_gradient
    def convolved(images: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], tf.Tensor]]:
        return tf.nn.conv2d(images, kernel, 1, padding.upper()), backward

    return convolved(images)
