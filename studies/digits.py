"""Measure the effect of the weights on the digits over several seeds, as trained and at equal confidence.

python -m studies.digits --seeds=5 --output=results/digits.md

Trains natural, TRADES and weighted TRADES for each seed (a finished run of the same settings is kept, any other run in
its folder is replaced). Then evaluates weighted TRADES again at the mean top probability that TRADES has on clean
validation images, since smaller logits alone raise A_sa.
"""

import dataclasses
from pathlib import Path

from studies.runs import at_alpha, made_by, publish, spread, trained
from studies.settings import Study
from trainers.cli import Command
from trainers.comparison.matching import confidence, with_confidence
from trainers.runs.folder import BEST
from trainers.settings.base import setting
from trainers.settings.config import Experiment
from wmr_tf import data, report
from wmr_tf.checks import at_least
from wmr_tf.evaluation import evaluate_robustness
from wmr_tf.report.tables import ACCURACIES
from wmr_tf.saving import load_classifier

ALPHA_TEST = 2.0
DEFENCES = {"natural": ("natural", 0.0), "TRADES": ("trades", 0.0), "TRADES+weights": ("trades", 2.0)}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Digits(Study):
    """How many seeds, and where the runs go."""

    seeds: int = setting("How many seeds, from 0.", 5)
    runs: str = setting("Folder of the runs, finished ones are kept.", "runs/digits_seeds")
    output: str = setting("The table, as Markdown.", "results/digits.md")

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least("seeds", self.seeds, 2)


def measure(runs: Path, seed: int, splits: data.Splits) -> dict[str, dict[str, float]]:
    """Return for each defence its numbers as trained, and for the TRADES models at equal confidence."""
    measured = {}
    classifiers = {}
    for defence, (method, alpha) in DEFENCES.items():
        folder = runs / f"{defence}-{seed}"
        experiment = Experiment.of("digits", method, alpha_train=alpha, seed=seed)
        metrics = trained(experiment, folder)
        classifiers[defence] = load_classifier(folder / BEST)
        measured[defence] = {"top": confidence(classifiers[defence], splits), **at_alpha(metrics, ALPHA_TEST)}
    result = evaluate_robustness(
        with_confidence(classifiers["TRADES+weights"], splits, measured["TRADES"]["top"]),
        splits.test,
        Experiment.of("digits").test_attack(),
        alpha_test=[ALPHA_TEST],
        seed=seed,
    )
    measured["TRADES+weights, confidence of TRADES"] = {
        "top": measured["TRADES"]["top"],
        **at_alpha(result.metrics(), ALPHA_TEST),
    }
    return measured


def tables(measured: list[dict[str, dict[str, float]]]) -> str:
    """Return the table of the defences, and that of the differences to TRADES, seed by seed."""
    header = ["Defense", *(f"{name} (%)" for name in ACCURACIES), "mean top probability (%)"]
    rows = [
        [defence, *(spread([of[defence][name] for of in measured]) for name in [*ACCURACIES, "top"])]
        for defence in measured[0]
    ]
    gains = [
        [
            f"{weighted} - TRADES",
            *(spread([of[weighted][name] - of["TRADES"][name] for of in measured]) for name in ACCURACIES),
        ]
        for weighted in measured[0]
        if weighted.startswith("TRADES+weights")
    ]
    return (
        report.format_table(header, rows, markdown=True)
        + "\n\nDifferences, taken seed by seed:\n\n"
        + report.format_table(header[:-1], gains, markdown=True)
    )


def compare(study: Digits) -> None:
    """Train, evaluate and write the table."""
    splits = data.load("digits")
    measured = [measure(Path(study.runs), seed, splits) for seed in range(study.seeds)]
    attack = Experiment.of("digits").test_attack()
    sections = [
        f"# The digits over {study.seeds} seeds",
        f"{made_by('studies.digits')}, seeds 0 to {study.seeds - 1}. All 599 test images, {attack}, "
        f"alpha_test {ALPHA_TEST:g}; mean ± standard deviation over seeds.",
        tables(measured),
    ]
    publish(sections, study.page)


if __name__ == "__main__":
    Command(Digits, compare)()
