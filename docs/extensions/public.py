"""What the reference has to show, read from the code: public names, commands, flags. It needs no Sphinx."""

import contextlib
import dataclasses
import importlib.util
import inspect
import io
import runpy
import sys
import typing
from types import ModuleType
from unittest import mock

from trainers import cli, command

MODULES = (
    "wmr_tf",
    "wmr_tf.methods",
    "wmr_tf.attacks",
    "wmr_tf.weights",
    "wmr_tf.losses",
    "wmr_tf.architectures",
    "wmr_tf.data",
    "wmr_tf.callbacks",
    "wmr_tf.evaluation",
    "wmr_tf.evaluation.dro",
    "wmr_tf.evaluation.statistics",
    "wmr_tf.evaluation.temperature",
    "wmr_tf.evaluation.wasserstein",
    "wmr_tf.report",
    "wmr_tf.zoo",
    "wmr_tf.saving",
    "wmr_tf.alarms",
    "wmr_tf.divergence",
    "tuning",
)
"""What has a place in the reference."""


def names_in(module: ModuleType) -> list[str]:
    """Return the public names of a module: its `__all__`, or the classes and functions that it defines."""
    if hasattr(module, "__all__"):
        return sorted(module.__all__, key=str.lower)
    return [
        name
        for name, value in vars(module).items()
        if not name.startswith("_")
        and (inspect.isclass(value) or inspect.isroutine(value))
        and value.__module__ == module.__name__
    ]


def doors() -> dict[str, str]:
    """Return the module behind each command, by what follows `wmr`."""
    train = {f"train {name}": door for name, door in command.TRAIN.items()}
    return train | {name: door for name, (door, _) in command.COMMANDS.items()}


@dataclasses.dataclass(frozen=True)
class Flag:
    """A flag: its name, what `--help` says of it, what stands after the equals sign, and its default."""

    name: str
    help: str
    expected: str
    default: str
    also: str | None


def flags_of(door: str) -> list[Flag]:
    """Return the flags of a command: the fields of the settings that its module hands to `main`.

    A module that hands over nothing, such as `trainers.resume`, has none.
    """
    spec = importlib.util.find_spec(door)
    assert spec and spec.origin, door
    argv, handed = mock.patch.object(sys, "argv", [door]), mock.patch.object(cli, "main")
    with argv, handed as main, contextlib.suppress(SystemExit), contextlib.redirect_stderr(io.StringIO()):
        runpy.run_path(spec.origin, run_name="__main__")
    if not main.called:
        return []
    settings, fixed = main.call_args.args[0], main.call_args.kwargs
    kinds = typing.get_type_hints(settings)
    return [
        Flag(
            name=field.name,
            help=field.metadata["help"],
            expected=cli._PARSERS[cli._without_none(kinds[field.name])].syntactic_help,
            default=cli._shown({"": field.default}).strip(),
            also=field.metadata["also"],
        )
        for field in dataclasses.fields(settings)
        if "help" in field.metadata and field.name not in fixed
    ]
