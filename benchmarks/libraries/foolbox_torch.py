"""Foolbox on PyTorch: its PGD."""

from collections.abc import Callable
from typing import Any

import foolbox

from benchmarks.libraries.torch_classifier import build, images_and_labels
from benchmarks.task import Task

EAGER = True


def prepare(task: Task) -> Callable[[], Any]:
    """Return one attack."""
    model = foolbox.PyTorchModel(build(task).eval(), bounds=(0, 1), device="cpu")
    images, labels = images_and_labels(task)
    attack = foolbox.attacks.LinfPGD(abs_stepsize=task.step_size, steps=task.steps, random_start=True)
    return lambda: attack(model, images, labels, epsilons=task.epsilon)[1]
