"""Files that anyone may have written, read within bounds: no code, no endless file, no more than they can hold.

JSON, arrays and archives are read here and nowhere else; models, which are archives, in `wmr_tf.foreign`.
"""

import contextlib
import csv
import json
import math
import os
import stat
import zipfile
import zlib
from collections.abc import Container, Iterator
from pathlib import PurePosixPath
from typing import IO, Any

import numpy as np

from wmr_tf.checks import InvalidInput, one_line, printable, refuse

HARMLESS = 1 << 28
"""So many bytes may come of any file, however small."""

EXPANSION = 10
"""How many times as large as an archive a larger content may be; floats hardly shrink, and Keras stores them plain."""

LARGEST_JSON = 1 << 24
"""Bytes of a JSON file, which take up to thirty times as much memory."""

DEEPEST = 100
"""How deep JSON may be nested, far from what the stack of Python takes."""

_MALFORMED = (OSError, csv.Error, ArithmeticError, AttributeError, LookupError, TypeError, ValueError, RecursionError)
_DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError, *_MALFORMED)

_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


class Unsafe(ValueError):
    """A file is not what it should be; reading on would cost memory or time, or do what nobody asked for."""


@contextlib.contextmanager
def well_formed(what: str, *, got: object, expected: str, fix: str) -> Iterator[None]:
    """Refuse a file if reading it, or working on what it holds, fails in the block as it does on what is malformed.

    Args:
        what: What a message calls it.
        got: Its path.
        expected: What it should be.
        fix: What to do if it is not.

    Raises:
        InvalidInput: If it is malformed; one that is raised in the block stays as it is.

    Example:
        >>> with well_formed("run", got="runs/a", expected="a finished one", fix="Name another."):
        ...     {"A_rob": "high"}["A_rob"] + 1
        Traceback (most recent call last):
        wmr_tf.checks.InvalidInput: run: got 'runs/a' (can only concatenate str (not "int") to str), expected ...
    """
    try:
        yield
    except InvalidInput:
        raise
    except _MALFORMED as error:
        refuse(what, got=f"{str(got)!r} ({one_line(error)})", expected=expected, fix=fix, cause=error)


def check_file(path: str | os.PathLike[str]) -> None:
    """Check that a path is of a plain file.

    Raises:
        OSError: If there is none.
        Unsafe: If it is a folder, a pipe or a device.
    """
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise Unsafe("it is no plain file")


def read_json(path: str | os.PathLike[str]) -> Any:
    """Return what a JSON file holds.

    Raises:
        OSError: If it cannot be read.
        ValueError: If it is no JSON, too large or nested too deep.
    """
    check_file(path)
    with open(path, "rb") as file:
        return parse_json(file.read(LARGEST_JSON + 1))


def parse_json(text: str | bytes) -> Any:
    """Return what JSON says.

    Raises:
        ValueError: If it is no JSON, too large or nested too deep.
    """
    if len(text) > LARGEST_JSON:
        raise Unsafe(f"it has more than {LARGEST_JSON >> 20} MB of JSON")
    try:
        value = json.loads(text)
    except RecursionError as error:
        raise Unsafe("its JSON is nested too deep") from error
    _check_depth(value)
    return value


def in_print(value: Any) -> Any:
    """Return what JSON holds with texts that can be printed: no new lines, nothing that moves a terminal's cursor."""
    if isinstance(value, dict):
        return {printable(key): in_print(each) for key, each in value.items()}
    if isinstance(value, list):
        return [in_print(each) for each in value]
    return printable(value) if isinstance(value, str) else value


def read_arrays(
    path: str | os.PathLike[str], most: int = HARMLESS, only: Container[str] | None = None
) -> dict[str, np.ndarray]:
    """Return the arrays of an .npz file by name.

    Args:
        path: The file.
        most: So many bytes may come of it, however small it is.
        only: The names of those to read; None reads all.

    Raises:
        OSError: If it cannot be read.
        ValueError: If it is no such file, is damaged, or holds objects, which only pickle reads.
    """
    with open_archive(path, most) as archive, _damage_told():
        members = {name.removesuffix(".npy"): name for name in archive.namelist()}
        return {name: _array(archive, file) for name, file in members.items() if only is None or name in only}


def read_shapes(path: str | os.PathLike[str]) -> dict[str, tuple[tuple[int, ...], np.dtype]]:
    """Return shape and dtype of each array of an .npz file, by name, without reading them.

    Raises:
        OSError: If it cannot be read.
        ValueError: If it is no such file, or is damaged.
    """
    found = {}
    with open_archive(path) as archive, _damage_told():
        for name in archive.namelist():
            with archive.open(name) as member:
                found[name.removesuffix(".npy")] = _header(archive, name, member)
    return found


@contextlib.contextmanager
def _damage_told() -> Iterator[None]:
    try:
        yield
    except _DAMAGED as error:
        raise Unsafe(f"its arrays are damaged: {error}") from error


def open_archive(path: str | os.PathLike[str], most: int = HARMLESS) -> zipfile.ZipFile:
    """Open a zip file whose members are plain, lie inside it, and are not larger than it makes plausible.

    Args:
        path: The file.
        most: So many bytes may come of it, however small it is.

    Raises:
        OSError: If it cannot be read.
        Unsafe: If it is no such file.
    """
    check_file(path)
    try:
        archive = zipfile.ZipFile(path)
    except _DAMAGED as error:  # which one depends on where the damage is
        raise Unsafe(f"it is no whole zip file: {error}") from error
    try:
        _check_members(archive, os.path.getsize(path), most)
    except BaseException:
        archive.close()
        raise
    return archive


def _check_members(archive: zipfile.ZipFile, size: int, most: int) -> None:
    members = archive.infolist()
    for member in members:
        parts = PurePosixPath(member.filename.replace("\\", "/")).parts
        kind = stat.S_IFMT(member.external_attr >> 16)
        is_plain = kind in (0, stat.S_IFREG, stat.S_IFDIR) and not member.flag_bits & 1  # that is: encrypted
        is_inside = bool(parts) and ".." not in parts and parts[0][0] != "/" and ":" not in parts[0]
        if not (is_plain and is_inside and member.compress_type in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)):
            raise Unsafe(f"its member {member.filename!r} is no plain file inside it")
    unpacked = sum(member.file_size for member in members)
    if unpacked > max(most, EXPANSION * size):
        raise Unsafe(f"it unpacks to {unpacked:,} bytes, which its {size:,} do not make plausible")


def _array(archive: zipfile.ZipFile, name: str) -> np.ndarray:
    with archive.open(name) as member:
        _header(archive, name, member)
        member.seek(0)
        return np.lib.format.read_array(member, allow_pickle=False)


def _header(archive: zipfile.ZipFile, name: str, member: IO[bytes]) -> tuple[tuple[int, ...], np.dtype]:
    """Return shape and dtype of an array once its header is known to tell of just the bytes that follow."""
    shape, _, dtype = _HEADERS[np.lib.format.read_magic(member)](member)
    if dtype.hasobject:
        raise Unsafe(f"its array {name!r} holds objects, which only pickle reads")
    declared = math.prod(shape) * dtype.itemsize
    if min(shape, default=0) < 0 or declared != archive.getinfo(name).file_size - member.tell():
        raise Unsafe(f"its array {name!r} is not of the size that it says")
    return shape, dtype


def _check_depth(value: Any, left: int = DEEPEST) -> None:
    if left == 0:
        raise Unsafe(f"its JSON is nested more than {DEEPEST} deep")
    for each in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        _check_depth(each, left - 1)
