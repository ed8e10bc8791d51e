"""The directives `commands`, `command` and `recipes`: what `wmr` does, every flag, and the defaults behind them.

.. command:: train mnist
"""

import importlib
import inspect
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from docs.extensions.public import flags_of
from docs.extensions.reading import parsed, table
from trainers.cli import PARSERS
from trainers.command import modules
from trainers.settings.recipes import OWN, recipe
from trainers.usage import as_text
from wmr_tf.names import DATASETS, METHODS


class Commands(SphinxDirective):
    """A table of all commands."""

    def run(self) -> list[nodes.Node]:
        """Return the table."""
        rows = [
            [
                f"`wmr {name}`",
                f"`python -m {module}`",
                _escaped(" ".join(_docstring(module).partition("\n\n")[0].split())),
            ]
            for name, module in modules().items()
        ]
        return parsed(self, table(["Command", "The same as", "What it does"], rows))


class Command(SphinxDirective):
    """What a command does, and its flags."""

    required_arguments = 1
    final_argument_whitespace = True

    def run(self) -> list[nodes.Node]:
        """Return the docstring of its module, and an entry for each flag."""
        name = self.arguments[0]
        module = modules()[name]
        lines = [*_shown(_docstring(module)), f".. program:: wmr {name}", ""]
        for flag in flags_of(module):
            also = f", --{flag.also}" if flag.also else ""
            expected = PARSERS[flag.kind].syntactic_help
            said = " ".join(filter(None, [flag.help, expected and f"({expected})"]))
            lines += [f".. option:: --{flag.name}{also}", "", f"   {_escaped(said)}", ""]
        return parsed(self, lines)


def _docstring(module: str) -> str:
    return inspect.getdoc(importlib.import_module(module)) or ""


def _first_sentence(module: str) -> str:
    return " ".join(_docstring(module).partition("\n\n")[0].split())


def _shown(docstring: str) -> list[str]:
    """Return a module's docstring, with the commands in it as code."""
    lines: list[str] = []
    for paragraph in docstring.split("\n\n"):
        is_command = paragraph.startswith("python -m ")
        lines += [".. code-block:: sh", ""] if is_command else []
        lines += [f"   {line}" if is_command else _escaped(line) for line in paragraph.splitlines()]
        lines.append("")
    return lines


def _escaped(text: str) -> str:
    return text.replace("*", r"\*").replace("|", r"\|").replace("`", r"\`").replace("_ ", r"\_ ")


class Recipes(SphinxDirective):
    """The settings of each data set and method."""

    def run(self) -> list[nodes.Node]:
        """Return for each data set what all methods share and what differs."""
        return [node for dataset in (*DATASETS, OWN) for node in self._of(dataset)]

    def _of(self, dataset: str) -> list[nodes.Node]:
        recipes = {method: recipe(dataset, method) for method in METHODS}
        names = list(dict.fromkeys(name for values in recipes.values() for name in values))
        rows = {name: [_text(values.get(name)) for values in recipes.values()] for name in names}
        same = [[f"`{name}`", values[0]] for name, values in rows.items() if len(set(values)) == 1]
        other = [[f"`{name}`", *values] for name, values in rows.items() if len(set(values)) > 1]
        title = "Images of your own" if dataset == OWN else dataset
        section = nodes.section(ids=[nodes.make_id(f"recipe-{dataset}")])
        section += nodes.title(text=title)
        section += parsed(self, [*table(["Setting", "With every method"], same), *table(["Setting", *METHODS], other)])
        return [section]


def _text(value: Any) -> str:
    return "" if value is None else _escaped(as_text(value))


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directives."""
    app.add_directive("commands", Commands)
    app.add_directive("command", Command)
    app.add_directive("recipes", Recipes)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
