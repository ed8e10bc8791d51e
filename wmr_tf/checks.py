"""Checks of what people pass in: each message says what was got, what was expected and how to fix it."""

import math
import os
import re
from collections.abc import Hashable, Iterable
from pathlib import Path
from typing import Any, NoReturn

LARGEST_EXPONENT = 60.0
"""The exponent at which `wmr_tf.weights.importance_weights` stops growing: float32 overflows at exp(88), and what a
weight multiplies, losses and gradients, needs headroom."""

LOWEST_ORDER = 1.01
"""The lowest order of a budget on the average perturbation, see `wmr_tf.evaluation.wasserstein`."""


_LONGEST = 1_000
"""Characters of a value that a message shows."""


class InvalidInput(ValueError):
    """A mistake in what was passed in; command-line tools print it as one line and exit with status 2."""


def require(condition: bool, what: str, *, got: Any, expected: str, fix: str) -> None:
    """Raise `InvalidInput` unless `condition` holds.

    Args:
        condition: What must be true.
        what: The name of the argument, file or value that is being checked.
        got: What was passed, printed as it is.
        expected: What would have been right.
        fix: One sentence that says what to do.

    Raises:
        InvalidInput: If `condition` is false.
    """
    if not condition:
        refuse(what, got=got, expected=expected, fix=fix)


def refuse(what: str, *, got: Any, expected: str, fix: str, cause: BaseException | None = None) -> NoReturn:
    """Raise `InvalidInput`; the arguments are those of `require`, and `cause` the error that told of the mistake."""
    shown = str(got)
    shown = shown if len(shown) <= _LONGEST else f"{shown[:_LONGEST]}..."
    raise InvalidInput(printable(f"{what}: got {shown}, expected {expected}. {fix}")) from cause


def printable(text: str) -> str:
    r"""Return a text with what is no visible character as Python writes it: in names it could move a terminal's cursor.

    Args:
        text: Any text.

    Example:
        >>> printable("a\x1b[2J b")
        'a\\x1b[2J b'
    """
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


def one_line(error: object) -> str:
    """Return what another library's error says in one line of at most 200 characters, its type if it says nothing.

    Args:
        error: The error, or a part of its text.

    Example:
        >>> one_line(OSError("no space\\n  left."))
        'no space left.'
    """
    # The name of a TensorFlow kernel helps nobody, and nobody sees what Keras prints bold.
    text = re.sub(r"\{\{function_node.*?\}\}|\x1b\[[0-9;]*m", "", str(error))
    return printable(" ".join(text.split()))[:200] or type(error).__name__


def listed(names: Iterable[str], most: int = 5) -> str:
    """Return names with commas between them, the first ones of many."""
    names = list(names)
    return ", ".join(map(printable, names[:most])) + (f" and {len(names) - most} more" if len(names) > most else "")


def number_of(value: Any) -> float:
    """Return a number, given as one or as people write it.

    Args:
        value: A number, or a text such as "0.031" or "8/255".

    Raises:
        ValueError: If a text is anything else.
        TypeError: If it is no text and no number.

    Example:
        >>> number_of("8/255") == 8 / 255, number_of(0.5)
        (True, 0.5)
    """
    if not isinstance(value, str) or "/" not in value:
        return float(value)
    above, _, below = value.partition("/")
    try:
        return float(above) / float(below)
    except ZeroDivisionError as error:
        raise ValueError(f"{value} divides by 0") from error


def nonnegative(what: str, value: Any) -> float:
    """Return `value` as a float if it is a finite number >= 0, and raise `InvalidInput` otherwise."""
    return _number(what, value, "a finite number >= 0", lambda number: number >= 0)


def real(what: str, value: Any) -> float:
    """Return `value` as a float if it is a finite number, and raise `InvalidInput` otherwise."""
    return _number(what, value, "a finite number", lambda number: True)


def positive(what: str, value: Any) -> float:
    """Return `value` as a float if it is a finite number > 0, and raise `InvalidInput` otherwise."""
    return _number(what, value, "a finite number > 0", lambda number: number > 0)


def radius(what: str, value: Any, norm: str) -> float:
    """Return the radius of an attack's ball as a float, in units of the images' range [0, 1].

    Args:
        what: The name of the argument.
        value: A finite number >= 0, or a text such as "8/255"; in "linf" at most 1, where the ball holds all images.
        norm: The norm that it is measured in.

    Raises:
        InvalidInput: If it is out of range, such as 8 for 8/255.

    Example:
        >>> radius("epsilon", 8 / 255, "linf")
        0.03137254901960784
    """
    number = nonnegative(what, value)
    require(
        norm != "linf" or number <= 1,
        what,
        got=repr(value),
        expected="a radius in [0, 1], the range of the images",
        fix=f"Pass {number:g}/255, that is {number / 255:.5f}, if it is meant for images in [0, 255].",
    )
    return number


def step(what: str, value: Any, norm: str) -> float:
    """Return the length of an attack's step as a float, and raise `InvalidInput` unless it is > 0 and a `radius`."""
    return radius(what, positive(what, value), norm)


def at_least(what: str, value: Any, minimum: int) -> int:
    """Return `value` as an int if it is a whole number >= `minimum`, and raise `InvalidInput` otherwise."""
    expected = f"a whole number >= {minimum}"
    return int(_number(what, value, expected, lambda number: number >= minimum and number == int(number)))


def whole_numbers(what: str, values: Any) -> tuple[int, ...]:
    """Return one or several whole numbers >= 1 as a tuple, and raise `InvalidInput` if there are others or none."""
    numbers = tuple(at_least(what, number, 1) for number in (values if isinstance(values, Iterable) else [values]))
    require(bool(numbers), what, got="none", expected="whole numbers >= 1", fix="Pass for instance (10, 100).")
    return numbers


def within(what: str, value: Any, low: float, high: float) -> float:
    """Return `value` as a float if it is a finite number in [low, high], and raise `InvalidInput` otherwise."""
    return _number(what, value, f"a number in [{low:g}, {high:g}]", lambda number: low <= number <= high)


def fraction(what: str, value: Any) -> float:
    """Return `value` as a float if it is a number in (0, 1], and raise `InvalidInput` otherwise."""
    return _number(what, value, "a number in (0, 1]", lambda number: 0 < number <= 1)


def order(what: str, value: Any) -> float:
    """Return the order of a budget on the average if it is a number >= 1.01 or infinity, or raise `InvalidInput`."""
    fix = f"Pass for instance {what}=2, or {what}=inf for a budget per image."
    expected = f"a number >= {LOWEST_ORDER}, or inf"
    require(isinstance(value, int | float) and value >= LOWEST_ORDER, what, got=value, expected=expected, fix=fix)
    return value


def power(what: str, value: Any) -> float:
    """Return the power of the attacker that is trained against as a float, and raise `InvalidInput` if out of range.

    Args:
        what: The name of the argument.
        value: A number in [0, 60].

    Raises:
        InvalidInput: If it is out of range.
    """
    number = nonnegative(what, value)
    expected = f"at most {LARGEST_EXPONENT:g}: beyond, losses weighted by exp(alpha) overflow float32"
    fix = f"Lower {what}; the paper's are at most 5."
    require(number <= LARGEST_EXPONENT, what, got=number, expected=expected, fix=fix)
    return number


def data_folder(path: str | os.PathLike[str]) -> Path:
    """Return the path of a folder with data sets, and raise `InvalidInput` if there is none."""
    folder = Path(path).expanduser()
    fix = "Create it, name another one, or leave data_dir out for the default of tensorflow-datasets."
    require(folder.is_dir(), "data_dir", got=repr(str(path)), expected="an existing folder", fix=fix)
    return folder


def writable_file(what: str, path: str | os.PathLike[str]) -> Path:
    """Return the path of a file that can be written, and raise `InvalidInput` if its folder does not allow that.

    Args:
        what: The name of the argument.
        path: The file, which need not be there; its folder must be.

    Raises:
        InvalidInput: If there is no such folder, it cannot be written, or the file is a folder itself.
    """
    file = Path(path).expanduser()
    is_possible = file.parent.is_dir() and os.access(file.parent, os.W_OK) and not file.is_dir() and file.name != ""
    expected, fix = "a file in an existing folder that can be written", "Create the folder, or name another file."
    require(is_possible, what, got=repr(str(path)), expected=expected, fix=fix)
    return file


def one_of(what: str, value: Any, choices: Any) -> Any:
    """Return `value` if it is among `choices`, and raise `InvalidInput` otherwise."""
    listed = ", ".join(map(str, choices))
    is_one = isinstance(value, Hashable) and value in choices
    require(is_one, what, got=repr(value), expected=f"one of {listed}", fix=f"Choose one of these as {what}.")
    return value


def seed(value: Any) -> int:
    """Return `value` as an int if it is a whole number in [0, 2**31), and raise `InvalidInput` otherwise."""
    expected = "a whole number in [0, 2**31)"
    return int(_number("seed", value, expected, lambda number: number == int(number) and 0 <= number < 2**31))


def alphas(what: str, values: Any, *, minimum: int = 1) -> tuple[float, ...]:
    """Return powers of the non-uniform attacker as a tuple, given one or several, each >= 0 and none twice.

    Raises:
        InvalidInput: If there are fewer than `minimum`, one is out of range, or one is there twice.
    """
    numbers = tuple(nonnegative(what, value) for value in (values if isinstance(values, Iterable) else [values]))
    require(
        minimum <= len(numbers) == len(set(numbers)),
        what,
        got=numbers or "none",
        expected="numbers >= 0, at least one and none twice",
        fix="Pass for instance alpha_test=(1.0, 2.0).",
    )
    return numbers


def _number(what: str, value: Any, expected: str, accept: Any) -> float:
    try:
        number = number_of(value)
    except (OverflowError, TypeError, ValueError):
        number = math.nan
    require(math.isfinite(number) and accept(number), what, got=repr(value), expected=expected, fix=f"Change {what}.")
    return number
