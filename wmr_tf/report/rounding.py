"""How many decimals of an accuracy are printed: those that its sample carries."""

import math
from collections.abc import Mapping
from typing import Any

NORMAL_95 = 1.96
"""Standard errors to either side of a normal 95 % interval."""


def decimals(error: float) -> int:
    """Return how many decimals a standard error allows: so many that it is 2 to 18 units of the last one.

    Args:
        error: In the unit of the number that is printed; 0 and NaN say nothing and allow none.

    Example:
        >>> [decimals(error) for error in (2.0, 1.5, 0.2, 0.15)]
        [0, 1, 1, 2]
    """
    return max(0, math.ceil(math.log10(1.8 / error))) if error > 0 else 0


def percent(value: float, low: float | None = None, high: float | None = None) -> str:
    """Return a fraction of 1 in percent, without decimals that its interval does not carry.

    Args:
        value: The fraction.
        low: The lower end of its interval; where none is known, as in rows quoted from a paper, two decimals stay.
        high: The upper end.

    Example:
        >>> percent(0.894, 0.8734, 0.9116), percent(0.894, 0.82, 0.95), percent(0.4929)
        ('89.4', '89', '49.29')
    """
    digits = 2 if low is None or high is None else decimals(100 * (high - low) / (2 * NORMAL_95))
    return f"{100 * value:.{digits}f}"


def interval(values: Mapping[str, Any], name: str) -> tuple[float, float] | None:
    """Return the 95 % interval of a figure; of older metrics, which have none, the one of its standard error.

    Args:
        values: A dictionary of metrics.json that holds the figure.
        name: The figure, such as "A_rob".

    Returns:
        Its ends, fractions of 1; None if nothing is known of its error.

    Example:
        >>> interval({"A_rob": 0.9, "A_rob_interval": [0.88, 0.92]}, "A_rob")
        (0.88, 0.92)
    """
    if f"{name}_interval" in values:
        low, high = values[f"{name}_interval"]
        return low, high
    if f"{name}_stderr" in values:
        reach = NORMAL_95 * values[f"{name}_stderr"]
        return max(0.0, values[name] - reach), min(1.0, values[name] + reach)
    return None


def of_point(point: Mapping[str, Any]) -> str:
    """Return the accuracy of a point of a budget curve, as `with_interval` does.

    Args:
        point: A dictionary of metrics.json with "accuracy" and "interval".

    Example:
        >>> of_point({"images": 50, "accuracy": 0.4, "interval": [0.28, 0.54]})
        '40 [28, 54]'
    """
    return with_interval({"accuracy": point["accuracy"], "accuracy_interval": point["interval"]}, "accuracy")


def radius(entry: Mapping[str, Any]) -> str:
    """Return a radius with its interval in brackets, without decimals that it does not carry.

    Args:
        entry: A dictionary of metrics.json with "radius", and "interval" where it is known.

    Example:
        >>> radius({"radius": 0.0233, "interval": [0.0086, 0.0445]})
        '0.023 [0.009, 0.044]'
    """
    if "interval" not in entry:
        return f"{entry['radius']:.3g}"
    low, high = entry["interval"]
    digits = decimals((high - low) / (2 * NORMAL_95))
    return f"{entry['radius']:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


def of_images(share: float, images: int) -> str:
    """Return a share of images in percent, without decimals that so many images do not carry.

    Args:
        share: A fraction of 1.
        images: How many it is of.

    Example:
        >>> of_images(0.9833, 599), of_images(0.728, 599), of_images(0.728, 10_000)
        ('98.3', '73', '72.8')
    """
    error = max(math.sqrt(share * (1 - share) / images), 1 / images)
    return f"{100 * share:.{decimals(100 * error)}f}"


def with_error(values: Mapping[str, Any], name: str, *, scale: int = 100, digits: int = 2) -> str:
    """Return a figure with its standard error, which says how many decimals there are; a dash where it is missing.

    Args:
        values: A dictionary of metrics.json.
        name: The figure.
        scale: What both are multiplied by: 100 for percent.
        digits: How many decimals there are at most, and where no error is known.

    Example:
        >>> with_error({"A_rob": 0.9253, "A_rob_stderr": 0.0083}, "A_rob"), with_error({"A_rob": 0.9559}, "A_rob")
        ('92.5 ± 0.8', '95.59')
    """
    found = [scale * values[key] for key in (name, f"{name}_stderr") if key in values]
    digits = min(digits, decimals(found[1])) if len(found) == 2 else digits
    return " ± ".join(f"{value:.{digits}f}" for value in found) or "-"


def with_interval(values: Mapping[str, Any], name: str) -> str:
    """Return a figure in percent with its interval in brackets, a dash where the figure is missing.

    Args:
        values: A dictionary of metrics.json.
        name: The figure.

    Example:
        >>> with_interval({"A_rob": 0.9, "A_rob_interval": [0.88, 0.92]}, "A_rob")
        '90.0 [88.0, 92.0]'
    """
    if name not in values:
        return "-"
    ends = interval(values, name) or ()
    shown = percent(values[name], *ends)
    return f"{shown} [{', '.join(percent(end, *ends) for end in ends)}]" if ends else shown
