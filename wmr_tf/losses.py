"""Losses as per-example functions of logits, in float32; the caller takes the mean."""

import tensorflow as tf

from wmr_tf.weights import Weighting, as_weighting, class_indices, number_of_classes


def cross_entropy(logits: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """Return the cross-entropy of each image, `-log p[y]`.

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
    """Return `KL(p || q) = sum_k p[k] (log p[k] - log q[k])` of each image, p from the clean logits.

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


def boosted_cross_entropy(logits: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """Return the cross-entropy of each image with a margin term: `-log p[y] - log(1 - max_{k != y} p[k])`.

    Args:
        logits: Floats `[batch, classes]`.
        labels: Integers `[batch]` in [0, classes), or one-hot `[batch, classes]`.

    Returns:
        float32 `[batch]`, >= 0; accurate also where the strongest wrong class has probability 1 to rounding.

    Example:
        >>> boosted_cross_entropy(tf.constant([[0.0, 0.0]]), tf.constant([1])).numpy().round(3)
        array([1.386], dtype=float32)

    Source: Wang et al. 2020 (MART), Section 3.3, the boosted cross-entropy.
    """
    logits = tf.cast(logits, tf.float32)
    classes = number_of_classes(logits)
    is_label = tf.one_hot(class_indices(labels, classes), classes, True, False, dtype=tf.bool)
    strongest_other = tf.argmax(tf.where(is_label, logits.dtype.min, logits), axis=-1)
    is_other = tf.one_hot(strongest_other, classes, True, False, dtype=tf.bool)
    # 1 - p[j], summed over all classes but j, so that it keeps its digits when p[j] is near 1.
    log_rest = tf.reduce_logsumexp(tf.where(is_other, logits.dtype.min, tf.nn.log_softmax(logits)), axis=-1)
    return cross_entropy(logits, labels) - log_rest


def mart_loss(clean_logits: tf.Tensor, logits: tf.Tensor, labels: tf.Tensor, beta: float) -> tf.Tensor:
    """Return MART's loss of each image: `BCE(x', y) + beta * KL(p(x) || p(x')) * (1 - p(x)[y])`.

    Args:
        clean_logits: Floats `[batch, classes]`, of the clean images x.
        logits: Floats `[batch, classes]`, of the attacked images x'.
        labels: Integers `[batch]` in [0, classes), or one-hot `[batch, classes]`.
        beta: Weight of the divergence, a number >= 0.

    Returns:
        float32 `[batch]`, >= 0 up to rounding. The gradient flows through all three factors.

    Example:
        >>> clean, attacked = tf.constant([[0.0, 0.0]]), tf.constant([[1.0, 0.0]])
        >>> mart_loss(clean, attacked, tf.constant([1]), beta=6.0).numpy().round(3)
        array([2.987], dtype=float32)

    Source: Wang et al. 2020 (MART), Section 3.3; BCE is `boosted_cross_entropy`.
    """
    doubt = -tf.math.expm1(-cross_entropy(clean_logits, labels))  # 1 - p(x)[y], accurate also near 0
    return boosted_cross_entropy(logits, labels) + beta * doubt * kl_divergence(clean_logits, logits)


def weighted_cross_entropy(logits: tf.Tensor, labels: tf.Tensor, alpha: float | Weighting) -> tf.Tensor:
    """Return `s * cross_entropy` of each image, with s its weight.

    Args:
        logits: Floats `[batch, classes]`.
        labels: Integers `[batch]` in [0, classes), or one-hot `[batch, classes]`.
        alpha: A weighting, or the alpha of `wmr_tf.weights.Exponential`; 0 gives the plain cross-entropy.

    Returns:
        float32 `[batch]`, >= 0.

    Example:
        >>> weighted_cross_entropy(tf.constant([[0.0, 1.0]]), tf.constant([0]), alpha=2.0).numpy().round(3)
        array([3.309], dtype=float32)

    Source: Equation 7 of Zeng et al. 2021.
    """
    return as_weighting(alpha)(logits, labels) * cross_entropy(logits, labels)


def weighted_kl_divergence(
    clean_logits: tf.Tensor, logits: tf.Tensor, labels: tf.Tensor, alpha: float | Weighting
) -> tf.Tensor:
    """Return `s * kl_divergence(clean, attacked)` of each image, with s the weight of the attacked image.

    Args:
        clean_logits: Floats `[batch, classes]`, of the clean images.
        logits: Floats `[batch, classes]`, of the attacked images.
        labels: Integers `[batch]` in [0, classes), or one-hot `[batch, classes]`.
        alpha: A weighting, or the alpha of `wmr_tf.weights.Exponential`; 0 gives the plain divergence.

    Returns:
        float32 `[batch]`, >= 0 up to rounding.

    Example:
        >>> clean, attacked = tf.constant([[0.0, 0.0]]), tf.constant([[1.0, 0.0]])
        >>> weighted_kl_divergence(clean, attacked, tf.constant([1]), alpha=2.0).numpy().round(3)
        array([0.303], dtype=float32)

    Source: Equation 7 of Zeng et al. 2021 with the regulariser of Zhang et al. 2019b as the loss.
    """
    return as_weighting(alpha)(logits, labels) * kl_divergence(clean_logits, logits)
