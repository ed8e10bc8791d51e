"""Docstrings as this project writes them.

`Cost:`, `Note:` and `Source:` begin on the line of their text, a property's first sentence may have a colon, and what
stands in single backticks is code, and a link if it is the name of something in the reference.
"""

import re
from typing import Any

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxRole

_SECTION = re.compile(r"(Cost|Note|Source): (.+)")
_NAME = re.compile(r"[A-Za-z_][\w.]*")


def in_sections(lines: list[str]) -> list[str]:
    """Return a docstring's lines with the text of these sections on lines below their names, as Napoleon expects it."""
    found: list[str] = []
    for line in lines:
        section = _SECTION.fullmatch(line)
        found += [f"{section[1]}:", f"    {section[2]}"] if section else [line]
    return found


class _Docstrings:
    """Prepares docstrings for Napoleon, and takes those of properties from it, in which it sees a type at a colon."""

    def before(self, app: Sphinx, what: str, name: str, value: object, options: Any, lines: list[str]) -> None:
        self.original = list(lines)
        lines[:] = in_sections(lines)

    def after(self, app: Sphinx, what: str, name: str, value: object, options: Any, lines: list[str]) -> None:
        if what in ("attribute", "property"):
            lines[:] = self.original


class CodeOrName(SphinxRole):
    """Code, and a link if it is a public name."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        """Return it."""
        code = nodes.literal(self.rawtext, self.text)
        if not _NAME.fullmatch(self.text):
            return [code], []
        scope = {key: self.env.ref_context.get(key) for key in ("py:module", "py:class")}
        link = addnodes.pending_xref("", code, refdomain="py", reftype="obj", reftarget=self.text, **scope)
        link["is_code_or_name"] = True
        return [link], []


def _as_code(app: Sphinx, env: object, node: addnodes.pending_xref, content: nodes.Element) -> nodes.Element | None:
    return content if node.get("is_code_or_name") else None


def setup(app: Sphinx) -> dict[str, bool]:
    """Read each docstring before and after Napoleon does, and register the role."""
    docstrings = _Docstrings()
    app.connect("autodoc-process-docstring", docstrings.before, priority=100)
    app.connect("autodoc-process-docstring", docstrings.after, priority=900)
    app.add_role("code-or-name", CodeOrName())
    app.connect("missing-reference", _as_code)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
