"""A picture as SVG that stands in a page and takes the page's colours, light or dark."""

import io
import re
from collections.abc import Callable, Sequence
from typing import Any

import matplotlib
from markupsafe import Markup, escape
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from wmr_tf.report.figures import COLOURS, NOTHING_ELSE, SAVED

_INK = "#010203"  # stands for the colour of the page's text; a true black would be left out of the file
_WIDTH = 4.0  # inches; narrow, so that letters stay readable when a telephone shrinks it
_LEGEND_LINE = 0.19  # inches

_STYLE: Any = {  # matplotlib types the names of its settings one by one
    **SAVED,
    "font.size": 9,
    "grid.linewidth": 0.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    **{f"{name}.color": _INK for name in ("text", "xtick", "ytick", "grid")},
    **{f"axes.{name}color": _INK for name in ("edge", "label")},
}


def svg(draw: Callable[[Axes], Sequence[Line2D]], *, name: str, alt: str, height: float = 2.5) -> Markup:
    """Return a picture as an SVG element for a page.

    Text and axes have the colour of the text around it, the series those of the page's variables `--series-0` and on.

    Args:
        draw: Draws into the axes that it is given and returns the legend's lines, none for no legend.
        name: What the names inside begin with; of several pictures in a page each has its own.
        alt: What a reader is told who cannot see it.
        height: Of the axes, in inches; the legend comes below them.

    Example:
        >>> str(svg(lambda axes: axes.plot([0, 1]), name="line", alt="A line."))[:45]
        '<svg role="img" aria-label="A line." class="c'
    """
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(_WIDTH, height), layout="constrained")
        axes = figure.subplots()
        axes.grid(alpha=0.25)
        axes.set_axisbelow(True)
        if handles := draw(axes):
            lines = sum(1 + str(line.get_label()).count("\n") for line in handles)
            figure.set_size_inches(_WIDTH, height + _LEGEND_LINE * lines)
            figure.legend(handles=handles, loc="outside lower left", frameon=False, handlelength=3)
        file = io.StringIO()
        figure.savefig(file, format="svg", transparent=True, metadata=NOTHING_ELSE[".svg"])
    return _for_page(file.getvalue(), name, alt)


def _for_page(text: str, name: str, alt: str) -> Markup:
    """Return the SVG of a file as an element: its names its own, its colours the page's, its size that of the place."""
    box = re.search(r'viewBox="[^"]+"', text)
    body = text[text.index(">", text.index("<svg")) + 1 :]
    body = re.sub(r"<style.*?</style>", "", body, flags=re.DOTALL)  # it would style the whole page
    body = re.sub(r"font-family: [^;\"]+;? ?", "", body)  # the page's font, said once
    body = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", body)
    for number, colour in enumerate(COLOURS):
        body = body.replace(colour.lower(), f"var(--series-{number})")
    body = body.replace(_INK, "currentColor")
    assert box
    return Markup(f'<svg role="img" aria-label="{escape(alt)}" class="chart" {box[0]}>{body}')
