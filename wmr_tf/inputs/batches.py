"""What people hand in as data: batches of images and labels, looked at once."""

from collections.abc import Iterable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from wmr_tf.checks import at_least, require
from wmr_tf.engine.precision import float32_compute
from wmr_tf.inputs.classifier import check_logits
from wmr_tf.inputs.images import check_images_and_labels
from wmr_tf.weights import class_indices


def in_batches(classifier: keras.Model, data: tf.data.Dataset | tuple[Any, Any], batch_size: int) -> tf.data.Dataset:
    """Return a data set or a pair of arrays in batches of `batch_size`.

    Raises:
        InvalidInput: If the size is no whole number >= 1, or the data are not what the classifier takes.
    """
    at_least("batch_size", batch_size, 1)
    if not isinstance(data, tf.data.Dataset):
        check_first_batch(classifier, data)
        data = tf.data.Dataset.from_tensor_slices(tuple(data)).batch(batch_size)
    check_batched(data)
    return data.rebatch(batch_size)


def checked_batches(classifier: keras.Model, data: Iterable[Any]) -> list[tuple[tf.Tensor, tf.Tensor]]:
    """Return all batches as float32 images and int32 class indices.

    Raises:
        InvalidInput: If a batch is not what it should be, or there is none.
    """
    given = list(data)
    with float32_compute(classifier):
        check_batches(classifier, given)  # as given: a cast may hide what is wrong
    return [(tf.cast(images, tf.float32), class_indices(labels)) for images, labels, *_ in given]


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


def check_batches(classifier: keras.Model, batches: list[Any]) -> None:
    """Check the first batch as `check_first_batch` does, and images and labels of all of them.

    Raises:
        InvalidInput: If there is no batch, or one is not what it should be.
    """
    classes = check_first_batch(classifier, batches[0] if batches else None)
    for images, labels, *_ in batches:
        check_images_and_labels(images, labels, classes)


def image_and_index(x: Any) -> tuple[Any, Any]:
    """Return the images of what a data set gives, and their index in the training set, None if there is none.

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
    """Check the first batch of a training or an evaluation, and what the classifier makes of it.

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
    check_images_and_labels(images, labels)
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
    logits = np.asarray(classifier(tf.cast(images[:64], tf.float32), training=False), np.float32)
    classes = check_logits(logits)
    check_images_and_labels(images, labels, classes)
    return classes


def _check_form(index: np.ndarray, images: int) -> None:
    require(
        index.dtype.kind in "iu" and index.size == images,
        "index",
        got=f"dtype {index.dtype} of shape {list(index.shape)} with {images} images",
        expected=f"integers of shape [{images}]",
        fix="Give each image its place in the training set.",
    )
