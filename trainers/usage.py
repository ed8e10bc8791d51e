"""What --help says of a command, all of it derived from its settings."""

import dataclasses
import textwrap
import types
import typing
from collections.abc import Iterator, Mapping
from typing import Any

from trainers.settings.base import COMMON, SECTIONS, Settings
from trainers.settings.recipes import names_in_recipes, recipe
from wmr_tf.engine.terminal import BOLD, columns, painted
from wmr_tf.names import METHODS

HELP = ("-h", "--help", "-help")
"""What asks for help, wherever it stands behind a command."""

WIDEST = 100
"""Letters in a line, at most."""

_NAMES = 26  # letters that the column of the flags takes

_EPSILON = """\
How to choose epsilon, step size and steps:
  epsilon:   what nobody would mind; in linf 8/255 for photos, 0.3 for MNIST
  step size: leave it out: about epsilon/4 in training and epsilon/10 in tests
  steps:     10 in training, 20 in tests; times the step size, about 2 epsilon"""


@dataclasses.dataclass(frozen=True)
class Flag:
    """A flag of a command.

    Attributes:
        name: Its name, that of the setting.
        also: Another name, None if it has one only.
        kind: The type of its value.
        choices: The values that have a name.
        section: One of `trainers.settings.base.SECTIONS`.
        help: What it does, its choices and its default.
    """

    name: str
    also: str | None
    kind: Any
    choices: tuple[str, ...]
    section: str
    help: str

    @property
    def names(self) -> tuple[str, ...]:
        """All its names."""
        return (self.name, self.also) if self.also else (self.name,)


def flags_of(settings: type[Settings], fixed: Mapping[str, Any], dataset: str | None = None) -> Iterator[Flag]:
    """Yield the flags of a command, in the order of their definition.

    Args:
        settings: The dataclass whose fields they are.
        fixed: Settings that are no flags.
        dataset: Whose recipe's values are the defaults; None if that is a flag itself.
    """
    types_of = typing.get_type_hints(settings)
    recipes = {method: recipe(dataset, method) for method in METHODS} if dataset else {}
    for field in dataclasses.fields(settings):
        if "help" not in field.metadata or field.name in fixed:
            continue
        choices = field.metadata["choices"]
        listed = f" Choices: {', '.join(choices)}." if choices else ""
        told = f"{field.metadata['help']}{listed} Default: {_default(field, recipes)}."
        kind, section = _without_none(types_of[field.name]), settings.section_of(field.name)
        yield Flag(field.name, field.metadata["also"], kind, choices, section, told)


def help_of(about: str, flags: list[Flag]) -> str:
    """Return what --help prints.

    Args:
        about: What the command does, and how it is called.
        flags: Its flags.
    """
    parts = [about.strip()]
    for section in SECTIONS:
        found = [flag for flag in flags if flag.section == section]
        if found:
            parts.append("\n".join([painted(f"{section.capitalize()}:", BOLD), *map(_described, found)]))
        if section == COMMON and any(flag.name == "eval_epsilon" for flag in flags):
            parts.append(_EPSILON)
    parts.append(
        "Write --name=value; numbers may be fractions, such as 8/255.\nMore flags: --helpfull lists the libraries'."
    )
    return "\n\n".join(parts)


def as_text(value: Any) -> str:
    """Return the text after `--name=` for a value, such as "1.0,2.0" for a pair."""
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _described(flag: Flag) -> str:
    """Return the lines of a flag: its names to the left, what it does to the right."""
    prefix = "--[no]" if flag.kind is bool else "--"
    names = "  " + ", ".join(f"{prefix}{name}" for name in flag.names)
    width, indent = min(WIDEST, columns()), " " * _NAMES
    text = textwrap.fill(flag.help, width, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False)
    return f"{names}\n{text}" if len(names) >= _NAMES else names + text[len(names) :]


def _default(field: Any, recipes: Mapping[str, Mapping[str, Any]]) -> str:
    """Return what --help says of a flag's default, given the recipe of each method, if the data set is known."""
    by_method = {method: settings.get(field.name, field.default) for method, settings in recipes.items()}
    values = {method: _shown(value) for method, value in by_method.items() if value is not None}
    if not values:
        is_in_recipe = not recipes and field.name in names_in_recipes()
        own = field.metadata["unset"] if field.default in (None, "", ()) else _shown(field.default)
        return "the recipe's, by data set and method" if is_in_recipe else own
    methods: dict[str, list[str]] = {}
    for method, shown in values.items():
        methods.setdefault(shown, []).append(method)
    if len(methods) == 1:
        return next(iter(methods))
    most = max(methods, key=lambda shown: len(methods[shown]))
    rest = most if len(methods[most]) > 1 else None
    said = [f"{shown} with {_listed(named)}" for shown, named in methods.items() if shown != rest]
    return ", ".join([*said, *([] if rest is None else [f"else {rest}"])])


def _listed(names: list[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def _shown(value: Any) -> str:
    return as_text(value).lower() if isinstance(value, bool) else as_text(value)


def _without_none(hint: Any) -> Any:
    if isinstance(hint, types.UnionType):
        return next(kind for kind in typing.get_args(hint) if kind is not type(None))
    return hint
