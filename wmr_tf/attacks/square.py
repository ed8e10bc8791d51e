"""Square: random search with square windows, an attack that asks for losses only and for no gradient."""

import abc
import dataclasses
from collections.abc import Callable
from typing import ClassVar

import keras
import tensorflow as tf

from wmr_tf.attacks.base import Attack, PerExample, check_rank
from wmr_tf.attacks.norms import L1, NORMS, LInf
from wmr_tf.attacks.windows import Bumps, Windows, lay_tiles, sides, stage, tiles
from wmr_tf.checks import at_least, one_of, radius
from wmr_tf.engine import seeds

BLOCK = 100
"""How many queries an image's random numbers are drawn for at once: a draw for each would cost more than the query."""

INSIDE_L1 = 1 - 1e-6
"""The share of an l1 radius that is used, so that rounding does not lead out of the ball."""

TINY = 1e-12
"""What keeps the norm of an untouched window from 0."""


@keras.saving.register_keras_serializable("wmr_tf.attacks")
@dataclasses.dataclass(frozen=True, kw_only=True)
class Square(Attack):
    """Random search in the ball of a norm: a query changes a square window, and what raises the loss is kept.

    In linf the start is vertical stripes of +-epsilon, and a query adds +-2 epsilon inside a window before it clips to
    the ball. In l2 and l1 the start is tiles of bumps, and a query moves what one window has of the budget to another
    one, with a bump. The windows shrink from 80 % of the area to 0.6 %, by a fixed schedule.

    The loss must be minus the margin, as `wmr_tf.losses.verdict` gives it: an image whose margin is negative is broken,
    and it is left as it is.

    Args:
        epsilon: Radius of the ball in the norm, >= 0, in linf <= 1, in units of the images' range [0, 1].
        norm: "linf", "l2" or "l1".
        queries: Number of candidates after the start, >= 1; the attack makes one forward pass more.

    Raises:
        InvalidInput: If a setting is out of range.

    Example:
        >>> attack = Square(epsilon=0.3, queries=20)
        >>> def loss(x):
        ...     return -wmr_tf.losses.verdict(classifier(x), labels)
        >>> attacked = attack(loss, images, seed=tf.constant([0, 1]))

    Source: Andriushchenko et al. 2020 ("Square Attack"), Algorithms 1 to 3; Croce and Hein 2021 ("Mind the box"), for
        l1; constants and schedule of the public code of AutoAttack, not rescaled to the number of queries.

    Note: Windows, signs and turns are drawn for each image, as in the paper's code; that of AutoAttack draws windows
        and turns, in linf also signs, once a batch, which correlates its images. As there, no window but one as high as
        the image covers its last row, and so for columns, and a candidate may equal its parent. Unlike there, tiles
        that do not fit are left out, and an image whose classes tie, which argmax may decide for the label, is not yet
        broken. A vector `[batch, features]` is taken as an image of one row, so that the stripes of its start are a
        random corner of the ball.
    """

    takes_any_loss: ClassVar[bool] = False
    ranks: ClassVar[tuple[int, ...] | None] = (2, 4)

    norm: str = "linf"
    queries: int = 5000

    def __post_init__(self) -> None:
        norm = one_of("norm", self.norm, NORMS)
        object.__setattr__(self, "epsilon", radius("epsilon", self.epsilon, norm))
        object.__setattr__(self, "queries", at_least("queries", self.queries, 1))

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
        points, margins = self.start(loss_fn, x, seed=seed, epsilon=epsilon)
        return self.search(loss_fn, x, points, margins, seed=seed, first=0, last=self.queries, epsilon=epsilon)[0]

    @property
    def starts_clean(self) -> bool:
        """Never: the start is on the edge of the ball or of the box."""
        return False

    def start(
        self, loss_fn: PerExample, x: tf.Tensor, *, seed: tf.Tensor, epsilon: tf.Tensor | None = None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Return where a search starts, for one query.

        Args:
            loss_fn: Maps images to minus their margins `[batch]`.
            x: Clean images `[batch, height, width, channels]` or vectors `[batch, features]`, float32 in [0, 1].
            seed: int32 `[2]` for the batch, or `[batch, 2]` for each image.
            epsilon: A radius for each image `[batch]`; the attack's own for all if not given.

        Returns:
            Points, shaped as `x`, and their margins `[batch]`.

        Raises:
            InvalidInput: If `x` has another shape.
        """
        walk = self._walk(x, epsilon)
        points = walk.images(walk.start(seeds.nth(seed, 0)))
        return tf.stop_gradient(points), tf.stop_gradient(-loss_fn(points))

    def search(
        self,
        loss_fn: PerExample,
        x: tf.Tensor,
        points: tf.Tensor,
        margins: tf.Tensor,
        *,
        seed: tf.Tensor,
        first: int | tf.Tensor,
        last: int | tf.Tensor,
        epsilon: tf.Tensor | None = None,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Return the points of lowest margin after the queries `first <= i < last`, or fewer if all images are broken.

        Queries may be made in parts, and broken images left out of the next part together with their rows of all
        arguments: with a seed for each image the outcome is the same.

        Args:
            loss_fn: Maps images to minus their margins `[batch]`.
            x: Clean images, as in `start`.
            points: Where the search is, shaped as `x`.
            margins: Of these points, float32 `[batch]`.
            seed: That of `start`.
            first: The first query, counted from 0 at the start, an int32 scalar.
            last: The first query that is not made, an int32 scalar.
            epsilon: As in `start`.

        Returns:
            Points, shaped as `x`, and their margins `[batch]`. An image whose margin is NaN keeps the first such point.

        Raises:
            InvalidInput: If `x` has another shape.
        """
        walk = self._walk(x, epsilon)

        def until(end: int | tf.Tensor) -> Callable[..., tf.Tensor]:
            return lambda query, _, margins: (query < end) & tf.reduce_any(margins >= 0)

        def block(query: tf.Tensor, points: tf.Tensor, margins: tf.Tensor) -> tuple[tf.Tensor, ...]:
            number = query // BLOCK
            draws = walk.draws(seeds.nth(seed, 1 + number))
            end = tf.minimum(last, BLOCK * (number + 1))

            def ask(query: tf.Tensor, points: tf.Tensor, margins: tf.Tensor) -> tuple[tf.Tensor, ...]:
                candidates = walk.candidates(points, query, draws[:, query % BLOCK])
                found = -loss_fn(walk.images(candidates))
                # A NaN is kept, so that it is seen in the end: it lowers a margin and is not lowered itself.
                lowered = (margins >= 0) & tf.logical_not(found >= margins)
                kept = tf.where(lowered[:, tf.newaxis, tf.newaxis, tf.newaxis], candidates, points)
                return query + 1, kept, tf.where(lowered, found, margins)

            return tf.while_loop(until(end), ask, (query, points, margins))

        begin = (tf.convert_to_tensor(first), walk.channels_first(points), margins)
        _, points, margins = tf.while_loop(until(last), block, begin)
        return tf.stop_gradient(walk.images(points)), tf.stop_gradient(margins)

    def _walk(self, x: tf.Tensor, epsilon: tf.Tensor | None) -> "_Walk":
        check_rank(self, x.shape)
        return _WALKS[self.norm](x, self.epsilon if epsilon is None else tf.reshape(epsilon, [-1, 1, 1, 1]))


class _Walk(abc.ABC):
    """The steps of the search in one norm: random numbers in, points out.

    Args:
        x: Clean images or vectors, see `Square.start`. All else is as in `wmr_tf.attacks.windows`.
        epsilon: The radius: a number, or one an image `[batch, 1, 1, 1]`.
    """

    shared: int
    """How many random numbers a query takes for an image, besides one for each channel's sign."""

    def __init__(self, x: tf.Tensor, epsilon: float | tf.Tensor) -> None:
        self.shape, self.epsilon = x.shape[1:], epsilon
        self.height, self.width, self.channels = self.shape if x.shape.rank == 4 else (1, *self.shape, 1)
        self.clean = self.channels_first(x)

    def channels_first(self, x: tf.Tensor) -> tf.Tensor:
        """Return images or vectors as `[batch, channels, height, width]`."""
        return tf.transpose(tf.reshape(x, [-1, self.height, self.width, self.channels]), [0, 3, 1, 2])

    def images(self, points: tf.Tensor) -> tf.Tensor:
        """Return points as the images or vectors that they are."""
        return tf.reshape(tf.transpose(points, [0, 2, 3, 1]), [-1, *self.shape])

    def uniform(self, shape: list[int], seed: tf.Tensor) -> tf.Tensor:
        """Return draws from the uniform distribution on [-1, 1), `[batch, *shape]`."""
        return seeds.uniform(tf.zeros([tf.shape(self.clean)[0], *shape]), seed)

    def draws(self, seed: tf.Tensor) -> tf.Tensor:
        """Return the random numbers of a block of queries, `[batch, BLOCK, shared + channels]`."""
        return self.uniform([BLOCK, self.shared + self.channels], seed)

    @abc.abstractmethod
    def start(self, seed: tf.Tensor) -> tf.Tensor:
        """Return where the search starts `[batch, channels, height, width]`."""

    @abc.abstractmethod
    def candidates(self, points: tf.Tensor, query: tf.Tensor, draws: tf.Tensor) -> tf.Tensor:
        """Return what a query asks the loss of `[batch, channels, height, width]`.

        Args:
            points: Where the search is `[batch, channels, height, width]`.
            query: Its number, an int32 scalar.
            draws: Its random numbers `[batch, shared + channels]`.
        """


class _LInf(_Walk):
    shared = 2

    def __init__(self, x: tf.Tensor, epsilon: float | tf.Tensor) -> None:
        super().__init__(x, epsilon)
        self.ball = LInf(self.clean, epsilon)
        self.sides = tf.constant(sides(self.height, self.width, bumps=False))

    def start(self, seed: tf.Tensor) -> tf.Tensor:
        stripes = _signs(self.uniform([self.channels, 1, self.width], seed))
        return self.ball.project(self.clean + self.epsilon * stripes)

    def candidates(self, points: tf.Tensor, query: tf.Tensor, draws: tf.Tensor) -> tf.Tensor:
        windows = Windows(draws[:, :2], self.sides[stage(query)], self.height, self.width)
        change = 2.0 * self.epsilon * _of_channels(_signs(draws[:, 2:]))
        return self.ball.project(points + tf.where(windows.mask(), change, 0.0))


class _WithBumps(_Walk):
    """What l2 and l1 have in common. The mass of a change is what its norm sums up: its squares, or its sizes."""

    shared = 5
    power: int

    def __init__(self, x: tf.Tensor, epsilon: float | tf.Tensor) -> None:
        super().__init__(x, epsilon)
        of_stages = sides(self.height, self.width, bumps=True)
        self.sides, self.bumps = tf.constant(of_stages), Bumps(of_stages, self.power)

    @abc.abstractmethod
    def mass(self, change: tf.Tensor) -> tf.Tensor:
        """Return what each value has of the norm, to the power."""

    @abc.abstractmethod
    def fit(self, change: tf.Tensor) -> tf.Tensor:
        """Return the clean images with this change, brought into ball and box."""

    def stretch(self) -> float:
        """Return by how much a new bump is longer than the budget allows."""
        return 1.0

    def start(self, seed: tf.Tensor) -> tf.Tensor:
        _, _, rows, columns = tiles(self.height, self.width)
        draws = self.uniform([1 + self.channels, rows, columns], seed)
        turned, signs = draws[:, :1] < 0, _signs(draws[:, 1:])
        return self.fit(lay_tiles(self.height, self.width, self.power, turned, signs))

    def candidates(self, points: tf.Tensor, query: tf.Tensor, draws: tf.Tensor) -> tf.Tensor:
        now = stage(query)
        gaining, losing = (
            Windows(corner, self.sides[now], self.height, self.width) for corner in (draws[:, :2], draws[:, 2:4])
        )
        bump = self.bumps.lay(gaining, now, draws[:, 4] < 0) * _of_channels(_signs(draws[:, 5:]))
        change = points - self.clean
        inside, either = gaining.mask(), gaining.mask() | losing.mask()
        mass = self.mass(change)
        to_spare = tf.maximum(self.epsilon**self.power - _total(mass), 0.0) / self.channels
        length = self.stretch() * self._root(to_spare + _by_channel(tf.where(either, mass, 0.0)))
        old = change / (TINY + self._root(_by_channel(tf.where(inside, mass, 0.0))))
        new = bump + tf.where(inside, old, 0.0)
        new *= tf.math.divide_no_nan(length, self._root(_by_channel(self.mass(new))))
        return self.fit(tf.where(either, new, change))

    def _root(self, mass: tf.Tensor) -> tf.Tensor:
        return mass ** (1 / self.power)


class _L2(_WithBumps):
    power = 2

    def mass(self, change: tf.Tensor) -> tf.Tensor:
        return tf.square(change)

    def fit(self, change: tf.Tensor) -> tf.Tensor:
        """Return the changes scaled to the radius, then cut with the box."""
        scale = tf.math.divide_no_nan(self.epsilon, tf.sqrt(_total(self.mass(change))))
        return tf.clip_by_value(self.clean + scale * change, 0.0, 1.0)


class _L1(_WithBumps):
    power = 1

    def mass(self, change: tf.Tensor) -> tf.Tensor:
        return tf.abs(change)

    def fit(self, change: tf.Tensor) -> tf.Tensor:
        """Return the nearest images in ball and box."""
        return L1(self.clean, INSIDE_L1 * self.epsilon).project(self.clean + change)

    def stretch(self) -> float:
        """Return the number of channels, as in the public code: the projection takes back what is too much."""
        return float(self.channels)


_WALKS: dict[str, type[_Walk]] = {"linf": _LInf, "l2": _L2, "l1": _L1}


def _signs(draws: tf.Tensor) -> tf.Tensor:
    return tf.where(draws < 0, -1.0, 1.0)


def _of_channels(x: tf.Tensor) -> tf.Tensor:
    return x[:, :, tf.newaxis, tf.newaxis]


def _by_channel(mass: tf.Tensor) -> tf.Tensor:
    return tf.reduce_sum(mass, axis=[2, 3], keepdims=True)


def _total(mass: tf.Tensor) -> tf.Tensor:
    return tf.reduce_sum(mass, axis=[1, 2, 3], keepdims=True)
