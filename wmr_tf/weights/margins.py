"""Probability margins, the importance weights made of them, and labels in all their forms."""

import tensorflow as tf

from wmr_tf.checks import LARGEST_EXPONENT, require


def probability_margin(logits: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """Return how far each image is from the decision boundary, in probability.

    `margin = p[y] - max_{k != y} p[k]` with `p` the softmax, computed in float32 whatever the logits' precision.
    An image is classified correctly iff its margin is positive; a tie counts as wrong.

    Args:
        logits: Floats `[batch, classes]`, at least two classes.
        labels: Integers `[batch]` in [0, classes), or one-hot `[batch, classes]`.

    Returns:
        float32 `[batch]` in [-1, 1].

    Raises:
        InvalidInput: If the shapes do not fit.

    Example:
        >>> probability_margin([[2.0, 0.0]], [0]).numpy().round(3)
        array([0.762], dtype=float32)

    Source: Definition 1 of Zeng et al. 2021, after Zhang and Liang 2019.
    """
    logits = tf.convert_to_tensor(logits)
    is_label = is_class(logits, labels)
    probabilities = tf.nn.softmax(tf.cast(logits, tf.float32))
    of_label = tf.reduce_sum(tf.where(is_label, probabilities, 0.0), axis=-1)
    of_others = tf.reduce_max(tf.where(is_label, -1.0, probabilities), axis=-1)
    return of_label - of_others


def importance_weights(margin: tf.Tensor, alpha: float | tf.Tensor) -> tf.Tensor:
    """Return how much more often the non-uniform attacker picks each image: `s = exp(-alpha * margin)`.

    alpha = 0 gives 1 everywhere, which is the uniform attacker.

    Args:
        margin: float32 `[batch]` in [-1, 1], see `probability_margin`.
        alpha: The attacker's power, a number >= 0.

    Returns:
        float32 `[batch]` in [exp(-alpha), exp(alpha)], clipped to [exp(-60), exp(60)]; the gradient flows through them.

    Example:
        >>> importance_weights(tf.constant([1.0, 0.0, -1.0]), alpha=2.0).numpy().round(3)
        array([0.135, 1.   , 7.389], dtype=float32)

    Source: Equations 7 and 12 of Zeng et al. 2021.

    Note: A weight beyond these bounds stops there, and its gradient is still that of `-alpha * margin` times the
        weight, so that the direction in which an image is attacked is right for every alpha.
    """
    exponent = -alpha * margin
    beyond = exponent - tf.clip_by_value(exponent, -LARGEST_EXPONENT, LARGEST_EXPONENT)  # 0 for all but huge alphas
    return tf.exp(exponent - tf.stop_gradient(beyond))


def of_unit_size(weights: tf.Tensor) -> tf.Tensor:
    """Return weights brought into [1, 2), each divided by a constant power of two.

    An attack maximises the loss of each image by itself, so a constant factor changes nothing, and a power of two not
    even the rounding. Without it the gradients of a strong attacker would leave float32.

    Args:
        weights: float32 `[batch]`, >= 0.

    Returns:
        float32 `[batch]`; 0 where the weight is 0. The gradient flows through the weights and not through the factor.

    Example:
        >>> of_unit_size(tf.constant([3.0, 0.2, 0.0])).numpy()
        array([1.5, 1.6, 0. ], dtype=float32)
    """
    return tf.math.divide_no_nan(weights, tf.stop_gradient(_power_of_two(weights)))


@tf.custom_gradient
def weighted_in_attack(weights: tf.Tensor, losses: tf.Tensor) -> tf.Tensor:
    """Return `weights * losses` for an attack to maximise: the value itself, with the gradient of `of_unit_size`.

    So what an attack compares, points along its way or restarts, it compares by the weighted loss, though from point to
    point its gradient is divided by another power of two.

    Args:
        weights: float32 `[batch]`, >= 0.
        losses: float32 `[batch]`.

    Returns:
        float32 `[batch]`.

    Example:
        >>> weighted_in_attack(tf.constant([3.0, 0.2]), tf.constant([2.0, 2.0])).numpy()
        array([6. , 0.4], dtype=float32)
    """

    def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        of_weights = tf.math.divide_no_nan(losses, _power_of_two(weights))
        return upstream * of_weights, upstream * of_unit_size(weights)

    return weights * losses, gradient


def _power_of_two(weights: tf.Tensor) -> tf.Tensor:
    """Return the largest power of two that is not above each weight; 0 for 0."""
    exponent_bits = tf.bitwise.bitwise_and(tf.bitcast(weights, tf.int32), 0x7F800000)
    return tf.bitcast(exponent_bits, tf.float32)


def class_indices(labels: tf.Tensor, classes: int | None = None) -> tf.Tensor:
    """Return labels as int32 `[batch]`, whether they are integers `[batch]`, `[batch, 1]` or one-hot.

    Args:
        labels: Integers `[batch]` or `[batch, 1]`, or one-hot `[batch, classes]`.
        classes: How many there are, where it is known: the width of one-hot labels is then checked.

    Raises:
        InvalidInput: If the labels' shape fits none of the three forms.
    """
    labels = tf.convert_to_tensor(labels)
    if labels.shape.rank == 1:
        return tf.cast(labels, tf.int32)
    require(
        labels.shape.rank == 2 and (classes is None or labels.shape[-1] in (1, classes)),
        "labels",
        got=f"shape {tuple(labels.shape)}",
        expected=f"shape [batch], or one-hot [batch, {classes or 'classes'}]",
        fix="Give one class an image.",
    )
    if labels.shape[-1] == 1:
        return tf.cast(labels[:, 0], tf.int32)
    return tf.argmax(labels, axis=-1, output_type=tf.int32)


def indices_for(logits: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """Return labels as class indices int32 `[batch]`, one for each row of logits `[batch, classes]`.

    Raises:
        InvalidInput: If the shapes do not fit.
    """
    indices = class_indices(labels, number_of_classes(logits))
    rows, count = logits.shape[0], indices.shape[0]
    expected, fix = f"{rows}, one for each row of logits", "Give one class an image."
    require(None in (rows, count) or rows == count, "labels", got=count, expected=expected, fix=fix)
    return indices


def is_class(logits: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """Return which of the logits `[batch, classes]` is that of the label, bools `[batch, classes]`.

    Raises:
        InvalidInput: If the shapes do not fit.
    """
    return tf.one_hot(indices_for(logits, labels), number_of_classes(logits), True, False, dtype=tf.bool)


def number_of_classes(logits: tf.Tensor) -> int:
    """Return the width of logits `[batch, classes]`.

    Raises:
        InvalidInput: If they have another rank, or fewer than two classes.
    """
    classes = int(logits.shape[-1] or 0) if logits.shape.rank == 2 else 0
    require(
        classes >= 2,
        "logits",
        got=f"shape {tuple(logits.shape)}",
        expected="shape [batch, classes] with at least two classes",
        fix="Let the classifier return one logit a class; wmr_tf.without_softmax(model) makes two of a sigmoid.",
    )
    return classes
