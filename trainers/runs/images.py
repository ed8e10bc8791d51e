"""What an evaluation knows of every image, read from its images.npz."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from trainers.runs.folder import IMAGES
from wmr_tf.checks import require
from wmr_tf.evaluation.records import load_images, pictures_in
from wmr_tf.evaluation.temperature import probability_margins, temperature_for
from wmr_tf.untrusted import well_formed

_FIX = "Evaluate the model again, or move the file away to compare without it."


@dataclasses.dataclass(frozen=True)
class Images:
    """What an evaluation knows of every image, from images.npz.

    Attributes:
        labels: `[images]`.
        clean_logits: `[images, classes]`.
        logits: Attacked as for A_rob, `[images, classes]`.
        weighted_logits: By alpha_test, attacked as for A_tr, `[images, classes]`.
        strong_logits: At the suite's points of smallest margin, `[images, classes]`; None if there was no suite.
        is_robust: To the test attack and the suite, `[images]`; None if there was no suite.
        pictures: Of a few images, as the report takes them.
    """

    labels: np.ndarray
    clean_logits: np.ndarray
    logits: np.ndarray
    weighted_logits: dict[float, np.ndarray]
    strong_logits: np.ndarray | None
    is_robust: np.ndarray | None
    pictures: list[dict[str, Any]]

    @classmethod
    def read(cls, folder: Path, metrics: Mapping[str, Any]) -> "Images | None":
        """Return those in the folder of an evaluation, None if it has no such file, as older ones.

        Args:
            folder: The evaluation's.
            metrics: Its metrics.json.

        Raises:
            InvalidInput: If the file is broken, or is of another model or other data than metrics.json.
        """
        path = folder / IMAGES
        if not path.exists():
            return None
        identity, arrays = load_images(path)
        hashes = metrics.get("hashes", {})
        other = [name for name in ("weights", "data") if identity.get(name) != hashes.get(name)]
        got = f"{str(path)!r}, which is of other {' and '.join(other)}"
        require(not other, IMAGES, got=got, expected="those of the metrics.json beside it", fix=_FIX)
        is_whole = _is_whole(arrays, metrics["examples"])
        require(is_whole, IMAGES, got=repr(str(path)), expected="numbers for each image", fix=_FIX)
        weighted = dict(zip(arrays["alphas"].tolist(), arrays["weighted_logits"], strict=True))
        return cls(
            arrays["labels"],
            arrays["clean_logits"],
            arrays["logits"],
            weighted,
            arrays.get("strong_logits"),
            arrays.get("is_robust"),
            _pictures(arrays),
        )

    def correct(self) -> dict[str, np.ndarray]:
        """Return which images are correct, `[images]`, by accuracy."""
        attacked = {"A_nat": self.margins(self.clean_logits) > 0, "A_rob": self.margins(self.logits) > 0}
        return attacked if self.is_robust is None else {**attacked, "A_strong": self.is_robust.astype(bool)}

    def weighted(self) -> dict[tuple[str, float], np.ndarray]:
        """Return the margins `[images]` of weighted accuracies, by name and alpha_test."""
        found, plain = {}, self.margins(self.logits)
        for alpha, logits in self.weighted_logits.items():
            found["A_sa", alpha], found["A_tr", alpha] = plain, self.margins(logits)
        return found

    def margins(self, logits: np.ndarray, temperature: float = 1.0) -> np.ndarray:
        """Return the probability margins `[images]` of logits divided by a temperature."""
        return probability_margins(logits, self.labels, 1 / temperature)

    def smallest_margins(self, top_probability: float | None = None) -> np.ndarray:
        """Return the smallest margins `[images]` that test attack and suite found.

        Args:
            top_probability: The mean top probability on clean images to which logits are scaled; as trained if None.

        Raises:
            InvalidInput: If no temperature gives that probability.
        """
        temperature = 1.0 if top_probability is None else temperature_for(self.clean_logits, top_probability)
        points = [logits for logits in (self.logits, self.strong_logits) if logits is not None]
        return np.min([self.margins(logits, temperature) for logits in points], axis=0)


def _pictures(arrays: dict[str, np.ndarray]) -> list[dict[str, Any]]:
    with well_formed(IMAGES, got="pictures that do not fit", expected="what an evaluation wrote", fix=_FIX):
        return pictures_in(arrays)


def _is_whole(arrays: dict[str, np.ndarray], examples: int) -> bool:
    """Return whether the arrays of a file are there, are numbers, and fit one another."""
    missing = np.zeros(())
    logits, alphas = arrays.get("clean_logits", missing).shape, arrays.get("alphas", missing).shape
    expected = {"labels": logits[:1], "clean_logits": logits, "logits": logits}
    expected |= {"alphas": alphas, "weighted_logits": alphas + logits}
    suite = {"strong_logits": logits, "is_robust": logits[:1]}
    expected |= suite if suite.keys() & arrays.keys() else {}
    if (len(logits), len(alphas), logits[:1]) != (2, 1, (examples,)):
        return False
    fits = all(name in arrays and _fits(arrays[name], shape) for name, shape in expected.items())
    return fits and bool(np.isin(arrays["labels"], np.arange(logits[1])).all())


def _fits(array: np.ndarray, shape: tuple[int, ...]) -> bool:
    return array.shape == shape and array.dtype.kind in "biuf" and bool(np.isfinite(array).all())
