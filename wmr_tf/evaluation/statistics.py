"""How far a sample of images, or of seeds, carries: intervals, differences of two models, several seeds.

Every interval is a 95 % one. Accuracies are fractions of 1, and differences are the second less the first.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import scipy.stats

from wmr_tf.checks import nonnegative, require
from wmr_tf.evaluation import dro
from wmr_tf.report.rounding import percent

CONFIDENCE = 0.95
RESAMPLES = 1999
"""Of a bootstrap; 10,000 images take about a quarter of a second."""

_AT_ONCE = 2**20  # numbers of one array that a bootstrap holds at once, 8 MB


class Accuracy(NamedTuple):
    """An accuracy with its 95 % confidence interval, fractions of 1."""

    value: float
    low: float
    high: float

    @classmethod
    def of(cls, correct: np.ndarray, *, simultaneous: int = 1) -> "Accuracy":
        """Return that of images `[images]` that are correct or not, with Wilson's interval.

        Of several that are to hold all at once, each is Clopper and Pearson's of `1 - 0.05 / simultaneous`
        (Bonferroni): with 100 images each, at 98 %, ten of Wilson's would hold at once in 86 % of all cases.

        Args:
            correct: Booleans `[images]`, at least one.
            simultaneous: How many intervals hold at once with 95 % or more, such as those of ten classes.

        Example:
            >>> correct = np.arange(100) < 90
            >>> print(Accuracy.of(correct))
            90 % (83 to 94)
            >>> print(Accuracy.of(correct, simultaneous=10))
            90 % (79 to 97)

        Source: Wilson, "Probable Inference, the Law of Succession, and Statistical Inference" (1927); Clopper and
            Pearson, "The Use of Confidence or Fiducial Limits Illustrated in the Case of the Binomial" (1934).
        """
        test = scipy.stats.binomtest(int(correct.sum()), len(correct))
        method = "wilson" if simultaneous == 1 else "exact"
        interval = test.proportion_ci(1 - (1 - CONFIDENCE) / simultaneous, method=method)
        return cls(float(correct.mean()), float(interval.low), float(interval.high))

    def __str__(self) -> str:
        value, low, high = (percent(share, self.low, self.high) for share in self)
        return f"{value} % ({low} to {high})"


class Difference(NamedTuple):
    """The second less the first, with its 95 % confidence interval; of accuracies in fractions of 1."""

    value: float
    low: float
    high: float


class PairedAccuracies(NamedTuple):
    """Two models on the same images."""

    difference: Difference
    p_value: float
    """Of McNemar's exact test, two-sided: how likely so uneven a split is where both models are equally accurate."""
    only_first: int
    """How many images only the first model has right."""
    only_second: int


class Seeds(NamedTuple):
    """A number that was measured with several seeds."""

    mean: float
    deviation: float
    """The sample's, with `number - 1` in the denominator; NaN of a single seed."""
    number: int

    @classmethod
    def of(cls, values: Sequence[float]) -> "Seeds":
        """Return mean, standard deviation and number of what the seeds gave.

        Example:
            >>> Seeds.of([0.8, 0.9, 1.0]).number
            3
        """
        deviation = float(np.std(values, ddof=1)) if len(values) > 1 else float("nan")
        return cls(float(np.mean(values)), deviation, len(values))


def interval_of(statistic: Callable[..., np.ndarray], *arrays: np.ndarray) -> tuple[float, float]:
    """Return the interval of any number of a sample of images: the percentiles of its bootstrap.

    Images are drawn with replacement `RESAMPLES` times, with a fixed seed; the interval spans the middle 95 % of what
    the statistic then is.

    Args:
        statistic: `(*arrays, axis) -> values`, over one axis, vectorised over the others.
        *arrays: Floats `[images]`, one for each argument of the statistic, drawn together.

    Returns:
        The lower and the upper end. A sample of one image, or one whose images are all alike, does not vary, and both
        are its value.

    Example:
        >>> low, high = interval_of(np.mean, np.arange(100.0))
        >>> low < 49.5 < high
        True

    Source: Efron and Tibshirani, "An Introduction to the Bootstrap" (1993), chapter 13.
    Note: It covers the truth in 95 % of all cases only where the number rests on some 25 images or more; that of the
        mean of the smallest 10 of 1,000 numbers did in 92 %, of the smallest 5 of 500 in 88 %.
    """
    if len(arrays[0]) == 1:
        value = float(statistic(*arrays, axis=-1))
        return value, value
    interval = scipy.stats.bootstrap(
        arrays,
        statistic,
        paired=True,
        vectorized=True,
        n_resamples=RESAMPLES,
        batch=max(1, _AT_ONCE // len(arrays[0])),
        confidence_level=CONFIDENCE,
        method="percentile",
        rng=0,
    ).confidence_interval
    return float(interval.low), float(interval.high)


def weighted_interval(margins: np.ndarray, alpha: float) -> tuple[float, float]:
    """Return the interval of `weighted_accuracy`, `sum(s * correct) / sum(s)`, by the bootstrap.

    Where all images are correct, or none is, nothing varies in a bootstrap. Wilson's interval then says how many of the
    other kind there may be, and each is given the largest weight that it can have: that of a margin of -1, or 0.

    Args:
        margins: Floats `[images]` in [-1, 1]; an image is correct iff its margin is positive.
        alpha: The attacker's power, >= 0.

    Returns:
        The lower and the upper end, fractions of 1.

    Raises:
        InvalidInput: If there are no images, a margin is not finite, or alpha is negative.

    Example:
        >>> low, high = weighted_interval(np.tile([0.5, 0.5, -0.5, 0.5], 50), alpha=1.0)
        >>> low < 0.5246 < high
        True
        >>> weighted_interval(np.full(200, 0.9), alpha=0.0) == Accuracy.of(np.full(200, True))[1:]
        True

    Note: With 92 % correct and alpha = 2 it covered the truth in 95 % of all samples of 200, 500 and 1,000 images, and
        in 91 % of those of 100.
    """
    margins, alpha = dro.finite("margins", margins), nonnegative("alpha", alpha)
    correct = margins > 0
    if not correct.any():
        return 0.0, _share_of_unseen(margins, alpha, margin=0.0)
    if correct.all():
        return 1 - _share_of_unseen(margins, alpha, margin=-1.0), 1.0
    return interval_of(_ratio, *_parts(margins, alpha))


def paired(first: np.ndarray, second: np.ndarray) -> PairedAccuracies:
    """Return how much more accurate the second of two models is on the same images, and whether that is chance.

    With b images that only the first model has right, c that only the second, and n in all, the difference is
    `(c - b) / n`. Its interval is Wald's with half an image added to each of the four cells, and the test asks whether
    b of the b + c images is half of them.

    Args:
        first: Which images the first model has right, booleans `[images]`.
        second: The same of the second model, in the same order.

    Returns:
        The difference and its interval, the p-value, and the two counts.

    Raises:
        InvalidInput: If there are no images, or not as many of one as of the other.

    Example:
        >>> found = paired(np.arange(100) < 80, np.arange(100) < 90)
        >>> found.difference.value, found.only_first, found.only_second, round(found.p_value, 4)
        (0.1, 0, 10, 0.002)

    Source: Agresti and Min, "Simple Improved Confidence Intervals for Comparing Matched Proportions" (2005), which
        keeps its coverage where few images differ and has an interval of its own where none does; McNemar 1947.
    """
    _check_paired(first, second)
    images, only_first, only_second = len(first), int(np.sum(first & ~second)), int(np.sum(second & ~first))
    total, gap = images + 2, only_second - only_first
    error = np.sqrt(only_first + only_second + 1 - gap**2 / total) / total
    reach = scipy.stats.norm.ppf((1 + CONFIDENCE) / 2) * error
    interval = max(-1.0, float(gap / total - reach)), min(1.0, float(gap / total + reach))
    differing = only_first + only_second
    p_value = float(scipy.stats.binomtest(only_first, differing).pvalue) if differing else 1.0
    return PairedAccuracies(Difference(gap / images, *interval), p_value, only_first, only_second)


def paired_weighted(first: np.ndarray, second: np.ndarray, alpha: float) -> Difference:
    """Return by how much the weighted accuracy of the second of two models is higher, on the same images.

    The bootstrap draws images, each with both its margins.

    Args:
        first: Margins of the first model, floats `[images]` in [-1, 1].
        second: Those of the second model, in the same order.
        alpha: The attacker's power, >= 0.

    Returns:
        The difference and its interval. Where an accuracy does not vary (a model has all or none right), which a
        bootstrap would take for certain, the two intervals of `weighted_interval` together give it.

    Raises:
        InvalidInput: If there are no images, not as many of one as of the other, a margin is not finite, or alpha is
            negative.

    Example:
        >>> margins = np.tile([0.5, 0.5, -0.5, 0.5], 50)
        >>> paired_weighted(margins, margins, alpha=2.0)
        Difference(value=0.0, low=0.0, high=0.0)
    """
    _check_paired(first, second)
    (part, whole), (other_part, other_whole) = _parts(first, alpha), _parts(second, alpha)
    value = float(_ratio_difference(part, whole, other_part, other_whole, axis=-1))
    if any(len(np.unique(margins > 0)) == 1 for margins in (first, second)):
        (low, high), (other_low, other_high) = (weighted_interval(margins, alpha) for margins in (first, second))
        return Difference(value, other_low - high, other_high - low)
    return Difference(value, *interval_of(_ratio_difference, part, whole, other_part, other_whole))


def welch(first: Sequence[float], second: Sequence[float]) -> Difference:
    """Return the difference of the means of two groups of seeds, with Welch's interval.

    Args:
        first: A number for each seed of the first group, at least two.
        second: The same of the second group, which may have another spread.

    Returns:
        The difference and its interval; without any spread in both groups the interval is the difference.

    Raises:
        InvalidInput: If a group has fewer than two seeds.

    Example:
        >>> print("{:.2f} ({:.2f} to {:.2f})".format(*welch([0.80, 0.82, 0.81], [0.85, 0.86, 0.87])))
        0.05 (0.03 to 0.07)

    Source: Welch, "The generalization of Student's problem when several different population variances are involved"
        (1947).
    """
    fewest = min(len(first), len(second))
    fix = "Give each group the runs of two seeds or more."
    require(fewest > 1, "seeds", got=fewest, expected="at least 2 in each group", fix=fix)
    value = float(np.mean(second) - np.mean(first))
    if np.ptp(first) == np.ptp(second) == 0:
        return Difference(value, value, value)
    interval = scipy.stats.ttest_ind(second, first, equal_var=False).confidence_interval(CONFIDENCE)
    return Difference(value, float(interval.low), float(interval.high))


def _share_of_unseen(margins: np.ndarray, alpha: float, *, margin: float) -> float:
    """Return the largest weighted share of images of a kind that is not among the given, all at one margin."""
    share = Accuracy.of(np.zeros(len(margins), bool)).high
    with np.errstate(over="ignore"):  # a huge weight is as good as infinity
        seen = float(np.mean(np.exp(-alpha * (margins - margin))))
    return share / (share + (1 - share) * seen)


def _parts(margins: np.ndarray, alpha: float) -> tuple[np.ndarray, np.ndarray]:
    """Return what `_ratio` takes: the weights of the correct images, 0 for others, and of all."""
    weights = np.maximum(dro.tilt(margins, alpha), np.finfo(float).tiny)  # a draw may hold none of those that count
    return weights * (margins > 0), weights


def _ratio(part: np.ndarray, whole: np.ndarray, axis: int) -> Any:
    return part.sum(axis) / whole.sum(axis)


def _ratio_difference(
    part: np.ndarray, whole: np.ndarray, other_part: np.ndarray, other_whole: np.ndarray, axis: int
) -> Any:
    return _ratio(other_part, other_whole, axis) - _ratio(part, whole, axis)


def _check_paired(first: np.ndarray, second: np.ndarray) -> None:
    require(
        0 < len(first) == len(second),
        "images",
        got=f"{len(first)} of the first model and {len(second)} of the second",
        expected="the same images for both, at least one",
        fix="Evaluate both on the same images.",
    )
