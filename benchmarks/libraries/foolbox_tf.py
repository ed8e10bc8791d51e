"""Foolbox on TensorFlow: its PGD."""

from collections.abc import Callable
from typing import Any

import foolbox
import numpy as np
import tensorflow as tf

from benchmarks.libraries.keras_classifier import build
from benchmarks.task import Task

EAGER = False


def prepare(task: Task) -> Callable[[], Any]:
    """Return one attack."""
    model = foolbox.TensorFlowModel(build(task), bounds=(0, 1), device="/CPU:0")
    images, labels = tf.constant(task.images()), tf.constant(task.labels())
    attack = foolbox.attacks.LinfPGD(abs_stepsize=task.step_size, steps=task.steps, random_start=True)

    def attacked() -> np.ndarray:
        return attack(model, images, labels, epsilons=task.epsilon)[1].numpy()

    return attacked
