"""All that can be said of a classifier's robustness, in one call."""

import dataclasses
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import keras
import numpy as np

from wmr_tf.attacks import Attack
from wmr_tf.checks import InvalidInput, one_of, require
from wmr_tf.engine.memory import AT_MOST
from wmr_tf.evaluation.choosers import Choosers, ChosenClass, budgets, worst_class
from wmr_tf.evaluation.evaluator import RobustnessEvaluator
from wmr_tf.evaluation.outcomes import check_of, file_for, hashes_of, logit_margins
from wmr_tf.evaluation.radii import MEASURES, minimal_radii
from wmr_tf.evaluation.robustness import Robustness
from wmr_tf.evaluation.suite import Suite
from wmr_tf.inputs.batches import CheckedBatches, batches_of, checked_batches


def evaluate_robustness(
    classifier: keras.Model,
    data: Any,
    attack: Attack,
    *,
    alpha_test: Iterable[float] | float = (1.0,),
    seed: int = 0,
    batch_size: int | None = None,
    verbose: int = 1,
    attack_precision: str = "float32",
    suite: str | None = "strong",
    outcomes: str | Path | None = None,
    radii: str | None = None,
    surrogate: keras.Model | None = None,
    validation: Any = None,
    budget: Iterable[int] | int | None = None,
) -> Robustness:
    """Return A_nat, A_rob, and A_sa, A_tr and A_worst for every alpha_test, and CVaR, over all of `data`.

    Args:
        classifier: A Keras model of images, float32 in [0, 1], that returns logits `[batch, classes]`.
        data: Batches of (images, labels) as a `tf.data.Dataset`, a list or a `keras.utils.PyDataset`, or a pair of
            arrays.
        attack: The test attack; among its restarts each image keeps the smallest margin. A warning is given if it
            cannot reach the edge of its ball, if the classifier is no better than guessing, and if it is far more
            accurate on images scaled to [0, 255] or [-1, 1].
        alpha_test: Powers of the non-uniform attacker, one or several, each >= 0.
        seed: Of the attack's random start, which is keyed by the image's position in the data.
        batch_size: Images attacked together, at most; as many as fit a memory budget if not given, see
            `wmr_tf.engine.memory.images_at_once`. Results depend on it only by rounding.
        verbose: 1 shows a progress bar, 2 prints a line a minute, 0 nothing.
        attack_precision: "float32", or "bfloat16" for a faster and less exact attack; always scored in float32.
        suite: The version of AutoAttack that attacks the same images in the same ball: "strong", short enough to be
            always there, or another one of `auto_attack`. What it leaves is A_strong, and where that is far below A_rob
            the classifier is said to be masked. None leaves it out.
        outcomes: The file in which the suite keeps what it finds, see `auto_attack`; radii go into one beside it.
        radii: How to measure the smallest radius at which each image is misclassified, see `minimal_radii`: "fab" or
            "fab+apgd"; None measures none.
        surrogate: Another model of the same images and classes, by whose margins an attacker picks images.
        validation: Other images, by which an attacker picks the class to attack; in any form that `data` has.
        budget: How many images to attack, picked by clean margins: one number or several; 1 to 100 % of the images if
            not given.

    Returns:
        Margins and losses, and the accuracies that follow; `print` shows them, `.metrics()` gives plain values.

    Raises:
        InvalidInput: If data, classifier or a setting is not what it should be.

    Example:
        >>> attack = wmr_tf.attacks.PGD(epsilon=0.3, step_size=0.01, steps=40)
        >>> result = evaluate_robustness(classifier, test, attack, alpha_test=[2.0], verbose=0)
        >>> A_nat, A_rob, A_tr = result.A_nat.value, result.A_rob.value, result.A_tr(2.0).value
        >>> result.A_sa(2.0).value <= A_rob
        True

    Source: Equations 17 to 19 of Zeng et al. 2021.
    """
    measure = one_of("radii", radii, MEASURES) if radii else None
    require(
        suite is not None or surrogate is validation is budget is None,
        "suite",
        got="None with a surrogate, validation images or a budget",
        expected="a version: what attackers choose is attacked by the suite",
        fix='Pass suite="strong", or leave the others out.',
    )
    evaluator = RobustnessEvaluator(
        classifier,
        attack,
        alpha_test=alpha_test,
        seed=seed,
        attack_precision=attack_precision,
        suite=suite,
        batch_size=batch_size,
    )
    files = _files(file_for(outcomes, classifier), measure)
    batches = checked_batches(classifier, batches_of(data, batch_size or AT_MOST))
    images, labels = (np.concatenate(parts) for parts in zip(*batches, strict=True))
    picks = budgets(len(labels), budget)
    margins = None if surrogate is None else _surrogate_margins(surrogate, batches, labels, classifier)
    others = None if validation is None else checked_batches(classifier, batches_of(validation, batch_size or AT_MOST))
    hashes = hashes_of(classifier, images, labels)
    for file in filter(None, files):
        check_of(file, hashes, images)
    result = evaluator(batches, verbose=verbose, outcomes=files[0], at_chance=True)
    if not result.is_finite:
        return result
    ball: dict[str, Any] = {"norm": attack.norm, "batch_size": batch_size, "seed": seed, "verbose": verbose}
    distances = minimal_radii(classifier, batches, attack=measure, outcomes=files[1], **ball) if measure else None
    weakest = _worst_class(classifier, others, attack.epsilon, **ball) if others else None
    return dataclasses.replace(
        result,
        radii=distances and distances.within(attack.epsilon, ~result.is_robust),
        choosers=Choosers(margins, weakest, picks),
        hashes=hashes,
    )


def _files(path: Path | None, measure: str | None) -> tuple[Path | None, Path | None]:
    """Return the files in which suite and radii keep what they find, if they do."""
    return path, path.with_stem(f"{path.stem}-{measure}") if path and measure else None


def _surrogate_margins(
    surrogate: keras.Model, batches: CheckedBatches, labels: np.ndarray, classifier: keras.Model
) -> np.ndarray:
    """Return the logit margins that another model gives the clean images, `[images]`.

    Raises:
        InvalidInput: If it is for other images or other classes.
    """
    try:
        checked_batches(surrogate, batches)
    except InvalidInput as mistake:
        raise InvalidInput(f"surrogate: {mistake}") from mistake
    logits = surrogate.predict(np.concatenate([images for images, _ in batches]), verbose=0)
    classes = int(classifier(batches[0][0][:1]).shape[-1])
    fix = "Take a model of the same classes."
    require(logits.shape[1] == classes, "surrogate", got=f"{logits.shape[1]} classes", expected=f"{classes}", fix=fix)
    return logit_margins(np.asarray(logits, np.float32), labels)


def _worst_class(
    classifier: keras.Model, others: CheckedBatches, epsilon: float, *, verbose: int, **settings: Any
) -> ChosenClass:
    suite = Suite(classifier, epsilon=epsilon, version="short", **settings)
    found = suite(others, verbose=verbose)
    return worst_class(found.outcomes.labels, found.is_robust)
