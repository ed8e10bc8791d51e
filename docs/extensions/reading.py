"""What the directives share: they write reStructuredText, which Sphinx reads."""

from collections.abc import Iterable, Sequence

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.util.docutils import SphinxDirective


def parsed(directive: SphinxDirective, lines: Iterable[str]) -> list[nodes.Node]:
    """Return what lines of reStructuredText are, at the place of a directive."""
    source = f"<{directive.name} {' '.join(directive.arguments)}>"
    container = nodes.Element()
    directive.state.nested_parse(StringList(list(lines), source=source), 0, container)
    return container.children


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Return a table as lines; nothing if it has no rows."""
    body = [f"   {'* -' if place == 0 else '  -'} {cell}" for row in rows for place, cell in enumerate(row)]
    head = [f"   {'* -' if place == 0 else '  -'} {cell}" for place, cell in enumerate(header)]
    return [".. list-table::", "   :header-rows: 1", "   :widths: auto", "", *head, *body, ""] if body else []
