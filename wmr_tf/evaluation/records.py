"""What an evaluation knows of every image: in a file, from which others compute, and as pictures in its report."""

from __future__ import annotations

import datetime
import json
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from wmr_tf import report
from wmr_tf.checks import one_of, refuse, require, writable_file
from wmr_tf.evaluation.outcomes import load_outcomes, logit_margins
from wmr_tf.report.words import MASKED
from wmr_tf.saving import written_whole
from wmr_tf.untrusted import in_print, parse_json

if TYPE_CHECKING:  # late elsewhere: who reads images.npz does not wait for TensorFlow
    from wmr_tf.evaluation.diagnostics import Diagnosis
    from wmr_tf.evaluation.robustness import Robustness

SHOWN = 6
"""How many images of each kind a report shows."""


def save_images(
    result: Robustness, path: str | os.PathLike[str], shown: Sequence[Mapping[str, Any]] | None = None
) -> None:
    """Write labels, logits and outcomes of every image, in one move; `load_images` reads them.

    Args:
        result: Of `evaluate_robustness`.
        path: The file (.npz), replaced if it is there.
        shown: The pictures of a report; those of `pictures` if not given.

    Raises:
        InvalidInput: If the result has no logits.

    Example:
        >>> result = wmr_tf.evaluate_robustness(classifier, test, attack, verbose=0)
        >>> save_images(result, "images.npz")
        >>> hashes, of_images = load_images("images.npz")
        >>> hashes == result.hashes, bool((of_images["is_robust"] == result.is_robust).all())
        (True, True)
    """
    logits = result.logits
    if logits is None:
        refuse("result", got="one without logits", expected="what evaluate_robustness returns", fix="Evaluate anew.")
    arrays: dict[str, Any] = {
        "labels": logits.labels,
        "clean_logits": logits.clean,
        "logits": logits.attacked,
        "losses": result.losses,
        "alphas": np.array(list(logits.weighted), np.float64),
        "weighted_logits": np.array(list(logits.weighted.values()), np.float32),
        "zero_gradients": np.array(result.zero_gradients),
    }
    if result.suite is not None:
        arrays |= {"strong_logits": result.suite.outcomes.logits, "is_robust": result.is_robust}
    if result.radii is not None:
        arrays["radii"] = result.radii.values
    if shown := pictures(result) if shown is None else shown:
        facts = [
            {name: value for name, value in each.items() if name not in ("clean", "adversarial")} for each in shown
        ]
        arrays["shown"] = json.dumps(facts)
        arrays |= {f"shown_{kind}": np.stack([each[kind] for each in shown]) for kind in ("clean", "adversarial")}
    with written_whole(path) as unfinished, open(unfinished, "wb") as file:
        np.savez_compressed(file, identity=json.dumps(dict(result.hashes)), **arrays)


def load_images(path: str | os.PathLike[str]) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Return digests of weights and data, and arrays by name, from a file that `save_images` wrote.

    Args:
        path: The file, opened without pickle.

    Returns:
        `labels`, `clean_logits`, `logits`, `losses`, `alphas`, `weighted_logits` `[alphas, images, classes]`, where
        there was a suite `strong_logits`, those of the smallest margin, `is_robust` and what `pictures_in` reads, and
        where they were measured `radii`.

    Raises:
        InvalidInput: If it is no such file.
    """
    return load_outcomes(path, "images.npz", fix="Evaluate the model again, or move the file away to do without.")


def pictures_in(arrays: Mapping[str, np.ndarray]) -> list[dict[str, Any]]:
    """Return what `pictures` had returned, from the arrays of a file; nothing if there was nothing to show.

    Args:
        arrays: As `load_images` returns them.

    Raises:
        KeyError, TypeError, ValueError: If they do not fit one another.
    """
    if "shown" not in arrays:
        return []
    images = zip(arrays["shown_clean"], arrays["shown_adversarial"], strict=True)
    facts = in_print(parse_json(str(arrays["shown"])))
    return [
        {**each, "clean": clean, "adversarial": adversarial}
        for each, (clean, adversarial) in zip(facts, images, strict=True)
    ]


def save_report(
    results: Mapping[str, Robustness],
    path: str | os.PathLike[str],
    *,
    diagnoses: Mapping[str, Diagnosis] | None = None,
    facts: Mapping[str, Any] | None = None,
) -> None:
    """Write the report of one or several classifiers as one page, see `wmr_tf.report.write_report`.

    Args:
        results: Of `evaluate_robustness`, by what the report calls each classifier; all on the same images, under the
            same attack.
        path: The HTML file, in an existing folder; it is replaced in one move.
        diagnoses: Of `diagnose`, by the same names, for those that have one; what they flag is among the alarms.
        facts: What else the report says in its settings, such as "dataset", "split" or "command".

    Raises:
        InvalidInput: If there is no result, they are of other images or attacks, one has no accuracies, a diagnosis is
            of none of them, or the file cannot be written.

    Example:
        >>> result = wmr_tf.evaluate_robustness(classifier, test, attack, verbose=0)
        >>> save_report({"my classifier": result}, "report.html", facts={"dataset": "my images"})
    """
    from wmr_tf.evaluation.robustness import Robustness

    are_named = isinstance(results, Mapping) and all(isinstance(each, Robustness) for each in results.values())
    got = "none" if are_named else f"a {type(results).__name__} of other things"
    expected, fix = "results of evaluate_robustness by name", 'Pass {"my classifier": result}.'
    require(are_named and bool(results), "results", got=got, expected=expected, fix=fix)
    page = writable_file("path", path)
    _check_comparable(results)
    described: dict[str, dict[str, Any]] = {
        name: {**(facts or {}), **result.metrics(), "date": datetime.date.today().isoformat()}
        for name, result in results.items()
    }
    for name, diagnosis in (diagnoses or {}).items():
        metrics = described[one_of("diagnosis", name, tuple(results))]
        metrics |= {"diagnosis": diagnosis.metrics(), "flags": [*metrics["flags"], *diagnosis.flags]}
    rows = [(name + MASKED * bool(metrics.get("masked")), metrics) for name, metrics in described.items()]
    header, cells = report.worst_case_table(rows)
    tables = [(report.WORST_CASES, header, cells)] if cells else []
    report.write_report(page, rows, pictures=list(map(pictures, results.values())), tables=tables)


def _check_comparable(results: Mapping[str, Robustness]) -> None:
    compared = {name: _conditions(result) for name, result in results.items()}
    (first, conditions), *others = compared.items()
    fix = "Evaluate all on the same images under the same attacks, or write a report of each."
    for name, found in others:
        for what, expected in conditions.items():
            got = f"{name!r} with another {what}"
            require(found[what] == expected, "results", got=got, expected=f"the {what} of {first!r}", fix=fix)


def _conditions(result: Robustness) -> dict[str, Any]:
    """Return what two results must share to be compared, by what a message calls it."""
    return {
        "set of images": result.hashes.get("data"),
        "test attack": (result.attack, dict(result.settings)),
        "suite": result.suite and result.suite.settings,
    }


def pictures(result: Robustness, *, count: int = SHOWN) -> list[dict[str, Any]]:
    """Return the hardest and the first broken images, with what the attacks made of them.

    Hardest are the correctly classified images whose attacked margin is smallest: the paper's attacker picks them most.
    First broken are those of the smallest radius; where none was measured, those that the first attack broke.

    Args:
        result: Of `evaluate_robustness`, with a suite; without one, and of inputs that are no images, there is nothing
            to show.
        count: How many of each kind.

    Returns:
        For each "why" ("hardest" or "first_broken"), "position", "label", "prediction", "clean" and "adversarial"
        images `[height, width, channels]`, "radius" or None, "margin" and "broken_by".
    """
    if result.suite is None or result.suite.outcomes.clean.ndim != 4:
        return []
    found, radii = result.suite.outcomes, None if result.radii is None else result.radii.values
    margins = logit_margins(found.logits, found.labels)
    runs = np.where(found.broken_by < 0, len(result.suite.stages), found.broken_by)
    orders = {"hardest": np.lexsort([margins]), "first_broken": np.lexsort([margins, runs if radii is None else radii])}
    is_correct = found.robust_after(-1)
    broken_by = result.suite.broken_by

    def shown(why: str, place: int) -> dict[str, Any]:
        return {
            "why": why,
            "position": int(place),
            "label": int(found.labels[place]),
            "prediction": int(found.logits[place].argmax()),
            "clean": found.clean[place],
            "adversarial": found.adversarial[place],
            "radius": None if radii is None else float(radii[place]),
            "margin": float(margins[place]),
            "broken_by": broken_by[place],
        }

    return [shown(why, place) for why, order in orders.items() for place in order[is_correct[order]][:count]]
