"""Searches in processes of their own that are killed: one alone, and a chief with two workers."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[1]
FLAGS = [
    "--dataset=digits",
    "--tuner=random",
    "--max_trials=4",
    "--epochs=3",
    "--train_examples=256",
    "--validation_examples=48",
    "--eval_examples=32",
    "--attack_steps=1",
    "--eval_attack_steps=10",  # a weak attack would make these classifiers masked
    "--eval_attack_step_size=0.05",
    "--alpha_test=1",
]


# A search that writes a checkpoint after every batch.
OFTEN = "import runpy; from trainers.runs import run; run.CHECKPOINT_MINUTES = 1e-9; "
OFTEN += "runpy.run_module('tuning.search', run_name='__main__')"


def start(folder: Path, log: Path, *flags: str, **environment: str) -> subprocess.Popen:
    """Start a search that prints into a file."""
    command = [sys.executable, "-u", "-c", OFTEN, *FLAGS, *flags, f"--output_dir={folder}"]
    with open(log, "a") as file:
        return subprocess.Popen(
            command, stdout=file, stderr=file, env={**os.environ, "PYTHONPATH": str(ROOT), **environment}
        )


def wait_until(condition: Callable[[], object], seconds: float = 240) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def kill(process: subprocess.Popen) -> None:
    process.send_signal(signal.SIGKILL)
    process.wait()


def trials_in(folder: Path) -> list[dict]:
    return [json.loads(path.read_text()) for path in sorted(folder.glob("trials/trial_*/trial.json"))]


def assert_all_accounted_for(folder: Path) -> None:
    """Four trials, all complete, each value once and each measured once, and one test of the best."""
    trials = trials_in(folder)
    assert [trial["trial_id"] for trial in trials] == ["0", "1", "2", "3"]
    assert {trial["status"] for trial in trials} == {"COMPLETED"}
    assert len({trial["hyperparameters"]["values"]["alpha_train"] for trial in trials}) == 4
    for trial in trials:
        (observation,) = trial["metrics"]["metrics"]["val_A_sa"]["observations"]
        assert len(observation["value"]) == 1
    rows = json.loads((folder / "trials.json").read_text())
    assert [row["objective"] for row in rows] == [trial["score"] for trial in trials]
    best = max(trials, key=lambda trial: trial["score"])
    assert json.loads((folder / "best/metrics.json").read_text())["trial"] == best["trial_id"]


def test_a_search_that_is_terminated_and_killed_in_a_trial_goes_on_to_the_same_bits(tmp_path):
    whole, folder = tmp_path / "whole", tmp_path / "search"
    first = start(whole, tmp_path / "log of the whole", "--deterministic")
    assert first.wait(timeout=240) == 0

    def is_in_second_epoch(trial: int, log: Path) -> bool:
        is_told = re.search(rf"Trial {trial}: .*\n +1/3 ", log.read_text(), re.DOTALL)
        return bool(is_told and any(folder.glob(f"trials/trial_{trial}/**/epoch-000001-*")))

    for come, trial, status in (
        (signal.SIGTERM, 0, 128 + signal.SIGTERM),
        (signal.SIGKILL, 2, -signal.SIGKILL),
    ):
        log = tmp_path / f"log until {come.name}"
        process = start(folder, log, "--deterministic")
        try:
            wait_until(lambda log=log, trial=trial: is_in_second_epoch(trial, log))
        finally:
            process.send_signal(come)
            assert process.wait(timeout=60) == status
        assert "Traceback" not in log.read_text()
    done, *_, running = trials_in(folder)
    assert (done["status"], running["status"]) == ("COMPLETED", "RUNNING")
    log = tmp_path / "log of the rest"
    assert start(folder, log, "--deterministic").wait(timeout=240) == 0, log.read_text()
    assert_all_accounted_for(folder)
    assert trials_in(folder)[0] == done
    assert [trial | {"message": None} for trial in trials_in(folder)] == trials_in(whole)
    assert "\nGoing on " in log.read_text() and len(re.findall(r"^ +1/3 ", log.read_text(), re.MULTILINE)) == 1
    rows = json.loads((folder / "trials.json").read_text())
    (told,) = re.findall(r"^Trial 3 took .*: val_A_strong ([\d.]+); best so far", log.read_text(), re.MULTILINE)
    assert rows[3]["trial"] == 3 and float(told) == pytest.approx(rows[3]["objective"], abs=1e-4)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_a_chief_and_two_workers_of_which_one_is_killed(tmp_path):
    folder = tmp_path / "search"
    place = {"KERASTUNER_ORACLE_IP": "127.0.0.1", "KERASTUNER_ORACLE_PORT": str(free_port())}

    def begin(name: str, log: str) -> subprocess.Popen:
        return start(folder, tmp_path / log, KERASTUNER_TUNER_ID=name, **place)

    processes = {name: begin(name, name) for name in ("chief", "worker0", "worker1")}
    try:
        wait_until(lambda: re.search(r"\n +1/3 ", (tmp_path / "worker1").read_text()))
        kill(processes["worker1"])
        # The other one does all that is left but the dead one's trial, for which the chief waits, and says so.
        assert processes["worker0"].wait(timeout=240) == 0, (tmp_path / "worker0").read_text()
        waiting = re.compile(r"At work: worker1 \(trial \d\)\n\Z")
        wait_until(lambda: waiting.search((tmp_path / "chief").read_text()))
        assert processes["chief"].poll() is None
        assert sorted(trial["status"] for trial in trials_in(folder)) == ["COMPLETED"] * 3 + ["RUNNING"]
        # Started again under its name, it takes its trial up.
        processes["worker1"] = begin("worker1", "worker1 again")
        for name in ("worker1", "chief"):
            assert processes[name].wait(timeout=240) == 0, (tmp_path / name).read_text()
    finally:
        for process in processes.values():
            kill(process)
    assert_all_accounted_for(folder)
    assert "No more trials for this worker." in (tmp_path / "worker0").read_text()
    assert "\nGoing on " in (tmp_path / "worker1 again").read_text()
