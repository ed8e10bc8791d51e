"""Measure how much memory a training takes from step to step, with checkpoints and an evaluation after each epoch.

python -m studies.memory --steps=2000 --output=results/memory.json

Trains the digits' network with TRADES as `trainers.digits` does; a checkpoint is written every second. What counts is
the process's resident memory at the end of an epoch, once it has warmed up.
"""

import dataclasses
import os
import tempfile
from pathlib import Path
from typing import Any

import keras

from trainers.cli import Command
from trainers.runs import run
from trainers.runs.folder import BEST, CHECKPOINTS
from trainers.settings.base import Settings, setting
from trainers.settings.config import Experiment
from wmr_tf.callbacks import ExactResume, SaveBestClassifier
from wmr_tf.checks import at_least
from wmr_tf.saving import write_json

STEPS_AN_EPOCH, BATCH_SIZE = 20, 16
WARM_UP = 500
SECONDS_BETWEEN_CHECKPOINTS = 1.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Growth(Settings):
    """How long the training is."""

    steps: int = setting("How many, after the warm-up.", 2000)
    output: str | None = setting("A JSON file for what is measured.")

    def __post_init__(self) -> None:
        at_least("steps", self.steps, STEPS_AN_EPOCH)


class Memory(keras.callbacks.Callback):
    """Keeps the process's resident memory, in MB, after each epoch."""

    def __init__(self) -> None:
        super().__init__()
        self.megabytes: list[float] = []

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Read it."""
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        self.megabytes.append(pages * os.sysconf("SC_PAGE_SIZE") / 1e6)


def measure(steps: int, folder: Path) -> list[float]:
    """Return the resident memory in MB after each epoch of a training of so many steps."""
    experiment = Experiment.of(
        "digits",
        epochs=steps // STEPS_AN_EPOCH,
        train_examples=STEPS_AN_EPOCH * BATCH_SIZE,
        validation_examples=50,
        batch_size=BATCH_SIZE,
        eval_attack_steps=2,
    )
    run.seed_everything(experiment)
    splits = run.load_data(experiment)
    model = run.build_model(experiment, splits.train_examples)
    memory = Memory()
    resume = ExactResume(folder / CHECKPOINTS, minutes=SECONDS_BETWEEN_CHECKPOINTS / 60)
    callbacks = run.run_callbacks(experiment, splits, folder, SaveBestClassifier(folder / BEST), resume)
    model.fit(splits.train, epochs=experiment.epochs, callbacks=[*callbacks, memory], verbose=0)
    return memory.megabytes


def rows(record: dict[str, Any]) -> list[tuple[str, Any, Any]]:
    """Return what there is to say of a record."""
    what = f"MB that a training grows by in {record['steps']} steps, after {WARM_UP}"
    return [(what, f"{record['grown']:.1f}", "less than 5")]


def tell(study: Growth) -> None:
    """Measure, print and write."""
    with tempfile.TemporaryDirectory() as folder:
        megabytes = measure(WARM_UP + study.steps, Path(folder))
    before, after = megabytes[WARM_UP // STEPS_AN_EPOCH - 1], megabytes[-1]
    print(f"{before:.1f} MB after {WARM_UP} steps, {after:.1f} MB after {study.steps} more: {after - before:+.1f} MB")
    if study.output:
        write_json(
            Path(study.output), {"seed": 0, "steps": study.steps, "grown": after - before, "megabytes": megabytes}
        )


if __name__ == "__main__":
    Command(Growth, tell)()
