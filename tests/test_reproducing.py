"""Rows are run once, go on when they were stopped, and are rendered beside the paper's figures."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from unittest import mock

import pytest

from reproduce import making, picture, processes, rows
from reproduce.budgets import BUDGETS, Minutes
from reproduce.jobs import Job
from reproduce.origins import commit_of, without_places
from reproduce.results import file_of, of_model
from reproduce.rows import Model, Row, Table
from reproduce.settings import Reproduction
from trainers.runs.folder import write_config
from wmr_tf import InvalidInput
from wmr_tf.saving import read_json, write_json

ROOT = Path(__file__).resolve().parents[1]
PGD, TRADES = Model("digits", "pgd"), Model("digits", "trades", 2.0)
FIGURES = {"A_rob": 70.0, "A_sa": 50.0, "A_tr": 49.25}
ROWS = [("PGD", PGD, 1.0), ("TRADES+weights", TRADES, 1.0), ("PGD", PGD, 2.0), ("TRADES+weights", TRADES, 2.0)]
DIGITS = Table(9, "digits", tuple(Row(name, model, FIGURES, alpha) for name, model, alpha in ROWS), "Made up.")
UNIFORM = Table(8, "digits", (Row("TRADES", TRADES, {"A_nat": 90.0, "A_rob": 60.0}, beta=3.0),))


@pytest.fixture(autouse=True)
def _tables(monkeypatch, tmp_path):
    """Add tables of the digits and a budget of an epoch, and work in a folder of the test's own."""
    monkeypatch.setitem(rows.TABLES, 9, DIGITS)
    monkeypatch.setitem(rows.TABLES, 8, UNIFORM)
    monkeypatch.setitem(BUDGETS, "minutes", Minutes("minutes", 0.0037))
    monkeypatch.chdir(tmp_path)


def settings(**changes):
    given = {"table": 9, "budget": "minutes", "eval_examples": 100, "suite_examples": 50, **changes}
    return Reproduction(**given)


def metrics_of(seed, share=0.6, masked=False, command="python -m trainers.digits --seed=0"):
    by_alpha = [
        {
            "alpha_test": alpha,
            "A_sa": share - 0.1 * alpha,
            "A_sa_stderr": 0.02,
            "A_tr": share - 0.2,
            "A_tr_stderr": 0.02,
        }
        for alpha in (1.0, 2.0)
    ]
    stated = {
        f"{name}{end}": value
        for name in ("A_nat", "A_rob", "A_strong")
        for end, value in (("", share), ("_stderr", 0.02))
    }
    suite = {"version": "quick", "examples": 50, "accuracy": share - 0.1}
    attack = {"name": "PGD", "norm": "linf", "steps": 20, "epsilon": 0.15}
    return {
        "examples": 100, "attack": attack, "masked": masked, "seed": seed, "non_uniform": by_alpha, **stated,
        "suite": suite, "command": command, "versions": {"wmr_tf": "0"},
    }  # fmt: skip


class Trainers:
    """In place of processes: write what a trainer would, and remember the commands.

    Args:
        stop_at: The command, counted from 0, that is stopped or fails instead.
        error: How.
    """

    def __init__(self, stop_at=None, error=None):
        self.commands, self.stop_at, self.error = [], stop_at, error

    def __call__(self, command, log):
        self.commands.append(command)
        if len(self.commands) - 1 == self.stop_at:
            raise self.error
        flags = dict(word.removeprefix("--").split("=", 1) for word in command[1:])
        folder = Path(flags["output_dir"])
        folder.mkdir(parents=True)
        if command[0] == "trainers.digits":
            (job,) = (job for job in JOBS if str(job.folder) == str(folder))
            write_config(folder, job.experiment, command="")
            (folder / "best.keras").touch()
            with open(log, "a") as file:
                for _ in range(2):
                    print("  1/2   1.69  90.00  80.00     70.00  60.00  50.00      1.5     1.5", file=file)
        write_json(folder / "metrics.json", metrics_of(int(flags["seed"]), 0.6 + 0.1 * int(flags["seed"])))


JOBS: list[Job] = []


def made(trainers, **changes):
    """Make the table with trainers that are not real, and return what they were told to do."""
    given = settings(**changes)
    JOBS[:] = [Job(model, seed, given) for model in given.chosen for seed in given.seeds]
    drawn = mock.patch.object(picture, "draw", lambda entries, path, title: path.touch())  # drawing takes a second
    with drawn, mock.patch.object(processes, "run", trainers):
        making.make(given)
    return [command[0] for command in trainers.commands]


def test_rows_are_run_once_and_one_more_seed_adds(capsys):
    assert made(Trainers(), rows=("pgd",)) == ["trainers.digits", "trainers.evaluate"]
    assert (
        "1 of 1: digits-pgd-minutes-seed0, log runs/reproduce/digits-pgd-minutes-seed0.log" in capsys.readouterr().out
    )
    (found,) = of_model(Path("results/reproduce"), PGD, "minutes")
    assert (found["epochs"], found["seconds"], found["metrics"]["A_rob"], found["suite"]["accuracy"]) == (
        1,
        3.0,
        0.6,
        0.5,
    )
    assert made(Trainers(), rows=("pgd",)) == []
    trainers = Trainers()
    assert made(trainers, seeds=(0, 1)) == ["trainers.digits", "trainers.evaluate"] * 3  # PGD's first is there
    assert "1 of 4 runs are there" in capsys.readouterr().out
    assert [result["seed"] for result in of_model(Path("results/reproduce"), PGD, "minutes")] == [0, 1]
    assert trainers.commands[0] == [
        "trainers.digits", "--method=pgd", "--alpha_train=0.0", "--seed=1", "--recipe=fast",
        "--architecture=digits_cnn", "--train_examples=1078", "--epochs=1", "--eval_every=1",
        "--alpha_test=1.0,2.0", "--suite=short", "--radii=none", "--eval_examples=100",
        "--output_dir=runs/reproduce/digits-pgd-minutes-seed1",
    ]  # fmt: skip
    assert trainers.commands[1] == [
        "trainers.evaluate", "--dataset=digits", "--model=runs/reproduce/digits-pgd-minutes-seed1/best.keras",
        "--suite=quick", "--eval_examples=50", "--alpha_test=1.0", "--radii=none", "--seed=1",
        "--output_dir=runs/reproduce/digits-pgd-minutes-seed1/suite-quick-50",
    ]  # fmt: skip
    # A table is rendered without the runs, and two tables share a model.
    assert made(Trainers(), table=8, rows=("trades-alpha2",), seeds=(0, 1), output="elsewhere/table.md") == []
    assert "TRADES" in Path("elsewhere/table.md").read_text() and Path("elsewhere/table.png").exists()


def test_a_row_that_was_stopped_goes_on_where_it_was(capsys):
    with pytest.raises(KeyboardInterrupt):
        made(Trainers(1, processes.Stopped(signal.SIGINT)), rows=("pgd",))
    assert "stopped by SIGINT: runs/reproduce/digits-pgd-minutes-seed0 keeps what was done" in capsys.readouterr().err
    assert not Path("results/reproduce").exists() or not list(Path("results/reproduce").iterdir())
    assert made(Trainers(), rows=("pgd",)) == ["trainers.evaluate"]  # the training had ended
    with pytest.raises(SystemExit) as end:
        made(Trainers(0, processes.Stopped(signal.SIGTERM)), rows=("trades-alpha2",))
    assert end.value.code == 143


def test_a_row_that_fails_stops_no_other(capsys):
    with pytest.raises(SystemExit) as end:
        made(Trainers(0, processes.Failed("status 1: training diverged.")))
    assert end.value.code == 1
    printed = capsys.readouterr()
    assert "failed, status 1: training diverged." in printed.out and "not yet run" in printed.out
    assert printed.err == "error: 1 of 2 runs failed. Look at the logs; the same command tries again\n"
    assert not of_model(Path("results/reproduce"), PGD, "minutes")
    assert of_model(Path("results/reproduce"), TRADES, "minutes")


def test_a_result_of_other_settings_is_refused_and_a_broken_one_too():
    made(Trainers(), rows=("pgd",))
    before = Path("results/table9_minutes.md").read_bytes()
    differing = r"a result with eval_examples 100 \(now 80\), suite_examples 50 \(now 60\), .* Pass the settings of"
    # Who only renders the table, or runs another row of it, would get a page that tells of other settings.
    for chosen in (("pgd",), ("none",), ("trades-alpha2",)):
        with pytest.raises(InvalidInput, match=differing):
            made(Trainers(), rows=chosen, eval_examples=80, suite_examples=60)
    assert before == Path("results/table9_minutes.md").read_bytes()
    path = file_of(Path("results/reproduce"), PGD, "minutes", 0)
    write_json(path, {**read_json(path, "result", fix=""), "metrics": {}})
    with pytest.raises(InvalidInput, match="result: got .*expected the result of a row. Remove the file"):
        made(Trainers(), rows=("none",))


def test_results_name_no_place_of_this_machine():
    command = "python -m trainers.digits --data_dir=/home/me/data --output_dir=/home/me/run"
    assert without_places(command) == "python -m trainers.digits --data_dir=FOLDER"
    assert without_places("x --model=/home/me/best.keras --seed=1") == "x --model=RUN/best.keras --seed=1"


SLEEPER = """
import signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
print("ready", flush=True)
time.sleep(60)
"""


def test_a_process_that_fails_is_quoted(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    (tmp_path / "failing.py").write_text("print('Going on', flush=True)\nraise SystemExit('error: no space left.')")
    (tmp_path / "log").write_text("from before\n")
    with pytest.raises(processes.Failed, match=r"^status 1: no space left\.$"):
        processes.run(["failing"], tmp_path / "log")
    assert (tmp_path / "log").read_text().startswith("from before\nGoing on\n")


def test_a_signal_goes_on_to_the_process(tmp_path):
    (tmp_path / "sleeper.py").write_text(SLEEPER)
    script = """
        import sys
        from pathlib import Path
        from reproduce import processes
        try:
            processes.run(["sleeper"], Path("log"))
        except processes.Stopped as stopped:
            sys.exit(f"stopped by {stopped}")
    """
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(tmp_path)])}
    command = [sys.executable, "-c", textwrap.dedent(script)]
    parent = subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True)
    log, deadline = tmp_path / "log", time.monotonic() + 60
    while not (log.exists() and "ready" in log.read_text()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    parent.send_signal(signal.SIGTERM)
    assert parent.communicate(timeout=60)[1] == "stopped by SIGTERM\n"


@pytest.mark.slow
def test_digits_rows_for_real(capsys):
    """The trainers' own processes: one is killed in its training, and goes on by the same command."""
    given = settings(rows=("pgd",), train_examples=128, eval_examples=32, suite="short", suite_examples=16)
    (job,) = (Job(PGD, 0, given),)
    short = {"recipe": "fast", "architecture": "digits_cnn", "train_examples": 128, "epochs": 8}
    with mock.patch.object(Minutes, "settings_of", lambda *_, **__: short):
        job.folder.parent.mkdir(parents=True)
        training = subprocess.Popen(
            [sys.executable, "-m", *job.commands()[0]],
            env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.DEVNULL,
        )  # fmt: skip
        deadline = time.monotonic() + 240
        while not (job.folder / "history.csv").exists():
            assert time.monotonic() < deadline and training.poll() is None
            time.sleep(0.05)
        training.kill()
        training.wait()
        assert not job.is_done() and len(job.commands()) == 2
        with mock.patch.dict(os.environ, {"PYTHONPATH": str(ROOT)}):
            making.make(given)
        assert "Going on" in job.log.read_text()
        (found,) = of_model(Path("results/reproduce"), PGD, "minutes")
        assert found["seconds"] > 0 and found["suite"]["examples"] == 16 and found["metrics"]["examples"] == 32
        assert json.loads(job.result.read_text())["commands"][1].startswith(
            "python -m trainers.evaluate --dataset=digits"
        )
        assert not job.commands()


def test_a_commit_is_marked_for_changed_code_and_not_for_a_changed_page(tmp_path):
    def git(*words):
        who = ["-c", "user.name=A", "-c", "user.email=a@example.org"]
        subprocess.run(["git", "-C", str(tmp_path), *who, *words], check=True, capture_output=True)

    assert commit_of(tmp_path) is None
    (tmp_path / "room").mkdir()
    for name in ("room/code.py", "page.md"):
        (tmp_path / name).write_text("first")
    git("init")
    git("add", ".")
    git("commit", "--message=first")
    commit = commit_of(tmp_path)
    assert len(commit) == 7 and int(commit, 16) >= 0
    (tmp_path / "page.md").write_text("second")
    (tmp_path / "scratch.py").write_text("not of the checkout")
    assert commit_of(tmp_path) == commit
    (tmp_path / "room/code.py").write_text("second")
    assert commit_of(tmp_path) == f"{commit}-dirty"
