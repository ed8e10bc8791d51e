"""Pictures of robustness, from plain values: dictionaries in the form of metrics.json and history.csv.

Each is written three times, under one name: as PNG, and for a paper as PDF and SVG.
"""

import math
import textwrap
from collections.abc import Mapping, Sequence
from itertools import cycle, pairwise
from os import PathLike
from typing import Any

import matplotlib
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, PercentFormatter

from wmr_tf.saving import picture_files, written_whole

# Okabe and Ito's colours, told apart by colour-blind readers too; without their yellow, too pale for a line.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
GREY = "#777777"

SAVED: Any = {  # matplotlib types the names of its settings one by one
    "pdf.fonttype": 42,  # text stays text, in its font, in both
    "svg.fonttype": "none",
    "svg.hashsalt": "wmr_tf",  # the same picture gives the same bytes
}
# Neither do matplotlib's version and the date make them others.
NOTHING_ELSE: dict[str, dict[str, None]] = {
    ".png": {"Software": None},
    ".pdf": dict.fromkeys(("Creator", "Producer", "CreationDate")),
    ".svg": dict.fromkeys(("Creator", "Date", "Format", "Type")),
}

BARS = "Bars: one standard error over the images to either side, of several seeds their standard deviation."

_LABEL_WIDTH, _TITLE_WIDTH = 46, 88  # letters, in a legend and above a picture
_LIMITS = (-0.03, 1.05)  # of accuracies, so that no marker touches the frame
_APART = 0.016
"""Between two curves of a picture, as a part of its width, so that their bars stand side by side."""

_A_NAT, _A_ROB, _A_STRONG, _A_SA, _A_TR = (rf"$A_\mathrm{{{name}}}$" for name in ("nat", "rob", "strong", "sa", "tr"))

_SAMPLED = f"{_A_SA}: plain attack, fragile images picked more often"
_WEIGHTED = f"{_A_TR}: the same, and the attack is weighted too"

# What the accuracy panel of a training picture shows: key of the history, label, and how the line is drawn.
_ACCURACIES = (
    ("val_A_nat", f"{_A_NAT}: clean", {"color": COLOURS[0], "marker": "o"}),
    ("val_A_rob", f"{_A_ROB}: attacked", {"color": COLOURS[1], "marker": "s"}),
    ("val_A_strong", f"{_A_STRONG}: also by stronger attacks", {"color": COLOURS[4], "marker": "D", "linestyle": ":"}),
    ("val_A_sa", _SAMPLED, {"color": COLOURS[2], "marker": "^"}),
    ("val_A_tr", _WEIGHTED, {"color": COLOURS[3], "marker": "v", "linestyle": "--"}),
    ("accuracy", "training images, as the update saw them", {"color": GREY, "linestyle": ":"}),
)


def plot_training(history: Mapping[str, Sequence[float]], path: str | PathLike[str], *, title: str = "") -> Figure:
    """Draw accuracy, clean and under attack, and the loss by epoch, and write the picture.

    An epoch that was not evaluated (NaN) has no marker; the line passes over it. Vertical grey lines mark where the
    learning rate was cut.

    Args:
        history: Values by epoch under the names of history.csv: `loss`, and at least one accuracy.
        path: The PNG file to write; PDF and SVG go beside it. Its folder exists.
        title: What was trained, and at which alpha_test it was evaluated.

    Returns:
        The figure that was written.

    Example:
        >>> figure = plot_training({"loss": [1.2, 0.7], "val_A_rob": [0.4, 0.6]}, "training.png")
    """
    figure = Figure(figsize=(7.0, 6.6), dpi=150, layout="constrained")
    accuracy, loss = figure.subplots(2, 1, sharex=True, height_ratios=(2, 1))
    for key, label, style in _ACCURACIES:
        _draw_by_epoch(accuracy, history.get(key, ()), label=label, **style)
    _draw_by_epoch(loss, history["loss"], color="black", marker=".")

    cuts = _cuts(history.get("learning_rate", ()))
    for axes in (accuracy, loss):
        if cuts:
            across = axes.get_xaxis_transform()  # x in epochs, y from the bottom of the panel to its top
            axes.vlines(cuts, 0, 1, transform=across, color=GREY, linewidth=0.8, label="learning rate cut")
        axes.grid(alpha=0.25)
    accuracy.set(ylabel="accuracy")
    _finish(accuracy, title, _LIMITS, accuracy.get_legend_handles_labels()[0])
    loss.set(xlabel="epoch", ylabel="training loss", xlim=(0.5, len(history["loss"]) + 0.5))
    loss.xaxis.set_major_locator(MaxNLocator(integer=True))
    write_figure(figure, path)
    return figure


def plot_alpha(
    results: Sequence[tuple[str, Mapping[str, Any]]], path: str | PathLike[str], *, title: str = ""
) -> Figure:
    """Draw A_sa and A_tr of one or several models against alpha_test, and write the picture.

    Both start from A_rob, which they equal at alpha_test = 0. Bars span one standard error to either side.

    Args:
        results: For each model its label and its metrics in the form of metrics.json (fractions of 1).
        path: The PNG file to write; PDF and SVG go beside it. Its folder exists.
        title: The data set and the attack.

    Returns:
        The figure that was written.

    Example:
        >>> metrics = {"A_rob": 0.9559, "non_uniform": [{"alpha_test": 2.0, "A_sa": 0.5215, "A_tr": 0.5152}]}
        >>> figure = plot_alpha([("TRADES", metrics)], "alpha.png")
    """
    figure = Figure(figsize=(7.0, 5.2), dpi=150, layout="constrained")
    axes = figure.subplots()
    handles = draw_alpha(axes, results)
    _finish(axes, title, (-0.03 * axes.get_ylim()[1], axes.get_ylim()[1]), handles, caption=BARS)
    write_figure(figure, path)
    return figure


def draw_alpha(axes: Axes, results: Sequence[tuple[str, Mapping[str, Any]]]) -> list[Line2D]:
    """Draw A_sa and A_tr of models against alpha_test into given axes, side by side where their bars would overlap.

    Args:
        axes: Where to draw.
        results: As `plot_alpha` takes them.

    Returns:
        What a legend needs: a line for each model and for each of the two accuracies.
    """
    alphas = sorted({0.0, *(entry["alpha_test"] for _, metrics in results for entry in metrics["non_uniform"])})
    places = iter(_side_by_side(alphas, 2 * len(results)))
    for (_, metrics), colour in zip(results, cycle(COLOURS)):
        _draw_curve(axes, metrics, "A_sa", next(places), color=colour, marker="o")
        _draw_curve(axes, metrics, "A_tr", next(places), color=colour, marker="v", linestyle="--")
    axes.set(ylabel="accuracy under attack", xticks=alphas)
    axes.set_xlabel(rf"power of the attacker, $\alpha_\mathrm{{test}}$ (0 gives {_A_ROB})")
    axes.margins(y=0.08)
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter(PercentFormatter(xmax=1))
    axes.grid(alpha=0.25)
    return [
        *model_handles(results),
        Line2D([], [], color=GREY, marker="o", label=_SAMPLED),
        Line2D([], [], color=GREY, marker="v", linestyle="--", label=_WEIGHTED),
    ]


def model_handles(results: Sequence[tuple[str, Mapping[str, Any]]]) -> list[Line2D]:
    """Return what a legend needs to tell models by their colours; labels are shown as they are, long ones in lines."""
    # A label with an underscore first would be left out of the legend, and what is between dollars be set as formula.
    labels = [textwrap.fill(label, _LABEL_WIDTH).replace("$", r"\$") for label, _ in results]
    shown = [f"\u200b{label}" if label.startswith("_") else label for label in labels]
    return [Line2D([], [], color=colour, label=label) for label, colour in zip(shown, cycle(COLOURS))]


def plot_epsilon(
    curves: Sequence[tuple[str, Sequence[Mapping[str, Any]]]], path: str | PathLike[str], *, title: str = ""
) -> Figure:
    """Draw A_rob and A_strong of one or several models against the radius of the attack, and write the picture.

    Both start from A_nat, which they equal at a radius of 0. Bars span one standard error to either side.

    Args:
        curves: For each model its label and its metrics at each radius, in the form of metrics.json.
        path: The PNG file to write; PDF and SVG go beside it. Its folder exists.
        title: The data set and the attack.

    Returns:
        The figure that was written.

    Example:
        >>> found = [{"attack": {"epsilon": epsilon}, "A_nat": 0.98, "A_rob": 0.98 - epsilon} for epsilon in (0.1, 0.2)]
        >>> figure = plot_epsilon([("TRADES", found)], "epsilon.png")
    """
    figure = Figure(figsize=(7.0, 5.2), dpi=150, layout="constrained")
    axes = figure.subplots()
    radii = sorted({0.0, *(metrics["attack"]["epsilon"] for _, found in curves for metrics in found)})
    places = iter(_side_by_side(radii, 2 * len(curves)))
    for (_, found), colour in zip(curves, cycle(COLOURS)):
        for key, style in (("A_rob", {"marker": "s"}), ("A_strong", {"marker": "D", "linestyle": ":"})):
            shift = next(places)
            points = [(metrics["attack"]["epsilon"], metrics, key) for metrics in found if key in metrics]
            if not points:
                continue
            if points[0][0] > 0 and "A_nat" in points[0][1]:
                points.insert(0, (0.0, points[0][1], "A_nat"))
            _draw_points(axes, [(radius + shift, *point) for radius, *point in points], color=colour, **style)
    axes.set(xlabel=r"radius of the attack, $\epsilon$", ylabel="accuracy under attack", xticks=radii)
    axes.grid(alpha=0.25)
    meanings = [
        Line2D([], [], color=GREY, marker="s", label=f"{_A_ROB}: under the test attack"),
        Line2D([], [], color=GREY, marker="D", linestyle=":", label=f"{_A_STRONG}: under stronger attacks too"),
    ]
    handles = [*model_handles([(label, {}) for label, _ in curves]), *meanings]
    _finish(axes, title, _LIMITS, handles, caption=BARS)
    write_figure(figure, path)
    return figure


def plot_search(
    trials: Sequence[Mapping[str, Any]], path: str | PathLike[str], *, x: str, objective: str, title: str = ""
) -> Figure:
    """Draw the objective of a search, and below it the accuracies, against a searched setting; write it.

    A star marks the trial of the highest objective.

    Args:
        trials: For each trial the setting under its name, "objective", "A_nat", "A_rob", "A_sa", "A_tr", and
            "A_strong" where it is known.
        path: The PNG file to write; PDF and SVG go beside it. Its folder exists.
        x: The setting's name; its values are numbers or words.
        objective: What was maximised.
        title: The data set and where it was measured.

    Returns:
        The figure that was written.

    Example:
        >>> trial = {"alpha_train": 2.0, "objective": 0.5, "A_nat": 0.98, "A_rob": 0.8, "A_sa": 0.5, "A_tr": 0.46}
        >>> figure = plot_search([trial], "tradeoff.png", x="alpha_train", objective="val_A_sa")
    """
    figure = Figure(figsize=(7.0, 6.6), dpi=150, layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(1, 2))
    trials = sorted(trials, key=lambda trial: trial[x])
    settings = [trial[x] for trial in trials]
    scores = [trial["objective"] for trial in trials]
    best = max(trials, key=lambda trial: trial["objective"])
    above.plot(settings, scores, color="black", marker=".", linestyle="none")
    above.plot([best[x]], [best["objective"]], color=COLOURS[1], marker="*", markersize=12, linestyle="none")
    for key, label, style in _ACCURACIES:
        values = [trial.get(key.removeprefix("val_")) for trial in trials]
        if any(value is not None for value in values):
            below.plot(settings, values, label=label, markersize=4, **{**style, "linestyle": "none"})
    above.set(ylabel=objective)
    above.margins(y=0.15)
    _title(above, title)
    below.set(xlabel=x, ylabel="accuracy")
    _finish(below, "", _LIMITS, below.get_legend_handles_labels()[0])
    for axes in (above, below):
        axes.grid(alpha=0.25)
    write_figure(figure, path)
    return figure


def _draw_by_epoch(axes: Axes, values: Sequence[float], **style: Any) -> None:
    known = [(epoch, value) for epoch, value in enumerate(values, 1) if not math.isnan(value)]
    if known:
        axes.plot(*zip(*known, strict=True), markersize=4, **style)


def _cuts(learning_rates: Sequence[float]) -> list[float]:
    """Return where, in epochs, the learning rate fell: halfway to the first epoch of the lower rate."""
    return [epoch - 0.5 for epoch, (before, after) in enumerate(pairwise(learning_rates), 2) if after < before]


def _side_by_side(alphas: Sequence[float], count: int) -> list[float]:
    """Return by how much each of so many curves is shifted, less than to the middle between two alphas."""
    apart = min(_APART * (alphas[-1] - alphas[0]), 0.6 * min(np.diff(alphas), default=0.0) / count)
    return [apart * (number - (count - 1) / 2) for number in range(count)]


def _draw_curve(axes: Axes, metrics: Mapping[str, Any], key: str, shift: float, **style: Any) -> None:
    entries = sorted(metrics["non_uniform"], key=lambda entry: entry["alpha_test"])
    points = [(shift, metrics, "A_rob"), *((entry["alpha_test"] + shift, entry, key) for entry in entries)]
    _draw_points(axes, points, **style)


def _draw_points(axes: Axes, points: Sequence[tuple[float, Mapping[str, Any], str]], **style: Any) -> None:
    """Draw accuracies with their errors: for each where on the axis, the metrics that have it, and its name."""
    places = [place for place, _, _ in points]
    values = [metrics.get(name, math.nan) for _, metrics, name in points]
    errors = [metrics.get(f"{name}_stderr", math.nan) for _, metrics, name in points]
    axes.errorbar(places, values, yerr=errors, capsize=3, elinewidth=1, markersize=5, **style)


def _title(axes: Axes, title: str) -> None:
    lines = [textwrap.fill(line, _TITLE_WIDTH) for line in title.splitlines()]
    axes.set_title("\n".join(lines), fontsize="medium")


def _finish(axes: Axes, title: str, limits: tuple[float, float], handles: Sequence[Artist], caption: str = "") -> None:
    """Set title, limits and percents, and put the legend below all, where it hides nothing."""
    _title(axes, title)
    axes.set_ylim(*limits)
    axes.yaxis.set_major_formatter(PercentFormatter(xmax=1))
    figure = axes.get_figure()
    assert figure
    below: dict[str, Any] = {"loc": "outside lower center", "ncols": 2, "frameon": False, "handlelength": 3}
    figure.legend(handles=handles, title=caption, fontsize="small", title_fontsize="small", **below)


def write_figure(figure: Figure, path: str | PathLike[str]) -> None:
    """Write a figure as PNG, PDF and SVG; the same values give the same bytes.

    Args:
        figure: What to write.
        path: One of the files; the others go beside it.

    Raises:
        NotWritten: If one cannot be written.
    """
    with matplotlib.rc_context(SAVED):
        for file in picture_files(path):
            with written_whole(file) as unfinished:
                figure.savefig(unfinished, format=file.suffix[1:], metadata=NOTHING_ELSE[file.suffix])
