"""Measure whether training in bfloat16 costs robustness, and how an attack in bfloat16 changes an evaluation.

python -m studies.precision --output=results/precision.md
python -m studies.precision --data_dir=FOLDER ...     # with MNIST from a folder that tensorflow-datasets prepared

Trains weighted TRADES with one recipe in both precisions, on the digits over seeds and on MNIST once, and evaluates
every classifier twice, attacked in float32 and in bfloat16 (scored in float32 both times). Finished runs are kept: a
study that was stopped resumes.
"""

import dataclasses
import statistics
from pathlib import Path

import numpy as np

from studies.runs import at_alpha, made_by, publish, spread, trained
from studies.settings import DataStudy
from trainers.cli import Command
from trainers.runs import run
from trainers.runs.folder import BEST
from trainers.runs.testing import first_images
from trainers.settings.base import setting
from trainers.settings.config import Experiment
from wmr_tf import report
from wmr_tf.checks import at_least
from wmr_tf.evaluation import Robustness, evaluate_robustness
from wmr_tf.report.tables import ACCURACIES
from wmr_tf.saving import load_classifier

PRECISIONS = ("float32", "bfloat16")
ALPHA_TEST = 2.0
MNIST = {"epochs": 3, "attack_steps": 10, "attack_step_size": 0.05, "learning_rate": 0.02, "eval_examples": 2000}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Precision(DataStudy):
    """How many seeds, and where the runs go."""

    seeds: int = setting("How many seeds on the digits, from 0.", 5)
    runs: str = setting("Folder of the runs, finished ones are kept.", "runs/precision")
    output: str = setting("The tables, as Markdown.", "results/precision.md")

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least("seeds", self.seeds, 2)

    def folder_of(self, made: Experiment) -> Path:
        """Return the folder of a run."""
        return Path(self.runs) / f"{made.dataset}-{made.precision}-{made.seed}"


def experiment(dataset: str, precision: str, seed: int, **changes: object) -> Experiment:
    """Return weighted TRADES on a data set in a precision."""
    settings = {"precision": precision, "seed": seed, "alpha_test": (ALPHA_TEST,)}
    return Experiment.of(dataset, "trades", **settings, **changes)


def attacked(study: Precision, trained_as: Experiment) -> dict[str, Robustness]:
    """Return the evaluation of a trained classifier by the precision of the attack."""
    classifier = load_classifier(study.folder_of(trained_as) / BEST)
    test = run.load_data(dataclasses.replace(trained_as, precision="float32")).test
    test = first_images(test, trained_as.eval_examples)
    return {
        precision: evaluate_robustness(
            classifier,
            test,
            trained_as.test_attack(),
            alpha_test=[ALPHA_TEST],
            seed=trained_as.seed,
            attack_precision=precision,
            verbose=0,
        )
        for precision in PRECISIONS
    }


def training_table(study: Precision, experiments: dict[str, list[Experiment]]) -> str:
    """Return the accuracies by the precision of training; mean and standard deviation where there are seeds."""
    found = {
        name: [at_alpha(trained(each, study.folder_of(each)), ALPHA_TEST) for each in several]
        for name, several in experiments.items()
    }
    header = ["trained in", *(f"{name} (%)" for name in ACCURACIES)]
    rows = [
        [precision, *(shown([of[name] for of in several]) for name in ACCURACIES)]
        for precision, several in found.items()
    ]
    pairs = list(zip(found["bfloat16"], found["float32"], strict=True))
    rows.append(["difference", *(shown([half[name] - full[name] for half, full in pairs]) for name in ACCURACIES)])
    return report.format_table(header, rows, markdown=True)


def attack_table(study: Precision, experiments: list[Experiment]) -> str:
    """Return what the attack's precision changes on the same classifiers."""
    found = [attacked(study, each) for each in experiments]
    accuracies = {
        precision: [at_alpha(of[precision].metrics(), ALPHA_TEST) for of in found] for precision in PRECISIONS
    }
    header = ["attacked in", *(f"{name} (%)" for name in ACCURACIES[1:])]
    rows = [
        [name, *(shown([of[key] for of in several]) for key in ACCURACIES[1:])] for name, several in accuracies.items()
    ]
    moved = np.concatenate([np.abs(of["float32"].margins - of["bfloat16"].margins) for of in found])
    flipped = [np.mean((of["float32"].margins > 0) != (of["bfloat16"].margins > 0)) for of in found]
    return (
        report.format_table(header, rows, markdown=True)
        + f"\n\nThe attacked margin of an image moves by {moved.mean():.4f} in the mean, by "
        f"{moved.max():.3f} at most; {statistics.mean(map(float, flipped)):.2%} of "
        "the images are correct under one attack and wrong under the other."
    )


def shown(values: list[float]) -> str:
    """Return mean and standard deviation in percent, or the one value there is."""
    return spread(values) if len(values) > 1 else f"{100 * values[0]:.1f}"


def compare(study: Precision) -> None:
    """Train, evaluate and write the tables."""
    digits = {name: [experiment("digits", name, seed) for seed in range(study.seeds)] for name in PRECISIONS}
    mnist = {name: [experiment("mnist", name, 0, data_dir=study.data_dir, **MNIST)] for name in PRECISIONS}
    settings = ", ".join(f"{name} {value}" for name, value in MNIST.items())
    sections = [
        f"# Precision\n\n{made_by('studies.precision')}. Weighted TRADES, alpha_train and alpha_test "
        f"{ALPHA_TEST:g}. A table pairs one recipe, or one classifier, in float32 and in bfloat16; scores are float32.",
        f"## Training: digits, seeds 0 to {study.seeds - 1}, all 599 test images\n\n{training_table(study, digits)}",
        f"## Training: MNIST, seed 0, {settings}\n\n{training_table(study, mnist)}",
        f"## The attack of an evaluation: the digits' classifiers\n\n{attack_table(study, sum(digits.values(), []))}",
        f"## The attack of an evaluation: the MNIST classifiers\n\n{attack_table(study, sum(mnist.values(), []))}",
    ]
    publish(sections, study.page)


if __name__ == "__main__":
    Command(Precision, compare)()
