"""Attackers who choose before they see the outcome: which images to attack, or which class.

The paper's attacker weights images by how an attack on them has ended. These choose by what they know before: the clean
image's logit margin, another model's margins, or the class. They see ranks and not probabilities, so that a model does
not gain by being unsure.
"""

import dataclasses
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from wmr_tf.checks import require, whole_numbers
from wmr_tf.evaluation.outcomes import logit_margins
from wmr_tf.evaluation.statistics import Accuracy

FRACTIONS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
"""The fractions of the images that attackers pick, unless numbers of images are given."""

FEWEST = 10
"""How many images of each class an interval needs; of fewer it would span half of all accuracies and more."""


class Picked(NamedTuple):
    """What is left of the images that an attacker picks."""

    images: int
    accuracy: Accuracy


class ChosenClass(NamedTuple):
    """The class that an attacker picks by other images."""

    label: int
    images: int
    """By how many images, of all classes, it was chosen."""


def budgets(count: int, images: Iterable[int] | int | None = None) -> tuple[int, ...]:
    """Return how many images the attackers pick: as given, one or several, or `FRACTIONS` of all, each number once.

    Raises:
        InvalidInput: If there is none, or one is below 1 or above `count`.

    Example:
        >>> budgets(1000), budgets(30, images=[3])
        ((10, 20, 50, 100, 200, 500, 1000), (3,))
    """
    if images is None:
        return tuple(sorted({max(1, round(fraction * count)) for fraction in FRACTIONS}))
    numbers = whole_numbers("budget", images)
    largest = max(numbers)
    fix = "Lower it, or evaluate more images."
    require(largest <= count, "budget", got=f"{largest} images", expected=f"at most {count}, all there are", fix=fix)
    return numbers


def budget_curve(is_robust: np.ndarray, margins: np.ndarray, images: Iterable[int] | None = None) -> list[Picked]:
    """Return the accuracy on the k images that an attacker picks before he attacks, for several k.

    He takes those of the smallest margins, of equal ones the first. Only their order counts.

    Args:
        is_robust: Which images withstand the attack, bools `[images]`.
        margins: What he goes by, floats `[images]`, such as the logit margins of the clean images, by this model or by
            another one.
        images: The numbers k; `FRACTIONS` of all if not given.

    Returns:
        For each k the accuracy on these images, with Wilson's interval.

    Raises:
        InvalidInput: If a k is below 1 or larger than the set.

    Example:
        >>> curve = budget_curve(np.array([True, False, True, True]), np.array([3.0, 0.1, 0.2, 2.0]), images=[1, 2, 4])
        >>> [picked.accuracy.value for picked in curve]
        [0.0, 0.5, 0.75]
    """
    in_order = np.asarray(is_robust)[np.argsort(margins, kind="stable")]
    return [Picked(count, Accuracy.of(in_order[:count])) for count in budgets(len(in_order), images)]


def by_class(labels: np.ndarray, is_correct: np.ndarray) -> dict[int, Accuracy]:
    """Return the accuracy on each class, with intervals that hold for all of them at once.

    Args:
        labels: Integers `[images]`.
        is_correct: Bools `[images]`.

    Returns:
        By class. The intervals hold for all classes with 95 %, see `Accuracy.of`.

    Raises:
        InvalidInput: If a class has fewer than `FEWEST` images.

    Example:
        >>> found = by_class(np.repeat([0, 1], 20), np.arange(40) != 39)
        >>> print(found[0], found[1])
        100 % (80 to 100) 95 % (72 to 100)

    Source: Bonferroni's inequality.
    """
    classes, counts = np.unique(labels, return_counts=True)
    fewest = counts.argmin()
    require(
        counts[fewest] >= FEWEST,
        "images",
        got=f"{counts[fewest]} of class {classes[fewest]}",
        expected=f"at least {FEWEST} of each class for an interval",
        fix="Evaluate more images.",
    )
    return {int(each): Accuracy.of(is_correct[labels == each], simultaneous=len(classes)) for each in classes}


def worst_class(labels: np.ndarray, is_robust: np.ndarray) -> ChosenClass:
    """Return the class of the lowest accuracy, by which an attacker picks what to attack among other images.

    Args:
        labels: Integers `[images]`, of validation images.
        is_robust: Bools `[images]`.

    Example:
        >>> worst_class(np.array([0, 0, 1, 1]), np.array([True, False, True, True]))
        ChosenClass(label=0, images=4)
    """
    classes = np.unique(labels)
    accuracies = [np.mean(is_robust[labels == each]) for each in classes]
    return ChosenClass(int(classes[np.argmin(accuracies)]), len(labels))


@dataclasses.dataclass(frozen=True)
class Choosers:
    """What attackers know before they see the outcome.

    Attributes:
        surrogate: Another model's logit margins of the clean images `[images]`.
        worst_class: The class that is attacked, chosen by other images.
        budget: The numbers of images that are attacked; `FRACTIONS` of all if not given.
    """

    surrogate: np.ndarray | None = None
    worst_class: ChosenClass | None = None
    budget: tuple[int, ...] | None = None

    def metrics(
        self, labels: np.ndarray, clean: np.ndarray, is_correct: np.ndarray, is_robust: np.ndarray
    ) -> dict[str, Any]:
        """Return what they leave, in the form of `metrics.json`; classes only where each has enough images.

        Args:
            labels: Integers `[images]`.
            clean: Logits of the clean images `[images, classes]`.
            is_correct: Which clean images are classified correctly `[images]`.
            is_robust: Which images withstand every attack `[images]`.
        """
        orders = {"clean_margin": logit_margins(clean, labels), "surrogate": self.surrogate}
        budget = [
            {"chooser": name, "points": [_point(*picked) for picked in budget_curve(is_robust, margins, self.budget)]}
            for name, margins in orders.items()
            if margins is not None
        ]
        at_random = [_point(count, Accuracy.of(is_robust)) for count in budgets(len(labels), self.budget)]
        return {
            "budget": [*budget, {"chooser": "random", "points": at_random}],
            **self._classes(labels, is_correct, is_robust),
            **self._worst_class(labels, is_correct, is_robust),
        }

    def _classes(self, labels: np.ndarray, is_correct: np.ndarray, is_robust: np.ndarray) -> dict[str, Any]:
        if np.unique(labels, return_counts=True)[1].min() < FEWEST:
            return {}
        found = zip(by_class(labels, is_correct).items(), by_class(labels, is_robust).values(), strict=True)
        classes = [
            {"class": each, "examples": int(np.sum(labels == each)), **_pair(clean, robust)}
            for (each, clean), robust in found
        ]
        return {"classes": classes}

    def _worst_class(self, labels: np.ndarray, is_correct: np.ndarray, is_robust: np.ndarray) -> dict[str, Any]:
        if self.worst_class is None or (is_of := labels == self.worst_class.label).sum() < FEWEST:
            return {}
        facts = {"class": self.worst_class.label, "chosen_on": "validation", "chosen_from": self.worst_class.images}
        pair = _pair(Accuracy.of(is_correct[is_of]), Accuracy.of(is_robust[is_of]))
        return {"worst_class": {**facts, "examples": int(is_of.sum()), **pair}}


def _point(images: int, accuracy: Accuracy) -> dict[str, Any]:
    return {"images": images, "accuracy": accuracy.value, "interval": [accuracy.low, accuracy.high]}


def _pair(clean: Accuracy, robust: Accuracy) -> dict[str, Any]:
    return {
        "A_nat": clean.value,
        "A_nat_interval": [clean.low, clean.high],
        "A_strong": robust.value,
        "A_strong_interval": [robust.low, robust.high],
    }
