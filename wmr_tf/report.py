"""Tables and pictures of robustness, from plain values: dictionaries in the form of metrics.json and history.csv."""

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import cycle, pairwise
from os import PathLike
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, PercentFormatter

# Okabe and Ito's colours, told apart by colour-blind readers too; without their yellow, too pale for a line.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_GREY = "#777777"

# What is printed above the table of worst cases.
WORST_CASES = (
    "Worst cases: the attacker of alpha_test stays within the KL radius rho of picking all images alike; A_worst is\n"
    "the lowest accuracy within it, A_sa that where the expected margin is lowest. CVaR 10% is the mean loss of the\n"
    "worst tenth of the images, CVaR 100% of all."
)

_A_NAT, _A_ROB, _A_SA, _A_TR = (rf"$A_\mathrm{{{name}}}$" for name in ("nat", "rob", "sa", "tr"))

# What the accuracy panel of a training picture shows: key of the history, label, and how the line is drawn.
_ACCURACIES = (
    ("val_A_nat", f"{_A_NAT}: clean", {"color": _COLOURS[0], "marker": "o"}),
    ("val_A_rob", f"{_A_ROB}: attacked", {"color": _COLOURS[1], "marker": "s"}),
    ("val_A_sa", f"{_A_SA}: attacked, sampled by weight", {"color": _COLOURS[2], "marker": "^"}),
    ("val_A_tr", f"{_A_TR}: attacked and sampled by weight", {"color": _COLOURS[3], "marker": "v", "linestyle": "--"}),
    ("accuracy", "training images, as the update saw them", {"color": _GREY, "linestyle": ":"}),
)


def format_table(header: Sequence[str], rows: Iterable[Sequence[str]], *, markdown: bool = False) -> str:
    """Returns a table as text, its first column flush left and the others flush right.

    Args:
        header: The columns' names.
        rows: The cells, as many in each row as there are names.
        markdown: Whether to write Markdown rather than plain text.

    Returns:
        The lines of the table joined by newlines, without one at the end.

    Raises:
        ValueError: If a row has more or fewer cells than the header.

    Example:
        >>> print(format_table(["Defense", "A_rob (%)"], [["PGD", "49.29"], ["TRADES", "53.38"]]))
        Defense  A_rob (%)
        -------  ---------
        PGD          49.29
        TRADES       53.38
    """
    columns = [[name, *cells] for name, *cells in zip(header, *rows, strict=True)]
    widths = [max(map(len, column)) for column in columns]
    aligned = [
        [cell.rjust(width) if index else cell.ljust(width) for cell in column]
        for index, (column, width) in enumerate(zip(columns, widths, strict=True))
    ]
    if markdown:
        rule = [f"{'-' * (width - 1)}:" if index else "-" * width for index, width in enumerate(widths)]
    else:
        rule = ["-" * width for width in widths]
    head, *body = zip(*aligned, strict=True)
    separator, edge = (" | ", "| {} |") if markdown else ("  ", "{}")
    return "\n".join(edge.format(separator.join(line)).rstrip() for line in (head, rule, *body))


def comparison_table(results: Sequence[tuple[str, Mapping[str, Any]]]) -> tuple[list[str], list[list[str]]]:
    """Returns the header and rows of a table like the paper's Table 1: all defences at one alpha_test, then the next.

    Accuracies are in percent, with their standard error where there is one; what is missing is a dash. So the paper's
    own rows can stand beside ours.

    Args:
        results: For each defence its label and its metrics in the form of metrics.json (fractions of 1).

    Returns:
        The columns' names, and for each alpha_test and defence a row of as many cells, as `format_table` takes them.

    Example:
        >>> quoted = {"A_rob": 0.9559, "non_uniform": [{"alpha_test": 2.0, "A_sa": 0.5215, "A_tr": 0.5152}]}
        >>> comparison_table([("TRADES", quoted)])[1]
        [['TRADES', '-', '2.0', '-', '95.59', '52.15', '51.52']]

    Source: Zeng et al. 2021, Tables 1 to 3.
    """
    header = ["Defense", "alpha_train", "alpha_test", *(f"{name} (%)" for name in ("A_nat", "A_rob", "A_sa", "A_tr"))]
    alphas = sorted({entry["alpha_test"] for _, metrics in results for entry in metrics["non_uniform"]})
    rows = [
        _row(label, metrics, entry)
        for alpha in alphas
        for label, metrics in results
        for entry in metrics["non_uniform"]
        if entry["alpha_test"] == alpha
    ]
    return header, rows


def worst_case_table(results: Sequence[tuple[str, Mapping[str, Any]]]) -> tuple[list[str], list[list[str]]]:
    """Returns the header and rows of a table of worst cases, in the order of `comparison_table`.

    `A_worst` is the lowest accuracy, in percent, in the KL ball of radius `rho` that the attacker of alpha_test uses
    up, `A_sa` that under this attacker; a CVaR is the mean attacked cross-entropy of that share of the images where it
    is largest, of all with 100%. Below stand the radii that were asked for, with the alpha that each buys.

    Args:
        results: For each defence its label and its metrics in the form of metrics.json.

    Returns:
        The columns' names, and a row of as many cells for each alpha_test, or radius, and defence that has a worst
        case; metrics from before there was one, and quoted ones, have none.

    Example:
        >>> entry = {"alpha_test": 2.0, "A_sa": 0.52, "rho": 0.41, "A_worst": 0.45}
        >>> metrics = {"non_uniform": [entry], "cvar": [{"level": 0.1, "loss": 1.5}]}
        >>> worst_case_table([("TRADES", metrics)])[1]
        [['TRADES', '2.0', '0.410', '52.00', '45.00', '1.500']]
    """
    losses = [{entry["level"]: entry for entry in metrics.get("cvar", ())} for _, metrics in results]
    levels = sorted(set().union(*losses), reverse=True)
    header = ["Defense", "alpha_test", "rho", "A_sa (%)", "A_worst (%)", *(f"CVaR {level:.0%}" for level in levels)]
    rows = []
    for kind, order in (("non_uniform", "alpha_test"), ("kl_balls", "rho")):
        found = [
            (label, entry, loss)
            for (label, metrics), loss in zip(results, losses, strict=True)
            for entry in metrics.get(kind, ())
            if "rho" in entry
        ]
        rows += [
            [label, str(round(float(entry["alpha_test"]), 2)), _number(entry, "rho")]
            + [_percent(entry, name) for name in ("A_sa", "A_worst")]
            + [_number(loss.get(level, {}), "loss") for level in levels]
            for label, entry, loss in sorted(found, key=lambda row: row[1][order])
        ]
    return header, rows


def tables(results: Sequence[tuple[str, Mapping[str, Any]]], *, markdown: bool = False) -> str:
    """Returns as text all that there is to print of results: accuracies, worst cases, and average budgets.

    Args:
        results: For each defence its label and its metrics in the form of metrics.json.
        markdown: Whether to write Markdown rather than plain text.

    Returns:
        Tables and sentences, joined by newlines.

    Example:
        >>> metrics = {"A_rob": 0.9559, "non_uniform": [{"alpha_test": 2.0, "A_sa": 0.5215, "A_tr": 0.5152}]}
        >>> print(tables([("TRADES", metrics)]))
        Defense  alpha_train  alpha_test  A_nat (%)  A_rob (%)  A_sa (%)  A_tr (%)
        -------  -----------  ----------  ---------  ---------  --------  --------
        TRADES             -         2.0          -      95.59     52.15     51.52
    """
    parts = [format_table(*comparison_table(results), markdown=markdown)]
    header, rows = worst_case_table(results)
    if rows:
        parts += [WORST_CASES, format_table(header, rows, markdown=markdown)]
    parts += [_average_budget(label, metrics["wasserstein"]) for label, metrics in results if "wasserstein" in metrics]
    return "\n\n".join(parts)


def plot_training(history: Mapping[str, Sequence[float]], path: str | PathLike[str], *, title: str = "") -> Figure:
    """Draws accuracy, clean and under attack, and the loss by epoch, and writes the picture as PNG.

    An epoch that was not evaluated (NaN) has no marker; the line goes on over it. Grey uprights mark the epochs before
    which the learning rate was cut.

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
            axes.vlines(cuts, 0, 1, transform=across, color=_GREY, linewidth=0.8, label="learning rate cut")
        axes.grid(alpha=0.25)
    accuracy.set(title=title, ylabel="accuracy", ylim=(0, 1.02))
    accuracy.yaxis.set_major_formatter(PercentFormatter(xmax=1))
    accuracy.legend(loc="best", fontsize="small", handlelength=3)
    loss.set(xlabel="epoch", ylabel="training loss", xlim=(0.5, len(history["loss"]) + 0.5))
    loss.xaxis.set_major_locator(MaxNLocator(integer=True))
    _write(figure, path)
    return figure


def plot_alpha(
    results: Sequence[tuple[str, Mapping[str, Any]]], path: str | PathLike[str], *, title: str = ""
) -> Figure:
    """Draws A_sa and A_tr of one or several models against alpha_test, and writes the picture as PNG.

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
    for (_, metrics), colour in zip(results, cycle(_COLOURS)):
        _draw_curve(axes, metrics, "A_sa", color=colour, marker="o")
        _draw_curve(axes, metrics, "A_tr", color=colour, marker="v", linestyle="--")
    models = [Line2D([], [], color=colour, label=label) for (label, _), colour in zip(results, cycle(_COLOURS))]
    kinds = [
        Line2D([], [], color=_GREY, marker="o", label=f"{_A_SA}: attacked, sampled by weight"),
        Line2D([], [], color=_GREY, marker="v", linestyle="--", label=f"{_A_TR}: attacked and sampled by weight"),
    ]
    axes.legend(handles=[*models, *kinds], loc="best", fontsize="small", handlelength=3)
    axes.set(title=title, ylabel="accuracy under attack")
    axes.set_xlabel(rf"power of the attacker, $\alpha_\mathrm{{test}}$ (0 gives {_A_ROB})")
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter(PercentFormatter(xmax=1))
    axes.grid(alpha=0.25)
    _write(figure, path)
    return figure


def plot_search(
    trials: Sequence[Mapping[str, Any]], path: str | PathLike[str], *, x: str, objective: str, title: str = ""
) -> Figure:
    """Draws what a search maximised, and below it the accuracies, against a searched setting; writes it as PNG.

    A star marks the trial of the highest objective.

    Args:
        trials: For each trial the setting under its name, "objective", "A_nat", "A_rob", "A_sa" and "A_tr".
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
    above.plot([best[x]], [best["objective"]], color=_COLOURS[1], marker="*", markersize=12, linestyle="none")
    for key, label, style in _ACCURACIES[:4]:
        values = [trial[key.removeprefix("val_")] for trial in trials]
        below.plot(settings, values, label=label, markersize=4, **{**style, "linestyle": "none"})
    above.set(title=title, ylabel=objective)
    below.set(xlabel=x, ylabel="accuracy", ylim=(0, 1.02))
    below.yaxis.set_major_formatter(PercentFormatter(xmax=1))
    below.legend(loc="best", fontsize="small")
    for axes in (above, below):
        axes.grid(alpha=0.25)
    _write(figure, path)
    return figure


def _row(label: str, metrics: Mapping[str, Any], entry: Mapping[str, Any]) -> list[str]:
    alpha_train = metrics.get("alpha_train")
    settings = [label, str(round(float(alpha_train), 4)) if alpha_train else "-", str(float(entry["alpha_test"]))]
    return settings + [
        _percent(*pair) for pair in ((metrics, "A_nat"), (metrics, "A_rob"), (entry, "A_sa"), (entry, "A_tr"))
    ]


def _average_budget(label: str, found: Mapping[str, Any]) -> str:
    reach = found["steps"] * found["step_size"]
    warning = f"\nWarning: it could move no image further than {reach:g}, steps * step_size, and more may do more harm."
    at_its_reach = found["largest_size"] >= reach * (1 - 1e-4)
    return (
        f"{label} under an {found['norm']} attacker with a budget on the average perturbation\n"
        f"(p {found['p']}, epsilon {found['epsilon']:g}, {found['steps']} steps of {found['step_size']:g}): "
        f"accuracy {_percent(found, 'accuracy')} %,\n"
        f"{found['mean_size']:.3f} of the budget used, largest perturbation {found['largest_size']:.3f}."
    ) + warning * at_its_reach


def _percent(values: Mapping[str, Any], key: str) -> str:
    return _number(values, key, scale=100, digits=2)


def _number(values: Mapping[str, Any], key: str, *, scale: int = 1, digits: int = 3) -> str:
    found = [scale * values[name] for name in (key, f"{key}_stderr") if name in values]
    return " ± ".join(f"{value:.{digits}f}" for value in found) or "-"


def _draw_by_epoch(axes: Axes, values: Sequence[float], **style: Any) -> None:
    known = [(epoch, value) for epoch, value in enumerate(values, 1) if not math.isnan(value)]
    if known:
        axes.plot(*zip(*known, strict=True), markersize=4, **style)


def _cuts(learning_rates: Sequence[float]) -> list[float]:
    """Returns where, in epochs, the learning rate fell: halfway to the first epoch of the lower rate."""
    return [epoch - 0.5 for epoch, (before, after) in enumerate(pairwise(learning_rates), 2) if after < before]


def _draw_curve(axes: Axes, metrics: Mapping[str, Any], key: str, **style: Any) -> None:
    entries = sorted(metrics["non_uniform"], key=lambda entry: entry["alpha_test"])
    points = [(0.0, metrics, "A_rob"), *((entry["alpha_test"], entry, key) for entry in entries)]
    alphas, values, errors = zip(
        *((alpha, where.get(name, math.nan), where.get(f"{name}_stderr", math.nan)) for alpha, where, name in points),
        strict=True,
    )
    axes.errorbar(alphas, values, yerr=errors, capsize=3, elinewidth=1, markersize=5, **style)


def _write(figure: Figure, path: str | PathLike[str]) -> None:
    # Without matplotlib's version inside, the same values give the same bytes.
    figure.savefig(path, format="png", metadata={"Software": None})
