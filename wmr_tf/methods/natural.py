"""Natural training: no attacker at all."""

import keras
import tensorflow as tf

from wmr_tf.checks import require
from wmr_tf.fused import training_logits
from wmr_tf.losses import cross_entropy
from wmr_tf.methods.base import Batch, Learner, Method


@keras.saving.register_keras_serializable("wmr_tf.methods")
class Natural(Method):
    """Natural training: minimises `mean(CE(x, y))` on clean images.

    Args:
        alpha: Only 0: importance weights belong to attacked images, and there are none.

    Raises:
        InvalidInput: If alpha is not 0.

    Example:
        >>> model = wmr_tf.AdversarialModel(classifier, Natural())

    Cost: one pass forward and one back to the weights.

    Source: Equation 3 of Zeng et al. 2021.
    """

    def __init__(self, alpha: float = 0.0) -> None:
        super().__init__(alpha)
        require(
            self.alpha == 0,
            "alpha",
            got=alpha,
            expected="0 for natural training, which has no attacked images to weight",
            mend="Leave alpha out or choose an adversarial method.",
        )

    def train_batch(self, model: Learner, batch: Batch) -> tf.Tensor:
        """Descends once on the clean images; see `Method.train_batch`."""
        return descend_on_clean(model, batch)


def descend_on_clean(model: Learner, batch: Batch) -> tf.Tensor:
    """Makes one optimiser step on the cross-entropy of the clean images; returns their logits."""

    def loss():
        logits = training_logits(model.classifier, batch.images)
        return cross_entropy(logits, batch.labels), logits

    return model.descend(batch, loss)
