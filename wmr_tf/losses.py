"""Losses as per-example functions of logits, in float32; the caller takes the mean."""

import tensorflow as tf

from wmr_tf.checks import require
from wmr_tf.weights import Weighting, as_weighting, indices_for, is_class, number_of_classes

RATIO_FLOOR = 1e-12
"""What keeps the denominators of DLR from 0, where the largest logits are all alike."""

LARGEST_MARGIN = 10.0
"""The logit margin up to which the float32 gradient of a cross-entropy is good enough for an attack."""

SMALLEST_MARGIN = 1e-30
"""The negative margin that stands for a tie which argmax decides against the label."""


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
    indices = indices_for(logits, labels)
    return tf.nn.sparse_softmax_cross_entropy_with_logits(indices, tf.cast(logits, tf.float32))


def kl_divergence(clean_logits: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """Return `KL(p || q) = sum_k p[k] (log p[k] - log q[k])` of each image, p from the clean logits.

    Args:
        clean_logits: Floats `[batch, classes]`, of the clean images.
        logits: Floats `[batch, classes]`, of the attacked images.

    Returns:
        float32 `[batch]`, >= 0 up to rounding. The gradient flows through both arguments.

    Raises:
        InvalidInput: If the shapes differ.

    Example:
        >>> kl_divergence(tf.constant([[0.0, 0.0]]), tf.constant([[1.0, 0.0]])).numpy().round(3)
        array([0.12], dtype=float32)

    Source: the regulariser of Zhang et al. 2019b (TRADES), Equation 5.
    """
    log_p = tf.nn.log_softmax(tf.cast(clean_logits, tf.float32))
    log_q = tf.nn.log_softmax(tf.cast(logits, tf.float32))
    got, fix = f"shapes {tuple(log_p.shape)} and {tuple(log_q.shape)}", "Pass the logits of the same images."
    is_pair = log_p.shape.is_compatible_with(log_q.shape)
    require(is_pair, "logits", got=got, expected="two of the same shape [batch, classes]", fix=fix)
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
    strongest_other = tf.argmax(tf.where(is_class(logits, labels), logits.dtype.min, logits), axis=-1)
    is_other = tf.one_hot(strongest_other, classes, True, False, dtype=tf.bool)
    # 1 - p[j], summed over all classes but j, so that it keeps its digits when p[j] is near 1.
    log_rest = tf.reduce_logsumexp(tf.where(is_other, logits.dtype.min, tf.nn.log_softmax(logits)), axis=-1)
    return cross_entropy(logits, labels) - log_rest


def logit_margin(logits: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """Return how far each image is from the decision boundary, in logits: `z[y] - max_{k != y} z[k]`.

    Unlike the margin in probability it does not saturate: it is scaled by the temperature, and its sign is not.

    Args:
        logits: Floats `[batch, classes]`.
        labels: Integers `[batch]` in [0, classes), or one-hot `[batch, classes]`.

    Returns:
        float32 `[batch]`, positive iff the image is classified correctly. Its negative is the loss of Carlini and
        Wagner, to be maximised.

    Example:
        >>> logit_margin(tf.constant([[5.0, 3.0, 2.0]]), tf.constant([1])).numpy()
        array([-2.], dtype=float32)

    Source: Carlini and Wagner 2017, Section V-A, f_6 without its bound.
    """
    logits = tf.cast(logits, tf.float32)
    is_label = is_class(logits, labels)
    of_label = tf.reduce_sum(tf.where(is_label, logits, 0.0), axis=-1)
    return of_label - tf.reduce_max(tf.where(is_label, logits.dtype.min, logits), axis=-1)


def verdict(logits: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """Return the logit margin with the sign of the verdict: negative iff argmax gives another class.

    The two differ where classes tie: argmax takes the first of them, so an image may be correct with a margin of 0.

    Args:
        logits: Floats `[batch, classes]`.
        labels: Integers `[batch]` in [0, classes), or one-hot `[batch, classes]`.

    Returns:
        float32 `[batch]`, NaN where a logit is NaN or infinite.

    Example:
        >>> tied = tf.constant([[1.0, 1.0], [1.0, 1.0]])
        >>> (verdict(tied, tf.constant([0, 1])) < 0).numpy()
        array([False,  True])
    """
    logits = tf.cast(logits, tf.float32)
    is_finite = tf.reduce_all(tf.math.is_finite(logits), axis=-1)
    margin = tf.where(is_finite, logit_margin(logits, labels), float("nan"))
    indices = indices_for(logits, labels)
    is_correct = tf.argmax(logits, axis=-1, output_type=tf.int32) == indices
    return tf.where(is_correct | (margin != 0), margin, -SMALLEST_MARGIN)


def unsaturated(logits: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """Return logits scaled down where softmax saturates, for an attack to see.

    The gradient of the cross-entropy is lost in float32 where the label is far ahead: it has three digits at a margin
    of 10 logits, and from 17 on it is wrong or 0. Such an image's logits are multiplied by what makes its margin 10, a
    constant for the gradient, so that no classifier gains robustness by being sure.

    Args:
        logits: Floats `[batch, classes]`.
        labels: Integers `[batch]` in [0, classes), or one-hot `[batch, classes]`.

    Returns:
        float32 `[batch, classes]`; where the margin is at most 10 the logits themselves.

    Example:
        >>> unsaturated(tf.constant([[40.0, 0.0], [1.0, 0.0]]), tf.constant([0, 0])).numpy()
        array([[10.,  0.],
               [ 1.,  0.]], dtype=float32)
    """
    logits = tf.cast(logits, tf.float32)
    margin = tf.stop_gradient(logit_margin(logits, labels))
    return logits * (LARGEST_MARGIN / tf.maximum(margin, LARGEST_MARGIN))[:, tf.newaxis]


def unsaturated_cross_entropy(logits: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """Return the cross-entropy for an attack to maximise: softmax costs it neither its gradient nor its order.

    Its gradient is that of the cross-entropy of `unsaturated` logits. So is its value up to a margin of 10 logits.
    Beyond that it falls as the margin grows, without end: every image's logits have a scale of their own there, and an
    attack that keeps the best of several points would compare losses of unlike scales.

    Args:
        logits: Floats `[batch, classes]`.
        labels: Integers `[batch]` in [0, classes), or one-hot `[batch, classes]`.

    Returns:
        float32 `[batch]`, > 0.

    Example:
        >>> logits = tf.constant([[1.0, 0.0], [20.0, 0.0], [40.0, 0.0]])
        >>> below, beyond, farther = unsaturated_cross_entropy(logits, tf.constant([0, 0, 0])).numpy()
        >>> round(float(below), 3), round(float(beyond / farther), 3)
        (0.313, 2.0)
    """
    losses = cross_entropy(unsaturated(logits, labels), labels)
    margin = logit_margin(logits, labels)
    beyond = tf.math.log1p(tf.exp(-LARGEST_MARGIN)) * LARGEST_MARGIN / margin  # the least loss of two classes at 10
    ranked = tf.stop_gradient(tf.where(margin > LARGEST_MARGIN, beyond, losses))
    return ranked + (losses - tf.stop_gradient(losses))  # the value of the one and the gradient of the other


def difference_of_logits_ratio(logits: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """Return DLR, a loss that temperature does not change: `-(z[y] - max_{k != y} z[k]) / (z_1 - z_3 + 1e-12)`.

    Here z_1, z_2, z_3 are the largest logits in order; with two classes, where there is no z_3, the loss is the
    numerator.

    Args:
        logits: Floats `[batch, classes]`.
        labels: Integers `[batch]` in [0, classes), or one-hot `[batch, classes]`.

    Returns:
        float32 `[batch]`, positive iff the image is misclassified. The gradient flows through both parts.

    Example:
        >>> difference_of_logits_ratio(tf.constant([[5.0, 3.0, 2.0, 1.0]]), tf.constant([1])).numpy().round(4)
        array([0.6667], dtype=float32)

    Source: Croce and Hein 2020, Equation 6.
    """
    logits = tf.cast(logits, tf.float32)
    numerator = -logit_margin(logits, labels)
    if number_of_classes(logits) < 3:
        return numerator
    largest = tf.math.top_k(logits, 3).values
    return numerator / (largest[:, 0] - largest[:, 2] + RATIO_FLOOR)


def targeted_difference_of_logits_ratio(logits: tf.Tensor, labels: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
    """Return targeted DLR: `-(z[y] - z[t]) / (z_1 - (z_3 + z_4) / 2 + 1e-12)`.

    With three classes the denominator is that of DLR, with two it is 1: the published loss needs four.

    Args:
        logits: Floats `[batch, classes]`.
        labels: Integers `[batch]` in [0, classes), or one-hot `[batch, classes]`.
        targets: Integers `[batch]`, the class that each image is pushed to.

    Returns:
        float32 `[batch]`, positive iff the target's logit is above the label's.

    Example:
        >>> logits = tf.constant([[5.0, 3.0, 2.0, 1.0]])
        >>> targeted_difference_of_logits_ratio(logits, tf.constant([0]), tf.constant([2])).numpy().round(4)
        array([-0.8571], dtype=float32)

    Source: Croce and Hein 2020, Equation 7.
    """
    logits = tf.cast(logits, tf.float32)
    numerator = _of_class(logits, targets) - _of_class(logits, labels)
    classes = number_of_classes(logits)
    if classes < 3:
        return numerator
    largest = tf.math.top_k(logits, min(classes, 4)).values
    return numerator / (largest[:, 0] - tf.reduce_mean(largest[:, 2:], axis=-1) + RATIO_FLOOR)


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


def weighted_cross_entropy(
    logits: tf.Tensor, labels: tf.Tensor, alpha: float | Weighting, withstood: tf.Tensor | None = None
) -> tf.Tensor:
    """Return `s * cross_entropy` of each image, with s its weight.

    Args:
        logits: Floats `[batch, classes]`.
        labels: Integers `[batch]` in [0, classes), or one-hot `[batch, classes]`.
        alpha: A weighting, or the alpha of `wmr_tf.weights.Exponential`; 0 gives the plain cross-entropy.
        withstood: What a weighting may need, see `wmr_tf.weights.Weighting.needs`.

    Returns:
        float32 `[batch]`, >= 0.

    Example:
        >>> weighted_cross_entropy(tf.constant([[0.0, 1.0]]), tf.constant([0]), alpha=2.0).numpy().round(3)
        array([3.309], dtype=float32)

    Source: Equation 7 of Zeng et al. 2021.
    """
    return as_weighting(alpha).weighted(cross_entropy(logits, labels), logits, labels, withstood)


def weighted_kl_divergence(
    clean_logits: tf.Tensor,
    logits: tf.Tensor,
    labels: tf.Tensor,
    alpha: float | Weighting,
    withstood: tf.Tensor | None = None,
) -> tf.Tensor:
    """Return `s * kl_divergence(clean, attacked)` of each image, with s the weight of the attacked image.

    Args:
        clean_logits: Floats `[batch, classes]`, of the clean images.
        logits: Floats `[batch, classes]`, of the attacked images.
        labels: Integers `[batch]` in [0, classes), or one-hot `[batch, classes]`.
        alpha: A weighting, or the alpha of `wmr_tf.weights.Exponential`; 0 gives the plain divergence.
        withstood: What a weighting may need, see `wmr_tf.weights.Weighting.needs`.

    Returns:
        float32 `[batch]`, >= 0 up to rounding.

    Example:
        >>> clean, attacked = tf.constant([[0.0, 0.0]]), tf.constant([[1.0, 0.0]])
        >>> weighted_kl_divergence(clean, attacked, tf.constant([1]), alpha=2.0).numpy().round(3)
        array([0.303], dtype=float32)

    Source: Equation 7 of Zeng et al. 2021 with the regulariser of Zhang et al. 2019b as the loss.
    """
    return as_weighting(alpha).weighted(kl_divergence(clean_logits, logits), logits, labels, withstood)


def _of_class(logits: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    return tf.reduce_sum(tf.where(is_class(logits, labels), logits, 0.0), axis=-1)
