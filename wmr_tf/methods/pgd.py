"""PGD adversarial training, weighted or not."""

import keras
import tensorflow as tf

from wmr_tf import attacks
from wmr_tf.methods.base import AdversarialMethod, Batch, Learner
from wmr_tf.weights import Weighting


@keras.saving.register_keras_serializable("wmr_tf.methods")
class PGD(AdversarialMethod):
    """PGD adversarial training: the attack maximises, and the update minimises, the mean of `s(x') * CE(x', y)`.

    `s(x') = exp(-alpha * margin(x'))`; its gradient counts in the attack and in the update.

    Args:
        attack: Makes x' from x.
        alpha: Power of the attacker trained against, or a `Weighting`; 0 is the method of Madry et al.

    Raises:
        InvalidInput: If alpha is out of range, or `attack` is no attack.

    Example:
        >>> attack = wmr_tf.attacks.PGD(epsilon=0.3, step_size=0.01, steps=40)
        >>> model = wmr_tf.AdversarialModel(classifier, PGD(attack, alpha=0.5))

    Cost: one pass forward and one back to the images for each attack step; one forward and one back to the weights.

    Source: Algorithm 1 and Equation 7 of Zeng et al. 2021; Madry et al. 2018, Equation 2.1.

    Note: The classifier is attacked in inference mode (the released code attacks BatchNorm in training mode).
    """

    def __init__(
        self,
        attack: attacks.Attack,
        *,
        alpha: float | Weighting = 0.0,
    ) -> None:
        super().__init__(attack, alpha)

    def train_batch(self, model: Learner, batch: Batch) -> tf.Tensor:
        """Attack the batch and descend once on what comes out; see `Method.train_batch`."""
        return self.descend_on_attacked(model, batch)
