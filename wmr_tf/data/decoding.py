"""From encoded images, in files or in memory, to the arrays of a data set."""

import math
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from wmr_tf.checks import listed, require
from wmr_tf.data.cutting import Given, arrays_of, digest
from wmr_tf.data.encoded import FORMATS, EncodedImages, pixels_of_each, size_of
from wmr_tf.data.source import Arrays, Images
from wmr_tf.engine import machine
from wmr_tf.untrusted import Unsafe

_COPIES = 4
"""How many times the images of a data set are in memory for a while: read, cut into splits, and in TensorFlow."""


class Example(NamedTuple):
    """An encoded image, and its class.

    Attributes:
        image: The path of its file, or what such a file holds.
        name: What messages call it.
        label: Its class.
    """

    image: str | bytes
    name: str
    label: int


def decode(
    splits: Mapping[str, Sequence[Example]],
    classes: Sequence[str],
    image_shape: tuple[int, int, int],
    *,
    resize: bool,
    skip_broken: bool,
) -> Arrays:
    """Return the images and labels of all splits, decoded into memory if they fit.

    Each image is decoded once in any case, to learn whether it can be.

    Args:
        splits: The images of "train", and perhaps of "validation" and "test", which are cut from it if not given.
        classes: The names of the classes.
        image_shape: (height, width, channels) of all images.
        resize: Whether images of other sizes are resized, or refused.
        skip_broken: Whether images that cannot be read are left out, with a warning, or refused.

    Raises:
        InvalidInput: If an image cannot be read, has another size, or a class has no or too few images.
    """
    sound = {split: _sound(each, image_shape, resize=resize) for split, each in splits.items()}
    keep = _fit_in_memory(sum(map(len, splits.values())), image_shape)
    broken: list[tuple[str, str]] = []
    given = {split: _read(each, image_shape, keep, broken) for split, each in sound.items()}
    _tell_broken(broken, skip_broken)
    for split, each in given.items():
        empty = [classes[label] for label in set(range(len(classes))) - set(each.labels.tolist())]
        got = f"no {split} image that can be read of {listed(sorted(empty))}"
        require(not empty, "data", got=got, expected="images of every class", fix="Add images or leave it out.")
    return arrays_of(given)


def _sound(
    images: Iterable[Example], image_shape: tuple[int, int, int], *, resize: bool
) -> Iterator[tuple[Example, str | None]]:
    """Yield each image, and what is wrong with its header, if anything."""
    height, width = image_shape[:2]
    for each in images:
        try:
            size = size_of(each.image)
        except Unsafe as error:
            yield each, str(error)
            continue
        require(
            resize or size == (height, width),
            "data",
            got=f"{each.name!r} of {size[0]} x {size[1]} pixels where others have {height} x {width}",
            expected="images of one size",
            fix=f"Pass --image_size={height},{width} (height and width) to resize all.",
        )
        yield each, None


def _read(
    images: Iterator[tuple[Example, str | None]],
    image_shape: tuple[int, int, int],
    keep: bool,
    broken: list[tuple[str, str]],
) -> Given:
    """Return a split; images that cannot be decoded join the broken ones."""
    sound = []
    for each, wrong in images:
        if wrong is None:
            sound.append(each)
        else:
            broken.append((each.name, wrong))
    memory = np.empty([len(sound) if keep else 0, *image_shape], np.uint8)
    read: list[Example] = []
    digests: list[bytes] = []
    decoded = pixels_of_each([each.image for each in sound], image_shape)
    for each, (image, wrong) in zip(sound, decoded, strict=True):
        if image is None:
            broken.append((each.name, str(wrong)))
            continue
        if keep:
            memory[len(read)] = image
        read.append(each)
        digests.append(digest(image))
    encoded = np.empty([len(read)], object)  # filled in: of bytes NumPy would make texts that lose their last zeros
    encoded[:] = [each.image for each in read]
    found: Images = memory[: len(read)] if keep else EncodedImages(encoded, image_shape)
    return Given(found, np.array([each.label for each in read], np.int64), digests, [each.name for each in read])


def _tell_broken(broken: list[tuple[str, str]], skip: bool) -> None:
    if broken:
        are = "1 image" if len(broken) == 1 else f"{len(broken)} images"
        found = f"{are} that cannot be read, {listed((f'{name} ({why})' for name, why in broken), 3)}"
        fix = "Mend or remove them, or pass --skip_broken to go on without."
        require(skip, "data", got=found, expected=f"images in {', '.join(FORMATS)}", fix=fix)
        warnings.warn(f"data: left out {found}.", stacklevel=2)


def _fit_in_memory(examples: int, image_shape: tuple[int, int, int]) -> bool:
    """Return whether so many images, as bytes, fit into the memory that is free."""
    free = machine.free_memory()
    return free is None or _COPIES * examples * math.prod(image_shape) <= free
