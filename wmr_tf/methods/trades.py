"""TRADES, weighted or not."""

import keras
import tensorflow as tf

from wmr_tf import attacks
from wmr_tf.checks import nonnegative, require
from wmr_tf.engine.frozen import freeze
from wmr_tf.losses import cross_entropy, kl_divergence, weighted_kl_divergence
from wmr_tf.methods.base import Batch, Learner, PairMethod, loss_of_pairs
from wmr_tf.weights import Weighting


@keras.saving.register_keras_serializable("wmr_tf.methods")
class TRADES(PairMethod):
    """TRADES: cross-entropy of clean images plus the divergence of attacked predictions from clean ones.

    The attack maximises `s(x') * KL(p(x) || p(x'))`, the update minimises
    `mean(CE(x, y)) + beta * mean(s(x') * KL(p(x) || p(x')))`, with `s(x') = exp(-alpha * margin(x'))`. The clean
    probabilities are constant in the attack; in the update the gradient flows through both branches and through s.

    Args:
        attack: Makes x' from x; it must not start on the clean image, where the divergence has no gradient.
        beta: Weight of the divergence, >= 0; the paper's 1/lambda. 0 is natural training.
        alpha: Power of the attacker trained against, or a `Weighting`; 0 is the method of Zhang et al.

    Raises:
        InvalidInput: If beta or alpha is out of range, or `attack` is no attack or starts on the clean image.

    Example:
        >>> attack = wmr_tf.attacks.PGD(epsilon=0.3, step_size=0.01, steps=40, start="gaussian")
        >>> model = wmr_tf.AdversarialModel(classifier, TRADES(attack, beta=6.0, alpha=2.0))

    Cost: one pass forward and one back to the images for each attack step; one forward for the constant clean
        probabilities; two forward and two back to the weights, or one of each with clean and attacked images
        together where no layer mixes them.

    Source: Algorithm 1 of Zeng et al. 2021; Zhang et al. 2019b, Equation 5 and Algorithm 1.

    Note: The released code of Zeng et al. leaves its inner loop before the first step; this follows the paper.
        With BatchNorm, clean and attacked images go through the network separately, as in the public TRADES code,
        so that statistics are taken for each; without, together.
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
        require(
            not attack.starts_clean,
            "attack",
            got=attack,
            expected="a random start, since the divergence from the clean image has no gradient there",
            fix='Give the attack start="gaussian" or start="uniform".',
        )

    def train_batch(self, model: Learner, batch: Batch) -> tf.Tensor:
        """Attack the batch and descend once on clean and attacked images; see `Method.train_batch`."""
        frozen = freeze(model.classifier)
        constant_clean = tf.stop_gradient(frozen(batch.images))
        attacked = self.attacked(frozen, batch, lambda logits: kl_divergence(constant_clean, logits))

        def losses_of(clean: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
            divergence = weighted_kl_divergence(clean, logits, batch.labels, self.weighting, attacked.withstood)
            return cross_entropy(clean, batch.labels) + self.beta * divergence

        return model.descend(batch, loss_of_pairs(model.classifier, batch, attacked.images, losses_of))
