"""Any image classification set of tensorflow-datasets, from a copy that it prepared; nothing is ever downloaded.

Only the plain files of the copy are read: neither that package nor a data set's own code is needed, or run.
"""

import dataclasses
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from wmr_tf.checks import InvalidInput, listed, refuse, require
from wmr_tf.data.cutting import SPLITS
from wmr_tf.data.decoding import Example, decode
from wmr_tf.data.prepared import refuse_damaged
from wmr_tf.data.source import Arrays
from wmr_tf.engine import machine
from wmr_tf.untrusted import Unsafe, check_file, in_print, read_json

PREFIX = "tfds:"

_VERSION = re.compile(r"\d+\.\d+\.\d+")
_NAME = re.compile(r"\w[\w.+-]*(/\w[\w.+-]*)?(:\d+\.\d+\.\d+)?")
_FEATURES = {"image": "image_feature.Image", "label": "class_label_feature.ClassLabel"}


@dataclasses.dataclass(frozen=True)
class PreparedCopy:
    """A prepared copy of a data set, looked at and not yet read.

    Attributes:
        name: How messages call the data set.
        path: The folder of the copy.
        shape: (height, width, channels) of its images, None where they differ.
        classes: The names of its classes, by label.
        shards: The files of each split that we use.
        examples: How many images are in each of these splits.
    """

    name: str
    path: Path
    shape: tuple[int | None, int | None, int | None]
    classes: tuple[str, ...]
    shards: Mapping[str, list[Path]]
    examples: Mapping[str, int]

    @classmethod
    def found(cls, address: str, data_dir: str | os.PathLike[str] | None) -> "PreparedCopy":
        """Return the copy in a folder of data sets, None for the default one.

        Args:
            address: "tfds:" and the data set, as in "tfds:beans", "tfds:cmaterdb/bangla" or "tfds:mnist:3.0.1".
            data_dir: The folder.

        Raises:
            InvalidInput: If there is no copy, it is damaged, or it is not of images and their classes.
        """
        name = address.removeprefix(PREFIX)
        fix = "Write for instance tfds:beans, tfds:cmaterdb/bangla or tfds:mnist:3.0.1."
        require(bool(_NAME.fullmatch(name)), "data", got=repr(address), expected="tfds:NAME", fix=fix)
        path = _copy(name, Path(data_dir or _default_folder()).expanduser())
        try:
            info, features = (in_print(read_json(path / f"{of}.json")) for of in ("dataset_info", "features"))
            shape, count = _facts(address, features)
            shards, examples = _shards(address, path, info)
            return cls(address, path, shape, _classes(path / "label.labels.txt", count), shards, examples)
        except InvalidInput:
            raise
        except (OSError, AttributeError, LookupError, TypeError, ValueError) as error:
            refuse_damaged("data", f"a copy of {address} in {str(path)!r}", error)

    def image_shape(self, size: tuple[int, int] | None, channels: int | None) -> tuple[int, int, int]:
        """Return (height, width, channels), given what is asked for, None for the images' own.

        Raises:
            InvalidInput: If none is asked for and they differ.
        """
        height, width, own = self.shape
        if size is None and (height is None or width is None):
            fix = "Pass --image_size=HEIGHT,WIDTH, or one number, to resize all."
            refuse("data", got=f"{self.name!r}, whose images differ in size", expected="images of one size", fix=fix)
        chosen = size or (int(height or 0), int(width or 0))
        return (*chosen, channels or (1 if own == 1 else 3))

    def read(self, image_shape: tuple[int, int, int], *, resize: bool, skip_broken: bool) -> Arrays:
        """Return the images and labels of all splits; see `wmr_tf.data.decoding.decode`.

        Raises:
            InvalidInput: Also if the copy is larger than the memory that is free, or damaged.
        """
        self._check_memory()
        try:
            files = {split: list(self._examples(split)) for split in self.shards}
        except Exception as error:  # TensorFlow has errors of its own for what is damaged
            refuse_damaged("data", f"a copy of {self.name} in {str(self.path)!r}", error)
        return decode(files, self.classes, image_shape, resize=resize, skip_broken=skip_broken)

    def _check_memory(self) -> None:
        size, free = sum(path.stat().st_size for files in self.shards.values() for path in files), machine.free_memory()
        got = f"{self.name!r} of {size / 1e9:.1f} GB, where {(free or 0) / 1e9:.1f} GB of memory are free"
        fix = "Write its images into a folder with one subfolder a class, from which they are read as they are needed."
        require(free is None or size < free, "data", got=got, expected="one that fits into memory", fix=fix)

    def _examples(self, split: str) -> Iterator[Example]:
        import tensorflow as tf

        spec = {"image": tf.io.FixedLenFeature([], tf.string), "label": tf.io.FixedLenFeature([], tf.int64)}
        records = tf.data.TFRecordDataset([str(path) for path in self.shards[split]])
        number = -1
        for number, each in enumerate(records.map(lambda one: tf.io.parse_single_example(one, spec))):
            label = int(each["label"])
            if not 0 <= label < len(self.classes):
                raise Unsafe(f"{split} image {number} has label {label} of {len(self.classes)} classes")
            yield Example(each["image"].numpy(), f"{self.name} {split}[{number}]", label)
        if number + 1 != self.examples[split]:
            raise Unsafe(f"it tells of {self.examples[split]} {split} images and has {number + 1}")


def _default_folder() -> str:
    return os.environ.get("TFDS_DATA_DIR") or os.path.join("~", "tensorflow_datasets")


def _copy(name: str, folder: Path) -> Path:
    """Return the folder of a data set's copy: of the version that is named, or else of the highest."""
    name, _, wanted = name.partition(":")
    inside = _subfolders(folder / name)
    versions = [each for each in inside if _VERSION.fullmatch(each) and wanted in ("", each)]
    if versions:
        return folder / name / max(versions, key=lambda each: tuple(map(int, each.split("."))))
    configs = [each for each in inside if any(map(_VERSION.fullmatch, _subfolders(folder / name / each)))]
    if configs and not wanted:
        fix = f"Write for instance tfds:{name}/{configs[0]}."
        refuse("data", got=repr(PREFIX + name), expected=f"one of its {listed(configs)}", fix=fix)
    refuse(
        "data",
        got=f"{PREFIX}{name}{':' * bool(wanted)}{wanted} without a prepared copy in {str(folder)!r}",
        expected="one; nothing is downloaded",
        fix=f"Prepare it with `tfds build {name} --data_dir=FOLDER`, which downloads it, and pass --data_dir=FOLDER.",
    )


def _subfolders(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []


def _facts(name: str, features: Any) -> tuple[tuple[int | None, int | None, int | None], int]:
    """Return the shape of the images, and how many classes there are."""
    found = features["featuresDict"]["features"]
    kinds = {key: found.get(key, {}).get("pythonClassName", "nothing") for key in _FEATURES}
    wrong = {key: kind for key, kind in kinds.items() if not kind.endswith(_FEATURES[key])}
    got = f"{name!r}, of which {' and '.join(f'{key} is {kind}' for key, kind in wrong.items())}"
    expected, fix = "a set of images and classes: features image (Image) and label (ClassLabel)", "Name another set."
    require(not wrong, "data", got=got, expected=expected, fix=fix)
    kind = found["image"]["image"].get("dtype", "uint8")
    fix = "Name another set, or write the images into an .npz file as floats in [0, 1]."
    require(kind == "uint8", "data", got=f"{name!r} with images of {kind}", expected="images of bytes", fix=fix)
    sizes = [int(size) for size in found["image"]["image"]["shape"]["dimensions"]]
    height, width, channels = (size if size > 0 else None for size in sizes)
    classes = int(found["label"]["classLabel"]["numClasses"])
    fix = "Name another set."
    require(classes > 1, "data", got=f"{name!r} with {classes} classes", expected="at least two", fix=fix)
    return (height, width, channels), classes


def _shards(name: str, path: Path, info: Any) -> tuple[dict[str, list[Path]], dict[str, int]]:
    """Return the files of the splits that we use, and how many images each split has."""
    found = {split["name"]: split for split in info["splits"]}
    used = [split for split in SPLITS if split in found]
    fix = "Name another set."
    require("train" in used, "data", got=f"{name!r} with {listed(found)}", expected="a split train", fix=fix)
    kind, fix = info.get("fileFormat", "tfrecord"), "Prepare it again with `tfds build --file_format=tfrecord`."
    require(kind == "tfrecord", "data", got=f"{name!r} as {kind}", expected="a copy as tfrecord", fix=fix)
    shards, examples = {}, {}
    for split in used:
        lengths = [int(length) for length in found[split]["shardLengths"]]
        shards[split] = sorted(path.glob(f"*-{split}.tfrecord-?????-of-{len(lengths):05d}"))
        if len(shards[split]) != len(lengths):
            raise Unsafe(f"it tells of {len(lengths)} {split} files and has {len(shards[split])}")
        for file in shards[split]:
            check_file(file)
        examples[split] = sum(lengths)
    return shards, examples


def _classes(path: Path, count: int) -> tuple[str, ...]:
    """Return the names of the classes, their numbers if the copy has none."""
    if not path.exists():
        return tuple(map(str, range(count)))
    check_file(path)
    names = tuple(in_print(path.read_text(encoding="utf-8").splitlines()))
    if len(names) != count:
        raise Unsafe(f"it has {count} classes and {len(names)} names")
    return names
