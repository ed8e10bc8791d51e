"""Images and labels in an .npz file: x_train, y_train, x_test and y_test."""

import contextlib
from pathlib import Path

import numpy as np

from wmr_tf.checks import InvalidInput, listed, require
from wmr_tf.data.cutting import Given, arrays_of, digest
from wmr_tf.data.source import Arrays
from wmr_tf.inputs.images import check_images_and_labels
from wmr_tf.untrusted import read_arrays, read_shapes, well_formed

KEYS = ("x_train", "y_train", "x_test", "y_test")

_CHANNELS = (1, 3)
_SHAPE = "[examples, height, width] or [examples, height, width, channels] with 1 or 3 channels"


def facts(path: Path) -> tuple[int, tuple[int, int, int], int]:
    """Return the number of classes, (height, width, channels), and the raw value that becomes 1.

    Args:
        path: The file, of which only the labels are read.

    Raises:
        InvalidInput: If it is no such file, an array is missing, images are neither bytes nor floats, or labels are not
            0..k-1.
    """
    fix = "Name a folder, an .npz file or tfds:NAME."
    require(path.is_file(), "data", got=repr(str(path)), expected="an existing .npz file", fix=fix)
    with _well_read(path):
        shapes = read_shapes(path)
        missing = [key for key in KEYS if key not in shapes]
        got, expected = f"{str(path)!r} without {', '.join(missing)}", f"arrays {', '.join(KEYS)}"
        require(not missing, "data", got=got, expected=expected, fix="Write them with np.savez.")
        labels = read_arrays(path, only=("y_train",))["y_train"]
    (_, *shape), dtype = shapes["x_train"][0] or (0,), shapes["x_train"][1]
    shape = shape if len(shape) == 3 else [*shape, 1]
    fix = "Put the channels last: np.moveaxis(x, 1, -1)." if shape[:1] in ([1], [3]) else "Reshape the images."
    fix = "Leave out the transparency: x[..., :3]." if shape[2:] == [4] else fix
    is_shape = len(shape) == 3 and shape[-1] in _CHANNELS and min(shape) > 0
    require(is_shape, "x_train", got=f"shape {list(shapes['x_train'][0])}", expected=_SHAPE, fix=fix)
    height, width, channels = shape
    is_bytes = dtype == np.uint8
    fix = "Pass x.astype(np.uint8) if they are 0..255, else floats in [0, 1]."
    expected = "uint8, or floats in [0, 1]"
    require(is_bytes or dtype.kind == "f", "x_train", got=f"dtype {dtype}", expected=expected, fix=fix)
    return _number_of_classes(labels), (height, width, channels), 255 if is_bytes else 1


def read(path: Path) -> Arrays:
    """Return the images and labels of a file, validation images cut from the training images.

    Raises:
        InvalidInput: If the arrays do not fit one another, or are not what `facts` says.
    """
    classes, image_shape, scale = facts(path)
    with _well_read(path):
        found = read_arrays(path, only=KEYS)
    given = {split: _given(split, found, classes, image_shape, scale) for split in ("train", "test")}
    return arrays_of(given)


def _given(
    split: str, found: dict[str, np.ndarray], classes: int, image_shape: tuple[int, int, int], scale: int
) -> Given:
    images, labels = found[f"x_{split}"], found[f"y_{split}"]
    kind = found["x_train"].dtype
    is_alike = images.shape[1:] == found["x_train"].shape[1:] and images.dtype == kind
    got, expected = f"{images.dtype} of shape {list(images.shape)}", f"{kind} and images of shape {list(image_shape)}"
    require(is_alike, f"x_{split}", got=got, expected=expected, fix="Store both alike.")
    images = images.reshape([len(images), *image_shape])
    images = images if scale == 255 else images.astype(np.float32)
    try:
        first = np.zeros([len(images), 1], np.float32) if scale == 255 else images  # bytes are in range
        check_images_and_labels(first, labels, classes)
    except InvalidInput as mistake:
        raise InvalidInput(f"{split} {mistake}") from mistake
    return Given(images, _numbers(labels), list(map(digest, images)), [f"x_{split}[{k}]" for k in range(len(images))])


def _numbers(labels: np.ndarray) -> np.ndarray:
    """Return class numbers, `[examples]`, of labels in any form."""
    return labels.argmax(axis=1) if labels.ndim == 2 and labels.shape[1] > 1 else labels.reshape(-1).astype(np.int64)


def _number_of_classes(labels: np.ndarray) -> int:
    """Return how many classes there are, all of which must occur."""
    check_images_and_labels(np.zeros([len(labels) if labels.ndim else 0, 1], np.float32), labels)
    numbers = np.unique(_numbers(labels))
    classes = labels.shape[1] if labels.ndim == 2 and labels.shape[1] > 1 else int(numbers[-1]) + 1
    require(
        len(numbers) == classes > 1,
        "y_train",
        got=f"labels {listed(map(str, numbers))}",
        expected="all of 0..k-1, for at least two classes",
        fix="Number the classes so: np.unique(labels, return_inverse=True)[1].",
    )
    return classes


def _well_read(path: Path) -> contextlib.AbstractContextManager[None]:
    fix = "Write it with np.savez from arrays of numbers."
    return well_formed("data", got=path, expected="an .npz file of plain arrays", fix=fix)
