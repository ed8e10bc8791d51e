"""PGD with momentum, also called the momentum iterative method."""

import dataclasses
from typing import Any

import keras
import tensorflow as tf

from wmr_tf.attacks.base import Attack, PerExample, input_gradient
from wmr_tf.attacks.norms import mean_size
from wmr_tf.attacks.pgd import PGD
from wmr_tf.checks import nonnegative


@keras.saving.register_keras_serializable("wmr_tf.attacks")
@dataclasses.dataclass(frozen=True, kw_only=True)
class MomentumPGD(Attack):
    """Projected gradient descent whose steps follow the gradients so far, the older the less.

    `v <- decay * v + g / mean(|g|)`, then a step of PGD along `v`; g is the gradient of each image's loss. Adversarial
    images made with momentum fool other classifiers more often.

    Args:
        epsilon: Radius of the ball in the norm, >= 0, in linf <= 1, in units of the images' range [0, 1].
        step_size: Length of a step in the norm, > 0, in the same units.
        steps: Number of steps, >= 1.
        decay: What is left of the gradients so far, >= 0; 0 is PGD.
        start: "uniform" in the ball, "gaussian" with standard deviation 0.001, or "none" (the clean image).
        norm: "linf", "l2" or "l1".

    Raises:
        InvalidInput: If a setting is out of range.

    Example:
        >>> attack = MomentumPGD(epsilon=0.3, step_size=0.03, steps=10)
        >>> def loss(x):
        ...     return -wmr_tf.losses.logit_margin(classifier(x), labels)
        >>> attacked = attack(loss, images, seed=tf.constant([0, 1]))

    Source: Dong et al. 2018, Algorithm 1, whose mu is `decay`; there the start is the clean image.
    """

    step_size: float
    steps: int
    decay: float = 1.0
    start: str = "none"
    norm: str = "linf"

    def __post_init__(self) -> None:
        object.__setattr__(self, "decay", nonnegative("decay", self.decay))
        pgd = self._pgd()  # which checks the rest
        for name in ("epsilon", "step_size", "steps"):
            object.__setattr__(self, name, getattr(pgd, name))

    def __call__(
        self,
        loss_fn: PerExample,
        x: tf.Tensor,
        *,
        seed: tf.Tensor,
        score_fn: PerExample | None = None,
        epsilon: tf.Tensor | None = None,
    ) -> tf.Tensor:
        """Return attacked images; see `Attack.__call__`. There is one attempt, so `score_fn` has nothing to choose."""
        pgd = self._pgd()

        def step(k: tf.Tensor, attacked: tf.Tensor, velocity: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
            gradient = input_gradient(loss_fn, attacked)
            velocity = self.decay * velocity + tf.math.divide_no_nan(gradient, mean_size(gradient))
            return k + 1, pgd.step(attacked, velocity, clean=x, epsilon=epsilon), velocity

        begin = (0, pgd.start_near(x, seed=seed, epsilon=epsilon), tf.zeros_like(x))
        return tf.stop_gradient(tf.while_loop(lambda k, *_: k < self.steps, step, begin)[1])

    @property
    def starts_clean(self) -> bool:
        """Whether the start is the clean image."""
        return self.start == "none"

    def flags(self, *, runs: float = 1) -> list[dict[str, Any]]:
        """Return that its steps are too few or too short for its ball, or that is unusual; see `Attack.flags`."""
        return self._pgd().flags(runs=runs)

    def _pgd(self) -> PGD:
        """Return PGD without the momentum: its start and its steps."""
        settings = {name: getattr(self, name) for name in ("epsilon", "step_size", "steps", "start", "norm")}
        return PGD(**settings)
