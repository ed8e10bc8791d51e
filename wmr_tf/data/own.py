"""Images of one's own as a data set: a folder with one subfolder a class, an .npz file, or tfds:NAME.

Such a data set is called by its address: the path of a folder, which ends in a slash, or of an .npz file, or the name
of a set of tensorflow-datasets after "tfds:".
"""

import functools
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from wmr_tf.checks import at_least, one_of, require
from wmr_tf.data import npz
from wmr_tf.data.catalogue import PREFIX, PreparedCopy
from wmr_tf.data.folder import Folder
from wmr_tf.data.source import Source
from wmr_tf.names import COLORS, DATASETS

_CHANNELS = dict(zip(COLORS, (3, 1), strict=True))


def address(dataset: Any) -> str:
    """Return the name of a data set as it is, and the path of a folder with a slash at its end.

    Names come first: a folder that is called like a data set is "./mnist".

    Args:
        dataset: A name or a path.

    Raises:
        InvalidInput: If it is no name, no .npz file, no tfds:NAME and no folder that is there.

    Example:
        >>> address("mnist"), address("photos.npz")
        ('mnist', 'photos.npz')
    """
    is_text = isinstance(dataset, str)
    if is_text and (dataset in DATASETS or is_own(dataset)):
        return dataset
    expected = f"one of {', '.join(DATASETS)}, or images of your own: a folder, an .npz file or tfds:NAME"
    is_folder = is_text and bool(dataset) and Path(dataset).expanduser().is_dir()
    require(
        is_folder,
        "dataset",
        got=repr(dataset),
        expected=expected,
        fix="Pass a name, such as mnist, or a path that is there.",
    )
    return os.path.join(dataset, "")


def is_own(dataset: str) -> bool:
    """Return whether what `address` returned is of images of one's own."""
    return dataset.startswith(PREFIX) or dataset.endswith((".npz", "/", os.sep))


def short_name(dataset: str) -> str:
    """Return what a data set is called in the names of folders.

    Args:
        dataset: What `address` returned.

    Example:
        >>> short_name("mnist"), short_name("/data/photos/"), short_name("photos.npz"), short_name("tfds:beans")
        ('mnist', 'photos', 'photos', 'beans')
    """
    if dataset.startswith(PREFIX):
        return dataset.removeprefix(PREFIX).replace("/", "-").replace(":", "-")
    return Path(dataset).resolve().stem if is_own(dataset) else dataset


def source(
    dataset: str,
    *,
    image_size: Iterable[int] | None = None,
    color: str | None = None,
    skip_broken: bool = False,
    data_dir: str | os.PathLike[str] | None = None,
) -> Source:
    """Return images of one's own as a data set, looked at but not yet read.

    Args:
        dataset: What `address` returned, of images of one's own.
        image_size: One number of pixels, or height and width, to which the images of a folder or of tfds:NAME are
            resized; None leaves them as they are, all alike.
        color: "rgb" or "grayscale", into which they are turned; None is "rgb", for tfds:NAME what they are.
        skip_broken: Whether those that cannot be read are left out, with a warning.
        data_dir: Where tensorflow-datasets keeps prepared data, None for its default folder.

    Raises:
        InvalidInput: If the data are not there, or not what they should be.
    """
    path = Path(dataset).expanduser()
    if dataset.endswith(".npz"):
        refuse_options(dataset, image_size=image_size, color=color, skip_broken=skip_broken)
        classes, shape, scale = npz.facts(path)
        return Source(lambda _: npz.read(path), num_classes=classes, image_shape=shape, scale=scale)
    size = None if image_size is None else checked_size(image_size)
    channels = None if color is None else _CHANNELS[one_of("color", color, COLORS)]
    is_prepared = dataset.startswith(PREFIX)
    found: Folder | PreparedCopy = PreparedCopy.found(dataset, data_dir) if is_prepared else Folder.listing(path)
    shape = found.image_shape(size, channels)
    read = functools.partial(found.read, shape, resize=size is not None, skip_broken=skip_broken)
    return Source(lambda _: read(), num_classes=len(found.classes), image_shape=shape, class_names=found.classes)


def checked_size(size: Iterable[int]) -> tuple[int, int]:
    """Return height and width, given both or one number for both, and raise `InvalidInput` for anything else."""
    numbers = tuple(at_least("image_size", number, 1) for number in size)
    fix = "Pass for instance --image_size=64, or 48,64."
    require(len(numbers) in (1, 2), "image_size", got=numbers, expected="one number, or height and width", fix=fix)
    return numbers[0], numbers[-1]


def refuse_options(dataset: str, **options: object) -> None:
    """Refuse options that are given and that only folders of images and tfds:NAME have.

    Raises:
        InvalidInput: If there is one.
    """
    for name, value in options.items():
        expected, fix = "nothing, since only folders of images and tfds:NAME have it", f"Leave out --{name}."
        require(not value, name, got=f"{value} with data set {dataset!r}", expected=expected, fix=fix)
