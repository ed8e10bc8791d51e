"""Natural and adversarial loss combined, weighted or not."""

import keras
import tensorflow as tf

from wmr_tf import attacks
from wmr_tf.checks import nonnegative
from wmr_tf.engine.frozen import freeze
from wmr_tf.losses import cross_entropy, weighted_cross_entropy
from wmr_tf.methods.base import Batch, Learner, PairMethod, loss_of_pairs
from wmr_tf.methods.natural import descend_on_clean
from wmr_tf.weights import Weighting


@keras.saving.register_keras_serializable("wmr_tf.methods")
class Mixed(PairMethod):
    """Natural plus adversarial training: cross-entropy of clean images plus that of attacked images.

    The attack maximises `s(x') * CE(x', y)`, the update minimises
    `mean(CE(x, y)) + lambda * mean(s(x') * CE(x', y))`, with `s(x') = exp(-alpha * margin(x'))`, whose gradient counts
    in the attack and in the update.

    Args:
        attack: Makes x' from x.
        adversarial_weight: lambda, the weight of the adversarial loss, >= 0. 0 is natural training, without an attack.
        alpha: Power of the attacker trained against, or a `Weighting`; 0 is the loss of Equation 8.

    Raises:
        InvalidInput: If adversarial_weight or alpha is out of range, or `attack` is no attack.

    Example:
        >>> attack = wmr_tf.attacks.PGD(epsilon=0.3, step_size=0.01, steps=40)
        >>> model = wmr_tf.AdversarialModel(classifier, Mixed(attack, adversarial_weight=1.0))

    Cost: one pass forward and one back to the images for each attack step; then two forward
        and two back to the weights, or one of each with clean and attacked images together where no layer mixes them.

    Source: Equation 8 of Zeng et al. 2021, after Goodfellow et al. 2015 and Kurakin et al. 2017; with alpha its
        adversarial loss is that of Equation 7.

    Note: As in the equation, the sum is not divided by 1 + lambda: mind the learning rate. With BatchNorm,
        clean and attacked images go through the network separately, so that statistics are taken for each.
        A layer that transforms images at random, such as RandomFlip, is refused: it would draw anew for the attacked
        image. Augment in the data pipeline. Dropout and GaussianNoise are taken, and draw for each image.
    """

    def __init__(
        self,
        attack: attacks.Attack,
        *,
        adversarial_weight: float = 1.0,
        alpha: float | Weighting = 0.0,
    ) -> None:
        super().__init__(attack, alpha)
        self.adversarial_weight = nonnegative("adversarial_weight", adversarial_weight)

    def train_batch(self, model: Learner, batch: Batch) -> tf.Tensor:
        """Attack the batch and descend once on clean and attacked images; see `Method.train_batch`."""
        if not self.adversarial_weight:  # attacked images of weight 0 would still move BatchNorm's statistics
            return descend_on_clean(model, batch)
        attacked = self.attacked(freeze(model.classifier), batch)

        def losses_of(clean: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
            adversarial = weighted_cross_entropy(logits, batch.labels, self.weighting, attacked.withstood)
            return cross_entropy(clean, batch.labels) + self.adversarial_weight * adversarial

        return model.descend(batch, loss_of_pairs(model.classifier, batch, attacked.images, losses_of))
