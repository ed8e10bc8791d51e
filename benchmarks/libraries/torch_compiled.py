"""PyTorch as a competent user writes it, with `torch.compile` around the classifier."""

from collections.abc import Callable
from typing import Any

import torch

from benchmarks.libraries import torch_competent
from benchmarks.task import Task

EAGER = False


def prepare(task: Task) -> Callable[[], Any]:
    """Return one step of a task."""
    return torch_competent.prepare(task, torch.compile)
