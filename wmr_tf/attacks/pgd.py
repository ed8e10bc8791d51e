"""Projected gradient descent in the l-infinity ball, and the fast gradient sign method as its one-step case."""

import dataclasses

import keras
import tensorflow as tf

from wmr_tf import seeds
from wmr_tf.attacks.base import Attack, PerExample, input_gradient
from wmr_tf.checks import at_least, nonnegative, one_of, positive

GAUSSIAN_STDDEV = 0.001
STARTS = {
    "uniform": lambda x, epsilon, seed: x + epsilon * seeds.uniform(x, seed),
    "gaussian": lambda x, epsilon, seed: x + GAUSSIAN_STDDEV * seeds.normal(x, seed),
    "none": lambda x, epsilon, seed: x,
}


@keras.saving.register_keras_serializable("wmr_tf.attacks")
@dataclasses.dataclass(frozen=True, kw_only=True)
class PGD(Attack):
    """Projected gradient descent in the l-infinity ball.

    `x <- clip(x + step_size * sign(grad loss(x)), ball and box)`, `steps` times from a random start.

    Args:
        epsilon: Radius of the ball, >= 0, in units of the images' range [0, 1].
        step_size: Length of a step, > 0, in the same unit.
        steps: Number of steps, >= 1.
        restarts: How often to start afresh, >= 1; each image keeps the attempt with the smallest score.
        start: "uniform" in the ball, "gaussian" with standard deviation 0.001, or "none" (the clean image).

    Raises:
        InvalidInput: If a setting is out of range.

    Example:
        >>> attack = PGD(epsilon=0.3, step_size=0.01, steps=40)
        >>> attacked = attack(lambda x: cross_entropy(classifier(x), labels), images, seed=tf.constant([0, 1]))

    Source: Madry et al. 2018, Equation 2.2; the Gaussian start is Algorithm 1 of Zeng et al. 2021.

    Note: The start is projected too, so that only valid images are ever shown to the classifier. Restarts start
        afresh and are chosen by score (the released code of Zeng et al. chains them and chooses by loss).
    """

    epsilon: float
    step_size: float
    steps: int
    restarts: int = 1
    start: str = "uniform"

    def __post_init__(self) -> None:
        checked = {
            "epsilon": nonnegative("epsilon", self.epsilon),
            "step_size": positive("step_size", self.step_size),
            "steps": at_least("steps", self.steps, 1),
            "restarts": at_least("restarts", self.restarts, 1),
            "start": one_of("start", self.start, STARTS),
        }
        for name, value in checked.items():  # as plain numbers, also where NumPy's or a whole float was given
            object.__setattr__(self, name, value)

    @property
    def norm(self) -> str:
        """The ball's norm."""
        return "linf"

    def __call__(
        self, loss_fn: PerExample, x: tf.Tensor, *, seed: tf.Tensor, score_fn: PerExample | None = None
    ) -> tf.Tensor:
        """Returns attacked images; see `Attack.__call__`."""
        if self.restarts == 1:
            return tf.stop_gradient(self._attempt(loss_fn, x, seed))
        score_fn = score_fn or (lambda images: -loss_fn(images))

        def restart(r: tf.Tensor, best: tf.Tensor, best_score: tf.Tensor):
            attempt = self._attempt(loss_fn, x, seeds.nth(seed, r))
            score = score_fn(attempt)
            # The first NaN is kept, so that it is seen in the end: a later attempt must not hide it.
            better = tf.logical_not(tf.math.is_nan(best_score) | (score >= best_score))
            mask = tf.reshape(better, [-1] + [1] * (x.shape.rank - 1))
            return r + 1, tf.where(mask, attempt, best), tf.where(better, score, best_score)

        nothing_yet = tf.fill(tf.shape(x)[:1], tf.constant(float("inf")))
        _, best, _ = tf.while_loop(lambda r, *_: r < self.restarts, restart, (0, x, nothing_yet))
        return tf.stop_gradient(best)

    def _attempt(self, loss_fn: PerExample, x: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        # The l-infinity ball cut with the box [0, 1] is a box itself: one clip projects onto both.
        low, high = tf.maximum(x - self.epsilon, 0.0), tf.minimum(x + self.epsilon, 1.0)

        def step(k: tf.Tensor, attacked: tf.Tensor):
            ascended = attacked + self.step_size * tf.sign(input_gradient(loss_fn, attacked))
            return k + 1, tf.clip_by_value(ascended, low, high)

        start = tf.clip_by_value(STARTS[self.start](x, self.epsilon, seed), low, high)
        return tf.while_loop(lambda k, _: k < self.steps, step, (0, start))[1]


def FGSM(epsilon: float) -> PGD:  # in capitals: the field writes it so, and it stands for a class
    """Returns the fast gradient sign method: PGD with one step of length epsilon from the clean image.

    Args:
        epsilon: Radius of the ball, > 0, in units of the images' range [0, 1].

    Raises:
        InvalidInput: If epsilon is out of range.

    Returns:
        The attack.

    Example:
        >>> FGSM(0.1).steps
        1

    Source: Goodfellow et al. 2015, Section 4.
    """
    return PGD(epsilon=positive("epsilon", epsilon), step_size=epsilon, steps=1, start="none")
