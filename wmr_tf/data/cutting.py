"""The cut of one's own data into training, validation and test images, none of which is in two splits."""

import hashlib
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from wmr_tf.checks import printable, require
from wmr_tf.data.source import Arrays, Images

SPLIT_SEED = 2021
"""Of every cut between the splits of a data set; another one would make other experiments."""

SPLITS = ("train", "validation", "test")

SHARES = {"test": 0.2, "validation": 0.1}
"""Which part of the images left is cut off for a split that is not given, in this order."""


class Given(NamedTuple):
    """A split as it was found.

    Attributes:
        images: `[examples, height, width, channels]`.
        labels: `[examples]`.
        digests: What identical images have in common, one an image, see `digest`.
        names: What messages call each image.
    """

    images: Images
    labels: np.ndarray
    digests: list[bytes]
    names: Sequence[str]


def digest(image: np.ndarray) -> bytes:
    """Return 16 bytes that are the same for identical images only."""
    return hashlib.blake2b(np.ascontiguousarray(image).tobytes(), digest_size=16).digest()


def arrays_of(given: Mapping[str, Given]) -> Arrays:
    """Return the three splits of a data set, in an order that has nothing to do with the class.

    Those that are not given are cut from the training images: a fifth of each class for the test, and a tenth of what
    is left for validation, the same images each time. Copies of an image stay together. The user is warned of those
    that given splits have in common.

    Args:
        given: The split "train", and perhaps "validation" and "test".

    Raises:
        InvalidInput: If a class has too few images for a cut.
    """
    _warn_of_common(given)
    train = given["train"]
    first = {key: index for index, key in reversed(list(enumerate(train.digests)))}
    original = np.array([first[key] for key in train.digests])
    _warn_of_two_labels(train, original)
    part_of = {"train": np.arange(len(original))}
    missing = [name for name in SHARES if name not in given]
    for name in missing:
        is_cut = _cut(train.labels, original, part_of["train"], name, needed=1 + len(missing))
        part_of[name], part_of["train"] = part_of["train"][is_cut], part_of["train"][~is_cut]
    found: dict[str, Any] = {}
    for name in SPLITS:
        whole = train if name in part_of else given[name]
        index = part_of.get(name, np.arange(len(whole.labels)))
        shuffled = np.random.RandomState(SPLIT_SEED).permutation(index)
        found |= {f"{name}_images": whole.images[shuffled], f"{name}_labels": whole.labels[shuffled]}
    return Arrays(**found)


def _cut(labels: np.ndarray, original: np.ndarray, left: np.ndarray, name: str, needed: int) -> np.ndarray:
    """Return which of the images left go into a split, bools of the shape of `left`."""
    draws, is_cut = np.random.RandomState(SPLIT_SEED), np.zeros(len(labels), bool)
    originals = np.unique(original[left])
    for label in range(int(labels.max()) + 1):
        of_class = draws.permutation(originals[labels[originals] == label])
        enough = len(of_class) >= (needed if name == "test" else 2)
        got = f"{len(of_class)} different training images of class {label}"
        expected = f"at least {needed}, one for each split that is cut from them"
        require(enough, "data", got=got, expected=expected, fix="Add images, or leave the class out.")
        is_cut[of_class[: max(1, round(SHARES[name] * len(of_class)))]] = True
    return is_cut[original[left]]


def _warn_of_two_labels(train: Given, original: np.ndarray) -> None:
    found = np.flatnonzero(train.labels != train.labels[original])
    if len(found):
        name, other = train.names[found[0]], train.names[original[found[0]]]
        warnings.warn(
            f"data: {len(found)} training images are identical to one of another class, the first {printable(name)}, "
            f"which is {printable(other)}. Leave them in one class.",
            stacklevel=3,
        )


def _warn_of_common(given: Mapping[str, Given]) -> None:
    names = [name for name in SPLITS if name in given]
    for number, earlier in enumerate(names):
        known = dict(zip(given[earlier].digests, given[earlier].names, strict=True))
        for later in names[number + 1 :]:
            found = [
                (name, known[key])
                for key, name in zip(given[later].digests, given[later].names, strict=True)
                if key in known
            ]
            if found:
                warnings.warn(
                    f"data: {len(found)} of {len(given[later].labels)} {later} images are {earlier} images too, the "
                    f"first {printable(found[0][0])}, which is {printable(found[0][1])}. Accuracies on images that "
                    f"were trained on say little: remove them from one of the splits.",
                    stacklevel=2,
                )
