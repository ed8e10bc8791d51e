"""The fast adaptive boundary attack: the nearest misclassified point, sought without a ball."""

import dataclasses
from typing import ClassVar

import keras
import tensorflow as tf

from wmr_tf.attacks.base import Attack, PerExample, apart, slope, where
from wmr_tf.attacks.norms import NORMS
from wmr_tf.attacks.planes import DUALS, LENGTHS, to_plane
from wmr_tf.checks import at_least, one_of, radius
from wmr_tf.engine import seeds

ALPHA_MAX = 0.1
"""The largest share of the clean image in a step."""

ETA = 1.05
"""How far a step goes, in ways to the plane: a little beyond it."""

BETA = 0.9
"""What a misclassified point keeps of its way from the clean image, to search on from there."""

SHORTEST = 1e-8
"""The length that a shorter way counts as where the ways from the point and from the clean image are weighed."""


@keras.saving.register_keras_serializable("wmr_tf.attacks")
@dataclasses.dataclass(frozen=True, kw_only=True)
class FAB(Attack):
    """The fast adaptive boundary attack: it looks for the nearest misclassified point, and only then at the radius.

    Each step takes the loss for linear, goes from the point and from the clean image to the plane where the loss is 0,
    within the box, and ends a little beyond it between the two. A misclassified point is kept if it is nearer than all
    before it, and drawn back towards the clean image.

    Its loss is 0 where two classes tie and positive beyond: `z[k] - z[y]`, the label's logit subtracted from another
    one's. With a loss `[batch]` of one class k it is the targeted attack FAB-T; with a loss `[batch, planes]`, all
    `k != y` in a row, each step goes to the plane that is nearest. Success is any misclassification in both.

    Args:
        epsilon: Radius of the ball in the norm, >= 0, in linf <= 1, in units of the images' range [0, 1]. It decides
            what `__call__` returns, and how far off the restarts start.
        norm: "linf", "l2" or "l1".
        steps: Number of steps, >= 1.
        restarts: How often to search, >= 1: from the clean image, then from random points at half the radius.

    Raises:
        InvalidInput: If a setting is out of range.

    Example:
        >>> attack = FAB(epsilon=0.3, steps=10)
        >>> targets = (labels + 1) % 10
        >>> def loss(x):
        ...     logits = classifier(x)
        ...     return tf.gather(logits, targets, batch_dims=1) - tf.gather(logits, labels, batch_dims=1)
        >>> def score(x):
        ...     return wmr_tf.losses.verdict(classifier(x), labels)
        >>> points, distances = attack.nearest(loss, images, seed=tf.constant([0, 1]), score_fn=score)

    Source: Croce and Hein 2020 ("Minimally distorted adversarial examples with a fast adaptive boundary attack"),
        Algorithm 1; the constants are those of the public AutoAttack code, and as there, there is no final search.

    Note: Cost: two forward passes and one backward pass a plane for each step, since the point that is judged is not
        the one that the next step starts from once it has been drawn back.
    """

    takes_any_loss: ClassVar[bool] = False

    norm: str = "linf"
    steps: int = 100
    restarts: int = 1

    def __post_init__(self) -> None:
        norm = one_of("norm", self.norm, NORMS)
        checked = {"norm": norm, "epsilon": radius("epsilon", self.epsilon, norm)}
        checked |= {name: at_least(name, getattr(self, name), 1) for name in ("steps", "restarts")}
        for name, value in checked.items():  # as plain numbers, also where NumPy's or a whole float was given
            object.__setattr__(self, name, value)

    @property
    def starts_clean(self) -> bool:
        """Whether the clean image is the only start."""
        return self.restarts == 1

    def __call__(
        self,
        loss_fn: PerExample,
        x: tf.Tensor,
        *,
        seed: tf.Tensor,
        score_fn: PerExample | None = None,
        epsilon: tf.Tensor | None = None,
    ) -> tf.Tensor:
        """Return the nearest misclassified points, the clean images where these are out of the ball.

        The arguments are those of `nearest`; see also `Attack.__call__`.
        """
        points, distances = self.nearest(loss_fn, x, seed=seed, score_fn=score_fn, epsilon=epsilon)
        is_outside = distances > (self.epsilon if epsilon is None else epsilon)  # NaN is not, so that it is seen
        return where(is_outside, x, points)

    def nearest(
        self,
        loss_fn: PerExample,
        x: tf.Tensor,
        *,
        seed: tf.Tensor,
        score_fn: PerExample | None = None,
        epsilon: tf.Tensor | None = None,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Return the nearest misclassified point that was found for each image, however far off.

        Args:
            loss_fn: Maps images to the loss, float32 `[batch]` or `[batch, planes]`; see the class.
            x: Clean images `[batch, ...]`, float32 in [0, 1], classified correctly.
            seed: int32 `[2]` for the batch, or `[batch, 2]` for each image; without effect on the first search.
            score_fn: Maps images to the score `[batch]`, negative iff an image is misclassified, such as
                `wmr_tf.losses.verdict`. Without it the negative of the largest loss.
            epsilon: A radius for each image `[batch]`; the attack's own for all if not given.

        Returns:
            Points, shaped as `x`, and their distances from `x` in the norm, `[batch]`: infinity, with the clean image,
            where no point was found, and NaN, with the first point whose score is NaN, where there was one. No gradient
            flows through them.
        """
        clean = tf.reshape(x, [-1, x.shape[1:].num_elements()])
        radii = self.epsilon if epsilon is None else epsilon[:, tf.newaxis]

        def losses(points: tf.Tensor) -> tf.Tensor:
            loss = loss_fn(tf.reshape(points, [-1, *x.shape[1:]]))
            return loss if loss.shape.rank == 2 else loss[:, tf.newaxis]

        def score(points: tf.Tensor) -> tf.Tensor:
            if score_fn is None:
                return -tf.reduce_max(losses(points), axis=1)
            return score_fn(tf.reshape(points, [-1, *x.shape[1:]]))

        def restart(r: tf.Tensor, best: tf.Tensor, distance: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
            start = tf.where(r > 0, self._near(clean, 0.5 * radii, seeds.nth(seed, r)), clean)
            return r + 1, *self._search(losses, score, clean, start, best, distance)

        nothing_yet = tf.fill(tf.shape(x)[:1], tf.constant(float("inf")))
        _, best, distance = tf.while_loop(lambda r, *_: r < self.restarts, restart, (0, clean, nothing_yet))
        return tf.stop_gradient(tf.reshape(best, tf.shape(x))), tf.stop_gradient(distance)

    def _near(self, clean: tf.Tensor, distance: float | tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        """Return random points at a distance from the clean images `[batch, d]`, then clipped to the box."""
        noise = (seeds.uniform if self.norm == "linf" else seeds.normal)(clean, seed)
        direction = tf.math.divide_no_nan(noise, LENGTHS[self.norm](noise)[:, tf.newaxis])
        return tf.clip_by_value(clean + distance * direction, 0.0, 1.0)

    def _search(
        self,
        losses: PerExample,
        score: PerExample,
        clean: tf.Tensor,
        start: tf.Tensor,
        best: tf.Tensor,
        distance: tf.Tensor,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Return the nearest misclassified points `[batch, d]` and their distances, of one search and those before."""

        def step(
            k: tf.Tensor, point: tf.Tensor, best: tf.Tensor, distance: tf.Tensor
        ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
            point = self._beyond(*self._nearest_plane(losses, point), point, clean)
            verdict = score(point)
            way = point - clean
            length = tf.where(tf.math.is_nan(verdict), verdict, LENGTHS[self.norm](way))
            is_nearer = (verdict < 0) & (length < distance)
            is_first_nan = tf.math.is_nan(length) & ~tf.math.is_nan(distance)  # than which nothing is nearer
            is_kept = is_nearer | is_first_nan
            best = tf.where(is_kept[:, tf.newaxis], point, best)
            point = tf.where(verdict[:, tf.newaxis] < 0, clean + BETA * way, point)
            return k + 1, point, best, tf.where(is_kept, length, distance)

        _, _, best, distance = tf.while_loop(lambda k, *_: k < self.steps, step, (0, start, best, distance))
        return best, distance

    def _nearest_plane(self, losses: PerExample, point: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Return the normal `[batch, d]` of the plane nearest to each point, and its height `[batch]` over it."""

        def planes(point: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            with tf.GradientTape(persistent=True, watch_accessed_variables=False) as tape:
                tape.watch(point)
                heights = losses(point)
                of_planes = tf.unstack(heights, axis=1)
            return tf.stack([slope(tape, height, point) for height in of_planes], axis=1), heights

        normals, heights = apart(planes)(point)
        away = tf.abs(heights) / (1e-12 + LENGTHS[DUALS[self.norm]](normals))
        nearest = tf.argmin(away, axis=1)
        return tf.gather(normals, nearest, batch_dims=1), tf.gather(heights, nearest, batch_dims=1)

    def _beyond(self, normal: tf.Tensor, height: tf.Tensor, point: tf.Tensor, clean: tf.Tensor) -> tf.Tensor:
        """Return the end of a step: beyond the plane, between the ways to it from the point and the clean image."""
        way = to_plane(self.norm, normal, height, point)
        height_of_clean = height + tf.reduce_sum(normal * (clean - point), axis=1)
        way_of_clean = to_plane(self.norm, normal, height_of_clean, clean)
        length, length_of_clean = (tf.maximum(LENGTHS[self.norm](v), SHORTEST) for v in (way, way_of_clean))
        alpha = tf.minimum(length / (length + length_of_clean), ALPHA_MAX)[:, tf.newaxis]
        end = (1.0 - alpha) * (point + ETA * way) + alpha * (clean + ETA * way_of_clean)
        return tf.clip_by_value(end, 0.0, 1.0)
