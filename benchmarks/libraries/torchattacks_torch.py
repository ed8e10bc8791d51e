"""torchattacks: its PGD."""

from collections.abc import Callable
from typing import Any

import torchattacks

from benchmarks.libraries.torch_classifier import build, images_and_labels
from benchmarks.task import Task

EAGER = True


def prepare(task: Task) -> Callable[[], Any]:
    """Return one attack."""
    images, labels = images_and_labels(task)
    attack = torchattacks.PGD(build(task).eval(), eps=task.epsilon, alpha=task.step_size, steps=task.steps)
    return lambda: attack(images, labels)
