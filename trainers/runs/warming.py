"""A warm start: adversarial training for free, which makes many cheap steps, before the training itself."""

import shutil
import time
from pathlib import Path

import keras

import wmr_tf
from trainers.runs.scheduling import LearningRateByBatch
from trainers.settings.config import Experiment
from wmr_tf import data
from wmr_tf.callbacks import ExactResume, LogProgress

CHECKPOINTS = "warm-checkpoints"


def warm_up(
    experiment: Experiment, splits: data.Splits, classifier: keras.Model, folder: Path, resume: ExactResume
) -> None:
    """Train a new classifier by `free`, for `experiment.warm_start` epochs; what was done before is taken from there.

    Args:
        experiment: All settings of the training itself.
        splits: Its data.
        classifier: What is trained.
        folder: Of the run; the checkpoints go there.
        resume: Of the training itself: how often a checkpoint is written, how a run is gone on with, and what it does
            when it diverges.
    """
    if not experiment.warm_start:
        return
    warm, began = experiment.warming(), time.monotonic()
    print(f"Warm start: free, {warm.epochs} epochs of {warm.replays} replays a batch", flush=True)
    model = wmr_tf.AdversarialModel(classifier, warm.make_method(), weight_decay=warm.weight_decay, seed=warm.seed)
    model.compile(optimizer=keras.optimizers.SGD(warm.learning_rate, momentum=0.9), metrics=["accuracy"])
    kept = ExactResume(folder / CHECKPOINTS, minutes=resume.minutes, on_divergence=resume.on_divergence)
    kept.command = resume.command
    callbacks = [LearningRateByBatch(warm), LogProgress(), kept]
    model.fit(splits.train, epochs=warm.rounds, callbacks=callbacks, verbose=0)
    print(f"The warm start took {time.monotonic() - began:.1f} s", flush=True)


def forget_warm_up(folder: Path) -> None:
    """Delete the checkpoints of the warm start."""
    shutil.rmtree(folder / CHECKPOINTS, ignore_errors=True)
