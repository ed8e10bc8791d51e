"""The training forward pass, with a BatchNorm that is fused and works in the layers' own precision."""

from typing import Any

import keras
import tensorflow as tf

from wmr_tf.engine import distribution, graph
from wmr_tf.engine.precision import widest
from wmr_tf.engine.streams import in_parts

_LAYERS = keras.layers
_IMAGE_BY_IMAGE = {
    *(_LAYERS.InputLayer, _LAYERS.Rescaling, _LAYERS.Normalization, _LAYERS.LayerNormalization),
    *(_LAYERS.Conv2D, _LAYERS.DepthwiseConv2D, _LAYERS.SeparableConv2D, _LAYERS.Dense, _LAYERS.ZeroPadding2D),
    *(_LAYERS.MaxPooling2D, _LAYERS.AveragePooling2D),
    *(_LAYERS.GlobalMaxPooling2D, _LAYERS.GlobalAveragePooling2D),
    *(_LAYERS.Flatten, _LAYERS.Reshape, _LAYERS.Add, _LAYERS.Concatenate),
    *(_LAYERS.Activation, _LAYERS.ReLU, _LAYERS.LeakyReLU, _LAYERS.Softmax, _LAYERS.Dropout),
}


def training_logits(
    classifier: keras.Model, images: tf.Tensor, *, cut: tuple[Any, tf.Tensor] | None = None
) -> tf.Tensor:
    """Return `classifier(images, training=True)`, with every BatchNorm that can be computed by one fused kernel.

    Keras's own BatchNorm is a chain of elementwise operations, in float32 under mixed precision. The fused kernel reads
    and writes the layer's precision and computes its statistics in float32. Outputs, gradients and moving statistics
    are equal up to rounding. Layers and variables are unchanged, so the saved model is plain Keras.

    On several replicas the statistics are those of the global batch, as on one device; there is no fused kernel for
    that. Keras computes the layers that the graph calls more than once, and those of a model that is not a graph of
    layers: give these `synchronized=True`.

    Args:
        classifier: A Keras model that returns logits `[batch, classes]`.
        images: Images `[batch, ...]`, float32 in [0, 1].
        cut: A layer that gradients do not pass, and a tensor shaped as its output that is added there.

    Returns:
        Logits `[batch, classes]`; the moving statistics have been updated.
    """
    norms = [layer for layer, _ in graph.layers_once(classifier) if _is_plain_norm(layer)]
    if distribution.replicas() > 1:
        computed = {id(layer): _synchronised(layer) for layer in norms}
    else:
        computed = {id(layer): _fused(layer) for layer in norms if _is_fusable(layer)}

    def logits(images: tf.Tensor, *added: tf.Tensor) -> tf.Tensor:
        instead = {**computed, id(cut[0]): _cut(cut[0], *added)} if cut else computed
        return graph.run(classifier, images, training=True, instead=instead)

    batches = (images, cut[1]) if cut else (images,)
    return in_parts(logits, *batches) if _treats_images_alone(classifier) else logits(*batches)


def joint_training_logits(
    classifier: keras.Model, clean: tf.Tensor, attacked: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Return the `training_logits` of clean and of attacked images, from a single pass if that gives the same result.

    It does if every layer treats each image by itself, as dropout does, which draws a mask for each image. BatchNorm
    takes its statistics over the batch: a classifier with one makes two passes, clean images first.

    Args:
        classifier: A Keras model that returns logits `[batch, classes]`.
        clean: Images `[batch, ...]`, float32 in [0, 1].
        attacked: As many attacked images.

    Returns:
        The logits of the clean and of the attacked images, each `[batch, classes]`.
    """
    if not _treats_images_alone(classifier):
        return training_logits(classifier, clean), training_logits(classifier, attacked)
    return tuple(tf.split(training_logits(classifier, tf.concat([clean, attacked], axis=0)), 2))


def _treats_images_alone(classifier: keras.Model) -> bool:
    operations = graph.operations(classifier)
    return bool(operations) and all(map(_is_image_by_image, operations))


def _is_image_by_image(layer: Any) -> bool:
    if isinstance(layer, keras.layers.Dropout) and layer.noise_shape is not None:  # may share a mask among images
        return False
    # What a regulariser of activity sums over the batch would count twice.
    return graph.is_plain(layer, *_IMAGE_BY_IMAGE) and layer.activity_regularizer is None


def _cut(layer: Any, added: tf.Tensor) -> graph.Compute:
    in_training = graph.in_mode(layer, True)

    def compute(x: tf.Tensor, **kwargs: Any) -> tf.Tensor:
        output = in_training(x, **kwargs)
        return tf.stop_gradient(output) + tf.cast(added, output.dtype)

    return compute


def _is_plain_norm(layer: Any) -> bool:
    return (
        graph.is_plain(layer, keras.layers.BatchNormalization)
        and layer.trainable
        and layer.activity_regularizer is None
        and layer.axis in (-1, len(layer.output.shape) - 1)
        and not layer.synchronized
        and not layer.renorm
    )


def _is_fusable(layer: keras.layers.BatchNormalization) -> bool:
    return len(layer.output.shape) == 4 and layer.compute_dtype != "float64"


def _fused(layer: keras.layers.BatchNormalization) -> graph.Compute:
    def normalise(x: tf.Tensor, **_: Any) -> tf.Tensor:
        channels = [x.shape[-1]]
        normalised, mean, unbiased = tf.compat.v1.nn.fused_batch_norm(
            tf.cast(x, layer.compute_dtype),
            scale=tf.cast(layer.gamma, tf.float32) if layer.scale else tf.ones(channels),
            offset=tf.cast(layer.beta, tf.float32) if layer.center else tf.zeros(channels),
            epsilon=layer.epsilon,
            is_training=True,
        )
        # The kernel divides by n - 1 where Keras divides by n.
        n = tf.cast(tf.reduce_prod(tf.shape(x)[:-1]), tf.float32)
        _move(layer, mean, unbiased * tf.maximum(n - 1.0, 1.0) / n)
        return normalised

    return normalise


def _synchronised(layer: keras.layers.BatchNormalization) -> graph.Compute:
    wide = widest(layer.compute_dtype)

    def normalise(x: tf.Tensor, **_: Any) -> tf.Tensor:
        x = tf.cast(x, wide)
        with distribution.replicas_exchange():
            mean, variance = keras.ops.moments(x, axes=list(range(x.shape.rank - 1)), synchronized=True)
        _move(layer, mean, variance)
        scale = tf.cast(layer.gamma, wide) if layer.scale else None
        offset = tf.cast(layer.beta, wide) if layer.center else None
        normalised = tf.nn.batch_normalization(x, mean, variance, offset, scale, layer.epsilon)
        return tf.cast(normalised, layer.compute_dtype)

    return normalise


def _move(layer: keras.layers.BatchNormalization, mean: tf.Tensor, variance: tf.Tensor) -> None:
    for moving, batch in ((layer.moving_mean, mean), (layer.moving_variance, variance)):
        kept = tf.cast(moving, batch.dtype) * layer.momentum
        moving.assign(kept + tf.stop_gradient(batch) * (1.0 - layer.momentum))
