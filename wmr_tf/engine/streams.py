"""Every core its own stream: a batch goes through the network in as many parts as there are cores, side by side.

The kernels of small layers gain little from a second thread. Independent parts of a batch, each by kernels of a single
thread, keep all cores at work, also in the elementwise operations between kernels.
"""

from collections.abc import Callable, Iterable

import tensorflow as tf

from wmr_tf.checks import refuse
from wmr_tf.engine import machine

MOST = 16
"""How many streams there are at most: each is one more copy of the network in the graph."""

LEAST = 8
"""How many images a stream has at least, where the batch's size is known; with fewer, kernels are mostly overhead."""

_streams = 1


def use_all_cores(*, batch_norm: bool = False) -> None:
    """Use each core of the processor for a stream of its own; to be called before TensorFlow does anything.

    Attacks, evaluations and updates then split each batch into as many parts as there are cores. Outcomes are equal to
    rounding; dropout draws other masks. Kernels run in one thread each, so what is not of this library, such as
    `predict` of a plain Keras model, runs on one core. Where TensorFlow has a GPU nothing changes.

    Args:
        batch_norm: Whether a classifier with BatchNorm and wide layers, such as ResNet-18, is to be trained. Its update
            needs the batch as a whole, so kernels keep all cores; attacks are split. One with small layers, such as
            MobileNet, trains faster without.

    Raises:
        InvalidInput: If TensorFlow has started already, with other threads.

    Example:
        >>> wmr_tf.use_all_cores()
    """
    global _streams
    cores = machine.available_cores()
    if cores == 1 or tf.config.list_physical_devices("GPU"):
        return
    streams = min(cores, MOST)
    try:
        tf.config.threading.set_intra_op_parallelism_threads(cores if batch_norm else -(-cores // streams))
        tf.config.threading.set_inter_op_parallelism_threads(cores)
    except RuntimeError as error:
        refuse(
            "use_all_cores",
            got="a call after TensorFlow has started",
            expected="a call before anything else",
            fix="Call it right after the imports; in a notebook, restart the kernel first.",
            cause=error,
        )
    _streams = streams


def in_parts(function: Callable[..., tf.Tensor], *batches: tf.Tensor) -> tf.Tensor:
    """Return `function(*batches)`, of a part of the batch for each stream.

    Args:
        function: Treats each image by itself: of tensors `[images, ...]` to a tensor `[images, ...]`.
        *batches: Tensors `[images, ...]` of the same images.

    Returns:
        As `function` does, to rounding; gradients too.
    """
    known = batches[0].shape[0]
    parts = _parts_of(known)
    if parts == 1:
        return function(*batches)
    if known is not None and known % parts == 0:
        return _side_by_side(function, batches, parts)
    images = tf.shape(batches[0])[0] if known is None else known
    filled = [_filled(batch, -images % parts) for batch in batches]
    return _side_by_side(function, filled, parts)[:images]


def _side_by_side(function: Callable[..., tf.Tensor], batches: Iterable[tf.Tensor], parts: int) -> tf.Tensor:
    split = [tf.split(batch, parts) for batch in batches]
    return tf.concat([function(*part) for part in zip(*split, strict=True)], axis=0)


def _filled(batch: tf.Tensor, missing: tf.Tensor | int) -> tf.Tensor:
    """Return the batch and as many copies of its first image as are missing, to which no gradient flows."""
    return tf.concat([batch, tf.stop_gradient(tf.repeat(batch[:1], missing, axis=0))], axis=0)


def _parts_of(images: int | None) -> int:
    return _streams if images is None else max(1, min(_streams, images // LEAST))
