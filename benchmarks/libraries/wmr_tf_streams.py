"""wmr_tf in streams, each kernel by one thread, whatever the network."""

from collections.abc import Callable
from typing import Any

from benchmarks.libraries import wmr_tf
from benchmarks.task import Task

EAGER = False


def prepare(task: Task) -> Callable[[], Any]:
    """Return one step of a task."""
    wmr_tf.use_all_cores(batch_norm=False)
    return wmr_tf.step_of(task)
