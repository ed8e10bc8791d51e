"""The nearest points of a plane in the box [0, 1], in three norms, exact up to rounding.

A plane is given by its normal w and by how far each point is above it, its height `<w, point> - b`. Two numbers that
are almost alike are not subtracted here: b is never formed.
"""

from collections.abc import Callable

import tensorflow as tf

Push = Callable[[tf.Tensor, tf.Tensor, tf.Tensor], tf.Tensor]

NEGLIGIBLE = 1e-8
"""Values of a normal up to this size count as 0 in l2 and l1, as in the public AutoAttack code."""

LENGTHS: dict[str, Callable[[tf.Tensor], tf.Tensor]] = {
    "linf": lambda vectors: tf.reduce_max(tf.abs(vectors), axis=-1),
    "l2": lambda vectors: tf.norm(vectors, axis=-1),
    "l1": lambda vectors: tf.reduce_sum(tf.abs(vectors), axis=-1),
}
"""The length of vectors `[..., d]` in each norm, `[...]`."""

DUALS = {"linf": "l1", "l2": "l2", "l1": "linf"}
"""The norm by whose length of w the height over a plane is divided for the distance from it, outside of any box."""


def to_plane(norm: str, normal: tf.Tensor, height: tf.Tensor, point: tf.Tensor) -> tf.Tensor:
    """Return the shortest way from each point to its plane that stays in the box.

    Args:
        norm: "linf", "l2" or "l1".
        normal: w of each plane `[batch, d]`, float32.
        height: `<w, point> - b` of each point over its plane `{v: <w, v> = b}`, `[batch]`, of either sign.
        point: Points `[batch, d]`, float32 in [0, 1].

    Returns:
        Displacements `[batch, d]`. Where the plane misses the box, it is the one to the corner nearest to the plane;
        values where w is 0 do not move, in l2 and l1 neither do those where it is at most 1e-8.

    Example:
        >>> normal, point = tf.constant([[3.0, 4.0]]), tf.constant([[0.5, 0.5]])
        >>> to_plane("l2", normal, tf.constant([0.5]), point).numpy().round(3)
        array([[-0.06, -0.08]], dtype=float32)

    Source: Croce and Hein 2020 ("Minimally distorted adversarial examples with a fast adaptive boundary attack"),
        on the projection on a hyperplane with box constraints.
    """
    if norm != "linf":
        normal = tf.where(tf.abs(normal) <= NEGLIGIBLE, 0.0, normal)
    downhill = tf.where(height[:, tf.newaxis] < 0, normal, -normal)
    room = tf.where(downhill > 0, 1.0 - point, point)
    return tf.sign(downhill) * PUSHES[norm](tf.abs(normal), room, tf.abs(height))


def _evenly(size: tf.Tensor, room: tf.Tensor, height: tf.Tensor) -> tf.Tensor:
    """Return the pushes of least largest value: all alike, up to the box."""
    return _in_shares(tf.sign(size), size, room, height)


def _by_slope(size: tf.Tensor, room: tf.Tensor, height: tf.Tensor) -> tf.Tensor:
    """Return the pushes of least Euclidean length: in proportion to the slope, up to the box."""
    return _in_shares(size, size, room, height)


def _in_shares(share: tf.Tensor, size: tf.Tensor, room: tf.Tensor, height: tf.Tensor) -> tf.Tensor:
    """Return `min(level * share, room)` with the level at which `sum(size * that)` is the height, else the room.

    The sum is concave and piecewise linear in the level, so Newton's method climbs to the root from below and stops
    there. It takes a handful of rounds; sorting all values by when they meet the box costs more.
    """
    of_room, of_level = size * room, size * share

    def is_full(level: tf.Tensor) -> tf.Tensor:
        return room <= level[:, tf.newaxis] * share

    def climb(level: tf.Tensor, full: tf.Tensor, _: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        lost = tf.reduce_sum(tf.where(full, of_room, 0.0), axis=-1)
        slope = tf.reduce_sum(tf.where(full, 0.0, of_level), axis=-1)
        # A slope near 0 must not make it infinite: times a share of 0 that would be NaN.
        level = tf.clip_by_value(tf.math.divide_no_nan(height - lost, slope), level, tf.float32.max)
        now = is_full(level)
        return level, now, tf.reduce_any(now != full)

    nothing = tf.zeros_like(height)
    level, full, _ = tf.while_loop(lambda *state: state[-1], climb, (nothing, is_full(nothing), True))
    return tf.where(full, room, level[:, tf.newaxis] * share)


def _steepest_first(size: tf.Tensor, room: tf.Tensor, height: tf.Tensor) -> tf.Tensor:
    """Return the pushes of least sum: each value up to the box, the steepest first, the last one in part."""
    in_order = tf.argsort(size, axis=-1, direction="DESCENDING")
    before = tf.cumsum(tf.gather(size * room, in_order, batch_dims=1), axis=-1, exclusive=True)
    before = tf.gather(before, tf.argsort(in_order, axis=-1), batch_dims=1)
    left = tf.maximum(height[:, tf.newaxis] - before, 0.0)
    return tf.minimum(tf.math.divide_no_nan(left, size), room)


PUSHES: dict[str, Push] = {"linf": _evenly, "l2": _by_slope, "l1": _steepest_first}
