"""Classifiers of the digits that fool attacks, each in its own way, and honest ones: what the alarms are measured on."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from wmr_tf import AdversarialModel, architectures, attacks, data, methods

EPSILON = 0.15

Arrays = tuple[np.ndarray, np.ndarray]


class Through(layers.Layer):
    """A layer that computes a function of its input, and of its own weights if there are any."""

    def __init__(self, function: Callable[[tf.Tensor], tf.Tensor], **settings: Any) -> None:
        super().__init__(**settings)
        self.function = function

    def call(self, x: tf.Tensor) -> tf.Tensor:
        """Return the function of x."""
        return self.function(x)


def digits(split: str) -> Arrays:
    """Return the images and labels of a split of the digits."""
    batches = list(getattr(data.load("digits", batch_size=32), split))
    return np.concatenate([x for x, _ in batches]), np.concatenate([y for _, y in batches])


def network(*, filters: int = 8, activation: Any = "relu", norm: bool = False, hidden: int = 0) -> keras.Model:
    """Return a new small convnet of 8x8 images."""
    return keras.Sequential(
        [
            keras.Input([8, 8, 1]),
            layers.Conv2D(filters, 3, padding="same", activation=activation),
            *([layers.BatchNormalization()] if norm else []),
            layers.Conv2D(2 * filters, 3, strides=2, padding="same", activation=activation),
            layers.Flatten(),
            *([layers.Dense(hidden, activation=activation)] if hidden else []),
            layers.Dense(10, dtype="float32"),
        ]
    )


def linear() -> keras.Model:
    """Return a new linear classifier of 8x8 images."""
    return keras.Sequential([keras.Input([8, 8, 1]), layers.Flatten(), layers.Dense(10)])


def trained(
    classifier: keras.Model, method: methods.Method, *, epochs: int, seed: int = 0, learning_rate: float = 0.05
) -> keras.Model:
    """Return the classifier, trained on the digits."""
    keras.utils.set_random_seed(seed)
    model = AdversarialModel(classifier, method)
    model.compile(optimizer=keras.optimizers.SGD(learning_rate, momentum=0.9))
    model.fit(data.load("digits", batch_size=32, seed=seed).train, epochs=epochs, verbose=0)
    return classifier
