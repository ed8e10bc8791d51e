"""Draw the comparisons as one picture, results/speed.png, with speed.pdf and speed.svg beside it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from benchmarks.findings import Comparison
from benchmarks.summary import relative
from benchmarks.tables import WMR_TF
from wmr_tf.report.figures import write_figure

COLOURS = {"bfloat16": "#0072B2", "float32": "#E69F00"}
HEIGHT, APART = 0.3, 0.36
"""Of a bar, and between the middles of a row's bars, where a row is 1 high."""


def draw(comparisons: Sequence[Comparison], path: Path) -> None:
    """Draw how many times as long each row takes as wmr_tf in its precision, one panel a task, all to one scale."""
    lines = [comparisons[start : start + 2] for start in range(0, len(comparisons), 2)]
    heights = [max(len(_labels(each)) for each in line) for line in lines]
    size = (10, 0.36 * sum(heights) + 0.8 * len(lines) + 1.0)
    figure = Figure(figsize=size, dpi=110, layout="constrained")
    grid = figure.subplots(len(lines), 2, height_ratios=heights, squeeze=False)
    longest = max([1.2, *(value for each in comparisons for value in relative(each).values())])
    for axes in grid.flat[len(comparisons) :]:
        axes.remove()
    for place, comparison in enumerate(comparisons):
        axes = grid.flat[place]
        axes.set_xlim(0, 1.15 * longest)
        axes.set_ylim(heights[place // 2] - 0.4, -0.6)
        _panel(axes, comparison)
    figure.suptitle(f"Time of the same step, as a multiple of {WMR_TF}'s in the same precision", fontsize="x-large")
    bars = [Patch(color=colour, label=precision) for precision, colour in COLOURS.items()]
    keys = [*bars, Line2D([], [], color="black", label=f"{WMR_TF} = 1")]
    below = f"Batch {comparisons[0].measured[0].row.task.size}; medians over rounds; longer bars are slower."
    figure.legend(handles=keys, title=below, loc="outside lower center", ncols=len(keys), frameon=False)
    write_figure(figure, path)


def _panel(axes: Axes, comparison: Comparison) -> None:
    times, labels = relative(comparison), _labels(comparison)
    for place, label in enumerate(labels):
        there = [precision for precision in COLOURS if (label, precision) in times]
        for number, precision in enumerate(there):
            middle, time = place + APART * (number - (len(there) - 1) / 2), times[label, precision]
            axes.barh(middle, time, HEIGHT, color=COLOURS[precision])
            # Beside the line of 1, too, if the bar ends before it.
            style: dict[str, Any] = {"va": "center_baseline", "fontsize": "small", "textcoords": "offset points"}
            axes.annotate(f"{time:.2f}", (max(time, 1.0), middle), (5, 0), **style)
    axes.plot([1, 1], [-0.6, len(labels) - 0.4], color="black", linewidth=1.2)
    axes.set_yticks(range(len(labels)), labels)
    axes.set_xticks([])
    axes.spines[:].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.set_title(comparison.title, fontsize="medium", fontweight="bold", loc="left")


def _labels(comparison: Comparison) -> list[str]:
    """Return the peers in the order of the table."""
    return list(dict.fromkeys(label for label, _ in relative(comparison) if label != WMR_TF))
