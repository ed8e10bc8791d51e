"""The accuracy under an attacker who has attacked every image and then picks by importance weight."""

from typing import NamedTuple

import numpy as np

from wmr_tf.evaluation import dro
from wmr_tf.report.rounding import decimals


class WeightedAccuracy(NamedTuple):
    """An accuracy under an attacker who picks images in proportion to `exp(-alpha * margin)`."""

    value: float
    """`sum(s~ * correct)`, a fraction of 1."""
    stderr: float
    """`sqrt(sum(s^2 (correct - value)^2)) / sum(s)`."""
    effective_sample_size: float
    """`sum(s)^2 / sum(s^2)`, a number of images."""

    def __str__(self) -> str:
        digits = decimals(100 * self.stderr)
        return f"{100 * self.value:.{digits}f} ± {100 * self.stderr:.{digits}f} %"


def weighted_accuracy(margins: np.ndarray, alpha: float) -> WeightedAccuracy:
    """Return the accuracy under the attacker of power alpha, who has attacked every image to these margins.

    `s = exp(-alpha * margin)`, normalised over the whole set; an image is correct iff its margin is positive.

    Args:
        margins: Floats `[images]` in [-1, 1].
        alpha: The attacker's power, >= 0; 0 gives the plain accuracy, infinity that on the most fragile images.

    Returns:
        Value, standard error and effective sample size.

    Raises:
        InvalidInput: If there are no images, a margin is not finite, or alpha is negative.

    Example:
        >>> weighted_accuracy(np.array([0.5, 0.5, -0.5, 0.5]), alpha=1.0).value
        0.5246331135813284

    Source: Equations 18 and 19 of Zeng et al. 2021, with alpha = 0 Equation 17; the standard error is that of a
        self-normalised importance sampling estimate.
    """
    margins = dro.finite("margins", margins)
    weights = dro.tilt(margins, alpha)
    correct = margins > 0
    value = np.sum(weights * correct) / np.sum(weights)
    stderr = np.sqrt(np.sum(weights**2 * (correct - value) ** 2)) / np.sum(weights)
    return WeightedAccuracy(float(value), float(stderr), float(np.sum(weights) ** 2 / np.sum(weights**2)))
