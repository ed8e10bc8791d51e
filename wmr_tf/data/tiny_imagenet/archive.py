"""The official archive tiny-imagenet-200.zip, checked, and read member by member: nothing is ever extracted."""

import contextlib
import hashlib
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from wmr_tf.checks import one_line, refuse, require
from wmr_tf.untrusted import open_archive

FILE_NAME = "tiny-imagenet-200.zip"
NUM_CLASSES = 200
_ROOT = "tiny-imagenet-200"
_TRAIN_IMAGE = re.compile(rf"{_ROOT}/train/([^/]+)/images/[^/]+\.JPEG")
_TEST_IMAGE = re.compile(rf"{_ROOT}/val/images/([^/]+\.JPEG)")
_FIX = f"Get {FILE_NAME} again: the official one has 248,100,043 bytes."


class Archive:
    """An archive in the official layout, with any number of images a class.

    Classes are numbered in the sorted order of wnids.txt, whatever the order of its lines, so that two archives with
    the same classes number them alike.

    Args:
        path: The archive; it is only read.

    Raises:
        InvalidInput: If it is damaged, a member is missing, or a name in it points out of its folder.

    Example:
        >>> with Archive(Path("tiny-imagenet-200.zip")) as archive:  # doctest: +SKIP
        ...     name, label = archive.train[0]
        ...     jpeg = archive.read(name)

    Source: Le and Yang, "Tiny ImageNet Visual Recognition Challenge" (CS 231N, 2015).
    """

    train: list[tuple[str, int]]  # member and class number
    test: list[tuple[str, int]]  # of the official validation images: its test images have no labels

    def __init__(self, path: Path) -> None:
        self.path = path
        with contextlib.ExitStack() as stack:  # closes the file unless all is well
            with self._reported():
                self._zip = stack.enter_context(open_archive(path))
            self._check_root()
            self._names = set(self._zip.namelist())
            classes = self._classes()
            self.train = self._train(classes)
            self.test = self._test(classes)
            stack.pop_all()

    def __enter__(self) -> "Archive":
        return self

    def __exit__(self, *error: object) -> None:
        self._zip.close()

    def fingerprint(self) -> str:
        """Return 16 hexadecimal digits that tell archives apart by names, sizes and CRCs of all members."""
        members = sorted((member.filename, member.file_size, member.CRC) for member in self._zip.infolist())
        return hashlib.sha256(repr(members).encode()).hexdigest()[:16]

    def read(self, name: str) -> bytes:
        """Return the content of a member.

        Raises:
            InvalidInput: If it is missing or damaged.
        """
        self.require(name in self._names, f"no {name}", "the official layout")
        with self._reported():
            return self._zip.read(name)

    def require(self, condition: bool, got: str, expected: str) -> None:
        """Raise `InvalidInput` that names this archive unless `condition` holds."""
        require(condition, "Tiny ImageNet archive", got=f"{got} in {self.path}", expected=expected, fix=_FIX)

    @contextlib.contextmanager
    def _reported(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # which one zipfile raises depends on where the damage is
            got = f"{self.path}, which cannot be read ({one_line(error)})"
            refuse("Tiny ImageNet archive", got=got, expected="a whole zip file", fix=_FIX, cause=error)

    def _check_root(self) -> None:
        for name in self._zip.namelist():
            self.require(PurePosixPath(name).parts[0] == _ROOT, f"the member {name!r}", f"files inside {_ROOT}/")

    def _lines(self, name: str) -> list[list[str]]:
        """Return the words of each line."""
        text = self.read(f"{_ROOT}/{name}").decode(errors="replace")
        return [line.split() for line in text.splitlines() if line.strip()]

    def _classes(self) -> dict[str, int]:
        wnids = sorted({line[0] for line in self._lines("wnids.txt")})
        self.require(len(wnids) == NUM_CLASSES, f"{len(wnids)} classes in wnids.txt", f"{NUM_CLASSES} classes")
        return {wnid: number for number, wnid in enumerate(wnids)}

    def _train(self, classes: dict[str, int]) -> list[tuple[str, int]]:
        found = [(match[0], match[1]) for match in map(_TRAIN_IMAGE.fullmatch, sorted(self._names)) if match]
        empty = classes.keys() - {wnid for _, wnid in found}
        self.require(not empty, f"no training images of class {min(empty, default='')}", "images of every class")
        for wnid in classes:  # the bounding boxes, which nobody needs here, tell which images there should be
            if f"{_ROOT}/train/{wnid}/{wnid}_boxes.txt" in self._names:
                for file, *_ in self._lines(f"train/{wnid}/{wnid}_boxes.txt"):
                    self._check_there(f"{_ROOT}/train/{wnid}/images/{file}")
        return self._labelled(found, classes)

    def _test(self, classes: dict[str, int]) -> list[tuple[str, int]]:
        wnids = {line[0]: line[1] for line in self._lines("val/val_annotations.txt") if len(line) > 1}
        self.require(bool(wnids), "no label in val/val_annotations.txt", "one for each validation image")
        for file in wnids:
            self._check_there(f"{_ROOT}/val/images/{file}")
        images = [match for match in map(_TEST_IMAGE.fullmatch, sorted(self._names)) if match]
        return self._labelled([(match[0], wnids.get(match[1], "")) for match in images], classes)

    def _check_there(self, name: str) -> None:
        self.require(name in self._names, f"no {name}, which is listed,", "all listed images")

    def _labelled(self, images: list[tuple[str, str]], classes: dict[str, int]) -> list[tuple[str, int]]:
        for name, wnid in images:
            self.require(wnid in classes, f"{f'class {wnid}' if wnid else 'no label'} for {name}", "one of wnids.txt")
        return [(name, classes[wnid]) for name, wnid in images]
