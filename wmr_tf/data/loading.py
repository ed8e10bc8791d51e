"""From a data set to its splits in batches: `load`."""

import dataclasses
import os
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from wmr_tf.checks import at_least, data_folder, require
from wmr_tf.checks import seed as checked_seed
from wmr_tf.data import pipeline
from wmr_tf.data.cutting import SPLIT_SEED
from wmr_tf.data.source import Arrays, Source
from wmr_tf.data.sources import info


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


def load(
    name: str | Source,
    *,
    batch_size: int = 128,
    seed: int = 0,
    data_dir: str | os.PathLike[str] | None = None,
    train_examples: int | None = None,
    validation_examples: int | None = None,
    with_index: bool = False,
) -> Splits:
    """Load a data set and return its training, validation and test batches.

    Validation images are cut from the training images: 5,000 of MNIST and CIFAR-10, 10 % elsewhere, the same ones
    with every seed. Of your own images the splits that are not there are cut so too, of each class alike: a fifth for
    the test, a tenth of the rest for validation; copies of an image stay in one split. They stay in their files if
    they do not fit into memory. Training batches are reshuffled in every epoch, and a last, smaller one is left out;
    those of CIFAR-10 and Tiny ImageNet are also randomly cropped and flipped. Validation and test batches hold all
    images, in the same order each time. The test images of Tiny ImageNet are its official validation images: its own
    test images have no labels.

    Args:
        name: What `info` takes, or what it returned.
        batch_size: Examples a batch, >= 1.
        seed: Of the training order and of the augmentation, in [0, 2**31).
        data_dir: An existing folder where tensorflow-datasets keeps prepared data; a copy found there is only read.
            None: its default folder. MNIST and CIFAR-10 are downloaded into that folder if they are not there. For
            Tiny ImageNet also a folder with tiny-imagenet-200.zip, or with that in downloads/manual; it is prepared
            once.
        train_examples: Keep only so many training images; None keeps all.
        validation_examples: Keep only so many validation images; None keeps all.
        with_index: Whether training images come as {"image": images, "index": index}: the index, int32 [batch], is the
            image's place among the training images, the same in every epoch and with every seed.

    Returns:
        `Splits(train, validation, test)`, each a data set of batches
        (images float32 [batch, height, width, channels] in [0, 1], labels int32 [batch]); its `train_examples` is the
        number of training images.

    Raises:
        InvalidInput: If an argument is out of range, the data can be neither found nor downloaded, or what reads them
            is not installed.

    Example:
        >>> train, validation, test = load("digits", batch_size=32)
        >>> images, labels = next(iter(train))
        >>> images.shape, labels.shape
        (TensorShape([32, 8, 8, 1]), TensorShape([32]))

    Note:
        The training batches have addresses: batch k of epoch e is the same whatever was read before. The data set
        itself counts how often it has been read; `wmr_tf.callbacks.ExactResume` has it begin where a training stopped.
    """
    source = name if isinstance(name, Source) else info(name, data_dir=data_dir)
    source.check_installed()
    batch_size = at_least("batch_size", batch_size, 1)
    seed = checked_seed(seed)
    raw = _with_validation(source.read(None if data_dir is None else data_folder(data_dir)), source.validation_examples)
    train = _first("train_examples", len(raw.train_labels), train_examples)
    validation = _first("validation_examples", len(raw.validation_labels), validation_examples)

    common = {"scale": source.scale, "batch_size": batch_size}
    return Splits(
        train=pipeline.training(
            raw.train_images[:train],
            raw.train_labels[:train],
            seed=seed,
            augment=source.augment,
            with_index=with_index,
            **common,
        ),
        validation=pipeline.evaluation(
            raw.validation_images[:validation], raw.validation_labels[:validation], **common
        ),
        test=pipeline.evaluation(raw.test_images, raw.test_labels, **common),
        train_examples=train,
    )


def _with_validation(raw: Arrays, examples: int | None) -> Any:
    """Return all splits, the validation images cut from the training images if there are no others."""
    if raw.validation_labels is not None:
        return raw
    # RandomState, unlike NumPy's newer generators, promises the same numbers in every version of NumPy.
    order = np.random.RandomState(SPLIT_SEED).permutation(len(raw.train_labels))
    held_out, train = np.split(order, [examples or round(len(order) / 10)])
    validation = raw.train_images[held_out], raw.train_labels[held_out]
    return Arrays(raw.train_images[train], raw.train_labels[train], raw.test_images, raw.test_labels, *validation)


def _first(what: str, there: int, count: int | None) -> int:
    if count is None:
        return there
    count = at_least(what, count, 1)
    fix = f"Lower {what}, or leave it out to use all."
    require(count <= there, what, got=count, expected=f"at most {there}", fix=fix)
    return count
