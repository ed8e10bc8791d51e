"""From arrays in memory to batches: pipelines of indices that gather, augment and scale a batch at a time."""

import contextlib
import functools
import re
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from wmr_tf.data.augment import augmentation
from wmr_tf.data.encoded import EncodedImages
from wmr_tf.data.source import Images
from wmr_tf.engine import seeds

_ORDER, _CROPS = -1, -2
"""What a seed is for; the attacks fold in the number of a step, which is never negative."""

_AS_IT_IS = tf.autograph.experimental.do_not_convert  # AutoGraph takes longer to look at a function than that to trace


class Place:
    """Where in its epochs a data set is whose batches have addresses: batch k of epoch e, whatever was read before.

    Reading the data set moves it on: the next time the data set is read is the next epoch.

    Args:
        **settings: What the batches depend on besides, for whoever compares.

    Example:
        >>> train, _, _ = wmr_tf.data.load("digits", batch_size=32)
        >>> place_of(train).go_to(epoch=3, batch=7)
        >>> images, labels = next(iter(train))  # which are those of batch 7 in epoch 3
    """

    def __init__(self, **settings: Any) -> None:
        self.settings = settings
        with tf.device("CPU"):
            self._next = tf.Variable([0, 0], dtype=tf.int64, trainable=False)  # epoch, and its first batch

    def go_to(self, epoch: int, batch: int = 0) -> None:
        """Have the data set begin there when it is next read; what comes before the batch follows at the end."""
        self._next.assign([epoch, batch])

    def now(self) -> tuple[int, int]:
        """Return the epoch and the batch that it begins with when it is next read."""
        epoch, batch = self._next.numpy().tolist()
        return epoch, batch

    def begin_epoch(self) -> tuple[tf.Tensor, tf.Tensor]:
        """Return the epoch and its first batch, within the data set's graph, and move on by an epoch."""
        epoch, batch = tf.unstack(self._next.read_value())
        with tf.control_dependencies([epoch, batch]):
            moved = self._next.assign([epoch + 1, 0], read_value=False)
        with tf.control_dependencies([moved]):
            return tf.identity(epoch), tf.identity(batch)


def place_of(data: Any) -> Place | None:
    """Return the place of a data set that `wmr_tf.data.load` made, None of any other, also of one derived from it."""
    return getattr(data, "place", None)


def places_behind(data: Any) -> list[Place]:
    """Return the places of the data sets of `wmr_tf.data.load` that a `tf.data.Dataset` is read from in every epoch."""
    own, is_cached = place_of(data), type(data).__name__ == "CacheDataset"  # which is read from in the first alone
    inputs = data._inputs() if isinstance(data, tf.data.Dataset) and not is_cached else ()  # private to TensorFlow
    return [own] if own else [place for each in inputs for place in places_behind(each)]


@contextlib.contextmanager
def looked_at(data: Any) -> Iterator[None]:
    """Have data be read in the block without moving them on, if they have a place."""
    place = place_of(data)
    before = None if place is None else place.now()
    yield
    if place is not None and before is not None:
        place.go_to(*before)


def training(
    images: Images,
    labels: np.ndarray,
    *,
    scale: int,
    batch_size: int,
    seed: int,
    augment: str = "none",
    with_index: bool = False,
) -> tf.data.Dataset:
    """Return shuffled, perhaps augmented batches; full ones only, unless there are fewer images than one batch.

    The order is keyed by seed and epoch, the augmentation by seed, epoch and batch.

    Args:
        images: Numbers [examples, height, width, channels], in memory or in files.
        labels: Integers [examples].
        scale: The raw value that becomes 1.
        batch_size: Examples a batch.
        seed: Of order and augmentation: both differ from epoch to epoch and repeat in a run with the same seed.
        augment: How images are changed, see `wmr_tf.data.augment.augmentation`.
        with_index: Whether the images come as {"image", "index"}, the index, int32 [batch], their place in `images`.

    Returns:
        A data set of (float32 [batch, height, width, channels] in [0, 1], int32 [batch]); each time it is read is
        another epoch, see `place_of`.
    """
    examples = len(images)
    size, batches = min(batch_size, examples), max(examples // batch_size, 1)
    place = Place(examples=examples, batch_size=batch_size, seed=seed, augment=augment)
    gather, augmented = _gather(images, labels), augmentation(augment)

    @_AS_IT_IS
    def epoch_of(_: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        epoch, first = place.begin_epoch()
        order = tf.random.experimental.stateless_shuffle(tf.range(examples), seeds.fold_in(seed, _ORDER, epoch))
        turned = (tf.range(batches, dtype=tf.int64) + first) % batches
        index = tf.gather(tf.reshape(order[: batches * size], [batches, size]), turned)
        return index, tf.fill([batches], epoch), turned

    @_AS_IT_IS
    def batch(index: tf.Tensor, epoch: tf.Tensor, number: tf.Tensor) -> tuple[Any, tf.Tensor]:
        raw, label = gather(index)
        image = augmented(_scaled(raw, scale), seeds.fold_in(seed, _CROPS, epoch, number))
        return ({"image": image, "index": index} if with_index else image), label

    indices = tf.data.Dataset.from_tensors(0).map(epoch_of).unbatch()
    dataset = _mapped(indices.apply(tf.data.experimental.assert_cardinality(batches)), batch)
    dataset.place = place
    return dataset


def evaluation(images: Images, labels: np.ndarray, *, scale: int, batch_size: int) -> tf.data.Dataset:
    """Return batches of all images, in order and not augmented; arguments and result as in `training`."""
    gather = _gather(images, labels)

    @_AS_IT_IS
    def batch(index: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        raw, label = gather(index)
        return _scaled(raw, scale), label

    return _mapped(tf.data.Dataset.range(len(images)).batch(batch_size), batch)


def _gather(images: Images, labels: np.ndarray) -> Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]]:
    with tf.device("CPU"):  # a GPU's memory is for the model
        all_labels = tf.constant(labels, tf.int32)
        take = (
            _from_files(images)
            if isinstance(images, EncodedImages)
            else functools.partial(tf.gather, tf.constant(images))
        )
    return lambda index: (take(index), tf.gather(all_labels, index))


def _from_files(images: EncodedImages) -> Callable[[tf.Tensor], tf.Tensor]:
    def take(index: tf.Tensor) -> tf.Tensor:
        batch = tf.numpy_function(images.read, [index], tf.uint8, stateful=False)
        return tf.ensure_shape(batch, [*index.shape, *images.image_shape])

    return take


@contextlib.contextmanager
def unreadable_reported() -> Iterator[None]:
    """Say in one line that an image in a file can be read no longer, of which TensorFlow makes a page.

    Raises:
        OSError: If a batch in the block needs one.
    """
    try:
        yield
    except tf.errors.OpError as error:
        told = re.search(r"\bUnsafe: (.+)", error.message)
        if told is None:
            raise
        raise OSError(f"an image cannot be read any more: {told[1]}") from error


def _scaled(raw: tf.Tensor, scale: int) -> tf.Tensor:
    return tf.cast(raw, tf.float32) / scale  # a division, so that `scale` becomes exactly 1


def _mapped(dataset: tf.data.Dataset, batch: Callable[..., Any]) -> tf.data.Dataset:
    # One thread, which prepares a batch in a few milliseconds while the step before runs. With several, op determinism
    # would have TensorFlow rewrite the graph and print a line about that. There is nothing to tune then, and the end of
    # an epoch would wait for the thread that tunes.
    options = tf.data.Options()
    options.autotune.enabled = False
    return dataset.map(batch).prefetch(2).with_options(options)
