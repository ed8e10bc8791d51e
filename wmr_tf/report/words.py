"""What a report says in sentences, each made from the metrics of one model."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from wmr_tf.report.metrics import CHOOSERS, accuracy_of_classes, after_each, shown_classes, strongest
from wmr_tf.report.rounding import interval, percent

Metrics = Mapping[str, Any]
Said = list[tuple[str, str]]

# What an attacker may do within epsilon, by norm.
_MAY = {
    "linf": "change each pixel value by up to {epsilon:g} of the range from 0 to 1",
    "l2": "change an image by up to {epsilon:g} in Euclidean length (l2), where pixel values go from 0 to 1",
    "l1": "change pixel values, which go from 0 to 1, by up to {epsilon:g} in sum (l1)",
}

MASKED = " MASKED"
"""What a label ends with whose classifier hides from attacks."""

FEW_POINTS = 0.02
"""The width of an interval below which a verdict counts in thousands of images rather than in hundreds."""


def said(results: Sequence[tuple[str, Metrics]], sentence: Callable[[Metrics], str]) -> Said:
    """Return a sentence for each model that it is said of, with its label; equal sentences once, with all labels.

    A sentence that is said of all has no label.
    """
    found: dict[str, list[str]] = {}
    for label, metrics in results:
        found.setdefault(sentence(metrics), []).append(label)
    found.pop("", None)
    return [("" if len(labels) == len(results) else ", ".join(labels), text) for text, labels in found.items()]


def alarms(results: Sequence[tuple[str, Metrics]]) -> Said:
    """Return what is wrong, once each; of several models those that it is said of, if it is not said of all."""
    messages = dict.fromkeys(flag["message"] for _, metrics in results for flag in metrics.get("flags", ()))
    named = [(label.removesuffix(MASKED), metrics) for label, metrics in results]
    return [found for message in messages for found in said(named, functools.partial(_if_flagged, message))]


def _if_flagged(message: str, metrics: Metrics) -> str:
    return message if any(flag["message"] == message for flag in metrics.get("flags", ())) else ""


def verdict(metrics: Metrics) -> str:
    """Return what an evaluation found, in a sentence for those who do not know the field's words."""
    if metrics.get("masked"):
        return (
            "This classifier hides from attacks instead of withstanding them, and its accuracies under attack must "
            f"not be used: under the attack it was first tested with, {_share(metrics, 'A_rob')} of the images are "
            f"classified correctly, and under stronger attacks {_share(metrics, 'A_strong')}."
        )
    name = "A_strong" if "A_strong" in metrics else "A_rob"
    if name not in metrics:
        return ""
    low, high = interval(metrics, name) or (metrics[name], metrics[name])
    base = 1000 if 0 < high - low < FEW_POINTS else 100
    ends = f" (95 % interval {_count(1 - high, base)} to {_count(1 - low, base)})" if low < high else ""
    clean = f"; without an attacker {_count(1 - metrics['A_nat'], base)} are" if "A_nat" in metrics else ""
    found = (
        f"Of {base:,} images, at least {_count(1 - metrics[name], base)}{ends} are misclassified when an attacker may "
        f"{_allowed(metrics)}{clean}."
    )
    one = " Only one attack was tried: the accuracy under attack is an upper bound, and a better attack may lower it."
    return found + one * (name == "A_rob")


def _count(share: float, base: int) -> str:
    """Return so many of `base` images, in whole numbers."""
    count = round(share * base)
    return "fewer than 1" if count == 0 and share > 0 else f"{count:,}"


def _share(values: Metrics, name: str) -> str:
    """Return an accuracy in percent, with the decimals that its interval allows."""
    return f"{percent(values[name], *(interval(values, name) or ()))} %"


def _allowed(metrics: Metrics) -> str:
    attack = metrics.get("attack", {})
    return _MAY[attack["norm"]].format(**attack) if attack.get("norm") in _MAY else "change an image a little"


def conditions(metrics: Metrics) -> str:
    """Return the images, the attack and the suite of an evaluation."""
    parts = []
    if "examples" in metrics:
        of = [f"of {metrics['dataset'].rstrip('/')}"] if metrics.get("dataset") else []
        parts.append(" ".join([f"{metrics['examples']:,}", *filter(None, [metrics.get("split")]), "images", *of]) + ".")
    attack = metrics.get("attack", {})
    if "epsilon" in attack:
        size = f" of {attack['step_size']:g}" if "step_size" in attack else ""
        steps = f", {attack['steps']} steps{size}" if "steps" in attack else ""
        name = f"{attack['norm']} {attack.get('name', '')}".strip()
        parts.append(f"Test attack: {name}, epsilon {attack['epsilon']:g}{steps}{restarts_of(attack)}.")
    suite = metrics.get("suite")
    parts.append(f"Stronger attacks: suite {suite['version']}." if suite else "No stronger attacks.")
    return " ".join(parts)


def restarts_of(attack: Metrics) -> str:
    """Return how many restarts an attack has, as it follows its steps; nothing for one attempt."""
    return f", {attack['restarts']} restarts" if attack.get("restarts", 1) > 1 else ""


def alpha(metrics: Metrics) -> str:
    """Return what the curve over alpha_test shows."""
    entries = metrics["non_uniform"]
    if not entries or "A_rob" not in metrics:
        return ""
    last = max(entries, key=lambda entry: entry["alpha_test"])
    return (
        f"Of the images that an attacker picks at random {_share(metrics, 'A_rob')} are classified correctly under the "
        f"test attack; of those that one picks who prefers fragile images (alpha_test {last['alpha_test']:g}), "
        f"{_share(last, 'A_sa')}."
    )


def budget(metrics: Metrics) -> str:
    """Return what the curve over the share of picked images shows, at a tenth of the images."""
    if not metrics.get("budget"):
        return ""
    parts = []
    for curve in metrics["budget"]:
        point = min(curve["points"], key=lambda point: abs(point["images"] / metrics["examples"] - 0.1))
        accuracy = percent(point["accuracy"], *point["interval"])
        parts.append(f"{accuracy} % of {point['images']:,} images picked {CHOOSERS[curve['chooser']][0]}")
    return f"Under all attacks {', '.join(parts)} stay correct."


def threat(metrics: Metrics) -> str:
    """Return what the curve over radii shows."""
    found = metrics.get("threat")
    if not found:
        return ""
    median, worst = found.get("median"), found.get("worst")
    parts = [] if median is None else [f"half of the images are broken by a change of {median:.3g} or less"]
    if worst:
        first = min(worst, key=lambda entry: entry["fraction"])
        parts.append(f"the most fragile {100 * first['fraction']:g} % by one of {first['radius']:.3g} on average")
    text = ", ".join(parts)
    return f"{text[:1].upper()}{text[1:]}." if parts else ""


def confidence(metrics: Metrics) -> str:
    """Return what the curve over confidence shows: how far temperature alone moves A_sa."""
    if not metrics.get("confidence") or not metrics["non_uniform"]:
        return ""
    entries = [strongest(point) for point in metrics["confidence"]["curve"]]
    values = sorted(entry["A_sa"] for entry in entries)
    return (
        f"On the smallest margins that any attack found, A_sa({entries[0]['alpha_test']:g}) goes from "
        f"{100 * values[0]:.0f} % to {100 * values[-1]:.0f} % by temperature alone; as trained, the mean top "
        f"probability is {100 * metrics['confidence']['top_probability']:.0f} %."
    )


def suite(metrics: Metrics) -> str:
    """Return what each attack of the suite has left."""
    after = after_each(metrics)
    if not after:
        return ""
    ends = metrics["suite"].get("accuracy_interval", ())
    (clean, before), *attacks = after.items()
    steps = ", ".join(f"{percent(value, *ends)} % after {name}" for name, value in attacks)
    return f"{percent(before, *ends)} % of the images are classified correctly when {clean}, {steps}."


def classes(metrics: Metrics) -> str:
    """Return the weakest and the strongest class, and the worst one if it was chosen before."""
    entries = metrics.get("classes")
    if not entries:
        return ""
    name = accuracy_of_classes(entries)
    ordered = shown_classes(entries)
    first, last = ordered[0], ordered[-1]
    text = (
        f"Class {first['class']} is the weakest ({_share(first, name)}) and class {last['class']} the strongest "
        f"({_share(last, name)})."
    )
    worst = metrics.get("worst_class")
    if not worst:
        return text
    chosen = f"Class {worst['class']} was chosen beforehand, on {worst['chosen_from']:,} {worst['chosen_on']} images"
    return f"{text} {chosen}: {name} {_share(worst, name)} on its {worst['examples']:,} images here."
