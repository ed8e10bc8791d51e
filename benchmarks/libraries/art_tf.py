"""Adversarial Robustness Toolbox on TensorFlow 2: its PGD trainer, and its attack alone.

`AdversarialTrainerMadryPGD` would attack 32 images at a time, whatever the batch; the trainer that it wraps, given an
attack of the whole batch, is the faster way to the same training and is what is measured.
"""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from art.defences.trainer import AdversarialTrainer
from art.estimators.classification import TensorFlowV2Classifier

from benchmarks.libraries.art_attack import pgd
from benchmarks.libraries.keras_classifier import build
from benchmarks.task import CLASSES, IMAGE_SHAPES, Task

EAGER = False


def prepare(task: Task) -> Callable[[], Any]:
    """Return one step of a task."""
    images, labels = task.images(), np.eye(CLASSES, dtype=np.float32)[task.labels()]
    loss_object, optimizer = keras.losses.CategoricalCrossentropy(from_logits=True), keras.optimizers.SGD(0.01, 0.9)

    @tf.function
    def train_step(model: keras.Model, x: tf.Tensor, y: tf.Tensor) -> None:
        with tf.GradientTape() as tape:
            loss = loss_object(y, model(x, training=True))
        optimizer.apply_gradients(
            zip(tape.gradient(loss, model.trainable_variables), model.trainable_variables, strict=True)
        )

    classifier = TensorFlowV2Classifier(
        build(task),
        nb_classes=CLASSES,
        input_shape=IMAGE_SHAPES[task.architecture],
        loss_object=loss_object,
        train_step=train_step,
        clip_values=(0.0, 1.0),
    )
    attack = pgd(task, classifier)
    if task.kind == "attack":
        return lambda: attack.generate(images, labels)
    trainer = AdversarialTrainer(classifier, attack, ratio=1.0)
    return lambda: trainer.fit(images, labels, batch_size=task.size, nb_epochs=1)
