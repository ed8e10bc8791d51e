"""The convolution of one-channel images: the library's own, and its own gradient, computed another way."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from wmr_tf.engine import frozen, greyscale


def _value_and_gradient(function, images: tf.Tensor, upstream: tf.Tensor) -> tuple[np.ndarray, np.ndarray]:
    with tf.GradientTape() as tape:
        tape.watch(images)
        value = function(images)
        weighted = tf.reduce_sum(tf.cast(value, tf.float32) * upstream)
    return value.numpy(), tape.gradient(weighted, images).numpy()


@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize("kernel_size", [(3, 3), (2, 4), (1, 1), (5, 2)])
@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-5), ("bfloat16", 2e-2), ("float16", 5e-3)])
def test_value_and_gradient_are_those_of_the_plain_convolution(padding, kernel_size, dtype, tolerance):
    random = np.random.default_rng(0)
    images = tf.cast(random.random((3, 7, 9, 1)), dtype)
    kernel = tf.cast(random.normal(size=(*kernel_size, 1, 6)), dtype)
    expected_of = lambda x: tf.nn.conv2d(x, kernel, 1, padding.upper())  # noqa: E731
    upstream = tf.cast(random.normal(size=expected_of(images).shape), tf.float32)
    value, gradient = _value_and_gradient(lambda x: greyscale.convolve(x, kernel, padding), images, upstream)
    expected, expected_gradient = _value_and_gradient(expected_of, images, upstream)
    np.testing.assert_array_equal(value, expected)
    scale = np.abs(expected_gradient.astype(np.float32)).max()
    np.testing.assert_allclose(
        gradient.astype(np.float32), expected_gradient.astype(np.float32), atol=tolerance * scale
    )


def test_it_is_traced_for_batches_and_images_of_any_size():
    kernel = tf.ones([3, 3, 1, 4])

    @tf.function(autograph=False, input_signature=[tf.TensorSpec([None, None, None, 1])])
    def gradient(images):
        return _gradient(lambda x: greyscale.convolve(x, kernel, "same"), images)

    for shape in ([2, 8, 8, 1], [3, 5, 6, 1]):
        images = tf.ones(shape)
        expected = _gradient(lambda x: tf.nn.conv2d(x, kernel, 1, "SAME"), images)
        np.testing.assert_allclose(gradient(images), expected, rtol=1e-6)


def _gradient(function, images: tf.Tensor) -> tf.Tensor:
    with tf.GradientTape() as tape:
        tape.watch(images)
        total = tf.reduce_sum(function(images))
    return tape.gradient(total, images)


@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize("strides", [1, 2])
def test_a_max_pool_after_a_rectified_convolution_is_rectified_itself(padding, strides):
    keras.utils.set_random_seed(0)
    layers = [
        keras.layers.Conv2D(5, 3, activation="relu", bias_initializer=keras.initializers.RandomNormal(stddev=0.5)),
        keras.layers.MaxPooling2D(3, strides, padding),
        keras.layers.Conv2D(4, 2, activation="relu"),
        keras.layers.MaxPooling2D(),
        keras.layers.Flatten(),
        keras.layers.Dense(3),
    ]
    classifier = keras.Sequential([keras.Input((10, 11, 1)), *layers])
    images = tf.random.stateless_uniform([4, 10, 11, 1], [0, 1])
    network = frozen.freeze(classifier)
    np.testing.assert_allclose(network(images), classifier(images, training=False), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(
        _gradient(lambda x: network(x) ** 2, images), _gradient(lambda x: classifier(x) ** 2, images), atol=1e-6
    )
    traced = tf.function(lambda x: frozen.freeze(classifier)(x), autograph=False).get_concrete_function(images)
    kinds = [operation.type for operation in traced.graph.get_operations()]
    assert [kind for kind in kinds if kind in ("Conv2D", "MaxPool", "Relu")] == ["Conv2D", "MaxPool", "Relu"] * 2
