"""Pictures of robustness, from plain values: dictionaries in the form of metrics.json and history.csv."""

import math
import textwrap
from collections.abc import Mapping, Sequence
from itertools import cycle, pairwise
from os import PathLike
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, PercentFormatter

from wmr_tf.saving import written_whole

# Okabe and Ito's colours, told apart by colour-blind readers too; without their yellow, too pale for a line.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
GREY = "#777777"

_LABEL_WIDTH = 46  # letters, in a legend

_A_NAT, _A_ROB, _A_STRONG, _A_SA, _A_TR = (rf"$A_\mathrm{{{name}}}$" for name in ("nat", "rob", "strong", "sa", "tr"))

# What the accuracy panel of a training picture shows: key of the history, label, and how the line is drawn.
_ACCURACIES = (
    ("val_A_nat", f"{_A_NAT}: clean", {"color": COLOURS[0], "marker": "o"}),
    ("val_A_rob", f"{_A_ROB}: attacked", {"color": COLOURS[1], "marker": "s"}),
    ("val_A_strong", f"{_A_STRONG}: also by stronger attacks", {"color": COLOURS[4], "marker": "D", "linestyle": ":"}),
    ("val_A_sa", f"{_A_SA}: attacked, sampled by weight", {"color": COLOURS[2], "marker": "^"}),
    ("val_A_tr", f"{_A_TR}: attacked and sampled by weight", {"color": COLOURS[3], "marker": "v", "linestyle": "--"}),
    ("accuracy", "training images, as the update saw them", {"color": GREY, "linestyle": ":"}),
)


def plot_training(history: Mapping[str, Sequence[float]], path: str | PathLike[str], *, title: str = "") -> Figure:
    """Draw accuracy, clean and under attack, and the loss by epoch, and write the picture as PNG.

    An epoch that was not evaluated (NaN) has no marker; the line passes over it. Vertical grey lines mark where the
    learning rate was cut.

    Args:
        history: Values by epoch under the names of history.csv: `loss`, and at least one accuracy.
        path: The PNG file to write; its folder exists.
        title: What was trained, and at which alpha_test it was evaluated.

    Returns:
        The figure that was written.

    Example:
        >>> figure = plot_training({"loss": [1.2, 0.7], "val_A_rob": [0.4, 0.6]}, "training.png")
    """
    figure = Figure(figsize=(7.0, 6.0), dpi=150, layout="constrained")
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
    accuracy.set(title=title, ylabel="accuracy", ylim=(0, 1.02))
    accuracy.yaxis.set_major_formatter(PercentFormatter(xmax=1))
    accuracy.legend(loc="best", fontsize="small", handlelength=3)
    loss.set(xlabel="epoch", ylabel="training loss", xlim=(0.5, len(history["loss"]) + 0.5))
    loss.xaxis.set_major_locator(MaxNLocator(integer=True))
    write_figure(figure, path)
    return figure


def plot_alpha(
    results: Sequence[tuple[str, Mapping[str, Any]]], path: str | PathLike[str], *, title: str = ""
) -> Figure:
    """Draw A_sa and A_tr of one or several models against alpha_test, and write the picture as PNG.

    Both start from A_rob, which they equal at alpha_test = 0. Bars span one standard error to either side.

    Args:
        results: For each model its label and its metrics in the form of metrics.json (fractions of 1).
        path: The PNG file to write; its folder exists.
        title: The data set and the attack.

    Returns:
        The figure that was written.

    Example:
        >>> metrics = {"A_rob": 0.9559, "non_uniform": [{"alpha_test": 2.0, "A_sa": 0.5215, "A_tr": 0.5152}]}
        >>> figure = plot_alpha([("TRADES", metrics)], "alpha.png")
    """
    figure = Figure(figsize=(7.0, 4.5), dpi=150, layout="constrained")
    axes = figure.subplots()
    axes.legend(handles=draw_alpha(axes, results), loc="best", fontsize="small", handlelength=3)
    axes.set_title(title)
    write_figure(figure, path)
    return figure


def draw_alpha(axes: Axes, results: Sequence[tuple[str, Mapping[str, Any]]]) -> list[Line2D]:
    """Draw A_sa and A_tr of models against alpha_test into given axes.

    Args:
        axes: Where to draw.
        results: As `plot_alpha` takes them.

    Returns:
        What a legend needs: a line for each model and for each of the two accuracies.
    """
    for (_, metrics), colour in zip(results, cycle(COLOURS)):
        _draw_curve(axes, metrics, "A_sa", color=colour, marker="o")
        _draw_curve(axes, metrics, "A_tr", color=colour, marker="v", linestyle="--")
    axes.set(ylabel="accuracy under attack")
    axes.set_xlabel(rf"power of the attacker, $\alpha_\mathrm{{test}}$ (0 gives {_A_ROB})")
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter(PercentFormatter(xmax=1))
    axes.grid(alpha=0.25)
    return [
        *model_handles(results),
        Line2D([], [], color=GREY, marker="o", label=f"{_A_SA}: attacked, sampled by weight"),
        Line2D([], [], color=GREY, marker="v", linestyle="--", label=f"{_A_TR}: attacked and sampled by weight"),
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
    """Draw A_rob and A_strong of one or several models against the radius of the attack, and write the picture as PNG.

    Both start from A_nat, which they equal at a radius of 0. Bars span one standard error to either side.

    Args:
        curves: For each model its label and its metrics at each radius, in the form of metrics.json.
        path: The PNG file to write; its folder exists.
        title: The data set and the attack.

    Returns:
        The figure that was written.

    Example:
        >>> found = [{"attack": {"epsilon": epsilon}, "A_nat": 0.98, "A_rob": 0.98 - epsilon} for epsilon in (0.1, 0.2)]
        >>> figure = plot_epsilon([("TRADES", found)], "epsilon.png")
    """
    figure = Figure(figsize=(7.0, 4.5), dpi=150, layout="constrained")
    axes = figure.subplots()
    for (_, found), colour in zip(curves, cycle(COLOURS)):
        points = [(metrics["attack"]["epsilon"], metrics) for metrics in found]
        for key, style in (("A_rob", {"marker": "s"}), ("A_strong", {"marker": "D", "linestyle": ":"})):
            shown = [(epsilon, metrics, key) for epsilon, metrics in points if key in metrics]
            if shown and shown[0][0] > 0 and "A_nat" in shown[0][1]:
                shown.insert(0, (0.0, shown[0][1], "A_nat"))
            _draw_points(axes, shown, color=colour, **style)
    axes.set(xlabel=r"radius of the attack, $\epsilon$", ylabel="accuracy under attack", title=title)
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter(PercentFormatter(xmax=1))
    axes.grid(alpha=0.25)
    meanings = [
        Line2D([], [], color=GREY, marker="s", label=f"{_A_ROB}: under the test attack"),
        Line2D([], [], color=GREY, marker="D", linestyle=":", label=f"{_A_STRONG}: under stronger attacks too"),
    ]
    handles = [*model_handles([(label, {}) for label, _ in curves]), *meanings]
    axes.legend(handles=handles, loc="best", fontsize="small", handlelength=3)
    write_figure(figure, path)
    return figure


def plot_search(
    trials: Sequence[Mapping[str, Any]], path: str | PathLike[str], *, x: str, objective: str, title: str = ""
) -> Figure:
    """Draw the objective of a search, and below it the accuracies, against a searched setting; write it as PNG.

    A star marks the trial of the highest objective.

    Args:
        trials: For each trial the setting under its name, "objective", "A_nat", "A_rob", "A_sa", "A_tr", and
            "A_strong" where it is known.
        path: The PNG file to write; its folder exists.
        x: The setting's name; its values are numbers or words.
        objective: What was maximised.
        title: The data set and where it was measured.

    Returns:
        The figure that was written.

    Example:
        >>> trial = {"alpha_train": 2.0, "objective": 0.5, "A_nat": 0.98, "A_rob": 0.8, "A_sa": 0.5, "A_tr": 0.46}
        >>> figure = plot_search([trial], "tradeoff.png", x="alpha_train", objective="val_A_sa")
    """
    figure = Figure(figsize=(7.0, 6.0), dpi=150, layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(1, 2))
    trials = sorted(trials, key=lambda trial: trial[x])
    settings = [trial[x] for trial in trials]
    scores = [trial["objective"] for trial in trials]
    best = max(trials, key=lambda trial: trial["objective"])
    above.plot(settings, scores, color="black", marker=".", linestyle="none")
    above.plot([best[x]], [best["objective"]], color=COLOURS[1], marker="*", markersize=12, linestyle="none")
    for key, label, style in _ACCURACIES[:5]:
        values = [trial.get(key.removeprefix("val_"), math.nan) for trial in trials]
        below.plot(settings, values, label=label, markersize=4, **{**style, "linestyle": "none"})
    above.set(title=title, ylabel=objective)
    below.set(xlabel=x, ylabel="accuracy", ylim=(0, 1.02))
    below.yaxis.set_major_formatter(PercentFormatter(xmax=1))
    below.legend(loc="best", fontsize="small")
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


def _draw_curve(axes: Axes, metrics: Mapping[str, Any], key: str, **style: Any) -> None:
    entries = sorted(metrics["non_uniform"], key=lambda entry: entry["alpha_test"])
    _draw_points(axes, [(0.0, metrics, "A_rob"), *((entry["alpha_test"], entry, key) for entry in entries)], **style)


def _draw_points(axes: Axes, points: Sequence[tuple[float, Mapping[str, Any], str]], **style: Any) -> None:
    """Draw accuracies with their errors: for each where on the axis, the metrics that have it, and its name."""
    if points:
        places, metrics, names = zip(*points, strict=True)
        values = [found.get(name, math.nan) for found, name in zip(metrics, names, strict=True)]
        errors = [found.get(f"{name}_stderr", math.nan) for found, name in zip(metrics, names, strict=True)]
        axes.errorbar(places, values, yerr=errors, capsize=3, elinewidth=1, markersize=5, **style)


def write_figure(figure: Figure, path: str | PathLike[str]) -> None:
    """Write a figure as PNG."""
    # Without matplotlib's version inside, the same values give the same bytes.
    with written_whole(path) as unfinished:
        figure.savefig(unfinished, format="png", metadata={"Software": None})
