"""Command lines made from the settings' dataclasses; a user's mistake is one line and exit status 2."""

import dataclasses
import sys
import types
import typing
from collections.abc import Callable
from typing import Any

from absl import app, flags

from trainers.config import Evaluation
from wmr_tf.checks import InvalidInput, require


class _Numbers(flags.ArgumentParser):
    """Numbers with commas between them, such as 1,1.5,2."""

    syntactic_help = "numbers with commas between them"

    def parse(self, argument: str | tuple[float, ...]) -> tuple[float, ...]:
        if isinstance(argument, tuple):
            return argument
        return tuple(float(number) for number in argument.split(","))


_PARSERS: dict[Any, Callable[[], flags.ArgumentParser]] = {
    float: flags.FloatParser,
    int: flags.IntegerParser,
    str: flags.ArgumentParser,
    tuple[float, ...]: _Numbers,
}


def main(settings: type[Evaluation], run: Callable[[Any], object], **fixed: Any) -> None:
    """Parses the command line into settings, runs, and exits with 0, or with 2 after a user's mistake.

    Args:
        settings: The dataclass whose fields are the flags; what is not given is the recipe's.
        run: What to do with an instance of it.
        **fixed: Settings that are no flags here, such as `dataset="mnist"`.
    """
    names = [field.name for field in dataclasses.fields(settings) if field.name not in fixed]
    _define_flags(settings, names)

    def started(argv: list[str]) -> None:
        try:
            require(
                len(argv) == 1,
                "command line",
                got=" ".join(argv[1:]),
                expected="flags only",
                mend="Write --name=value.",
            )
            given = {name: flags.FLAGS[name].value for name in names if flags.FLAGS[name].present}
            require(
                "dataset" in given or "dataset" in fixed,
                "dataset",
                got="nothing",
                expected="a data set",
                mend="Pass --dataset=mnist.",
            )
            run(settings.of(**{**fixed, **given}))
        except InvalidInput as mistake:
            fail(str(mistake))

    app.run(started, flags_parser=parse)


def fail(message: str) -> typing.NoReturn:
    """Prints one line on stderr and exits with status 2."""
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(2)


def parse(argv: list[str]) -> list[str]:
    """Parses flags; a mistake is one line and exit status 2 (absl would exit with 1)."""
    try:
        return flags.FLAGS(argv)
    except flags.Error as mistake:
        fail(f"{mistake}. Run with --help for the flags.")


def _define_flags(settings: type[Evaluation], names: list[str]) -> None:
    # Named as absl names the main module, so that --help shows them without --helpfull.
    module = sys.argv[0]
    types_of = typing.get_type_hints(settings)
    for field in dataclasses.fields(settings):
        if field.name not in names:
            continue
        default = "" if field.default is None else f" Default: {_shown(field.default)}."
        help_text = field.metadata["help"] + default
        kind = _without_none(types_of[field.name])
        if kind is bool:
            flags.DEFINE_flag(flags.BooleanFlag(field.name, None, help_text), module_name=module)
        else:
            flags.DEFINE(_PARSERS[kind](), field.name, None, help_text, module_name=module)


def _shown(default: Any) -> str:
    return ",".join(f"{number:g}" for number in default) if isinstance(default, tuple) else str(default)


def _without_none(hint: Any) -> Any:
    if isinstance(hint, types.UnionType):
        return next(kind for kind in typing.get_args(hint) if kind is not type(None))
    return hint
