"""A folder of images with one subfolder a class."""

import dataclasses
import math
import os
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from wmr_tf.checks import refuse, require
from wmr_tf.data.cutting import SPLITS, Given, arrays_of, digest, listed
from wmr_tf.data.pictures import FORMATS, SUFFIXES, Pictures, pixels_of_each, size_of
from wmr_tf.data.source import Arrays, Images
from wmr_tf.untrusted import Unsafe

_LAYOUT = "one subfolder of images a class, or subfolders train, test and validation (or val) that hold these"
_COPIES = 4
"""How many times the images of a data set are in memory for a while: read, cut into splits, and in TensorFlow."""

_SPLIT_OF = {**{name: name for name in SPLITS}, "val": "validation"}


@dataclasses.dataclass(frozen=True)
class Folder:
    """A folder of images, listed and not yet read.

    Attributes:
        path: The folder.
        classes: The names of its classes, sorted; their places are the labels.
        files: By split the paths of the images and their labels; "train" alone if the folder is not cut into splits.
    """

    path: Path
    classes: tuple[str, ...]
    files: dict[str, list[tuple[str, int]]]

    @classmethod
    def listing(cls, path: Path) -> "Folder":
        """Return the folder, once its classes are found and each has files.

        Raises:
            InvalidInput: If there is no such folder, or it is laid out otherwise.
        """
        fix = "Name a folder, an .npz file or tfds:NAME."
        require(path.is_dir(), "data", got=repr(str(path)), expected="an existing folder", fix=fix)
        inside = _subfolders(path)
        is_cut = "train" in inside and set(inside) <= set(_SPLIT_OF)
        roots = {_SPLIT_OF[name]: path / name for name in inside} if is_cut else {"train": path}
        require(
            len(roots) == len(inside) or not is_cut,
            "data",
            got=f"both validation and val in {str(path)!r}",
            expected="one of them",
            fix="Remove or rename one.",
        )
        classes = _subfolders(roots["train"])
        got = f"{len(classes)} subfolders in {str(roots['train'])!r}"
        require(len(classes) > 1, "data", got=got, expected=f"at least two: {_LAYOUT}", fix="Sort the images so.")
        files = {}
        for split, root in roots.items():
            others = sorted(set(_subfolders(root)) ^ set(classes))
            got = f"{listed(others)} in only one of {str(roots['train'])!r} and {str(root)!r}"
            require(not others, "data", got=got, expected="the same classes in every split", fix="Add or remove them.")
            files[split] = [(file, label) for label, name in enumerate(classes) for file in _files(root / name)]
        return cls(path, tuple(classes), files)

    def image_shape(self, size: tuple[int, int] | None, channels: int) -> tuple[int, int, int]:
        """Return (height, width, channels) of the images: `size`, or that of the first image that can be read.

        Raises:
            InvalidInput: If no image can be read.
        """
        if size is not None:
            return (*size, channels)
        for path, _ in (file for files in self.files.values() for file in files):
            try:
                return (*size_of(path), channels)
            except Unsafe:
                continue
        refuse(
            "data",
            got=f"no image that can be read in {str(self.path)!r}",
            expected=f"images in {', '.join(FORMATS)}",
            fix="Name another.",
        )

    def read(self, image_shape: tuple[int, int, int], *, resize: bool, skip_broken: bool) -> Arrays:
        """Return the images and labels of all splits, decoded into memory if they fit.

        Args:
            image_shape: (height, width, channels) of all images.
            resize: Whether images of other sizes are resized, or refused.
            skip_broken: Whether images that cannot be read are left out, with a warning, or refused.

        Raises:
            InvalidInput: If an image cannot be read, has another size, or a class has no or too few images.
        """
        files = {split: self._sound(each, image_shape, resize=resize) for split, each in self.files.items()}
        keep = _fit_in_memory(sum(map(len, self.files.values())), image_shape)
        broken: list[tuple[str, str]] = []
        given = {split: _read(each, image_shape, keep, broken) for split, each in files.items()}
        self._tell_broken(broken, skip_broken)
        for split, each in given.items():
            empty = [self.classes[label] for label in set(range(len(self.classes))) - set(each.labels.tolist())]
            got = f"no {split} image that can be read of {listed(sorted(empty))}"
            require(not empty, "data", got=got, expected="images of every class", fix="Add images or leave it out.")
        return arrays_of(given)

    def _sound(
        self, files: list[tuple[str, int]], image_shape: tuple[int, int, int], *, resize: bool
    ) -> Iterator[tuple[str, int, str | None]]:
        """Yield the path of each image, its label, and what is wrong with its header, if anything."""
        for path, label in files:
            try:
                size = size_of(path)
            except Unsafe as error:
                yield path, label, str(error)
                continue
            height, width = image_shape[:2]
            require(
                resize or size == (height, width),
                "data",
                got=f"{path!r} of {size[0]} x {size[1]} pixels where others have {height} x {width}",
                expected="images of one size",
                fix=f"Pass --image_size={height},{width} (height and width) to resize all.",
            )
            yield path, label, None

    @staticmethod
    def _tell_broken(broken: list[tuple[str, str]], skip: bool) -> None:
        if broken:
            found = (
                f"{len(broken)} images that cannot be read, {listed((f'{path} ({why})' for path, why in broken), 3)}"
            )
            fix = "Mend or remove them, or pass --skip_broken to go on without."
            require(skip, "data", got=found, expected=f"images in {', '.join(FORMATS)}", fix=fix)
            warnings.warn(f"data: {found}, are left out.", stacklevel=2)


def _read(
    files: Iterator[tuple[str, int, str | None]],
    image_shape: tuple[int, int, int],
    keep: bool,
    broken: list[tuple[str, str]],
) -> Given:
    """Return a split, each image decoded once to learn whether it can be; those that cannot join the broken ones."""
    sound = []
    for path, label, wrong in files:
        if wrong is None:
            sound.append((path, label))
        else:
            broken.append((path, wrong))
    memory = np.empty([len(sound) if keep else 0, *image_shape], np.uint8)
    paths: list[str] = []
    labels: list[int] = []
    digests: list[bytes] = []
    for (path, label), (image, wrong) in zip(
        sound, pixels_of_each([path for path, _ in sound], image_shape), strict=True
    ):
        if image is None:
            broken.append((path, str(wrong)))
            continue
        if keep:
            memory[len(paths)] = image
        paths.append(path)
        labels.append(label)
        digests.append(digest(image))
    in_files = Pictures(np.array(paths, object), image_shape)
    images: Images = memory[: len(paths)] if keep else in_files
    return Given(images, np.array(labels, np.int64), digests, paths)


def _fit_in_memory(examples: int, image_shape: tuple[int, int, int]) -> bool:
    """Return whether so many images, as bytes, fit into the memory that is free."""
    from wmr_tf.engine.memory import free_memory  # late, since it imports TensorFlow

    free = free_memory()
    return free is None or _COPIES * examples * math.prod(image_shape) <= free


def _subfolders(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def _files(folder: Path) -> list[str]:
    """Return the paths of the image files in a folder of a class and in the folders within."""
    every = [os.path.join(root, name) for root, _, names in os.walk(folder) for name in names]
    found = sorted(path for path in every if path.lower().endswith(SUFFIXES) and not Path(path).name.startswith("."))
    got, endings = f"none in {str(folder)!r}, the folder of a class", ", ".join(SUFFIXES)
    expected = f"image files whose names end in {endings}"
    require(bool(found), "data", got=got, expected=expected, fix="Add some, or remove the folder.")
    return found
