"""wmr_tf in streams, all cores for each kernel, whatever the network."""

from collections.abc import Callable
from typing import Any

from benchmarks.libraries import wmr_tf
from benchmarks.task import Task

EAGER = False


def prepare(task: Task) -> Callable[[], Any]:
    """Return one step of a task."""
    wmr_tf.use_all_cores(batch_norm=True)
    return wmr_tf.step_of(task)
