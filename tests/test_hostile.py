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

from tests.hostile import traces
from tests.hostile.table import HONEST, HOSTILE
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


@pytest.mark.slow
def test_a_hostile_file_takes_less_than_a_gigabyte_and_ten_seconds(tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TFDS_DATA_DIR": str(tmp_path)}
    command = [sys.executable, "-m", "tests.hostile"]
    ended = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=1_200)
    found = [json.loads(line) for line in ended.stdout.splitlines() if line.startswith('{"name"')]
    assert [each["name"] for each in found] == list(HOSTILE), ended.stderr[-2_000:]
    assert not [each for each in found if each["seconds"] > 10 or each["megabytes"] > 1_024 or each["left_traces"]]
    for each in found:
        told = HOSTILE[each["name"]].told
        assert each["kind"] == ("" if told is None else InvalidInput.__name__), each
        if told is not None:
            assert_one_line(each["message"], told)
