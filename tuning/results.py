"""The outcome of a search: a table and a picture of all trials, the best one's command, its test on test images."""

import csv
import dataclasses
import shlex
from pathlib import Path
from typing import Any

import keras_tuner as kt

from trainers.cli import as_flag
from trainers.runs.folder import BEST, FILES, METRICS, write_config
from trainers.runs.naming import training_facts
from trainers.runs.testing import evaluate, prepare
from trainers.settings.config import Experiment
from trainers.usage import as_text
from tuning.objective import Objective
from tuning.space import Space
from tuning.tuner import FAILURE, SearchTuner
from wmr_tf import report
from wmr_tf.checks import one_line
from wmr_tf.data.own import address, is_own
from wmr_tf.evaluation.outcomes import hash_of_weights
from wmr_tf.extras import is_installed
from wmr_tf.fit.averaging import averaged
from wmr_tf.report.tables import ACCURACIES
from wmr_tf.saving import load_classifier, read_json, save_classifier, write_json, write_text, written_whole

PICTURE = "tradeoff.png"
BEST_TRIAL = "best"
"""The folder of the best trial, like that of a run."""


def rows_of(oracle: kt.Oracle, space: Space, trials: Path) -> list[dict[str, Any]]:
    """Return for each trial its number, searched values, objective, accuracies, epoch, status and why it failed."""
    rows = []
    for trial in sorted(oracle.trials.values(), key=lambda trial: int(trial.trial_id)):
        failure = trials / f"trial_{trial.trial_id}" / FAILURE
        is_complete = trial.status == "COMPLETED"
        names = trial.metrics.metrics if is_complete else ()
        measured: dict[str, Any] = {name: trial.metrics.get_best_value(name) for name in names}
        rows.append(
            {
                "trial": int(trial.trial_id),
                **{
                    name: as_text(value) if isinstance(value, tuple) else value
                    for name, value in space.values(trial.hyperparameters.copy()).items()
                },
                "objective": trial.score if is_complete else None,
                **{name: measured.get(f"val_{name}") for name in ACCURACIES},
                "epoch": int(measured["epoch"]) if is_complete else None,
                "status": trial.status.lower(),
                "reason": one_line(failure.read_text().partition("\n")[0]) if failure.is_file() else "",
            }
        )
    return rows


def best_trial(oracle: kt.Oracle) -> Any | None:
    """Return the completed trial of the highest objective, None if there is none."""
    completed = [trial for trial in oracle.get_best_trials() if trial.status == "COMPLETED"]
    return completed[0] if completed else None


def table(rows: list[dict[str, Any]], space: Space, objective: Objective) -> str:
    """Return the Markdown table of all trials; accuracies are of validation images."""
    names = [item.name for item in space.searched]
    header = ["trial", *names, f"{objective.name} (%)", *(f"{name} (%)" for name in ACCURACIES), "epoch", "status"]
    cells = [
        [
            str(row["trial"]),
            *(_cell(row.get(name), "g") for name in names),
            *(_cell(row[name], ".2%").rstrip("%") for name in ("objective", *ACCURACIES)),
            _cell(row["epoch"], "d"),
            f"{row['status']}: {row['reason']}" if row["reason"] else row["status"],
        ]
        for row in rows
    ]
    return report.format_table(header, cells, markdown=True)


def write(rows: list[dict[str, Any]], space: Space, objective: Objective, folder: Path) -> None:
    """Write trials.json, trials.csv and trials.md."""
    write_json(folder / "trials.json", rows)
    write_text(folder / "trials.md", table(rows, space, objective) + "\n")
    with written_whole(folder / "trials.csv") as unfinished, open(unfinished, "w", newline="") as file:
        writer = csv.DictWriter(file, list(dict.fromkeys(name for row in rows for name in row)))
        writer.writeheader()
        writer.writerows(rows)


def draw(rows: list[dict[str, Any]], space: Space, objective: Objective, folder: Path, title: str) -> None:
    """Write the picture, if there is a completed trial with the setting on its horizontal axis."""
    names = [item.name for item in space.searched]
    x = "alpha_train" if "alpha_train" in names else names[0]
    shown = [row for row in rows if row["objective"] is not None and x in row]
    if shown and is_installed("report"):
        report.plot_search(shown, folder / PICTURE, x=x, objective=objective.name, title=title)


def command(space: Space, values: dict[str, Any]) -> str:
    """Return the command that trains a trial's experiment; it names neither devices nor folder."""
    left_out = {"output_dir", "strategy"}
    settings = {name: value for name, value in space.settings(values).items() if name not in left_out}
    door = "custom" if is_own(address(settings["dataset"])) else settings.pop("dataset")
    return shlex.join(["python", "-m", f"trainers.{door}", *(as_flag(*pair) for pair in settings.items())])


def difference_from_trial(tuner: str, objective: Objective) -> str:
    """Return in one sentence how a run of the best trial's command differs from the trial, "" if it does not."""
    reasons = []
    if tuner == "hyperband":
        reasons.append("trains from scratch for all epochs, where Hyperband stops trials early and goes on with others")
    if objective.name != Experiment.select:
        reasons.append(f"keeps the epoch of highest {Experiment.select}, not {objective.name}")
    return f"A run of this command {' and '.join(reasons)}." if reasons else ""


def evaluate_best(tuner: SearchTuner, space: Space, trial: Any, folder: Path) -> None:
    """Evaluate a trial's best epoch on test images, unless that has been done, in a folder like that of a run."""
    best = folder / BEST_TRIAL
    metrics = best / METRICS
    if metrics.exists() and read_json(metrics, METRICS, fix="Remove it.").get("trial") == trial.trial_id:
        print(f"Trial {int(trial.trial_id)} has been evaluated on test images before: {metrics}")
        return
    values = space.values(trial.hyperparameters.copy())
    experiment = space.experiment(values)
    best.mkdir(exist_ok=True)
    model = tuner.load_model(trial)
    with averaged(model):  # as it was scored
        _forget_another(best, hash_of_weights(model.classifier))
        save_classifier(model.classifier, best / BEST)
    write_config(best, experiment, command=command(space, values))
    print(f"Evaluating trial {int(trial.trial_id)} on test images", flush=True)
    facts = {"checkpoint": BEST, "trial": trial.trial_id, **training_facts(dataclasses.asdict(experiment))}
    test = prepare(experiment, tuner.hypermodel.splits(experiment))
    evaluate(experiment, test, load_classifier(best / BEST), best, facts)


def _forget_another(best: Path, weights: str) -> None:
    """Delete what was found of another classifier, which was the best before the search went on."""
    path = best / BEST
    if path.exists() and hash_of_weights(load_classifier(path)) != weights:
        for name in reversed(FILES):  # the classifier last, by which they are known
            (best / name).unlink(missing_ok=True)


def _cell(value: Any, form: str) -> str:
    if value is None:
        return "-"
    return format(value, form) if isinstance(value, (int, float)) else str(value)
