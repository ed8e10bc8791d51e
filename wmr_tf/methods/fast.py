"""Fast adversarial training: PGD training whose attack makes one large step, weighted or not."""

import keras

from wmr_tf.attacks import PGD as Steps
from wmr_tf.attacks import Attack
from wmr_tf.checks import require
from wmr_tf.methods.pgd import PGD


@keras.saving.register_keras_serializable("wmr_tf.methods")
class Fast(PGD):
    """Fast adversarial training: PGD training with one attack step of 1.25 epsilon from a uniform random start.

    With `wmr_tf.attacks.NFGSM` it is N-FGSM training: stronger noise, a step of epsilon and no projection.

    Args:
        attack: Makes x' from x in one step from a random start: `PGD` with `steps=1`, or `NFGSM`.
        alpha: Power of the attacker trained against, >= 0; 0 is the method of Wong et al.
        stop_gradient_weights: Whether s counts as a constant. Not so in Zeng et al.; for study.
        normalize_weights: Whether s is divided by its mean over the batch (the default is that of Zeng et al.).

    Raises:
        InvalidInput: If alpha is negative or not finite, or the attack is none, makes several steps, restarts, or
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
        attack: Attack,
        *,
        alpha: float = 0.0,
        stop_gradient_weights: bool = False,
        normalize_weights: bool = False,
    ) -> None:
        super().__init__(
            attack, alpha=alpha, stop_gradient_weights=stop_gradient_weights, normalize_weights=normalize_weights
        )
        require(
            (not isinstance(attack, Steps) or attack.steps == attack.restarts == 1) and not attack.starts_clean,
            "attack",
            got=attack,
            expected="one step from a random start",
            mend='Give the attack steps=1, restarts=1 and start="uniform", or take method PGD.',
        )
