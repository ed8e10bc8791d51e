"""Losses as per-example functions of logits, in float32; whoever calls them takes the mean, once and visibly."""

import tensorflow as tf

from wmr_tf.weights import class_indices, importance_weights, number_of_classes, probability_margin


def cross_entropy(logits: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """Returns the cross-entropy of each image, `-log p[y]`.

    Args:
        logits: Floats `[batch, classes]`.
        labels: Integers `[batch]` in [0, classes), or one-hot `[batch, classes]`.

    Returns:
        float32 `[batch]`, >= 0.

    Example:
        >>> cross_entropy(tf.constant([[0.0, 0.0]]), tf.constant([1])).numpy().round(3)
        array([0.693], dtype=float32)
    """
    logits = tf.convert_to_tensor(logits)
    indices = class_indices(labels, number_of_classes(logits))
    return tf.nn.sparse_softmax_cross_entropy_with_logits(indices, tf.cast(logits, tf.float32))


def kl_divergence(clean_logits: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """Returns `KL(p || q) = sum_k p[k] (log p[k] - log q[k])` of each image, p from the clean logits.

    Args:
        clean_logits: Floats `[batch, classes]`, of the clean images.
        logits: Floats `[batch, classes]`, of the attacked images.

    Returns:
        float32 `[batch]`, >= 0 up to rounding. The gradient flows through both arguments.

    Example:
        >>> kl_divergence(tf.constant([[0.0, 0.0]]), tf.constant([[1.0, 0.0]])).numpy().round(3)
        array([0.12], dtype=float32)

    Source: the regulariser of Zhang et al. 2019b (TRADES), Equation 5.
    """
    log_p = tf.nn.log_softmax(tf.cast(clean_logits, tf.float32))
    log_q = tf.nn.log_softmax(tf.cast(logits, tf.float32))
    return tf.reduce_sum(tf.exp(log_p) * (log_p - log_q), axis=-1)


def weighted_cross_entropy(
    logits: tf.Tensor, labels: tf.Tensor, alpha: float | tf.Tensor, *, stop_gradient_weights: bool = False
) -> tf.Tensor:
    """Returns `s * cross_entropy` of each image with `s = exp(-alpha * margin)`.

    Args:
        logits: Floats `[batch, classes]`.
        labels: Integers `[batch]` in [0, classes), or one-hot `[batch, classes]`.
        alpha: The attacker's power, a number >= 0; 0 gives the plain cross-entropy.
        stop_gradient_weights: Whether s counts as a constant. Not so in the paper; for study.

    Returns:
        float32 `[batch]`, >= 0.

    Example:
        >>> weighted_cross_entropy(tf.constant([[0.0, 1.0]]), tf.constant([0]), alpha=2.0).numpy().round(3)
        array([3.309], dtype=float32)

    Source: Equation 7 of Zeng et al. 2021.
    """
    return _weights(logits, labels, alpha, stop_gradient_weights) * cross_entropy(logits, labels)


def weighted_kl_divergence(
    clean_logits: tf.Tensor,
    logits: tf.Tensor,
    labels: tf.Tensor,
    alpha: float | tf.Tensor,
    *,
    stop_gradient_weights: bool = False,
) -> tf.Tensor:
    """Returns `s * kl_divergence(clean, attacked)` of each image, s from the margin of the attacked image.

    Args:
        clean_logits: Floats `[batch, classes]`, of the clean images.
        logits: Floats `[batch, classes]`, of the attacked images.
        labels: Integers `[batch]` in [0, classes), or one-hot `[batch, classes]`.
        alpha: The attacker's power, a number >= 0; 0 gives the plain divergence.
        stop_gradient_weights: Whether s counts as a constant. Not so in the paper; for study.

    Returns:
        float32 `[batch]`, >= 0 up to rounding.

    Example:
        >>> clean, attacked = tf.constant([[0.0, 0.0]]), tf.constant([[1.0, 0.0]])
        >>> weighted_kl_divergence(clean, attacked, tf.constant([1]), alpha=2.0).numpy().round(3)
        array([0.303], dtype=float32)

    Source: Equation 7 of Zeng et al. 2021 with the regulariser of Zhang et al. 2019b as the loss.
    """
    return _weights(logits, labels, alpha, stop_gradient_weights) * kl_divergence(clean_logits, logits)


def _weights(logits: tf.Tensor, labels: tf.Tensor, alpha: float | tf.Tensor, stop_gradient: bool) -> tf.Tensor:
    weights = importance_weights(probability_margin(logits, labels), alpha)
    return tf.stop_gradient(weights) if stop_gradient else weights
