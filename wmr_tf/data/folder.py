"""A folder of images with one subfolder a class."""

import dataclasses
import os
from pathlib import Path

from wmr_tf.checks import listed, refuse, require
from wmr_tf.data.cutting import SPLITS
from wmr_tf.data.decoding import Example, decode
from wmr_tf.data.encoded import FORMATS, SUFFIXES, size_of
from wmr_tf.data.source import Arrays
from wmr_tf.untrusted import Unsafe

_LAYOUT = "one subfolder of images a class, or subfolders train, test and validation (or val) that hold these"
_TRAINING = ("train", "training")
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
        if not is_cut:
            _check_no_splits(path, inside)
        classes = _subfolders(roots["train"])
        got = f"{len(classes)} subfolder{'s' * (len(classes) != 1)} in {str(roots['train'])!r}"
        require(len(classes) > 1, "data", got=got, expected=f"at least two: {_LAYOUT}", fix="Sort the images so.")
        files = {}
        for split, root in roots.items():
            others = sorted(set(_subfolders(root)) ^ set(classes))
            got = f"{listed(others)} in only one of {str(roots['train'])!r} and {str(root)!r}"
            require(not others, "data", got=got, expected="the same classes in every split", fix="Add or remove them.")
            files[split] = [(file, label) for label, name in enumerate(classes) for file in _files(root / name)]
        return cls(path, tuple(classes), files)

    def image_shape(self, size: tuple[int, int] | None, channels: int | None) -> tuple[int, int, int]:
        """Return (height, width, channels), given what is asked for; else the size of the first image, and 3 channels.

        Raises:
            InvalidInput: If no image can be read.
        """
        channels = channels or 3
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
        """Return the images and labels of all splits; see `wmr_tf.data.decoding.decode`."""
        files = {split: [Example(path, path, label) for path, label in each] for split, each in self.files.items()}
        return decode(files, self.classes, image_shape, resize=resize, skip_broken=skip_broken)


def _check_no_splits(path: Path, inside: list[str]) -> None:
    """Check that what would be taken for classes are no splits by other names, such as Training or valid.

    Raises:
        InvalidInput: If one is called like a training split, and another has the same subfolders.
    """
    for name in inside:
        classes = _subfolders(path / name) if name.lower() in _TRAINING else []
        alike = [other for other in inside if len(classes) > 1 and _subfolders(path / other) == classes]
        got = f"{listed(inside)} in {str(path)!r}, of which {listed(alike)} have the same subfolders"
        fix = "Name the splits train, test and validation, and move other folders away."
        require(len(alike) < 2, "data", got=got, expected=_LAYOUT, fix=fix)


def _subfolders(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def _files(folder: Path) -> list[str]:
    """Return the paths of the image files in a folder of a class and in the folders within."""
    every = [os.path.join(root, name) for root, _, names in os.walk(folder) for name in names]
    found = sorted(path for path in every if path.lower().endswith(SUFFIXES) and not Path(path).name.startswith("."))
    got, endings = f"no image in {str(folder)!r}, the folder of a class", ", ".join(SUFFIXES)
    expected = f"image files whose names end in {endings}"
    require(bool(found), "data", got=got, expected=expected, fix="Add some, or remove the folder.")
    return found
