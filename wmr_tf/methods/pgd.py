"""PGD adversarial training, weighted or not."""

import keras
import tensorflow as tf

from wmr_tf.attacks import Attack
from wmr_tf.frozen import freeze
from wmr_tf.fused import training_logits
from wmr_tf.losses import weighted_cross_entropy
from wmr_tf.methods.base import Batch, Learner, Method, attack_cross_entropy, checked_attack


@keras.saving.register_keras_serializable("wmr_tf.methods")
class PGD(Method):
    """PGD adversarial training: the attack maximises, and the update minimises, the mean of `s(x') * CE(x', y)`.

    `s(x') = exp(-alpha * margin(x'))`; its gradient counts in the attack and in the update.

    Args:
        attack: Makes x' from x.
        alpha: Power of the attacker trained against, >= 0; 0 is the method of Madry et al.
        stop_gradient_weights: Whether s counts as a constant. Not so in the paper; for study.
        normalize_weights: Whether s is divided by its mean over the batch (the default is the paper's).

    Raises:
        InvalidInput: If alpha is negative or not finite, or `attack` is no attack.

    Example:
        >>> attack = wmr_tf.attacks.PGD(epsilon=0.3, step_size=0.01, steps=40)
        >>> model = wmr_tf.AdversarialModel(classifier, PGD(attack, alpha=0.5))

    Cost: one pass forward and one back to the images for each attack step; one forward and one back to the weights.

    Source: Algorithm 1 and Equation 7 of Zeng et al. 2021; Madry et al. 2018, Equation 2.1.

    Note: The classifier is attacked in inference mode (the released code attacks BatchNorm in training mode).
    """

    def __init__(
        self,
        attack: Attack,
        *,
        alpha: float = 0.0,
        stop_gradient_weights: bool = False,
        normalize_weights: bool = False,
    ) -> None:
        super().__init__(alpha, stop_gradient_weights=stop_gradient_weights, normalize_weights=normalize_weights)
        self.attack = checked_attack(attack)

    def train_batch(self, model: Learner, batch: Batch) -> tf.Tensor:
        """Attacks the batch and descends once on what comes out; see `Method.train_batch`."""
        attacked = attack_cross_entropy(self.attack, freeze(model.classifier), batch, **self.attack_weighting)

        def loss():
            logits = training_logits(model.classifier, attacked)
            return weighted_cross_entropy(logits, batch.labels, **self.weighting), logits

        return model.descend(batch, loss)
