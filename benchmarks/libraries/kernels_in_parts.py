"""TensorFlow's kernels of single layers by themselves, each core with one thread and a part of the batch of its own."""

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from benchmarks.libraries import kernels
from benchmarks.task import Task
from benchmarks.worker import CORES

EAGER = False

tf.config.threading.set_intra_op_parallelism_threads(1)
tf.config.threading.set_inter_op_parallelism_threads(CORES)


def prepare(task: Task) -> Callable[[], Any]:
    """Return `task.steps` runs of a kernel on every part."""
    return kernels.prepare(task, parts=CORES)
