"""What stands on a terminal and what in a log: bars, colours, and the table of a run's epochs."""

import fcntl
import json
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from trainers.runs.telling import AccuracyTable
from wmr_tf import attacks
from wmr_tf.engine import terminal

ROOT = Path(__file__).resolve().parents[1]
COLUMNS = 80

WORK = """
import time
from trainers.cli import fail
from wmr_tf.engine.progress import Progress
progress = Progress(4, unit="step", verbose=1)
for _ in range(4):
    time.sleep(0.15)
    progress.add(1)
print("a row", flush=True)
fail("a mistake")
"""


def environment(**changes):
    kept = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "COLUMNS", "LINES")}
    return {**kept, "PYTHONPATH": str(ROOT), "TERM": "xterm", **changes}


def in_a_terminal(command, cwd=ROOT, **changes):
    """What a command writes to a terminal of 80 columns."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, COLUMNS, 0, 0))
    settings = {"stdin": theirs, "stdout": theirs, "stderr": theirs, "cwd": cwd, "env": environment(**changes)}
    process = subprocess.Popen(command, start_new_session=True, **settings)
    os.close(theirs)
    written = b""
    try:
        while part := os.read(ours, 65536):
            written += part
    except OSError:  # Linux's way to say that the other end is closed
        pass
    os.close(ours)
    process.wait(timeout=60)
    return written.decode()


def seen(written):
    """The lines that are left on the terminal, of those that were written over the last."""
    text = re.sub(r"\033\[\d+m", "", written.replace("\r\n", "\n"))
    assert "\033" not in text
    lines = []
    for line in text.split("\n"):
        shown = ""
        for part in line.split("\r"):
            shown = part + shown[len(part) :]
        lines.append(shown.rstrip())
    return lines


def test_a_terminal_has_a_bar_that_is_gone_at_its_end_and_colours():
    written = in_a_terminal([sys.executable, "-c", WORK])
    assert "\rstep 1/4 ━━━━━─────────────── 0 s left" in written
    assert "\033[31merror:\033[0m a mistake" in written
    assert seen(written) == ["a row", "error: a mistake", ""]
    assert all(len(part) < COLUMNS for part in re.split(r"[\r\n]", re.sub(r"\033\[\d+m", "", written)))


def test_no_color_takes_the_colours_and_leaves_the_bar():
    written = in_a_terminal([sys.executable, "-c", WORK], NO_COLOR="1")
    assert "━" in written and "\033" not in written


def test_a_dumb_terminal_has_neither():
    written = in_a_terminal([sys.executable, "-c", WORK], TERM="dumb")
    assert written.replace("\r\n", "\n") == "a row\nerror: a mistake\n"


def test_a_pipe_has_neither():
    ended = subprocess.run([sys.executable, "-c", WORK], env=environment(), capture_output=True, text=True, timeout=60)
    assert (ended.stdout, ended.stderr) == ("a row\n", "error: a mistake\n")


def table(epochs=100, **changes):
    """A table of an evaluation that was not made."""
    made = {
        "batches": [(None, np.zeros(70)), (None, np.zeros(50))],
        "attack": attacks.PGD(epsilon=8 / 255, step_size=0.01, steps=20),
        "suite": "short",
        "alpha_test": (1.5,),
        "seconds": (200.25, 4000.0),
        "is_masked": False,
    }
    told = AccuracyTable(SimpleNamespace(**made | changes), "digits")
    told.set_params({"epochs": epochs})
    told.on_train_begin()
    return told


def logs(loss=1.23456, **changes):
    accuracies = {"A_nat": 1.0, "A_rob": 0.5083, "A_strong": 0.3167, "A_sa": 0.4693, "A_tr": 0.3897}
    return {"loss": loss, **{f"val_{name}": value for name, value in (accuracies | changes).items()}}


def run_epochs(told, *of_epochs):
    for epoch, found in enumerate(of_epochs):
        told.on_epoch_begin(epoch)
        told.on_epoch_end(epoch, found)


def test_epochs_are_rows_below_one_head_within_80_columns(capsys):
    nan = {name: float("nan") for name in ("A_nat", "A_rob", "A_strong", "A_sa", "A_tr")}
    run_epochs(table(), logs(), logs(A_nat=0.0712, A_rob=0.0), logs(loss=123456.0, **nan))
    lines = capsys.readouterr().out.splitlines()
    assert " ".join(lines[1:4]) == (
        "120 validation images of digits. Test attack: linf PGD, epsilon 0.0313725, 20 steps of 0.01. Stronger "
        "attacks: suite short. Accuracies are in percent, A_sa and A_tr at alpha_test 1.5. Times are in seconds."
    )
    assert lines[4:] == [
        "",
        "  epoch     loss  A_nat  A_rob  A_strong   A_sa   A_tr train s  eval s",
        "  1/100     1.23 100.00  50.83     31.67  46.93  38.97  3799.8   200.2",
        "  2/100     1.23   7.12   0.00     31.67  46.93  38.97  3799.8   200.2",
        "  3/100 1.23e+05      -      -         -      -      -  3799.8   200.2",
    ]
    assert max(map(len, lines)) <= COLUMNS


@pytest.mark.parametrize(
    ("changes", "found", "mark", "colour"),
    [
        ({"is_masked": True}, logs(), "masked", terminal.YELLOW),
        ({}, logs(loss=float("nan")), "diverged", terminal.RED),
    ],
)
def test_a_row_that_is_of_no_use_says_so_in_colour(capsys, monkeypatch, changes, found, mark, colour):
    run_epochs(table(**changes), found)
    plain = capsys.readouterr().out
    assert plain.endswith(f"  {mark}\n") and "\033" not in plain and len(plain.splitlines()[-1]) <= COLUMNS
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    run_epochs(table(**changes), found)
    coloured = capsys.readouterr().out.splitlines()[-1]
    assert coloured == f"\033[{colour}m{plain.splitlines()[-1]}\033[0m"


FEW = ["--epochs=2", "--train_examples=64", "--validation_examples=16", "--eval_examples=16", "--eval_attack_steps=2"]
FEW += ["--eval_attack_step_size=0.1", "--suite=short", "--radii=none", "--output_dir=run"]


@pytest.mark.slow
def test_a_run_on_a_terminal_and_in_a_log(tmp_path):
    command = [sys.executable, "-m", "trainers.digits", "--method=pgd", "--attack_steps=2", *FEW]
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    written = in_a_terminal(command, cwd=tmp_path / "a")
    log = subprocess.run(command, cwd=tmp_path / "b", env=environment(), capture_output=True, text=True, timeout=300)
    assert log.returncode == 0, log.stderr
    assert "\r" not in log.stdout + log.stderr and "\033" not in log.stdout + log.stderr
    assert "━" not in log.stdout and re.search(r"\repoch 1/2: step \d/2 ━*─", written)
    assert "\033[1m  epoch     loss" in written
    lines = seen(written)
    for text in (log.stdout.splitlines(), lines):
        (head,) = (place for place, line in enumerate(text) if line.startswith("  epoch"))
        assert [row.split()[0] for row in text[head + 1 : head + 3]] == ["1/2", "2/2"]
        assert [line.split()[0] for line in text if line][-3:] == ["report.html", "metrics.json", "best.keras"]
        assert not any("tensorflow" in line.lower() or "cuda" in line.lower() for line in text)
    files = [line.split()[0] for line in lines if line][-3:]
    assert all((tmp_path / "a" / "run" / name).is_file() for name in files)
    kept = tmp_path / "b" / "run"
    names = ("report.html", "robustness.png", "training.png")
    before = {name: (kept / name).read_bytes() for name in names}
    for name in names:
        (kept / name).write_bytes(b"")
    again = [sys.executable, "-m", "trainers.report", "run"]
    done = subprocess.run(again, cwd=kept.parent, env=environment(), capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (0, "Report: run/report.html\n", "")
    assert {name: (kept / name).read_bytes() for name in names} == before
    assert json.loads((kept / "metrics.json").read_text())["examples"] == 16
