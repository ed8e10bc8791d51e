"""A run's own folder: which files are in it, and what of them is read again."""

import csv
import dataclasses
import datetime
import importlib.metadata
import itertools
import json
import math
import os
import platform
import shlex
import sys
from pathlib import Path
from typing import NoReturn

import wmr_tf
from trainers.config import Evaluation, Experiment
from wmr_tf.checks import InvalidInput, refuse, require
from wmr_tf.saving import read_json, write_json

BEST, LAST = "best.keras", "classifier.keras"
CONFIG, HISTORY, METRICS = "config.json", "history.csv", "metrics.json"
OUTCOMES, IMAGES = "outcomes.npz", "images.npz"
LOGS, TRAINING_PICTURE, ROBUSTNESS_PICTURE = "logs", "training.png", "robustness.png"
REPORT = "report.html"

_FIX = "Name another folder with --output_dir."


def make_folder(settings: Evaluation, name: str) -> Path:
    """Create the folder of a run, or of an evaluation, and return it.

    Args:
        settings: Their `output_dir` is the folder; one that holds a run already is refused. If there is none, it is a
            new one in `runs`.
        name: What a new one is called, before seed and time.

    Raises:
        InvalidInput: If it cannot be written, or holds a run.
    """
    if not settings.output_dir:
        stamp = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
        return _new_folder(Path("runs") / f"{name}-seed{settings.seed}-{stamp}")
    folder = Path(settings.output_dir).expanduser()
    taken = (folder / METRICS).exists() or (folder / CONFIG).exists()
    require(not taken, "output_dir", got=f"{str(folder)!r}, which holds a run", expected="a new folder", fix=_FIX)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        _refuse_unwritable(folder, error)
    if not os.access(folder, os.W_OK):
        _refuse_unwritable(folder)
    return folder


def _new_folder(folder: Path) -> Path:
    """Create a folder that was not there before, with a number behind its name where another run was faster."""
    numbered = (folder.with_name(f"{folder.name}-{number}") for number in itertools.count(2))
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        return next(each for each in itertools.chain([folder], numbered) if _is_created(each))
    except OSError as error:
        _refuse_unwritable(folder, error)


def _is_created(folder: Path) -> bool:
    """Create a folder and return whether it was not there; of several processes only one is told so."""
    try:
        folder.mkdir()
    except FileExistsError:
        return False
    return True


def _refuse_unwritable(folder: Path, cause: OSError | None = None) -> NoReturn:
    refuse("output_dir", got=repr(str(folder)), expected="a folder that can be written", fix=_FIX, cause=cause)


def write_config(folder: Path, experiment: Experiment, *, command: str) -> None:
    """Write the record of a run: all its settings, the command that runs it, and the versions that it depends on."""
    write_json(folder / CONFIG, {**dataclasses.asdict(experiment), "command": command, "versions": versions()})


def is_finished(experiment: Experiment, folder: Path) -> bool:
    """Return whether a folder holds a finished run with the settings of an experiment, wherever it was written.

    A setting missing from the run's config is taken to have had its default.
    """
    if not all((folder / name).is_file() for name in (CONFIG, METRICS, BEST)):
        return False
    settings = json.loads(json.dumps({**dataclasses.asdict(experiment), "output_dir": None}))  # tuples become lists
    defaults = {field.name: field.default for field in dataclasses.fields(experiment)}
    try:
        config = read_json(folder / CONFIG, CONFIG, fix="")
    except InvalidInput:
        return False
    return {name: config.get(name, defaults[name]) for name in settings} | {"output_dir": None} == settings


def versions() -> dict[str, str]:
    """Return the versions of what a result depends on."""
    packages = ("tensorflow", "keras", "numpy", "tensorflow-datasets")
    found = {package: importlib.metadata.version(package) for package in packages}
    return {"wmr_tf": wmr_tf.__version__, **found, "python": platform.python_version()}


def own_command() -> str:
    """Return the command line of this process."""
    return shlex.join(["python", *sys.orig_argv[1:]])


def read_history(folder: Path) -> dict[str, list[float]]:
    """Return history.csv as lists by epoch."""
    with open(folder / HISTORY, newline="") as file:
        rows = list(csv.DictReader(file))
    return {name: [float(row[name] or math.nan) for row in rows] for name in rows[0]}
