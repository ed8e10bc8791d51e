"""Checkpoints: written whole, and whatever happens to a byte of one is found."""

import json
import os
import random
import shutil

import numpy as np
import pytest

from wmr_tf.checks import InvalidInput
from wmr_tf.fit import checkpoints
from wmr_tf.fit.kept import assign, values_of
from wmr_tf.saving import written_whole

CONFIG = {"method": {"name": "pgd", "steps": [1, 2]}, "seed": 3}
PLACES = ("epoch-000001-batch-00000007", "epoch-000002-batch-00000000")


def state_at(number):
    rng = np.random.default_rng(number)
    return {
        "epoch": number,
        "loss": [0.1, float("inf"), None],
        "name": "é",
        "weights": [[rng.random((3, 4), dtype="float32")], [rng.integers(0, 9, 5)], [np.array(True)]],
        "callbacks": [{}, {"best_weights": [rng.random(2)], "best": None}],
    }


def write(folder, number, **settings):
    best = folder.parent / "best.keras"
    with written_whole(best) as unfinished:
        unfinished.write_bytes(b"classifier" + bytes([number]))
    files = {"0-best.keras": best}
    return checkpoints.write(folder, PLACES[number - 1], state_at(number), config=CONFIG, files=files, **settings)


@pytest.fixture
def folder(tmp_path):
    """A folder with two checkpoints."""
    folder = tmp_path / "checkpoints"
    assert [write(folder, number).name for number in (1, 2)] == list(PLACES)
    return folder


def assert_same(found, expected):
    if isinstance(expected, dict):
        assert found.keys() == expected.keys()
        expected, found = list(expected.values()), list(found.values())
    if isinstance(expected, list):
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            assert_same(one, other)
    elif isinstance(expected, np.ndarray):
        assert (found.dtype, found.shape, found.tobytes()) == (expected.dtype, expected.shape, expected.tobytes())
    else:
        assert found == expected and type(found) is type(expected)


def newest(folder, **changes):
    told = []
    return checkpoints.newest(folder, config=CONFIG | changes, tell=told.append), told


def test_the_newest_comes_back_bit_by_bit_with_its_files(folder):
    with written_whole(folder.parent / "best.keras") as unfinished:
        unfinished.write_bytes(b"of a later epoch")
    found, told = newest(folder)
    assert found.path == folder / PLACES[1] and not told
    assert_same(found.state, state_at(2))
    assert found.files["0-best.keras"].read_bytes() == b"classifier\x02"


def test_no_folder_and_an_empty_one_have_none(tmp_path):
    assert newest(tmp_path / "nowhere") == (None, [])
    assert newest(tmp_path) == (None, [])


def test_so_many_are_kept_and_what_a_killed_process_began_is_deleted(folder):
    (folder / ".epoch-000009-batch-00000000.0123abcd").mkdir()
    assert newest(folder)[0].path.name == PLACES[1]  # it has no part in anything
    for number in range(3, 7):
        checkpoints.write(folder, f"epoch-{number:06d}", {}, config=CONFIG, keep=3)
    assert sorted(os.listdir(folder)) == ["epoch-000004", "epoch-000005", "epoch-000006"]


def flip(path, rng):
    content = bytearray(path.read_bytes())
    content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    path.write_bytes(content)


def truncate(path, rng):
    os.truncate(path, rng.randrange(path.stat().st_size))


def delete(path, rng):
    path.unlink()


def exchange(path, rng):
    """Put the file of the checkpoint before in its place."""
    shutil.copyfile(path.parent.parent / PLACES[0] / path.name, path)


def overwrite(path, rng):
    """Put another file of the same checkpoint in its place."""
    shutil.copyfile(rng.choice([each for each in path.parent.iterdir() if each != path]), path)


def lengthen(path, rng):
    path.write_bytes(path.read_bytes() + b"\n")


HARMS = (flip, truncate, delete, exchange, overwrite, lengthen)


@pytest.mark.parametrize("number", range(20))
@pytest.mark.parametrize("harm", HARMS)
def test_harm_to_any_file_is_found_and_the_checkpoint_before_is_used(folder, harm, number):
    names = ["arrays.npz", "state.json", "0-best.keras", "manifest.json"]
    harm(folder / PLACES[1] / names[number % 4], random.Random(number))
    found, told = newest(folder)
    assert found.path == folder / PLACES[0]
    assert_same(found.state, state_at(1))
    assert len(told) == 1 and "is damaged" in told[0] and str(folder / PLACES[1]) in told[0] and "\n" not in told[0]


def test_a_file_more_and_a_folder_of_another_name_are_found(folder):
    (folder / PLACES[1] / "more").write_text("")
    assert newest(folder)[0].path.name == PLACES[0]
    (folder / PLACES[0]).rename(folder / "epoch-000003")
    with pytest.raises(InvalidInput, match="checkpoints: got only damaged ones in"):
        newest(folder)


def test_a_damaged_one_does_not_count_among_the_newest(folder):
    flip(folder / PLACES[1] / "arrays.npz", random.Random(0))
    newest(folder)
    checkpoints.write(folder, "epoch-000001-batch-00000008", {}, config=CONFIG)
    assert sorted(os.listdir(folder)) == [PLACES[0], "epoch-000001-batch-00000008"]


def test_other_settings_are_refused_with_what_differs(folder):
    expected = r"of a training with method.steps.1 2 \(now 5\), seed 3 \(now 4\), expected those of this training"
    with pytest.raises(InvalidInput, match=expected):
        newest(folder, method={"name": "pgd", "steps": (1, 5)}, seed=4)


def test_what_cannot_be_written_leaves_those_before(folder, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    before = sorted(folder.rglob("*"))
    for step in ("fsync", "rename"):
        with monkeypatch.context() as context:
            context.setattr(os, step, full)
            with pytest.raises(OSError, match="No space"):
                checkpoints.write(folder, "epoch-000003", state_at(3), config=CONFIG)
        assert sorted(folder.rglob("*")) == before
    assert newest(folder)[0].path.name == PLACES[1]


def test_nothing_is_unpickled(folder):
    path = folder / PLACES[1]
    np.savez(path / "arrays.npz", **{"0": np.array([{}], dtype=object)})
    content = json.loads((path / "manifest.json").read_text())["content"]
    content["files"] = checkpoints._described(path)
    (path / "manifest.json").write_text(checkpoints._manifest(content))
    found, told = newest(folder)
    assert found.path.name == PLACES[0] and "holds objects, which only pickle reads" in told[0]


def test_variables_of_every_type_come_back(tmp_path):
    import tensorflow as tf

    values = [np.float32([1, -0.0]), np.array([1.5, 3e38], tf.bfloat16.as_numpy_dtype), np.int64(7), np.array([True])]
    variables = [tf.Variable(value) for value in values]
    checkpoints.write(tmp_path, "epoch-000001", {"variables": values_of(variables)}, config={})
    for variable in variables:
        variable.assign(tf.zeros_like(variable))
    assign(variables, checkpoints.newest(tmp_path, config={}, tell=print).state["variables"])
    for variable, value in zip(variables, values, strict=True):
        assert variable.numpy().tobytes() == value.tobytes()


def test_no_folder_is_touched_that_is_not_a_checkpoint(tmp_path):
    others = [".git/objects", ".venv/lib", "data", "train", "validation", "notes.damaged", ".epoch-notes"]
    for name in others:
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "arrays.npz").touch()  # one file of that name makes no checkpoint
    begun = [f".{PLACES[0]}.0123abcd", f".{PLACES[0]}.damaged"]  # what a killed process leaves
    for name in begun:
        (tmp_path / name).mkdir()
    assert checkpoints.newest(tmp_path, config=CONFIG, tell=pytest.fail) is None
    for number in (1, 2):
        checkpoints.write(tmp_path, PLACES[number - 1], state_at(number), config=CONFIG, before=PLACES[0])
    found = checkpoints.newest(tmp_path, config=CONFIG, tell=pytest.fail)
    assert found.path.name == PLACES[1]
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {*PLACES, *(name.split("/")[0] for name in others)}
    assert all((tmp_path / name / "arrays.npz").is_file() for name in others)
