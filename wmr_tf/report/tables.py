"""Tables of robustness, from plain values: dictionaries in the form of metrics.json."""

import math
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from wmr_tf.report.rounding import decimals, of_images, of_point, radius, with_error, with_interval
from wmr_tf.report.words import MASKED, alarms, conditions, said

WIDTH = 80
"""Letters in a line of text."""

ACCURACIES = ("A_nat", "A_rob", "A_strong", "A_sa", "A_tr")
"""The accuracies of a table, in order."""

WORST_CASES = (
    "Worst cases: the attacker of alpha_test stays within the KL radius rho of\n"
    "picking all images alike; A_worst is the lowest accuracy within it, A_sa that\n"
    "where the expected margin is lowest. CVaR 10% is the mean loss of the worst\n"
    "tenth of the images, CVaR 100% of all."
)
"""What stands above the table of worst cases."""

ERRORS = "± is one standard error, over the images."
"""What stands below a table of single models."""

SEEDS = "± is one standard error, over the images, and of several seeds their standard deviation."
"""What stands below a table in which a row may be of several seeds."""

SHARE = 0.05
"""The part of the images that the table of attackers who choose beforehand shows."""

CHOOSERS = (
    "Under attackers who choose before they see the outcome, with all attacks and\n"
    "95 % intervals: what is left of the images that the classifier, or another one,\n"
    "is least sure of when they are clean; of the class that was weakest on\n"
    "validation images; and the mean radius at which the most fragile images break.\n"
    "Temperature does not move whom these attackers choose, nor a radius; the attacks\n"
    "themselves it moves a little."
)

SUITES = "Under stronger attacks, one after the other on the images that are left; the last\nfigure is the suite's."
"""What stands above the table of the suite."""


def format_table(header: Sequence[str], rows: Iterable[Sequence[str]], *, markdown: bool = False) -> str:
    """Return a table as text, its first column flush left and the others flush right.

    Args:
        header: The columns' names.
        rows: The cells, as many in each row as there are names.
        markdown: Whether to write Markdown rather than plain text.

    Returns:
        The lines of the table joined by newlines, without one at the end.

    Raises:
        ValueError: If a row has more or fewer cells than the header.

    Example:
        >>> print(format_table(["Defense", "A_rob (%)"], [["PGD", "49.29"], ["TRADES", "53.38"]]))
        Defense  A_rob (%)
        -------  ---------
        PGD          49.29
        TRADES       53.38
    """
    columns = [[name, *cells] for name, *cells in zip(header, *rows, strict=True)]
    widths = [max(map(len, column)) for column in columns]
    aligned = [
        [cell.rjust(width) if index else cell.ljust(width) for cell in column]
        for index, (column, width) in enumerate(zip(columns, widths, strict=True))
    ]
    if markdown:
        rule = [f"{'-' * (width - 1)}:" if index else "-" * width for index, width in enumerate(widths)]
    else:
        rule = ["-" * width for width in widths]
    head, *body = zip(*aligned, strict=True)
    separator, edge = (" | ", "| {} |") if markdown else ("  ", "{}")
    return "\n".join(edge.format(separator.join(line)).rstrip() for line in (head, rule, *body))


def comparison_table(results: Sequence[tuple[str, Mapping[str, Any]]]) -> tuple[list[str], list[list[str]]]:
    """Return the header and rows of a table like the paper's Table 1: all defences at one alpha_test, then the next.

    Accuracies are in percent, with their standard error where there is one; what is missing is a dash, so that rows
    quoted from a paper fit in.

    Args:
        results: For each defence its label and its metrics in the form of metrics.json (fractions of 1).

    Returns:
        The columns' names, and for each alpha_test and defence a row of as many cells, as `format_table` takes them.

    Example:
        >>> quoted = {"A_rob": 0.9559, "non_uniform": [{"alpha_test": 2.0, "A_sa": 0.5215, "A_tr": 0.5152}]}
        >>> comparison_table([("TRADES", quoted)])[1]
        [['TRADES', '-', '2.0', '-', '95.59', '-', '52.15', '51.52']]

    Source: Zeng et al. 2021, Tables 1 to 3.
    """
    header = ["Defense", "alpha_train", "alpha_test", *(f"{name} (%)" for name in ACCURACIES)]
    alphas = sorted({entry["alpha_test"] for _, metrics in results for entry in metrics["non_uniform"]})
    rows = [
        _row(label, metrics, entry)
        for alpha in alphas
        for label, metrics in results
        for entry in metrics["non_uniform"]
        if entry["alpha_test"] == alpha
    ]
    return header, rows


def worst_case_table(results: Sequence[tuple[str, Mapping[str, Any]]]) -> tuple[list[str], list[list[str]]]:
    """Return the header and rows of a table of worst cases, in the order of `comparison_table`.

    `A_sa` is the accuracy, in percent, under the attacker of alpha_test, who stays within the KL radius `rho`, and
    `A_worst` is the lowest accuracy within that radius. A CVaR is the mean attacked cross-entropy of the worst part of
    the images; 100% are all of them. Below are the radii that were asked for, with the alpha of each.

    Args:
        results: For each defence its label and its metrics in the form of metrics.json.

    Returns:
        The columns' names, and for each alpha_test, or radius, and defence a row of as many cells. Defences without
        worst cases, such as quoted ones, have no row.

    Example:
        >>> entry = {"alpha_test": 2.0, "A_sa": 0.52, "rho": 0.41, "A_worst": 0.45}
        >>> metrics = {"non_uniform": [entry], "cvar": [{"level": 0.1, "loss": 1.5}]}
        >>> worst_case_table([("TRADES", metrics)])[1]
        [['TRADES', '2.0', '0.410', '52.00', '45.00', '1.500']]
    """
    losses = [{entry["level"]: entry for entry in metrics.get("cvar", ())} for _, metrics in results]
    levels = sorted(set().union(*losses), reverse=True)
    header = ["Defense", "alpha_test", "rho", "A_sa (%)", "A_worst (%)", *(f"CVaR {level:.0%}" for level in levels)]
    rows = []
    for kind, order in (("non_uniform", "alpha_test"), ("kl_balls", "rho")):
        found = [
            (label, entry, loss)
            for (label, metrics), loss in zip(results, losses, strict=True)
            for entry in metrics.get(kind, ())
            if "rho" in entry
        ]
        rows += [
            [label, str(round(float(entry["alpha_test"]), 2)), with_error(entry, "rho", scale=1, digits=3)]
            + [with_error(entry, name) for name in ("A_sa", "A_worst")]
            + [with_error(loss.get(level, {}), "loss", scale=1, digits=3) for level in levels]
            for label, entry, loss in sorted(found, key=lambda row: row[1][order])
        ]
    return header, rows


def difference_table(differences: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Return the header and rows of a table of differences between defences, in points of a percent.

    Args:
        differences: For each the "label" of the defence, which "accuracy" it is of, "value", "low" and "high",
            fractions of 1, and "p_value" where it was tested.

    Returns:
        The columns' names, and for each difference a row of as many cells. A quarter of an interval's width, about a
        standard error, says how many decimals there are; its ends are rounded outwards, so that none hides a 0.

    Example:
        >>> found = {"label": "TRADES", "accuracy": "A_rob", "value": 0.0123, "low": 0.0038, "high": 0.0211}
        >>> difference_table([{**found, "p_value": 0.0061}])[1]
        [['TRADES', 'A_rob', '+1.2', '+0.3 to +2.2', '0.006']]
    """
    header = ["Defense", "accuracy", "difference (points)", "95 % interval", "McNemar's p"]
    rows = []
    for found in differences:
        value, low, high = (100 * found[name] for name in ("value", "low", "high"))
        digits = min(2, decimals((high - low) / 4))
        ends = _outwards(low, -1, digits), _outwards(high, 1, digits)
        # Adding 0 takes the sign from a rounded -0.
        shown = [f"{round(number, digits) + 0:+.{digits}f}" for number in (value, *ends)]
        p_value = found.get("p_value")
        tested = "-" if p_value is None else "< 0.001" if p_value < 0.001 else f"{p_value:.3f}"
        rows.append([found["label"], found["accuracy"], shown[0], f"{shown[1]} to {shown[2]}", tested])
    return header, rows


def epsilon_table(curves: Sequence[tuple[str, Sequence[Mapping[str, Any]]]]) -> tuple[list[str], list[list[str]]]:
    """Return the header and rows of a table of accuracies by the radius of the attack, in percent.

    Args:
        curves: For each defence its label and its metrics at each radius, in the form of metrics.json.

    Returns:
        The columns' names, and for each defence and radius a row of as many cells.

    Example:
        >>> metrics = {"attack": {"epsilon": 0.1}, "A_nat": 0.98, "A_rob": 0.9}
        >>> epsilon_table([("TRADES", [metrics])])[1]
        [['TRADES', '0.1', '98.00', '90.00', '-']]
    """
    names = ACCURACIES[:3]
    rows = [
        [label.removesuffix(MASKED) + MASKED * bool(metrics.get("masked")), f"{metrics['attack']['epsilon']:g}"]
        + [with_error(metrics, name) for name in names]
        for label, found in curves
        for metrics in found
    ]
    return ["Defense", "epsilon", *(f"{name} (%)" for name in names)], rows


def suite_table(results: Sequence[tuple[str, Mapping[str, Any]]]) -> tuple[list[str], list[list[str]]]:
    """Return the header and rows of a table of accuracies after each attack of a suite, in percent.

    Args:
        results: For each defence its label and its metrics in the form of metrics.json.

    Returns:
        The columns' names, and a row of as many cells for each defence that was attacked by a suite.

    Example:
        >>> after = {"apgd-ce": 0.9167, "square": 0.8933}
        >>> suite = {"version": "apgd-ce+square", "examples": 300, "clean_accuracy": 0.99, "accuracy_after": after}
        >>> suite_table([("free", {"suite": suite})])[1]
        [['free', 'apgd-ce+square', '300', '99.0', '91.7', '89.3']]
    """
    found = [(label, metrics["suite"]) for label, metrics in results if "suite" in metrics]
    attacks = list(dict.fromkeys(name for _, suite in found for name in suite["accuracy_after"]))
    rows = [
        [label, suite["version"], str(suite["examples"]), of_images(suite["clean_accuracy"], suite["examples"])]
        + [
            of_images(suite["accuracy_after"][name], suite["examples"]) if name in suite["accuracy_after"] else "-"
            for name in attacks
        ]
        for label, suite in found
    ]
    return ["Defense", "suite", "images", "clean (%)", *(f"{name} (%)" for name in attacks)], rows


def choosers_table(results: Sequence[tuple[str, Mapping[str, Any]]]) -> tuple[list[str], list[list[str]]]:
    """Return the header and rows of a table of attackers who choose before they see the outcome.

    Args:
        results: For each defence its label and its metrics in the form of metrics.json.

    Returns:
        The columns' names, and a row of as many cells for each defence for which something of it was measured.

    Example:
        >>> points = [{"images": 50, "accuracy": 0.4, "interval": [0.28, 0.54]}]
        >>> metrics = {"examples": 1000, "budget": [{"chooser": "clean_margin", "points": points}]}
        >>> choosers_table([("TRADES", metrics)])[1]
        [['TRADES', '40 [28, 54] of 50', '-', '-', '-']]
    """
    header = ["least sure (%)", "another model's (%)", "weakest class (%)", f"radius, worst {SHARE:.0%}"]
    rows = [
        [label, *(_picked(metrics, chooser) for chooser in ("clean_margin", "surrogate"))]
        + [_class(metrics.get("worst_class")), _worst_radius(metrics.get("threat", {}).get("worst", ()))]
        for label, metrics in results
        if metrics.keys() & {"budget", "threat"}
    ]
    return ["Defense", *header], rows


def _picked(metrics: Mapping[str, Any], chooser: str) -> str:
    """Return what is left of the number of images that is nearest to `SHARE` of all."""
    curves = {curve["chooser"]: curve["points"] for curve in metrics.get("budget", ())}
    if chooser not in curves:
        return "-"
    points = curves[chooser]
    point = min(points, key=lambda point: abs(point["images"] - SHARE * metrics["examples"]))
    return f"{of_point(point)} of {point['images']}"


def _class(found: Mapping[str, Any] | None) -> str:
    return f"{found['class']}: {with_interval(found, 'A_strong')}" if found else "-"


def _worst_radius(worst: Sequence[Mapping[str, Any]]) -> str:
    found = next((row for row in worst if row["fraction"] == SHARE), None)
    return radius(found) if found else "-"


def tables(results: Sequence[tuple[str, Mapping[str, Any]]], *, markdown: bool = False) -> str:
    """Return the tables of results as text: who is masked, which images and attacks it was, accuracies, and the rest.

    The rest are suites, worst cases, flags and average budgets, as far as they were measured.

    Args:
        results: For each defence its label and its metrics in the form of metrics.json.
        markdown: Whether to write Markdown rather than plain text.

    Returns:
        Tables and sentences, joined by newlines.

    Example:
        >>> metrics = {"A_rob": 0.9559, "non_uniform": [{"alpha_test": 2.0, "A_sa": 0.5215, "A_tr": 0.5152}]}
        >>> print(tables([("TRADES", metrics)]))
        Defense  alpha_train  alpha_test  A_nat (%)  A_rob (%)  A_strong (%)  A_sa (%)  A_tr (%)
        -------  -----------  ----------  ---------  ---------  ------------  --------  --------
        TRADES             -         2.0          -      95.59             -     52.15     51.52
    """
    masked = [label.removesuffix(MASKED) for label, metrics in results if metrics.get("masked")]
    parts = [f"MASKED: {', '.join(masked)}"] if masked else []
    parts += _conditions(results)
    parts += [format_table(*comparison_table(results), markdown=markdown), *_legend(results)]
    further = {SUITES: suite_table, CHOOSERS: choosers_table, WORST_CASES: worst_case_table}
    for title, make in further.items():
        header, rows = make(results)
        if rows:
            parts += [title, format_table(header, rows, markdown=markdown)]
    parts += [f"Warning: {labels}{': ' * bool(labels)}{message}" for labels, message in alarms(results)]
    parts += [_average_budget(label, metrics["wasserstein"]) for label, metrics in results if "wasserstein" in metrics]
    return "\n\n".join(parts)


def _conditions(results: Sequence[tuple[str, Mapping[str, Any]]]) -> list[str]:
    """Return which images were attacked and how, of those results that say it."""
    known = [(label, metrics) for label, metrics in results if "attack" in metrics]
    told = [f"{label}: {text}" if label else text for label, text in said(known, conditions)]
    return list(map(filled, told))


def filled(text: str) -> str:
    """Return a text in lines of `WIDTH` letters."""
    return textwrap.fill(text, WIDTH, break_long_words=False, break_on_hyphens=False)


def _legend(results: Sequence[tuple[str, Mapping[str, Any]]]) -> list[str]:
    """Return what the table says after ±, nothing if it has none."""
    if any(metrics.get("seeds") for _, metrics in results):
        return [SEEDS]
    return [ERRORS] if any("A_rob_stderr" in metrics for _, metrics in results) else []


def _row(label: str, metrics: Mapping[str, Any], entry: Mapping[str, Any]) -> list[str]:
    alpha_train = metrics.get("alpha_train")
    settings = [label, str(round(float(alpha_train), 4)) if alpha_train else "-", str(float(entry["alpha_test"]))]
    return settings + [with_error(entry if name in entry else metrics, name) for name in ACCURACIES]


def _average_budget(label: str, found: Mapping[str, Any]) -> str:
    reach = found["steps"] * found["step_size"]
    warning = f"\nWarning: it could move no image further than {reach:g}, steps * step_size, and more may do more harm."
    at_its_reach = found["largest_size"] >= reach * (1 - 1e-4)
    return (
        f"{label} under an {found['norm']} attacker with a budget on the average perturbation\n"
        f"(p {found['p']}, epsilon {found['epsilon']:g}, {found['steps']} steps of {found['step_size']:g}): "
        f"accuracy {with_error(found, 'accuracy')} %,\n"
        f"{found['mean_size']:.3f} of the budget used, largest perturbation {found['largest_size']:.3f}."
    ) + warning * at_its_reach


def _outwards(number: float, side: int, digits: int) -> float:
    """Return the nearest number of so many decimals that is not below, or for side -1 not above, the given one."""
    units = round(side * number * 10**digits, 3)  # a thousandth of the last digit is rounding, or a bisection's end
    return side * math.ceil(units) / 10**digits
