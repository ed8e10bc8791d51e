"""Distributionally robust measures of an attacked set of images: KL balls and CVaR, from one number an image.

An attacker who picks images with probabilities p instead of uniformly stays in the KL ball of radius rho if
`KL(p || uniform) = sum p log(n p) <= rho`. The p in that ball that is worst for the mean of some values is their
exponential tilt, `p ~ exp(-alpha * value)`, with the alpha that spends the radius. Applied to two kinds of values it
gives two different numbers:

- the values are *margins*: the tilt is the importance weight of Zeng et al., and A_sa(alpha) is the accuracy under the
  p that is worst for the expected margin;
- the values are *correctness*, 0 or 1: the mean itself is the worst accuracy in the ball, A_worst <= A_sa.

Standard errors are those of many images drawn independently, `std(d) / sqrt(n)`, where d_i is n times the change of the
measure if one more image like the i-th were added.
"""

import math
from typing import Any

import numpy as np

from wmr_tf.checks import fraction, nonnegative, one_line, refuse, require


def tilt(values: np.ndarray, alpha: float) -> np.ndarray:
    """Return the weights `exp(-alpha * value)` of an attacker of power alpha, scaled to a largest weight of 1.

    Args:
        values: Finite floats `[images]`, at least one, such as margins.
        alpha: A number >= 0; at infinity only the images of the smallest value have a weight, all the same.

    Returns:
        float64 `[images]` in [0, 1]; divided by their sum, the probabilities that the attacker picks each image.

    Raises:
        InvalidInput: If there are no values or one is not finite, or alpha is negative.

    Example:
        >>> tilt(np.array([0.2, -0.3, 0.7]), alpha=2.0).round(3)
        array([0.368, 1.   , 0.135])

    Source: Equation 11 of Zeng et al. 2021.
    """
    values = finite("values", values)
    excess = values - values.min()
    alpha = alpha if alpha == math.inf else nonnegative("alpha", alpha)
    with np.errstate(over="ignore"):  # a huge exponent is as good as infinity
        return np.exp(np.multiply(-alpha, excess, out=np.zeros_like(excess), where=excess > 0))


def kl_radius(values: np.ndarray, alpha: float) -> float:
    """Return the radius rho of the smallest KL ball in which the tilt of power alpha lies.

    `rho = KL(p || uniform) = mean(n p log(n p))` in nats, with `p = tilt / sum(tilt)`.

    Args:
        values: Finite floats `[images]`, such as margins.
        alpha: The attacker's power, >= 0, possibly infinite.

    Returns:
        A number from 0, at alpha = 0, to `log(n / number of smallest values)`, at alpha = infinity.

    Raises:
        InvalidInput: If there are no values or one is not finite, or alpha is negative.

    Example:
        >>> margins = np.array([0.9, 0.8, 0.1, -0.4])
        >>> round(kl_radius(margins, 2.0), 3), round(kl_radius(margins, float("inf")), 3)
        (0.451, 1.386)

    Source: Ben-Tal et al. 2013, for the divergence of Kullback and Leibler.
    """
    weights = tilt(values, alpha)
    ratios = _of_mean(weights)
    picked = ratios[ratios > 0]
    return max(0.0, float(np.sum(picked * np.log(picked)) / len(weights)))  # rounding must not make it negative


def kl_radius_stderr(values: np.ndarray, alpha: float) -> float:
    """Return the standard error of `kl_radius`, with `d = r (log r - rho - 1) + 1` of the ratios `r = n p`.

    Args:
        values: Finite floats `[images]`, such as margins.
        alpha: The attacker's power, >= 0, possibly infinite.

    Returns:
        A number >= 0; 0 at alpha = 0.

    Raises:
        InvalidInput: If there are no values or one is not finite, or alpha is negative.

    Example:
        >>> round(kl_radius_stderr(np.array([0.9, 0.8, 0.1, -0.4]), 2.0), 3)
        0.182

    Source: the delta method, for a self-normalised estimate.
    """
    return _stderr(_moves_of_radius(values, alpha))


def alpha_for_radius(values: np.ndarray, rho: float) -> float:
    """Return the power alpha of the tilt at a KL radius: the inverse of `kl_radius`.

    Args:
        values: Finite floats `[images]`, such as margins.
        rho: Radius of the ball in nats, >= 0.

    Returns:
        alpha >= 0, by bisection to a relative 1e-12; infinity if rho is at or beyond the largest possible radius,
        `log(n / number of smallest values)`, where the attacker picks only these images.

    Raises:
        InvalidInput: If there are no values or one is not finite, or rho is negative or not finite.

    Example:
        >>> margins = np.array([0.9, 0.8, 0.1, -0.4])
        >>> round(alpha_for_radius(margins, 0.451), 2), alpha_for_radius(margins, 1.4)
        (2.0, inf)
    """
    if nonnegative("rho", rho) == 0:
        return 0.0
    if rho >= kl_radius(values, math.inf):
        return math.inf
    low, high = 0.0, 1.0
    while kl_radius(values, high) < rho:  # ends in any case: at infinity the radius is larger
        low, high = high, 2 * high
    while high - low > 1e-12 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if kl_radius(values, middle) < rho else (low, middle)
    return high


def worst_case_mean(values: np.ndarray, rho: float) -> float:
    """Return the smallest mean of `values` under any choice of images in the KL ball of radius rho.

    `min_p sum(p * value)` over `KL(p || uniform) <= rho`, attained by the tilt of `values` themselves.

    Args:
        values: Finite floats `[images]`.
        rho: Radius of the ball in nats, >= 0; 0 gives the plain mean.

    Returns:
        A number from the smallest value to the mean.

    Raises:
        InvalidInput: If there are no values or one is not finite, or rho is negative or not finite.

    Example:
        >>> round(worst_case_mean(np.array([1.0, 1.0, 1.0, 0.0]), rho=0.2), 3)
        0.453

    Source: Ben-Tal et al. 2013; Hu and Hong 2013, Theorem 1.
    """
    values = finite("values", values)
    weights = tilt(values, alpha_for_radius(values, rho))
    return float(np.sum(weights * values) / np.sum(weights))


def worst_case_mean_stderr(values: np.ndarray, rho: float) -> float:
    """Return the standard error of `worst_case_mean` at a fixed radius, with `d = n p / alpha`.

    By the dual of the worst case, p is the tilt of `values` of the power alpha that spends the radius.

    Args:
        values: Finite floats `[images]`.
        rho: Radius of the ball in nats, >= 0; 0 gives the standard error of the plain mean.

    Returns:
        A number >= 0; 0 where the worst case is the smallest value.

    Raises:
        InvalidInput: If there are no values or one is not finite, or rho is negative or not finite.

    Example:
        >>> round(worst_case_mean_stderr(np.array([1.0, 1.0, 1.0, 0.0]), rho=0.2), 3)
        0.266

    Source: the dual of Hu and Hong 2013, Theorem 1, and the envelope theorem.
    """
    values = finite("values", values)
    alpha = alpha_for_radius(values, rho)
    if alpha == 0:
        return _stderr(values)
    return _stderr(_of_mean(tilt(values, alpha)) / alpha)


def worst_case_accuracy(margins: np.ndarray, rho: float) -> float:
    """Return the smallest accuracy under any choice of images in the KL ball of radius rho.

    Only correct or wrong matters: with error rate e the worst share q of wrong images is the largest with
    `q log(q / e) + (1 - q) log((1 - q) / (1 - e)) <= rho`, and the accuracy is 1 - q. A_sa of the same radius is never
    lower: it is the accuracy where the expected *margin* is worst.

    Args:
        margins: Finite floats `[images]`; an image is correct iff its margin is positive.
        rho: Radius of the ball in nats, >= 0, such as `kl_radius(margins, alpha)`; 0 gives the plain accuracy.

    Returns:
        A fraction of 1; 0 from `rho = log(1 / e)` on, and 1 at any rho if no image is wrong.

    Raises:
        InvalidInput: If there are no margins or one is not finite, or rho is negative or not finite.

    Example:
        >>> round(worst_case_accuracy(np.array([0.9, 0.8, 0.1, -0.4]), rho=0.2), 3)
        0.453

    Source: the worst case over a KL ball (Ben-Tal et al. 2013) of the 0-1 loss.
    """
    return worst_case_mean(finite("margins", margins) > 0, rho)


def worst_case_accuracy_stderr(margins: np.ndarray, alpha: float) -> float:
    """Return the standard error of `worst_case_accuracy` at the radius `kl_radius(margins, alpha)`.

    The radius is an estimate from the same images, so `d` is the sum of two: of the worst case at a fixed radius, and
    of the radius, by which it falls at a rate of 1 / alpha_w, where alpha_w spends the radius on right and wrong.

    Args:
        margins: Finite floats `[images]`; an image is correct iff its margin is positive.
        alpha: The attacker's power, >= 0, possibly infinite.

    Returns:
        A number >= 0; 0 where the worst accuracy is 0, and where all images are right or all are wrong.

    Raises:
        InvalidInput: If there are no margins or one is not finite, or alpha is negative.

    Example:
        >>> margins = np.array([0.5] * 9 + [-0.5])  # two values: A_worst is A_sa, and has its error
        >>> round(worst_case_accuracy_stderr(margins, 2.0), 3)
        0.261

    Source: the delta method; the dual of Hu and Hong 2013, Theorem 1, and the envelope theorem.
    """
    is_correct = finite("margins", margins) > 0
    rho = kl_radius(margins, alpha)
    power = alpha_for_radius(is_correct, rho)
    if power == 0:
        return _stderr(is_correct)
    return _stderr((_of_mean(tilt(is_correct, power)) + _moves_of_radius(margins, alpha)) / power)


def cvar(losses: np.ndarray, level: float) -> float:
    """Return the conditional value at risk: the mean loss of the worst fraction `level` of the images.

    `max_p sum(p * loss)` over probabilities `p <= 1 / (level * n)`; where `level * n` is not whole, the image at the
    boundary counts in part.

    Args:
        losses: Finite floats `[images]`, such as the attacked cross-entropy.
        level: The fraction, in (0, 1]; 1 gives the mean, `1 / n` and less the largest loss.

    Returns:
        A number from the mean to the largest loss.

    Raises:
        InvalidInput: If there are no losses or one is not finite, or the level is out of range.

    Example:
        >>> cvar(np.array([1.0, 4.0, 2.0, 3.0]), level=0.375)  # of one and a half images
        3.6666666666666665

    Source: Rockafellar and Uryasev 2000; the level is that of Levy et al. 2020 (in finance often 1 - level).
    """
    losses = finite("losses", losses)
    level = fraction("level", level)
    # How much of each image, worst first, is among the worst level * n.
    shares = np.clip(level * len(losses) - np.arange(len(losses)), 0.0, 1.0)
    return float(np.sum(shares * np.sort(losses)[::-1]) / np.sum(shares))


def cvar_stderr(losses: np.ndarray, level: float) -> float:
    """Return the standard error of `cvar`, with `d = max(loss - quantile, 0) / level`.

    The quantile is the smallest loss that `cvar` counts.

    Args:
        losses: Finite floats `[images]`.
        level: The fraction, in (0, 1]; 1 gives the standard error of the mean.

    Returns:
        A number >= 0; too small where the level holds only a few images, and 0 for one.

    Raises:
        InvalidInput: If there are no losses or one is not finite, or the level is out of range.

    Example:
        >>> round(cvar_stderr(np.array([1.0, 4.0, 2.0, 3.0]), level=0.375), 3)
        0.577

    Source: Trindade et al. 2007, for the asymptotic variance.
    """
    losses = finite("losses", losses)
    level = fraction("level", level)
    quantile = np.sort(losses)[::-1][math.ceil(level * len(losses)) - 1]
    return _stderr(np.maximum(losses - quantile, 0) / level)


def finite(what: str, values: Any) -> np.ndarray:
    """Return values as float64 if there is at least one and all are finite, and raise `InvalidInput` otherwise."""
    try:
        array = np.asarray(values, np.float64)
    except (TypeError, ValueError) as error:
        refuse(what, got=one_line(error), expected="numbers, one an image", fix="Pass an array of floats.", cause=error)
    require(
        array.size > 0 and bool(np.isfinite(array).all()),
        what,
        got=f"{array.size} of which {np.sum(~np.isfinite(array))} are not finite",
        expected="at least one, all finite",
        fix="Look for NaN in the images or in the classifier's weights.",
    )
    return array


def _moves_of_radius(values: np.ndarray, alpha: float) -> np.ndarray:
    """Return `d` of `kl_radius` for each image, but for a constant."""
    ratios = _of_mean(tilt(values, alpha))
    logs = np.log(ratios, out=np.zeros_like(ratios), where=ratios > 0)
    return ratios * (logs - kl_radius(values, alpha) - 1)


def _of_mean(weights: np.ndarray) -> np.ndarray:
    return weights / weights.mean()


def _stderr(moves: np.ndarray) -> float:
    return float(np.std(moves) / math.sqrt(len(moves)))
