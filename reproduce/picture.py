"""The picture of a table: the paper's figures and those of here, row by row."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D

from reproduce.rendering import Entries, defence
from reproduce.results import at_alpha, summary
from reproduce.rows import Row
from trainers.runs.naming import shown_attack
from wmr_tf.report.figures import BARS, COLOURS, GREY, write_figure

_HERE, _SUITE = COLOURS[0], COLOURS[1]
_ROW = 0.36
"""Inches of height for each row."""
_APART = 0.24
"""Parts of a row between the paper's figure, that of here and the suite's, so that none hides another."""


def draw(entries: Entries, path: Path, *, title: str) -> Figure:
    """Draw each accuracy of a table in a panel, the paper's hollow and those of here filled, and write the picture.

    A_suite stands in the panel of A_rob. Bars span one standard error over the images, of several seeds their
    standard deviation, to either side. Rows that are not yet run have the paper's figure alone.

    Args:
        entries: Rows with their results, at least one row.
        path: The PNG file to write; PDF and SVG go beside it. Its folder exists.
        title: Of the whole picture.

    Returns:
        The figure that was written.
    """
    names = list(entries[0][0].figures)
    layout = ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.1)
    figure = Figure(figsize=(10.0, 1.7 + _ROW * len(entries)), dpi=150, layout=layout)
    panels = figure.subplots(1, len(names), sharey=True, squeeze=False)[0]
    for name, axes in zip(names, panels, strict=True):
        _draw_panel(axes, name, entries)
    panels[0].set_yticks(range(len(entries)), [_label(*entry) for entry in entries])
    panels[0].set_ylim(len(entries) - 0.5, -0.5)  # the first row on top
    figure.suptitle(title)
    below: dict[str, Any] = {"loc": "outside lower center", "ncols": 3, "frameon": False}
    figure.legend(handles=_handles(entries), title=_caption(entries), fontsize="small", title_fontsize="small", **below)
    write_figure(figure, path)
    return figure


def _draw_panel(axes: Axes, name: str, entries: Entries) -> None:
    for place, (row, results) in enumerate(entries):
        axes.plot(row.figures[name], place - _APART, marker="o", markersize=6, color=GREY, fillstyle="none")
        metrics = at_alpha(summary(results), row.alpha_test) if results else {}
        _draw_point(axes, metrics, name, place, color=_HERE, marker="o")
        if name == "A_rob":
            _draw_point(axes, metrics, "A_suite", place + _APART, color=_SUITE, marker="D")
    axes.set_xlabel(rf"$A_\mathrm{{{name.removeprefix('A_')}}}$ (%)")
    axes.margins(x=0.08)
    axes.grid(alpha=0.25)


def _draw_point(axes: Axes, metrics: Mapping[str, Any], name: str, place: float, **style: Any) -> None:
    if name in metrics:
        error = 100 * metrics[f"{name}_stderr"]
        axes.errorbar(100 * metrics[name], place, xerr=error, markersize=4, capsize=3, elinewidth=1, **style)


def _label(row: Row, results: Sequence[Mapping[str, Any]]) -> str:
    alphas = [rf"$\alpha_\mathrm{{train}}$ {row.model.alpha_train:g}"] if row.model.alpha_train else []
    alphas += [] if row.alpha_test is None else [rf"$\alpha_\mathrm{{test}}$ {row.alpha_test:g}"]
    return ", ".join([defence(row, results), *alphas])


def _caption(entries: Entries) -> str:
    """Return how the models of here were attacked, on how many images, and what their bars are."""
    found = [result["metrics"] for _, results in entries for result in results]
    if not found:
        return "Nothing has run yet."
    counts = " or ".join(f"{count:,}" for count in sorted({metrics["examples"] for metrics in found}))
    attacks = " or ".join(sorted({shown_attack(metrics["attack"]) for metrics in found}))
    return f"Here: {counts} test images, {attacks}. {BARS}"


def _handles(entries: Entries) -> Sequence[Line2D]:
    suites = [result["suite"] for _, results in entries for result in results]
    versions = " or ".join(sorted({suite["version"] for suite in suites}))
    counts = " or ".join(f"{count:,}" for count in sorted({suite["examples"] for suite in suites}))
    of_suite = f"here, AutoAttack {versions}, first {counts}" if suites else "here, AutoAttack"
    shared: dict[str, Any] = {"linestyle": "none"}
    return [
        Line2D([], [], color=GREY, marker="o", markersize=6, fillstyle="none", label="paper", **shared),
        Line2D([], [], color=_HERE, marker="o", markersize=4, label="here", **shared),
        Line2D([], [], color=_SUITE, marker="D", markersize=4, label=of_suite, **shared),
    ]
