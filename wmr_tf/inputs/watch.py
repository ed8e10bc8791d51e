"""Looks at what goes through a training step, without making it wait: images, labels, the size of gradients."""

import math
from collections.abc import Iterable
from typing import Any

import tensorflow as tf

from wmr_tf.checks import require
from wmr_tf.inputs.images import TOLERANCE


class Watch:
    """Counts unusable images and labels step by step; `check`, at the end of an epoch, raises if there were any.

    A step only writes a few numbers to variables, which works on every device, under XLA and on several replicas.

    Args:
        classes: How many classes the classifier has.

    Example:
        >>> watch = Watch(classes=10)
        >>> watch.usable(tf.zeros([2, 4]), tf.constant([3, 12])).numpy()
        array([3, 9], dtype=int32)
        >>> watch.check()
        Traceback (most recent call last):
        wmr_tf.checks.InvalidInput: labels: got 1 that are no class numbers in [0, 10), or no one-hot rows, ...
    """

    def __init__(self, classes: int) -> None:
        self.classes = classes
        self._unusable = tf.Variable(  # images, labels
            [0.0, 0.0],
            trainable=False,
            synchronization=tf.VariableSynchronization.ON_READ,
            aggregation=tf.VariableAggregation.SUM,
        )
        self._largest = tf.Variable(  # see `see_gradients`
            0.0,
            trainable=False,
            synchronization=tf.VariableSynchronization.ON_READ,
            aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
        )

    @property
    def variables(self) -> list[tf.Variable]:
        """All that it keeps."""
        return [self._unusable, self._largest]

    @property
    def gradient_norm(self) -> float:
        """The largest finite norm of all gradients of a step together; of several replicas that of the first."""
        return math.sqrt(2 * float(self._largest.read_value()))

    def see_gradients(self, gradients: Iterable[tf.Tensor | None], scale: Any) -> None:
        """Keep the norm of a step's gradients if it is the largest so far; those that have overflowed do not count.

        Args:
            gradients: One for each weight, None where there is none.
            scale: By which they are too large.
        """
        squares = [tf.nn.l2_loss(tf.cast(gradient, tf.float32)) for gradient in gradients if gradient is not None]
        half = tf.add_n(squares) / scale**2  # half the square of the norm, which takes the fewest operations
        self._largest.assign(tf.maximum(self._largest, tf.where(half < math.inf, half, 0.0)))

    def usable(self, images: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        """Return the labels, with class numbers that are out of range clipped, and count what is unusable.

        Args:
            images: float32 `[batch, ...]`.
            labels: Integers `[batch]` or `[batch, 1]`, or one-hot `[batch, classes]`, as numbers or truth values.
        """
        labels = tf.cast(labels, tf.int32) if labels.dtype == tf.bool else labels
        in_range = (images >= -TOLERANCE) & (images <= 1 + TOLERANCE)  # NaN is not
        is_image = tf.reduce_all(in_range, axis=list(range(1, images.shape.rank)))
        if labels.shape.rank == 2 and labels.shape[1] != 1:
            is_one_hot = tf.math.count_nonzero(labels == 1, axis=1) == 1
            used, is_label = labels, is_one_hot & tf.reduce_all((labels == 0) | (labels == 1), axis=1)
        else:
            labels = tf.cast(labels, tf.int32)  # a narrower type may not hold the number of classes
            used = tf.clip_by_value(labels, 0, self.classes - 1)
            is_label = used == labels
        self._unusable.assign_add([_number_of(~is_image), _number_of(~is_label)])
        return used

    def reset(self) -> None:
        """Forget what has been counted of images and labels."""
        self._unusable.assign(tf.zeros([2]))

    def check(self) -> None:
        """Check that nothing unusable has been counted, and reset the counts.

        Raises:
            InvalidInput: If there was an unusable image or label.
        """
        images, labels = (int(count) for count in self._unusable.read_value())
        self.reset()
        fix = f"Find them: wmr_tf.data.check_images_and_labels(images, labels, {self.classes}) of each batch says more."
        got = f"{images} with values outside [0, 1] or NaN"
        require(not images, "images", got=got, expected="all values in [0, 1], in every batch", fix=fix)
        got = f"{labels} that are no class numbers in [0, {self.classes}), or no one-hot rows"
        require(not labels, "labels", got=got, expected="one class an image, in every batch", fix=fix)


def _number_of(flags: tf.Tensor) -> tf.Tensor:
    return tf.reduce_sum(tf.cast(flags, tf.float32))
