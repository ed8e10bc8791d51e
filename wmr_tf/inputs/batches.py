"""Turns data in every form into batches of images and labels, and checks each batch once."""

import itertools
import types
from collections.abc import Iterable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from wmr_tf.checks import at_least, refuse, require
from wmr_tf.engine import distribution
from wmr_tf.engine.precision import float32_compute
from wmr_tf.inputs.classifier import check_model, classes_of
from wmr_tf.inputs.images import check_images_and_labels
from wmr_tf.weights import class_indices

LOOKED_AT = 16
"""On how many images the outputs of a classifier are checked: Keras keeps all that its layers make of them."""


class CheckedBatches(list[tuple[tf.Tensor, tf.Tensor]]):
    """Batches of float32 images and int32 class indices that `checked_batches` has checked for a classifier."""

    def split(self, size: int) -> "CheckedBatches":
        """Return the same images in the same order, each batch cut into parts of at most `size` images."""
        return CheckedBatches(
            (images[start:][:size], labels[start:][:size])
            for images, labels in self
            for start in range(0, len(labels), size)
        )


def batches_of(data: Any, batch_size: int | None = None, examples: int | None = None) -> list[Any]:
    """Return finite data as a list of batches, unchecked.

    Args:
        data: A `tf.data.Dataset` of batches, a pair of arrays, a list of batches, or a `keras.utils.PyDataset`.
        batch_size: Images in a batch; None leaves the batches of a data set as they are.
        examples: How many images to take, the first ones; None takes all.

    Raises:
        InvalidInput: If a number is no whole number >= 1, or the data are something else or not in batches.
    """
    size = None if batch_size is None else at_least("batch_size", batch_size, 1)
    wanted = None if examples is None else at_least("examples", examples, 1)
    if isinstance(data, tf.data.Dataset):
        check_batched(data)
        check_ends(data, wanted)
        batches = data if size is None else data.rebatch(size)
        if wanted is not None:
            batches = batches.unbatch().take(wanted).batch(size or wanted)
        return list(batches)
    arrays = _arrays_of(data)
    wanted = min(len(arrays[0]), wanted or len(arrays[0]))
    starts = range(0, max(wanted, 1), size or max(wanted, 1))
    return [tuple(array[start : min(start + (size or wanted), wanted)] for array in arrays) for start in starts]


def _arrays_of(data: Any) -> tuple[np.ndarray, ...]:
    """Return images, labels and, if there are any, sample weights as arrays of all examples."""
    is_pair = isinstance(data, tuple | list) and len(data) in (2, 3) and not _is_batch(data[0])
    if not is_pair:
        data = _joined(data)
    arrays = tuple(np.asarray(part) for part in (image_and_index(data[0])[0], *data[1:]) if part is not None)
    require(
        len(arrays) > 1 and len({array.shape[:1] for array in arrays}) == 1,
        "labels",
        got=f"{len(arrays[0])} images and labels of shape {list(arrays[1].shape) if len(arrays) > 1 else 'nothing'}",
        expected="one label an image",
        fix="Pass (images, labels).",
    )
    return arrays


def _joined(data: Any) -> list[Any]:
    """Return the batches of a list or a `PyDataset` as a single one."""
    if isinstance(data, keras.utils.PyDataset) and data.num_batches is not None:
        data = [data[number] for number in range(data.num_batches)]
    require(
        isinstance(data, list) and all(map(_is_batch, data)),
        "data",
        got=f"a {type(data).__name__}",
        expected="a tf.data.Dataset of batches, a pair of arrays, a list of batches or a finite PyDataset",
        fix="Of a generator pass as many batches as you mean: list(itertools.islice(generator, batches)).",
    )
    require(bool(data), "data", got="nothing", expected="batches of (image, label)", fix="Pass at least one batch.")
    columns = zip(*((image_and_index(x)[0], y) for x, y, *_ in data), strict=True)
    try:
        return [np.concatenate(column) for column in columns]
    except ValueError as error:
        shapes = sorted({np.shape(image_and_index(x)[0])[1:] for x, *_ in data})
        fix = "Resize the images to one shape."
        refuse("data", got=f"images of shapes {shapes}", expected="one shape", fix=fix, cause=error)


def _is_batch(part: Any) -> bool:
    return (
        isinstance(part, tuple | list) and len(part) in (2, 3) and (isinstance(part[0], dict) or np.ndim(part[0]) > 1)
    )


def checked_batches(classifier: keras.Model, batches: Iterable[Any]) -> CheckedBatches:
    """Return all batches as float32 images and int32 class indices, after checking each once.

    Raises:
        InvalidInput: If the classifier is no Keras model, or a batch is not what it should be, or there is none.
    """
    check_model(classifier)
    given = list(batches)
    with float32_compute(classifier):  # in which it is scored
        classes = check_first_batch(classifier, given[0] if given else None)
    pairs = [(image_and_index(x)[0], labels) for x, labels, *_ in given]
    for images, labels in pairs[1:]:
        check_images_and_labels(images, labels, classes)  # as given: a cast may hide what is wrong
    return CheckedBatches((tf.cast(images, tf.float32), class_indices(labels)) for images, labels in pairs)


def first_batch(data: Any, labels: Any, sample_weight: Any, strategy: tf.distribute.Strategy) -> tuple[Any, Any]:
    """Return the first batch of the data of `fit` or `evaluate`, and the data with this batch still in them.

    Of arrays the first batch is all of them.

    Raises:
        InvalidInput: If the data are not in batches, or arrays without labels.
    """
    if isinstance(data, types.GeneratorType):
        first = next(data, None)
        return first, (batch for batch in itertools.chain([first], data))  # the one kind of iterator that Keras takes
    if isinstance(data, keras.utils.PyDataset):
        return data[0], data
    if isinstance(data, tf.data.Dataset):
        check_batched(data)
        return next(iter(data), None), data
    if distribution.is_distributed(data):
        return distribution.first_batch_of_replica(data, strategy), data
    require(
        labels is not None,
        "data",
        got=f"a {type(data).__name__} without labels",
        expected="arrays and their labels, or batches in a tf.data.Dataset, a PyDataset or a generator",
        fix="Pass images and labels; a list of batches as a generator: (batch for batch in batches).",
    )
    return (data, labels, sample_weight), data


def check_ends(data: Any, bound: int | None, name: str = "") -> None:
    """Check that data end, or that it is said how much of them is read.

    Args:
        data: A `tf.data.Dataset`; of others nobody knows.
        bound: That, None if it is not said.
        name: What the argument is called that says it, if there is one.

    Raises:
        InvalidInput: If they do not.
    """
    is_endless = isinstance(data, tf.data.Dataset) and bool(data.cardinality() == tf.data.INFINITE_CARDINALITY)
    or_bound = f"call .take(batches) on it, or pass {name}" if name else "or call .take(batches) on it"
    fix = f"Leave out .repeat(), {or_bound}."
    require(
        bound is not None or not is_endless, "data", got="a data set without an end", expected="a finite one", fix=fix
    )


def check_batched(data: tf.data.Dataset) -> None:
    """Check that a data set gives batches.

    Raises:
        InvalidInput: If it gives single images.
    """
    spec = data.element_spec
    is_pair = isinstance(spec, tuple | list) and len(spec) in (2, 3)
    shapes = [getattr(part, "shape", None) for part in spec[:2]] if is_pair else []
    require(
        all(shape is None or shape.rank != 0 for shape in shapes),
        "data",
        got=f"elements {spec}",
        expected="batches of (image, label) or (image, label, sample_weight)",
        fix="Call .batch(256) on the data set.",
    )
    images = spec[0] if is_pair else None
    shape = getattr(images.get("image") if isinstance(images, dict) else images, "shape", None)
    fix = "Call .map(lambda x, y: (tf.ensure_shape(x, [None, height, width, channels]), y)) on the data set."
    is_known = shape is None or shape.rank is not None
    require(is_known, "data", got="images of unknown rank", expected="images whose rank is known", fix=fix)


def image_and_index(x: Any) -> tuple[Any, Any]:
    """Return the images of a batch, and their index in the training set or None.

    Args:
        x: Images, or `{"image": images, "index": index}`.

    Raises:
        InvalidInput: If it is a dictionary of anything else.
    """
    if not isinstance(x, dict):
        return x, None
    require(
        set(x) == {"image", "index"},
        "images",
        got=f"a dictionary with {', '.join(map(repr, x)) or 'nothing'}",
        expected="'image' and 'index'",
        fix='Give images, or {"image": images, "index": index}.',
    )
    return x["image"], x["index"]


def check_index(index: Any, examples: int | None = None) -> None:
    """Check that images came with an index, and that it is within the training set where its size is given.

    Raises:
        InvalidInput: If there is no index, or one that is out of range.
    """
    fix = 'Give batches of ({"image": images, "index": index}, labels), as load(..., with_index=True) does.'
    expected = "images that come with their index in the training set, which the method needs"
    require(index is not None, "data", got="images without an index", expected=expected, fix=fix)
    if examples is not None:
        low, high = int(np.min(index)), int(np.max(index))
        require(
            low >= 0 and high < examples,
            "index",
            got=f"values from {low} to {high}",
            expected=f"places in the training set, in [0, {examples})",
            fix="Give the method the number of training images as `examples`, and number them from 0.",
        )


def check_first_batch(classifier: keras.Model, batch: Any) -> int:
    """Check the first batch of a training or an evaluation, and the classifier's outputs for it.

    Args:
        classifier: The classifier; it is built by this call if it was not.
        batch: `(images, labels)` or `(images, labels, sample_weight)`; the images may come with their index, see
            `image_and_index`.

    Returns:
        The number of classes.

    Raises:
        InvalidInput: If there is no batch, the images are not numbers in [0, 1], the labels are no classes, sample
            weights or indices are not one number an image, or the classifier returns anything but logits.
    """
    require(
        isinstance(batch, tuple | list) and len(batch) in (2, 3) and batch[0] is not None and batch[1] is not None,
        "data",
        got="nothing" if batch is None else "a batch without labels",
        expected="batches of (image, label) or (image, label, sample_weight)",
        fix="Give images and labels, at least one batch of them.",
    )
    x, index = image_and_index(batch[0])
    images, labels, *sample_weight = (np.asarray(part) for part in (x, *batch[1:]) if part is not None)
    check_images_and_labels(images[:LOOKED_AT], labels[:LOOKED_AT])
    classes = classes_of(classifier, images[:LOOKED_AT])
    check_images_and_labels(images, labels, classes)
    if index is not None:
        _check_form(np.asarray(index), len(images))
    for weights in sample_weight:
        unusable = int(np.sum(~(np.isfinite(weights) & (weights >= 0))))
        require(
            weights.size == len(images) and not unusable,
            "sample_weight",
            got=f"shape {weights.shape} with {unusable} values that are negative or not finite",
            expected=f"shape ({len(images)},), finite and >= 0",
            fix="Give one weight an image.",
        )
    return classes


def _check_form(index: np.ndarray, images: int) -> None:
    require(
        index.dtype.kind in "iu" and index.size == images,
        "index",
        got=f"dtype {index.dtype} of shape {list(index.shape)} with {images} images",
        expected=f"integers of shape [{images}]",
        fix="Give each image its place in the training set.",
    )
