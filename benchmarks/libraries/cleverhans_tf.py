"""CleverHans on TensorFlow 2: its PGD, whose gradient is a `tf.function` of its own."""

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf
from cleverhans.tf2.attacks.projected_gradient_descent import projected_gradient_descent

from benchmarks.libraries.keras_classifier import build
from benchmarks.task import Task

EAGER = False


def prepare(task: Task) -> Callable[[], Any]:
    """Return one attack."""
    classifier = build(task)
    images, labels = tf.constant(task.images()), tf.constant(task.labels())

    def logits(x: tf.Tensor) -> tf.Tensor:
        return classifier(x, training=False)

    def attack() -> np.ndarray:
        attacked = projected_gradient_descent(
            logits,
            images,
            eps=task.epsilon,
            eps_iter=task.step_size,
            nb_iter=task.steps,
            norm=np.inf,
            clip_min=0.0,
            clip_max=1.0,
            y=labels,
            rand_init=True,
        )
        return attacked.numpy()

    return attack
