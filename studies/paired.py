"""Several models, seed by seed: a table of them, one of their differences to a baseline, and the picture of these."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import scipy.stats
from matplotlib.figure import Figure

from studies.runs import spread
from wmr_tf import report
from wmr_tf.evaluation.statistics import CONFIDENCE, Seeds
from wmr_tf.report.figures import COLOURS, GREY, write_figure

Measured = Sequence[Mapping[str, Mapping[str, float]]]
"""For each seed the numbers of each model by name, as fractions of 1."""


def table(measured: Measured, baseline: str) -> str:
    """Return the Markdown table of the models, and that of their differences to the baseline.

    Args:
        measured: At least two seeds.
        baseline: The model that the others are compared with, seed by seed.
    """
    names = list(measured[0][baseline])
    header = ["model", *(f"{name} (%)" for name in names)]
    rows = [[model, *(spread([of[model][name] for of in measured]) for name in names)] for model in measured[0]]
    gains = [
        [model, *(_judged(*difference(measured, model, baseline, name), len(measured)) for name in names)]
        for model in measured[0]
        if model != baseline
    ]
    return (
        f"{report.format_table(header, rows, markdown=True)}\n\nDifferences to the {baseline} model, taken seed by "
        "seed: mean ± standard error; in bold those whose 95 % interval, by Student's t, is without 0.\n\n"
        f"{report.format_table(header, gains, markdown=True)}"
    )


def difference(measured: Measured, model: str, baseline: str, name: str) -> tuple[float, float]:
    """Return the mean difference of a model to the baseline over seeds, and its standard error."""
    found = Seeds.of([of[model][name] - of[baseline][name] for of in measured])
    return found.mean, found.deviation / math.sqrt(found.number)


def reach(error: float, seeds: int) -> float:
    """Return how far a 95 % interval by Student's t reaches to each side of a mean over seeds, given its error."""
    return float(scipy.stats.t.ppf((1 + CONFIDENCE) / 2, seeds - 1)) * error


def draw(measured: Mapping[str, Measured], baseline: str, names: Sequence[str], path: Path, *, title: str) -> None:
    """Draw differences to the baseline, with 95 % intervals.

    Args:
        measured: By group of models, which is a row of panels.
        baseline: The model that the others are compared with, seed by seed.
        names: The numbers, each a column of panels.
        path: The PNG file to write; PDF and SVG go beside it. Its folder exists.
        title: On what it was measured.
    """
    groups = list(measured.items())
    heights = [0.7 + 0.3 * len(of_seeds[0]) for _, of_seeds in groups]
    figure = Figure(figsize=(1.5 + 1.4 * len(names), 0.9 + sum(heights)), dpi=110, layout="constrained")
    grid = figure.subplots(len(groups), len(names), squeeze=False, sharey="row", height_ratios=heights)
    for line, (group, of_seeds) in zip(grid, groups, strict=True):
        models = [model for model in of_seeds[0] if model != baseline]
        for axes, name in zip(line, names, strict=True):
            found = [difference(of_seeds, model, baseline, name) for model in models]
            means, errors = ([100 * value for value in values] for values in zip(*found, strict=True))
            reaches = [reach(error, len(of_seeds)) for error in errors]
            axes.errorbar(means, models, xerr=reaches, fmt="o", color=COLOURS[0], capsize=2)
            axes.axvline(0, color=GREY, linewidth=1)
            axes.margins(x=0.12)
            axes.grid(alpha=0.25)
            axes.set_title(name, fontsize=9)
            axes.tick_params(labelsize=8)
        line[0].set_ylabel(group)
        line[0].set_ylim(len(models) - 0.5, -0.5)  # the first on top
    figure.suptitle(title, fontsize=10)
    seeds = len(groups[0][1])
    told = f"difference to the {baseline} model in points, mean over {seeds} seeds; bars: 95 % intervals"
    figure.supxlabel(told, fontsize=9)
    write_figure(figure, path)


def _judged(mean: float, error: float, seeds: int) -> str:
    text = f"{100 * mean:+.1f} ± {100 * error:.1f}"
    return f"**{text}**" if abs(mean) > reach(error, seeds) else text
