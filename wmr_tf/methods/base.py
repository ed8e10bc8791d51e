"""What a training method is: how one batch updates the model."""

import abc
import inspect
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import keras
import tensorflow as tf

from wmr_tf.attacks import Attack
from wmr_tf.checks import nonnegative, require


class Batch(NamedTuple):
    """One batch as a method sees it."""

    images: tf.Tensor
    """float32 `[batch, ...]` in [0, 1]."""
    labels: tf.Tensor
    """int32 `[batch]`."""
    sample_weight: tf.Tensor | None
    """float32 `[batch]`, or None for 1 everywhere."""
    seed: tf.Tensor
    """int32 `[2]`, for this batch on this replica."""


class Learner(Protocol):
    """What a method needs of the model: the classifier, and a way to descend on a loss."""

    classifier: keras.Model

    def descend(self, batch: Batch, loss_fn: Callable[[], tuple[tf.Tensor, tf.Tensor]]) -> tf.Tensor:
        """Makes one optimiser step on the mean of `loss_fn() -> (losses [batch], logits)`; returns the logits."""


def checked_attack(attack: Attack) -> Attack:
    """Returns `attack`.

    Raises:
        InvalidInput: If it is no attack.
    """
    mend = "Pass for instance wmr_tf.attacks.PGD(epsilon=0.3, step_size=0.01, steps=40)."
    require(isinstance(attack, Attack), "attack", got=repr(attack), expected="a wmr_tf.attacks.Attack", mend=mend)
    return attack


class Method(keras.layers.Layer, abc.ABC):
    """How one batch updates the model; a Keras layer, so that whatever state it keeps is saved with the model.

    Args:
        alpha: Power of the non-uniform attacker that is trained against, >= 0; 0 is the classical method.
        stop_gradient_weights: Whether the importance weights count as constants. Not so in the paper; for study.

    Raises:
        InvalidInput: If alpha is negative or not finite.
    """

    def __init__(self, alpha: float = 0.0, stop_gradient_weights: bool = False) -> None:
        super().__init__(dtype="float32")
        self.alpha = nonnegative("alpha", alpha)
        self.stop_gradient_weights = stop_gradient_weights
        self.built = True

    @abc.abstractmethod
    def train_batch(self, model: Learner, batch: Batch) -> tf.Tensor:
        """Updates the model once or more on a batch.

        Returns:
            Logits `[batch, classes]` of the images that the update saw, for the metrics of `fit`.
        """

    @classmethod
    def settings(cls) -> list[str]:
        """Returns the names of what the constructor takes, all of which are attributes too."""
        return list(inspect.signature(cls).parameters)

    def get_config(self) -> dict[str, Any]:
        """Returns the settings, for Keras's serialisation."""
        return {name: keras.saving.serialize_keras_object(getattr(self, name)) for name in self.settings()}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Method":
        """Returns the method with these settings, for Keras's serialisation."""
        return cls(**{name: keras.saving.deserialize_keras_object(value) for name, value in config.items()})
