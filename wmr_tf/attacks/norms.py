"""The norms of an attack: what a random start, a step and a projection are in the ball of each.

`NORMS` maps the name of a norm to its ball. An attack that steps by `direction` and then projects needs no other
knowledge of the norm. All three work image by image.
"""

import abc

import tensorflow as tf

from wmr_tf.checks import require
from wmr_tf.engine import seeds

SPARSITY = 0.05
"""The share of an image's values that a step in l1 moves. Exact steepest ascent moves a single value by the whole step,
and no loss is linear that far. CleverHans and Foolbox move 1 %, which is one value of an 8x8 image; 5 % is three."""

BISECTIONS = 20
"""Halvings of the interval in which the projection in l1 looks for its threshold, before it interpolates. The interval
is then a millionth of the largest change, and the function in it almost always a straight line."""


class Ball(abc.ABC):
    """The ball around each clean image, cut with the box [0, 1] that holds all images.

    Args:
        clean: Centres `[batch, ...]`, float32 in [0, 1].
        epsilon: The radius, >= 0: a number, or one an image as a tensor `[batch, 1, ...]` that broadcasts.
    """

    def __init__(self, clean: tf.Tensor, epsilon: float | tf.Tensor) -> None:
        self.clean, self.epsilon = clean, epsilon

    def uniform(self, seed: tf.Tensor) -> tf.Tensor:
        """Return draws from the uniform distribution on the ball, not yet cut with the box."""
        return self.clean + self.epsilon * self._unit_noise(seed)

    @abc.abstractmethod
    def surface(self, seed: tf.Tensor) -> tf.Tensor:
        """Return draws on the surface of the ball, not yet cut with the box, where Auto-PGD starts."""

    @abc.abstractmethod
    def _unit_noise(self, seed: tf.Tensor) -> tf.Tensor:
        """Return draws from the uniform distribution on the ball of radius 1 around 0, shaped as `clean`."""

    @abc.abstractmethod
    def direction(self, attacked: tf.Tensor, gradient: tf.Tensor) -> tf.Tensor:
        """Return for each image the step of length 1 by which the loss rises; 0 where it has no slope.

        Args:
            attacked: Where the images are `[batch, ...]`, in [0, 1].
            gradient: Of each image's loss there, `[batch, ...]`.
        """

    @abc.abstractmethod
    def project(self, attacked: tf.Tensor) -> tf.Tensor:
        """Return images `[batch, ...]` moved into the ball and the box."""


class LInf(Ball):
    """The l-infinity ball: cut with the box it is a box itself, and one clip is the exact projection."""

    def __init__(self, clean: tf.Tensor, epsilon: float | tf.Tensor) -> None:
        super().__init__(clean, epsilon)
        self.low, self.high = tf.maximum(clean - epsilon, 0.0), tf.minimum(clean + epsilon, 1.0)

    def _unit_noise(self, seed: tf.Tensor) -> tf.Tensor:
        return seeds.uniform(self.clean, seed)

    def surface(self, seed: tf.Tensor) -> tf.Tensor:
        """Return images whose most changed value is changed by epsilon."""
        noise = self._unit_noise(seed)
        largest = tf.reduce_max(tf.abs(noise), axis=_axes(noise), keepdims=True)
        return self.clean + self.epsilon * tf.math.divide_no_nan(noise, largest)

    def direction(self, attacked: tf.Tensor, gradient: tf.Tensor) -> tf.Tensor:
        """Return the sign of the gradient."""
        return tf.sign(gradient)

    def project(self, attacked: tf.Tensor) -> tf.Tensor:
        """Return the nearest images in ball and box."""
        return tf.clip_by_value(attacked, self.low, self.high)


class L2(Ball):
    """The Euclidean ball.

    Note: The projection is the one onto the ball followed by the one onto the box. The outcome is in both, since the
        box holds the centre. Where the box does not cut, it is the nearest such image; where it does, the nearest one
        would spend on other pixels what the box takes away.
    """

    def _unit_noise(self, seed: tf.Tensor) -> tf.Tensor:
        # Of a uniform point on the sphere in d + 2 dimensions, the first d coordinates are uniform in the ball.
        point = _normalised(seeds.normal(_widened(self.clean, 2), seed))
        return tf.reshape(point[:, :-2], tf.shape(self.clean))

    def surface(self, seed: tf.Tensor) -> tf.Tensor:
        """Return images at distance epsilon, all directions alike."""
        return self.clean + self.epsilon * _normalised(seeds.normal(self.clean, seed))

    def direction(self, attacked: tf.Tensor, gradient: tf.Tensor) -> tf.Tensor:
        """Return the gradient over its length."""
        return _normalised(gradient)

    def project(self, attacked: tf.Tensor) -> tf.Tensor:
        """Return images in ball and box; see the class's note."""
        change = attacked - self.clean
        shrinkage = tf.math.divide_no_nan(self.epsilon, tf.maximum(_length(change), self.epsilon))
        return tf.clip_by_value(self.clean + shrinkage * change, 0.0, 1.0)


class L1(Ball):
    """The l1 ball: sparse steps that leave out what the box blocks, and the exact projection onto ball and box.

    Source: Tramer and Boneh 2019, Algorithm 1 (SLIDE), for the step; Croce and Hein 2021 ("Mind the box"), Section 3.1,
        for the projection.

    Note: The share of values that a step moves is fixed (Croce and Hein adapt it). The projection's threshold is found
        by bisection and one interpolation (there by sorting), to float32 rounding.
    """

    def _unit_noise(self, seed: tf.Tensor) -> tf.Tensor:
        # Of d + 1 exponentials over their sum, the first d with random signs are uniform in the ball.
        draw = seeds.uniform(_widened(self.clean, 1), seed)
        size = -tf.math.log(tf.maximum(tf.abs(draw), 2.0**-24))  # a draw of 0 has no logarithm
        size /= tf.reduce_sum(size, axis=1, keepdims=True)
        return tf.reshape((tf.sign(draw) * size)[:, :-1], tf.shape(self.clean))

    def surface(self, seed: tf.Tensor) -> tf.Tensor:
        """Return normal noise, projected: few values are changed, and what the box leaves adds up to epsilon."""
        return self.project(self.clean + seeds.normal(self.clean, seed))

    def direction(self, attacked: tf.Tensor, gradient: tf.Tensor) -> tf.Tensor:
        """Return the signs of the largest values of the gradient that the box does not block, in equal shares."""
        blocked = tf.where(gradient > 0, attacked >= 1.0, attacked <= 0.0)
        size = tf.where(blocked, 0.0, tf.abs(gradient))
        values = values_of(size)
        largest = tf.math.top_k(tf.reshape(size, [-1, values]), max(1, round(SPARSITY * values))).values
        smallest_chosen = each(largest[:, -1], size)
        chosen = tf.cast((size >= smallest_chosen) & (size > 0), size.dtype)
        return tf.math.divide_no_nan(chosen * tf.sign(gradient), _sum(chosen))

    def project(self, attacked: tf.Tensor) -> tf.Tensor:
        """Return the nearest images in ball and box: each change less its image's threshold, clipped to the box."""
        change = attacked - self.clean
        size, room = tf.abs(change), tf.where(change > 0, 1.0 - self.clean, self.clean)

        def left(threshold: tf.Tensor) -> tf.Tensor:
            return tf.clip_by_value(size - threshold, 0.0, room)

        def excess(threshold: tf.Tensor) -> tf.Tensor:
            return _sum(left(threshold)) - self.epsilon

        def halve(low: tf.Tensor, high: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            middle = 0.5 * (low + high)
            outside = excess(middle) > 0
            return tf.where(outside, middle, low), tf.where(outside, high, middle)

        highest = tf.reduce_max(size, axis=_axes(size), keepdims=True)
        low, high = tf.while_loop(
            lambda *_: True, halve, (tf.zeros_like(highest), highest), maximum_iterations=BISECTIONS
        )
        too_much, to_spare = tf.maximum(excess(low), 0.0), -excess(high)
        threshold = low + (high - low) * tf.math.divide_no_nan(too_much, too_much + to_spare)
        return self.clean + tf.sign(change) * left(threshold)


NORMS: dict[str, type[Ball]] = {"linf": LInf, "l2": L2, "l1": L1}
"""The balls by the names of their norms."""


def each(of_image: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
    """Return numbers `[batch]`, one an image, in the shape that broadcasts to images `x`."""
    return tf.reshape(of_image, [-1] + [1] * (x.shape.rank - 1))


def is_zero(x: tf.Tensor) -> tf.Tensor:
    """Return whether all values of an image are 0, truth values `[batch]`."""
    return tf.reduce_all(tf.reshape(x == 0, [-1, values_of(x)]), axis=1)


def values_of(x: tf.Tensor) -> int:
    """Return how many values an image of `[batch, ...]` has.

    Raises:
        InvalidInput: If its sides are not known as the function is traced.
    """
    fix = "Call tf.ensure_shape(images, [None, height, width, channels]) in the pipeline."
    is_known = x.shape.rank is not None and x.shape[1:].is_fully_defined()
    require(is_known, "images", got=f"the shape {x.shape}", expected="known sides", fix=fix)
    return int(x.shape[1:].num_elements())


def mean_size(x: tf.Tensor) -> tf.Tensor:
    """Return the mean absolute value of each image of `[batch, ...]`, in the shape that broadcasts to them."""
    return tf.reduce_mean(tf.abs(x), axis=_axes(x), keepdims=True)


def _axes(x: tf.Tensor) -> list[int]:
    return list(range(1, x.shape.rank))


def _sum(x: tf.Tensor) -> tf.Tensor:
    return tf.reduce_sum(x, axis=_axes(x), keepdims=True)


def _length(x: tf.Tensor) -> tf.Tensor:
    return tf.sqrt(_sum(tf.square(x)))


def _normalised(x: tf.Tensor) -> tf.Tensor:
    # By the largest value first: the squares of the gradients of a sure classifier are 0 in float32.
    scaled = tf.math.divide_no_nan(x, tf.reduce_max(tf.abs(x), axis=_axes(x), keepdims=True))
    return tf.math.divide_no_nan(scaled, _length(scaled))


def _widened(x: tf.Tensor, extra: int) -> tf.Tensor:
    return tf.zeros([tf.shape(x)[0], values_of(x) + extra])
