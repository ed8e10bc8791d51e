"""Adversarial training for free, weighted or not."""

import math

import keras
import tensorflow as tf

from wmr_tf import attacks
from wmr_tf.checks import at_least, require
from wmr_tf.methods.base import AdversarialMethod, Batch, Learner, unit_gradient, zero_logits
from wmr_tf.weights import Weighting


@keras.saving.register_keras_serializable("wmr_tf.methods")
class Free(AdversarialMethod):
    """Adversarial training for free: each batch is replayed, and one gradient serves the weights and the images.

    With one perturbation d for all batches, 0 at first, each replay is

        theta <- theta - rate * grad_theta mean(s * CE(x + d)),   d <- project(d + step_size * direction(grad_d s * CE))

    both gradients from one pass, `s = exp(-alpha * margin)`. A batch starts from where the last one left d.

    Args:
        attack: The step after each replay, and the ball that d stays in: a `PGD` of one step without a random start,
            such as `wmr_tf.attacks.FGSM(epsilon)`, whose step is the paper's, epsilon.
        replays: How often each batch is trained on, >= 1. Divide the number of epochs by it, as the trainers do.
        alpha: Power of the attacker trained against, or a `Weighting`; 0 is the method of Shafahi et al.

    Raises:
        InvalidInput: If a number is out of range, or the attack makes several steps, restarts or starts at random; in
            `fit`, if the first batch is larger than the one that d was made for.

    Example:
        >>> model = wmr_tf.AdversarialModel(classifier, Free(wmr_tf.attacks.FGSM(0.3), replays=8))

    Cost: in each replay one pass forward and one back, to the weights and the images at once.

    Source: Shafahi et al. 2019, Algorithm 1; alpha as in Zeng et al. 2021, Algorithm 1.

    Note: The gradient for the images is that of the update, so BatchNorm uses the batch's statistics in it and dropout
        is on. d keeps the images in [0, 1]; the paper clips it to the ball only.
        A batch smaller than the first one uses the first part of d; a larger one is refused.
        Each replay is a step of the optimizer: a `LearningRateSchedule` and `optimizer.iterations` count replays.
    """

    attack: attacks.PGD
    descends = False
    knows = ("losses",)  # there is no attack that goes its way before the update

    def __init__(
        self,
        attack: attacks.PGD,
        *,
        replays: int = 8,
        alpha: float | Weighting = 0.0,
    ) -> None:
        require(
            isinstance(attack, attacks.PGD) and (attack.steps, attack.restarts, attack.start) == (1, 1, "none"),
            "attack",
            got=attack,
            expected="one step from where the last replay left the images: steps=1, restarts=1 and start='none'",
            fix="Pass for instance wmr_tf.attacks.FGSM(epsilon=0.3).",
        )
        super().__init__(attack, alpha, runs=math.inf)  # from batch to batch it gets as far as the ball goes
        self.replays = at_least("replays", replays, 1)

    def build(self, images_shape: tuple[int | None, ...]) -> None:
        """Create the perturbation, shaped as the first batch."""
        self.perturbation = self.add_weight(
            name="perturbation", shape=images_shape, initializer="zeros", trainable=False
        )

    def check_batch(self, images_shape: tuple[int | None, ...]) -> None:
        """Check that there is a perturbation for each image of a batch; see `Method.check_batch`."""
        super().check_batch(images_shape)
        size, batch = self.perturbation.shape[0], images_shape[0]
        expected = f"at most {size} images, as in the first one that it was trained on"
        fix = "Make the batches smaller, or train with a new method."
        require(batch is None or batch <= size, "batch", got=f"{batch} images", expected=expected, fix=fix)

    def train_batch(self, model: Learner, batch: Batch) -> tf.Tensor:
        """Descend and ascend in turn; see `Method.train_batch`."""
        self.check_batch(batch.images.shape)
        clean, size = batch.images, tf.shape(batch.images)[0]

        def replay(k: tf.Tensor, attacked: tf.Tensor, _: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
            loss = self.loss_of(model.classifier, attacked, batch)
            logits, gradients, ascent = model.differentiate(batch, loss, at=attacked)
            model.update(gradients)
            return k + 1, self.attack.step(attacked, unit_gradient(ascent), clean=clean), tf.cast(logits, tf.float32)

        start = tf.clip_by_value(clean + self.perturbation[:size], 0.0, 1.0)
        loop = (0, start, zero_logits(model.classifier, clean))
        _, attacked, logits = tf.while_loop(lambda k, *_: k < self.replays, replay, loop)
        self.perturbation.assign(tf.concat([attacked - clean, self.perturbation[size:]], axis=0))
        return logits
