"""Stateless random numbers that depend on what they are for, not on what ran before."""

from collections.abc import Callable

import tensorflow as tf


def fold_in(seed: int, *data: tf.Tensor | int) -> tf.Tensor:
    """Return a seed for `tf.random.stateless_*` derived from `seed` and each of `data` in turn.

    Args:
        seed: The experiment's seed.
        *data: Integers, for instance the training step and the replica.

    Returns:
        int32 `[2]`.
    """
    folded = tf.constant([0, seed], tf.int32)
    for datum in data:
        folded = tf.random.experimental.stateless_fold_in(folded, tf.cast(datum, tf.int32))
    return folded


def by_position(seed: int, positions: tf.Tensor, *data: tf.Tensor | int) -> tf.Tensor:
    """Return one seed an image, so that its noise depends neither on batch size nor on the number of devices.

    Args:
        seed: The experiment's seed.
        positions: int32 `[batch]`, where each image stands in the evaluated set.
        *data: Integers that tell apart the uses of one seed, for instance the attack and its restart.

    Returns:
        int32 `[batch, 2]`.
    """
    first = tf.random.stateless_uniform([1], fold_in(seed, *data), minval=None, maxval=None, dtype=tf.int32)
    return tf.stack([tf.broadcast_to(first, tf.shape(positions)), positions], axis=1)


def nth(seeds: tf.Tensor, n: tf.Tensor | int) -> tf.Tensor:
    """Return the seeds of the n-th independent draw: the generators hash them, so neighbours are unrelated."""
    return seeds + tf.stack([n, 0])


def uniform(like: tf.Tensor, seeds: tf.Tensor) -> tf.Tensor:
    """Draw from the uniform distribution on [-1, 1], shaped as `like`; `seeds` is `[2]` or one row an image."""
    return _draw(lambda shape, seed: tf.random.stateless_uniform(shape, seed, -1.0, 1.0), like, seeds)


def normal(like: tf.Tensor, seeds: tf.Tensor) -> tf.Tensor:
    """Draw from the standard normal distribution, shaped as `like`; `seeds` is `[2]` or one row an image."""
    return _draw(tf.random.stateless_normal, like, seeds)


def _draw(sample: Callable[..., tf.Tensor], like: tf.Tensor, seeds: tf.Tensor) -> tf.Tensor:
    if seeds.shape.rank == 1:
        return sample(tf.shape(like), seeds)
    return tf.map_fn(lambda seed: sample(tf.shape(like)[1:], seed), seeds, fn_output_signature=tf.float32)
