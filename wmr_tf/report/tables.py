"""Tables of robustness, from plain values: dictionaries in the form of metrics.json."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

COLUMNS = ("A_nat", "A_rob", "A_strong", "A_sa", "A_tr")
"""The accuracies of a table, in order."""

# What is printed above the table of worst cases.
WORST_CASES = (
    "Worst cases: the attacker of alpha_test stays within the KL radius rho of picking all images alike; A_worst is\n"
    "the lowest accuracy within it, A_sa that where the expected margin is lowest. CVaR 10% is the mean loss of the\n"
    "worst tenth of the images, CVaR 100% of all."
)

SUITES = "Under stronger attacks, one after the other on the images that are left; the last figure is the suite's."


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
    header = ["Defense", "alpha_train", "alpha_test", *(f"{name} (%)" for name in COLUMNS)]
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
            [label, str(round(float(entry["alpha_test"]), 2)), _number(entry, "rho")]
            + [_percent(entry, name) for name in ("A_sa", "A_worst")]
            + [_number(loss.get(level, {}), "loss") for level in levels]
            for label, entry, loss in sorted(found, key=lambda row: row[1][order])
        ]
    return header, rows


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
        [['free', 'apgd-ce+square', '300', '99.00', '91.67', '89.33']]
    """
    found = [(label, metrics["suite"]) for label, metrics in results if "suite" in metrics]
    attacks = list(dict.fromkeys(name for _, suite in found for name in suite["accuracy_after"]))
    rows = [
        [label, suite["version"], str(suite["examples"]), _percent(suite, "clean_accuracy")]
        + [_percent(suite["accuracy_after"], name) for name in attacks]
        for label, suite in found
    ]
    return ["Defense", "suite", "images", "clean (%)", *(f"{name} (%)" for name in attacks)], rows


def tables(results: Sequence[tuple[str, Mapping[str, Any]]], *, markdown: bool = False) -> str:
    """Return the tables of results as text: who is masked, accuracies, suites, worst cases, flags, average budgets.

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
    masked = [label.removesuffix(" MASKED") for label, metrics in results if metrics.get("masked")]
    parts = [f"MASKED: {', '.join(masked)}"] if masked else []
    parts += [format_table(*comparison_table(results), markdown=markdown)]
    for title, (header, rows) in ((SUITES, suite_table(results)), (WORST_CASES, worst_case_table(results))):
        if rows:
            parts += [title, format_table(header, rows, markdown=markdown)]
    parts += _warnings(results)
    parts += [_average_budget(label, metrics["wasserstein"]) for label, metrics in results if "wasserstein" in metrics]
    return "\n\n".join(parts)


def _warnings(results: Sequence[tuple[str, Mapping[str, Any]]]) -> list[str]:
    """Return what is wrong, once each; of several defences those that it is said of, if it is not said of all."""
    said: dict[str, list[str]] = {}
    for label, metrics in results:
        for message in dict.fromkeys(flag["message"] for flag in metrics.get("flags", ())):
            said.setdefault(message, []).append(label.removesuffix(" MASKED"))
    of = {message: "" if len(labels) == len(results) else f" {', '.join(labels)}:" for message, labels in said.items()}
    return [f"Warning:{labels} {message}" for message, labels in of.items()]


def _row(label: str, metrics: Mapping[str, Any], entry: Mapping[str, Any]) -> list[str]:
    alpha_train = metrics.get("alpha_train")
    settings = [label, str(round(float(alpha_train), 4)) if alpha_train else "-", str(float(entry["alpha_test"]))]
    return settings + [_percent(entry if name in entry else metrics, name) for name in COLUMNS]


def _average_budget(label: str, found: Mapping[str, Any]) -> str:
    reach = found["steps"] * found["step_size"]
    warning = f"\nWarning: it could move no image further than {reach:g}, steps * step_size, and more may do more harm."
    at_its_reach = found["largest_size"] >= reach * (1 - 1e-4)
    return (
        f"{label} under an {found['norm']} attacker with a budget on the average perturbation\n"
        f"(p {found['p']}, epsilon {found['epsilon']:g}, {found['steps']} steps of {found['step_size']:g}): "
        f"accuracy {_percent(found, 'accuracy')} %,\n"
        f"{found['mean_size']:.3f} of the budget used, largest perturbation {found['largest_size']:.3f}."
    ) + warning * at_its_reach


def _percent(values: Mapping[str, Any], key: str) -> str:
    return _number(values, key, scale=100, digits=2)


def _number(values: Mapping[str, Any], key: str, *, scale: int = 1, digits: int = 3) -> str:
    found = [scale * values[name] for name in (key, f"{key}_stderr") if name in values]
    return " ± ".join(f"{value:.{digits}f}" for value in found) or "-"
