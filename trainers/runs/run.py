"""A training run from its settings to its folder."""

import dataclasses
import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

import wmr_tf
from trainers.runs.classifiers import make_classifier, warn_of_range
from trainers.runs.folder import (
    BEST,
    CHECKPOINTS,
    CONFIG,
    DIVERGED,
    HISTORY,
    LAST,
    LOGS,
    OUTCOMES,
    forget_checkpoints,
    run_folder,
    write_config,
)
from trainers.runs.naming import describe, shown_settings, training_facts
from trainers.runs.reporting import draw_training
from trainers.runs.scheduling import LearningRateByBatch, MethodByEpoch
from trainers.runs.strategy import lost_worker_reported, make_strategy, only_the_chief_writes
from trainers.runs.telling import AccuracyTable
from trainers.runs.testing import HeldOut, evaluate, number_of_images, prepare, tell_files, tell_of_missing_report
from trainers.runs.warming import forget_warm_up, warm_up
from trainers.settings.config import Experiment
from trainers.settings.network import PRECISIONS
from wmr_tf import data
from wmr_tf.alarms import warn
from wmr_tf.callbacks import (
    ExactResume,
    LogProgress,
    RobustEvaluation,
    SaveBestClassifier,
    WriteEvents,
    WriteHistory,
)
from wmr_tf.checks import require
from wmr_tf.data.own import short_name
from wmr_tf.divergence import Diverged
from wmr_tf.engine import machine
from wmr_tf.engine.memory import training_bytes
from wmr_tf.extras import is_installed
from wmr_tf.fit.interrupts import own_command, stoppable
from wmr_tf.methods import BY_NAME
from wmr_tf.saving import load_classifier, save_classifier, write_json

CHECKPOINT_MINUTES = 5.0
"""How often a run writes a checkpoint, at most."""


def train(experiment: Experiment) -> Path:
    """Train, evaluate the best epoch on test images, and write all of it into the run's own folder.

    A run that was stopped at any moment goes on where it was.

    Args:
        experiment: All settings.

    Returns:
        The folder: config.json, history.csv, metrics.json, report.html, images.npz, classifier.keras (last), best.keras
        (the best epoch), training.png, robustness.png and TensorBoard's logs.

    Raises:
        InvalidInput: If data, files or settings are not what they should be; nothing is written then.
        Diverged: If training diverged; the folder keeps its history, the last finite checkpoint and the best epoch.
        LostWorker: If one of several workers is gone; the chief's folder has its history and the best epoch before.
        OSError: If a file cannot be written; its notes say how to go on.
    """
    strategy = make_strategy(experiment.strategy)
    replicas, size = strategy.num_replicas_in_sync, experiment.batch_size
    fix = "The batch is the global one, shared out among the replicas: raise --batch_size."
    require(size >= replicas, "batch_size", got=size, expected=f"at least {replicas}, one image a replica", fix=fix)
    seed_everything(experiment)
    splits = load_data(experiment)
    test = prepare(experiment, splits)
    with strategy.scope():
        model = build_model(experiment, splits.train_examples)
    if experiment.is_own_classifier:
        warn_of_range(model.classifier, splits.validation)
    name = f"{short_name(experiment.dataset)}-{experiment.method}-alpha{experiment.alpha_train:g}"
    with only_the_chief_writes(strategy) as elsewhere:
        settings = dataclasses.replace(experiment, output_dir=elsewhere or experiment.output_dir)
        with run_folder(settings, name) as folder:
            # All workers go on from the chief's checkpoints, and from what its suite has found.
            shared = Path(experiment.output_dir).expanduser() if experiment.output_dir else folder
            command = resume_command(folder, experiment.trust)
            begin(experiment, folder)
            with (
                lost_worker_reported(strategy, folder),
                stoppable(f"{folder} keeps the training and what the evaluation has found", command),
            ):
                resume = ExactResume(
                    shared / CHECKPOINTS, minutes=CHECKPOINT_MINUTES, on_divergence=experiment.on_divergence
                )
                resume.command, resume.tells = command, True
                tell_memory(model, splits.train.element_spec, experiment.batch_size)
                fit_and_evaluate(experiment, splits, test, model, folder, resume, shared / OUTCOMES)
    return folder


def begin(experiment: Experiment, folder: Path) -> None:
    """Write what makes a folder one of an unfinished run, unless it is one, and say which folder it is."""
    tell_of_missing_report()
    (folder / CHECKPOINTS).mkdir(exist_ok=True)  # first: a config without them would be of a finished run
    is_new = not (folder / CONFIG).exists()
    if is_new:
        write_config(folder, experiment, command=own_command())
    print(describe(experiment))
    weights = experiment.initialize_from or (experiment.architecture if experiment.is_own_classifier else None)
    if is_new and weights:
        print(f"Training begins with the weights of {weights}")
    print(f"{'Writing into' if is_new else 'Going on in'} {folder}", flush=True)


def tell_memory(model: wmr_tf.AdversarialModel, spec: Any, batch_size: int) -> None:
    """Say what a training step needs, by calculation, and what is free; warn where that is not enough."""
    images = spec[0]["image"] if isinstance(spec[0], dict) else spec[0]
    needed, free = training_bytes(model, images.shape[1:], batch_size), machine.free_memory()
    if free is None:
        return
    takes = f"about {needed / 1e9:.1f} GB" if needed > 1e8 else "less than 0.1 GB"
    told = f"step of {batch_size} images takes {takes}, and {free / 1e9:.1f} GB are free"
    print(f"A {told}", flush=True)
    if needed > free:
        warn(f"a {told}. Lower --batch_size")


def resume_command(folder: Path, trust: bool) -> str:
    """Return the command that goes on with an unfinished run; that models are trusted has to be said again."""
    return shlex.join(["python", "-m", "trainers.resume", str(folder), *["--trust"] * trust])


def fit_and_evaluate(
    experiment: Experiment,
    splits: data.Splits,
    test: HeldOut,
    model: wmr_tf.AdversarialModel,
    folder: Path,
    resume: ExactResume,
    outcomes: Path,
) -> None:
    """Train a model and evaluate its best epoch on test images; see `train`, of which this is the long part."""
    best = SaveBestClassifier(folder / BEST, monitor=experiment.select)
    callbacks = run_callbacks(experiment, splits, folder, best, resume)
    gentler = "without --warm_start (its learning rate is that of its own recipe)"
    try:
        warm_up(experiment, splits, model.classifier, folder, resume)
        gentler = "with a lower --learning_rate"
        history = model.fit(splits.train, epochs=experiment.rounds, callbacks=callbacks, verbose=0)
        epoch = best_epoch(best, history.history)
    except Diverged as diverged:
        end_diverged(diverged, folder, best, resume, gentler)
        raise
    save_classifier(model.classifier, folder / LAST)

    print(f"Evaluating epoch {epoch} ({BEST}) on test images", flush=True)
    facts = {"checkpoint": BEST, **training_facts(dataclasses.asdict(experiment))}
    if experiment.on_divergence == "rollback":
        facts["rollbacks"] = resume.rollbacks
    with model.distribute_strategy.scope():
        classifier = load_classifier(folder / BEST)
    facts["validation_images"] = number_of_images(splits.validation)
    metrics = evaluate(experiment, test, classifier, folder, facts, outcomes)
    if is_installed("report"):
        draw_training(folder, metrics)
    forget_checkpoints(folder)  # first: while they are there, a run that is gone on with asks for the warm start
    forget_warm_up(folder)
    tell_files(folder, **{BEST: f"the classifier of epoch {epoch}, the best"})


def end_diverged(diverged: Diverged, folder: Path, best: SaveBestClassifier, resume: ExactResume, gentler: str) -> None:
    """Write that a run has come to its end since its training diverged; have the error say what is kept, and to do."""
    facts = {"told": diverged.told, **diverged.facts(), "rollbacks": resume.rollbacks}
    write_json(folder / DIVERGED, facts)
    kept = ["the last finite checkpoint"] if any((folder / CHECKPOINTS).iterdir()) else []
    kept += [] if best.best_epoch is None else [f"{BEST} of epoch {best.best_epoch + 1}"]
    other = "" if resume.on_divergence == "rollback" else " or --on_divergence=rollback"
    diverged.add_note(
        (f"{folder} keeps {' and '.join(kept)}. " if kept else "") + f"Train into another folder, {gentler}{other}."
    )


def seed_everything(experiment: Experiment) -> None:
    """Seed Keras, NumPy and Python, set the precision, and make TensorFlow deterministic if that is asked for."""
    keras.utils.set_random_seed(experiment.seed)
    if experiment.deterministic:
        tf.config.experimental.enable_op_determinism()
    keras.config.set_dtype_policy(PRECISIONS[experiment.precision])


def load_data(experiment: Experiment) -> data.Splits:
    """Return the training, validation and test batches of an experiment.

    Raises:
        InvalidInput: If the data cannot be had, or more images are asked for than there are to train on.
    """
    return data.load(
        experiment.source(),
        batch_size=experiment.batch_size,
        seed=experiment.seed,
        data_dir=experiment.data_dir,
        train_examples=experiment.train_examples,
        validation_examples=experiment.validation_examples,
        with_index=BY_NAME[experiment.method].needs_index,
    )


def build_model(experiment: Experiment, examples: int | None = None) -> wmr_tf.AdversarialModel:
    """Return the compiled training model, with the weights of `initialize_from` if that is given.

    Args:
        experiment: All settings.
        examples: The number of training images, which a method needs that keeps something for each of them.

    Raises:
        InvalidInput: If the method needs the number of images and it is not given, or cannot train the classifier.
    """
    method = experiment.make_method(examples)
    model = wmr_tf.AdversarialModel(
        make_classifier(experiment),
        method,
        weight_decay=experiment.weight_decay,
        awp=experiment.awp,
        seed=experiment.seed,
    )
    averaging = {} if experiment.averaging is None else {"use_ema": True, "ema_momentum": experiment.averaging}
    optimizer = keras.optimizers.SGD(
        experiment.learning_rate, momentum=0.9, global_clipnorm=experiment.clip_norm, **averaging
    )
    model.compile(optimizer=optimizer, metrics=["accuracy"])
    return model


def run_callbacks(
    experiment: Experiment, splits: data.Splits, folder: Path, best: SaveBestClassifier, resume: ExactResume
) -> list[keras.callbacks.Callback]:
    """Return the callbacks of a run; the evaluation comes before those that read its numbers."""
    evaluation = validation_evaluation(experiment, splits)
    return [
        *measuring_callbacks(experiment, evaluation),
        best,
        resume,
        WriteHistory(folder / HISTORY),
        WriteEvents(folder / LOGS, evaluation, settings=shown_settings(experiment), write_graph=False),
    ]


def measuring_callbacks(experiment: Experiment, evaluation: RobustEvaluation) -> list[keras.callbacks.Callback]:
    """Return the callbacks that a run needs whatever is made of its numbers; they write nothing."""
    return [
        MethodByEpoch(experiment),
        LearningRateByBatch(experiment),
        LogProgress(),
        evaluation,
        AccuracyTable(evaluation, short_name(experiment.dataset)),
    ]


def validation_evaluation(
    experiment: Experiment, splits: data.Splits, alpha_tr: Iterable[float] = ()
) -> RobustEvaluation:
    """Return the callback that measures robustness on the validation images; for `alpha_tr` see `RobustEvaluation`."""
    return RobustEvaluation(
        splits.validation,
        experiment.test_attack(),
        alpha_test=experiment.alpha_test,
        alpha_tr=alpha_tr,
        examples=None,
        every=experiment.eval_every,
        seed=experiment.seed,
        batch_size=experiment.eval_batch_size,
        on_masked=experiment.on_masked,
        verbose=1,
    )


def best_epoch(best: SaveBestClassifier, history: dict[str, list[float]]) -> int:
    """Return the epoch of the best classifier, counted from 1.

    Raises:
        Diverged: If there is none.
    """
    if best.best_epoch is None:
        losses, found = history["loss"], f"no finite {best.monitor} in any epoch"
        raise Diverged(best.model, epoch=len(losses), batch=None, loss=losses[-1], found=found)
    return best.best_epoch + 1
