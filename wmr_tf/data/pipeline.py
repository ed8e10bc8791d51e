"""From arrays in memory to batches: pipelines of indices that gather, augment and scale a batch at a time."""

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from wmr_tf.data.augment import crop_and_flip


def training(
    images: np.ndarray,
    labels: np.ndarray,
    *,
    scale: int,
    batch_size: int,
    seed: int,
    augment: bool,
    with_index: bool = False,
) -> tf.data.Dataset:
    """Return shuffled, perhaps augmented batches; full ones only, unless there are fewer images than one batch.

    Args:
        images: uint8 [examples, height, width, channels].
        labels: Integers [examples].
        scale: The raw value that becomes 1.
        batch_size: Examples a batch.
        seed: Of order and augmentation: both differ from epoch to epoch and repeat in a run with the same seed.
        augment: Whether to crop and flip.
        with_index: Whether the images come as {"image", "index"}, the index, int32 [batch], their place in `images`.

    Returns:
        A data set of (float32 [batch, height, width, channels] in [0, 1], int32 [batch]).
    """
    examples = len(images)
    indices = tf.data.Dataset.range(examples).shuffle(examples, seed=seed, reshuffle_each_iteration=True)
    indices = indices.batch(batch_size, drop_remainder=examples >= batch_size)
    gather = _gather(images, labels)

    def batch(index: tf.Tensor, crop_seed: tf.Tensor) -> tuple[Any, tf.Tensor]:
        raw, label = gather(index)
        if augment:
            raw = crop_and_flip(raw, crop_seed)
        image = _scaled(raw, scale)
        return ({"image": image, "index": tf.cast(index, tf.int32)} if with_index else image), label

    # Two numbers for each batch, new in every epoch: they travel with the batch, so parallel maps cannot reorder them.
    crop_seeds = tf.data.Dataset.random(seed=seed, rerandomize_each_iteration=True).batch(2)
    return _mapped(tf.data.Dataset.zip(indices, crop_seeds), batch)


def evaluation(images: np.ndarray, labels: np.ndarray, *, scale: int, batch_size: int) -> tf.data.Dataset:
    """Return batches of all images, in order and not augmented; arguments and result as in `training`."""
    gather = _gather(images, labels)

    def batch(index: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        raw, label = gather(index)
        return _scaled(raw, scale), label

    return _mapped(tf.data.Dataset.range(len(images)).batch(batch_size), batch)


def _gather(images: np.ndarray, labels: np.ndarray) -> Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]]:
    with tf.device("CPU"):  # a GPU's memory is for the model
        all_images, all_labels = tf.constant(images), tf.constant(labels, tf.int32)
    return lambda index: (tf.gather(all_images, index), tf.gather(all_labels, index))


def _scaled(raw: tf.Tensor, scale: int) -> tf.Tensor:
    return tf.cast(raw, tf.float32) / scale  # a division, so that `scale` becomes exactly 1


def _mapped(dataset: tf.data.Dataset, batch: Callable[..., Any]) -> tf.data.Dataset:
    return dataset.map(batch, num_parallel_calls=tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)
