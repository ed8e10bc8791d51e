"""Hostile and broken files do nothing but make one line."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests import test_resume
from tests.hostile import traces
from tests.hostile.records import signed
from tests.hostile.table import HONEST, HOSTILE
from wmr_tf.callbacks import ExactResume
from wmr_tf.checks import InvalidInput, printable

ROOT = Path(__file__).resolve().parents[1]


def assert_one_line(message: str, told: str) -> None:
    assert message == printable(message) and len(message) < 2_000
    assert re.search(r"^[^:]+: got .+, expected .+\. .+\.$", message) and re.search(told, message), message


@contextlib.contextmanager
def within(seconds: int):
    """Raise TimeoutError in a block that hangs."""

    def out_of_time(*_):
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, out_of_time)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("name", [name for name, hostile in HOSTILE.items() if not hostile.is_costly])
def test_a_hostile_file_makes_one_line_and_nothing_else(name, tmp_path, monkeypatch):
    hostile, folder = HOSTILE[name], tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend("")  # the working folder, as for every command
    path = hostile.build(folder)
    before = traces(folder)
    with within(60), contextlib.nullcontext() if hostile.told is None else pytest.raises(InvalidInput) as refused:
        hostile.read(path)
    assert traces(folder) == before
    if hostile.told is not None:
        assert_one_line(str(refused.value), hostile.told)


@pytest.mark.parametrize("name", HONEST)
def test_what_is_not_changed_is_read(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    build, read = HONEST[name]
    read(build(tmp_path))


def test_a_checkpoint_whose_state_is_of_another_kind_is_one_line(tmp_path):
    test_resume.stopped([ExactResume(tmp_path)], test_resume.Killer(1, 2, kept_before=1))
    (path,) = tmp_path.glob("*/state.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | {"epoch": "\x1b[2J", "variables": 0}))
    signed(tmp_path)
    with pytest.raises(InvalidInput) as refused:
        test_resume.fit(ExactResume(tmp_path))
    assert_one_line(str(refused.value), "expected the state of this training")


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What each hostile file did to a process that read them one after the other."""
    folder = tmp_path_factory.mktemp("data")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TFDS_DATA_DIR": str(folder)}
    command = [sys.executable, "-m", "tests.hostile"]
    ended = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=1_200)
    outcomes = [json.loads(line) for line in ended.stdout.splitlines() if line.startswith('{"name"')]
    assert [each["name"] for each in outcomes] == list(HOSTILE), ended.stderr[-2_000:]
    return {each["name"]: each for each in outcomes}


@pytest.mark.slow
@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_takes_less_than_a_gigabyte_and_ten_seconds(found, name):
    each, told = found[name], HOSTILE[name].told
    assert each["seconds"] <= 10 and each["megabytes"] <= 1_024 and not each["left_traces"], each
    assert each["kind"] == ("" if told is None else InvalidInput.__name__), each
    if told is not None:
        assert_one_line(each["message"], told)
