"""Add the best epoch of a finished run to `wmr_tf.zoo`, with its card.

python -m studies.zoo_card runs/zoo/digits-trades --name=digits-trades

Further folders are evaluations of the same weights, such as of a suite on fewer images. Every figure of the card is
read from their files; a model of that name is replaced.
"""

import dataclasses
import re
import shutil
from pathlib import Path
from typing import Any

from reproduce.origins import commit_of, without_places
from trainers.cli import Command
from trainers.runs.folder import BEST, CONFIG, metrics_of
from trainers.runs.naming import defence
from trainers.settings.base import Settings, arguments, setting
from wmr_tf import zoo
from wmr_tf.checks import require
from wmr_tf.evaluation.outcomes import hash_of_weights
from wmr_tf.saving import load_classifier, model_file, read_json, write_json, written_whole

KEPT = (
    *("date", "command", "dataset", "split", "examples", "attack", "masked", "suite", "non_uniform", "flags"),
    *(f"{name}{kind}" for name in ("A_nat", "A_rob", "A_strong") for kind in ("", "_interval")),
)
"""What a card says of an evaluation."""

PLACES = ("data_dir", "output_dir", "initialize_from", "surrogate", "trust", "command", "versions")
"""What of a run's settings is of the machine, or said elsewhere."""

_FIX = "Name the folder of a run, such as runs/NAME."


@dataclasses.dataclass(frozen=True, kw_only=True)
class Entry(Settings):
    """What is added."""

    folders: tuple[str, ...] = arguments()
    name: str | None = setting("What the zoo calls it: lower-case letters and digits, with hyphens and points.")

    def __post_init__(self) -> None:
        fix = "Write python -m studies.zoo_card RUN --name=digits-trades."
        require(bool(self.folders), "command line", got="no run", expected="the folder of a run", fix=fix)
        is_name = bool(re.fullmatch("[a-z0-9]+([-.][a-z0-9]+)*", self.name or ""))
        expected = "lower-case letters and digits, with hyphens or points between them"
        require(is_name, "name", got=self.name or "nothing", expected=expected, fix=fix)

    def check_place(self) -> None:
        """Check that run and evaluations are complete, and the model small enough; see `Settings.check_place`."""
        for folder in self.folders:
            metrics_of(folder)
        size = model_file(self.model, what="run").stat().st_size
        expected = f"at most {zoo.LARGEST:,}"
        require(size <= zoo.LARGEST, "model", got=f"{size:,} bytes", expected=expected, fix="Add a smaller one.")

    @property
    def model(self) -> Path:
        """The file of the model."""
        return Path(self.folders[0]) / BEST


def add(entry: Entry) -> None:
    """Write the model and its card into the zoo.

    Raises:
        InvalidInput: If an evaluation is not of this model.
    """
    config = read_json(Path(entry.folders[0]) / CONFIG, "run", fix=_FIX)
    evaluations = [metrics_of(folder) for folder in entry.folders]
    check_weights(entry, evaluations)
    card = zoo.Card(
        name=str(entry.name),
        defence=defence(evaluations[0]),
        recipe={name: value for name, value in config.items() if name not in PLACES and value is not None},
        command=without_places(config["command"]),
        seed=config["seed"],
        commit=commit_of(Path(__file__).resolve().parents[1]) or "unknown",
        evaluations=[shown(metrics) for metrics in evaluations],
        sha256=zoo.digest(entry.model),
    )
    with written_whole(zoo.FOLDER / f"{card.name}.keras") as unfinished:
        shutil.copyfile(entry.model, unfinished)
    write_json(zoo.FOLDER / f"{card.name}.json", dataclasses.asdict(card))
    print(card)


def check_weights(entry: Entry, evaluations: list[dict[str, Any]]) -> None:
    """Check that evaluations are of the weights that are added.

    Raises:
        InvalidInput: If one is not.
    """
    weights = hash_of_weights(load_classifier(entry.model))
    for folder, metrics in zip(entry.folders, evaluations, strict=True):
        got = metrics.get("hashes", {}).get("weights")
        fix = f"Evaluate {entry.model} again."
        require(got == weights, "run", got=f"{folder!r}, of other weights", expected=f"of {entry.model}", fix=fix)


def shown(metrics: dict[str, Any]) -> dict[str, Any]:
    """Return what a card says of an evaluation."""
    return {name: metrics[name] for name in KEPT if name in metrics} | {"command": without_places(metrics["command"])}


if __name__ == "__main__":
    Command(Entry, add)()
