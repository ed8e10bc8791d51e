"""Training on several devices or machines: which strategy, on which workers, and what happens when one is lost."""

import contextlib
import faulthandler
import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

import tensorflow as tf

from trainers.settings.cluster import STRATEGIES, LostWorker, checked_tf_config
from wmr_tf.checks import one_line, one_of
from wmr_tf.engine.distribution import is_chief, workers

WAIT_MINUTES = 10.0
"""How long a worker waits for the others to start."""


# What a collective operation fails with when a peer is gone or silent.
_LOSSES = (
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
)


def make_strategy(name: str) -> tf.distribute.Strategy:
    """Return a strategy; to be called before TensorFlow has done anything else.

    Args:
        name: "none"; "mirrored", all GPUs of this machine, or its logical CPU devices if it has none; "multi_worker",
            the workers that the environment variable TF_CONFIG names, for all of which this waits.

    Raises:
        InvalidInput: If there is no such strategy, or TF_CONFIG is not what it should be.
        LostWorker: If the workers do not find together.
    """
    one_of("strategy", name, STRATEGIES)
    if name == "none":
        return tf.distribute.get_strategy()
    if name == "mirrored":
        devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
        return tf.distribute.MirroredStrategy([device.name for device in devices])
    config = checked_tf_config(os.environ.get("TF_CONFIG"))
    task, addresses = config["task"], [address for job in config["cluster"].values() for address in job]
    waiting = f"waiting up to {WAIT_MINUTES:g} minutes for all of {', '.join(addresses)}"
    print(f"{task['type']} {task['index']}: {waiting}", flush=True)
    # TensorFlow would wait for ever, deaf to signals and to Python's own timers; this one exits with status 1.
    faulthandler.dump_traceback_later(60 * WAIT_MINUTES, exit=True, file=2)
    try:
        return tf.distribute.MultiWorkerMirroredStrategy()
    except (tf.errors.OpError, RuntimeError) as error:
        raise LostWorker(f"strategy: the workers did not find together ({_loss_told(error)}).") from error
    finally:
        faulthandler.cancel_dump_traceback_later()


@contextlib.contextmanager
def lost_worker_reported(strategy: tf.distribute.Strategy, folder: Path) -> Iterator[None]:
    """Turn what TensorFlow raises when a worker is gone into one sentence; alone, errors stay as they are.

    Args:
        strategy: Of this process.
        folder: That of the run, in the chief.

    Raises:
        LostWorker: Instead of TensorFlow's error; it says which worker was lost, where that is known, and how to go on.
    """
    try:
        yield
    except _LOSSES as error:
        if workers(strategy) == 1:
            raise
        told = folder if is_chief(strategy) else "FOLDER, that of the chief"
        raise LostWorker(
            f"training: lost {_lost_worker(strategy, error)} ({_loss_told(error)}). Start all workers again by the "
            f"same command, with --output_dir={told}: they go on from the chief's last checkpoint."
        ) from error


def _lost_worker(strategy: tf.distribute.Strategy, error: Exception) -> str:
    """Return the worker that an error is about: named in it beside the operation's own, or the only other there is."""
    resolver = strategy.cluster_resolver
    jobs = resolver.cluster_spec().as_dict()
    all_tasks = [(job, number) for job, addresses in jobs.items() for number in range(len(addresses))]
    others = [task for task in all_tasks if task != (resolver.task_type, resolver.task_id)]
    named = re.findall(r"/job:(\w+)/(?:replica:\d+/)?task:(\d+)", str(error))
    lost = [task for task in others if (task[0], str(task[1])) in named] or (others if len(others) == 1 else [])
    return f"{lost[0][0]} {lost[0][1]}" if lost else "another worker"


@contextlib.contextmanager
def only_the_chief_writes(strategy: tf.distribute.Strategy) -> Iterator[str | None]:
    """Yield the folder that a worker writes into instead of the run's, None for the chief, who has the run's own.

    So every worker does all that the chief does, and meets it wherever replicas meet; what it writes is deleted, what
    it prints is not shown.
    """
    if is_chief(strategy):
        yield None
        return
    resolver = strategy.cluster_resolver
    print(f"{resolver.task_type} {resolver.task_id}: taking part; the chief reports and writes", flush=True)
    with (
        tempfile.TemporaryDirectory() as folder,
        open(os.devnull, "w") as nowhere,
        contextlib.redirect_stdout(nowhere),
    ):
        yield folder


def _loss_told(error: Exception) -> str:
    """Return the line of an error that tells who was lost or how, the first one if none does."""
    lines = [line for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    telling = [line for line in lines if any(word in line for word in ("aborted", "eartbeat", "nreachable"))]
    return one_line((telling or lines)[0]).rstrip(".: ")
