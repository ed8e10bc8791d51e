"""Which runs are one defence, trained with several seeds, and what each defence is called in a comparison."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from trainers.runs.folder import CONFIG, METRICS, metrics_of
from trainers.runs.images import Images
from trainers.runs.naming import defence, title
from trainers.settings.config import Experiment
from trainers.settings.evaluation import Evaluation
from wmr_tf import report
from wmr_tf.checks import require
from wmr_tf.data.own import is_own
from wmr_tf.evaluation.statistics import Seeds
from wmr_tf.report.words import MASKED
from wmr_tf.saving import read_json
from wmr_tf.untrusted import well_formed

_HASH = "hash of the data"

_OF_ONE_RUN = {"budget", "classes", "confidence", "threat", "worst_class"}
"""What has no mean over seeds: each has classes, radii and confidences of its own."""


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

    @property
    def epsilon(self) -> float:
        """The radius of the test attack."""
        return self.metrics["attack"]["epsilon"]

    @property
    def defence(self) -> str:
        """What is the same of all runs that differ in nothing but the seed, and the radius that they are tested at."""
        alphas = [entry["alpha_test"] for entry in self.metrics["non_uniform"]]
        model = (
            self.metrics["hashes"]["weights"] if not self.metrics.get("method") and "hashes" in self.metrics else None
        )
        return json.dumps([self.settings, alphas, "suite" in self.metrics, model])


def _config(folder: Path, metrics: dict[str, Any]) -> dict[str, Any]:
    """Return the config.json beside metrics.json, or beside the checkpoint; nothing if there is none."""
    beside_the_checkpoint = Path(metrics.get("checkpoint") or "").parent
    folders = [folder, *([beside_the_checkpoint] if beside_the_checkpoint.name else [])]
    found = next((each / CONFIG for each in folders if (each / CONFIG).is_file()), None)
    return read_json(found, CONFIG, fix="Fix it, or move it away.") if found else {}


def conditions(metrics: dict[str, Any]) -> dict[str, Any]:
    """Return what must be alike for two evaluations to be compared: the images and the attacks, but not their seeds.

    Nor their radius, in multiples of which lengths are. Older metrics have neither a suite nor the hash of the data.
    """
    settings = {"precision": "float32", **metrics["attack"]}  # older files do not name it
    radius = settings.pop("epsilon")
    attack = {f"attack {name}": value for name, value in settings.items() if name != "seed"}
    suite = metrics.get("suite", {})
    later = {f"suite {name}": suite[name] for name in ("version", "norm", "epsilon") if name in suite}
    later |= {_HASH: metrics["hashes"]["data"][:12]} if "hashes" in metrics else {}
    lengths = {"attack step_size", "suite epsilon"}
    found = {name: metrics[name] for name in ("dataset", "split", "examples")} | attack | later
    return {
        name: f"{value / radius:.4g} epsilon" if name in lengths and radius else value for name, value in found.items()
    }


def check_alike(runs: Sequence[Run]) -> None:
    """Check that all runs were evaluated on the same images by the same attacks, of whatever radius.

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
            are_own = name == "dataset" and all(isinstance(each, str) and is_own(each) for each in pair)
            is_path = are_own and _HASH in here  # which tells more than a path
            require(
                pair[0] == pair[1] or (is_later and None in pair) or (is_path and here[_HASH] == there.get(_HASH)),
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
        groups.setdefault(run.defence, []).append(run)
    found = []
    for group in groups.values():
        found += [group] if _have_seeds(group) else [[run] for run in group]
    return found


def _have_seeds(group: Sequence[Run]) -> bool:
    return len({run.metrics.get("seed") for run in group} - {None}) == len(group)


def by_radius(runs: Sequence[Run]) -> list[dict[float, list[Run]]]:
    """Return for each defence its runs by the radius that they were evaluated at, from the smallest on.

    Raises:
        InvalidInput: If a radius has several runs of a defence that are not its seeds.
    """
    found: dict[str, dict[float, list[Run]]] = {}
    for run in sorted(runs, key=lambda run: run.epsilon):
        found.setdefault(run.defence, {}).setdefault(run.epsilon, []).append(run)
    for epsilon, group in (each for curve in found.values() for each in curve.items()):
        require(
            len(group) == 1 or _have_seeds(group),
            "runs",
            got=f"{' and '.join(run.folder for run in group)} at epsilon {epsilon:g}, not told apart by their seeds",
            expected="one run of a defence and seed for each radius",
            fix="Leave one out.",
        )
    first = {run.defence: place for place, run in reversed([*enumerate(runs)])}
    return [found[defence] for defence in sorted(found, key=lambda defence: first[defence])]


def labels_of(groups: Sequence[Sequence[Run]]) -> list[str]:
    """Return a name for each group of runs: the defence's, and a number where several have it; see `runs_table`."""
    names = _names(groups)
    labels = []
    for number, (name, group) in enumerate(zip(names, groups, strict=True), 1):
        apart = f" [{number}]" if names.count(name) > 1 else ""
        seeds = f", {len(group)} seeds" if len(group) > 1 else ""
        labels.append(f"{name}{apart}{seeds}{MASKED * is_masked(group)}")
    return labels


def is_masked(group: Sequence[Run]) -> bool:
    """Return whether a run of a group hides from attacks."""
    return any(run.metrics.get("masked") for run in group)


def runs_table(labels: Sequence[str], groups: Sequence[Sequence[Run]]) -> tuple[str, list[str], list[list[str]]]:
    """Return the table that tells runs apart: caption, header, and for each run its seed, what differs, its folder.

    Args:
        labels: Of the groups, as `labels_of` returns them.
        groups: The runs of each defence.
    """
    names = _names(groups)
    rows = []
    for label, name, group in zip(labels, names, groups, strict=True):
        namesakes = [other[0] for other, theirs in zip(groups, names, strict=True) if theirs == name]
        differs = _difference(group[0], namesakes)
        for run in group:
            seed = run.metrics.get("seed")
            rows.append([label.removesuffix(MASKED), "-" if seed is None else str(seed), differs or "-", run.folder])
    return "The runs", ["Defense", "seed", "what differs", "folder"], rows


def _names(groups: Sequence[Sequence[Run]]) -> list[str]:
    return [defence({**group[0].metrics, "masked": False}) for group in groups]


def _difference(run: Run, namesakes: Sequence[Run]) -> str:
    """Return the settings in which a run differs from others of its name."""
    known = set.intersection(*(set(other.settings) for other in namesakes))
    differing = [name for name in sorted(known) if len({_setting(other, name) for other in namesakes}) > 1]
    return ", ".join(_setting(run, name) for name in differing)


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
