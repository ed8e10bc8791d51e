"""Models of others: code needs trust, what is registered or Keras's own does not."""

import dataclasses
import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from tests.hostile import MARKER
from tests.hostile.models import lambda_layer, with_layer
from tests.hostile.weights import legacy
from tests.marking import some
from tests.test_methods import data, method_named
from trainers.runs import run, testing
from trainers.runs.folder import experiment_of, run_folder, write_config
from trainers.runs.run import resume_command
from trainers.settings.config import Experiment
from wmr_tf import AdversarialModel, InvalidInput, methods
from wmr_tf.callbacks import SaveBestClassifier
from wmr_tf.data import load
from wmr_tf.fit.kept import take_state
from wmr_tf.saving import load_classifier

ROOT = Path(__file__).resolve().parents[1]
NEEDS_TRUST = r"which holds .+Pass --trust \(in Python trust=True\) if you made the file or trust whoever did\.$"

MINE = """
import keras

@keras.saving.register_keras_serializable("mine")
class Doubled(keras.layers.Layer):
    def call(self, x):
        return 2 * x
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty working folder, from which modules are imported as every command does."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


@pytest.mark.parametrize("build", [lambda_layer(), legacy("old.h5")], ids=["Lambda", "old format"])
def test_code_runs_for_those_who_trust_it(here, build):
    path = build(here)
    with pytest.raises(InvalidInput, match=NEEDS_TRUST):
        load_classifier(path)
    assert not (here / MARKER).exists()
    assert load_classifier(path, trust=True)(np.zeros([1, 2, 2, 1])).shape == (1, 3)
    assert (here / MARKER).exists()


def test_a_module_is_imported_for_those_who_trust_it_and_needs_no_trust_once_it_is(here, monkeypatch):
    (here / "mine_of_this_test.py").write_text(MINE)
    mine = importlib.import_module("mine_of_this_test")
    keras.Sequential([keras.Input((2,)), mine.Doubled()]).save("mine.keras")
    images = np.ones([1, 2], np.float32)
    assert load_classifier("mine.keras")(images).numpy().tolist() == [[2, 2]]
    # As in another process, which has not imported it.
    monkeypatch.delitem(sys.modules, "mine_of_this_test")
    monkeypatch.delitem(keras.saving.get_custom_objects(), "mine>Doubled")
    with pytest.raises(InvalidInput, match=r"holds code, mine_of_this_test\.Doubled.*--trust"):
        load_classifier("mine.keras")
    assert "mine_of_this_test" not in sys.modules
    assert load_classifier("mine.keras", trust=True)(images).numpy().tolist() == [[2, 2]]


def test_a_module_that_is_not_there_is_one_line(here):
    with pytest.raises(InvalidInput, match=r"\(No module named 'nowhere'\).* Add the folder of nowhere\.py to"):
        load_classifier(with_layer("Evil", "nowhere")(here), trust=True)


KEEPS = ("free", "iaat")  # something for each image


@pytest.mark.parametrize("name", some(methods.BY_NAME, fast=KEEPS))
def test_what_trained_a_classifier_is_read_with_all_that_its_method_keeps(name, tmp_path):
    x, y = data(5, 5, 1)
    images = {"image": x, "index": np.arange(16)} if name == "iaat" else x
    classifier = keras.Sequential([keras.Input((5, 5, 1)), keras.layers.Conv2D(2, 3), keras.layers.Flatten()])
    classifier.add(keras.layers.Dense(3))
    model = AdversarialModel(classifier, method_named(name))
    model.compile(optimizer=keras.optimizers.SGD(0.1, momentum=0.9), metrics=["accuracy"])
    model.fit(images, y, batch_size=16, verbose=0)
    model.save(tmp_path / "training.keras")
    loaded = load_classifier(tmp_path / "training.keras")
    np.testing.assert_array_equal(loaded(x), classifier(x))


def not_registered(labels, logits):
    """Be what a classifier is compiled with, which is not read."""


@pytest.mark.parametrize(
    "layer",
    [
        keras.layers.Activation(keras.ops.relu),
        keras.layers.Conv2D(
            2, 3, activation="gelu", kernel_regularizer="l2", kernel_constraint="max_norm", dtype="mixed_bfloat16"
        ),
        keras.layers.RandomFlip(seed=3),
        keras.layers.TimeDistributed(keras.Sequential([keras.layers.Conv1D(3, 1, name="inner"), keras.layers.PReLU()])),
        keras.layers.Normalization(mean=[0.5], variance=[0.1]),
    ],
    ids=lambda layer: layer.name,
)
def test_layers_of_keras_with_what_they_are_made_of_need_no_trust(layer, tmp_path):
    image = keras.Input((6, 6, 1))
    # Constants and operations are in the configuration too.
    shifted = keras.ops.divide(image - np.float32([0.1]), 2.0)
    model = keras.Model(image, keras.layers.Dense(3)(keras.layers.Flatten()(layer(shifted))))
    model.compile("adam", loss=not_registered)
    model.save(tmp_path / "model.keras")
    images = np.random.default_rng(0).random([2, 6, 6, 1], np.float32)
    np.testing.assert_array_equal(load_classifier(tmp_path / "model.keras")(images), model(images))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["MobileNetV3Small", "ConvNeXtTiny", "DenseNet121", "EfficientNetV2B0", "ResNet50V2"])
def test_models_of_keras_applications_need_no_trust(name, tmp_path):
    model = getattr(keras.applications, name)(weights=None, input_shape=(32, 32, 3), classes=5)
    model.save(tmp_path / "model.keras")
    images = np.random.default_rng(0).random([1, 32, 32, 3], np.float32)
    np.testing.assert_array_equal(load_classifier(tmp_path / "model.keras")(images), model(images))


def test_weights_and_surrogate_need_trust_too(here):
    model = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Lambda(lambda x: x), keras.layers.Flatten()])
    model.add(keras.layers.Dense(10))
    model.save("surrogate.keras")
    trusting = Experiment.of("digits", surrogate="surrogate.keras", initialize_from="surrogate.keras", trust=True)
    suspicious = dataclasses.replace(trusting, trust=False)
    test = load("digits").test
    with pytest.raises(InvalidInput, match=f"^surrogate: .*{NEEDS_TRUST}"):
        testing.load_surrogate(suspicious, test)
    assert testing.load_surrogate(trusting, test).count_params() == model.count_params()
    with pytest.raises(InvalidInput, match=NEEDS_TRUST):
        run.build_model(suspicious)
    with pytest.raises(InvalidInput, match=r"^initialize_from: got a model with \d+ weights of other shapes"):
        run.build_model(trusting)


def test_a_folder_cannot_say_that_it_is_trusted(tmp_path):
    (tmp_path / "checkpoints").mkdir()
    write_config(tmp_path, Experiment.of("digits", trust=True, output_dir=str(tmp_path)), command="")
    assert json.loads((tmp_path / "config.json").read_text())["trust"] is True
    experiment = experiment_of(tmp_path)
    assert experiment.trust is False
    for trust in (False, True):
        with run_folder(dataclasses.replace(experiment, trust=trust), "digits") as folder:
            assert folder == tmp_path
    assert resume_command(tmp_path, True) == f"python -m trainers.resume {tmp_path} --trust"
    assert resume_command(tmp_path, False) == f"python -m trainers.resume {tmp_path}"


def test_a_checkpoint_cannot_say_where_files_go(tmp_path):
    best = SaveBestClassifier(tmp_path / "best.keras")
    take_state(best, {"best": 0.5, "best_epoch": 3, "path": "elsewhere.keras", "kept_files": ["monitor"]})
    assert (best.best, best.best_epoch, best.path) == (0.5, 3, tmp_path / "best.keras")
    assert best.kept_files == ("path",)


@pytest.mark.slow
def test_a_training_model_is_read_by_a_program_that_has_imported_nothing_else(here):
    classifier = keras.Sequential([keras.Input((5, 5, 1)), keras.layers.Flatten(), keras.layers.Dense(3)])
    AdversarialModel(classifier, method_named("trades")).save("training.keras")
    code = "from wmr_tf.saving import load_classifier; print(load_classifier('training.keras').count_params())"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    ended = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert ended.stdout == f"{classifier.count_params()}\n", ended.stderr


@pytest.mark.slow
def test_on_the_command_line_code_is_one_line_and_status_2(here):
    path = lambda_layer()(here)
    command = [sys.executable, "-m", "trainers.evaluate", "--dataset=digits", f"--model={path}"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    before = sorted(here.rglob("*"))
    ended = subprocess.run(command, cwd=here, env=environment, capture_output=True, text=True)
    assert (ended.returncode, ended.stdout) == (2, "") and ended.stderr.count("\n") == 1
    assert "which holds code, __lambda__, keras.layers.Lambda, expected" in ended.stderr and "--trust" in ended.stderr
    assert sorted(here.rglob("*")) == before
    ended = subprocess.run([*command, "--trust"], cwd=here, env=environment, capture_output=True, text=True)
    assert ended.returncode == 2 and "images of shape (2, 2, 1), expected images of shape (8, 8, 1)" in ended.stderr
    assert (here / MARKER).exists()
