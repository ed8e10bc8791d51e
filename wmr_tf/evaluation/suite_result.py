"""What a suite of attacks measured on images."""

import dataclasses
from typing import Any

import numpy as np

from wmr_tf.evaluation.flags import Flag, suite_flags
from wmr_tf.evaluation.outcomes import MISCLASSIFIED, ROBUST, Outcomes
from wmr_tf.evaluation.statistics import Accuracy
from wmr_tf.evaluation.versions import PUBLISHED


@dataclasses.dataclass(frozen=True)
class SuiteResult:
    """What a suite measured; print it.

    Attributes:
        outcomes: What is known of every image.
        stages: The name of the attack that made each run.
        settings: Version, ball and seed.
        deviations: How it differs from the standard, a sentence each; none for a standard one.
    """

    outcomes: Outcomes
    stages: tuple[str, ...]
    settings: dict[str, Any]
    deviations: tuple[str, ...] = ()

    @property
    def is_robust(self) -> np.ndarray:
        """Which images are robust to all attacks, `[images]`."""
        return self.outcomes.robust_after(len(self.stages))

    @property
    def accuracy(self) -> Accuracy:
        """The share of images that are robust to all attacks, of all images."""
        return Accuracy.of(self.is_robust)

    @property
    def clean_accuracy(self) -> Accuracy:
        """The share of images that are classified correctly."""
        return Accuracy.of(self.outcomes.robust_after(-1))

    @property
    def accuracy_after(self) -> dict[str, Accuracy]:
        """By attack the share of images that are robust to it and to all before it."""
        last = {name: run for run, name in enumerate(self.stages)}
        return {name: Accuracy.of(self.outcomes.robust_after(run)) for name, run in last.items()}

    @property
    def broken_by(self) -> list[str | None]:
        """For each image the attack that broke it, "clean" if none was needed, None if none did."""
        names = {ROBUST: None, MISCLASSIFIED: "clean", **dict(enumerate(self.stages))}
        return [names[run] for run in self.outcomes.broken_by.tolist()]

    @property
    def flags(self) -> list[Flag]:
        """What is wrong with the classifier by what one attack found and another did not, see `Robustness.flags`."""
        return suite_flags({name: found.value for name, found in self.accuracy_after.items()}, len(self.is_robust))

    def metrics(self) -> dict[str, Any]:
        """Return all numbers as plain values, accuracies as fractions of 1, in the form of `metrics.json`."""
        return {
            **self.settings,
            "examples": len(self.outcomes.labels),
            "clean_accuracy": self.clean_accuracy.value,
            "accuracy": self.accuracy.value,
            "accuracy_interval": [self.accuracy.low, self.accuracy.high],
            "accuracy_after": {name: found.value for name, found in self.accuracy_after.items()},
            "deviations": list(self.deviations),
            "flags": self.flags,
        }

    def __str__(self) -> str:
        """Return conditions and accuracies in lines."""
        shown = self.settings
        lines = [
            f"{len(self.outcomes.labels)} images, {shown['norm']}, epsilon {shown['epsilon']:g}, "
            f"version {shown['version']}, seed {shown['seed']}",
            f"clean            {self.clean_accuracy}",
            *(f"after {name:<10} {found}" for name, found in self.accuracy_after.items()),
            *self.deviations,
        ]
        return "\n".join(lines)


def deviations(version: str, classes: int) -> tuple[str, ...]:
    """Return how a suite differs from the published one, a sentence each."""
    found = [] if version in PUBLISHED else [f"Not a standard AutoAttack accuracy: version {version!r} is our own."]
    if classes < 4:
        found.append(f"Not a standard AutoAttack accuracy: the published losses need four classes, here are {classes}.")
    return tuple(found)
