"""Which runs are one defence, trained with several seeds, and what each defence is called in a comparison."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from trainers.comparison.images import Images
from trainers.runs.folder import CONFIG, METRICS, metrics_of
from trainers.runs.naming import defence, title
from trainers.settings.config import Evaluation, Experiment
from wmr_tf import report
from wmr_tf.checks import require
from wmr_tf.evaluation.statistics import Seeds
from wmr_tf.saving import read_json
from wmr_tf.untrusted import well_formed

_OF_ONE_RUN = {"budget", "classes", "confidence", "threat", "worst_class"}
"""What has no mean over seeds: each has classes, radii and confidences of its own."""

_SHOWN = 3
"""How many differing settings go into a defence's name; of more, its folder says which it is."""


@dataclasses.dataclass(frozen=True)
class Run:
    """An evaluation that is compared.

    Attributes:
        folder: As it was named.
        metrics: Its metrics.json.
        settings: The settings that it was trained with, as far as they are known.
        images: What is known of every image, None if nothing is.
    """

    folder: str
    metrics: dict[str, Any]
    settings: dict[str, Any]
    images: Images | None

    @classmethod
    def read(cls, folder: str) -> "Run":
        """Return the run in a folder.

        Raises:
            InvalidInput: If there is no metrics.json in it, or it is not one, or another file of it is broken.
        """
        metrics = metrics_of(folder)
        path, fix = Path(folder) / METRICS, "Name the folders of finished runs."
        with well_formed("run", got=path, expected="metrics of an evaluation", fix=fix):
            conditions(metrics), title(metrics), report.tables([(defence(metrics), metrics)])
        # How it was evaluated is another matter, see `conditions`, and has names that are those of results too.
        names_of = [{field.name for field in dataclasses.fields(each)} for each in (Experiment, Evaluation)]
        known = names_of[0] - names_of[1] | {"dataset"}
        settings = {**metrics, **_config(Path(folder), metrics)}
        trained_with = {name: settings[name] for name in sorted(known & settings.keys())}
        return cls(folder, metrics, trained_with, Images.read(Path(folder), metrics))


def _config(folder: Path, metrics: dict[str, Any]) -> dict[str, Any]:
    """Return the config.json beside metrics.json, or beside the checkpoint; nothing if there is none."""
    beside_the_checkpoint = Path(metrics.get("checkpoint") or "").parent
    folders = [folder, *([beside_the_checkpoint] if beside_the_checkpoint.name else [])]
    found = next((each / CONFIG for each in folders if (each / CONFIG).is_file()), None)
    return read_json(found, CONFIG, fix="Fix it, or move it away.") if found else {}


def conditions(metrics: dict[str, Any]) -> dict[str, Any]:
    """Return what must be alike for two evaluations to be compared: the images and the attacks, but not their seeds.

    Older metrics have neither a suite nor the hash of the data.
    """
    settings = {"precision": "float32", **metrics["attack"]}  # older files do not name it
    attack = {f"attack {name}": value for name, value in settings.items() if name != "seed"}
    suite = metrics.get("suite", {})
    later = {f"suite {name}": suite[name] for name in ("version", "norm", "epsilon") if name in suite}
    later |= {"hash of the data": metrics["hashes"]["data"][:12]} if "hashes" in metrics else {}
    return {name: metrics[name] for name in ("dataset", "split", "examples")} | attack | later


def check_alike(runs: Sequence[Run]) -> None:
    """Check that all runs were evaluated on the same images by the same attacks.

    Raises:
        InvalidInput: If they were not; the message names the difference, and the run.
    """
    first, *others = runs
    here = conditions(first.metrics)
    for other in others:
        there = conditions(other.metrics)
        for name in [*here, *there]:
            is_later = name.startswith(("suite ", "hash "))
            pair = here.get(name), there.get(name)
            require(
                pair[0] == pair[1] or (is_later and None in pair),
                "runs",
                got=f"{name} {pair[0]} in {first.folder!r} and {pair[1]} in {other.folder!r}",
                expected="the same images and attack for all",
                fix="Compare runs that were evaluated alike.",
            )


def grouped(runs: Sequence[Run]) -> list[list[Run]]:
    """Return the runs of each defence: those that differ in nothing but the seed, in the order of their first ones.

    Runs of which two have the same seed, or none that is known, stay alone.
    """
    groups: dict[str, list[Run]] = {}
    for run in runs:
        alphas = [entry["alpha_test"] for entry in run.metrics["non_uniform"]]
        key = json.dumps([run.settings, alphas, "suite" in run.metrics])
        groups.setdefault(key, []).append(run)
    found = []
    for group in groups.values():
        seeds = {run.metrics.get("seed") for run in group} - {None}
        found += [group] if len(seeds) == len(group) else [[run] for run in group]
    return found


def labels_of(groups: Sequence[Sequence[Run]]) -> list[str]:
    """Return a name for each group of runs: the defence's, and for those of the same name what tells them apart."""
    names = [defence({**group[0].metrics, "masked": False}) for group in groups]
    labels = []
    for name, group in zip(names, groups, strict=True):
        namesakes = [other[0] for other, theirs in zip(groups, names, strict=True) if theirs == name]
        apart = f" [{_difference(group[0], namesakes)}]" if len(namesakes) > 1 else ""
        seeds = f", {len(group)} seeds" if len(group) > 1 else ""
        masked = " MASKED" if any(run.metrics.get("masked") for run in group) else ""
        labels.append(f"{name}{apart}{seeds}{masked}")
    return labels


def _difference(run: Run, namesakes: Sequence[Run]) -> str:
    """Return the settings in which a run differs from others of its name, or its folder if that does not tell them."""
    known = set.intersection(*(set(other.settings) for other in namesakes))
    differing = [name for name in sorted(known) if len({_setting(other, name) for other in namesakes}) > 1]
    said = [", ".join(_setting(other, name) for name in differing) for other in namesakes]
    is_told = len(set(said)) == len(said) and len(differing) <= _SHOWN
    return ", ".join(_setting(run, name) for name in differing) if is_told else run.folder


def _setting(run: Run, name: str) -> str:
    value = run.settings[name]
    return f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}"


def mean_of(group: Sequence[Run]) -> dict[str, Any]:
    """Return the metrics of a group in the form of metrics.json: means over the seeds, and deviations for errors."""
    if len(group) == 1:
        return group[0].metrics
    metrics = [run.metrics for run in group]
    flags = [flag for each in metrics for flag in each.get("flags", ())]
    masked = any(each.get("masked") for each in metrics)
    shared = [{name: value for name, value in each.items() if name not in _OF_ONE_RUN} for each in metrics]
    return {**_mean(shared), "flags": flags, "masked": masked, "seed": None, "seeds": len(group)}


def _mean(values: Sequence[Any]) -> Any:
    """Return the mean of numbers, and of dictionaries and lists of them entry by entry; of others the first."""
    first = values[0]
    if isinstance(first, dict):
        names = [name for name in first if all(name in each for each in values) and not name.endswith("interval")]
        columns = {name: [each[name] for each in values] for name in names}
        errors = [name for name in names if name.endswith("_stderr")]
        return {name: _mean(column) for name, column in columns.items()} | {
            name: Seeds.of(columns[name.removesuffix("_stderr")]).deviation for name in errors
        }
    if isinstance(first, list):
        return [_mean(entries) for entries in zip(*values, strict=False)]
    is_number = all(isinstance(each, int | float) for each in values)
    return Seeds.of(values).mean if is_number and values.count(first) < len(values) else first
