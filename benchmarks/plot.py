"""Draw the measurements as one picture, results/speed.png."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

from benchmarks.report import Measured, line
from benchmarks.tables import OURS, Curve, Table

OWN, PEER = "#0072B2", "#999999"


def draw(speeds: Sequence[tuple[Table, Measured]], lines: Sequence[tuple[Curve, Measured]], path: Path) -> None:
    """Draw images a second of every row, and time against what it should be linear in."""
    panels = len(speeds) + len(lines)
    figure, grid = plt.subplots((panels + 1) // 2, 2, figsize=(15, 3.4 * ((panels + 1) // 2)), layout="constrained")
    for axes in grid.flat[panels:]:
        axes.remove()
    for axes, (table, measured) in zip(grid.flat, speeds, strict=False):
        _bars(axes, table, [m for m in measured if not m.error])
    for axes, (curve, measured) in zip(grid.flat[len(speeds) :], lines, strict=False):
        _curve(axes, curve, measured)
    figure.suptitle("Images a second (bars: median; whiskers: slowest and fastest round), and time against size")
    figure.savefig(path, dpi=100)
    plt.close(figure)


def _bars(axes: Axes, table: Table, measured: Measured) -> None:
    names = [f"{m.row.label}, {m.row.task.precision}" for m in measured]
    rates = [np.array([m.row.task.size / seconds for seconds in m.seconds]) for m in measured]
    medians = [float(np.median(rate)) for rate in rates]
    below = [median - rate.min() for median, rate in zip(medians, rates, strict=True)]
    above = [rate.max() - median for median, rate in zip(medians, rates, strict=True)]
    colours = [OWN if m.row.label == OURS else PEER for m in measured]
    bars = axes.barh(names, medians, xerr=(below, above), color=colours, error_kw={"elinewidth": 1, "capsize": 2})
    axes.bar_label(bars, fmt="%.3g", padding=6)
    axes.invert_yaxis()
    axes.margins(x=0.15)
    axes.set_title(table.title, fontsize="medium")
    axes.set_xlabel("images/s")


def _curve(axes: Axes, curve: Curve, measured: Measured) -> None:
    ran = [(point, m) for point, m in zip(curve.points, measured, strict=True) if not m.error]
    for point, m in ran:
        axes.plot([point] * len(m.seconds), m.seconds, ".", color=PEER)
    if len(ran) >= 2:
        points, medians = [point for point, _ in ran], [m.median for _, m in ran]
        intercept, slope = line(points, medians)
        axes.plot(points, medians, "o", color=OWN, label="median")
        axes.plot(points, intercept + slope * np.array(points), color=OWN, label="least squares")
        axes.legend()
    axes.set_title(curve.title, fontsize="medium")
    axes.margins(y=0.1)
    axes.set(xlabel=curve.unit, ylabel="seconds", xlim=(0, 1.05 * max(curve.points)), ylim=(0, None))
