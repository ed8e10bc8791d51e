"""Temperature: what a classifier's confidence alone does to the weighted accuracies.

Dividing the logits by a number changes no prediction and so not A_rob on given images, but it changes the margins and
with them A_sa. Compare two defences at the same mean top probability before you call one of them more robust.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from wmr_tf.checks import positive, require
from wmr_tf.evaluation.dro import finite
from wmr_tf.evaluation.weighted import weighted_accuracy

if TYPE_CHECKING:
    import keras  # late elsewhere, as all that imports TensorFlow: who compares logits does not wait for it

SCALES = tuple(10 ** (step / 10) for step in range(-10, 11))
"""The factors on the logits of a confidence curve, from 0.1 to 10."""


def probability_margins(logits: np.ndarray, labels: np.ndarray, scale: float = 1.0) -> np.ndarray:
    """Return `wmr_tf.weights.probability_margin` of `scale * logits`, in float64.

    Args:
        logits: Floats `[images, classes]`.
        labels: Integers `[images]`.
        scale: A number > 0, one over the temperature.

    Returns:
        Margins `[images]` in [-1, 1], positive iff the label's logit is the largest.

    Raises:
        InvalidInput: If logits are not finite or not of this shape, labels are no classes of them, or the scale is
            out of range.

    Example:
        >>> probability_margins(np.array([[2.0, 0.0]]), np.array([0]), scale=0.5).round(3)
        array([0.462])
    """
    logits, labels = _checked(logits), np.asarray(labels)
    images, classes = logits.shape
    are_classes = labels.shape == (images,) and bool(np.isin(labels, np.arange(classes)).all())
    got, expected = f"dtype {labels.dtype} of shape {list(labels.shape)}", f"[{images}] integers in [0, {classes})"
    require(are_classes, "labels", got=got, expected=expected, fix="Give the class number of each image.")
    scaled = logits * positive("scale", scale)
    probabilities = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    rows = np.arange(images)
    of_label = probabilities[rows, labels]
    probabilities[rows, labels] = -1
    return of_label - probabilities.max(axis=1)


def confidence_curve(
    clean: np.ndarray,
    attacked: Iterable[np.ndarray],
    weighted: Mapping[float, Iterable[np.ndarray]],
    labels: np.ndarray,
) -> list[dict[str, Any]]:
    """Return A_sa and A_tr at other confidences: the same attacked images, their logits multiplied by a scale.

    Of several attacked versions of an image, that of the smallest probability margin counts. Accuracies without weights
    are the same at every scale; compare two models where their mean top probability is the same.

    Args:
        clean: Logits of the clean images `[images, classes]`.
        attacked: Logits of the images under one or several attacks, each `[images, classes]`.
        weighted: The same for each alpha_test, under the weighted attack.
        labels: Integers `[images]`.

    Returns:
        For each of `SCALES` "scale", "top_probability" of the clean images, and "non_uniform", a list with
        "alpha_test", "A_sa" and "A_tr".

    Example:
        >>> logits, labels = np.array([[1.0, 0.0], [0.0, 0.2]]), np.array([0, 0])
        >>> curve = confidence_curve(logits, [logits], {2.0: [logits]}, labels)
        >>> [round(point["non_uniform"][0]["A_sa"], 3) for point in (curve[0], curve[10], curve[20])]
        [0.47, 0.245, 0.029]
    """
    attacked = list(attacked)

    def accuracy(points: Iterable[np.ndarray], scale: float, alpha: float) -> float:
        margins = np.min([probability_margins(logits, labels, scale) for logits in points], axis=0)
        return weighted_accuracy(margins, alpha).value

    return [
        {
            "scale": scale,
            "top_probability": mean_top_probability(clean, 1 / scale),
            "non_uniform": [
                {
                    "alpha_test": alpha,
                    "A_sa": accuracy(attacked, scale, alpha),
                    "A_tr": accuracy(points, scale, alpha),
                }
                for alpha, points in weighted.items()
            ],
        }
        for scale in SCALES
    ]


def mean_top_probability(logits: np.ndarray, temperature: float = 1.0) -> float:
    """Return the mean over images of `max_k softmax(logits / temperature)[k]`.

    Args:
        logits: Floats `[images, classes]`.
        temperature: A number > 0.

    Returns:
        A number in [1 / classes, 1].

    Raises:
        InvalidInput: If logits are not finite or not of this shape, or the temperature is out of range.

    Example:
        >>> round(mean_top_probability(np.array([[0.0, 1.0]])), 3)
        0.731
    """
    scaled = _checked(logits) / positive("temperature", temperature)
    # exp(max - max) = 1 over the sum is the top probability.
    return float(np.mean(1.0 / np.exp(scaled - scaled.max(axis=1, keepdims=True)).sum(axis=1)))


def temperature_for(logits: np.ndarray, top_probability: float) -> float:
    """Return the temperature at which the mean top probability of `logits` is `top_probability`.

    Args:
        logits: Floats `[images, classes]`, for instance of clean validation images.
        top_probability: The mean top probability to reach, in (1 / classes, 1).

    Returns:
        The temperature, by bisection, to a relative 1e-9.

    Raises:
        InvalidInput: If logits are not finite or not of this shape, or no temperature between 1e-6 and 1e6 gives that
            probability.
    """
    low, high = np.log(1e-6), np.log(1e6)
    reachable = mean_top_probability(logits, np.exp(high)), mean_top_probability(logits, np.exp(low))
    require(
        reachable[0] <= top_probability <= reachable[1],
        "top_probability",
        got=top_probability,
        expected=f"a number in [{reachable[0]:.4f}, {reachable[1]:.4f}]",
        fix="Take the mean top probability of another classifier with as many classes.",
    )
    while high - low > 1e-9:
        middle = (low + high) / 2
        low, high = (middle, high) if mean_top_probability(logits, np.exp(middle)) > top_probability else (low, middle)
    return float(np.exp((low + high) / 2))


def at_temperature(classifier: keras.Model, temperature: float) -> keras.Model:
    """Return the classifier with its logits divided by `temperature`: the same predictions, another confidence.

    Raises:
        InvalidInput: If it is no classifier, or the temperature is not a finite number > 0.
    """
    import keras

    from wmr_tf.inputs.classifier import check_model

    check_model(classifier)
    scale = 1.0 / positive("temperature", temperature)
    return keras.Sequential([classifier, keras.layers.Rescaling(scale, dtype="float32")])


def _checked(logits: np.ndarray) -> np.ndarray:
    """Return logits as float64, and raise `InvalidInput` unless they are finite and `[images, classes]`."""
    array = finite("logits", logits)
    got, expected = f"shape {list(array.shape)}", "shape [images, classes] with at least two classes"
    is_table = array.ndim == 2 and array.shape[1] >= 2
    require(is_table, "logits", got=got, expected=expected, fix="Pass what classifier.predict(images) returns.")
    return array
