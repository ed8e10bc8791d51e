"""Command lines made from the settings' dataclasses; a user's mistake is one line and exit status 2."""

import contextlib
import dataclasses
import difflib
import sys
import typing
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from absl import app, flags, logging

from trainers.runs.folder import check_output_dir
from trainers.settings.base import Settings
from trainers.settings.cluster import LostWorker
from trainers.usage import HELP, Flag, as_text, flags_of, help_of
from wmr_tf.checks import InvalidInput, number_of, one_line, printable, refuse, require
from wmr_tf.engine.terminal import RED, YELLOW, say, show


class _Parser(flags.ArgumentParser):
    """Turns the text after `--name=` into a value; a text that is none gets a message with got and expected."""

    def __init__(self, convert: Callable[[str], Any], expected: str) -> None:
        self.convert, self.syntactic_help = convert, expected

    def parse(self, argument: str) -> Any:
        try:
            return self.convert(argument)
        except ValueError as error:
            raise ValueError(f"got {argument!r}, expected {self.syntactic_help}") from error


def _several(kind: Callable[[str], Any]) -> Callable[[str], tuple[Any, ...]]:
    return lambda argument: tuple(map(kind, argument.split(","))) if argument else ()


PARSERS: dict[Any, _Parser] = {
    bool: _Parser(flags.BooleanParser().parse, "true or false"),
    float: _Parser(number_of, "a number, such as 0.5 or 8/255"),
    int: _Parser(int, "a whole number"),
    str: _Parser(str, ""),
    tuple[float, ...]: _Parser(_several(number_of), "numbers with commas between them"),
    tuple[int, ...]: _Parser(_several(int), "whole numbers with commas between them"),
    tuple[str, ...]: _Parser(_several(str), ""),
}
"""What reads the value of a flag, by its type; `syntactic_help` says which texts it takes."""


class Command:
    """A command: its settings are the flags, and what they are turned into is run.

    Args:
        settings: The dataclass whose fields are the flags; those that are not given take the recipe's value.
        run: What to do with an instance of it, once that and the files that it names are checked.
        shown: Whose recipe's values --help says; that of the fixed data set if there is one.
        **fixed: Settings that are no flags here, such as `dataset="mnist"`.
    """

    def __init__(
        self, settings: type[Settings], run: Callable[[Any], object], *, shown: str | None = None, **fixed: Any
    ) -> None:
        self._settings, self._run, self._fixed = settings, run, fixed
        self._shown = shown or fixed.get("dataset")

    def flags(self) -> list[Flag]:
        """Return its flags."""
        return list(flags_of(self._settings, self._fixed, self._shown))

    def beside_flags(self) -> dict[str, tuple[str, ...]]:
        """Return the setting that takes what stands beside the flags, with what completion offers; empty without."""
        fields = dataclasses.fields(self._settings)
        return {each.name: each.metadata["beside_flags"] for each in fields if "beside_flags" in each.metadata}

    def __call__(self) -> None:
        """Parse the command line and run its settings; exit with 0, or as `ends_reported` does."""
        known = self.flags()
        _define_flags(known)

        def started(argv: list[str]) -> None:
            if not flags.FLAGS["verbosity"].present:
                logging.set_verbosity(logging.WARNING)  # tensorflow-datasets tells of every step it takes
            with ends_reported():
                checked = self._settings_of(known, argv[1:])
                checked.check_place()
                check_output_dir(checked)
                checked.use_threads()
                self._run(checked)

        def parsed(argv: list[str]) -> list[str]:
            if not set(HELP).isdisjoint(argv[1:]):
                show(help_of(sys.modules["__main__"].__doc__ or "", known))
                sys.exit(0)
            return parse(argv)

        app.run(started, flags_parser=parsed)

    def _settings_of(self, known: Iterable[Flag], words: list[str]) -> Settings:
        """Return the settings that the parsed flags, and the words beside them, stand for."""
        beside = self.beside_flags()
        is_right, fix = bool(beside) or not words, "Write --name=value."
        require(is_right, "command line", got=" ".join(words), expected="flags only", fix=fix)
        given = {flag.name: flags.FLAGS[flag.name].value for flag in known if flags.FLAGS[flag.name].present}
        return self._settings.of(**{**self._fixed, **given, **dict.fromkeys(beside, tuple(words))})


@contextlib.contextmanager
def ends_reported() -> Iterator[None]:
    """Print warnings as lines, and exit with 2 after a user's mistake, 130 after Ctrl-C, 1 after other failures."""
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _print_warning  # the way Python has for it; undone at the end of the block
            yield
    except InvalidInput as mistake:
        fail(str(mistake))
    except (FloatingPointError, LostWorker, OSError) as end:
        fail(" ".join([f"{str(end).rstrip('.')}.", *getattr(end, "__notes__", ())]), status=1)
    except KeyboardInterrupt:  # what is kept has been said
        sys.exit(130)


def as_flag(name: str, value: Any) -> str:
    """Return the flag that gives a setting this value, such as "--alpha_test=1.0,2.0"."""
    return f"--{name}={as_text(value)}"


def value_of(settings: type[Settings], name: str, text: str) -> Any:
    """Return the value that `--name=text` stands for.

    Raises:
        InvalidInput: If the text is no such value. Whether it is in range is checked by the settings.
    """
    (kind,) = (flag.kind for flag in flags_of(settings, {}) if flag.name == name)
    parser = PARSERS[kind]
    try:
        return parser.parse(text)
    except ValueError as error:
        refuse(name, got=repr(text), expected=parser.syntactic_help, fix=f"Change {name}.", cause=error)


def fail(message: str, status: int = 2) -> typing.NoReturn:
    """Print one line on stderr and exit."""
    say("error", RED, printable(" ".join(message.split())))
    sys.exit(status)


def _print_warning(
    message: Warning | str, category: type, filename: str, lineno: int, file: Any = None, line: str | None = None
) -> None:
    """Print one line on stderr, as `fail` does; where in the code it was said helps nobody here."""
    say("warning", YELLOW, printable(" ".join(str(message).split())))


def parse(argv: list[str]) -> list[str]:
    """Parse flags; a mistake is one line and exit status 2, --help exits with 0 (absl would exit with 1 in both)."""
    try:
        return flags.FLAGS(argv)
    except flags.UnrecognizedFlagError as mistake:
        alike = difflib.get_close_matches(mistake.flagname, flags.FLAGS, n=1)
        fix = f"Did you mean --{alike[0]}?" if alike else "Run with --help."
        fail(f"command line: got --{mistake.flagname}, expected one of the flags that --help lists. {fix}")
    except (flags.Error, ValueError) as mistake:  # also no value, or one after --noNAME, or no --flagfile
        told = one_line(mistake).rstrip(".")
        if ": got " not in told:  # as `_Parser` says it
            told = f"command line: got {' '.join(argv[1:])} ({told}), expected --name=value for each flag"
        fail(f"{told}. Run with --help for the flags.")
    except SystemExit:
        sys.exit(0)


def _define_flags(known: Iterable[Flag]) -> None:
    module = sys.argv[0]  # as absl names the main module
    for each in known:
        parser = PARSERS[each.kind]
        if each.kind is bool:
            flag = flags.BooleanFlag(each.name, None, each.help)
            flag.parser = parser
            flags.DEFINE_flag(flag, module_name=module)
        else:
            flags.DEFINE(parser, each.name, None, each.help, module_name=module)
        if each.also:
            flags.DEFINE_alias(each.also, each.name, module_name=module)
