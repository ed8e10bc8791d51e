"""N-FGSM: one sign step from strong noise, without a projection onto the ball."""

import dataclasses
from typing import ClassVar

import keras
import tensorflow as tf

from wmr_tf.attacks.base import Attack, PerExample, input_gradient
from wmr_tf.attacks.norms import each
from wmr_tf.checks import nonnegative, radius
from wmr_tf.engine import seeds


@keras.saving.register_keras_serializable("wmr_tf.attacks")
@dataclasses.dataclass(frozen=True, kw_only=True)
class NFGSM(Attack):
    """The noisy fast gradient sign method: an attack of one step, to train with and not to measure with.

    `x' = clip(x_n + step_size * sign(grad loss(x_n)))` with `x_n = clip(x + u)`, u uniform in
    `[-noise * epsilon, noise * epsilon]`; both are clipped to [0, 1] and to nothing else.

    Args:
        epsilon: Radius of the l-infinity ball to become robust in, in [0, 1], in units of the images' range [0, 1].
        step_size: Length of the step, >= 0, in the same unit; epsilon if not given.
        noise: Amplitude of the noise in multiples of epsilon, >= 0.

    Raises:
        InvalidInput: If a setting is out of range.

    Example:
        >>> attack = NFGSM(epsilon=0.031)
        >>> def loss(x):
        ...     return wmr_tf.losses.cross_entropy(classifier(x), labels)
        >>> attacked = attack(loss, images, seed=tf.constant([0, 1]))

    Source: de Jorge et al. 2022, Algorithm 1, whose k is `noise` and whose alpha is `step_size`.

    Note: The images leave the epsilon ball: they are up to `noise * epsilon + step_size` from the clean image, which
        is 3 epsilon by default. Training needs that; do not measure robustness with it.
    """

    stays_in_ball: ClassVar[bool] = False

    step_size: float | None = None
    noise: float = 2.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "epsilon", radius("epsilon", self.epsilon, self.norm))
        step_size = self.epsilon if self.step_size is None else self.step_size
        for name, value in {"step_size": step_size, "noise": self.noise}.items():
            object.__setattr__(self, name, nonnegative(name, value))

    @property
    def norm(self) -> str:
        """The norm that noise and step are measured in."""
        return "linf"

    @property
    def starts_clean(self) -> bool:
        """Whether there is no noise."""
        return self.noise * self.epsilon == 0

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
        radius = self.epsilon if epsilon is None else each(epsilon, x)
        noisy = tf.clip_by_value(x + self.noise * radius * seeds.uniform(x, seed), 0.0, 1.0)
        ascended = noisy + self.step_size * tf.sign(input_gradient(loss_fn, noisy))
        return tf.stop_gradient(tf.clip_by_value(ascended, 0.0, 1.0))
