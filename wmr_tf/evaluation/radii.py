"""The smallest radii at which images are misclassified: the threat curve, which no confidence moves."""

import dataclasses
import functools
from pathlib import Path
from typing import Any

import keras
import numpy as np

from wmr_tf.checks import one_of, require
from wmr_tf.engine.memory import AT_MOST
from wmr_tf.evaluation.outcomes import file_for
from wmr_tf.evaluation.statistics import interval_of
from wmr_tf.evaluation.suite import Suite
from wmr_tf.inputs.batches import CheckedBatches, batches_of, checked_batches

MEASURES = {"fab": ("nearest",), "fab+apgd": ("nearest", "bisection")}
"""How radii are measured: the attacks of a suite that looks for the nearest misclassified point of every image."""

FRACTIONS = (0.01, 0.05, 0.1)
"""The fractions of the images, worst first, whose mean radius is in `metrics.json`."""

POINTS = 101
"""How many radii a threat curve has, at most: those at which another hundredth of the images is gone."""

FEWEST = 25
"""How many images an interval of their mean radius needs: the bootstrap of fewer covers the truth too seldom."""


@dataclasses.dataclass(frozen=True)
class Radii:
    """The distance from each image to the nearest misclassified point that was found; print it.

    An upper bound on the true one: what no attack finds is missing. It depends on which class has the largest logit and
    on nothing else, so that no temperature moves it.

    Attributes:
        values: `[images]`, 0 for a clean image that is misclassified; where no point was found, the distance to the
            farthest corner of the box.
        norm: In which they are measured.
        attack: A name in `MEASURES`.

    Example:
        >>> radii = Radii(np.array([0.0, 0.1, 0.3, 0.4]), "linf", "fab")
        >>> radii.accuracy(0.1), round(radii.worst(0.5), 3)
        (0.5, 0.05)
    """

    values: np.ndarray
    norm: str
    attack: str

    def __str__(self) -> str:
        worst = ", ".join(f"of the worst {fraction:.0%} {self.worst(fraction):.4g}" for fraction in FRACTIONS)
        return f"{self.norm} radius ({self.attack}): median {np.median(self.values):.4g}, mean {worst}"

    def accuracy(self, radius: float) -> float:
        """Return the share of the images that are not known to be misclassified within a radius."""
        return float(np.mean(self.values > radius))

    def worst(self, fraction: float) -> float:
        """Return the mean radius of the worst fraction of the images, in (0, 1], at least of one."""
        return float(_mean_of_smallest(self.values, self._images(fraction)))

    def _images(self, fraction: float) -> int:
        fix = "Pass for instance 0.05 for the worst twentieth."
        require(0 < fraction <= 1, "fraction", got=fraction, expected="a number in (0, 1]", fix=fix)
        return max(1, round(fraction * len(self.values)))

    def within(self, radius: float, is_broken: np.ndarray) -> "Radii":
        """Return the radii, given that other attacks broke some of the images `[images]` within a radius."""
        return dataclasses.replace(self, values=np.where(is_broken, np.minimum(self.values, radius), self.values))

    def metrics(self) -> dict[str, Any]:
        """Return all numbers as plain values, in the form of `metrics.json`; accuracies are fractions of 1."""
        return {
            "norm": self.norm,
            "attack": self.attack,
            "examples": len(self.values),
            "median": float(np.median(self.values)),
            "worst": [self._worst(fraction) for fraction in FRACTIONS],
            "curve": [{"radius": float(radius), "accuracy": self.accuracy(radius)} for radius in self._steps()],
        }

    def _steps(self) -> np.ndarray:
        return np.unique([0, *np.quantile(self.values, np.linspace(0, 1, POINTS), method="inverted_cdf")])

    def _worst(self, fraction: float) -> dict[str, Any]:
        images = self._images(fraction)
        found: dict[str, Any] = {"fraction": fraction, "images": images, "radius": self.worst(fraction)}
        if images < FEWEST:
            return found
        interval = interval_of(functools.partial(_mean_of_smallest, images=images), self.values)
        return {**found, "interval": list(interval)}


def _mean_of_smallest(values: np.ndarray, images: int, axis: int = -1) -> np.ndarray:
    """Return the mean of the smallest `images` values along the last axis."""
    return np.partition(values, images - 1, axis=axis)[..., :images].mean(axis=axis)


def minimal_radii(
    classifier: keras.Model,
    data: Any,
    *,
    norm: str = "linf",
    attack: str = "fab",
    batch_size: int | None = None,
    seed: int = 0,
    outcomes: str | Path | None = None,
    verbose: int = 1,
) -> Radii:
    """Return for each image the distance to the nearest misclassified point that is found.

    Args:
        classifier: A Keras model that returns logits.
        data: As in `auto_attack`.
        norm: "linf", "l2" or "l1".
        attack: "fab", the fast adaptive boundary attack towards the three classes that come next, 30 steps each; or
            "fab+apgd", which also bisects over the radius with targeted Auto-PGD, in eleven times the time.
        batch_size: Images attacked together, at most; as many as fit a memory budget if not given, see
            `wmr_tf.engine.memory.images_at_once`. Results depend on it only by rounding.
        seed: Of all random numbers, see `auto_attack`.
        outcomes: The file to keep what is found in, and to go on from; see `auto_attack`.
        verbose: 1 shows a progress bar, 2 prints a line a minute, 0 nothing.

    Raises:
        InvalidInput: If data, classifier or a setting is not what it should be.

    Example:
        >>> radii = minimal_radii(classifier, test, verbose=0)
        >>> radii.accuracy(0.0) >= radii.accuracy(0.1)
        True

    Source: Croce and Hein 2020 ("Minimally distorted adversarial examples with a fast adaptive boundary attack"), for
        the attack; Carlini et al. 2019 ("On evaluating adversarial robustness"), for the curve.
    """
    version = MEASURES[one_of("radii", attack, MEASURES)]
    # In a ball of radius 0 no image is ever broken, so that every target is tried on every image.
    suite = Suite(classifier, epsilon=0.0, norm=norm, version=version, batch_size=batch_size, seed=seed)
    file = file_for(outcomes, classifier)
    is_checked = isinstance(data, CheckedBatches)
    batches = data if is_checked else checked_batches(classifier, batches_of(data, batch_size or AT_MOST))
    found = suite(batches, outcomes=file, verbose=verbose).outcomes
    corners = np.maximum(found.clean, 1 - found.clean).reshape([len(found.clean), -1])
    order = {"linf": np.inf, "l2": 2, "l1": 1}[norm]
    radii = np.minimum(found.radii, np.linalg.norm(corners, ord=order, axis=1))
    return Radii(np.where(found.robust_after(-1), radii, 0.0).astype(np.float32), norm, attack)
