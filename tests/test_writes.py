"""A file that cannot be written costs no other: what was good stays whole, and the run goes on or ends in one line."""

import ast
import csv
import errno
import json
import os
import re
import subprocess
from pathlib import Path
from xml.etree import ElementTree

import keras
import numpy as np
import pytest
from PIL import Image

from studies.soak import FEW
from tests.faults import Fault, Lives, shim
from tests.test_resume import fit
from trainers.cli import ends_reported
from trainers.runs.folder import FILES
from wmr_tf.callbacks import ExactResume, SaveBestClassifier, WriteEvents, WriteHistory
from wmr_tf.fit import checkpoints
from wmr_tf.fit.interrupts import stoppable
from wmr_tf.saving import NotWritten, forget_unfinished, write_json, write_text, written_whole

ROOT = Path(__file__).resolve().parents[1]

# Without a checkpoint or TensorBoard's events a run does its work, and warns.
LOST_CHECKPOINT = "warning: no checkpoint could be written"
LOST_EVENTS = "warning: TensorBoard's events in .* could not be written .* goes on without them"
GOES_ON = [
    (Fault("arrays.npz", "write"), LOST_CHECKPOINT),
    (Fault("arrays.npz", "write", "EIO", nth=3), LOST_CHECKPOINT),
    (Fault("arrays.npz", "fsync", "EIO", nth=2), LOST_CHECKPOINT),
    (Fault("state.json", "open", "EACCES"), LOST_CHECKPOINT),
    (Fault("manifest.json", "close", "EIO", nth=2), LOST_CHECKPOINT),
    (Fault("checkpoints/.epoch", "mkdir", "EROFS", nth=3), LOST_CHECKPOINT),
    (Fault("checkpoints/epoch", "rename", "EIO", nth=3), LOST_CHECKPOINT),
    (Fault("SaveBestClassifier", "link", "EPERM"), ""),  # it is copied
    (Fault("logs/train", "open", "EROFS"), LOST_EVENTS),
    (Fault("logs/train", "mkdir", "EACCES"), LOST_EVENTS),
]

# All else ends it.
ENDS = [
    Fault("config.json", "write"),
    Fault("config.json", "fsync", "EIO"),
    Fault("config.json", "rename", "EROFS"),
    Fault("best.keras", "open", "EACCES"),
    Fault("best.keras", "write"),
    Fault("best.keras", "short"),
    Fault("best.keras", "fsync", "EIO"),
    Fault("best.keras", "close", "EIO"),
    Fault("best.keras", "rename", "EIO"),
    Fault("best.keras", "deletion"),
    Fault("history.csv", "write"),
    Fault("history.csv", "short", nth=2),
    Fault("history.csv", "fsync", "EIO", nth=2),
    Fault("history.csv", "rename", "EROFS", nth=2),
    Fault("classifier.keras", "write"),
    Fault("outcomes.npz", "write"),
    Fault("images.npz", "write", nth=2),
    Fault("images.npz", "short"),
    Fault("robustness.png", "open", "EROFS"),
    Fault("robustness.png", "write"),
    Fault("report.html", "write", "EDQUOT"),
    Fault("metrics.json", "write"),
    Fault("metrics.json", "fsync", "EIO"),
    Fault("metrics.json", "rename", "EIO"),
    Fault("metrics.json", "deletion"),
    Fault("training.png", "write"),
    Fault("/.checkpoints", "rename", "EROFS"),
    Fault("epoch-000000-batch-00000001", "write", lasting=True),
    Fault("best.keras", "open", "EROFS", lasting=True),
    Fault("report.html", "write", "EIO", lasting=True),
]
TMPFS = ("200k", "600k", "1100k")

SETTINGS = {**FEW, "epochs": 2, "train_examples": 32, "method": "natural", "radii": "none", "alpha_test": (1.0,)}


def contents(folder):
    """Return what must be the same bits at the end of two runs."""
    files = {name: (folder / name).read_bytes() for name in ("history.csv", "metrics.json")}
    for name in ("best.keras", "classifier.keras"):
        weights = keras.models.load_model(folder / name).get_weights()
        files[name] = b"".join(weight.tobytes() for weight in weights)
    return files


def check_whole(folder):
    """Check that every file that is there under its own name, and every checkpoint, is whole."""
    whole = {
        ".json": lambda path: json.loads(path.read_text()),
        ".csv": lambda path: check_table(path.read_text().splitlines()),
        ".png": lambda path: Image.open(path).load(),
        ".pdf": check_pdf,
        ".svg": lambda path: ElementTree.parse(path),
        ".html": lambda path: check_end(path.read_text()),
        ".npz": check_arrays,
        ".keras": lambda path: keras.models.load_model(path),
    }
    for path in folder.glob("[!.]*.*"):
        whole[path.suffix](path)
    kept = sorted((folder / "checkpoints").glob("[!.]*"))
    config = json.loads((kept[-1] / "manifest.json").read_text())["content"]["config"] if kept else {}
    found = checkpoints.newest(folder / "checkpoints", config=config, tell=pytest.fail)
    assert (found.path if found else None) == (kept[-1] if kept else None)


def check_pdf(path):
    content = path.read_bytes()
    assert content.startswith(b"%PDF") and content.rstrip().endswith(b"%%EOF")


def check_table(lines):
    assert len(lines) > 1 and len({len(row) for row in csv.reader(lines)}) == 1


def check_arrays(path):
    with np.load(path) as arrays:
        assert [arrays[name] for name in arrays]


def check_end(page):
    assert page.rstrip().endswith("</html>")


def check_log(path, status):
    """Check that it tells of one fault at most, in one line, and return it without the warnings about the attack."""
    lines = [line for line in path.read_text().splitlines() if not line.startswith("warning: attack: ")]
    assert not [line for line in lines if re.search("Traceback|Exception ignored|^  File ", line)], lines
    assert sum(line.startswith("error: ") for line in lines) == status, lines[-20:]
    return "\n".join(lines)


# All of it, with a library that makes system calls fail


@pytest.fixture(scope="module")
def lives():
    if shim() is None:
        pytest.skip("no C compiler")
    with Lives() as running:
        yield running


@pytest.fixture(scope="module")
def undisturbed(lives, tmp_path_factory):
    """What a run leaves that is left alone."""
    folder = tmp_path_factory.mktemp("undisturbed") / "run"
    log = folder.with_suffix(".log")
    assert lives.live("train", {**SETTINGS, "output_dir": str(folder)}, log, folder) == 0, log.read_text()
    return contents(folder), sorted(path.name for path in folder.iterdir())


def check_goes_on(lives, folder, undisturbed):
    """Make the same run again, without a fault, and compare."""
    log = folder.with_suffix(".again")
    assert lives.live("train", {**SETTINGS, "output_dir": str(folder)}, log, folder) == 0, log.read_text()
    check_log(log, 0)
    assert (contents(folder), sorted(path.name for path in folder.iterdir())) == undisturbed


@pytest.mark.slow
@pytest.mark.parametrize(("fault", "warning"), GOES_ON, ids=str)
def test_a_fault_that_a_run_can_do_without(lives, undisturbed, tmp_path, fault, warning):
    folder, log = tmp_path / "run", tmp_path / "log"
    assert lives.live("train", {**SETTINGS, "output_dir": str(folder)}, log, folder, fault) == 0
    told = check_log(log, 0)
    assert len(re.findall(warning, told)) == 1 if warning else "could not" not in told
    check_whole(folder)
    assert contents(folder) == undisturbed[0]


@pytest.mark.slow
@pytest.mark.parametrize("fault", ENDS, ids=str)
def test_a_fault_that_ends_a_run(lives, undisturbed, tmp_path, fault):
    folder, log = tmp_path / "run", tmp_path / "log"
    assert lives.live("train", {**SETTINGS, "output_dir": str(folder)}, log, folder, fault) == 1
    told = check_log(log, 1)
    said = os.strerror(errno.ENOENT if fault.call == "deletion" else getattr(errno, fault.error))
    error = next(line for line in told.splitlines() if line.startswith("error: "))
    assert re.search(rf"could not write {folder}/.* \({said}\)\. |{said}: '.*/checkpoints'", error), error
    is_kept = (folder / "config.json").exists()
    assert f" To go on: python -m trainers.resume {folder}".endswith(error[error.find(" To go on") :]) == is_kept
    if folder.exists():
        check_whole(folder)
    # The figures are printed though a file of theirs is not written.
    has_evaluated = fault.name in ("images.npz", "robustness.png", "report.html", "metrics.json", "training.png")
    assert ("A_nat (%)" in told) == (has_evaluated or fault.name == "/.checkpoints")
    check_goes_on(lives, folder, undisturbed)


@pytest.mark.slow
@pytest.mark.parametrize("size", TMPFS)
def test_a_disk_that_is_full_and_then_larger(lives, undisturbed, tmp_path, size):
    place = tmp_path / "disk"
    place.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place)]).returncode:
        pytest.skip("nothing can be mounted here")
    try:
        folder, log = place / "run", tmp_path / "log"
        assert lives.live("train", {**SETTINGS, "output_dir": str(folder)}, log, folder) == 1
        assert "(No space left on device). Free some space." in check_log(log, 1)
        check_whole(folder)
        subprocess.run(["mount", "-o", "remount,size=64m", str(place)], check=True)
        check_goes_on(lives, folder, undisturbed)
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


# The other commands


def flags_of(run_folder):
    return {"model": str(run_folder / "best.keras"), "eval_examples": 20, "eval_attack_steps": 1, "suite": "short"}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["outcomes.npz", "images.npz", "report.html", "metrics.json"])
def test_a_fault_in_an_evaluation(lives, tmp_path, name):
    run, folder, log = tmp_path / "run", tmp_path / "evaluation", tmp_path / "log"
    run.mkdir()
    keras.Sequential([keras.Input([8, 8, 1]), keras.layers.Flatten(), keras.layers.Dense(10)]).save(run / "best.keras")
    settings = {**flags_of(run), "output_dir": str(folder)}
    assert lives.live("evaluate", settings, log, folder, Fault(name, "write", lasting=True)) == 1
    told = check_log(log, 1)
    assert f"could not write {folder}/{name} (No space left on device). Free some space. {folder} keeps what" in told
    assert ("A_nat (%)" in told) == (name != "outcomes.npz")
    check_whole(folder)
    assert lives.live("evaluate", settings, log, folder) == 0
    check_log(log, 0)
    assert {path.name for path in folder.iterdir()} <= set(FILES)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["all.png", "all.html"])
def test_a_fault_in_a_comparison(lives, tmp_path, name):
    run, log = tmp_path / "run", tmp_path / "log"
    assert lives.live("train", {**SETTINGS, "output_dir": str(run)}, log, run) == 0
    settings = {"runs": [str(run)], "output": str(tmp_path / "all.png")}
    assert lives.live("compare", settings, log, tmp_path, Fault(f"/{name}", "rename", "EIO")) == 1
    told = check_log(log, 1)
    assert f"could not write {tmp_path}/{name} (Input/output error)." in told and "A_nat (%)" in told
    assert lives.live("compare", settings, log, tmp_path) == 0


@pytest.mark.slow
@pytest.mark.parametrize("name", ["search.json", "oracle.json", "trial.json", "trials.csv", "best/.metrics.json"])
def test_a_fault_in_a_search(lives, tmp_path, name):
    folder, log = tmp_path / "search", tmp_path / "log"
    settings = {**SETTINGS, "method": "pgd", "attack_steps": 1, "tuner": "grid", "search": "alpha_train:0/1"}
    settings["output_dir"] = str(folder)
    status = lives.live("search", settings, log, folder, Fault(name, "write", lasting=True))
    told = check_log(log, 1)
    if name == "search.json":
        assert status == 2
    else:
        assert status == 1 and f"{folder} keeps the trials. To go on: " in told
    assert lives.live("search", settings, log, folder) == 0
    check_log(log, 0)
    assert {trial["status"] for trial in json.loads((folder / "trials.json").read_text())} == {"completed"}


# In short, with functions of Python's that fail


def failing(monkeypatch, function, name, error, nth=1):
    """Have the nth call of a function of `os` fail on a path with this name in it."""
    real, calls = getattr(os, function), []

    def called(*arguments):
        path = (
            os.readlink(f"/proc/self/fd/{arguments[0]}") if function == "fsync" else str(arguments[function != "mkdir"])
        )
        calls.append(path) if name in path else None
        if name in path and len(calls) == nth:
            raise OSError(error, os.strerror(error))
        return real(*arguments)

    monkeypatch.setattr(os, function, called)


def files_of(folder):
    return [
        SaveBestClassifier(folder / "best.keras", monitor="accuracy"),
        WriteHistory(folder / "history.csv"),
        WriteEvents(folder / "logs", write_graph=False),
        ExactResume(folder / "checkpoints", minutes=1e-9),
    ]


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    folder = tmp_path_factory.mktemp("alone")
    return fit(*files_of(folder)), (folder / "history.csv").read_text()


@pytest.mark.parametrize(
    ("function", "name", "nth", "is_told"),
    [
        ("fsync", "arrays.npz", 3, "no checkpoint could be written"),
        ("rename", "epoch-", 2, "no checkpoint could be written"),
        ("mkdir", "checkpoints/.epoch", 2, "no checkpoint could be written"),
        ("fsync", "best.keras", 1, None),
        ("replace", "best.keras", 1, None),
        ("fsync", "history.csv", 2, None),
        ("replace", "history.csv", 1, None),
    ],
)
def test_a_fit_ends_as_one_without_a_fault(tmp_path, monkeypatch, capsys, alone, function, name, nth, is_told):
    failing(monkeypatch, function, name, errno.ENOSPC, nth)
    if is_told:
        result = fit(*files_of(tmp_path))
        assert capsys.readouterr().err.count(f"warning: {is_told}") == 1
    else:
        with pytest.raises(NotWritten) as raised:
            fit(*files_of(tmp_path))
        said = f"could not write {tmp_path}/{name} (No space left on device). Free some space."
        assert str(raised.value) == said
        (told,) = raised.value.__notes__
        assert re.match(rf"{tmp_path}/checkpoints keeps the training within epoch \d, after batch 3 of 3\. To go", told)
        check_whole(tmp_path)
        result = fit(*files_of(tmp_path))
    assert (result, (tmp_path / "history.csv").read_text()) == alone
    check_whole(tmp_path)
    assert not list(tmp_path.glob(".*"))


def test_what_tensorboard_cannot_write_is_told_of_once(tmp_path, capsys):
    (tmp_path / "logs").write_text("no folder")
    fit(*files_of(tmp_path))
    (told,) = re.findall("warning: .*", capsys.readouterr().err)
    assert told.startswith(f"warning: TensorBoard's events in {tmp_path}/logs could not be written (")


def test_folders_that_somebody_has_deleted_are_not_made_again(tmp_path):
    with pytest.raises(FileNotFoundError):
        checkpoints.write(tmp_path / "run/checkpoints", "step-1", {}, config={})
    assert not list(tmp_path.iterdir())


def test_history_is_that_of_keras_csv_logger(tmp_path):
    fit(WriteHistory(tmp_path / "ours.csv"), keras.callbacks.CSVLogger(tmp_path / "keras.csv"))
    ours, theirs = ((tmp_path / f"{name}.csv").read_bytes().split(b"\r\n") for name in ("ours", "keras"))
    assert theirs[0] == ours[0] + b",val_accuracy,val_loss" and len(ours) == len(theirs)  # of no validation
    assert all(theirs[row] == ours[row] + b",NA,NA" for row in (1, 2))


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (OSError(errno.ENOSPC, "no"), "(No space left on device). Free some space. a keeps it. To go on: b"),
        (OSError(errno.EROFS, "no"), "(Read-only file system). Make its folder writable. a keeps it. To go on: b"),
        (OSError(errno.EIO, "no"), "(Input/output error). Look at the disk. a keeps it. To go on: b"),
        (OSError(errno.ENOENT, "no"), "(No such file or directory). Its folder is gone."),
        (OSError("h5py\nsays no"), "(h5py says no). Look at the disk. a keeps it. To go on: b"),
    ],
)
def test_a_fault_is_one_line_with_what_is_kept_and_how_to_go_on(tmp_path, capsys, error, told):
    (tmp_path / "a.json").write_text("whole")
    with (
        pytest.raises(SystemExit) as end,
        ends_reported(),
        stoppable("another", "c"),  # what is nearer knows better
        stoppable("a keeps it", "b"),
        written_whole(tmp_path / "a.json") as unfinished,
    ):
        unfinished.write_text("half")
        raise error
    assert end.value.code == 1
    assert capsys.readouterr().err == f"error: could not write {tmp_path}/a.json {told}\n"
    assert (tmp_path / "a.json").read_text() == "whole" and len(list(tmp_path.iterdir())) == 1


def test_what_a_killed_process_left_is_deleted_and_nothing_else(tmp_path):
    others = [
        ".best.keras",
        "best.keras",
        ".other.keras.0a1b2c3d.keras",
        ".best.keras.0a1b.keras",
        ".x.npz.0a1b2c3d.npz",
    ]
    for name in (".best.keras.0a1b2c3d.keras", ".history.csv.01234567.csv", *others):
        (tmp_path / name).touch()
    forget_unfinished(tmp_path, ["best.keras", "history.csv"])
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(others)


def test_a_file_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch):
    calls = []
    for name in ("fsync", "replace"):
        real = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *a, name=name, real=real: (calls.append(name), real(*a))[1])
    write_text(tmp_path / "a", "all")
    write_json(tmp_path / "a.json", {})
    assert calls == ["fsync", "replace", "fsync"] * 2


# Who opens a file to write it, or hands its path to somebody who does, does so within `written_whole`; but for these.
OTHERS = {
    "studies/faults.py": 2,  # sources in a copy of this repository
    "trainers/runs/strategy.py": 1,  # the null device
    "wmr_tf/fit/checkpoints.py": 4,  # files of a folder that is renamed
    "wmr_tf/report/svg.py": 1,  # a file in memory
}
METHODS = ("write_text", "write_bytes", "savefig", "savez", "savez_compressed", "save_weights")


def test_all_files_are_written_by_one_function():
    paths = [path for package in ("wmr_tf", "trainers", "tuning", "studies") for path in (ROOT / package).rglob("*.py")]
    found = {str(path.relative_to(ROOT)): len(list(writes(ast.parse(path.read_text())))) for path in paths}
    assert {name: count for name, count in found.items() if count} == OTHERS


def writes(node):
    """Yield the calls that write a file by its path, outside of a block of `written_whole`."""
    if isinstance(node, ast.With) and any("written_whole" in ast.unparse(item.context_expr) for item in node.items):
        return
    if isinstance(node, ast.Call):
        called = ast.unparse(node.func)
        modes = {argument.value for argument in node.args if isinstance(argument, ast.Constant)}
        if called.rpartition(".")[2] in METHODS and "." in called or called == "open" and modes & {"w", "wb", "a", "x"}:
            yield called
    for child in ast.iter_child_nodes(node):
        yield from writes(child)
