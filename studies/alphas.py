"""Which alpha_train? What grows with it, what falls, and what confidence alone would have done.

python -m studies.alphas                         # the digits
python -m studies.alphas --dataset=mnist         # results/alphas_mnist.md: a night

Trains TRADES or PGD with the paper's weighting at each alpha, seed by seed, and evaluates the weights of the last
epoch; a finished run is kept, and the models of `studies.weightings` are taken where they are the same. Beside each
stands the unweighted model, its logits divided so that it is as confident as the weighted one ("tuned"): what an alpha
gains over that is the weights' own.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from studies.judged import Judged, Numbers, metrics_in, numbers_of, with_confidence_of
from studies.paired import difference, reach, table
from studies.rivals import PAPERS, ROWS, TUNED, UNWEIGHTED, Row
from studies.runs import made_by, publish
from trainers.cli import Command
from trainers.settings.base import setting
from wmr_tf.checks import one_of, positive, require
from wmr_tf.evaluation.statistics import Seeds
from wmr_tf.report.figures import COLOURS, GREY, write_figure
from wmr_tf.weights import Exponential

PANELS = {
    "confidence moves": ("A_sa", "A_tr", "top probability"),
    "confidence does not move": ("A_nat", "A_strong", "budget 50 %", "worst class"),
}
"""What the picture shows against alpha."""

BELOW: dict[str, Any] = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.16), "ncols": 2, "frameon": False}
"""Where a panel's legend stands: no line runs there."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Alphas(Judged):
    """Which alphas."""

    name: ClassVar[str] = "alphas"
    method: str = setting("Training method.", "trades", choices=ROWS)
    alphas: tuple[float, ...] = setting("alpha_train of each row beside 0, rising, with commas.", (0.5, 1.0, 2.0, 3.0))

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of("method", self.method, ROWS)
        for alpha in self.alphas:
            positive("alphas", alpha)
        is_rising = bool(self.alphas) and list(self.alphas) == sorted(set(self.alphas))
        require(is_rising, "alphas", got=self.alphas, expected="rising numbers", fix="Write --alphas=0.5,1,2.")


def measured(study: Alphas, seed: int) -> dict[str, Numbers]:
    """Return the numbers with one seed: unweighted, then each alpha, and the unweighted model as confident as that."""
    experiment = study.experiment(study.method, seed)
    folders = {UNWEIGHTED: study.trained(study.method, UNWEIGHTED, ROWS[study.method][UNWEIGHTED], seed)}
    for alpha in study.alphas:
        is_papers = alpha == experiment.alpha_train  # whose models `studies.weightings` has too
        row = Row(functools.partial(_exponential, alpha))
        folder = study.trained(study.method, PAPERS if is_papers else weighted(alpha), row, seed)
        top = metrics_in(folder)["top"]
        make = functools.partial(with_confidence_of, folders[UNWEIGHTED], experiment, top)
        folders[weighted(alpha)] = folder
        folders[tuned(alpha)] = study.measured(TUNED if is_papers else tuned(alpha), experiment, make, {"top": top})
    return numbers_of(folders, UNWEIGHTED)


def _exponential(alpha: float, recipes: float) -> Exponential:
    """Return the weighting of a row, whatever the recipe's alpha is."""
    del recipes
    return Exponential(alpha)


def weighted(alpha: float) -> str:
    """Return the name of the row of an alpha."""
    return f"alpha {alpha:g}"


def tuned(alpha: float) -> str:
    """Return the name of the unweighted model that is as confident as that of an alpha."""
    return f"{TUNED} to alpha {alpha:g}"


def draw(found: Sequence[Mapping[str, Numbers]], alphas: Sequence[float], path: Path, *, title: str) -> None:
    """Draw each number against alpha, the tuned model's dashed, and what the weights gain over it.

    Args:
        found: For each seed the numbers of each row by name.
        alphas: The rows' alphas, 0 among them.
        path: The picture to write; its folder exists.
        title: On what it was measured.
    """
    figure = Figure(figsize=(11.0, 4.2), dpi=130, layout="constrained")
    panels = figure.subplots(1, len(PANELS) + 1)
    for axes, (group, names) in zip(panels, PANELS.items(), strict=False):
        for name, colour in zip(names, COLOURS, strict=False):
            _line(axes, found, alphas, weighted, name, color=colour, marker="o", label=name)
            _line(axes, found, alphas, tuned, name, color=colour, linestyle="--", linewidth=0.9)
        axes.set(title=f"what {group}", ylabel="percent", ylim=(-3, 105))
        axes.legend(**BELOW)
    gains, above = panels[-1], [alpha for alpha in alphas if alpha]
    for place, (name, colour) in enumerate(zip(("A_sa", "A_strong", "budget 50 %"), COLOURS, strict=False)):
        differences = [difference(found, weighted(alpha), tuned(alpha), name) for alpha in above]
        means, errors = ([100 * value for value in values] for values in zip(*differences, strict=True))
        places = [alpha + 0.04 * (place - 1) for alpha in above]
        reaches = [reach(error, len(found)) for error in errors]
        gains.errorbar(places, means, yerr=reaches, color=colour, marker="o", capsize=3, label=name)
    gains.axhline(0, color=GREY, linewidth=1)
    gains.set(title="weights minus tuned", ylabel="points, with 95 % intervals")
    gains.legend(**BELOW)
    for axes in panels:
        axes.set_xlabel("alpha_train")
        axes.grid(alpha=0.25)
    explained = (
        "Solid: trained with weights, bars one standard deviation over seeds. Dashed: unweighted, logits divided"
    )
    figure.suptitle(f"{title}\n{explained} to the same confidence.", fontsize="small")
    write_figure(figure, path)


def _line(
    axes: Axes,
    found: Sequence[Mapping[str, Numbers]],
    alphas: Sequence[float],
    row: Callable[[float], str],
    name: str,
    **style: Any,
) -> None:
    """Draw a number against alpha, with bars of one standard deviation over seeds where there are markers."""
    of_alpha = [Seeds.of([of[row(alpha) if alpha else UNWEIGHTED][name] for of in found]) for alpha in alphas]
    means, spreads = [100 * of.mean for of in of_alpha], [100 * of.deviation for of in of_alpha]
    axes.errorbar(alphas, means, yerr=spreads if "marker" in style else None, capsize=2, markersize=4, **style)


def compare(study: Alphas) -> None:
    """Train, evaluate and write the table and the picture."""
    found = [measured(study, seed) for seed in study.all_seeds]
    picture = study.page.with_suffix(".png")
    draw(found, [0.0, *study.alphas], picture, title=study.title())
    head = (
        f"# Which alpha_train?\n\n{made_by('studies.alphas')}, {study.method.upper()}, {study.how()}\n\n"
        f"![Accuracies against alpha_train]({picture.name})"
    )
    publish([head, table(found, UNWEIGHTED)], study.page)


if __name__ == "__main__":
    Command(Alphas, compare)()
