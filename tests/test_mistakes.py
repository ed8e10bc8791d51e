"""Every mistake is one line with what was got, what was expected and what to do, and leaves nothing behind."""

import dataclasses
import json
import os
import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path
from unittest import mock

import keras
import numpy as np
import pytest
import tensorflow as tf
from absl import flags
from PIL import Image

import tuning
import wmr_tf
from reproduce.settings import Reproduction
from tests.mistakes import CALLS, COMMANDS
from tests.test_compare import ATTACK, WEAK, metrics_of
from trainers import cli
from trainers.compare import Comparison
from trainers.matched import Pair
from trainers.settings.config import Experiment, ModelEvaluation
from tuning.search import Search
from wmr_tf import InvalidInput, architectures, attacks, callbacks, methods
from wmr_tf.evaluation import minimal_radii
from wmr_tf.saving import load_classifier, save_classifier

# Few steps on purpose; and what runs here as a command has been imported before.
pytestmark = pytest.mark.filterwarnings(
    "ignore:attack. its steps reach", "ignore:.*found in sys.modules:RuntimeWarning"
)

ROOT = Path(__file__).resolve().parents[1]
TRAINERS = ("digits", "mnist", "cifar10", "tiny_imagenet", "custom", "evaluate", "compare", "matched", "resume")
MODULES = {name: f"trainers.{name}" for name in TRAINERS} | {"search": "tuning.search", "table1": "reproduce.table1"}
MESSAGE = re.compile(r"[^\n]+?: got [^\n]+, expected [^\n]+\. [^\n]+")


def network(shape=(8, 8, 1), classes=10, activation=None):
    layers = [keras.layers.Flatten(), keras.layers.Dense(classes, activation)]
    return keras.Sequential([keras.Input(shape), *layers])


def write_data(place):
    """Write folders of images and .npz files, of which only photos are as they should be."""
    for folder in ("photos", "one_class", "empty_class", "unreadable", "sizes", "few"):
        for name in ("ant", "bee")[: 1 if folder in ("one_class", "empty_class") else 2]:
            (place / folder / name).mkdir(parents=True)
            for number in range(1 if folder == "few" else 5):
                pixels = np.random.default_rng([number, ord(name[0])]).integers(0, 256, [8, 8, 3], np.uint8)
                Image.fromarray(pixels).save(place / folder / name / f"{number}.png")
    (place / "empty_class/bee").mkdir()
    (place / "unreadable/bee/9.png").write_text("no image")
    Image.new("RGB", (9, 9)).save(place / "sizes/bee/9.png")
    x, y = np.zeros([20, 8, 8, 1], np.uint8), np.arange(20) % 4
    np.savez(place / "labels.npz", x_train=x, y_train=y + 1, x_test=x, y_test=y + 1)
    np.savez(place / "pickle.npz", x_train=x, y_train=np.array([{}] * 20), x_test=x, y_test=y)
    np.savez(place / "missing.npz", x_train=x, y_train=y)
    (place / "broken.npz").write_text("no arrays")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with models, runs and files of every kind; no mistake changes it."""
    place = tmp_path_factory.mktemp("mistakes")
    (place / "file").write_text("no model")
    (place / "empty.keras").touch()
    for folder in ("folder", "broken", "unfinished/checkpoints", "strange/checkpoints", "taken", "notes"):
        (place / folder).mkdir(parents=True)
    (place / "notes/notes.txt").touch()
    save = {"fits": {}, "wide": {"shape": (28, 28, 1)}, "channels": {"shape": (1, 8, 8)}, "five": {"classes": 5}}
    save |= {"more": {"classes": 11}, "softmax": {"activation": "softmax"}}
    write_data(place)
    for name, settings in save.items():
        network(**settings).save(place / f"{name}.keras")
    not_a_number = network()
    not_a_number.set_weights([weight * np.nan for weight in not_a_number.get_weights()])
    not_a_number.save(place / "nan.keras")
    network().save(place / "broken/fits.keras")
    (place / "broken/config.json").write_text("{broken")
    for folder in ("taken", "unfinished"):
        (place / folder / "config.json").write_text("{}")
    strange = dataclasses.asdict(Experiment.of("digits")) | {"method": "fgsm"}
    (place / "strange/config.json").write_text(json.dumps(strange))
    metrics = metrics_of(WEAK)
    attacked = {"other": {"epsilon": 0.1}, "faster": {"precision": "bfloat16"}, "restarted": {"restarts": 5}}
    written = {name: {**metrics, "attack": {**ATTACK, **change}} for name, change in attacked.items()}
    written |= {"run": metrics, "images": metrics, "list": [metrics], "fewer": {**metrics, "examples": 32}}
    written |= {"no_attack": {**metrics, "attack": None}, "no_alpha": {**metrics, "non_uniform": [{"A_sa": 0.5}]}}
    for name, content in written.items():
        (place / name).mkdir()
        (place / name / "metrics.json").write_text(json.dumps(content))
    (place / "images/images.npz").write_text("no arrays")
    (place / "latin").mkdir()
    (place / "latin/metrics.json").write_bytes(b'{"dataset": "\xe9"}')
    return place


class Subclassed(keras.Model):
    """Its end is in its code."""

    def call(self, images):
        return keras.ops.softmax(images)


@pytest.fixture(scope="module")
def names():
    """What the calls are made of: a few images, classifiers without and with a fault, training models, a result."""
    x = np.random.default_rng(0).random([6, 8, 8, 3], np.float32)
    y = np.array([0, 1, 2, 0, 1, 2])
    first = {"kernel_size": 3, "name": "conv"}

    def classifier(classes=3, activation=None):
        dense = [keras.layers.Flatten(), keras.layers.Dense(classes, activation)]
        return keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Conv2D(2, **first), *dense])

    def compiled(method, **settings):
        model = wmr_tf.AdversarialModel(classifier(), method)
        model.compile("sgd", **settings)
        return model

    attack = attacks.PGD(epsilon=0.1, step_size=0.1, steps=2)
    plain = classifier()
    return {name: getattr(wmr_tf, name) for name in wmr_tf.__all__} | {
        "architectures": architectures,
        "attack": attack,
        "classifier": plain,
        "dataset": tf.data.Dataset.from_tensor_slices((x, y)),
        "evaluation": callbacks.RobustEvaluation((x, y), attack),
        "flat": network((4,)),
        "four": classifier(4),
        "iaat": compiled(methods.IAAT(attack, examples=6)),
        "load_classifier": load_classifier,
        "minimal_radii": minimal_radii,
        "maps": keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Conv2D(2, **first)]),
        "maps_of_softmax": keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Conv2D(2, 3, activation="softmax")]),
        "model": compiled(methods.PGD(attack)),
        "nan": float("nan"),
        "np": np,
        "one_logit": classifier(1),
        "result": wmr_tf.evaluate_robustness(plain, (x, y), attack, suite=None, verbose=0),
        "save_classifier": save_classifier,
        "sigmoids": classifier(activation="sigmoid"),
        "softmax": classifier(activation="softmax"),
        "subclassed": Subclassed(),
        "tuning": tuning,
        "unbuilt": keras.Sequential([keras.layers.Dense(3, activation="softmax")]),
        "whole_numbers": keras.Sequential([keras.Input([4], dtype="uint8"), keras.layers.Dense(3)]),
        "with_loss": compiled(methods.Natural(), loss="mse"),
        "x": x,
        "y": y,
        "z": np.random.default_rng(1).normal(size=[6, 3]),
    }


def snapshot(folder):
    """Return size and time of change of all that is in a folder."""
    return {str(path): (path.stat().st_size, path.stat().st_mtime_ns) for path in folder.rglob("*")}


def parsed(line):
    """Return the variables that a command line sets, the module that it names, and the arguments."""
    variables, words = {}, shlex.split(line)
    while "=" in words[0]:
        name, _, variables[name] = words.pop(0).partition("=")
    return variables, MODULES[words[0]], words[1:]


def run_here(module, arguments):
    """Run `python -m module` in this process, without absl's start-up, and return its exit status."""
    before = set(flags.FLAGS)
    start = mock.patch.object(cli.app, "run", lambda started, flags_parser: started(flags_parser(sys.argv)))
    try:
        with start, mock.patch.object(sys, "argv", [module, *arguments]):
            runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as end:
        return end.code
    finally:
        for name in set(flags.FLAGS) - before:
            delattr(flags.FLAGS, name)
        flags.FLAGS.unparse_flags()
    return 0


@pytest.mark.parametrize("line", COMMANDS)
def test_a_wrong_command_is_one_line_and_status_2(line, place, monkeypatch, capfd):
    variables, module, arguments = parsed(line)
    monkeypatch.chdir(place)
    monkeypatch.delenv("TF_CONFIG", raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    before = snapshot(place)
    assert run_here(module, arguments) == 2
    printed = capfd.readouterr()
    assert printed.out == ""
    assert re.fullmatch(f"error: {MESSAGE.pattern}\n", printed.err) and printed.err[:-1].isprintable(), printed.err
    assert COMMANDS[line] in printed.err
    assert snapshot(place) == before


@pytest.mark.parametrize("call", CALLS)
def test_a_wrong_call_is_one_line(call, place, names, monkeypatch, capfd):
    monkeypatch.chdir(place)
    before = snapshot(place)
    with pytest.raises(InvalidInput) as error:
        eval(call, dict(names))
    assert MESSAGE.fullmatch(str(error.value)) and str(error.value).isprintable(), str(error.value)
    assert CALLS[call] in str(error.value)
    assert capfd.readouterr() == ("", "")
    assert snapshot(place) == before


def test_the_table_is_long_and_knows_every_flag():
    assert len(COMMANDS) + len(CALLS) >= 150
    given = {word.partition("=")[0] for line in COMMANDS for word in shlex.split(line)}
    for settings in (Experiment, ModelEvaluation, Comparison, Pair, Search, Reproduction):
        known = {f"--{field.name}" for field in dataclasses.fields(settings) if "help" in field.metadata}
        assert not known - given - {"--data_dir"}, settings.__name__


# The others are slow: most of them import TensorFlow.
FEW = ("digits --epochs=three", "digits --output_dir=file/run", "evaluate --dataset=digits --model=file")


@pytest.mark.parametrize(
    "line", [pytest.param(line, marks=[pytest.mark.slow] * (line not in FEW)) for line in COMMANDS]
)
def test_a_wrong_command_for_real(line, place, monkeypatch, capfd):
    """In a process of its own the line is the same to the byte, and TensorFlow adds nothing."""
    variables, module, arguments = parsed(line)
    monkeypatch.chdir(place)
    silenced = ("TF_CONFIG", "TF_CPP_MIN_LOG_LEVEL")
    environment = {name: value for name, value in os.environ.items() if name not in silenced}
    before = snapshot(place)
    ended = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        env={**environment, **variables, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        timeout=120,
    )
    assert snapshot(place) == before
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    run_here(module, arguments)
    assert (ended.returncode, ended.stdout, ended.stderr) == (2, b"", capfd.readouterr().err.encode())
