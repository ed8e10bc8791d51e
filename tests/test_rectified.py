"""ReLU in bfloat16, whose gradient is computed in float16, against TensorFlow's own."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from wmr_tf.engine import rectified
from wmr_tf.engine.frozen import freeze


def value_and_gradient(function, x, upstream):
    with tf.GradientTape() as tape:
        tape.watch(x)
        value = function(x)
    return value, tape.gradient(value, x, upstream)


@pytest.mark.parametrize("in_graph", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_value_and_gradient_are_those_of_tensorflow_to_the_bit(dtype, in_graph):
    special = [0.0, -0.0, 1e-37, -1e-37, 1e36, -1e36, 3.14, -3.14, 1.0, -1.0]
    x, upstream = (part.ravel() for part in np.meshgrid(special, special))
    x, upstream = (tf.cast(tf.constant(part, tf.float32), dtype) for part in (x, upstream))
    compute = tf.function(value_and_gradient) if in_graph else value_and_gradient
    found, expected = compute(rectified.relu, x, upstream), value_and_gradient(tf.nn.relu, x, upstream)
    np.testing.assert_array_equal(tf.cast(found[0], tf.float32), tf.cast(expected[0], tf.float32))
    np.testing.assert_array_equal(tf.cast(found[1], tf.float32), tf.cast(expected[1], tf.float32))


@pytest.mark.parametrize(
    "layer",
    [
        lambda: keras.layers.ReLU(),
        lambda: keras.layers.Activation("relu"),
        lambda: keras.layers.Conv2D(3, 1, activation="relu"),
        lambda: keras.layers.ReLU(max_value=0.5),
        lambda: keras.layers.ReLU(negative_slope=0.5),
        lambda: keras.layers.ReLU(threshold=0.2),
        lambda: keras.layers.Activation("sigmoid"),
    ],
)
def test_a_frozen_network_rectifies_as_its_layers_do(layer):
    keras.config.set_dtype_policy("mixed_bfloat16")
    model = keras.Sequential([keras.Input([4, 4, 2]), keras.layers.Conv2D(2, 1), layer(), keras.layers.Flatten()])
    x = tf.random.uniform([5, 4, 4, 2])
    found, expected = (
        value_and_gradient(network, x, None) for network in (freeze(model), lambda x: tf.cast(model(x), tf.float32))
    )
    np.testing.assert_allclose(found[0], expected[0], rtol=0.02, atol=1e-6)
    np.testing.assert_allclose(found[1], expected[1], rtol=0.02, atol=0.02)
