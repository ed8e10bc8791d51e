"""What a training method is: how one batch updates the model."""

import abc
import inspect
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import keras
import tensorflow as tf

from wmr_tf.attacks import Attack
from wmr_tf.checks import nonnegative, require
from wmr_tf.frozen import Network
from wmr_tf.losses import weighted_cross_entropy


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
    index: tf.Tensor | None = None  # type: ignore[assignment]  # tuples have a method of this name
    """int32 `[batch]`, each image's place in the training set; None where the data do not come with it."""


LossFn = Callable[[], tuple[tf.Tensor, tf.Tensor]]
"""Returns losses `[batch]` and logits `[batch, classes]`."""


class Learner(Protocol):
    """What a method needs of the model: the classifier, and a way to descend on a loss."""

    classifier: keras.Model

    def descend(self, batch: Batch, loss_fn: LossFn) -> tf.Tensor:
        """Makes one optimiser step on the mean of the losses; returns the logits. `differentiate`, then `update`."""

    def differentiate(
        self, batch: Batch, loss_fn: LossFn, *, at: tf.Tensor | None = None
    ) -> tuple[tf.Tensor, list[tf.Tensor | None], tf.Tensor | None]:
        """Returns the logits, what `update` takes, and the gradient at the tensor `at`, so scaled, from one pass."""

    def update(self, gradients: list[tf.Tensor | None]) -> None:
        """Makes one optimiser step, given a gradient, or a mean of several, from `differentiate`."""


def of_unit_size(gradient: tf.Tensor) -> tf.Tensor:
    """Returns what an attack needs of a gradient that was scaled for `update`: its direction for each image.

    Args:
        gradient: float32 `[batch, ...]`.

    Returns:
        The same with a largest value of 1 in each image; 0 where it is 0 or has overflowed.
    """
    gradient = tf.where(tf.math.is_finite(gradient), gradient, 0.0)
    largest = tf.reduce_max(tf.abs(gradient), list(range(1, gradient.shape.rank)), keepdims=True)
    return tf.math.divide_no_nan(gradient, largest)


def checked_attack(attack: Attack) -> Attack:
    """Returns `attack`.

    Raises:
        InvalidInput: If it is no attack.
    """
    mend = "Pass for instance wmr_tf.attacks.PGD(epsilon=0.3, step_size=0.01, steps=40)."
    require(isinstance(attack, Attack), "attack", got=repr(attack), expected="a wmr_tf.attacks.Attack", mend=mend)
    return attack


def attack_cross_entropy(
    attack: Attack,
    network: Network,
    batch: Batch,
    *,
    seed: tf.Tensor | None = None,
    epsilon: tf.Tensor | None = None,
    **weighting: Any,
) -> tf.Tensor:
    """Returns the batch's images as an attack on `s * cross-entropy` leaves them.

    Args:
        attack: Makes x' from x.
        network: What is attacked, the classifier as `wmr_tf.frozen.freeze` returns it.
        batch: Clean images `[batch, ...]` with labels and seed.
        seed: Another seed than the batch's.
        epsilon: A radius for each image, float32 `[batch]`; the attack's own for all if not given.
        **weighting: Of `wmr_tf.losses.weighted_cross_entropy`.
    """

    def losses(images: tf.Tensor) -> tf.Tensor:
        return weighted_cross_entropy(network(images), batch.labels, **weighting)

    return attack(losses, batch.images, seed=batch.seed if seed is None else seed, epsilon=epsilon)


def no_logits_yet(classifier: keras.Model, images: tf.Tensor) -> tf.Tensor:
    """Returns zeros in the shape of the classifier's logits `[batch, classes]`, for a loop that returns its last."""
    classes = classifier.compute_output_spec(keras.KerasTensor(images.shape, images.dtype.name)).shape[-1]
    return tf.zeros([tf.shape(images)[0], classes])


class Method(keras.layers.Layer, abc.ABC):
    """How one batch updates the model; a Keras layer, so that whatever state it keeps is saved with the model.

    Args:
        alpha: Power of the non-uniform attacker that is trained against, >= 0; 0 is the classical method.
        stop_gradient_weights: Whether the importance weights count as constants. Not so in the paper; for study.
        normalize_weights: Whether they are divided by their mean over the batch, whatever its sample weights; then
            Equation 16 does not hold.

    Raises:
        InvalidInput: If alpha is negative or not finite.
    """

    needs_index = False
    """Whether the images come as `{"image", "index"}`, the index that of the image in the training set."""

    def __init__(
        self, alpha: float = 0.0, *, stop_gradient_weights: bool = False, normalize_weights: bool = False
    ) -> None:
        super().__init__(dtype="float32")
        self.alpha = nonnegative("alpha", alpha)
        self.stop_gradient_weights = stop_gradient_weights
        self.normalize_weights = normalize_weights

    @property
    def weighting(self) -> dict[str, Any]:
        """How the update weights the losses of `wmr_tf.losses`, as their keyword arguments."""
        return {**self.attack_weighting, "normalize_weights": self.normalize_weights}

    @property
    def attack_weighting(self) -> dict[str, Any]:
        """How the attack weights them: never normalised, since no image's attack depends on the rest of its batch."""
        return {"alpha": self.alpha, "stop_gradient_weights": self.stop_gradient_weights}

    def build(self, images_shape: tuple[int | None, ...]) -> None:
        """Creates what state the method keeps, given the shape of a batch of images; called before the first step."""

    def check(self, classifier: keras.Model) -> None:
        """Checks that the method can train a classifier, which has been built; called when the model is made.

        Raises:
            InvalidInput: If it cannot.
        """

    def check_batch(self, images_shape: tuple[int | None, ...]) -> None:
        """Checks that the state that has been built fits the batches; called by `fit`.

        Args:
            images_shape: Of the first batch of images.

        Raises:
            InvalidInput: If it has not been built, or for other batches.
        """
        mend = "Train with fit, or call method.build(images.shape) first."
        require(self.built, f"method {type(self).__name__}", got="no shape of a batch", expected="one", mend=mend)

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
