"""Hostile folders: runs that were stopped or have come to their end, and searches."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import keras_tuner as kt

from tests.hostile import Hostile
from tests.hostile.records import NESTED
from trainers.runs.evaluating import facts_beside
from trainers.runs.folder import (
    CHECKPOINTS,
    CONFIG,
    HISTORY,
    LOGS,
    experiment_of,
    read_history,
    run_folder,
    write_config,
)
from trainers.settings.config import Experiment
from tuning.objective import Objective
from tuning.tuner import TRIALS, SearchTuner, make_oracle, opened


def unfinished(change: Callable[[Path], object]):
    """Return a builder of the folder of a run that was stopped, changed."""

    def build(folder: Path) -> Path:
        run = folder / "run"
        (run / CHECKPOINTS).mkdir(parents=True)
        write_config(run, Experiment.of("digits"), command="")
        change(run)
        return run

    return build


def linked(name: str) -> Callable[[Path], object]:
    """Have a run's file be that of another folder, into which going on would write."""

    def change(run: Path) -> None:
        (run.parent / "elsewhere").write_text("of somebody else")
        (run / name).symlink_to(run.parent / "elsewhere")

    return change


def gone_on_with(folder: Path) -> None:
    """Do what `python -m trainers.resume` does before it trains."""
    with run_folder(experiment_of(folder), "digits"):
        pass


def described(path: Path) -> None:
    """Do what an evaluation does with a config.json beside a model."""
    facts_beside(path, "digits")


def facts(content: str):
    """Return a builder of a model's file beside a config.json."""

    def build(folder: Path) -> Path:
        (folder / CONFIG).write_text(content)
        return folder / "best.keras"

    return build


def run(**files: str):
    """Return a builder of a run's folder."""

    def build(folder: Path) -> Path:
        (folder / "run").mkdir()
        for name, content in files.items():
            (folder / "run" / name.replace("_", ".")).write_text(content)
        return folder / "run"

    return build


# A search's trials


class Nothing(kt.HyperModel):
    """Searches one setting."""

    def declare_hyperparameters(self, hp):
        hp.Float("alpha_train", 0.0, 1.0, step=0.5)

    def build(self, hp):
        raise NotImplementedError


def trials(**files: str):
    """Return a builder of the folder of a search with one trial, some of whose files are others."""

    def build(folder: Path) -> Path:
        searcher = reopened(folder)
        searcher.oracle.create_trial("worker")
        searcher.save()
        for name, content in files.items():
            (path,) = (folder / TRIALS).rglob(f"{name}.json")
            path.write_text(content)
        return folder

    return build


def reopened(folder: Path) -> SearchTuner:
    oracle = make_oracle("grid", Objective("val_A_sa"), max_trials=None, epochs=1, seed=0)
    return opened(oracle, Nothing(), folder, images=1000, on_divergence="stop")


HONEST_FOLDERS = {
    "a run's folder": (unfinished(lambda run: None), gone_on_with),
    "a history": (run(history_csv="epoch,loss\n0,\n1,0.5\n"), read_history),
    "a config beside a model": (facts(json.dumps({"method": "trades", "alpha_train": 1.0, "beta": 6.0})), described),
    "a search": (trials(), reopened),
}

FOLDERS = {
    "a config that is no run's": Hostile(
        run(config_json='{"dataset": ["\\u001b[2J"], "seed": {}}'), experiment_of, "dataset"
    ),
    "a config with numbers of 400 digits": Hostile(
        run(config_json=json.dumps({"dataset": "digits", "epochs": 10**400})), experiment_of, "eval_epsilon"
    ),
    "a history that is a link to elsewhere": Hostile(unfinished(linked(HISTORY)), gone_on_with, "is a link"),
    "logs that are a link to elsewhere": Hostile(unfinished(linked(LOGS)), gone_on_with, "is a link"),
    "a history that is a pipe": Hostile(unfinished(lambda run: os.mkfifo(run / HISTORY)), gone_on_with, "no file"),
    "a config beside a model with lists": Hostile(facts('{"method": [], "beta": {}}'), described, "config"),
    "a config beside a model with texts": Hostile(
        facts('{"method": "trades", "alpha_train": "\\u001b[2J", "weighting": 1}'), described, "config"
    ),
    "a trial 200,000 deep": Hostile(trials(trial=NESTED), reopened, "nested too deep"),
    "a search's state 200,000 deep": Hostile(trials(oracle=NESTED), reopened, "nested too deep"),
    "a trial that is none": Hostile(trials(trial='{"trial_id": []}'), reopened, "search"),
    "a search's state that is none": Hostile(trials(oracle="[]"), reopened, "search"),
    "a history of texts": Hostile(run(history_csv="epoch,loss\n0,\x1b[2J\n"), read_history, "could not convert"),
    "an empty history": Hostile(run(history_csv=""), read_history, "a number an epoch"),
    "a history of one long line": Hostile(
        run(history_csv="epoch\n" + "9" * 200_000 + "\n"), read_history, "field larger"
    ),
}
