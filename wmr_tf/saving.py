"""Files, each written whole: a classifier as a plain Keras model, JSON, and any other."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import glob
import json
import os
import secrets
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wmr_tf import untrusted
from wmr_tf.checks import one_line, refuse, require, writable_file

if TYPE_CHECKING:
    import keras  # late elsewhere: who reads JSON does not wait for TensorFlow

_FIX = "Name a Keras model that was saved as .keras, such as runs/NAME/best.keras of a run."

_FIXES = {
    errno.ENOSPC: "Free some space.",
    errno.EDQUOT: "Free some space.",
    errno.EACCES: "Make its folder writable.",
    errno.EROFS: "Make its folder writable.",
    errno.ENOENT: "Its folder is gone.",
}


class NotWritten(OSError):
    """A file could not be written; the one before, if there was one, is as it was.

    Args:
        path: The file.
        cause: What the system said.
    """

    def __init__(self, path: str | os.PathLike[str], cause: OSError) -> None:
        said = os.strerror(cause.errno) if cause.errno else one_line(cause)
        super().__init__(cause.errno, said, str(path))

    def __str__(self) -> str:
        fix = _FIXES.get(self.errno or 0, "Look at the disk.")
        return f"could not write {self.filename} ({self.strerror}). {fix}"


def note(error: OSError, kept: str, command: str) -> None:
    """Have an error say what is kept and how to go on, unless it does so already or the folder is gone.

    Args:
        error: What ends a run.
        kept: What is kept, a sentence without its full stop.
        command: What goes on with it.
    """
    if error.errno != errno.ENOENT and not hasattr(error, "__notes__"):
        error.add_note(f"{kept}. To go on: {command}")


@contextlib.contextmanager
def noted(kept: str, command: str) -> Iterator[None]:
    """Have an error of a file that cannot be written in the block say what is kept and how to go on; see `note`."""
    try:
        yield
    except OSError as error:
        note(error, kept, command)
        raise


@contextlib.contextmanager
def written_whole(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield the path of an unfinished file, which takes the place of `path` in one move once the block has ended.

    A process that is killed, or fails, in the block leaves `path` as it was; several may write the same file at once.
    The disk has taken the file before it is moved.

    Args:
        path: The file to write, in an existing folder.

    Raises:
        NotWritten: If the system does not write it, or anything in the block raises an OSError.

    Example:
        >>> with written_whole("notes.txt") as unfinished:
        ...     _ = unfinished.write_text("all of it")
    """
    path = Path(path).expanduser()
    # The name still ends as it did, since Keras goes by that, also with two endings as in .weights.h5.
    unfinished = path.with_name(f".{path.name}.{secrets.token_hex(4)}{''.join(path.suffixes)}")
    try:
        yield unfinished
        flush(unfinished)
        os.replace(unfinished, path)
        flush(path.parent)
    except OSError as error:
        raise NotWritten(path, error) from error
    finally:
        with contextlib.suppress(OSError):  # what went wrong has been said
            unfinished.unlink(missing_ok=True)


def picture_files(path: str | os.PathLike[str]) -> list[Path]:
    """Return what a picture is written as: for a screen as PNG, and for a paper as PDF and SVG.

    Args:
        path: One of them.

    Example:
        >>> [file.name for file in picture_files("training.png")]
        ['training.png', 'training.pdf', 'training.svg']
    """
    return [Path(path).with_suffix(suffix) for suffix in (".png", ".pdf", ".svg")]


def flush(path: Path) -> None:
    """Have the disk take what has been written into a file, or which files are in a folder."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError:
        if not path.is_dir():  # not every file system can flush a folder
            raise
    finally:
        os.close(descriptor)


def forget_unfinished(folder: Path, names: Iterable[str]) -> None:
    """Delete what killed processes have begun to write of some files, in a folder that nobody else writes into."""
    for name in names:
        for path in folder.glob(f".{glob.escape(name)}.????????{''.join(Path(name).suffixes)}"):
            path.unlink(missing_ok=True)


@contextlib.contextmanager
def taken(folder: Path) -> Iterator[bool]:
    """Yield whether no other process has taken a folder, which then has it for the block; a killed one lets it go.

    Args:
        folder: An existing one.

    Example:
        >>> with taken(Path(".")) as is_ours:
        ...     is_ours
        True
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        yield _is_locked(descriptor)
    finally:
        os.close(descriptor)


def _is_locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        return True
    return True


def save_classifier(classifier: keras.Model, path: str | os.PathLike[str]) -> None:
    """Save a classifier as a plain float32 Keras model, in one move.

    Args:
        classifier: A built Keras model, in whatever precision it trains.
        path: The `.keras` file; it loads with `keras.models.load_model` alone if its layers are Keras's own.

    Raises:
        InvalidInput: If it is no Keras model, or the file cannot be written.

    Example:
        >>> save_classifier(model.classifier, "robust.keras")
    """
    from wmr_tf.engine.precision import float32_compute
    from wmr_tf.inputs.classifier import check_model

    check_model(classifier)
    path = writable_file("path", path)
    fix = f"Write {path.with_suffix('.keras')}."
    require(path.suffix == ".keras", "path", got=repr(str(path)), expected="the name of a .keras file", fix=fix)
    with written_whole(path) as unfinished, float32_compute(classifier):
        classifier.save(unfinished)


def model_file(path: str | os.PathLike[str], *, what: str = "model") -> Path:
    """Return the path of a saved model.

    Args:
        path: The `.keras` file.
        what: What a message calls it.

    Raises:
        InvalidInput: If there is no such file.
    """
    path = Path(path).expanduser()
    best = path / "best.keras"  # of a run
    fix = f"Name its classifier, {best}." if best.is_file() else _FIX
    require(path.is_file(), what, got=repr(str(path)), expected="an existing .keras file", fix=fix)
    return path


def load_classifier(path: str | os.PathLike[str], *, what: str = "model", trust: bool = False) -> keras.Model:
    """Load a classifier from a `.keras` file, also from that of the `AdversarialModel` which trained it.

    The file may be anybody's: it is looked at first, and one that could run code, read other files, or take more
    memory than its own size tells, is refused. Layers are Keras's own, or of classes that are registered
    (`keras.saving.register_keras_serializable`) when this is called.

    Args:
        path: The file.
        what: What a message calls it.
        trust: Whether the file may bring code: `Lambda` layers, modules that it names (which are imported), assets, or
            all of that in Keras's old format (`.h5`). Only for files that you made, or whose author you trust.

    Returns:
        The classifier, not compiled.

    Raises:
        InvalidInput: If there is no such file, it is no Keras model, or it brings code and is not trusted.

    Example:
        >>> save_classifier(classifier, "robust.keras")
        >>> classifier = load_classifier("robust.keras")
    """
    import keras

    from wmr_tf import foreign

    path = model_file(path, what=what)
    try:
        with foreign.checked(path, trust=trust):
            return classifier_of(keras.models.load_model(path, compile=False, safe_mode=not trust))
    except foreign.HoldsMore as error:
        got, expected = f"{str(path)!r}, which holds {error}", "layers of Keras's own or registered ones, and weights"
        fix = "Pass --trust (in Python trust=True) if you made the file or trust whoever did."
        refuse(what, got=got, expected=expected, fix=fix, cause=error)
    except Exception as error:  # what Keras raises for a broken file depends on where it is broken
        got = f"{str(path)!r}, which does not load ({one_line(error)})"
        fix = f"Add the folder of {error.name}.py to PYTHONPATH." if isinstance(error, ModuleNotFoundError) else _FIX
        refuse(what, got=got, expected="a Keras model", fix=fix, cause=error)


def classifier_of(model: keras.Model) -> keras.Model:
    """Return the classifier that a training model trains; any other model is its own."""
    import keras

    # Known by both of its parts: a head named "classifier" is common, beside a method of training it is not.
    classifier = getattr(model, "classifier", None) if hasattr(model, "method") else None
    return classifier if isinstance(classifier, keras.Model) else model


def write_json(path: str | os.PathLike[str], content: Any) -> None:
    """Write lists, dictionaries and plain values as readable JSON, in one move.

    Args:
        path: The file, replaced if it is there.
        content: What JSON can hold.

    Example:
        >>> write_json("metrics.json", {"A_rob": 0.9248})
    """
    write_text(path, json.dumps(content, indent=2) + "\n")


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write a text in UTF-8, in one move.

    Args:
        path: The file, replaced if it is there.
        text: All of it.

    Example:
        >>> write_text("notes.txt", "all of it")
    """
    with written_whole(path) as unfinished:
        unfinished.write_text(text, encoding="utf-8")


def read_json(path: str | os.PathLike[str], what: str, *, fix: str) -> dict[str, Any]:
    """Return the JSON object in a file, its texts such that they can be printed.

    Args:
        path: The file.
        what: What a message calls it.
        fix: What to do if it holds anything else.

    Raises:
        InvalidInput: If it cannot be read, or holds anything else.

    Example:
        >>> write_json("metrics.json", {"A_rob": 0.9248})
        >>> read_json("metrics.json", "run", fix="Name the folder of a finished run.")
        {'A_rob': 0.9248}
    """
    expected = "a file with a JSON object"
    with untrusted.well_formed(what, got=path, expected=expected, fix=fix):
        content = untrusted.in_print(untrusted.read_json(path))
    require(isinstance(content, dict), what, got=repr(str(path)), expected=expected, fix=fix)
    return content
