"""The curves of a report, each with its heading, what it shows in words, and its numbers."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from wmr_tf.report import charts, words
from wmr_tf.report.charts import Results
from wmr_tf.report.figures import BARS, draw_alpha
from wmr_tf.report.metrics import CHOOSERS, SHOWN_CLASSES, accuracy_of_classes, shown_classes
from wmr_tf.report.rounding import of_point, radius, with_interval
from wmr_tf.report.svg import svg
from wmr_tf.report.tables import suite_table

Metrics = Mapping[str, Any]
Table = tuple[str, Sequence[str], Sequence[Sequence[str]]]


class Section(NamedTuple):
    """A curve in a page."""

    name: str
    heading: str
    svg: Markup
    reading: words.Said
    note: str
    """How the picture is to be read, whatever it shows."""
    numbers: Table | None
    """The numbers that the curve is drawn from, or the few that belong beside it."""
    is_open: bool
    """Whether the numbers are shown without being asked for."""


def sections(results: Results) -> Iterator[Section]:
    """Yield the curves of which the metrics have the numbers, and for each model its classes.

    Args:
        results: For each model its label and its metrics in the form of metrics.json.
    """
    yield from _section(
        "alpha",
        "Attackers who prefer fragile images",
        draw_alpha,
        words.alpha,
        results,
        note=BARS,
    )
    yield from _section(
        "budget",
        "Attackers who choose before they attack",
        charts.budget,
        words.budget,
        results,
        _budget_table(results),
        note="Bands are 95 % intervals.",
    )
    yield from _section(
        "threat",
        "How much change is needed",
        charts.threat,
        words.threat,
        results,
        _worst_table(results),
        note="An image that is misclassified as it is needs a change of 0.",
        is_open=True,
    )
    yield from _section(
        "confidence",
        "What confidence alone does to A_sa and A_tr",
        charts.confidence,
        words.confidence,
        results,
        _confidence_table(results),
        note="Compare models at equal top probability only.",
    )
    yield from _section(
        "suite",
        "One attack after the other",
        charts.suite,
        words.suite,
        results,
        ("Accuracy after each attack", *suite_table(results)),
    )
    for number, (label, metrics) in enumerate(results):
        if entries := metrics.get("classes"):
            shown, few = len(shown_classes(entries)), SHOWN_CLASSES
            many = f", the {few} weakest and {few} strongest of {len(entries)}" if shown < len(entries) else ""
            of = f": {label}" if len(results) > 1 else ""
            yield from _section(
                f"classes{number}",
                f"By class{many}{of}",
                charts.classes,
                words.classes,
                [(label, metrics)],
                _class_table(entries),
                note="All intervals hold at once, with 95 %.",
                height=0.6 + 0.2 * shown,
            )


def _section(
    name: str,
    heading: str,
    draw: Callable[[Axes, Results], Sequence[Line2D]],
    reading: Callable[[Metrics], str],
    results: Results,
    numbers: Table | None = None,
    *,
    note: str = "",
    is_open: bool = False,
    height: float = 2.5,
) -> Iterator[Section]:
    """Yield a curve, none if nothing can be said of it."""
    if said := words.said(results, reading):
        alt = " ".join([f"{heading}.", *(f"{label}: {text}" if label else text for label, text in said)])
        drawn = svg(lambda axes: draw(axes, results), name=name, alt=alt, height=height)
        yield Section(name, heading, drawn, said, note, numbers, is_open)


def _budget_table(results: Results) -> Table:
    rows = [
        [label, CHOOSERS[curve["chooser"]][0], f"{point['images']:,}", of_point(point)]
        for label, metrics in results
        for curve in metrics.get("budget", ())
        for point in curve["points"]
    ]
    return "Accuracy on the images picked, in percent", ["Model", "picked", "images", "accuracy"], rows


def _worst_table(results: Results) -> Table:
    found = [
        {entry["fraction"]: entry for entry in metrics.get("threat", {}).get("worst", ())} for _, metrics in results
    ]
    fractions = sorted(set().union(*found))
    rows = [
        [label, *(radius(worst[fraction]) if fraction in worst else "-" for fraction in fractions)]
        for (label, _), worst in zip(results, found, strict=True)
    ]
    caption = "Mean radius of the most fragile images, with 95 % intervals"
    return caption, ["Model", *(f"worst {100 * fraction:g} %" for fraction in fractions)], rows


def _confidence_table(results: Results) -> Table:
    rows = [
        [label, f"{point['scale']:.3g}", f"{100 * point['top_probability']:.0f}", f"{entry['alpha_test']:g}"]
        + [f"{100 * entry[name]:.0f}" for name in ("A_sa", "A_tr")]
        for label, metrics in results
        for point in metrics.get("confidence", {}).get("curve", ())
        for entry in point["non_uniform"]
    ]
    header = ["Model", "logits times", "top probability", "alpha_test", "A_sa", "A_tr"]
    return "In percent, as the logits are multiplied", header, rows


def _class_table(entries: Sequence[Metrics]) -> Table:
    name = accuracy_of_classes(entries)
    names = list(dict.fromkeys(["A_nat", name]))
    rows = [
        [str(entry["class"]), f"{entry['examples']:,}", *(with_interval(entry, name) for name in names)]
        for entry in entries
    ]
    return "In percent; all intervals of a column hold at once", ["Class", "images", *names], rows
