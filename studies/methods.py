"""Train with every method, unweighted and weighted: on the digits over seeds, on MNIST all for the same time.

python -m studies.methods --data_dir=FOLDER --output=results/methods.md     # about 50 minutes on 2 cores

On the digits each method trains by its recipe. On MNIST each trains for the same processor time, attacks of ten steps
where the recipe has forty, and one learning rate for all, which drops at 60 and 85 % of the time. Finished runs are
kept in --runs: a study that was stopped resumes there, and an MNIST run that was cut starts again.
"""

import dataclasses
import statistics
import time
from pathlib import Path
from typing import Any

import keras

from studies.runs import at_alpha, made_by, publish, spread, trained
from studies.settings import DataStudy
from trainers.cli import Command
from trainers.runs import run
from trainers.runs.testing import first_images
from trainers.settings.base import setting
from trainers.settings.config import Experiment
from wmr_tf import methods, report
from wmr_tf.checks import at_least, positive
from wmr_tf.evaluation import evaluate_robustness
from wmr_tf.report.tables import ACCURACIES
from wmr_tf.saving import read_json, save_classifier, write_json

ALPHA = 1.0
BATCH = 128
LEARNING_RATE = 0.02
DROPS = (0.60, 0.85)
EPOCHS = 3  # about what the time allows; only the warm-up of iaat's radii is a fraction of them
SHORT_ATTACK = {"attack_steps": 10, "attack_step_size": 0.05}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Methods(DataStudy):
    """How long is trained, and on how many images it is judged."""

    seeds: int = setting("How many seeds on the digits, from 0.", 3)
    seconds: float = setting("Processor time for each method's training on MNIST.", 120.0)
    eval_examples: int = setting("How many MNIST test images to attack.", 1000)
    runs: str = setting("Folder of the runs, finished ones are kept.", "runs/methods")
    output: str = setting("The tables, as Markdown.", "results/methods.md")

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least("seeds", self.seeds, 2)
        positive("seconds", self.seconds)
        at_least("eval_examples", self.eval_examples, 1)


class TrainFor(keras.callbacks.Callback):
    """Stops training after a given processor time, and lowers the learning rate on the way.

    The time starts after the first step, in which the graph is traced. It is the processor time of this process, so
    that other work on the machine takes nothing from a method.

    Args:
        seconds: Processor time, of all cores together.
    """

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds = seconds
        self.start: float | None = None
        self.images = 0

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Lower the learning rate, and stop when the time is over."""
        self.start = self.start or time.process_time()
        self.images += BATCH
        passed = (time.process_time() - self.start) / self.seconds
        self.model.optimizer.learning_rate = LEARNING_RATE * 0.1 ** sum(passed >= drop for drop in DROPS)
        self.model.stop_training = passed >= 1


def variants() -> list[tuple[str, float]]:
    """Return each method with the alphas that it is trained with."""
    weighted = [name for name in methods.BY_NAME if name != "natural"]
    return [("natural", 0.0), *((name, alpha) for name in weighted for alpha in (0.0, ALPHA))]


def on_digits(study: Methods, method: str, alpha: float) -> list[dict[str, float]]:
    """Return what a method reaches on the digits, seed by seed."""
    found = []
    for seed in range(study.seeds):
        folder = Path(study.runs) / f"digits-{method}-{alpha:g}-{seed}"
        settings = {"alpha_train": alpha, "alpha_test": (ALPHA,), "seed": seed}
        metrics = trained(Experiment.of("digits", method, **settings), folder)
        found.append({**at_alpha(metrics, ALPHA), "seconds": metrics["seconds"]})
    return found


def on_mnist(study: Methods, method: str, alpha: float) -> dict[str, float]:
    """Return what a method reaches on MNIST in the time that all have."""
    file = Path(study.runs) / f"mnist-{method}-{alpha:g}" / "result.json"
    wanted = {"seconds": study.seconds, "examples": study.eval_examples}
    if file.exists():
        result = read_json(file, "run", fix="Delete the file: the run is made again.")
        if {name: result[name] for name in wanted} == wanted:
            return result
    print(f"MNIST: {method}, alpha {alpha:g}", flush=True)
    recipe = mnist_recipe(study, method, alpha)
    run.seed_everything(recipe)
    splits = run.load_data(recipe)
    assert splits.train_examples is not None  # which `data.load` sets
    model = run.build_model(recipe, splits.train_examples)
    clock = TrainFor(study.seconds)
    model.fit(splits.train, epochs=1000, callbacks=[clock], verbose=2)
    test = first_images(splits.test, study.eval_examples)
    measured = evaluate_robustness(model.classifier, test, recipe.test_attack(), alpha_test=[ALPHA])
    result = {**wanted, "epochs": clock.images / splits.train_examples, **at_alpha(measured.metrics(), ALPHA)}
    file.parent.mkdir(parents=True, exist_ok=True)
    save_classifier(model.classifier, file.parent / "classifier.keras")
    write_json(file, result)  # last, so that a run that was cut is no result
    return result


def mnist_recipe(study: Methods, method: str, alpha: float) -> Experiment:
    """Return the recipe of a method, with what all methods share here and a shorter attack where it is long."""
    shared: dict[str, Any] = {"alpha_train": alpha, "alpha_test": (ALPHA,), "precision": "auto", "batch_size": BATCH}
    shared |= {"data_dir": study.data_dir, "eval_examples": study.eval_examples, "learning_rate": LEARNING_RATE}
    shared |= {"epochs": EPOCHS}
    recipe = Experiment.of("mnist", method, **shared)
    is_long = recipe.attack_steps is not None and recipe.attack_steps > SHORT_ATTACK["attack_steps"]
    return Experiment.of("mnist", method, **shared, **SHORT_ATTACK) if is_long else recipe


def tables(study: Methods) -> tuple[str, str]:
    """Return the table of the digits and that of MNIST, training what is missing."""
    header = ["method", "alpha_train", *(f"{name} (%)" for name in ACCURACIES)]
    digits, mnist = [], []
    for method, alpha in variants():
        found = on_digits(study, method, alpha)
        seconds = f"{statistics.mean(of['seconds'] for of in found):.0f}"
        digits.append([method, f"{alpha:g}", *(spread([of[name] for of in found]) for name in ACCURACIES), seconds])
    for method, alpha in variants():
        result = on_mnist(study, method, alpha)
        mnist.append(
            [method, f"{alpha:g}", *(f"{100 * result[name]:.1f}" for name in ACCURACIES), f"{result['epochs']:.2f}"]
        )
    return (
        report.format_table([*header, "seconds a run"], digits, markdown=True),
        report.format_table([*header, "epochs"], mnist, markdown=True),
    )


def compare(study: Methods) -> None:
    """Train, evaluate and write the tables."""
    digits, mnist = tables(study)
    sections = [
        f"# The training methods\n\n{made_by('studies.methods')}. alpha_test {ALPHA:g}; test attacks as in the "
        f"recipes: {Experiment.of('digits').test_attack()} on the digits, {Experiment.of('mnist').test_attack()} on "
        "MNIST, in float32.",
        f"## Digits\n\nEach method by its recipe, seeds 0 to {study.seeds - 1}, all 599 test images, best epoch by "
        f"{Experiment.of('digits').select}; mean ± standard deviation over seeds. Seconds are those of the whole run "
        "with its evaluations.\n\n"
        f"{digits}",
        f"## MNIST, {study.seconds:g} seconds of processor time for each\n\nOn two cores it is half as long. Seed 0, "
        f"first {study.eval_examples} test images, "
        f"the weights at the end; --precision=auto, learning rate {LEARNING_RATE} for all, batch {BATCH}, attacks of "
        f"{SHORT_ATTACK['attack_steps']} steps of {SHORT_ATTACK['attack_step_size']} where the recipe has more. Epochs "
        f"are passes over the 55,000 images, without the replays of free.\n\n{mnist}",
    ]
    publish(sections, study.page)


if __name__ == "__main__":
    Command(Methods, compare)()
