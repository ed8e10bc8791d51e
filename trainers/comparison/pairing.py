"""Defences against the first of them, on the same images: differences, their intervals, and McNemar's test."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np

from trainers.comparison.grouping import Run
from trainers.runs.folder import IMAGES
from trainers.runs.images import Images
from wmr_tf.checks import InvalidInput
from wmr_tf.evaluation import weighted_accuracy
from wmr_tf.evaluation.statistics import Difference, paired, paired_weighted, welch
from wmr_tf.evaluation.temperature import mean_top_probability


def why_unpaired(first: Sequence[Run], other: Sequence[Run]) -> str:
    """Return why two defences have no differences to show, nothing if they have."""
    if len(first) == len(other) == 1:
        missing = [run.folder for run in (*first, *other) if run.images is None]
        return f"{missing[0]} has no {IMAGES}, evaluate it again" if missing else ""
    is_possible = min(len(first), len(other)) > 1
    return "" if is_possible else "one of them is a single seed, name the runs of two seeds or more"


def differences(first: Sequence[Run], other: Sequence[Run]) -> Iterator[dict[str, Any]]:
    """Yield the differences of a defence to the first, in the form that `report.difference_table` takes.

    Those of single runs are paired by image, those of groups are Welch's over the seeds. The last ones are of A_sa
    under all attacks, where each image is at the smallest margin that test attack and suite found, as trained and at
    equal confidence: there the logits of each run are scaled to the mean top probability that the first has on clean
    images.

    Args:
        first: The runs of the first defence.
        other: Those of the other: one if the first has one, else two or more.
    """
    here, there = ([run.images for run in runs if run.images] for runs in (first, other))
    if len(first) == 1:
        yield from _of_images(here[0], there[0])
    else:
        yield from _of_seeds(*([_accuracies(run.metrics) for run in runs] for runs in (first, other)))
    if len(here) == len(first) and len(there) == len(other):
        alphas = [entry["alpha_test"] for entry in first[0].metrics["non_uniform"]]
        yield from _under_all_attacks(here, there, alphas)


def _of_images(first: Images, other: Images) -> Iterator[dict[str, Any]]:
    correct, others = first.correct(), other.correct()
    for name in _shared(correct, others):
        tested = paired(correct[name], others[name])
        yield {**_named(name, tested.difference), "p_value": tested.p_value}
    margins, other_margins = first.weighted(), other.weighted()
    for name, alpha in _shared(margins, other_margins):
        found = paired_weighted(margins[name, alpha], other_margins[name, alpha], alpha)
        yield _named(f"{name}({alpha:g})", found)


def _of_seeds(first: Sequence[dict[str, float]], other: Sequence[dict[str, float]]) -> Iterator[dict[str, Any]]:
    for name in _shared(*first, *other):
        yield _named(name, welch([each[name] for each in first], [each[name] for each in other]))


def _under_all_attacks(
    first: Sequence[Images], other: Sequence[Images], alphas: Sequence[float]
) -> Iterator[dict[str, Any]]:
    margins = {"under all attacks": [[images.smallest_margins() for images in each] for each in (first, other)]}
    top = float(np.mean([mean_top_probability(images.clean_logits) for images in first]))
    with suppress(InvalidInput):  # a classifier that says the same of all images has no other confidence
        equal = [[images.smallest_margins(top) for images in each] for each in (first, other)]
        margins["at equal confidence"] = equal
    for how, (here, there) in margins.items():
        for alpha in alphas:
            if len(first) == 1:
                found = paired_weighted(here[0], there[0], alpha)
            else:
                found = welch(*([weighted_accuracy(each, alpha).value for each in group] for group in (here, there)))
            yield _named(f"A_sa({alpha:g}) {how}", found)


def _accuracies(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Return the accuracies of metrics.json by name, such as "A_rob" and "A_sa(2)"."""
    plain = {name: metrics[name] for name in ("A_nat", "A_rob", "A_strong") if name in metrics}
    return plain | {
        f"{name}({entry['alpha_test']:g})": entry[name] for entry in metrics["non_uniform"] for name in ("A_sa", "A_tr")
    }


def _shared(first: Mapping[Any, Any], *others: Mapping[Any, Any]) -> list[Any]:
    return [key for key in first if all(key in other for other in others)]


def _named(name: str, found: Difference) -> dict[str, Any]:
    return {"accuracy": name, **found._asdict()}
