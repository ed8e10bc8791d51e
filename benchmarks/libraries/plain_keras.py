"""wmr_tf without what makes the network fast: Keras's own layers, nothing folded, fused or joined.

The classifier is wrapped in a subclassed model, whose graph the library does not know and therefore runs as it is: no
BatchNorm is folded into a convolution or fused, kernels are read anew at every attack step, clean and attacked images
make separate passes. What the attack itself does stays: its gradient is computed apart from its loop, and the clean
probabilities of TRADES are computed once.
"""

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from benchmarks.libraries import keras_classifier, ours
from benchmarks.task import Task

EAGER = False


class Plain(keras.Model):
    """A classifier whose layers nobody can see and so nobody can replace."""

    def __init__(self, classifier: keras.Model) -> None:
        super().__init__(autocast=False)  # the classifier casts, each layer as its policy says
        self.classifier = classifier
        self.built = classifier.built

    def call(self, images: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Return the classifier's logits `[batch, classes]`."""
        return self.classifier(images, training=training)


def prepare(task: Task) -> Callable[[], Any]:
    """Return one step of a task."""
    return ours.prepare(task, build)


def build(task: Task) -> Plain:
    """Return the classifier that all are measured on, wrapped."""
    return Plain(keras_classifier.build(task))
