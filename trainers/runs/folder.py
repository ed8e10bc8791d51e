"""A run's own folder: which files are in it, and what of them is read again."""

import contextlib
import csv
import dataclasses
import datetime
import importlib.metadata
import itertools
import json
import math
import os
import platform
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import wmr_tf
from trainers.settings.base import Settings
from trainers.settings.config import Experiment
from trainers.settings.evaluation import Evaluation
from wmr_tf.checks import InvalidInput, refuse, require
from wmr_tf.extras import is_installed
from wmr_tf.names import RADII
from wmr_tf.saving import forget_unfinished, picture_files, read_json, taken, write_json
from wmr_tf.untrusted import check_file, well_formed

BEST, LAST = "best.keras", "classifier.keras"
CONFIG, HISTORY, METRICS = "config.json", "history.csv", "metrics.json"
OUTCOMES, IMAGES = "outcomes.npz", "images.npz"
LOGS, TRAINING_PICTURE, ROBUSTNESS_PICTURE = "logs", "training.png", "robustness.png"
REPORT = "report.html"
CHECKPOINTS, DIVERGED = "checkpoints", "diverged.json"
"""A folder with a config that has the first and not the second is of a run that has not come to its end."""

FILES = (
    *(BEST, LAST, CONFIG, HISTORY, METRICS, OUTCOMES, *(f"outcomes-{measure}.npz" for measure in RADII)),
    *(file.name for name in (TRAINING_PICTURE, ROBUSTNESS_PICTURE) for file in picture_files(name)),
    *(IMAGES, REPORT, DIVERGED),
)
"""What a run or an evaluation writes besides checkpoints and logs."""

_FIX = "Name another folder with --output_dir."


@contextlib.contextmanager
def run_folder(experiment: Experiment, name: str) -> Iterator[Path]:
    """Yield the folder of a run, which no other run can take meanwhile.

    It is that of an unfinished run of the same settings: the `output_dir`, or without one the newest in `runs`; if
    there is none, a new one.

    Args:
        experiment: All settings.
        name: What a new one is called, before seed and time.

    Raises:
        InvalidInput: If the `output_dir` cannot be written, holds a run that is finished or has other settings, or is
            in use.
    """
    with contextlib.ExitStack() as stack:
        folder = _unfinished_folder(experiment, stack)
        if folder is None:
            folder = make_folder(experiment, name)
            stack.enter_context(taken(folder))
        forget_unfinished(folder, FILES)
        yield folder


def check_output_dir(settings: Settings) -> None:
    """Check that settings can have their folder, before anything else is done; it is not created.

    Args:
        settings: Those with an `output_dir` are checked.

    Raises:
        InvalidInput: If it cannot be written, or holds a run that is finished or has other settings.
    """
    if not (isinstance(settings, Evaluation) and settings.output_dir):
        return
    folder = Path(settings.output_dir).expanduser()
    if isinstance(settings, Experiment) and is_unfinished(folder):
        _check_same_settings(settings, folder)
    else:
        _check_free(folder)
    there = next(path for path in (folder, *folder.parents) if path.exists())
    if not (there.is_dir() and os.access(there, os.W_OK)):
        _refuse_unwritable(folder)


def _check_same_settings(experiment: Experiment, folder: Path) -> None:
    others = _other_settings(experiment, folder)
    got = f"{str(folder)!r}, which holds an unfinished run with {', '.join(others)}"
    require(not others, "output_dir", got=got, expected="the settings of that run, or a new folder", fix=_FIX)


def _check_free(folder: Path) -> None:
    check_has_not_diverged(folder, "output_dir")
    is_free = not ((folder / METRICS).exists() or (folder / CONFIG).exists())
    require(is_free, "output_dir", got=f"{str(folder)!r}, which holds a run", expected="a new folder", fix=_FIX)


def _unfinished_folder(experiment: Experiment, stack: contextlib.ExitStack) -> Path | None:
    """Return the folder of an unfinished run to go on with, which is the stack's to let go; None if there is none."""
    if experiment.output_dir:
        folder = Path(experiment.output_dir).expanduser()
        if not is_unfinished(folder):
            return None
        _check_same_settings(experiment, folder)
        _check_plain(folder)
        is_free = stack.enter_context(taken(folder))
        got = f"{str(folder)!r}, into which another process writes"
        require(is_free, "output_dir", got=got, expected="a folder of this process alone", fix=_FIX)
        return folder
    # Other workers would not know which folder it is.
    found = [] if experiment.strategy == "multi_worker" else filter(is_unfinished, Path("runs").glob("*"))
    for folder in sorted(found, key=lambda folder: (folder / CONFIG).stat().st_mtime, reverse=True):
        if not _other_settings(experiment, folder) and stack.enter_context(taken(folder)):
            _check_plain(folder)
            return folder
    return None


def _check_plain(folder: Path) -> None:
    """Check that all in a folder is plain: a run that goes on writes into its files, not to where links lead."""
    for path in folder.rglob("*"):
        is_plain = not path.is_symlink() and (path.is_file() or path.is_dir())
        got = f"{str(path)!r}, which is a link or no file"
        require(
            is_plain, "output_dir", got=got, expected="a run's files and folders", fix="Remove it, or copy it here."
        )


def is_unfinished(folder: Path) -> bool:
    """Return whether a folder holds a run that was stopped, or is under way, and has not come to its end."""
    has_checkpoints = (folder / CONFIG).is_file() and (folder / CHECKPOINTS).is_dir()
    return has_checkpoints and not (folder / DIVERGED).exists()


def check_has_not_diverged(folder: Path, what: str) -> None:
    """Refuse the folder of a run whose training diverged.

    Args:
        folder: Any folder.
        what: What a message calls it.

    Raises:
        InvalidInput: If it is that of one; the message says what happened.
    """
    fix = "Train into another one, with a lower --learning_rate or --on_divergence=rollback."
    if (folder / DIVERGED).exists():
        told = read_json(folder / DIVERGED, DIVERGED, fix=fix).get("told", "training diverged")
        refuse(what, got=f"{str(folder)!r}: {told}", expected="the folder of a run that did not diverge", fix=fix)


def metrics_of(folder: str) -> dict[str, Any]:
    """Return the metrics.json of a finished run.

    Raises:
        InvalidInput: If there is none in the folder, or the run has not come to its end.
    """
    path = Path(folder) / METRICS
    fix = "Name the folders of finished runs."
    check_has_not_diverged(path.parent, "run")
    if is_unfinished(path.parent):
        got = f"{folder!r}, whose run has not come to its end"
        refuse("run", got=got, expected="a finished one", fix=f"Run python -m trainers.resume {folder} first.")
    require(path.is_file(), "run", got=repr(folder), expected="a folder with metrics.json", fix=fix)
    return read_json(path, "run", fix=fix)


def forget_checkpoints(folder: Path) -> None:
    """Delete the checkpoints of a run that has come to its end, which says so: in one move, they may be large."""
    unneeded = folder / f".{CHECKPOINTS}"
    with contextlib.suppress(FileNotFoundError):
        os.replace(folder / CHECKPOINTS, unneeded)
    shutil.rmtree(unneeded, ignore_errors=True)


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
    _check_free(folder)
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


def experiment_of(folder: Path) -> Experiment:
    """Return the settings of the run in a folder, which is the `output_dir`; whether to trust models it cannot say.

    Raises:
        InvalidInput: If it holds no config of a run.
    """
    fix = "Name the folder of a run that has not come to its end."
    config = read_json(folder / CONFIG, CONFIG, fix=fix)
    names = {field.name for field in dataclasses.fields(Experiment)}
    settings: dict[str, Any] = {name: config[name] for name in (names - {"trust"}) & set(config)}
    settings = {name: tuple(value) if isinstance(value, list) else value for name, value in settings.items()}
    with well_formed(CONFIG, got=folder / CONFIG, expected="settings of a run", fix=fix):
        try:
            return Experiment(**{**settings, "output_dir": str(folder)})
        except InvalidInput as mistake:  # which knows nothing of the file
            raise ValueError(mistake) from mistake


def write_config(folder: Path, experiment: Experiment, *, command: str) -> None:
    """Write the record of a run: all its settings, the command that runs it, and the versions that it depends on."""
    write_json(folder / CONFIG, {**dataclasses.asdict(experiment), "command": command, "versions": versions()})


def is_finished(experiment: Experiment, folder: Path) -> bool:
    """Return whether a folder holds a finished run with the settings of an experiment, wherever it was written.

    A setting missing from the run's config is taken to have had its default.
    """
    if not all((folder / name).is_file() for name in (CONFIG, METRICS, BEST)):
        return False
    return not _other_settings(experiment, folder)


def _other_settings(experiment: Experiment, folder: Path) -> list[str]:
    """Return the settings of the run in a folder that an experiment has not, wherever it is written, as messages do."""
    settings = json.loads(json.dumps(dataclasses.asdict(experiment)))  # tuples become lists
    del settings["output_dir"], settings["trust"]
    defaults = {field.name: field.default for field in dataclasses.fields(experiment)}
    try:
        config = read_json(folder / CONFIG, CONFIG, fix="")
    except InvalidInput:
        return ["no settings"]
    found = {name: config.get(name, defaults[name]) for name in settings}
    return [f"{name} {found[name]} (now {settings[name]})" for name in settings if found[name] != settings[name]]


def versions() -> dict[str, str]:
    """Return the versions of what a result depends on."""
    packages = ("tensorflow", "keras", "numpy", *["tensorflow-datasets"] * is_installed("data"))
    found = {package: importlib.metadata.version(package) for package in packages}
    return {"wmr_tf": wmr_tf.__version__, **found, "python": platform.python_version()}


def read_history(folder: Path) -> dict[str, list[float]]:
    """Return history.csv as lists by epoch.

    Raises:
        InvalidInput: If it is none.
    """
    path = folder / HISTORY
    with well_formed(HISTORY, got=path, expected="a number an epoch", fix="Move it away."):
        check_file(path)
        with open(path, newline="") as file:
            rows = list(csv.DictReader(file))
        return {name: [float(row[name] or math.nan) for row in rows] for name in rows[0]}
