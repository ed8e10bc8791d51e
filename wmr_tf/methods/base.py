"""What a training method is: how one batch updates the model."""

import abc
import inspect
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import keras
import tensorflow as tf

from wmr_tf.attacks import PGD, Attack
from wmr_tf.attacks.base import PerExample, check_attack, computed_once, warn_if_weak
from wmr_tf.checks import require
from wmr_tf.engine.frozen import Network, freeze
from wmr_tf.engine.training import joint_training_logits, training_logits
from wmr_tf.inputs.classifier import check_one_image_stays_one
from wmr_tf.losses import cross_entropy, weighted_cross_entropy
from wmr_tf.weights import Weighting, as_weighting, probability_margin, weighted_in_attack


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
    withstood: tf.Tensor | None = None
    """float32 `[batch]`, the fraction of the attack's steps before the first that fooled the classifier, see
    `wmr_tf.weights.Weighting.needs`; None before the attack, and where the weighting does not need it."""


LossFn = Callable[[], tuple[tf.Tensor, tf.Tensor]]
"""Returns losses `[batch]` and logits `[batch, classes]`."""


class Learner(Protocol):
    """What a method needs of the model: the classifier, and a way to descend on a loss."""

    classifier: keras.Model

    def descend(self, batch: Batch, loss_fn: LossFn) -> tf.Tensor:
        """Make one optimiser step on the mean of the losses; return the logits. `differentiate`, then `update`."""

    def differentiate(
        self, batch: Batch, loss_fn: LossFn, *, at: tf.Tensor | None = None
    ) -> tuple[tf.Tensor, list[tf.Tensor | None], tf.Tensor | None]:
        """Return the logits, what `update` takes, and the gradient at the tensor `at`, so scaled, from one pass."""

    def update(self, gradients: list[tf.Tensor | None]) -> None:
        """Make one optimiser step, given a gradient, or a mean of several, from `differentiate`."""


def unit_gradient(gradient: tf.Tensor) -> tf.Tensor:
    """Return the direction of each image's gradient, for an attack that shares a gradient scaled for `update`.

    Args:
        gradient: float32 `[batch, ...]`.

    Returns:
        The gradient scaled to a largest absolute value of 1 in each image; 0 where it is 0 or has overflowed.
    """
    gradient = tf.where(tf.math.is_finite(gradient), gradient, 0.0)
    largest = tf.reduce_max(tf.abs(gradient), list(range(1, gradient.shape.rank)), keepdims=True)
    return tf.math.divide_no_nan(gradient, largest)


def zero_logits(classifier: keras.Model, images: tf.Tensor) -> tf.Tensor:
    """Return zeros in the shape of the classifier's logits `[batch, classes]`, for a loop to start from."""
    classes = classifier.compute_output_spec(keras.KerasTensor(images.shape, images.dtype.name)).shape[-1]
    return tf.zeros([tf.shape(images)[0], classes])


class Method(keras.layers.Layer, abc.ABC):
    """How one batch updates the model; a Keras layer, so that its state is saved with the model.

    The arguments of its constructor are attributes of the same names. A new value, such as another `alpha` set by a
    callback, holds from the next batch on, for which the training step is traced again; only `alpha` is checked then.
    """

    needs_index = False
    """Whether the images come as `{"image", "index"}`, the index that of the image in the training set."""

    descends = True
    """Whether it updates by `Learner.descend`, which takes the gradient where `awp` has moved the weights."""

    passes_an_image = 1
    """How many passes of each image an update keeps until it goes back to the weights, for an estimate of memory."""

    def __init__(self) -> None:
        super().__init__(dtype="float32")

    def build(self, images_shape: tuple[int | None, ...]) -> None:
        """Create the method's state, given the shape of a batch of images; called before the first step."""

    def check(self, classifier: keras.Model) -> None:
        """Check that the method can train a classifier, which is built by then; called with the model and by `fit`.

        Raises:
            InvalidInput: If it cannot.
        """

    def check_batch(self, images_shape: tuple[int | None, ...]) -> None:
        """Check that the state fits the batches; called by `fit`.

        Args:
            images_shape: Of the first batch of images.

        Raises:
            InvalidInput: If it has not been built, or for other batches.
        """
        fix = "Train with fit, or call method.build(images.shape) first."
        require(self.built, f"method {type(self).__name__}", got="no shape of a batch", expected="one", fix=fix)

    @abc.abstractmethod
    def train_batch(self, model: Learner, batch: Batch) -> tf.Tensor:
        """Update the model once or more on a batch.

        Returns:
            Logits `[batch, classes]` of the images that the update saw, for the metrics of `fit`.
        """

    @classmethod
    def settings(cls) -> list[str]:
        """Return the names of the constructor's arguments, all of which are attributes too."""
        return list(inspect.signature(cls).parameters)

    def get_config(self) -> dict[str, Any]:
        """Return the settings, for Keras's serialisation."""
        return {name: keras.saving.serialize_keras_object(getattr(self, name)) for name in self.settings()}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Method":
        """Return the method with these settings, for Keras's serialisation."""
        return cls(**{name: keras.saving.deserialize_keras_object(value) for name, value in config.items()})


class AdversarialMethod(Method):
    """A method that trains on attacked images, each of which counts by its weight s, in the attack and in the update.

    Args:
        attack: Makes x' from x; a warning is given if it cannot reach the edge of its ball.
        alpha: A weighting, or a number >= 0, the alpha of `wmr_tf.weights.Exponential`; 0 weights all alike.
        runs: How often in a row the attack goes on from where it was.

    Raises:
        InvalidInput: If `attack` is no attack, or alpha is neither a weighting nor in [0, 60], or a weighting that
            needs more of each image than the method knows.
    """

    def __init__(self, attack: Attack, alpha: float | Weighting, *, runs: float = 1) -> None:
        super().__init__()
        check_attack(attack)
        warn_if_weak(attack, runs=runs)
        self.attack = attack
        self.alpha = alpha

    @property
    def alpha(self) -> float | Weighting:
        """The weighting, or the alpha of `wmr_tf.weights.Exponential`; it can be set."""
        return self._alpha

    @alpha.setter
    def alpha(self, alpha: float | Weighting) -> None:
        as_weighting(alpha).check_known(self.knows)
        self._alpha = alpha

    @property
    def knows(self) -> tuple[str, ...]:
        """What it can tell a weighting of each image, see `wmr_tf.weights.Weighting.needs`."""
        has_path = isinstance(self.attack, PGD) and self.attack.restarts == 1
        return ("losses", "withstood") if has_path else ("losses",)

    @property
    def weighting(self) -> Weighting:
        """How attacked images are weighted; set `alpha` to change it."""
        return as_weighting(self._alpha)

    def attacked(
        self,
        network: Network,
        batch: Batch,
        losses_of: PerExample | None = None,
        *,
        seed: tf.Tensor | None = None,
        epsilon: tf.Tensor | None = None,
    ) -> Batch:
        """Return the batch with its images as the attack on `s * loss` leaves them, and what the weighting needs.

        Args:
            network: The classifier as `wmr_tf.engine.frozen.freeze` returns it.
            batch: Clean images `[batch, ...]` with labels and seed.
            losses_of: Maps logits to each image's loss `[batch]`; the cross-entropy if not given.
            seed: A seed to use instead of the batch's.
            epsilon: A radius for each image, float32 `[batch]`; the attack's own for all if not given.
        """
        losses_of = losses_of or (lambda logits: cross_entropy(logits, batch.labels))
        network = computed_once(network)
        where: dict[str, Any] = {"seed": batch.seed if seed is None else seed, "epsilon": epsilon}

        def ascended(images: tf.Tensor) -> tf.Tensor:
            logits = network(images)
            return weighted_in_attack(self.weighting.of_each_image(logits, batch.labels), losses_of(logits))

        def margin(images: tf.Tensor) -> tf.Tensor:
            return probability_margin(network(images), batch.labels)

        if "withstood" in self.weighting.needs:
            assert isinstance(self.attack, PGD)  # `knows` says so
            images, withstood = self.attack.counting(ascended, batch.images, score_fn=margin, **where)
            return batch._replace(images=images, withstood=withstood)
        return batch._replace(images=self.attack(ascended, batch.images, **where))

    def descend_on_attacked(self, model: Learner, batch: Batch) -> tf.Tensor:
        """Attack the batch, make one optimiser step on the weighted cross-entropy, and return the logits."""
        attacked = self.attacked(freeze(model.classifier), batch)
        return model.descend(batch, self.loss_of(model.classifier, attacked.images, attacked))

    def loss_of(self, classifier: keras.Model, attacked: tf.Tensor, batch: Batch, **kwargs: Any) -> LossFn:
        """Return the loss that an update descends on: `s * cross-entropy` of attacked images.

        Args:
            classifier: The classifier that is trained.
            attacked: Attacked images `[batch, ...]`.
            batch: Their labels, and what the weighting needs.
            **kwargs: Of `wmr_tf.engine.training.training_logits`.
        """

        def loss() -> tuple[tf.Tensor, tf.Tensor]:
            logits = training_logits(classifier, attacked, **kwargs)
            return weighted_cross_entropy(logits, batch.labels, self.weighting, batch.withstood), logits

        return loss


class PairMethod(AdversarialMethod):
    """An adversarial method whose update sees each image twice, clean and attacked; its loss is one of `loss_of_pairs`.

    Layers that transform images at random are refused: they would draw anew for each of the two.
    """

    passes_an_image = 2

    def check(self, classifier: keras.Model) -> None:
        """Check that no layer of the classifier transforms images at random; see `Method.check`."""
        check_one_image_stays_one(classifier)


def loss_of_pairs(
    classifier: keras.Model,
    batch: Batch,
    attacked: tf.Tensor,
    losses_of: Callable[[tf.Tensor, tf.Tensor], tf.Tensor],
) -> LossFn:
    """Return a loss of clean and attacked images together; the logits for the metrics are those of the attacked ones.

    Args:
        classifier: The classifier that is trained.
        batch: Clean images `[batch, ...]`.
        attacked: As many attacked images.
        losses_of: Maps the logits of clean and of attacked images to each pair's loss `[batch]`.
    """

    def loss() -> tuple[tf.Tensor, tf.Tensor]:
        clean, logits = joint_training_logits(classifier, batch.images, attacked)
        return losses_of(clean, logits), logits

    return loss
