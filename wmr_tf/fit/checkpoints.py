"""Checkpoints on disk: folders of plain arrays and values, written whole, checked when read, the newest few kept.

A checkpoint is a folder with arrays.npz (arrays by name, no pickle), state.json (plain values), perhaps files that are
kept with it, and manifest.json: the size and SHA-256 of each of these, the configuration, and its own SHA-256. The
format is ours and not TensorFlow's because it is readable without it, has no names of Python objects in it that a
change of the code would break, and because every byte is under a checksum.
"""

import contextlib
import dataclasses
import errno
import hashlib
import json
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from wmr_tf.checks import one_line, refuse, require
from wmr_tf.saving import flush, written_whole
from wmr_tf.untrusted import LARGEST_JSON, check_file, read_arrays, read_json

VERSION = 1
ARRAYS, STATE, MANIFEST = "arrays.npz", "state.json", "manifest.json"
_UNFINISHED = "."  # how the name of a checkpoint begins that is being written
_BEGUN = re.compile(r"\..+\.([0-9a-f]{8}|damaged)")  # one that was begun, or found to be damaged
_ARRAY = "__array__"
_MALFORMED = (OSError, AttributeError, LookupError, TypeError, ValueError)
_NO_FILE = (FileNotFoundError, IsADirectoryError, NotADirectoryError)


class Damaged(ValueError):
    """A checkpoint is not as it was written."""


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that has been read and checked.

    Attributes:
        path: Its folder.
        state: Plain values and arrays, as they were passed to `write`.
        files: By name the files that were kept with it.
    """

    path: Path
    state: dict[str, Any]
    files: dict[str, Path]


def write(
    folder: Path,
    name: str,
    state: Mapping[str, Any],
    *,
    config: Mapping[str, Any],
    files: Mapping[str, Path] | None = None,
    keep: int = 2,
    before: str = "",
    instead_of: str | None = None,
) -> Path:
    """Write a checkpoint under another name, flush it to disk, rename it, and delete all but the newest ones.

    Whenever the process is killed, the checkpoint is there as a whole or not at all, and so are those before.

    Args:
        folder: Where the checkpoints are; created if it is not there, in an existing one.
        name: Its name; names sort by age. One of this name is replaced.
        state: Dictionaries with texts as keys, lists, arrays and plain values.
        config: What it is a checkpoint of, as JSON can hold it; see `newest`.
        files: By name files to keep with it. They are linked, so whoever writes them must replace them in one move.
        keep: How many checkpoints stay, this one among them.
        before: A name; the newest checkpoint that is not after it stays too.
        instead_of: The name of one that is deleted, with all after it, since this one takes its place.

    Returns:
        Its folder.

    Raises:
        OSError: If it cannot be written; those before are as they were.

    Example:
        >>> path = write(Path("checkpoints"), "step-1", {"weights": np.ones(3), "epoch": 4}, config={"seed": 0})
        >>> newest(Path("checkpoints"), config={"seed": 0}, tell=print).state
        {'weights': array([1., 1., 1.]), 'epoch': 4}
    """
    arrays: dict[str, np.ndarray] = {}
    values = _without_arrays(state, arrays)
    target, unfinished = folder / name, folder / f"{_UNFINISHED}{name}.{secrets.token_hex(4)}"
    folder.mkdir(exist_ok=True)  # but not the folders above: if they are gone, somebody has deleted them
    unfinished.mkdir()
    try:
        with open(unfinished / ARRAYS, "wb") as file:
            np.savez(file, allow_pickle=False, **arrays)
        text = json.dumps(values)
        if len(text) > LARGEST_JSON:
            told = f"{len(text) >> 20} MB of plain values, more than {LARGEST_JSON >> 20}: keep long lists as arrays"
            raise OSError(errno.EFBIG, told)
        (unfinished / STATE).write_text(text, encoding="utf-8")
        for of, path in (files or {}).items():
            _link_or_copy(path, unfinished / of)
        content = {"version": VERSION, "name": name, "config": dict(config), "files": _described(unfinished)}
        (unfinished / MANIFEST).write_text(_manifest(content), encoding="utf-8")
        for path in (*unfinished.iterdir(), unfinished):
            flush(path)
        shutil.rmtree(target, ignore_errors=True)  # only there if it was damaged, or is of this very moment
        os.rename(unfinished, target)
        flush(folder)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise
    _forget(folder, keep, before, instead_of)
    return target


def newest(
    folder: Path, *, config: Mapping[str, Any], tell: Callable[[str], object], before: str | None = None
) -> Checkpoint | None:
    """Return the newest checkpoint that is whole, None if there is none at all; damaged ones give way to it.

    Args:
        folder: Where the checkpoints are.
        config: What it must be a checkpoint of.
        tell: Gets one line for each that is passed over because it is damaged.
        before: A name; those after it do not count.

    Raises:
        InvalidInput: If all are damaged, or it is one of something else; the message says what differs.
        OSError: If the disk cannot be read, which tells nothing of what is on it.
    """
    damaged: list[Path] = []
    for path in reversed(_until(_finished(folder), before)):
        try:
            content = _checked_manifest(path)
            _check_config(folder, content["config"], json.loads(json.dumps(dict(config))))
            found = _read(path, content)
        except Damaged as damage:
            tell(f"checkpoint {path} is damaged ({damage}); the one before it is used, if there is one")
            damaged.append(path)
        else:
            for each in damaged:  # else they would count among the newest; deleted as the next is written
                with contextlib.suppress(FileNotFoundError):  # another worker was faster
                    each.rename(each.with_name(f"{_UNFINISHED}{each.name}.damaged"))
            return found
    fix = "Delete the folder to begin anew."
    require(not damaged, "checkpoints", got=f"only damaged ones in {str(folder)!r}", expected="a whole one", fix=fix)
    return None


def names(folder: Path) -> list[str]:
    """Return the names of the checkpoints in a folder, from the oldest to the newest."""
    return [path.name for path in _finished(folder)]


def put_back(kept: Path | None, path: Path) -> None:
    """Have a file be as it was when a checkpoint was written.

    Args:
        kept: The file of the checkpoint, None if there was none then.
        path: Where it goes.
    """
    if kept is None:
        path.unlink(missing_ok=True)
    else:
        with written_whole(path) as unfinished:
            _link_or_copy(kept, unfinished)


def _read(path: Path, content: dict[str, Any]) -> Checkpoint:
    try:
        state = _with_arrays(read_json(path / STATE), read_arrays(path / ARRAYS))
    except _MALFORMED as error:  # although its bytes are those that were written
        raise _damage(error) from error
    return Checkpoint(path, state, {name: path / name for name in content["files"] if name not in (ARRAYS, STATE)})


def _checked_manifest(path: Path) -> dict[str, Any]:
    """Return the content of a manifest, once all files of the checkpoint are known to be those of which it tells."""
    try:
        content = read_json(path / MANIFEST)["content"]
        if (
            (path / MANIFEST).read_text(encoding="utf-8") != _manifest(content)
            or content["name"] != path.name
            or content["version"] != VERSION
            or not isinstance(content["config"], dict)
        ):
            raise Damaged(f"its {MANIFEST} is of another one, another version, or was changed")
        found = _described(path)
        wrong = sorted(name for name in content["files"] | found if content["files"].get(name) != found.get(name))
    except _MALFORMED as error:
        raise _damage(error) from error
    if wrong:
        raise Damaged(f"{', '.join(wrong)}: not what was written")
    return dict(content)


def _damage(error: Exception) -> Exception:
    """Return what a failure to read is: of a disk that cannot be read now, itself; else damage."""
    is_passing = isinstance(error, OSError) and not isinstance(error, _NO_FILE)
    return error if is_passing or isinstance(error, Damaged) else Damaged(one_line(error))


def _manifest(content: dict[str, Any]) -> str:
    sha256 = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    return json.dumps({"sha256": sha256, "content": content}, indent=1) + "\n"


def _described(path: Path) -> dict[str, dict[str, Any]]:
    """Return size and SHA-256 of each file of a checkpoint but the manifest."""
    described = {}
    for each in path.iterdir():
        if each.name != MANIFEST:
            check_file(each)
            with open(each, "rb") as file:
                sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            described[each.name] = {"bytes": each.stat().st_size, "sha256": sha256}
    return described


def _check_config(folder: Path, found: dict[str, Any], config: dict[str, Any]) -> None:
    before, now = dict(_leaves(found)), dict(_leaves(config))
    differing = [key for key in {**before, **now} if before.get(key) != now.get(key)]
    if differing:
        told = ", ".join(f"{key} {before.get(key)} (now {now.get(key)})" for key in differing[:3])
        more = f" and {len(differing) - 3} more" if len(differing) > 3 else ""
        refuse(
            "checkpoints",
            got=f"those in {str(folder)!r}, of a training with {told}{more}",
            expected="those of this training",
            fix="Name another folder, or delete this one to begin anew.",
        )


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the plain values within dictionaries and lists, by a name with dots."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else None
    if items is None:
        yield path, value
    for key, each in items or ():
        yield from _leaves(each, f"{path}.{key}" if path else str(key))


def check_state(state: Mapping[str, Any]) -> None:
    """Check that a checkpoint can hold a state.

    Raises:
        TypeError: If it cannot.
    """
    json.dumps(_without_arrays(state, {}))


def _without_arrays(value: Any, arrays: dict[str, np.ndarray]) -> Any:
    """Return values that JSON can hold; arrays are put aside, with their name in their place."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        name = str(len(arrays))
        arrays[name] = value
        return {_ARRAY: name}
    if isinstance(value, Mapping):
        if not all(isinstance(key, str) for key in value):
            raise TypeError(f"keys of a dictionary must be texts, not {next(iter(value))!r}")
        return {key: _without_arrays(each, arrays) for key, each in value.items()}
    return [_without_arrays(each, arrays) for each in value] if isinstance(value, list | tuple) else value


def _with_arrays(value: Any, arrays: dict[str, np.ndarray]) -> Any:
    if isinstance(value, dict):
        if set(value) == {_ARRAY}:
            return arrays[value[_ARRAY]]
        return {key: _with_arrays(each, arrays) for key, each in value.items()}
    return [_with_arrays(each, arrays) for each in value] if isinstance(value, list) else value


def _finished(folder: Path) -> list[Path]:
    """Return the checkpoints from the oldest to the newest, and no other folder that is beside them."""
    return sorted(path for path in folder.glob("[!.]*") if _is_checkpoint(path))


def _is_checkpoint(path: Path) -> bool:
    """Return whether a folder is one, although perhaps damaged: two of its three files are there."""
    return sum((path / name).is_file() for name in (ARRAYS, STATE, MANIFEST)) >= 2


def _until(paths: list[Path], name: str | None) -> list[Path]:
    return [path for path in paths if name is None or path.name <= name]


def _forget(folder: Path, keep: int, before: str, instead_of: str | None) -> None:
    """Delete the oldest checkpoints, those that count no more, and what killed processes have begun to write."""
    begun = [path for path in folder.glob(f"{_UNFINISHED}*") if path.is_dir() and _BEGUN.fullmatch(path.name)]
    *finished, newest = _finished(folder)
    counting = [path for path in finished if instead_of is None or path.name < instead_of] + [newest]
    kept = {*counting[-keep:], *_until(counting, before)[-1:]}
    for path in [*({*finished} - kept), *begun]:
        shutil.rmtree(path, ignore_errors=True)


def _link_or_copy(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # a file system without links
        shutil.copyfile(source, target)
