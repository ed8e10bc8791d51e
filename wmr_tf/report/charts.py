"""The curves of a report, drawn into given axes from metrics in the form of metrics.json."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import cycle
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullFormatter, PercentFormatter

from wmr_tf.report.figures import COLOURS, GREY, model_handles
from wmr_tf.report.metrics import CHOOSERS, SHOWN_CLASSES, accuracy_of_classes, after_each, shown_classes, strongest
from wmr_tf.report.rounding import interval

Results = Sequence[tuple[str, Mapping[str, Any]]]


def budget(axes: Axes, results: Results) -> list[Line2D]:
    """Draw accuracy against the share of the images that an attacker picks, with intervals as bands."""
    kinds = {}
    for metrics, colour in _coloured(results, "budget"):
        for curve in metrics["budget"]:
            points = curve["points"]
            what, line, marker = CHOOSERS[curve["chooser"]]
            style: dict[str, Any] = {"linestyle": line, "marker": marker, "markersize": 4}
            shares = [point["images"] / metrics["examples"] for point in points]
            axes.plot(shares, [point["accuracy"] for point in points], color=colour, **style)
            low, high = zip(*(point["interval"] for point in points), strict=True)
            axes.fill_between(shares, low, high, color=colour, alpha=0.12, linewidth=0)
            kinds[what] = Line2D([], [], color=GREY, label=f"picks {what}", **style)
    axes.set(xlabel="images that the attacker picks, of all", ylabel="accuracy on them", xscale="log", ylim=(0, 1.02))
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if axes.get_xlim()[0] > 0.03 else (1,)))
    axes.xaxis.set_minor_formatter(NullFormatter())
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(PercentFormatter(xmax=1, decimals=None if axis is axes.xaxis else 0))
    return [*_models(results, "budget"), *kinds.values()]


def threat(axes: Axes, results: Results) -> list[Line2D]:
    """Draw the share of images that withstand a change against its size, with a line at epsilon."""
    for metrics, colour in _coloured(results, "threat"):
        curve = metrics["threat"]["curve"]
        axes.step(
            [point["radius"] for point in curve], [point["accuracy"] for point in curve], where="post", color=colour
        )
    radii = dict.fromkeys(metrics["attack"]["epsilon"] for _, metrics in results if "attack" in metrics)
    norms = dict.fromkeys(metrics["threat"]["norm"] for _, metrics in results if "threat" in metrics)
    for radius in radii:
        axes.axvline(radius, color=GREY, linestyle="--", linewidth=1.5)
    axes.set(xlabel=f"largest change allowed, {', '.join(norms)}", ylabel="accuracy", ylim=(0, 1.02))
    axes.set_xlim(left=0)
    axes.yaxis.set_major_formatter(PercentFormatter(xmax=1))
    line = Line2D([], [], color=GREY, linestyle="--", label=f"epsilon {', '.join(f'{radius:g}' for radius in radii)}")
    return [*_models(results, "threat"), *([line] if radii else [])]


def confidence(axes: Axes, results: Results) -> list[Line2D]:
    """Draw A_sa and A_tr of the largest alpha_test against the mean top probability, with a star as trained."""
    for metrics, colour in _coloured(results, "confidence"):
        curve = metrics["confidence"]["curve"]
        shares = [point["top_probability"] for point in curve]
        for name, line in (("A_sa", "-"), ("A_tr", "--")):
            values = [strongest(point)[name] for point in curve]
            axes.plot(shares, values, color=colour, linestyle=line)
            as_trained = min(curve, key=lambda point: abs(point["scale"] - 1))
            axes.plot(
                [metrics["confidence"]["top_probability"]],
                [strongest(as_trained)[name]],
                color=colour,
                marker="*",
                markersize=10,
            )
    axes.set(xlabel="mean top probability on clean images", ylabel="accuracy under attack")
    axes.set_ylim(bottom=0)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(PercentFormatter(xmax=1))
    alphas = {
        strongest(metrics["confidence"]["curve"][0])["alpha_test"] for metrics, _ in _coloured(results, "confidence")
    }
    power = ", ".join(f"{alpha:g}" for alpha in sorted(alphas))
    kinds = [
        Line2D([], [], color=GREY, label=f"A_sa({power})"),
        Line2D([], [], color=GREY, linestyle="--", label=f"A_tr({power})"),
        Line2D([], [], color=GREY, linestyle="none", marker="*", markersize=10, label="as trained"),
    ]
    return [*_models(results, "confidence"), *kinds]


def suite(axes: Axes, results: Results) -> list[Line2D]:
    """Draw the accuracy that is left after each attack of a suite, from top to bottom."""
    attacks = list(dict.fromkeys(name for _, metrics in results for name in after_each(metrics)))
    for metrics, colour in _coloured(results, "suite"):
        found = after_each(metrics)
        axes.plot(list(found.values()), [attacks.index(name) for name in found], color=colour, marker="o", linewidth=1)
    axes.set(xlabel="accuracy after the attack", xlim=(0, 1.02))
    axes.set_yticks(range(len(attacks)), attacks)
    axes.invert_yaxis()
    axes.xaxis.set_major_formatter(PercentFormatter(xmax=1))
    return _models(results, "suite")


def classes(axes: Axes, results: Results) -> list[Line2D]:
    """Draw accuracy by class of one model as bars with their intervals, weakest on top; see `shown_classes`."""
    ((_, metrics),) = results
    entries = metrics["classes"]
    name, shown = accuracy_of_classes(entries), shown_classes(entries)
    places = range(len(shown))
    values = [entry[name] for entry in shown]
    axes.barh(places, values, color=COLOURS[0], height=0.7)
    ends = [interval(entry, name) or (entry[name], entry[name]) for entry in shown]
    axes.hlines(places, *zip(*ends, strict=True), color=matplotlib.rcParams["text.color"])
    axes.plot([entry["A_nat"] for entry in shown], places, color=COLOURS[1], marker="D", markersize=4, linestyle="")
    if len(shown) < len(entries):
        axes.axhline(SHOWN_CLASSES - 0.5, color=GREY, linestyle=":")
    axes.grid(axis="y", visible=False)
    axes.set(xlabel="accuracy", ylabel="class", xlim=(0, 1.02), ylim=(len(shown) - 0.4, -0.6))
    axes.set_yticks(places, [str(entry["class"]).replace("$", r"\$") for entry in shown])
    axes.xaxis.set_major_formatter(PercentFormatter(xmax=1))
    return [
        Line2D([], [], color=COLOURS[0], linewidth=6, label=f"{name}, with its interval"),
        Line2D([], [], color=COLOURS[1], marker="D", linestyle="", label="A_nat, not attacked"),
    ]


def _coloured(results: Results, key: str) -> Iterator[tuple[Mapping[str, Any], str]]:
    """Yield the metrics that have a key, each with its model's colour, which is the same in every curve."""
    for (_, metrics), colour in zip(results, cycle(COLOURS)):
        if _has(metrics, key):
            yield metrics, colour


def _models(results: Results, key: str) -> list[Line2D]:
    """Return what a legend needs to tell the models apart that have a key."""
    handles = zip(model_handles(results), results, strict=True)
    return [handle for handle, (_, metrics) in handles if _has(metrics, key)]


def _has(metrics: Mapping[str, Any], key: str) -> bool:
    """Return whether a curve has something to draw of a model."""
    return bool(metrics.get(key)) and (key != "confidence" or bool(metrics["non_uniform"]))
