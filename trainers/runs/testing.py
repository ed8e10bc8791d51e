"""The evaluation of a classifier on test images, which a run ends with and `trainers.evaluate` consists of."""

import dataclasses
import datetime
from collections.abc import Iterable, Sequence, Sized
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from trainers.runs.classifiers import check_fits
from trainers.runs.folder import IMAGES, METRICS, OUTCOMES, REPORT, versions
from trainers.runs.naming import defence
from trainers.runs.reporting import write_report
from trainers.settings.evaluation import Evaluation
from wmr_tf import data, report
from wmr_tf.checks import InvalidInput, at_least, require
from wmr_tf.engine.memory import AT_MOST
from wmr_tf.evaluation import choosers, evaluate_robustness
from wmr_tf.evaluation.records import pictures, save_images
from wmr_tf.evaluation.wasserstein import evaluate_wasserstein
from wmr_tf.extras import is_installed, mend
from wmr_tf.fit.interrupts import own_command
from wmr_tf.saving import load_classifier, write_json

CHOSEN_BY = 1000
"""By how many validation images, at most, the weakest class is chosen."""


@dataclasses.dataclass(frozen=True)
class HeldOut:
    """What a classifier is tested on, and what its attackers go by.

    Attributes:
        images: Batches of (images, labels).
        validation: Other images, by which an attacker picks the class to attack.
        surrogate: Another model, by which he picks images, if one was named.
    """

    images: tf.data.Dataset
    validation: tf.data.Dataset
    surrogate: keras.Model | None


def prepare(settings: Evaluation, splits: data.Splits) -> HeldOut:
    """Return what to test on, checked, so that a long training or attack does not end in a refusal.

    Raises:
        InvalidInput: If there are fewer images than are to be evaluated or attacked, too few of a class for accuracies
            by class that are asked for, or the surrogate is for other images or classes.
    """
    test = first_images(splits.test, settings.eval_examples)
    labels = np.concatenate([labels for _, labels in test])
    choosers.budgets(len(labels), settings.budget)
    if settings.by_class:
        choosers.by_class(labels, labels >= 0)
    validation = splits.validation.unbatch().take(CHOSEN_BY).batch(AT_MOST)
    return HeldOut(test, validation, load_surrogate(settings, test) if settings.surrogate else None)


def load_surrogate(settings: Evaluation, test: tf.data.Dataset) -> keras.Model:
    """Return the model by whose margins an attacker picks images.

    Raises:
        InvalidInput: If there is no such file, or it is for other images or classes.
    """
    surrogate = load_classifier(settings.surrogate or "", what="surrogate", trust=settings.trust)
    try:
        check_fits(surrogate, test, settings.source().num_classes)
    except InvalidInput as mistake:
        raise InvalidInput(f"surrogate: {mistake}") from mistake
    return surrogate


def number_of_images(batches: Iterable[tuple[Any, Sized]]) -> int:
    """Return how many images there are in batches of (images, labels)."""
    return sum(len(labels) for _, labels in batches)


def first_images(test: tf.data.Dataset, count: int | None) -> tf.data.Dataset:
    """Return batches of the first `count` test images, of all if it is None.

    Raises:
        InvalidInput: If there are not so many.
    """
    if count is not None:
        found = number_of_images(test)
        fix = "Lower --eval_examples, or leave it out to evaluate all."
        require(count <= found, "eval_examples", got=count, expected=f"at most {found}", fix=fix)
    return test.unbatch().take(-1 if count is None else at_least("eval_examples", count, 1)).batch(AT_MOST)


def evaluate(
    settings: Evaluation,
    test: HeldOut,
    classifier: keras.Model,
    folder: Path,
    facts: dict[str, Any],
    outcomes: Path | None = None,
) -> dict[str, Any]:
    """Evaluate a classifier; print the tables and write metrics.json, images.npz, robustness.png and report.html.

    The last two are left out where the extra `report` is not installed.

    Args:
        settings: The test attack and all else.
        test: The images, and what attackers know beforehand.
        classifier: What is evaluated.
        folder: Where the files go.
        facts: What else metrics.json says.
        outcomes: Where the suite keeps what it finds, and goes on from; a file in the folder if not given.
    """
    result = evaluate_robustness(
        classifier,
        test.images,
        settings.test_attack(),
        alpha_test=settings.alpha_test,
        seed=settings.seed,
        batch_size=settings.eval_batch_size,
        attack_precision=settings.eval_attack_precision,
        suite=settings.suite,
        outcomes=outcomes or folder / OUTCOMES,
        radii=None if settings.radii == "none" else settings.radii,
        surrogate=test.surrogate,
        validation=test.validation,
        budget=settings.budget,
    )
    metrics = {"dataset": settings.dataset, "split": "test", **facts, **result.metrics()}
    shown = pictures(result)
    name_classes(metrics, shown, settings.source().class_names)
    metrics["flags"] = [*metrics["flags"], *facts.get("diagnosis", {}).get("flags", ())]
    if settings.rho_test:
        metrics["kl_balls"] = [result.ball(rho) for rho in settings.rho_test]
    wasserstein = settings.wasserstein_attack()
    if wasserstein is not None:
        how: dict[str, Any] = {"batch_size": settings.eval_batch_size}
        metrics["wasserstein"] = evaluate_wasserstein(classifier, test.images, wasserstein, **how).metrics()
    metrics |= {"command": own_command(), "versions": versions(), "date": datetime.date.today().isoformat()}
    # First: that a file cannot be written should not hide them.
    print(report.tables([(defence(metrics), metrics)]), flush=True)
    save_images(result, folder / IMAGES, shown)
    if is_installed("report"):
        write_report(folder, metrics, shown)
    write_json(folder / METRICS, metrics)  # last: it is what says that the evaluation is complete
    return metrics


def tell_of_missing_report() -> None:
    """Say, before anything is written, that there will be neither pictures nor report where nothing can draw them."""
    if not is_installed("report"):
        print(f"Neither pictures nor {REPORT} will be written; for them run {mend('report')}", flush=True)


def name_classes(metrics: dict[str, Any], shown: list[dict[str, Any]], names: Sequence[str] | None) -> None:
    """Put the names of classes in the place of their labels, in metrics and in the pictures of a report.

    Args:
        metrics: What metrics.json says, of which "classes" and "worst_class" are changed.
        shown: The pictures, of which "label" and "prediction" are changed.
        names: By label; None leaves all as it is.
    """
    if names is None:
        return
    for entry in (*metrics.get("classes", ()), *filter(None, [metrics.get("worst_class")])):
        entry["class"] = names[entry["class"]]
    for picture in shown:
        picture.update({name: names[picture[name]] for name in ("label", "prediction")})


def tell_files(folder: Path, **files: str) -> None:
    """Say where everything is, and which files to look at, each with what it holds.

    Args:
        folder: The run's, or the evaluation's.
        **files: What else there is to look at, by file name.
    """
    named = {REPORT: "the findings, with pictures", METRICS: "all numbers", **files}
    looked_at = [f"  {name:<13} {holds}" for name, holds in named.items() if (folder / name).is_file()]
    print(f"Everything is in {folder}; look at", *looked_at, sep="\n")
