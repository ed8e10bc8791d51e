"""What can be wrong with a robust accuracy: flags, each with the number that raised it and what to do."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import scipy.stats

MASKED_GAP = 0.10
"""By how much stronger attacks must lower A_rob for the classifier to be masked. Models that hold lose 1 to 7 points,
where the test attack is short or the classifier unsure; those that hide lose 40 and more."""

OVERSTATED_GAP = 0.01
"""From which gap on A_rob says more than is true, and A_strong is to be quoted."""

SMALL_SAMPLE = 100.0
"""The effective number of images below which a weighted accuracy has an error of 5 points and more."""

SQUARE_HELPS = 0.002
"""By how much random search may lower the accuracy that gradients have left; the threshold of the public code."""

OTHER_RANGE = 0.1
"""By how much, at least, another range of the images must raise A_nat to be called the one that is expected."""

CHANCE = 0.01
"""How often a true share that is just at its limit may raise a flag; a diagnosis asks a dozen times."""

Flag = dict[str, Any]


def flag(name: str, message: str, value: float, threshold: float) -> Flag:
    """Return a flag as `metrics.json` prints it: its name, a sentence for people, the number found and its limit."""
    return {"name": name, "message": message, "value": value, "threshold": threshold}


def hides(a_rob: float, a_strong: float, images: int) -> bool:
    """Return whether a classifier hides from the test attack: whether its figures are not worth printing.

    Args:
        a_rob: Accuracy under the test attack, a fraction of 1.
        a_strong: Accuracy under the test attack and stronger ones.
        images: How many they were measured on; with few, chance is allowed for.

    Example:
        >>> hides(0.92, 0.40, images=1000), hides(0.92, 0.81, images=1000), hides(0.92, 0.81, images=10_000)
        (True, False, True)
    """
    return a_rob - a_strong > allowed(MASKED_GAP, images)


def gap_flags(a_rob: float, a_strong: float, images: int) -> list[Flag]:
    """Return the flag of a classifier that looks more robust than it is, none if A_rob holds.

    Args:
        a_rob: Accuracy under the test attack, a fraction of 1.
        a_strong: Accuracy under the test attack and stronger ones.
        images: How many they were measured on; with few, chance is allowed for.
    """
    gap = a_rob - a_strong
    says = f"A_rob is {100 * a_rob:.1f} % under the test attack and {100 * a_strong:.1f} % under stronger ones"
    if hides(a_rob, a_strong, images):
        message = f"MASKED: {says}; the classifier hides from attacks. Do not quote A_rob, A_sa or A_tr."
        return [flag("masked", message, gap, allowed(MASKED_GAP, images))]
    if gap > OVERSTATED_GAP:
        return [flag("overstated", f"{says}; quote the lower figure, A_strong.", gap, OVERSTATED_GAP)]
    return []


def constant_flags(predictions: np.ndarray, is_correct: np.ndarray) -> list[Flag]:
    """Return the flag of a classifier that gives every image one class, though not all are of this class.

    Args:
        predictions: The class of each clean image `[images]`.
        is_correct: Whether it is the label `[images]`.
    """
    if len(np.unique(predictions)) > 1 or is_correct.all():
        return []
    message = f"the classifier is constant: it predicts class {predictions[0]} for every image."
    return [flag("constant_classifier", message, int(predictions[0]), 0)]


def is_at_chance(accuracy: float, labels: Any) -> bool:
    """Return whether an accuracy is within two standard errors of always guessing the most frequent class.

    Args:
        accuracy: A fraction of 1.
        labels: Integers `[images]`, those that it was measured on.

    Example:
        >>> is_at_chance(0.11, np.arange(1000) % 10), is_at_chance(0.2, np.arange(1000) % 10)
        (True, False)
    """
    chance = _chance(labels)
    return bool(chance < 1 and accuracy <= chance + 2 * math.sqrt(chance * (1 - chance) / len(labels)))


def chance_flags(is_correct: np.ndarray, labels: np.ndarray) -> list[Flag]:
    """Return the flag of a classifier that is no better than guessing on clean images, none if it is better.

    Args:
        is_correct: Whether each clean image is classified correctly `[images]`.
        labels: Integers `[images]`.
    """
    accuracy, chance = float(np.mean(is_correct)), _chance(labels)
    if not is_at_chance(accuracy, labels):
        return []
    message = (
        f"A_nat is {100 * accuracy:.1f} %, and always guessing the most frequent class gives {100 * chance:.1f} %. "
        "Either the classifier expects images in another range than [0, 1], see wmr_tf.with_input_range, or the labels "
        "are not in the order of its classes, or it has learned nothing."
    )
    return [flag("near_chance", message, accuracy, chance)]


def range_flags(is_correct: np.ndarray, would_be: np.ndarray, scaled: tuple[float, float]) -> list[Flag]:
    """Return the flag of a classifier that is far more accurate on images in another range, none if it is not.

    Args:
        is_correct: Whether each image in [0, 1] is classified correctly `[images]`.
        would_be: Whether it is when scaled to the other range `[images]`.
        scaled: That range.
    """
    gains = would_be.astype(float) - is_correct
    gain, threshold = float(gains.mean()), max(OTHER_RANGE, 3 * float(gains.std()) / math.sqrt(len(gains)))
    low, high = scaled
    message = (
        f"on the first {len(gains)} images A_nat is {100 * is_correct.mean():.1f} %, and {100 * would_be.mean():.1f} % "
        f"if they are scaled to [{low:g}, {high:g}]. If the classifier was trained on such images, take "
        f"wmr_tf.with_input_range(model, {low:g}, {high:g})."
    )
    return [flag("input_range", message, gain, threshold)] if gain > threshold else []


def _chance(labels: Any) -> float:
    """Return the accuracy of always guessing the most frequent class."""
    return float(np.unique(labels, return_counts=True)[1].max() / len(labels))


def zero_gradient_flags(count: int, images: int) -> list[Flag]:
    """Return the flag of images that gradients cannot attack, none if there are none."""
    message = (
        f"{count} of {images} images have a gradient that is 0 everywhere, so that no attack by gradients can move "
        "them. Look for rounding, thresholds or saturation in the classifier, and trust random search (square) alone."
    )
    return [flag("zero_gradients", message, count, 0)] if count else []


def small_sample_flags(size: float, images: int) -> list[Flag]:
    """Return the flag of weighted accuracies that rest on few images, none if they do not."""
    of = f"{size:.0f} images, effectively, of {images}"
    more = ", or take a smaller alpha_test" if size < images - 0.5 else ""
    message = f"the weighted accuracies rest on {of}. Evaluate more images{more}."
    return [flag("small_sample", message, size, SMALL_SAMPLE)] if size < SMALL_SAMPLE else []


def allowed(share: float, images: int) -> float:
    """Return the share of so many images up to which chance explains what is found, where the truth is `share`.

    Chance exceeds it in one of a hundred cases at most. Of few images it is far more than the share itself.

    Example:
        >>> [round(100 * allowed(0.002, images), 2) for images in (128, 1000, 10_000)]
        [1.56, 0.6, 0.31]
    """
    return float(scipy.stats.binom.ppf(1 - CHANCE, images, share)) / images


def suite_flags(after: Mapping[str, float], images: int) -> list[Flag]:
    """Return the flag of a suite in which Square broke images that gradients had left, none if it did not.

    The comparison is with the attack just before it: what comes after it, as in "plus", says nothing of gradients here.

    Args:
        after: The accuracy after each attack, in their order.
        images: How many they are of.

    Example:
        >>> [flag["name"] for flag in suite_flags({"apgd-ce": 0.21, "apgd-t": 0.17, "square": 0.07}, images=300)]
        ['square_helps']
    """
    names = list(after)
    if "square" not in names[1:]:
        return []
    gain = after[names[names.index("square") - 1]] - after["square"]
    gain, threshold = round(gain * images) / images, allowed(SQUARE_HELPS, images)
    message = (
        f"random search (square) takes {100 * gain:.1f} points more than the attacks by gradients before it: gradients "
        "are masked. Quote no figure without square, and make it search longer."
    )
    return [flag("square_helps", message, gain, threshold)] if gain > threshold else []
