"""The base works without the extras, and what needs one says so, with the command that installs it."""

import importlib.util
import json
import os
import subprocess
import sys
import textwrap
import tomllib
from pathlib import Path

import pytest

import tuning
import wmr_tf
from reproduce.settings import Reproduction
from tests.test_config import run_main
from trainers.compare import Comparison
from trainers.comparison.comparing import compare
from trainers.runs.folder import versions
from trainers.runs.run import train
from trainers.settings.config import Experiment
from tuning.search import Search
from wmr_tf import extras, report
from wmr_tf.checks import InvalidInput

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def without(monkeypatch):
    """Return a function that has the packages of an extra be missing, as far as this library looks."""

    def hide(extra):
        others = importlib.util.find_spec
        hidden = extras.EXTRAS[extra]
        monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name in hidden else others(name))

    return hide


def test_the_extras_are_those_of_the_package():
    optional = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert set(extras.EXTRAS) == set(optional) - {"all", "dev", "docs"}
    for extra, names in extras.EXTRAS.items():
        installed = {line.partition(">=")[0].replace("-", "_") for line in optional[extra]}
        assert installed == set(names)
    assert optional["all"] == [f"wmr-tf[{','.join(sorted(extras.EXTRAS))}]"]


@pytest.mark.parametrize("extra", extras.EXTRAS)
def test_all_of_them_are_here(extra):
    assert extras.is_installed(extra)
    extras.need(extra, "this test")


def test_what_is_missing_and_the_mend_are_told(monkeypatch):
    monkeypatch.setitem(extras.EXTRAS, "data", ("no_such_package", "json", "nor_this"))
    assert not extras.is_installed("data")
    told = (
        "^data set: got no no_such_package and no nor_this, expected what the extra data installs. "
        r'Run pip install "wmr-tf\[data\]"\.$'
    )
    with pytest.raises(InvalidInput, match=told):
        extras.need("data", "data set")


@pytest.mark.parametrize(
    ("extra", "call"),
    [
        ("data", lambda: wmr_tf.data.load("mnist")),
        ("data", lambda: wmr_tf.data.load("tiny_imagenet")),
        ("data", lambda: Experiment.of("cifar10").check_place()),
        ("tuner", lambda: Search.of("digits").check_place()),
        ("tuner", lambda: tuning.__getattr__("Objective")),
        ("report", lambda: report.__getattr__("write_report")),
        ("report", lambda: report.__getattr__("plot_alpha")),
        ("report", lambda: Comparison(runs=("run",), output="all.png").check_place()),
        ("report", lambda: Reproduction(table=1, rows=("none",)).check_place()),
        ("data", lambda: Reproduction(table=1).check_place()),
    ],
)
def test_who_needs_an_extra_says_so(extra, call, without, monkeypatch):
    monkeypatch.setattr("trainers.compare.metrics_of", lambda run: {})
    without(extra)
    with pytest.raises(InvalidInput, match=rf'Run pip install "wmr-tf\[{extra}\]"\.$'):
        call()


def test_who_needs_none_goes_on(without):
    for extra in extras.EXTRAS:
        without(extra)
    Experiment.of("digits").check_place()
    assert wmr_tf.data.info("mnist").num_classes == 10
    assert len(wmr_tf.data.load("digits").train.element_spec) == 2
    assert "tensorflow-datasets" not in versions()
    assert wmr_tf.zoo.card("digits-trades").name in str(wmr_tf.zoo.card("digits-trades"))


@pytest.mark.slow
def test_a_run_without_pictures_says_so_at_its_start_and_writes_all_else(without, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    without("report")
    few = ["--train_examples=64", "--validation_examples=16", "--eval_examples=16", "--suite=short", "--radii=none"]
    run_main(train, Experiment, "--epochs=1", "--method=natural", *few, "--output_dir=run", dataset="digits")
    told = capsys.readouterr().out
    line = 'Neither pictures nor report.html will be written; for them run pip install "wmr-tf[report]"'
    assert told.splitlines().count(line) == 1 and told.index(line) < told.index("Writing into run")
    assert "report.html" not in told.replace(line, "")
    written = {path.name for path in (tmp_path / "run").iterdir()}
    assert {"best.keras", "config.json", "history.csv", "images.npz", "logs", "metrics.json"} <= written
    assert not {path for path in written if path.endswith((".png", ".html"))}
    assert json.loads((tmp_path / "run" / "metrics.json").read_text())["A_nat"] >= 0

    run_main(compare, Comparison, "run")
    told = capsys.readouterr().out
    assert "A_strong (%)" in told and told.endswith(
        'Neither picture nor report; for them run pip install "wmr-tf[report]"\n'
    )
    assert {path.name for path in tmp_path.iterdir()} == {"run"}


def printed_by(script):
    command, environment = [sys.executable, "-c", textwrap.dedent(script)], {**os.environ, "PYTHONPATH": str(ROOT)}
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout)


def test_importing_the_library_imports_nothing_heavy_besides_tensorflow():
    new = printed_by("""
        import json, sys
        import tensorflow
        before = set(sys.modules)
        import wmr_tf
        print(json.dumps(sorted(set(sys.modules) - before)))
    """)
    assert "wmr_tf.model" in new
    heavy = {*sum(extras.EXTRAS.values(), ()), "PIL", "pandas", "scipy", "sklearn", "tensorboard"}
    assert heavy.isdisjoint(name.partition(".")[0] for name in new)


def test_what_trains_evaluates_and_compares_is_imported_without_the_extras():
    assert printed_by(f"""
        import sys
        import tensorflow
        sys.modules.update(dict.fromkeys({sum(extras.EXTRAS.values(), ())}))  # whoever imports one of them fails
        import reproduce, trainers, tuning, wmr_tf
        import trainers.comparison.comparing, trainers.comparison.matching, trainers.runs.evaluating, trainers.runs.run
        print(len(wmr_tf.__all__))
    """) == len(wmr_tf.__all__)
