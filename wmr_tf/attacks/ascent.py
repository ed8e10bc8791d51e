"""The ascents of Auto-PGD: with momentum in linf and l2, by sparse steps in l1.

Both return a `Record`: of all points that the classifier was shown, that of highest loss and that of smallest score.
"""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from wmr_tf.attacks.base import Evaluate, smaller, where
from wmr_tf.attacks.norms import Ball, each, values_of

MOMENTUM = 0.75
"""The share of the new step in a move; the rest goes on in the direction of the move before."""

ENOUGH_RISES = 0.75
"""The share of a window's steps in which the loss must rise for the step size to stay."""

FIRST_SHARE = 0.2
"""The share of an image's values that a step in l1 moves at first."""

SPARSER = 1.5
"""By what the share of moved values of the best point is divided for the next steps in l1."""


class Record(NamedTuple):
    """The best points so far: that of highest loss, from which steps go on, and that of smallest score."""

    best: tf.Tensor
    loss: tf.Tensor
    gradient: tf.Tensor
    worst: tf.Tensor
    score: tf.Tensor

    @classmethod
    def of(cls, x: tf.Tensor, found: tuple[tf.Tensor, tf.Tensor, tf.Tensor]) -> "Record":
        """Return the record of a first point."""
        loss, score, gradient = found
        return cls(x, loss, gradient, x, score)

    def updated(self, x: tf.Tensor, found: tuple[tf.Tensor, tf.Tensor, tf.Tensor]) -> "Record":
        """Return the record with another point counted."""
        loss, score, gradient = found
        better = loss > self.loss
        worst, score = smaller(x, score, self.worst, self.score)
        return Record(
            where(better, x, self.best),
            tf.where(better, loss, self.loss),
            where(better, gradient, self.gradient),
            worst,
            score,
        )


def windows(steps: int) -> list[int]:
    """Return the lengths of the windows, at the end of each of which an ascent with momentum looks at its step size.

    Args:
        steps: Number of steps, >= 1; the last of them may be in a window that does not end.

    Example:
        >>> windows(100)
        [22, 19, 16, 13, 10, 7, 6, 6]

    Source: Croce and Hein 2020, Section 3.1, rounded as in the public code.
    """
    length, shorter, shortest = (max(int(share * steps), 1) for share in (0.22, 0.03, 0.06))
    found: list[int] = []
    while sum(found) + length <= steps:
        found.append(length)
        length = max(length - shorter, shortest)
    return found


class _Momentum(NamedTuple):
    """Where an ascent with momentum is; all but the images are `[batch]`."""

    x: tf.Tensor
    before: tf.Tensor
    gradient: tf.Tensor
    step_size: tf.Tensor
    last_loss: tf.Tensor
    rises: tf.Tensor
    halved: tf.Tensor
    loss_at_check: tf.Tensor


def with_momentum(evaluate: Evaluate, ball: Ball, start: tf.Tensor, steps: int, *, cold: bool) -> Record:
    """Ascend with momentum, each image with a step size of its own that begins at twice the radius.

    At the end of a window an image's step size is halved, and it goes back to its best point, if its loss rose in at
    most three quarters of the steps, or if its step size was not halved at the end of the window before and no better
    point was found since.

    Args:
        evaluate: See `wmr_tf.attacks.base.evaluation_of`.
        ball: Of the norm, around the clean images.
        start: Images in ball and box.
        steps: Number of steps.
        cold: Whether the start is random; here it makes no difference.
    """
    del cold
    ends = np.cumsum(windows(steps))
    length = np.zeros(steps, np.int32)  # of the window that ends with a step, 0 for a step in the midst of one
    length[ends - 1] = windows(steps)
    found = evaluate(start)
    record = Record.of(start, found)
    none = tf.zeros_like(record.loss)
    first = _Momentum(
        x=start,
        before=start,
        gradient=record.gradient,
        step_size=none + 2.0 * tf.reshape(ball.epsilon, [-1]),
        last_loss=none,  # as in the public code, which compares the first loss with 0
        rises=tf.zeros_like(none, tf.int32),
        halved=tf.ones_like(none, tf.bool),  # so that the first window need not have found a better point
        loss_at_check=record.loss,
    )

    def step(k: tf.Tensor, at: _Momentum, record: Record) -> tuple[tf.Tensor, _Momentum, Record]:
        new = tf.where(k == 0, 1.0, MOMENTUM)
        stepped = ball.project(at.x + each(at.step_size, at.x) * ball.direction(at.x, at.gradient))
        x = ball.project(at.x + new * (stepped - at.x) + (1.0 - new) * (at.x - at.before))
        found = evaluate(x)
        loss, _, gradient = found
        record = record.updated(x, found)
        rises = at.rises + tf.cast(loss > at.last_loss, tf.int32)

        window = tf.gather(tf.constant(length), k)
        is_check = window > 0
        too_few = tf.cast(rises, tf.float32) <= ENOUGH_RISES * tf.cast(window, tf.float32)
        no_better = ~at.halved & (at.loss_at_check >= record.loss)
        back = is_check & (too_few | no_better)
        return (
            k + 1,
            _Momentum(
                x=where(back, record.best, x),
                before=at.x,
                gradient=where(back, record.gradient, gradient),
                step_size=tf.where(back, at.step_size / 2.0, at.step_size),
                last_loss=loss,
                rises=tf.where(is_check, 0, rises),
                halved=tf.where(is_check, back, at.halved),
                loss_at_check=tf.where(is_check, record.loss, at.loss_at_check),
            ),
            record,
        )

    return tf.while_loop(lambda k, *_: k < steps, step, (0, first, record))[2]


class _Sparse(NamedTuple):
    """Where an ascent in l1 is; all but the images are `[batch]`."""

    x: tf.Tensor
    gradient: tf.Tensor
    step_size: tf.Tensor
    share: tf.Tensor
    moved: tf.Tensor


def by_sparse_steps(evaluate: Evaluate, ball: Ball, start: tf.Tensor, steps: int, *, cold: bool) -> Record:
    """Ascend by steps that move a share of an image's values, which follows that of its best point.

    Every few steps an image whose best point has become sparser goes back to it, with a step as long as the radius;
    the steps of the others become shorter by a third, down to a tenth of the radius.

    Args:
        evaluate: See `wmr_tf.attacks.base.evaluation_of`.
        ball: The l1 ball around the clean images.
        start: Images in ball and box.
        steps: Number of steps.
        cold: Whether the start is random; else the share of moved values begins at that of the start.
    """
    period = max(int(0.04 * steps), 1)
    values = float(values_of(start))
    found = evaluate(start)
    record = Record.of(start, found)
    none = tf.zeros_like(record.loss)
    longest = none + tf.reshape(ball.epsilon, [-1])

    def moved(x: tf.Tensor) -> tf.Tensor:
        return tf.reduce_sum(tf.cast(tf.reshape(x != ball.clean, [-1, values_of(x)]), tf.float32), axis=1)

    first = _Sparse(
        x=start,
        gradient=record.gradient,
        step_size=longest,
        share=none + FIRST_SHARE if cold else moved(start) / (SPARSER * values),
        moved=none + values if cold else moved(start),
    )

    def step(k: tf.Tensor, at: _Sparse, record: Record) -> tuple[tf.Tensor, _Sparse, Record]:
        x = ball.project(at.x + each(at.step_size, at.x) * _largest_signs(at.gradient, at.share))
        found = evaluate(x)
        record = record.updated(x, found)
        now = moved(record.best)
        is_check = (k + 1) % period == 0
        sparser = is_check & (now < 0.95 * at.moved)
        shorter = tf.maximum(at.step_size / 1.5, longest / 10.0)
        return (
            k + 1,
            _Sparse(
                x=where(sparser, record.best, x),
                gradient=where(sparser, record.gradient, found[2]),
                step_size=tf.where(is_check, tf.where(sparser, longest, shorter), at.step_size),
                share=tf.where(is_check, now / (SPARSER * values), at.share),
                moved=tf.where(is_check, now, at.moved),
            ),
            record,
        )

    return tf.while_loop(lambda k, *_: k < steps, step, (0, first, record))[2]


def _largest_signs(gradient: tf.Tensor, share: tf.Tensor) -> tf.Tensor:
    """Return the signs of a share of each gradient's values, the largest, in equal parts of a step of length 1."""
    values = values_of(gradient)
    size = tf.abs(tf.reshape(gradient, [-1, values]))
    place = tf.clip_by_value(tf.cast((1.0 - share) * values, tf.int32), 0, values - 1)
    smallest = tf.gather(tf.sort(size, axis=1), place, axis=1, batch_dims=1)
    signs = tf.where(size >= smallest[:, tf.newaxis], tf.sign(tf.reshape(gradient, [-1, values])), 0.0)
    signs /= tf.reduce_sum(tf.abs(signs), axis=1, keepdims=True) + 1e-10
    return tf.reshape(signs, tf.shape(gradient))


ASCENTS = {"linf": with_momentum, "l2": with_momentum, "l1": by_sparse_steps}
"""Maps the name of a norm to the way of ascending in it."""
