"""The classifier as the attack sees it: constant weights, inference mode, float32 logits."""

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from wmr_tf.engine import depthwise, graph, greyscale
from wmr_tf.engine.precision import COMPUTE, compute_dtypes, widest
from wmr_tf.engine.streams import in_parts

Network = Callable[[tf.Tensor], tf.Tensor]

_CONVOLUTIONS = (keras.layers.Conv1D, keras.layers.Conv2D, keras.layers.Conv3D, keras.layers.DepthwiseConv2D)


def freeze(classifier: keras.Model) -> Network:
    """Return the map from images to float32 logits that an attack differentiates.

    Weights are read once, here: call it inside the `tf.function` and outside the attack's loop. BatchNorm uses its
    moving statistics and dropout is off, so an attack changes nothing in the classifier. In a Functional or
    Sequential classifier each BatchNorm is folded, in float32, into the convolution or dense layer before it
    (`kernel * gamma / sqrt(variance + epsilon)`), and one that has none becomes a scale and a shift; the kernels are
    cast to the layers' precision once. All other layers run as they are, such as subclasses and quantised layers.

    In float16 the gradient of each image is scaled to unit size before it goes back through the network, and rescaled
    after: the gradient of a confident image would otherwise underflow, below 6e-8.

    Args:
        classifier: A Keras model that returns logits `[batch, classes]`.

    Returns:
        A function of images `[batch, ...]`, float32 in [0, 1], that returns logits `[batch, classes]`, float32; equal
        to `classifier(images, training=False)` up to rounding.

    Example:
        >>> logits = freeze(classifier)(images)
    """
    folded = _fold(classifier)

    def network(images: tf.Tensor) -> tf.Tensor:
        return tf.cast(graph.run(classifier, images, training=False, instead=folded), tf.float32)

    def all_parts(images: tf.Tensor) -> tf.Tensor:
        return in_parts(network, images)

    return _with_unit_gradients(all_parts) if "float16" in compute_dtypes(classifier) else all_parts


def freeze_in(precision: str, classifier: keras.Model) -> Network:
    """Return `freeze(classifier)` computing in "float32" or "bfloat16", whatever precision the classifier is in."""
    with COMPUTE[precision](classifier):
        network = freeze(classifier)

    def logits(images: tf.Tensor) -> tf.Tensor:
        with COMPUTE[precision](classifier):
            return network(images)

    return logits


def _fold(classifier: keras.Model) -> dict[int, graph.Compute]:
    """Return the layers that run with constant weights: a map from a layer's id to the function that replaces it."""
    folded: dict[int, graph.Compute] = {}
    for layer, before in graph.layers_once(classifier):
        if graph.is_plain(layer, keras.layers.BatchNormalization):
            scale, shift = _scale_and_shift(layer)
            if id(before) in folded and _is_linear(before) and layer.axis in (-1, len(before.output.shape) - 1):
                folded[id(before)] = _linear(before, scale, shift)
                folded[id(layer)] = lambda x, **_: x
            elif layer.axis in (-1, len(layer.output.shape) - 1):
                folded[id(layer)] = _affine(layer.compute_dtype, scale, shift)
        elif graph.is_plain(layer, keras.layers.MaxPooling2D) and id(before) in folded and _is_rectified(before):
            # relu(max(x)) = max(relu(x)), gradients too, and a quarter of the pixels to rectify.
            folded[id(before)] = _linear(before, activation=keras.activations.linear)
            folded[id(layer)] = _then_relu(layer)
        elif _is_foldable(layer):
            folded[id(layer)] = _linear(layer)
    return folded


def _scale_and_shift(norm: keras.layers.BatchNormalization) -> tuple[tf.Tensor, tf.Tensor]:
    wide = widest(norm.compute_dtype)
    gamma = tf.cast(norm.gamma, wide) if norm.scale else 1.0
    beta = tf.cast(norm.beta, wide) if norm.center else 0.0
    scale = tf.math.rsqrt(tf.cast(norm.moving_variance, wide) + norm.epsilon) * gamma
    return scale, beta - tf.cast(norm.moving_mean, wide) * scale


def _affine(dtype: str, scale: tf.Tensor, shift: tf.Tensor) -> graph.Compute:
    scale, shift = tf.cast(scale, dtype), tf.cast(shift, dtype)
    return lambda x, **_: tf.cast(x, dtype) * scale + shift


def _is_foldable(layer: Any) -> bool:
    if graph.is_plain(layer, *_CONVOLUTIONS):
        return layer.data_format == "channels_last" and layer.padding in ("valid", "same")
    return graph.is_plain(layer, keras.layers.Dense)


def _is_linear(layer: Any) -> bool:
    return getattr(layer, "activation", None) is keras.activations.linear


def _is_rectified(layer: Any) -> bool:
    return getattr(layer, "activation", None) is keras.activations.relu


def _then_relu(layer: Any) -> graph.Compute:
    return lambda x, **_: tf.nn.relu(layer(x))


def _linear(
    layer: Any, scale: tf.Tensor | float = 1.0, shift: tf.Tensor | float = 0.0, activation: graph.Compute | None = None
) -> graph.Compute:
    """Return the layer with constant weights, its output channels scaled and shifted before the activation."""
    dtype = layer.compute_dtype
    activation = activation or layer.activation
    is_greyscale = (
        not tf.config.list_physical_devices("GPU")  # where this has not been measured
        and type(layer) is keras.layers.Conv2D
        and layer.kernel.shape[2] == layer.groups == 1
        and {*layer.strides, *layer.dilation_rate} == {1}
    )
    wide = widest(dtype)
    # One number for each output channel, of which a depthwise kernel has two axes.
    scale, shift = (tf.cast(each, wide) + tf.zeros(layer.output.shape[-1], wide) for each in (scale, shift))
    is_depthwise = type(layer) is keras.layers.DepthwiseConv2D
    kernel = tf.cast(layer.kernel, wide) * tf.reshape(scale, layer.kernel.shape[2 if is_depthwise else -1 :])
    bias = tf.cast(tf.cast(layer.bias, wide) * scale + shift if layer.use_bias else shift, dtype)
    kernel = tf.cast(kernel, dtype)

    def compute(x: tf.Tensor, **_: Any) -> tf.Tensor:
        x = tf.cast(x, dtype)
        if type(layer) is keras.layers.Dense:
            product = tf.matmul(x, kernel)
        elif is_greyscale:
            product = greyscale.convolve(x, kernel, layer.padding)
        else:
            convolve = depthwise.convolve if is_depthwise else keras.ops.conv
            product = convolve(
                x,
                kernel,
                strides=layer.strides,
                padding=layer.padding,
                data_format=layer.data_format,
                dilation_rate=layer.dilation_rate,
            )
        return activation(tf.nn.bias_add(product, bias))

    return compute


def _with_unit_gradients(network: Network) -> Network:
    @tf.custom_gradient
    def scaled(images: tf.Tensor) -> tuple[tf.Tensor, Callable[..., Any]]:
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(images)
            logits = network(images)

        def backward(upstream: tf.Tensor, variables: Any = ()) -> Any:
            size = tf.reduce_max(tf.abs(upstream), axis=-1)
            size = tf.where(size > 0, size, 1.0)
            zero = tf.UnconnectedGradients.ZERO  # as through tf.round
            gradient = tape.gradient(logits, images, upstream / size[:, tf.newaxis], unconnected_gradients=zero)
            gradient *= tf.reshape(size, [-1] + [1] * (images.shape.rank - 1))
            return (gradient, [None] * len(variables)) if variables else gradient

        return logits, backward

    return scaled
