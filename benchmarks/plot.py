"""Draw the comparisons as one picture, results/speed.png."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from benchmarks.findings import Comparison
from benchmarks.readme import relative
from benchmarks.tables import WMR_TF

COLOURS = {"bfloat16": "#0072B2", "float32": "#E69F00"}
HEIGHT = 0.38
"""Of a bar, where a row is 1 high."""


def draw(comparisons: Sequence[Comparison], path: Path) -> None:
    """Draw how many times as long each row takes as wmr_tf in its precision, one panel a task, all to one scale."""
    lines = [comparisons[start : start + 2] for start in range(0, len(comparisons), 2)]
    heights = [max(len(_labels(each)) for each in line) for line in lines]
    figure, grid = plt.subplots(
        len(lines),
        2,
        figsize=(10, 0.34 * sum(heights) + 0.6 * len(lines) + 0.8),
        height_ratios=heights,
        layout="constrained",
        squeeze=False,
    )
    longest = max([1.2, *(value for each in comparisons for value in relative(each).values())])
    for axes in grid.flat[len(comparisons) :]:
        axes.remove()
    for place, comparison in enumerate(comparisons):
        axes = grid.flat[place]
        axes.set_xlim(0, 1.12 * longest)
        axes.set_ylim(heights[place // 2] - 0.4, -0.6)
        _panel(axes, comparison)
    figure.suptitle(f"Time of the same step: a multiple of {WMR_TF}'s in the same precision", fontsize="x-large")
    bars = [Patch(color=colour, label=precision) for precision, colour in COLOURS.items()]
    keys = [*bars, Line2D([], [], color="black", label=f"{WMR_TF} = 1")]
    figure.legend(handles=keys, loc="outside lower center", ncols=len(keys), frameon=False)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _panel(axes: Axes, comparison: Comparison) -> None:
    times, labels = relative(comparison), _labels(comparison)
    for place, label in enumerate(labels):
        there = [precision for precision in COLOURS if (label, precision) in times]
        for number, precision in enumerate(there):
            middle = place + HEIGHT * (number - (len(there) - 1) / 2)
            bar = axes.barh(middle, times[label, precision], HEIGHT, color=COLOURS[precision])
            axes.bar_label(bar, fmt="%.2f", padding=3, fontsize="small")
    axes.plot([1, 1], [-0.6, len(labels) - 0.4], color="black")
    axes.set_yticks(range(len(labels)), labels)
    axes.set_xticks([])
    axes.spines[:].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.set_title(comparison.title, fontsize="medium", fontweight="bold", loc="left")


def _labels(comparison: Comparison) -> list[str]:
    """Return the peers in the order of the table."""
    return list(dict.fromkeys(label for label, _ in relative(comparison) if label != WMR_TF))
