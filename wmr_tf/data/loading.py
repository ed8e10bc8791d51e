"""Data sets by name: the table of sources, their splits and `load`."""

import dataclasses
import os
from collections.abc import Iterator

import numpy as np
import tensorflow as tf

from wmr_tf.checks import at_least, data_folder, one_of, require
from wmr_tf.checks import seed as checked_seed
from wmr_tf.data import pipeline
from wmr_tf.data.digits import DIGITS
from wmr_tf.data.prepared import CIFAR10, MNIST
from wmr_tf.data.source import Source
from wmr_tf.data.tiny_imagenet import TINY_IMAGENET

SOURCES: dict[str, Source] = {"digits": DIGITS, "mnist": MNIST, "cifar10": CIFAR10, "tiny_imagenet": TINY_IMAGENET}

_SPLIT_SEED = 2021  # of the cut between training and validation; another one would make other experiments


@dataclasses.dataclass(frozen=True)
class Splits:
    """Data sets of batches (images float32 [batch, height, width, channels] in [0, 1], labels int32 [batch]).

    Unpacks as `train, validation, test`.
    """

    train: tf.data.Dataset
    validation: tf.data.Dataset
    test: tf.data.Dataset
    train_examples: int | None = None
    """The number of training images, including those of a last, incomplete batch; None if it is not known."""

    def __iter__(self) -> Iterator[tf.data.Dataset]:
        return iter((self.train, self.validation, self.test))


def info(name: str) -> Source:
    """Return the facts of a data set (`num_classes`, `image_shape`, ...) without loading it.

    Args:
        name: One of "digits", "mnist", "cifar10", "tiny_imagenet".

    Raises:
        InvalidInput: If there is no data set of that name.

    Example:
        >>> info("mnist").image_shape
        (28, 28, 1)
    """
    return SOURCES[one_of("data set", name, tuple(SOURCES))]


def load(
    name: str,
    *,
    batch_size: int = 128,
    seed: int = 0,
    data_dir: str | os.PathLike[str] | None = None,
    train_examples: int | None = None,
    validation_examples: int | None = None,
    with_index: bool = False,
) -> Splits:
    """Load a data set into memory and return its training, validation and test batches.

    Validation images are cut from the training images: 5,000 of MNIST and CIFAR-10, 10 % elsewhere, the same ones
    with every seed. Training batches are reshuffled in every epoch, and a last, smaller one is left out; those of
    CIFAR-10 and Tiny ImageNet are also randomly cropped and flipped. Validation and test batches hold all images, in
    the same order each time. The test images of Tiny ImageNet are its official validation images: its own test images
    have no labels.

    Args:
        name: One of "digits", "mnist", "cifar10", "tiny_imagenet".
        batch_size: Examples a batch, >= 1.
        seed: Of the training order and of the augmentation, in [0, 2**31).
        data_dir: An existing folder where tensorflow-datasets keeps prepared data; a copy found there is only read.
            None: its default folder. What is not prepared is downloaded into that folder. For Tiny ImageNet also a
            folder with tiny-imagenet-200.zip, or with that in downloads/manual; it is prepared once.
        train_examples: Keep only so many training images; None keeps all.
        validation_examples: Keep only so many validation images; None keeps all.
        with_index: Whether training images come as {"image": images, "index": index}: the index, int32 [batch], is the
            image's place among the training images, the same in every epoch and with every seed.

    Returns:
        `Splits(train, validation, test)`, each a data set of batches
        (images float32 [batch, height, width, channels] in [0, 1], labels int32 [batch]); its `train_examples` is the
        number of training images.

    Raises:
        InvalidInput: If an argument is out of range, or the data can be neither found nor downloaded.

    Example:
        >>> train, validation, test = load("digits", batch_size=32)
        >>> images, labels = next(iter(train))
        >>> images.shape, labels.shape
        (TensorShape([32, 8, 8, 1]), TensorShape([32]))

    Note:
        The training batches have addresses: batch k of epoch e is the same whatever was read before. The data set
        itself counts how often it has been read; `wmr_tf.callbacks.ExactResume` has it begin where a training stopped.
    """
    source = info(name)
    batch_size = at_least("batch_size", batch_size, 1)
    seed = checked_seed(seed)
    raw = source.read(None if data_dir is None else data_folder(data_dir))

    order = _permutation(len(raw.train_images))
    held_out = source.validation_examples or round(len(order) / 10)
    validation = _first("validation_examples", order[:held_out], validation_examples)
    train = _first("train_examples", order[held_out:], train_examples)

    common = {"scale": source.scale, "batch_size": batch_size}
    return Splits(
        train=pipeline.training(
            raw.train_images[train],
            raw.train_labels[train],
            seed=seed,
            augment=source.augment,
            with_index=with_index,
            **common,
        ),
        validation=pipeline.evaluation(raw.train_images[validation], raw.train_labels[validation], **common),
        test=pipeline.evaluation(raw.test_images, raw.test_labels, **common),
        train_examples=len(train),
    )


def _permutation(examples: int) -> np.ndarray:
    # RandomState, unlike NumPy's newer generators, promises the same numbers in every version of NumPy.
    return np.random.RandomState(_SPLIT_SEED).permutation(examples)


def _first(what: str, indices: np.ndarray, count: int | None) -> np.ndarray:
    if count is None:
        return indices
    count = at_least(what, count, 1)
    fix = f"Lower {what}, or leave it out to use all."
    require(count <= len(indices), what, got=count, expected=f"at most {len(indices)}", fix=fix)
    return indices[:count]
