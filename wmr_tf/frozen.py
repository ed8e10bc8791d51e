"""The classifier as the attack sees it: constant weights, inference mode, float32 logits."""

from collections.abc import Callable

import keras
import tensorflow as tf

from wmr_tf.precision import compute_dtypes

Network = Callable[[tf.Tensor], tf.Tensor]


def freeze(classifier: keras.Model) -> Network:
    """Returns the map from images to float32 logits that an attack differentiates.

    BatchNorm uses its moving statistics and dropout is off, so that nothing in the classifier moves while it is
    attacked. In float16 the gradient of every image enters the network at unit size and is scaled back behind it:
    the gradient of a confident image would otherwise vanish below 6e-8.

    Args:
        classifier: A Keras model that returns logits `[batch, classes]`.

    Returns:
        A function of images `[batch, ...]`, float32 in [0, 1], that returns logits `[batch, classes]`, float32.

    Example:
        >>> logits = freeze(classifier)(images)
    """

    def network(images: tf.Tensor) -> tf.Tensor:
        return tf.cast(classifier(images, training=False), tf.float32)

    return _with_unit_gradients(network) if "float16" in compute_dtypes(classifier) else network


def _with_unit_gradients(network: Network) -> Network:
    @tf.custom_gradient
    def scaled(images: tf.Tensor):
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(images)
            logits = network(images)

        def backward(upstream: tf.Tensor, variables=()):
            size = tf.reduce_max(tf.abs(upstream), axis=-1)
            size = tf.where(size > 0, size, 1.0)
            gradient = tape.gradient(logits, images, upstream / size[:, tf.newaxis])
            back = tf.reshape(size, [-1] + [1] * (images.shape.rank - 1))
            return gradient * back, [None] * len(variables)

        def backward_of_images(upstream: tf.Tensor, variables=()):
            gradient, of_variables = backward(upstream, variables)
            return (gradient, of_variables) if variables else gradient

        return logits, backward_of_images

    return scaled
