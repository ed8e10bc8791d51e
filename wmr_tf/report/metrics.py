"""What the curves and the sentences of a report take from metrics in the form of metrics.json."""

from collections.abc import Mapping, Sequence
from typing import Any

CHOOSERS = {
    "clean_margin": ("by the smallest clean margins", "-", "o"),
    "surrogate": ("by the smallest margins of another model", "--", "s"),
    "random": ("at random", ":", "^"),
}
"""How an attacker picks images before he attacks: how, line and marker."""

SHOWN_CLASSES = 10
"""How many of the worst and of the best classes are drawn where there are more than twice as many."""


def accuracy_of_classes(entries: Sequence[Mapping[str, Any]]) -> str:
    """Return which accuracy is shown by class: A_strong, where a suite has attacked, else A_nat."""
    return "A_strong" if all("A_strong" in entry for entry in entries) else "A_nat"


def shown_classes(entries: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the classes from the weakest to the strongest, of many the ten weakest and the ten strongest."""
    name = accuracy_of_classes(entries)
    ordered = sorted(entries, key=lambda entry: entry[name])
    many = len(ordered) > 2 * SHOWN_CLASSES
    return [*ordered[:SHOWN_CLASSES], *ordered[-SHOWN_CLASSES:]] if many else ordered


def after_each(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Return the accuracies of a suite by what was before them: "clean", then each attack; none without a suite."""
    found = metrics.get("suite")
    return {"clean": found["clean_accuracy"], **found["accuracy_after"]} if found else {}


def strongest(point: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what a point of the confidence curve says of the largest alpha_test."""
    return max(point["non_uniform"], key=lambda entry: entry["alpha_test"])
