"""Projected gradient descent in the ball of a norm, and the fast gradient sign method as its one-step case."""

import dataclasses
from typing import Any

import keras
import tensorflow as tf

from wmr_tf.attacks.base import Attack, PerExample, evaluation_of, input_gradient, smaller
from wmr_tf.attacks.norms import NORMS, Ball, each
from wmr_tf.checks import at_least, one_of, positive, radius, step
from wmr_tf.engine import seeds

GAUSSIAN_STDDEV = 0.001
STARTS = {
    "uniform": lambda ball, seed: ball.uniform(seed),
    "gaussian": lambda ball, seed: ball.clean + GAUSSIAN_STDDEV * seeds.normal(ball.clean, seed),
    "none": lambda ball, seed: ball.clean,
}
"""Where PGD starts, from the ball around the clean images and a seed."""


@keras.saving.register_keras_serializable("wmr_tf.attacks")
@dataclasses.dataclass(frozen=True, kw_only=True)
class PGD(Attack):
    """Projected gradient descent in the ball of a norm.

    `x <- project(x + step_size * direction(grad loss(x)), ball and box)`, `steps` times from a random start. The
    direction has length 1 in the norm: in linf the sign of the gradient, in l2 the gradient over its length, in l1 the
    signs of its largest values in equal shares.

    Args:
        epsilon: Radius of the ball in the norm, >= 0, in linf <= 1, in units of the images' range [0, 1].
        step_size: Length of a step in the norm, > 0, in linf <= 1, in the same units.
        steps: Number of steps, >= 1.
        restarts: How often to start afresh, >= 1; each image keeps the attempt with the smallest score.
        start: "uniform" in the ball, "gaussian" with standard deviation 0.001, or "none" (the clean image).
        norm: "linf", "l2" or "l1".

    Raises:
        InvalidInput: If a setting is out of range.

    Example:
        >>> attack = PGD(epsilon=0.3, step_size=0.01, steps=40)
        >>> def loss(x):
        ...     return wmr_tf.losses.cross_entropy(classifier(x), labels)
        >>> attacked = attack(loss, images, seed=tf.constant([0, 1]))

    Source: Madry et al. 2018, Equation 2.2; the Gaussian start is Algorithm 1 of Zeng et al. 2021; what the norms take
        from where is in `wmr_tf.attacks.norms`.

    Note: The start is projected too, so that only valid images are ever shown to the classifier. Restarts start
        afresh and are chosen by score (the released code of Zeng et al. chains them and chooses by loss).
    """

    step_size: float
    steps: int
    restarts: int = 1
    start: str = "uniform"
    norm: str = "linf"

    def __post_init__(self) -> None:
        norm = one_of("norm", self.norm, NORMS)
        checked = {
            "epsilon": radius("epsilon", self.epsilon, norm),
            "step_size": step("step_size", self.step_size, norm),
            "steps": at_least("steps", self.steps, 1),
            "restarts": at_least("restarts", self.restarts, 1),
            "start": one_of("start", self.start, STARTS),
            "norm": norm,
        }
        for name, value in checked.items():  # as plain numbers, also where NumPy's or a whole float was given
            object.__setattr__(self, name, value)

    def __call__(
        self,
        loss_fn: PerExample,
        x: tf.Tensor,
        *,
        seed: tf.Tensor,
        score_fn: PerExample | None = None,
        epsilon: tf.Tensor | None = None,
    ) -> tf.Tensor:
        """Return attacked images; see `Attack.__call__`."""
        ball = self._ball(x, epsilon)
        if self.restarts == 1:
            return tf.stop_gradient(self._attempt(loss_fn, ball, seed))
        score_fn = score_fn or (lambda images: -loss_fn(images))

        def restart(r: tf.Tensor, best: tf.Tensor, best_score: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
            attempt = self._attempt(loss_fn, ball, seeds.nth(seed, r))
            return r + 1, *smaller(attempt, score_fn(attempt), best, best_score)

        nothing_yet = tf.fill(tf.shape(x)[:1], tf.constant(float("inf")))
        _, best, _ = tf.while_loop(lambda r, *_: r < self.restarts, restart, (0, x, nothing_yet))
        return tf.stop_gradient(best)

    def counting(
        self,
        loss_fn: PerExample,
        x: tf.Tensor,
        *,
        seed: tf.Tensor,
        score_fn: PerExample,
        epsilon: tf.Tensor | None = None,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Return the attacked images of one attempt, and the fraction of its steps that each image withstood.

        That is `k / steps`, with k the number of the steps before the first point whose score is not positive. The
        points are those from which the steps are made, the start among them and the end not.

        Args:
            loss_fn: As in `Attack.__call__`; it is the first to ask for what it shares with `score_fn`.
            x: As in `Attack.__call__`.
            seed: As in `Attack.__call__`.
            score_fn: Maps images to what says whether they withstand `[batch]`, such as the margin.
            epsilon: As in `Attack.__call__`.

        Returns:
            Images, shaped as `x`, the same as without the count; and float32 `[batch]` in [0, 1].
        """
        ball, evaluate = self._ball(x, epsilon), evaluation_of(loss_fn, score_fn)

        def step(k: tf.Tensor, attacked: tf.Tensor, withstood: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
            _, score, gradient = evaluate(attacked)
            still = (withstood == k) & (score > 0)  # as many steps as there were, and this point too
            return k + 1, self._step(ball, attacked, gradient), withstood + tf.cast(still, tf.int32)

        begin = (0, self._start(ball, seed), tf.zeros(tf.shape(x)[:1], tf.int32))
        _, attacked, withstood = tf.while_loop(lambda k, *_: k < self.steps, step, begin)
        return tf.stop_gradient(attacked), tf.cast(withstood, tf.float32) / self.steps

    @property
    def reach(self) -> float:
        """How far from where it starts an image can get, in the norm: `steps * step_size`."""
        return self.steps * self.step_size

    def flags(self, *, runs: float = 1) -> list[dict[str, Any]]:
        """Return that its steps are too few or too short for its ball, or that is unusual; see `Attack.flags`."""
        found = super().flags(runs=runs)
        reach = runs * self.reach
        if reach >= self.epsilon * (1 - 1e-6):  # ten steps of a tenth may come out a little short
            return found
        message = (
            f"attack: its steps reach {reach:g} in all and epsilon is {self.epsilon:g}, so it cannot get from an image "
            "to the edge of its ball, and accuracies under it look better than they are. Raise steps or step_size."
        )
        return [*found, {"name": "attack_cannot_reach", "reach": reach, "epsilon": self.epsilon, "message": message}]

    @property
    def starts_clean(self) -> bool:
        """Whether the start is the clean image."""
        return self.start == "none"

    def start_near(self, x: tf.Tensor, *, seed: tf.Tensor, epsilon: tf.Tensor | None = None) -> tf.Tensor:
        """Return where an attempt starts: images near `x`, in the ball and in [0, 1].

        Args:
            x: Clean images `[batch, ...]`, float32 in [0, 1].
            seed: int32 `[2]` for the batch, or `[batch, 2]` for each image.
            epsilon: A radius for each image `[batch]`; the attack's own for all if not given.

        Returns:
            Images, shaped as `x`.
        """
        return self._start(self._ball(x, epsilon), seed)

    def step(
        self, attacked: tf.Tensor, gradient: tf.Tensor, *, clean: tf.Tensor, epsilon: tf.Tensor | None = None
    ) -> tf.Tensor:
        """Return images one step further up the gradient, in the ball around the clean ones and in [0, 1].

        Args:
            attacked: Where the images are `[batch, ...]`, in ball and box.
            gradient: Of each image's loss there `[batch, ...]`; its length does not matter.
            clean: Clean images `[batch, ...]`, float32 in [0, 1].
            epsilon: A radius for each image `[batch]`; the attack's own for all if not given.

        Returns:
            Images, shaped as `clean`.
        """
        return self._step(self._ball(clean, epsilon), attacked, gradient)

    def _ball(self, clean: tf.Tensor, epsilon: tf.Tensor | None) -> Ball:
        if epsilon is None:
            return NORMS[self.norm](clean, self.epsilon)
        return NORMS[self.norm](clean, each(epsilon, clean))

    def _start(self, ball: Ball, seed: tf.Tensor) -> tf.Tensor:
        return ball.project(STARTS[self.start](ball, seed))

    def _step(self, ball: Ball, attacked: tf.Tensor, gradient: tf.Tensor) -> tf.Tensor:
        return ball.project(attacked + self.step_size * ball.direction(attacked, gradient))

    def _attempt(self, loss_fn: PerExample, ball: Ball, seed: tf.Tensor) -> tf.Tensor:
        def step(k: tf.Tensor, attacked: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            return k + 1, self._step(ball, attacked, input_gradient(loss_fn, attacked))

        return tf.while_loop(lambda k, _: k < self.steps, step, (0, self._start(ball, seed)))[1]


def FGSM(epsilon: float) -> PGD:  # in capitals, as the field writes it
    """Return the fast gradient sign method: PGD with one step of length epsilon from the clean image.

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
