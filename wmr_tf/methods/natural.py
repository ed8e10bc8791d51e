"""Natural training: no attacker at all."""

import keras
import tensorflow as tf

from wmr_tf.engine.training import training_logits
from wmr_tf.losses import cross_entropy
from wmr_tf.methods.base import Batch, Learner, Method


@keras.saving.register_keras_serializable("wmr_tf.methods")
class Natural(Method):
    """Natural training: the update minimises `mean(CE(x, y))` of clean images.

    Example:
        >>> model = wmr_tf.AdversarialModel(classifier, Natural())

    Cost: one pass forward and one back to the weights.

    Source: Equation 3 of Zeng et al. 2021.
    """

    def train_batch(self, model: Learner, batch: Batch) -> tf.Tensor:
        """Descend once on the clean images; see `Method.train_batch`."""
        return descend_on_clean(model, batch)


def descend_on_clean(model: Learner, batch: Batch) -> tf.Tensor:
    """Make one optimiser step on the cross-entropy of the clean images; return their logits."""

    def loss() -> tuple[tf.Tensor, tf.Tensor]:
        logits = training_logits(model.classifier, batch.images)
        return cross_entropy(logits, batch.labels), logits

    return model.descend(batch, loss)
