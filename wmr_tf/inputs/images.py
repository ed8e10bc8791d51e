"""Checks of the images and labels of a batch: what attacks and weights rely on."""

import math
from typing import Any

import numpy as np

from wmr_tf.checks import refuse, require

TOLERANCE = 1e-6
"""How far a pixel may be outside [0, 1], by rounding."""


def check_images_and_labels(images: Any, labels: Any, num_classes: int | None = None) -> None:
    """Raise `InvalidInput` unless a batch is what training and evaluation need.

    Args:
        images: Floating point, finite, in [0, 1], [batch, height, width, channels] or [batch, features].
        labels: Integers in [0, num_classes), [batch] or [batch, 1], or one-hot rows of exact 0 and 1,
            [batch, num_classes].
        num_classes: How many classes there are; None if that is not known.

    Raises:
        InvalidInput: If the batch is anything else; the message says what was found.

    Example:
        >>> check_images_and_labels(np.zeros([2, 28, 28, 1], np.float32), np.array([3, 7]), num_classes=10)
    """
    images, labels = np.asarray(images), np.asarray(labels)
    _check_images(images)
    one_each = labels.ndim in (1, 2) and len(labels) == len(images) and labels.size > 0
    got = f"{len(images)} images and labels of shape {list(labels.shape)}"
    fix = "Batch images and labels together, as .batch(128) of a tf.data.Dataset does."
    require(one_each, "labels", got=got, expected="one label an image", fix=fix)
    if labels.ndim == 2 and labels.shape[1] > 1:
        _check_one_hot(labels, num_classes)
    else:
        _check_integers(labels, num_classes)


def _check_images(images: np.ndarray) -> None:
    got, expected = f"shape {list(images.shape)}", "[batch, height, width, channels] or [batch, features], not empty"
    require(images.ndim >= 2 and images.size > 0, "images", got=got, expected=expected, fix="Batch the data set.")

    whole = images.dtype.kind in "iu"
    floating = images.dtype.kind == "f" or images.dtype.name == "bfloat16"  # which NumPy does not count as floating
    rescale = f"They look like 0..255: cast to float32 and divide by 255. {_put_before(0, 255)}"
    fix = rescale if whole else "Cast them to float32."
    require(floating, "images", got=f"dtype {images.dtype}", expected="a floating type", fix=fix)

    values = images if images.dtype.kind == "f" else images.astype(np.float32)
    low, high = float(values.min()), float(values.max())
    if not math.isfinite(high - low):  # one is NaN if any value is
        got = f"{np.isnan(values).sum()} NaN and {np.isinf(values).sum()} infinite values of {values.size}"
        refuse("images", got=got, expected="finite values", fix="Remove them from the data.")
    got = f"values from {low:g} to {high:g}"
    in_range = low >= -TOLERANCE and high <= 1 + TOLERANCE
    require(in_range, "images", got=got, expected="values in [0, 1]", fix=_rescaling(low, high))


def _rescaling(low: float, high: float) -> str:
    if low < 0:
        if -1 - TOLERANCE <= low < -0.5 and high <= 1 + TOLERANCE:
            return f"They look like -1..1: add 1 and divide by 2. {_put_before(-1, 1)}"
        return "They look standardised: scale them to [0, 1] and put the standardisation inside the classifier."
    if 128 < high <= 255:  # the digits go to 16, and other images to other numbers
        return f"They look like 0..255: divide by 255. {_put_before(0, 255)}"
    return "Scale them to [0, 1]: divide by the largest value that a pixel can have."


def _put_before(low: int, high: int) -> str:
    return f"A classifier that expects {low}..{high} then goes into wmr_tf.with_input_range(classifier, {low}, {high})."


def _check_integers(labels: np.ndarray, num_classes: int | None) -> None:
    got = f"dtype {labels.dtype} of shape {list(labels.shape)}"
    numbered = "Number the classes: np.unique(labels, return_inverse=True)[1]."
    fix = "Cast class numbers to int32." if labels.dtype.kind == "f" else numbered
    require(labels.dtype.kind in "iu", "labels", got=got, expected="integers, or one-hot rows", fix=fix)
    low, high = int(labels.min()), int(labels.max())
    expected = "class numbers >= 0" if num_classes is None else f"class numbers in [0, {num_classes})"
    fix = "Number the classes from 0, and give the classifier one logit for each class."
    in_range = low >= 0 and (num_classes is None or high < num_classes)
    require(in_range, "labels", got=f"values from {low} to {high}", expected=expected, fix=fix)


def _check_one_hot(labels: np.ndarray, num_classes: int | None) -> None:
    fix = "Give the classifier one logit for each class, or pass class numbers as labels."
    expected = f"[batch, {num_classes}]"
    fits = num_classes in (None, labels.shape[1])
    require(fits, "labels", got=f"shape {list(labels.shape)}", expected=expected, fix=fix)

    ones, zeros = (labels == 1).sum(axis=1), (labels == 0).sum(axis=1)
    wrong = np.flatnonzero((ones != 1) | (zeros != labels.shape[1] - 1))
    got = f"{wrong.size} of {len(labels)} rows with other values, the first {_shown(labels[wrong[:1]])}"
    expected = "one-hot rows, one 1 and otherwise 0"
    fix = "Soft or smoothed labels have no margin: weighted margins need one true class; pass its number."
    require(not wrong.size, "labels", got=got, expected=expected, fix=fix)


def _shown(row: np.ndarray) -> str:
    return np.array2string(row.ravel(), threshold=8, edgeitems=3, precision=3, max_line_width=1_000)
