"""The directive `public-names`: every public name of a module, from its docstring.

    .. public-names:: wmr_tf.attacks

What several modules offer is documented in the first of `MODULES`, and a link in the others.
"""

import importlib
import inspect
import sys
from types import ModuleType

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.pycode import ModuleAnalyzer
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

from docs.extensions.public import MODULES, names_in
from docs.extensions.reading import parsed, table


class Name:
    """A public name of a module, and what it means."""

    def __init__(self, module: ModuleType, name: str) -> None:
        self.name, self.value, self.module = name, getattr(module, name), module
        self.full = f"{module.__name__}.{name}"

    @property
    def home(self) -> str:
        """The full name under which it is documented."""
        if isinstance(self.value, ModuleType):
            return self.value.__name__
        for module in map(importlib.import_module, MODULES):
            if self.name in names_in(module) and getattr(module, self.name) is self.value:
                return f"{module.__name__}.{self.name}"
        return self.full

    @property
    def is_constant(self) -> bool:
        """Whether it is neither module nor class nor function."""
        return not (isinstance(self.value, ModuleType) or inspect.isclass(self.value) or inspect.isroutine(self.value))

    @property
    def comment(self) -> str:
        """The docstring; of a constant, the one below it where it is defined."""
        if not self.is_constant:
            return inspect.getdoc(self.value) or ""
        for module in [self.module, *map(sys.modules.get, sorted(sys.modules))]:
            if module.__name__.startswith("wmr_tf") and vars(module).get(self.name) is self.value:
                found = ModuleAnalyzer.for_module(module.__name__)
                found.analyze()
                if ("", self.name) in found.attr_docs:
                    return "\n".join(found.attr_docs["", self.name]).strip()
        return ""

    def row(self) -> list[str]:
        """Return a link, and the first sentence of the docstring."""
        role = "mod" if isinstance(self.value, ModuleType) else "obj"
        return [f":py:{role}:`{self.name} <{self.home}>`", " ".join(self.comment.partition("\n\n")[0].split())]

    def entry(self) -> list[str]:
        """Return all that the docstrings say, as lines; nothing where that stands elsewhere."""
        if self.home != self.full or isinstance(self.value, ModuleType):
            return []
        if inspect.isclass(self.value):
            return [f".. autoclass:: {self.full}", "   :members:", "   :show-inheritance:", ""]
        if inspect.isroutine(self.value):
            return [f".. autofunction:: {self.full}", ""]
        is_many = isinstance(self.value, dict | tuple | list)
        values = ", ".join(f"`{each!r}`" for each in self.value) if is_many else f"`{self.value!r}`"
        said = [*self.comment.splitlines(), "", f"{'Keys' if isinstance(self.value, dict) else 'Value'}: {values}"]
        return [f".. py:data:: {self.name}", "", *(f"   {line}" for line in said), ""]


class PublicNames(SphinxDirective):
    """Documents every public name of a module."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Return a table of the names, and below it each with its docstring."""
        module = importlib.import_module(self.arguments[0])
        names = [Name(module, name) for name in names_in(module)]
        for name in names:
            if not name.comment:
                logging.getLogger(__name__).warning("%s has no docstring", name.full, location=self.get_location())
        entries = [line for name in names for line in name.entry()]
        rows = table(["Name", "What it is"], [name.row() for name in names])
        return parsed(self, [f".. py:module:: {module.__name__}", "", *rows, *entries])


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directive."""
    app.add_directive("public-names", PublicNames)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
