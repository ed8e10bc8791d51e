"""The command `wmr` runs the modules, with their flags, and says what it knows in one line."""

import importlib.util
import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import wmr_tf
from trainers.command import COMMANDS, TRAIN, data_sets, usage
from wmr_tf.names import DATASETS

ROOT = Path(__file__).resolve().parents[1]


def wmr(*words, cwd=ROOT):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "trainers", *words]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=300, check=False)


@pytest.mark.parametrize("module", [module for module, _ in (*TRAIN.values(), *COMMANDS.values())])
def test_each_command_is_a_module(module):
    assert importlib.util.find_spec(module) is not None


def test_the_package_installs_it():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["scripts"] == {"wmr": "trainers.command:main"}


@pytest.mark.parametrize("words", [(), ("-h",), ("--help",), ("help",)])
def test_without_a_command_it_lists_them(words):
    done = wmr(*words)
    assert (done.returncode, done.stdout.rstrip(), done.stderr) == (0, usage(), "")
    for name in ("train DATASET", *COMMANDS):
        assert f"  wmr {name} " in done.stdout


@pytest.mark.parametrize("words", [("train",), ("train", "--help"), ("train", "-h")])
def test_without_a_data_set_train_lists_them(words):
    done = wmr(*words)
    assert (done.returncode, done.stdout.rstrip(), done.stderr) == (0, data_sets(), "")
    assert list(TRAIN) == [*DATASETS, "custom"]
    for name in TRAIN:
        assert f"  wmr train {name} " in done.stdout


@pytest.mark.parametrize("module", [module for module, _ in (*TRAIN.values(), *COMMANDS.values())])
def test_each_door_knows_h(module):
    command, environment = [sys.executable, "-m", module, "-h"], {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0 and f"-m {module}" in done.stdout or module == "trainers.completion", done.stderr


def test_it_tells_the_versions_of_what_a_result_depends_on():
    done = wmr("--version")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"wmr_tf {wmr_tf.__version__}, tensorflow 2.") and ", keras 3." in done.stdout


def test_the_version_is_said_once_more_only_in_the_citation():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert project["project"]["dynamic"] == ["version"]
    assert project["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "wmr_tf.__version__"}
    assert f"\nversion: {wmr_tf.__version__}\n" in (ROOT / "CITATION.cff").read_text()
    assert f"## {wmr_tf.__version__} (" in (ROOT / "CHANGELOG.md").read_text()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("trian",), "error: wmr: got trian, expected one of train, evaluate, "),
        (("trian",), "Did you mean train?"),
        (("--epochs=3",), "error: wmr: got --epochs=3, expected one of train, "),
        (("train", "minst"), "Did you mean mnist?"),
        (("zzz",), "Run wmr --help."),
        (("train", "photos"), "Run wmr train custom --data=FOLDER for images of your own."),
        (("train", "digits", "--epoch=3"), "error: command line: got --epoch, expected one of the flags"),
        (("evaluate", "--model=none.keras", "--dataset=digits"), "none.keras"),
    ],
)
def test_a_mistake_is_one_line_and_status_2(words, told):
    done = wmr(*words)
    assert done.returncode == 2 and done.stdout == ""
    assert told in done.stderr and done.stderr.count("\n") == 1


@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_help_is_that_of_the_module(flag):
    done = wmr("train", "digits", flag)
    assert done.returncode == 0
    assert "python -m trainers.digits" in done.stdout and "--alpha_train" in done.stdout


@pytest.mark.slow
def test_a_run_keeps_the_command_of_the_module(tmp_path):
    flags = ["--method=natural", "--epochs=1", "--train_examples=32", "--validation_examples=8", "--eval_examples=8"]
    done = wmr("train", "digits", *flags, "--suite=short", "--radii=none", "--output_dir=run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    command = json.loads((tmp_path / "run" / "config.json").read_text())["command"]
    assert command.startswith("python -m trainers.digits --method=natural --epochs=1 ")
