"""The windows of Square: how large at which query, where in each image, and the patterns that are laid in them.

Batches are `[batch, channels, height, width]` here: most of what Square does to an image it does alike in all channels,
or sums up within each, and TensorFlow does both several times faster with the channels in front.
"""

import math

import numpy as np
import tensorflow as tf

P_INIT = 0.8
"""The share of an image's area that the first windows have."""

HALVED_AFTER = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)
"""The last queries, counted from 0, before the share is halved."""

SMALLEST_BUMP = 3
"""The smallest side of a window with a bump in it, where the image is not smaller."""

TILES = 5
"""How many tiles fill the shorter side of an image."""


def sides(height: int, width: int, *, bumps: bool) -> list[int]:
    """Return the sides of windows with `P_INIT / 2^k` of an image's area, for k = 0, 1, ..., 9.

    Args:
        height: The image's, >= 1.
        width: The image's, >= 1.
        bumps: Whether bumps are laid in the windows; these are at least 3 wide, and an odd number if they can.

    Example:
        >>> sides(28, 28, bumps=False)[:8], sides(28, 28, bumps=True)[:8]
        ([25, 18, 13, 9, 6, 4, 3, 2], [25, 19, 13, 9, 7, 5, 3, 3])
    """

    def side(share: float) -> int:
        rounded = round(math.sqrt(share * height * width))  # half to even
        return min(max(rounded, SMALLEST_BUMP) | 1 if bumps else max(rounded, 1), height, width)

    return [side(P_INIT / 2**k) for k in range(len(HALVED_AFTER) + 1)]


def stage(query: tf.Tensor) -> tf.Tensor:
    """Return how often the share is halved before this query, an int32 scalar.

    Example:
        >>> [int(stage(query)) for query in (0, 10, 11, 4000, 4001)]
        [0, 0, 1, 6, 7]
    """
    return tf.reduce_sum(tf.cast(query > tf.constant(HALVED_AFTER), tf.int32))


class Windows:
    """A square window in each image of a batch.

    Args:
        draws: Where they are, float32 `[batch, 2]` in [-1, 1), for rows and columns.
        side: Their side, an int32 scalar.
        height: The images'.
        width: The images'.

    Note: As in the public code a corner is one of `height - side` rows, not of the `height - side + 1` that there are,
        and so for columns. Only a window as high as the image covers the last row.
    """

    def __init__(self, draws: tf.Tensor, side: tf.Tensor, height: int, width: int) -> None:
        corners = 0.5 * (draws + 1.0) * tf.cast([height - side, width - side], tf.float32)
        corners = tf.cast(corners, tf.int32)  # the floor, since they are not negative
        self.side = side
        self.rows = tf.range(height) - corners[:, :1]  # [batch, height], counted from the window's first row
        self.columns = tf.range(width) - corners[:, 1:]

    def mask(self) -> tf.Tensor:
        """Return which pixels are inside, bool `[batch, 1, height, width]`."""
        rows, columns = ((index >= 0) & (index < self.side) for index in (self.rows, self.columns))
        return rows[:, tf.newaxis, :, tf.newaxis] & columns[:, tf.newaxis, tf.newaxis, :]


def bump(side: int, power: int) -> np.ndarray:
    """Return a hill above a valley, each of concentric squares, float64 `[side, side]` of norm 1.

    Args:
        side: Its side, >= 1.
        power: Of the norm: 2, or 1, whose squares are steeper.

    Example:
        >>> bump(1, power=2)
        array([[-1.]])
        >>> bump(3, power=1).round(3)
        array([[ 0.026,  0.447,  0.026],
               [-0.023, -0.023, -0.023],
               [-0.023, -0.386, -0.023]])
    """
    half = side // 2
    return _normalised(np.concatenate([_hill(half, side, power), -_hill(side - half, side, power)]), power)


def _hill(height: int, width: int, power: int) -> np.ndarray:
    # The m-th square adds (m + 1)^-2, or -4 in l1, to all pixels at most m rows and columns from the centre.
    rows, columns = (abs(np.arange(extent) - extent // 2) for extent in (height, width))
    rise = np.arange(1.0, max(height, width) // 2 + 2) ** {2: -2, 1: -4}[power]
    return _normalised(rise[::-1].cumsum()[::-1][np.maximum.outer(rows, columns)], power)


def _normalised(pattern: np.ndarray, power: int) -> np.ndarray:
    return pattern / (abs(pattern) ** power).sum() ** (1 / power)


class Bumps:
    """The bumps of several sides, upright and transposed, ready to be laid in windows.

    Args:
        sides: Of the windows, one a stage.
        power: Of the norm, 2 or 1.
    """

    def __init__(self, sides: list[int], power: int) -> None:
        self._width = max(sides) + 2
        table = np.zeros([len(sides), 2, self._width, self._width], np.float32)  # with a border of zeros
        for of_stage, side in zip(table, sides, strict=True):
            inner = slice(1, side + 1)
            of_stage[0, inner, inner], of_stage[1, inner, inner] = bump(side, power), bump(side, power).T
        self._table = table.ravel()

    def lay(self, windows: Windows, stage: tf.Tensor, transposed: tf.Tensor) -> tf.Tensor:
        """Return a bump in each window and 0 outside, float32 `[batch, 1, height, width]`.

        Args:
            windows: The windows, of the side of the stage.
            stage: An int32 scalar.
            transposed: Whether the hill is to the left of the valley and not above it, bool `[batch]`.
        """
        rows, columns = (tf.clip_by_value(at + 1, 0, windows.side + 1) for at in (windows.rows, windows.columns))
        which = (2 * stage + tf.cast(transposed, tf.int32))[:, tf.newaxis]
        rows = (which * self._width + rows) * self._width
        return tf.gather(self._table, rows[:, tf.newaxis, :, tf.newaxis] + columns[:, tf.newaxis, tf.newaxis, :])


def tiles(height: int, width: int) -> tuple[int, int, int, int]:
    """Return side, offset from the top and from the left, and numbers of rows and columns of a start's tiles.

    Example:
        >>> tiles(28, 28)
        (5, 1, 5, 5)

    Note: As in the public code, but only tiles that fit are counted, their side is at least 1, and it goes by the
        shorter side of the image.
    """
    shorter = min(height, width)
    side = max(shorter // TILES, 1)
    offset = max((shorter - TILES * side) // 2, 0)
    return side, offset, (height - offset) // side, (width - offset) // side


def lay_tiles(height: int, width: int, power: int, transposed: tf.Tensor, signs: tf.Tensor) -> tf.Tensor:
    """Return images tiled with bumps, float32 `[batch, channels, height, width]`, 0 where there is no tile.

    Args:
        height: The images'.
        width: The images'.
        power: Of the norm, 2 or 1.
        transposed: Which bumps are, bool `[batch, 1, rows, columns]`, as many as `tiles` says.
        signs: What they are multiplied with, float32 `[batch, channels, rows, columns]`.
    """
    side, offset, rows, columns = tiles(height, width)
    upright = tf.constant(bump(side, power), tf.float32)
    transposed, signs = (tf.repeat(tf.repeat(of_tile, side, axis=2), side, axis=3) for of_tile in (transposed, signs))
    bumps = tf.where(transposed, tf.tile(tf.transpose(upright), [rows, columns]), tf.tile(upright, [rows, columns]))
    below, right = height - offset - rows * side, width - offset - columns * side
    return tf.pad(signs * bumps, [[0, 0], [0, 0], [offset, below], [offset, right]])
