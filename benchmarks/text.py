"""Numbers and tables as Markdown."""

import statistics
from collections.abc import Sequence


def spread(values: Sequence[float], scale: float = 1.0) -> str:
    """Return the median, and in brackets the smallest and the largest."""
    low, middle, high = (number(scale * value) for value in (min(values), statistics.median(values), max(values)))
    return f"{middle} ({low}..{high})"


def number(value: float) -> str:
    """Return a number to three digits, or to the unit."""
    return f"{value:.3g}" if value < 999.5 else f"{value:.0f}"


def table(columns: list[str], rows: list[list[str]]) -> str:
    """Return a table."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)
