"""MART, weighted or not."""

import keras
import tensorflow as tf

from wmr_tf import attacks
from wmr_tf.checks import nonnegative
from wmr_tf.engine.frozen import freeze
from wmr_tf.losses import mart_loss
from wmr_tf.methods.base import Batch, Learner, PairMethod, loss_of_pairs
from wmr_tf.weights import Weighting


@keras.saving.register_keras_serializable("wmr_tf.methods")
class MART(PairMethod):
    """Misclassification-aware training (MART): the divergence counts more for images that are wrong before the attack.

    The attack maximises `s(x') * CE(x', y)`, the update minimises the mean of
    `s(x') * (BCE(x', y) + beta * KL(p(x) || p(x')) * (1 - p(x)[y]))` with
    `BCE(x', y) = -log p(x')[y] - log(1 - max_{k != y} p(x')[k])` and `s(x') = exp(-alpha * margin(x'))`. The gradient
    flows through all factors.

    Args:
        attack: Makes x' from x.
        beta: Weight of the divergence, >= 0; lambda in the source.
        alpha: Power of the attacker trained against, or a `Weighting`; 0 is the method of Wang et al.

    Raises:
        InvalidInput: If beta or alpha is out of range, or `attack` is no attack.

    Example:
        >>> attack = wmr_tf.attacks.PGD(epsilon=0.031, step_size=0.007, steps=10, start="gaussian")
        >>> model = wmr_tf.AdversarialModel(classifier, MART(attack, beta=6.0, alpha=2.0))

    Cost: one pass forward and one back to the images for each attack step; then two forward
        and two back to the weights, or one of each with clean and attacked images together where no layer mixes them.

    Source: Wang et al. 2020, Algorithm 1; the weights s are those of Equation 7 of Zeng et al. 2021.

    Note: beta is 6 by default, as in the released code of Wang et al. (the paper has 5). The code adds small constants
        inside its logarithms, which bound the loss; ours are exact, from log-probabilities.
        With BatchNorm, clean and attacked images go through the network separately, as in that code.
        A layer that transforms images at random, such as RandomFlip, is refused: it would draw anew for the attacked
        image. Augment in the data pipeline. Dropout and GaussianNoise are taken, and draw for each image.
    """

    def __init__(
        self,
        attack: attacks.Attack,
        *,
        beta: float = 6.0,
        alpha: float | Weighting = 0.0,
    ) -> None:
        super().__init__(attack, alpha)
        self.beta = nonnegative("beta", beta)

    def train_batch(self, model: Learner, batch: Batch) -> tf.Tensor:
        """Attack the batch and descend once on clean and attacked images; see `Method.train_batch`."""
        attacked = self.attacked(freeze(model.classifier), batch)

        def losses_of(clean: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
            losses = mart_loss(clean, logits, batch.labels, self.beta)
            return self.weighting.weighted(losses, logits, batch.labels, attacked.withstood)

        return model.descend(batch, loss_of_pairs(model.classifier, batch, attacked.images, losses_of))
