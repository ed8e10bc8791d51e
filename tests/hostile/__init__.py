"""Hostile and broken files, made on the fly: what builds each of them, and what reads it."""

import dataclasses
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

MARKER = "code-of-the-file-ran"
"""The file that every payload writes into the working folder."""


@dataclasses.dataclass(frozen=True)
class Hostile:
    """A hostile file.

    Attributes:
        build: Makes it in an empty folder, and returns what is to be read: the file, or a folder.
        read: Opens it as the library or a command does.
        told: A regular expression that the one line about it fits; None if it may be read all the same.
        is_costly: Whether to make it takes long, or to read it if nobody stops that.
    """

    build: Callable[[Path], Path]
    read: Callable[[Path], object]
    told: str | None
    is_costly: bool = False


class Payload:
    """Runs code when it is unpickled."""

    def __reduce__(self):
        return open, (MARKER, "w")


def beside(folder: Path) -> None:
    """Write a module into the working folder that runs code when it is imported."""
    (folder / "evil.py").write_text(
        f"open({MARKER!r}, 'w').close()\n"
        "import keras\n"
        "@keras.saving.register_keras_serializable('evil')\n"
        "class Evil(keras.layers.Layer):\n    pass\n"
    )


def traces(folder: Path) -> Any:
    """Return what must be the same before and after: files in the folder and around it, modules, Keras's settings."""
    import keras

    # Some of the files are links to what has no end, or are made to be large.
    files = {str(path): path.lstat().st_mtime_ns for path in folder.parent.rglob("*")}
    return files, "evil" in sys.modules, keras.config.floatx(), keras.config.dtype_policy().name
