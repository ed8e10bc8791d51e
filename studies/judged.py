"""Models that a study trains briefly, seed by seed, and judges by what confidence moves and by what it does not."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import keras

import wmr_tf
from studies.rivals import Row, WarmUp
from studies.settings import PageByData
from trainers.comparison.matching import confidence, with_confidence
from trainers.runs import run
from trainers.runs.folder import CHECKPOINTS, IMAGES, METRICS
from trainers.runs.images import Images
from trainers.runs.naming import shown_attack
from trainers.runs.scheduling import LearningRateByBatch
from trainers.runs.testing import first_images
from trainers.runs.warming import warm_up
from trainers.settings.base import if_given, setting
from trainers.settings.config import Experiment
from trainers.settings.recipes import FAST
from wmr_tf.callbacks import ExactResume
from wmr_tf.checks import at_least, one_of
from wmr_tf.evaluation import evaluate_robustness
from wmr_tf.evaluation.records import save_images
from wmr_tf.evaluation.weighted import weighted_accuracy
from wmr_tf.names import RADII
from wmr_tf.saving import load_classifier, read_json, save_classifier, write_json

ALPHA_TEST = 2.0


@dataclasses.dataclass(frozen=True)
class Short:
    """How models of a data set are trained in short time, and judged.

    Attributes:
        changes: Of the recipes: a training takes a minute, on MNIST five with its warm start, which rows share.
        seeds: How many.
        images: Test images, the first ones; all if None. A model of MNIST is attacked as long as it was trained.
    """

    changes: Mapping[str, Any]
    seeds: int
    images: int | None = None


SHORT = {
    "digits": Short({"epochs": 12}, seeds=5),
    "mnist": Short({"recipe": FAST, "epochs": 5, "precision": "auto"}, seeds=2, images=2000),
}

Numbers = Mapping[str, float]
CLASSIFIER = "classifier.keras"
_FIX = "Delete the folder: the run is made again."


@dataclasses.dataclass(frozen=True, kw_only=True)
class Judged(PageByData):
    """Which models, and how they are judged."""

    dataset: str = setting("Data set.", "digits", choices=SHORT)
    seeds: int | None = setting("How many seeds, from 0.", unset="5 on the digits, 2 on MNIST")
    radii: str = setting("How radii are measured.", "fab", choices=RADII)
    eval_examples: int | None = setting(
        "How many test images, the first ones.", unset="all of the digits, 2,000 of MNIST"
    )
    runs: str = setting("Folder of the runs, finished ones are kept.", "runs/weightings")

    def __post_init__(self) -> None:
        one_of("dataset", self.dataset, SHORT)
        super().__post_init__()
        if_given(at_least, "seeds", self.seeds, 2)
        one_of("radii", self.radii, RADII)
        if_given(at_least, "eval_examples", self.eval_examples, 1)

    def use_threads(self) -> None:
        """Give each core its own part of a batch; neither network has BatchNorm. See `Settings.use_threads`."""
        wmr_tf.use_all_cores()

    @property
    def all_seeds(self) -> range:
        """The seeds."""
        return range(self.seeds or SHORT[self.dataset].seeds)

    @property
    def images(self) -> int | None:
        """How many test images; None are all."""
        return self.eval_examples or SHORT[self.dataset].images

    def experiment(self, method: str, seed: int) -> Experiment:
        """Return the recipe of a run, shortened."""
        given: dict[str, Any] = {**SHORT[self.dataset].changes, "seed": seed, "data_dir": self.data_dir}
        return Experiment.of(self.dataset, method, eval_examples=self.images, **given)

    def how(self) -> str:
        """Return what was measured how, for the head of a page."""
        shown = {**SHORT[self.dataset].changes, "precision": self.experiment("pgd", 0).precision}
        changed = ", ".join(f"{name} {value}" for name, value in shown.items())
        return (
            f"seeds 0 to {self.all_seeds[-1]}. {self.dataset}, the recipes with {changed}; the last epoch. alpha_test "
            f"{ALPHA_TEST:g}; {self.experiment('pgd', 0).test_attack()} and the suite strong, radii by {self.radii}. "
            "Radii are in percent of the images' range, the rest in percent. Mean ± standard deviation over seeds."
        )

    def title(self) -> str:
        """Return on which images models are measured, and by which attack, for a picture."""
        experiment = self.experiment("pgd", 0)
        images = "all" if self.images is None else f"{self.images:,}"
        attack = shown_attack(experiment.test_attack().describe())
        return f"{self.dataset}, {images} test images, {attack}, alpha_test {ALPHA_TEST:g}"

    def trained(self, method: str, name: str, row: Row, seed: int) -> Path:
        """Return the folder of a row's model and its evaluation."""
        experiment = self.experiment(method, seed)
        weighting = row.weighting(experiment.alpha_train)
        warm = Path(self.runs) / f"{self.dataset}-warm-{seed}"
        make = functools.partial(_trained, experiment, row, warm, self.folder(name, experiment) / CHECKPOINTS)
        return self.measured(name, experiment, make, {"weighting": weighting, "warmup": row.warmup})

    def folder(self, name: str, experiment: Experiment) -> Path:
        """Return the folder of a model."""
        stem = f"{experiment.dataset}-{experiment.method}-{name}-{experiment.seed}"
        return Path(self.runs) / stem.replace(" ", "_")

    def measured(
        self, name: str, experiment: Experiment, make: Callable[[], keras.Model], wanted: Mapping[str, Any]
    ) -> Path:
        """Return the folder with the evaluation of a model, made unless it is there with what is wanted of it."""
        folder = self.folder(name, experiment)
        file = folder / METRICS
        known = {**wanted, "experiment": dataclasses.asdict(experiment), "radii": self.radii}
        known = {key: repr(value) for key, value in known.items()}
        if file.exists() and metrics_in(folder)["wanted"] == known:
            return folder
        print(f"{experiment.dataset}, {experiment.method}, seed {experiment.seed}: {name}", flush=True)
        classifier = make()
        folder.mkdir(parents=True, exist_ok=True)
        save_classifier(classifier, folder / CLASSIFIER)
        splits = run.load_data(experiment)
        found = evaluate_robustness(
            classifier,
            first_images(splits.test, experiment.eval_examples),
            experiment.test_attack(),
            alpha_test=ALPHA_TEST,
            seed=experiment.seed,
            verbose=0,
            radii=self.radii,
        )
        save_images(found, folder / IMAGES)
        top = confidence(classifier, splits)
        write_json(file, {"wanted": known, "top": top, **found.metrics()})  # last: it is done
        return folder


def metrics_in(folder: Path) -> dict[str, Any]:
    """Return what is known of a model, "top" its confidence on validation images."""
    return read_json(folder / METRICS, "run", fix=_FIX)


def with_confidence_of(folder: Path, experiment: Experiment, top: float) -> keras.Model:
    """Return a trained model, its logits divided until its mean top probability on validation images is `top`."""
    return with_confidence(load_classifier(folder / CLASSIFIER), run.load_data(experiment), top)


def numbers_of(folders: Mapping[str, Path], baseline: str) -> dict[str, Numbers]:
    """Return the numbers of models by name, A_sa also at the confidence of the baseline on clean images."""
    confident = metrics_in(folders[baseline])["confidence"]["top_probability"]
    return {name: _numbers(folder, confident) for name, folder in folders.items()}


def _trained(experiment: Experiment, row: Row, warm: Path, checkpoints: Path) -> keras.Model:
    """Return a classifier after the last epoch; all rows of a seed share its warm start, which is not weighted.

    A training that was stopped goes on from its checkpoints.
    """
    run.seed_everything(experiment)
    splits = run.load_data(experiment)
    model = run.build_model(experiment, splits.train_examples)
    warm_up(experiment, splits, model.classifier, warm, ExactResume(warm / CHECKPOINTS))
    unweighted_first = WarmUp(row.weighting(experiment.alpha_train), round(row.warmup * experiment.rounds))
    callbacks = [LearningRateByBatch(experiment), unweighted_first, ExactResume(checkpoints)]
    model.fit(splits.train, epochs=experiment.rounds, callbacks=callbacks, verbose=0)
    return model.classifier


def _numbers(folder: Path, top_probability: float) -> Numbers:
    metrics = metrics_in(folder)
    of_images = Images.read(folder, metrics)
    assert of_images is not None  # `measured` writes it before the metrics
    weighted = metrics["non_uniform"][0]
    picked = next(of["points"] for of in metrics["budget"] if of["chooser"] == "clean_margin")
    share = {round(point["images"] / metrics["examples"], 2): point["accuracy"] for point in picked}
    radius = {worst["fraction"]: worst["radius"] for worst in metrics["threat"]["worst"]}
    return {
        "A_nat": metrics["A_nat"],
        "A_rob": metrics["A_rob"],
        "A_sa": weighted["A_sa"],
        "A_tr": weighted["A_tr"],
        "top probability": metrics["confidence"]["top_probability"],
        "A_strong": metrics["A_strong"],
        "A_sa matched": weighted_accuracy(of_images.smallest_margins(top_probability), ALPHA_TEST).value,
        "worst class": min(of["A_strong"] for of in metrics["classes"]),
        "budget 5 %": share[0.05],
        "budget 20 %": share[0.2],
        "budget 50 %": share[0.5],
        "radius worst 5 %": radius[0.05],
    }
