"""Measure on validation images what each part of the fast recipe is worth: it is taken out, or put in.

python -m studies.ablation                       # the digits
python -m studies.ablation --dataset=mnist --seeds=2 --epochs=5 --data_dir=FOLDER     # results/ablation_mnist.md

Every row is TRADES with the same weights and the network of `reproduce`'s budgets, trained for the same number of
epochs, and judged once, after the last, by A_strong under the suite `strong`: A_sa alone can be won by low confidence,
and A_rob by hiding. Finished rows are kept in --runs, and one that was stopped goes on.
"""

import dataclasses
import shutil
import statistics
from pathlib import Path
from typing import Any, ClassVar

from reproduce.passes import DATA
from studies.runs import made_by, publish, spread
from studies.settings import PageByData
from trainers.cli import Command
from trainers.runs import run
from trainers.runs.folder import CHECKPOINTS
from trainers.runs.warming import warm_up
from trainers.settings.base import if_given, setting
from trainers.settings.config import Experiment
from trainers.settings.recipes import FAST
from wmr_tf import report
from wmr_tf.callbacks import ExactResume, RobustEvaluation
from wmr_tf.checks import at_least, nonnegative, one_of
from wmr_tf.report.tables import ACCURACIES
from wmr_tf.saving import read_json, write_json

ALPHA_TEST = 2.0

PARTS: dict[str, dict[str, Any]] = {
    "averaging": {"averaging": 0.99},
    "warm_start": {"warm_start": 8},
    "one_cycle": {"schedule": "one_cycle"},
    "cosine": {"schedule": "cosine"},
    "clip_norm": {"clip_norm": 1.0},
    "epsilon_warmup": {"epsilon_warmup": 0.2},
    "alpha_warmup": {"alpha_warmup": 0.2},
    "coarse": {"coarse": 0.7},
    "awp": {"awp": 0.005},
    "normalised weights": {"weighting": "exponential:normalize=true"},
    "twice the learning rate": {"learning_rate": 2.0},  # a factor
    "twice the batch": {"batch_size": 2},  # a factor
}
"""The parts by name. The recipe's own value of a part is used where it has one."""

FACTORS = ("learning_rate", "batch_size")

FEW_STEPS = ("attack_steps", "attack_step_size")
"""Where the recipe changes them, a row takes them back."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ablation(PageByData):
    """What is trained, and where it goes."""

    name: ClassVar[str] = "ablation"
    dataset: str = setting("Data set.", "digits", choices=DATA)
    seeds: int = setting("How many seeds, from 0.", 5)
    epochs: int | None = setting("Epochs of each row.", unset="the recipe's")
    alpha_train: float = setting("alpha_train of every row.", 2.0)
    runs: str = setting("Folder of the rows, finished ones are kept.", "runs/ablation")

    def __post_init__(self) -> None:
        one_of("dataset", self.dataset, DATA)
        super().__post_init__()
        at_least("seeds", self.seeds, 2)
        if_given(at_least, "epochs", self.epochs, 1)
        nonnegative("alpha_train", self.alpha_train)

    def use_threads(self) -> None:
        """Do so as the trainers do; see `Settings.use_threads`."""
        self.experiment().use_threads()

    def experiment(self, **changed: Any) -> Experiment:
        """Return the settings of a row, given what it changes of the recipe `fast`."""
        given = {"epochs": self.epochs, "data_dir": self.data_dir, "architecture": DATA[self.dataset].first[0]}
        given = {name: value for name, value in given.items() if value is not None}
        shared = {"alpha_train": self.alpha_train, "alpha_test": (ALPHA_TEST,), "validation_examples": None}
        return Experiment.of(self.dataset, "trades", **{"recipe": FAST, **shared, **given, **changed})


def rows(recipe: Experiment, plain: Experiment) -> dict[str, dict[str, Any]]:
    """Return by its name what each row changes in the recipe.

    Args:
        recipe: The fast recipe.
        plain: The paper's, which has no such parts.
    """
    found: dict[str, dict[str, Any]] = {"recipe fast": {}}
    for part, changed in PARTS.items():
        (name, value), *_ = changed.items()
        if name in FACTORS:
            found[f"+ {part}"] = {name: type(value)(getattr(recipe, name) * value)}
        elif getattr(recipe, name) == getattr(plain, name):
            found[f"+ {part}"] = changed
        elif name != "schedule" or getattr(recipe, name) == value:
            found[f"- {part}"] = {name: getattr(plain, name)}
        else:
            found[f"{part} instead of {getattr(recipe, name)}"] = changed
    if recipe.attack_steps != plain.attack_steps:
        found["- few steps"] = {name: getattr(plain, name) for name in FEW_STEPS}
    return found


def measure(experiment: Experiment, folder: Path, warm: Path) -> dict[str, float]:
    """Return the accuracies on validation images after the last epoch; a finished row is not trained again.

    Args:
        experiment: Its settings.
        folder: The row's own.
        warm: Where the warm start goes, which rows of the same one share.
    """
    file, wanted = folder / "validation.json", repr(experiment)
    if file.exists():
        kept = read_json(file, "row", fix="Delete the file: the row is made again.")
        if kept.pop("experiment") == wanted:
            return kept
        shutil.rmtree(folder)  # of other settings
    print(f"{folder}: {experiment.rounds} epochs", flush=True)
    run.seed_everything(experiment)
    splits = run.load_data(experiment)
    model = run.build_model(experiment, splits.train_examples)
    attack, alphas = experiment.test_attack(), experiment.alpha_test
    judge = RobustEvaluation(
        splits.validation, attack, alpha_test=alphas, examples=None, every=experiment.rounds, suite="strong"
    )
    resume = ExactResume(folder / CHECKPOINTS)
    warm_up(experiment, splits, model.classifier, warm, resume)
    callbacks = [*run.measuring_callbacks(experiment, judge), resume]
    history = model.fit(splits.train, epochs=experiment.rounds, callbacks=callbacks, verbose=0).history
    found = {name: history[f"val_{name}"][-1] for name in ACCURACIES}
    write_json(file, {"experiment": wanted, **found})
    return found


def table(study: Ablation) -> str:
    """Return the table, training what is missing: accuracies, and what a row loses or gains seed by seed."""
    recipe = study.experiment()
    changes = rows(recipe, study.experiment(recipe="paper", epochs=recipe.epochs))
    changes["recipe paper, as many epochs"] = {"recipe": "paper", "epochs": recipe.epochs}
    root = Path(study.runs) / study.dataset
    found: dict[str, list[dict[str, float]]] = {}
    for name, changed in changes.items():
        found[name] = []
        for seed in range(study.seeds):
            experiment = study.experiment(seed=seed, **changed)
            warm = root / f"warm-{experiment.warm_start}-{experiment.batch_size}-{seed}"
            found[name].append(measure(experiment, root / name.replace(" ", "_") / str(seed), warm))
    header = ["row", *(f"{name} (%)" for name in ACCURACIES), "difference of A_strong (points)"]
    return report.format_table(
        header,
        [
            [name, *(spread([of[key] for of in measured]) for key in ACCURACIES), _gain(measured, found["recipe fast"])]
            for name, measured in found.items()
        ],
        markdown=True,
    )


def _gain(measured: list[dict[str, float]], base: list[dict[str, float]]) -> str:
    """Return mean and standard error of the difference to the recipe, taken seed by seed."""
    gains = [100 * (of["A_strong"] - with_all["A_strong"]) for of, with_all in zip(measured, base, strict=True)]
    return f"{statistics.mean(gains):+.1f} ± {statistics.stdev(gains) / len(gains) ** 0.5:.1f}"


def make(study: Ablation) -> None:
    """Train, judge and write the table."""
    found, recipe = table(study), study.experiment()
    sections = [
        f"# The fast recipe on {study.dataset}, part by part",
        f"{made_by('studies.ablation')}, seeds 0 to {study.seeds - 1}. TRADES, alpha_train {study.alpha_train:g}, "
        f"{recipe.architecture}, {recipe.epochs} epochs, {recipe.precision}; all validation images, "
        f"{recipe.test_attack()}, alpha_test {ALPHA_TEST:g}, A_strong by the suite `strong`; weights after the last "
        "epoch. Mean ± standard deviation over seeds; the difference to the recipe with its standard error, seed by "
        "seed.",
        found,
    ]
    publish(sections, study.page)


if __name__ == "__main__":
    Command(Ablation, make)()
