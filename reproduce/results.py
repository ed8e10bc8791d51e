"""Results of finished rows, a small file for each model, budget and seed: all that the tables need."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from reproduce.rows import Model
from trainers.comparison.grouping import Run, mean_of
from wmr_tf.saving import read_json
from wmr_tf.untrusted import well_formed

_ACCURACIES = ("A_nat", "A_rob", "A_strong")
_KEPT = ("examples", "attack", "masked", *_ACCURACIES, *(f"{name}_stderr" for name in _ACCURACIES))
_KEPT_BY_ALPHA = ("alpha_test", "A_sa", "A_sa_stderr", "A_tr", "A_tr_stderr")
_FIX = "Remove the file: the row is run again."

_EPOCH = re.compile(r"; ([\d.]+) s of the epoch's ([\d.]+) s$", re.MULTILINE)
"""How a trainer's line on an epoch ends: seconds of its validation, and of all of it."""

_WARM_START = re.compile(r"^The warm start took ([\d.]+) s$", re.MULTILINE)


def file_of(folder: Path, model: Model, budget: str, seed: int | str) -> Path:
    """Return the file of a result."""
    return folder / f"{model.dataset}-{model.name}-{budget}-seed{seed}.json"


def kept_metrics(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Return of metrics.json what tables need."""
    by_alpha = [{name: entry[name] for name in _KEPT_BY_ALPHA} for entry in metrics["non_uniform"]]
    return {**{name: metrics[name] for name in _KEPT}, "non_uniform": by_alpha}


def trained_seconds(log: str) -> float | None:
    """Return how long a training took without its validation, by what the trainer printed; None if that is gone.

    An epoch that was stopped and gone on with counts with its last part, and so does a warm start.

    Example:
        >>> trained_seconds("The warm start took 8.5 s\\nA_tr 70.00%; 2.0 s of the epoch's 12.5 s")
        19.0
    """
    trained = sum(float(whole) - float(validation) for validation, whole in _EPOCH.findall(log))
    warm = sum(map(float, _WARM_START.findall(log)))
    return round(trained + warm, 1) or None


def read(path: Path) -> dict[str, Any]:
    """Return the result in a file.

    Raises:
        InvalidInput: If it is none.
    """
    with well_formed("result", got=path, expected="the result of a row", fix=_FIX):
        found = read_json(path, "result", fix=_FIX)
        at_alpha(found["metrics"], None), summary([found]), found["settings"].items(), found["commands"][:]
        float(found["passes"]), float(found["minutes_by_calculation"]), float(found["seconds"] or 0), found["epochs"]
        return found


def of_model(folder: Path, model: Model, budget: str) -> list[dict[str, Any]]:
    """Return the results of a model in the order of their seeds.

    Raises:
        InvalidInput: If one of the files is no result.
    """
    return sorted(map(read, folder.glob(file_of(folder, model, budget, "*").name)), key=lambda found: found["seed"])


def summary(results: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the metrics of several seeds in the form of metrics.json: means, and deviations for errors.

    Those of the suite are "A_suite", on its own images.

    Args:
        results: Those of one model, at least one.
    """
    runs = []
    for found in results:
        suite = found["suite"]
        share, images = suite["accuracy"], suite["examples"]
        error = (share * (1 - share) / images) ** 0.5
        attacked = {"A_suite": share, "A_suite_stderr": error, "suite_examples": images}
        runs.append(Run("", {**found["metrics"], **attacked, "seed": found["seed"]}, {}, None))
    return mean_of(runs)


def at_alpha(metrics: Mapping[str, Any], alpha_test: float | None) -> dict[str, Any]:
    """Return all accuracies of metrics, with A_sa and A_tr of one alpha_test if it is not None."""
    entries = {entry["alpha_test"]: entry for entry in metrics["non_uniform"]}
    return {**metrics, **({} if alpha_test is None else entries[alpha_test])}
