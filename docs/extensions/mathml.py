"""Formulas as MathML, which browsers draw by themselves: no script, no fonts, no network."""

import html
import re

from docutils import nodes
from math_core import LatexError, LatexToMathML
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.writers.html5 import HTML5Translator

_CONVERTER = LatexToMathML(fancy_error=False)
_TAG = re.compile(r"\\tag\{(\w+)\}")


def _math(node: nodes.Element, *, display: bool) -> str:
    """Return a formula as MathML; one that cannot be read is a warning, and shown as it is written."""
    latex = _TAG.sub("", node.astext())
    try:
        return _CONVERTER.convert_with_local_state(latex, displaystyle=display)
    except LatexError as error:
        logging.getLogger(__name__).warning("a formula that cannot be read: %s in %s", error, latex, location=node)
        return html.escape(latex)


def _inline(writer: HTML5Translator, node: nodes.math) -> None:
    writer.body.append(_math(node, display=False))
    raise nodes.SkipNode


def _display(writer: HTML5Translator, node: nodes.math_block) -> None:
    """Write a formula on a line of its own, with its `\\tag` at the right."""
    tag = _TAG.search(node.astext())
    number = f'<span class="eqno">({tag[1]})</span>' if tag else ""
    opening = writer.starttag(node, "div", CLASS="formula", ids=node["ids"])
    writer.body.append(f"{opening}<div>{_math(node, display=True)}</div>{number}</div>")
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, bool]:
    """Let Sphinx render formulas with it."""
    app.add_html_math_renderer("mathml", (_inline, None), (_display, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
