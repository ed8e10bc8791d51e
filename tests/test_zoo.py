"""The classifiers of the zoo are those of their cards, and what adds one types no figure by hand."""

import dataclasses
import json
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest

from studies import zoo_card
from tests.marking import some
from wmr_tf import attacks, data, evaluate_robustness, zoo
from wmr_tf.checks import InvalidInput
from wmr_tf.evaluation.outcomes import hash_of_weights

ROOT = Path(__file__).resolve().parents[1]
SCORED = 300


def accuracy_is(got, metrics, name, images):
    """Whether the accuracy of a few images is that of the card, within five standard errors and two images."""
    expected = metrics[name]
    error = np.sqrt(expected * (1 - expected) / images)
    return abs(got - expected) <= 5 * error * np.sqrt(1 - images / metrics["examples"]) + 2 / images


OF_DIGITS = [name for name in zoo.names() if zoo.card(name).evaluations[0]["dataset"] == "digits"]


@pytest.mark.parametrize("name", some(zoo.names(), fast=OF_DIGITS))
def test_a_classifier_scores_as_its_card_says(name, request):
    metrics = zoo.card(name).evaluations[0]
    place = None if metrics["dataset"] == "digits" else request.getfixturevalue("tfds_dir")
    count = metrics["examples"] if metrics["dataset"] == "digits" else SCORED
    test = data.load(metrics["dataset"], data_dir=place).test.unbatch().take(count).batch(count)
    described = ("norm", "epsilon", "step_size", "steps", "restarts", "start")
    attack = attacks.PGD(**{key: metrics["attack"][key] for key in described})
    result = evaluate_robustness(zoo.load(name), test, attack, alpha_test=[1.0], suite=None, radii=None, verbose=0)
    assert accuracy_is(result.A_nat.value, metrics, "A_nat", count)
    assert accuracy_is(result.A_rob.value, metrics, "A_rob", count)


@pytest.mark.parametrize("name", zoo.names())
def test_a_file_is_small_plain_and_float32(name):
    assert (zoo.FOLDER / f"{name}.keras").stat().st_size <= zoo.LARGEST
    classifier = zoo.load(name)
    assert {layer.dtype_policy.name for layer in classifier.layers} == {"float32"}
    assert all(type(layer).__module__.startswith("keras.src.layers.") for layer in classifier.layers)


@pytest.mark.parametrize("name", zoo.names())
def test_a_card_says_what_it_must_and_names_no_place(name):
    card = zoo.card(name)
    text = str(card)
    suites = [metrics["suite"]["version"] for metrics in card.evaluations]
    assert "standard" in suites
    for said in (name, card.command, card.commit, card.sha256, "A_rob", "suite standard", "SHA-256"):
        assert said in text
    assert "dirty" not in card.commit
    assert str(card.seed) == str(card.recipe["seed"])
    assert not re.search('[="]/', json.dumps(dataclasses.asdict(card)))


def test_the_digits_are_there():
    assert {"digits-natural", "digits-trades", "digits-trades-alpha2"} <= set(zoo.names())


def test_an_unknown_name_is_told_those_that_there_are():
    for get in (zoo.load, zoo.card):
        with pytest.raises(InvalidInput, match="name: got 'digits', expected one of .*digits-trades-alpha2"):
            get("digits")


def test_importing_the_package_reads_no_zoo():
    code = "import sys, trainers, wmr_tf.zoo; print(wmr_tf.zoo.names()); assert 'tensorflow' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True).stdout


@pytest.fixture
def run(tmp_path, monkeypatch):
    """The folder of a finished run, and an empty zoo."""
    (tmp_path / "zoo").mkdir()
    monkeypatch.setattr(zoo, "FOLDER", tmp_path / "zoo")
    monkeypatch.setattr(zoo_card, "commit_of", lambda root: "0123456789ab")
    folder = tmp_path / "run"
    folder.mkdir()
    layers = [keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(10)]
    classifier = keras.Sequential(layers)
    classifier.save(folder / "best.keras")
    config = {
        "dataset": "digits",
        "method": "natural",
        "architecture": "digits_cnn",
        "precision": "float32",
        "seed": 3,
        "epochs": 30,
        "beta": None,
    }
    config |= {"data_dir": "/home/me/data", "output_dir": str(folder), "command": "python -m x --data_dir=/home/me/d e"}
    (folder / "config.json").write_text(json.dumps(config))
    attack = {"name": "PGD", "norm": "linf", "epsilon": 0.1, "step_size": 0.0125, "steps": 20}
    row = {"alpha_test": 2.0, "A_sa": 0.5, "A_tr": 0.4}
    metrics = {"dataset": "digits", "split": "test", "examples": 599, "method": "natural", "alpha_train": 0.0}
    metrics |= {"attack": attack, "A_nat": 0.9, "A_rob": 0.7, "A_strong": 0.6, "A_strong_interval": [0.56, 0.64]}
    metrics |= {"suite": {"version": "standard"}, "non_uniform": [row], "flags": [{"message": "Look out."}]}
    metrics |= {"hashes": {"weights": hash_of_weights(classifier)}, "command": config["command"], "date": "2026-11-29"}
    (folder / "metrics.json").write_text(json.dumps({**metrics, "threat": {"points": []}}))
    return folder


def test_a_run_is_added_with_the_figures_of_its_files(run):
    entry = zoo_card.Entry(folders=(str(run),), name="mine-1")
    entry.check_place()
    zoo_card.add(entry)
    card = zoo.card("mine-1")
    assert zoo.names() == ["mine-1"]
    assert card.recipe == {
        "dataset": "digits",
        "method": "natural",
        "architecture": "digits_cnn",
        "precision": "float32",
        "seed": 3,
        "epochs": 30,
    }
    assert card.command == "python -m x --data_dir=FOLDER e"
    assert "/home" not in json.dumps(dataclasses.asdict(card))
    assert "threat" not in card.evaluations[0]
    assert (card.seed, card.defence, card.commit) == (3, "natural", "0123456789ab")
    assert str(card).splitlines()[2:-1] == [
        "2026-11-29: 599 test images of digits. Test attack: linf PGD, epsilon 0.1, 20 steps of 0.0125. Stronger "
        "attacks: suite standard.",
        "A_nat 90.00 %, A_rob 70.00 %, A_strong 60 [56, 64] %",
        "alpha_test 2: A_sa 50.00 %, A_tr 40.00 %",
        "Warning: Look out.",
    ]
    images = np.random.default_rng(0).random((2, 8, 8, 1), np.float32)
    saved = keras.models.load_model(run / "best.keras", compile=False)
    np.testing.assert_array_equal(zoo.load("mine-1")(images), saved(images))


def test_a_file_that_is_not_the_cards_is_refused(run):
    zoo_card.add(zoo_card.Entry(folders=(str(run),), name="mine"))
    file = zoo.FOLDER / "mine.keras"
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    with pytest.raises(InvalidInput, match="mine: got a file with the SHA-256 .*, expected .*by its card. Install"):
        zoo.load("mine")
    file.unlink()
    with pytest.raises(InvalidInput, match="mine: got .*, expected an existing .keras file"):
        zoo.load("mine")
    (zoo.FOLDER / "mine.json").write_text("{}")
    with pytest.raises(InvalidInput, match="card: got .*mine.json.*, expected one of the zoo. Install"):
        zoo.load("mine")


def test_an_evaluation_of_other_weights_is_refused(run, tmp_path):
    other = shutil.copytree(run, tmp_path / "other")
    metrics = json.loads((other / "metrics.json").read_text())
    (other / "metrics.json").write_text(json.dumps({**metrics, "hashes": {"weights": "other"}}))
    with pytest.raises(InvalidInput, match="run: got .*other', of other weights, expected of .*best.keras"):
        zoo_card.add(zoo_card.Entry(folders=(str(run), str(other)), name="mine"))
    assert zoo.names() == []


def test_a_name_may_have_an_alpha_that_is_not_whole(run):
    zoo_card.add(zoo_card.Entry(folders=(str(run),), name="mine-alpha0.5"))
    assert zoo.names() == ["mine-alpha0.5"]
    assert zoo.load("mine-alpha0.5").output_shape == (None, 10)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"name": "mine"}, "command line: got no run, expected the folder of a run"),
        ({"folders": ("run",)}, "name: got nothing, expected lower-case letters"),
        ({"folders": ("run",), "name": "../mine"}, "name: got ../mine, expected lower-case letters"),
    ],
)
def test_mistakes_are_told(given, message):
    with pytest.raises(InvalidInput, match=message):
        zoo_card.Entry(**given)


def test_a_model_that_is_too_large_or_missing_is_told(run, monkeypatch):
    entry = zoo_card.Entry(folders=(str(run),), name="mine")
    monkeypatch.setattr(zoo, "LARGEST", 1000)
    with pytest.raises(InvalidInput, match="model: got .* bytes, expected at most 1,000"):
        entry.check_place()
    (run / "best.keras").unlink()
    with pytest.raises(InvalidInput, match="run: got .*, expected an existing .keras file"):
        entry.check_place()


@pytest.mark.slow
def test_wheel_and_source_distribution_have_the_files(tmp_path):
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path)
    shutil.copytree(ROOT / "wmr_tf", tmp_path / "wmr_tf", ignore=shutil.ignore_patterns("__pycache__"))
    for kind in ("wheel", "sdist"):
        code = f"from setuptools import build_meta; build_meta.build_{kind}('dist')"
        subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, capture_output=True)
    wheel, sdist = (next((tmp_path / "dist").glob(pattern)) for pattern in ("*.whl", "*.tar.gz"))
    shutil.unpack_archive(sdist, tmp_path / "unpacked")
    unpacked = {path.name for path in (tmp_path / "unpacked").rglob("wmr_tf/zoo/*")}
    packed = {Path(path).name for path in zipfile.ZipFile(wheel).namelist() if "wmr_tf/zoo/" in path}
    wanted = {f"{name}{ending}" for name in zoo.names() for ending in (".json", ".keras")}
    assert wanted and wanted <= unpacked and wanted <= packed
