"""The paper's weighting against its rivals, and what is left of each once confidence is taken out.

python -m studies.weightings                     # the digits, half an hour on two cores
python -m studies.weightings --dataset=mnist     # results/weightings_mnist.md: a night

Trains TRADES and PGD with each weighting, seed by seed, and evaluates the weights of the last epoch; a finished run is
kept. Smaller logits alone raise A_sa and A_tr. What no temperature moves stands beside them: A_strong, the accuracy on
the images of smallest clean logit margin, the mean radius of the worst images, the worst class, and A_sa at the
confidence of the unweighted model. The row "tuned" is the unweighted model, its logits divided so that it is as
confident as the paper's: a defence that costs nothing.
"""

import dataclasses
import functools
from typing import ClassVar

from studies.judged import Judged, Numbers, metrics_in, numbers_of, with_confidence_of
from studies.paired import draw, table
from studies.rivals import PAPERS, ROWS, TUNED, UNWEIGHTED, Row
from studies.runs import made_by, publish
from trainers.cli import Command
from trainers.settings.base import setting
from wmr_tf.checks import one_of

SHOWN = ("A_nat", "A_sa", "A_tr", "A_strong", "A_sa matched", "budget 50 %", "radius worst 5 %")
"""What the picture shows: A_nat, what confidence moves, and what it does not."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Weightings(Judged):
    """Which weightings."""

    name: ClassVar[str] = "weightings"
    methods: tuple[str, ...] = setting("Training methods.", tuple(ROWS), choices=ROWS)
    rows: tuple[str, ...] | None = setting("Rivals beside the unweighted model and the paper's.", unset="all")

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in self.methods:
            one_of("methods", name, ROWS)
        for name in self.rows or ():
            one_of("rows", name, ROWS["trades"])

    def rows_of(self, method: str) -> dict[str, Row]:
        """Return what a method is trained with."""
        return {
            name: row
            for name, row in ROWS[method].items()
            if name in (UNWEIGHTED, PAPERS) or self.rows is None or name in self.rows
        }


def measured(study: Weightings, method: str, seed: int) -> dict[str, Numbers]:
    """Return the numbers of every row of a method with one seed."""
    folders = {name: study.trained(method, name, row, seed) for name, row in study.rows_of(method).items()}
    experiment = study.experiment(method, seed)
    top = metrics_in(folders[PAPERS])["top"]
    make = functools.partial(with_confidence_of, folders[UNWEIGHTED], experiment, top)
    folders[TUNED] = study.measured(TUNED, experiment, make, {"top": top})
    return numbers_of(folders, UNWEIGHTED)


def compare(study: Weightings) -> None:
    """Train, evaluate and write the tables and the picture."""
    found: dict[str, list[dict[str, Numbers]]] = {method: [] for method in study.methods}
    for seed in study.all_seeds:
        for method in found:
            found[method].append(measured(study, method, seed))
    picture = study.page.with_suffix(".png")
    draw({method.upper(): of for method, of in found.items()}, UNWEIGHTED, SHOWN, picture, title=study.title())
    alphas = ", ".join(f"{study.experiment(method, 0).alpha_train:g} in {method.upper()}" for method in study.methods)
    head = (
        f"# Weightings\n\n{made_by('studies.weightings')}, {study.how()} The paper's alpha: {alphas}.\n\n"
        f"![Differences to the unweighted model]({picture.name})"
    )
    sections = [f"## {method.upper()}\n\n{table(of, UNWEIGHTED)}" for method, of in found.items()]
    publish([head, *sections], study.page)


if __name__ == "__main__":
    Command(Weightings, compare)()
