"""Measure the alarms of `wmr_tf.diagnose` on classifiers that fool attacks and on honest ones.

python -m studies.alarms --models=A.keras,B.keras --data_dir=FOLDER --output=results/alarms.md

Trains the gallery of digits (`studies/gallery.py`), and loads the MNIST classifiers that are named. The table says
which check raised a flag for which classifier.
"""

import dataclasses
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import keras

from studies import gallery
from studies.runs import made_by, publish
from studies.settings import DataStudy
from trainers.cli import Command
from trainers.settings.base import setting
from wmr_tf import InvalidInput, data, diagnose, report
from wmr_tf.checks import at_least, require
from wmr_tf.checks import seed as checked_seed
from wmr_tf.saving import load_classifier

MNIST_EPSILON = 0.3


@dataclasses.dataclass(frozen=True, kw_only=True)
class Alarms(DataStudy):
    """What is examined beside the gallery, and on what."""

    models: tuple[str, ...] = setting("MNIST classifiers (.keras), with commas.", ())
    examples: int = setting("Test images, the first ones.", 128)
    seed: int = setting("Seed of the attacks.", 0)
    output: str = setting("The table, as Markdown.", "results/alarms.md")

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least("examples", self.examples, 1)
        checked_seed(self.seed)

    def check_place(self) -> None:
        """Check also that the models are there; see `DataStudy.check_place`."""
        super().check_place()
        for model in self.models:
            fix = "Name .keras files with commas."
            require(Path(model).is_file(), "models", got=repr(model), expected="a .keras file", fix=fix)


class Row(NamedTuple):
    """What was found of one classifier.

    Attributes:
        group: "broken", "honest" or "MNIST".
        name: Of the classifier.
        meant: The flag that is meant to be raised, "-" if none is.
        raised: Those that were.
        seconds: That the diagnosis took.
    """

    group: str
    name: str
    meant: str
    raised: list[str]
    seconds: float


def examined(
    study: Alarms, group: str, name: str, meant: str, classifier: keras.Model, images: gallery.Arrays, **ball: Any
) -> Row:
    """Return what a diagnosis finds of a classifier; refused images count as a flag of the name InvalidInput."""
    start = time.perf_counter()
    try:
        found = diagnose(classifier, images, examples=study.examples, seed=study.seed, verbose=0, **ball)
        raised = [flag["name"] for flag in found.flags]
    except InvalidInput:
        raised = ["InvalidInput"]
    row = Row(group, name, meant, raised, time.perf_counter() - start)
    print(row, flush=True)
    return row


def rows(study: Alarms) -> Iterator[Row]:
    """Yield the rows of the gallery, then those of the MNIST classifiers."""
    images, labels = gallery.digits("test")
    for name, broken in gallery.BROKEN.items():
        classifier, spoiled = broken.spoil(gallery.base()), (broken.images(images), labels)
        yield examined(study, "broken", name, broken.meant, classifier, spoiled, epsilon=gallery.EPSILON)
    for name, honest in gallery.HONEST.items():
        ball = {"epsilon": honest.epsilon, "norm": honest.norm}
        yield examined(study, "honest", name, "-", honest.make(), (images, labels), **ball)
    for path in map(Path, study.models):
        test = data.load("mnist", data_dir=study.data_dir).test
        yield examined(study, "MNIST", path.stem, "?", load_classifier(path), test, epsilon=MNIST_EPSILON)


def summary(found: list[Row]) -> str:
    """Return how many of the gallery were judged as they should be, and which not."""
    broken, honest = ([row for row in found if row.group == group] for group in ("broken", "honest"))
    missed = [row.name for row in broken if row.meant not in row.raised]
    alarmed = [f"{row.name}: {', '.join(row.raised)}" for row in honest if row.raised]
    return (
        f"{len(broken) - len(missed)} of {len(broken)} broken classifiers were flagged by the check that is meant, "
        f"missed: {'; '.join(missed) or 'none'}. {len(alarmed)} of {len(honest)} honest ones raised a false alarm: "
        f"{'; '.join(alarmed) or 'none'}."
    )


def examine(study: Alarms) -> None:
    """Train, diagnose and write the table."""
    found = list(rows(study))
    header = ["Classifier", "", "meant", "raised", "seconds"]
    cells = [[row.name, row.group, row.meant, ", ".join(row.raised) or "-", f"{row.seconds:.0f}"] for row in found]
    sections = [
        "# Alarms",
        f"{made_by('studies.alarms')}, seed {study.seed}, the first {study.examples} test images each. Digits: "
        f"linf, epsilon {gallery.EPSILON:g} (in l2 {gallery.L2['epsilon']:g}); MNIST: linf, epsilon {MNIST_EPSILON:g}.",
        summary(found),
        report.format_table(header, cells, markdown=True),
        "What the checks are, and what to do: `wmr_tf/evaluation/indicators.py`. The broken ones are made of the "
        "honest classifier PGD, but for winners take all, which is trained so: `studies/gallery.py`.",
    ]
    publish(sections, study.page)


if __name__ == "__main__":
    Command(Alarms, examine)()
