"""The depthwise convolution of constant kernels: Keras's own, with a gradient that is computed in float32."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from wmr_tf.engine import depthwise


def value_and_gradient(function, images, upstream):
    with tf.GradientTape() as tape:
        tape.watch(images)
        value = function(images)
    return value, tape.gradient(value, images, tf.cast(upstream, value.dtype))


@pytest.mark.parametrize("in_graph", [False, True])
@pytest.mark.parametrize(("strides", "padding", "dilation_rate"), [(1, "same", 1), (2, "valid", 1), (1, "valid", 2)])
@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-6), ("bfloat16", 0.02), ("float16", 3e-3)])
def test_value_and_gradient_are_those_of_keras(dtype, tolerance, strides, padding, dilation_rate, in_graph):
    random = np.random.default_rng(0)
    images = tf.cast(random.random([3, 8, 8, 2]), dtype)
    kernel = tf.cast(random.normal(size=[3, 3, 2, 2]), dtype)
    settings = {"strides": strides, "padding": padding, "dilation_rate": dilation_rate}
    expected_of = lambda x: keras.ops.depthwise_conv(x, kernel, **settings)  # noqa: E731
    upstream = tf.constant(random.normal(size=expected_of(images).shape), tf.float32)
    compute = tf.function(value_and_gradient) if in_graph else value_and_gradient
    value, gradient = compute(lambda x: depthwise.convolve(x, kernel, **settings), images, upstream)
    expected, expected_gradient = value_and_gradient(expected_of, images, upstream)
    assert gradient.dtype == dtype
    np.testing.assert_array_equal(tf.cast(value, tf.float32), tf.cast(expected, tf.float32))
    found, wanted = (tf.cast(part, tf.float32).numpy() for part in (gradient, expected_gradient))
    np.testing.assert_allclose(found, wanted, rtol=0, atol=tolerance * np.abs(wanted).max())
