"""Trained classifiers to start from: `load("digits-trades")`, each with a card that says where it is from."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wmr_tf.checks import one_of, require
from wmr_tf.report.rounding import with_interval
from wmr_tf.report.words import conditions
from wmr_tf.saving import load_classifier, model_file, read_json
from wmr_tf.untrusted import well_formed

if TYPE_CHECKING:
    import keras  # late: who reads cards does not wait for TensorFlow

FOLDER = Path(__file__).parent
LARGEST = 1_300_000
"""Bytes of a file, at most: the package brings all of them."""

_FIX = "Install the package again."


@dataclasses.dataclass(frozen=True, kw_only=True)
class Card:
    """What is known of a classifier of the zoo; `print` shows it as text.

    Attributes:
        name: What `load` knows it by.
        defence: How tables name it.
        recipe: The settings of its training, as in a run's config.json.
        command: What trained it.
        seed: Of the training.
        commit: Of the repository, when the card was written.
        evaluations: Each with examples, attack, A_nat, A_rob, A_strong and the others, as in metrics.json.
        sha256: Of the file.
    """

    name: str
    defence: str
    recipe: dict[str, Any]
    command: str
    seed: int
    commit: str
    evaluations: list[dict[str, Any]]
    sha256: str

    def __str__(self) -> str:
        trained = "{architecture} on {dataset}, {precision}".format_map(self.recipe)
        return "\n".join(
            [
                f"{self.name}: {self.defence}, {trained}, seed {self.seed}",
                f"Trained by {self.command}",
                *map(_shown, self.evaluations),
                f"Card written at commit {self.commit}; SHA-256 of the file {self.sha256}",
            ]
        )


def names() -> list[str]:
    """Return the names of all classifiers of the zoo.

    Example:
        >>> "digits-trades" in names()
        True
    """
    return sorted(path.stem for path in FOLDER.glob("*.json"))


def card(name: str) -> Card:
    """Return the card of a classifier.

    Args:
        name: One of `names()`.

    Raises:
        InvalidInput: If there is none of this name.

    Example:
        >>> card("digits-trades").recipe["method"]
        'trades'
    """
    path = FOLDER / f"{one_of('name', name, names())}.json"
    with well_formed("card", got=path, expected="one of the zoo", fix=_FIX):
        return Card(**read_json(path, "card", fix=_FIX))


def load(name: str) -> keras.Model:
    """Return a trained classifier, not compiled, after its file has been compared with its card.

    Args:
        name: One of `names()`.

    Returns:
        A float32 Keras model of images `[batch, height, width, channels]` in [0, 1] that returns logits.

    Raises:
        InvalidInput: If there is none of this name, or its file is not the one that the card is of.

    Example:
        >>> load("digits-trades").output_shape
        (None, 10)
    """
    expected, path = card(name).sha256, model_file(FOLDER / f"{name}.keras", what=name)
    got = digest(path)
    require(got == expected, name, got=f"a file with the SHA-256 {got}", expected=f"{expected}, by its card", fix=_FIX)
    return load_classifier(path, what=name)


def digest(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _shown(metrics: dict[str, Any]) -> str:
    """Return an evaluation as lines of text."""

    def figures(values: dict[str, Any], *names: str) -> str:
        return ", ".join(f"{name} {with_interval(values, name)} %" for name in names)

    by_alpha = [f"alpha_test {row['alpha_test']:g}: {figures(row, 'A_sa', 'A_tr')}" for row in metrics["non_uniform"]]
    warnings = [f"Warning: {flag['message']}" for flag in metrics["flags"]]
    return "\n".join(
        [
            f"{metrics['date']}: {conditions(metrics)}",
            figures(metrics, "A_nat", "A_rob", "A_strong"),
            *by_alpha,
            *warnings,
        ]
    )
