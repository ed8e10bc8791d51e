"""Fast adversarial training: PGD training whose attack makes one large step, weighted or not."""

import keras
import tensorflow as tf

from wmr_tf import attacks
from wmr_tf.checks import require
from wmr_tf.methods.base import AdversarialMethod, Batch, Learner
from wmr_tf.weights import Weighting


@keras.saving.register_keras_serializable("wmr_tf.methods")
class Fast(AdversarialMethod):
    """Fast adversarial training: PGD training with one attack step of 1.25 epsilon from a uniform random start.

    With `wmr_tf.attacks.NFGSM` it is N-FGSM training: stronger noise, a step of epsilon and no projection.

    Args:
        attack: Makes x' from x in one step from a random start: `PGD` with `steps=1`, or `NFGSM`.
        alpha: Power of the attacker trained against, or a `Weighting`; 0 is the method of Wong et al.

    Raises:
        InvalidInput: If alpha is out of range, or `attack` is no attack, makes several steps, restarts, or
            starts on the clean image.

    Example:
        >>> attack = wmr_tf.attacks.PGD(epsilon=0.031, step_size=1.25 * 0.031, steps=1)
        >>> model = wmr_tf.AdversarialModel(classifier, Fast(attack, alpha=0.5))

    Cost: two passes: one forward and one back to the images; one forward and one back to the weights.

    Source: Wong et al. 2020, Algorithm 3; N-FGSM is de Jorge et al. 2022, Algorithm 1; alpha as in Zeng et al. 2021.

    Note: The classifier is attacked in inference mode; the code of Wong et al. and that of de Jorge et al. attack
        BatchNorm in training mode, with the statistics of the batch. Their cyclic learning rate is not part of this.
        Training on one step can collapse: A_rob falls to 0 within an epoch while the loss goes on falling.
        Watch `val_A_rob` against an attack of several steps; N-FGSM is the one that collapses less.
    """

    def __init__(
        self,
        attack: attacks.Attack,
        *,
        alpha: float | Weighting = 0.0,
    ) -> None:
        super().__init__(attack, alpha)
        require(
            (not isinstance(attack, attacks.PGD) or attack.steps == attack.restarts == 1) and not attack.starts_clean,
            "attack",
            got=attack,
            expected="one step from a random start",
            fix='Give the attack steps=1, restarts=1 and start="uniform", or take method PGD.',
        )

    def train_batch(self, model: Learner, batch: Batch) -> tf.Tensor:
        """Attack the batch in one step and descend once on what comes out; see `Method.train_batch`."""
        return self.descend_on_attacked(model, batch)
