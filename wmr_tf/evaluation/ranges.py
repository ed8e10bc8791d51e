"""Whether a classifier expects images in another range than [0, 1], as far as its accuracy on them tells."""

import warnings
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from wmr_tf.evaluation.flags import Flag, chance_flags, is_at_chance, range_flags

RANGES = ((0, 255), (-1, 1))
"""What models of photographs take besides [0, 1]."""

LOOKED_AT = 256
"""On about how many images the ranges are tried."""

Batches = Sequence[tuple[tf.Tensor, tf.Tensor]]
LogitsOf = Callable[[tf.Tensor, tf.Tensor], np.ndarray]
"""A classifier as a function of images, in whatever range, and their labels."""


def warn_of_clean(logits_of: LogitsOf, batches: Batches, logits: np.ndarray) -> list[Flag]:
    """Warn of a classifier that is no better than guessing on clean images, or that expects another range.

    Args:
        logits_of: The classifier.
        batches: All images and labels.
        logits: Those of all clean images `[images, classes]`; nothing is said of any that are not finite.

    Returns:
        The flag of another range, none if there is no better one.
    """
    if not np.isfinite(logits).all():
        return []
    labels = np.concatenate([labels for _, labels in batches])
    of_range = other_range(logits_of, batches, logits)
    for found in (*chance_flags(logits.argmax(axis=1) == labels, labels), *of_range):
        warnings.warn(found["message"], stacklevel=1)
    return of_range


def other_range(logits_of: LogitsOf, batches: Batches, logits: np.ndarray | None = None) -> list[Flag]:
    """Return the flag of a classifier that is far more accurate on images in another range, none if it is not.

    The first images are tried; nothing is computed for a classifier that is right on nearly all of them.

    Args:
        logits_of: The classifier.
        batches: Images and labels.
        logits: Those of all clean images `[images, classes]`, if they are known.
    """
    starts = np.cumsum([0, *(len(labels) for _, labels in batches)])
    few = [batch for batch, start in zip(batches, starts, strict=False) if start < LOOKED_AT]

    def is_correct(low: float, high: float) -> np.ndarray:
        right = [logits_of(low + (high - low) * x, y).argmax(axis=1) == np.asarray(y) for x, y in few]
        return np.concatenate(right)

    labels = np.concatenate([labels for _, labels in few])
    as_it_is = is_correct(0, 1) if logits is None else logits[: len(labels)].argmax(axis=1) == labels
    if not range_flags(as_it_is, np.ones(len(labels), bool), RANGES[0]):
        return []
    found = []
    for low, high in RANGES:
        would_be = is_correct(low, high)
        if not is_at_chance(would_be.mean(), labels):  # one that is worse than guessing gains by being constant
            found += range_flags(as_it_is, would_be, (low, high))
    return sorted(found, key=lambda each: -each["value"])[:1]
