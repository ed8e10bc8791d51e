"""What a suite knows of every image, in arrays and in a file that a killed evaluation goes on from."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from wmr_tf.checks import require, writable_file
from wmr_tf.saving import written_whole
from wmr_tf.untrusted import HARMLESS, parse_json, read_arrays, well_formed

if TYPE_CHECKING:
    import keras  # late elsewhere, as all that imports TensorFlow: who reads outcomes does not wait for it

_COPIES = 3
"""How many images a file of outcomes holds for each image, and room for the rest."""

ROBUST, MISCLASSIFIED = -1, -2
"""In place of the run that broke an image: none did, or none was needed."""


@dataclasses.dataclass
class Outcomes:
    """What a suite has found, image by image in the order of the data.

    Attributes:
        clean: The clean images `[images, ...]`; not in the file.
        labels: int32 `[images]`.
        clean_logits: `[images, classes]`.
        adversarial: The attacked image of smallest margin in the ball, `[images, ...]`; the clean one where none was
            smaller.
        logits: Of these, `[images, classes]`.
        broken_by: The number of the run that broke it, int32 `[images]`, or `ROBUST` or `MISCLASSIFIED`.
        radii: Distance to the nearest misclassified point that FAB has found, infinity where there is none.
        carried: Where Square's search has got to, `[images, ...]`.
        carried_margins: Of these, `[images]`.
        run: The run that is under way.
        done: How many of its images are done.
    """

    clean: np.ndarray
    labels: np.ndarray
    clean_logits: np.ndarray
    adversarial: np.ndarray
    logits: np.ndarray
    broken_by: np.ndarray
    radii: np.ndarray
    carried: np.ndarray
    carried_margins: np.ndarray
    run: int = 0
    done: int = 0

    @classmethod
    def begin(cls, clean: np.ndarray, labels: np.ndarray, logits: np.ndarray) -> Outcomes:
        """Return what is known before the first attack: which clean images are misclassified."""
        wrong = logits.argmax(axis=1) != labels
        return cls(
            clean=clean,
            labels=labels,
            clean_logits=logits,
            adversarial=clean.copy(),
            logits=logits.copy(),
            broken_by=np.where(wrong, MISCLASSIFIED, ROBUST).astype(np.int32),
            radii=np.full(len(labels), np.inf, np.float32),
            carried=np.zeros_like(clean),
            carried_margins=np.zeros(len(labels), np.float32),
        )

    def alive(self) -> np.ndarray:
        """Return the places of the images that were robust when the present run began, but for those that are done."""
        return np.flatnonzero((self.broken_by == ROBUST) | (self.broken_by == self.run))[self.done :]

    def robust_after(self, run: int) -> np.ndarray:
        """Return which images are robust after a run `[images]`; after run -1 those that are classified correctly."""
        return (self.broken_by == ROBUST) | (self.broken_by > run)

    @property
    def margins(self) -> np.ndarray:
        """The logit margins of the adversarial images `[images]`."""
        return logit_margins(self.logits, self.labels)

    def update(self, places: np.ndarray, points: np.ndarray, logits: np.ndarray) -> None:
        """Count attacked images: keep those of smaller margin, and note which are broken."""
        labels = self.labels[places]
        closer = logit_margins(logits, labels) < logit_margins(self.logits[places], labels)
        broken = logits.argmax(axis=1) != labels
        kept = places[closer | broken]
        self.adversarial[kept], self.logits[kept] = points[closer | broken], logits[closer | broken]
        self.broken_by[places[broken]] = self.run

    def finish(self) -> None:
        """Forget what was only needed on the way."""
        self.carried, self.carried_margins = self.carried[:0], self.carried_margins[:0]

    def save(self, path: Path, identity: dict[str, Any]) -> None:
        """Write all of it but the clean images, in one move."""
        arrays = {field.name: getattr(self, field.name) for field in dataclasses.fields(self) if field.name != "clean"}
        with written_whole(path) as unfinished, open(unfinished, "wb") as file:
            np.savez_compressed(file, identity=json.dumps(identity), **arrays)


def logit_margins(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return the logit of the label less the largest other one, `[..., images]`, of `[..., images, classes]`."""
    is_label = np.arange(logits.shape[-1]) == labels[:, np.newaxis]
    return logits[..., is_label] - np.where(is_label, -np.inf, logits).max(axis=-1)


def identity_of(
    classifier: keras.Model, clean: np.ndarray, labels: np.ndarray, settings: dict[str, Any]
) -> dict[str, Any]:
    """Return what an outcomes file belongs to: digests of the weights and of the data, and the suite's settings."""
    return {**hashes_of(classifier, clean, labels), **settings}


def hashes_of(classifier: keras.Model, clean: np.ndarray, labels: np.ndarray) -> dict[str, str]:
    """Return SHA-256 digests of a classifier's weights, and of images and labels, with their shapes and types."""
    return {"weights": hash_of_weights(classifier), "data": _digest(clean, labels)}


def hash_of_weights(classifier: keras.Model) -> str:
    """Return the SHA-256 digest of a classifier's weights."""
    return _digest(*(np.asarray(weight) for weight in classifier.get_weights()))


def _digest(*arrays: np.ndarray) -> str:
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.shape} {array.dtype}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def load_outcomes(
    path: str | os.PathLike[str],
    what: str = "outcomes",
    *,
    fix: str = "Move it away to begin anew.",
    images: np.ndarray | None = None,
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Return the identity and the arrays of a file of outcomes, which is opened without pickle.

    Args:
        path: The file, such as outcomes.npz or images.npz of an evaluation.
        what: What a message calls it.
        fix: What to do if it holds anything else.
        images: Those that it should be of, `[images, ...]`, which tell how large it may be.

    Raises:
        InvalidInput: If it is no such file.
    """
    with well_formed(what, got=path, expected="a file that an evaluation wrote", fix=fix):
        arrays = read_arrays(path, HARMLESS + _COPIES * (0 if images is None else images.nbytes))
        return dict(parse_json(str(arrays.pop("identity")))), arrays


def file_for(outcomes: str | Path | None, classifier: keras.Model) -> Path | None:
    """Return the file that outcomes are kept in, None if they are not, after checking it where it is written.

    Args:
        outcomes: The file as it was passed, or None.
        classifier: Whose outcomes they are; of several workers that have it the chief writes.

    Raises:
        InvalidInput: If it cannot be written.
    """
    from wmr_tf.engine.distribution import is_chief

    if not outcomes:
        return None
    path = Path(outcomes).expanduser()
    return writable_file("outcomes", path) if is_chief(classifier.distribute_strategy) else path


def check_of(path: Path, hashes: Mapping[str, str], images: np.ndarray) -> None:
    """Check that an outcomes file, if there is one, is of this model and these data, before anything is attacked.

    Raises:
        InvalidInput: If it is not; the message names which of them differ.
    """
    if path.exists():
        found, _ = load_outcomes(path, images=images)
        _check_same(path, [name for name in hashes if found.get(name) != hashes[name]])


def resumed(path: Path, identity: dict[str, Any], fresh: Outcomes) -> Outcomes:
    """Return the outcomes in a file to go on from, `fresh` if there is no file.

    Raises:
        InvalidInput: If the file is of another model, other data or settings; the message names which.
    """
    if not path.exists():
        return fresh
    found, arrays = load_outcomes(path, images=fresh.clean)
    other = [name for name in identity if found.get(name) != identity[name]]
    _check_same(path, other)
    names = {field.name for field in dataclasses.fields(Outcomes)} - {"clean"}
    is_whole = names == set(arrays) and all(_fits(arrays[name], getattr(fresh, name), name) for name in names)
    require(is_whole, "outcomes", got=repr(str(path)), expected="all arrays", fix="Move it away to begin anew.")
    # The same weights in another function, such as one that divides the logits by a temperature.
    rounding = 0.01 * np.abs(fresh.clean_logits).max()
    is_same = np.allclose(arrays["clean_logits"], fresh.clean_logits, rtol=0, atol=rounding)
    _check_same(path, [] if is_same else ["classifier"])
    stored: dict[str, Any] = {**arrays, "run": int(arrays["run"]), "done": int(arrays["done"])}
    return dataclasses.replace(fresh, **stored)


def _fits(array: np.ndarray, fresh: Any, name: str) -> bool:
    """Return whether an array holds numbers in the shape of a fresh one; what Square carries may be left out."""
    shape = np.shape(fresh)
    return array.dtype.kind in "fi" and (array.shape == shape or name.startswith("carried") and not array.size)


def _check_same(path: Path, other: list[str]) -> None:
    require(
        not other,
        "outcomes",
        got=f"{str(path)!r}, which is of another evaluation ({', '.join(other)})",
        expected="those of this evaluation, or none",
        fix="Name another file, or another folder with --output_dir.",
    )
