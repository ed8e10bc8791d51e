"""Natural and adversarial loss combined, weighted or not."""

import keras
import tensorflow as tf

from wmr_tf.attacks import Attack
from wmr_tf.checks import nonnegative
from wmr_tf.frozen import freeze
from wmr_tf.fused import joint_training_logits
from wmr_tf.losses import cross_entropy, weighted_cross_entropy
from wmr_tf.methods.base import Batch, Learner, Method, attack_cross_entropy, checked_attack
from wmr_tf.methods.natural import descend_on_clean


@keras.saving.register_keras_serializable("wmr_tf.methods")
class Mixed(Method):
    """Natural plus adversarial training: the attack maximises `s(x') * CE(x', y)`, the update minimises

    `mean(CE(x, y)) + lambda * mean(s(x') * CE(x', y))` with `s(x') = exp(-alpha * margin(x'))`, whose gradient counts
    in the attack and in the update.

    Args:
        attack: Makes x' from x.
        adversarial_weight: lambda, the weight of the adversarial loss, >= 0. 0 is natural training, without an attack.
        alpha: Power of the attacker trained against, >= 0; 0 is the loss of Equation 8.
        stop_gradient_weights: Whether s counts as a constant. Not so in the paper; for study.
        normalize_weights: Whether s is divided by its mean over the batch (the default is the paper's).

    Raises:
        InvalidInput: If adversarial_weight or alpha is negative or not finite, or `attack` is no attack.

    Example:
        >>> attack = wmr_tf.attacks.PGD(epsilon=0.3, step_size=0.01, steps=40)
        >>> model = wmr_tf.AdversarialModel(classifier, Mixed(attack, adversarial_weight=1.0))

    Cost: one pass forward and one back to the images for each attack step; then two forward
        and two back to the weights, or one of each with clean and attacked images together where no layer mixes them.

    Source: Equation 8 of Zeng et al. 2021, after Goodfellow et al. 2015 and Kurakin et al. 2017; with alpha its
        adversarial loss is that of Equation 7.

    Note: As in the equation, the sum is not divided by 1 + lambda: mind the learning rate. With BatchNorm,
        clean and attacked images go through the network separately, so that statistics are taken for each.
    """

    def __init__(
        self,
        attack: Attack,
        *,
        adversarial_weight: float = 1.0,
        alpha: float = 0.0,
        stop_gradient_weights: bool = False,
        normalize_weights: bool = False,
    ) -> None:
        super().__init__(alpha, stop_gradient_weights=stop_gradient_weights, normalize_weights=normalize_weights)
        self.adversarial_weight = nonnegative("adversarial_weight", adversarial_weight)
        self.attack = checked_attack(attack)

    def train_batch(self, model: Learner, batch: Batch) -> tf.Tensor:
        """Attacks the batch and descends once on clean and attacked images; see `Method.train_batch`."""
        if not self.adversarial_weight:  # attacked images of weight 0 would still move BatchNorm's statistics
            return descend_on_clean(model, batch)
        attacked = attack_cross_entropy(self.attack, freeze(model.classifier), batch, **self.attack_weighting)

        def loss():
            clean, logits = joint_training_logits(model.classifier, batch.images, attacked)
            adversarial = weighted_cross_entropy(logits, batch.labels, **self.weighting)
            return cross_entropy(clean, batch.labels) + self.adversarial_weight * adversarial, logits

        return model.descend(batch, loss)
