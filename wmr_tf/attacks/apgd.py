"""Auto-PGD: gradient ascent in the ball of a norm that sets its own step size."""

import dataclasses
import math

import keras
import tensorflow as tf

from wmr_tf.attacks.ascent import ASCENTS
from wmr_tf.attacks.base import Attack, Evaluate, PerExample, evaluation_of, smaller
from wmr_tf.attacks.norms import NORMS, each
from wmr_tf.checks import at_least, one_of, radius
from wmr_tf.engine import seeds

STAGES = ((3.0, 0.3), (2.0, 0.3), (1.0, 0.4))
"""The radii of a staged attack, in epsilons, and the share of the steps made with each."""


@keras.saving.register_keras_serializable("wmr_tf.attacks")
@dataclasses.dataclass(frozen=True, kw_only=True)
class APGD(Attack):
    """Auto-PGD: an ascent that starts with steps as long as the ball is wide and shortens them where they fail.

    In linf and l2 the steps have momentum, and each image's step size is halved, back at its best point, at the end of
    a window of steps in which too few raised its loss. In l1 the steps are sparse. Its loss is whatever it is given:
    cross-entropy, `wmr_tf.losses.difference_of_logits_ratio` or its targeted form, the negative of `logit_margin`.

    Args:
        epsilon: Radius of the ball in the norm, >= 0, in linf <= 1, in units of the images' range [0, 1].
        steps: Number of steps, >= 1.
        restarts: How often to start afresh, >= 1; each image keeps the point of smallest score of all.
        norm: "linf", "l2" or "l1".
        staged: Whether to begin in a ball of three, then of two times the radius, with 30 % of the steps in each; the
            standard attack in l1 does.
        gradients: How many passes each gradient is the mean of, >= 1, for a randomised classifier.

    Raises:
        InvalidInput: If a setting is out of range.

    Example:
        >>> attack = APGD(epsilon=0.3, steps=50)
        >>> def loss(x):
        ...     return wmr_tf.losses.difference_of_logits_ratio(classifier(x), labels)
        >>> attacked = attack(loss, images, seed=tf.constant([0, 1]))

    Source: Croce and Hein 2020, Algorithm 1, and Croce and Hein 2021 in l1; the constants, the comparison of the first
        loss with 0 and `<=` where the paper has `<` are those of the public AutoAttack code.

    Note: It returns the point of smallest score of all that the classifier was shown, that is a misclassified one if
        there was any (the public code returns the last of these). Cost: `steps + 1` forward and backward passes an
        attempt.
    """

    steps: int = 100
    restarts: int = 1
    norm: str = "linf"
    staged: bool = False
    gradients: int = 1

    def __post_init__(self) -> None:
        norm = one_of("norm", self.norm, NORMS)
        checked = {"norm": norm, "epsilon": radius("epsilon", self.epsilon, norm)}
        checked |= {name: at_least(name, getattr(self, name), 1) for name in ("steps", "restarts", "gradients")}
        for name, value in checked.items():
            object.__setattr__(self, name, value)

    @property
    def starts_clean(self) -> bool:
        """No: it starts at random points."""
        return False

    def __call__(
        self,
        loss_fn: PerExample,
        x: tf.Tensor,
        *,
        seed: tf.Tensor,
        score_fn: PerExample | None = None,
        epsilon: tf.Tensor | None = None,
    ) -> tf.Tensor:
        """Return attacked images; see `Attack.__call__`. Every point's score counts, not the last one's alone."""
        radii = self.epsilon if epsilon is None else each(epsilon, x)
        evaluate = evaluation_of(loss_fn, score_fn, gradients=self.gradients)
        if self.restarts == 1:
            return tf.stop_gradient(self._attempt(evaluate, x, radii, seed)[0])

        def restart(r: tf.Tensor, worst: tf.Tensor, score: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
            found = self._attempt(evaluate, x, radii, seeds.nth(seed, r))
            return r + 1, *smaller(*found, worst, score)

        nothing_yet = tf.fill(tf.shape(x)[:1], tf.constant(float("inf")))
        return tf.stop_gradient(tf.while_loop(lambda r, *_: r < self.restarts, restart, (0, x, nothing_yet))[1])

    def _attempt(
        self, evaluate: Evaluate, clean: tf.Tensor, radii: float | tf.Tensor, seed: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Return the points of smallest score, and their scores, of the last stage of an attempt."""
        stages = STAGES if self.staged else ((1.0, 1.0),)
        balls = [NORMS[self.norm](clean, scale * radii) for scale, _ in stages]
        steps = [math.ceil(round(share * self.steps, 6)) for _, share in stages]
        steps[-1] = max(self.steps - sum(steps[:-1]), 1)
        point = balls[0].surface(seed)
        for ball, count in zip(balls, steps, strict=True):
            record = ASCENTS[self.norm](evaluate, ball, ball.project(point), count, cold=not self.staged)
            point = record.best
        return record.worst, record.score
