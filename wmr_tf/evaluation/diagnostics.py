"""Alarms: whether the robust accuracy of a classifier can be believed, by the ways in which others could not."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

from wmr_tf.attacks import NORMS
from wmr_tf.attacks.base import radius_flags, warn_of
from wmr_tf.checks import one_of, positive, radius
from wmr_tf.checks import seed as checked_seed
from wmr_tf.engine.precision import full_float32
from wmr_tf.engine.progress import Progress
from wmr_tf.evaluation.flags import Flag, flag
from wmr_tf.evaluation.indicators import CHECKS
from wmr_tf.evaluation.probes import Probes
from wmr_tf.inputs.batches import batches_of, image_and_index
from wmr_tf.inputs.classifier import check_model
from wmr_tf.inputs.images import check_images_and_labels
from wmr_tf.report.tables import format_table
from wmr_tf.weights import class_indices


@dataclasses.dataclass(frozen=True)
class Check:
    """A check that ran.

    Attributes:
        name: Such as "zero_gradients".
        value: What it found.
        threshold: Up to where that is fine.
        message: What the number says, and what to do if it is too large.
    """

    name: str
    value: float
    threshold: float
    message: str

    @property
    def is_raised(self) -> bool:
        """Whether the value is above the threshold."""
        return self.value > self.threshold


@dataclasses.dataclass(frozen=True)
class Diagnosis:
    """What `diagnose` found; print it.

    Attributes:
        checks: Every check that ran.
        settings: Ball, seed and number of images.
    """

    checks: tuple[Check, ...]
    settings: dict[str, Any]

    @property
    def flags(self) -> list[Flag]:
        """Those that are raised, in the form of `metrics.json`."""
        return [
            flag(check.name, check.message, check.value, check.threshold) for check in self.checks if check.is_raised
        ]

    def metrics(self) -> dict[str, Any]:
        """Return conditions, checks and flags as plain values, in the form of `metrics.json`."""
        checks = [
            {"name": check.name, "value": check.value, "threshold": check.threshold, "raised": check.is_raised}
            for check in self.checks
        ]
        return {**self.settings, "checks": checks, "flags": self.flags}

    def __str__(self) -> str:
        """Return a table of all checks, and a warning for each flag."""
        shown = self.settings
        rows = [
            [check.name, f"{check.value:.4g}", f"{check.threshold:.4g}", "RAISED" if check.is_raised else "-"]
            for check in self.checks
        ]
        return "\n".join(
            [
                f"{shown['examples']} images, {shown['norm']}, epsilon {shown['epsilon']:g}, seed {shown['seed']}",
                format_table(["Check", "found", "up to", "flag"], rows),
                *(f"Warning: {flag['message']}" for flag in self.flags),
            ]
        )


@full_float32()
def diagnose(
    classifier: keras.Model,
    data: Any,
    *,
    epsilon: float,
    norm: str = "linf",
    examples: int = 128,
    batch_size: int | None = None,
    seed: int = 0,
    verbose: int = 1,
) -> Diagnosis:
    """Look for the signs that a robust accuracy must not be believed.

    Nothing is proved by their absence, and a flag does not prove the contrary: it says where to look.

    Args:
        classifier: A Keras model of images, float32 in [0, 1]. What it should return is logits; if it does not, that is
            a flag.
        data: Batches of (images, labels) as a `tf.data.Dataset`, a list or a `keras.utils.PyDataset`, or a pair of
            arrays.
        epsilon: Radius of the ball in which its robustness is claimed, > 0.
        norm: Of the ball, "linf", "l2" or "l1".
        examples: How many images to look at, the first ones.
        batch_size: Images attacked together, at most; as many as fit a memory budget if not given.
        seed: Of all random numbers, which are keyed by the image's position.
        verbose: 1 shows a progress bar, 2 prints a line a minute, 0 nothing.

    Returns:
        Every check with its number, and the flags raised; `print` shows them.

    Raises:
        InvalidInput: If the images are not in [0, 1], the labels are no classes, or a setting is out of range.

    Example:
        >>> diagnosis = diagnose(classifier, (images, labels), epsilon=0.1, verbose=0)
        >>> [check.name for check in diagnosis.checks][:3]
        ['randomised', 'probabilities', 'at_chance']

    Source: Carlini et al. 2019, "On evaluating adversarial robustness"; Pintor et al. 2022, indicators of attack
        failure; the warnings of the public AutoAttack.

    Note: Weights that move while it looks are put back. Where a share of images is compared, chance in so few of them
        is allowed for, see `flags.allowed`. I4 is measured on the logit margin, which does not saturate. Cost: at most
        about 1,750 passes an image, forward and backward ones, of which 502 are random search; the quick suite makes
        2,030.
    """
    check_model(classifier)
    epsilon = radius("epsilon", positive("epsilon", epsilon), one_of("norm", norm, NORMS))
    warn_of(radius_flags(epsilon, norm))
    images, labels = _arrays(batches_of(data, batch_size, examples))
    seed = checked_seed(seed)
    probes = Probes(classifier, images, labels, epsilon=epsilon, norm=norm, batch_size=batch_size, seed=seed)
    try:
        check_images_and_labels(images, labels, probes.outputs.shape[-1])
        checks = tuple(_checks(probes, Progress(len(CHECKS), unit="check", verbose=verbose)))
    finally:
        probes.put_back()
    return Diagnosis(checks, {"examples": len(images), "norm": norm, "epsilon": epsilon, "seed": seed})


def _checks(probes: Probes, progress: Progress) -> Iterator[Check]:
    for name, (find, message) in CHECKS.items():
        found = find(probes)
        yield Check(name, *found, message=f"{name}: {message.format(value=found.value)}")
        progress.add(1)


def _arrays(batches: list[Any]) -> tuple[np.ndarray, np.ndarray]:
    pairs = [(np.asarray(image_and_index(x)[0]), np.asarray(labels)) for x, labels, *_ in batches]
    for images, labels in pairs:
        check_images_and_labels(images, labels)
    images, labels = (np.concatenate(parts) for parts in zip(*pairs, strict=True))
    return images.astype(np.float32), np.asarray(class_indices(labels))
