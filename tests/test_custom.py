"""Training, evaluation and search on images of one's own, and of a classifier of one's own."""

import dataclasses
import json
import re
import warnings

import keras
import numpy as np
import pytest
from PIL import Image

from trainers.runs import run
from trainers.runs.classifiers import warn_of_range
from trainers.runs.evaluating import evaluate
from trainers.runs.folder import experiment_of
from trainers.runs.naming import changed_settings, describe, title, training_facts
from trainers.runs.testing import name_classes
from trainers.settings.config import Experiment, ModelEvaluation
from trainers.settings.recipes import OWN, recipe
from trainers.settings.settling import settled
from tuning import results
from tuning.search import Search
from wmr_tf import attacks, data, methods
from wmr_tf.checks import InvalidInput

# Few steps on purpose: what is tested here needs no strong attack.
pytestmark = pytest.mark.filterwarnings("ignore:attack. its steps reach")

FEW = {
    "epochs": 1,
    "attack_steps": 2,
    "eval_attack_steps": 2,
    "suite": "short",
    "radii": "none",
    "threads": "tensorflow",
}
EVALUATED = {"eval_attack_steps": 2, "suite": "short", "radii": "none", "threads": "tensorflow"}


def images(seed, count=20):
    """Return dark and light images of 8 x 8, and which of the two they are."""
    labels = np.arange(count) % 2
    noise = np.random.RandomState(seed).randint(0, 100, [count, 8, 8, 1])
    return (noise + 150 * labels[:, np.newaxis, np.newaxis, np.newaxis]).astype(np.uint8), labels


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    place = tmp_path_factory.mktemp("custom")
    x, y = images(0)
    for number, (image, label) in enumerate(zip(x, y, strict=True)):
        (place / "photos" / f"class {label}").mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[..., 0]).save(place / "photos" / f"class {label}" / f"{number}.png")
    x_test, y_test = images(1)
    np.savez(place / "photos.npz", x_train=x, y_train=y, x_test=x_test, y_test=y_test)
    layers = [keras.Input([8, 8, 1]), keras.layers.Flatten(), keras.layers.Dense(2)]
    classifier = keras.Sequential(layers)
    classifier.set_weights([np.full([64, 2], [-0.5, 0.5]), np.array([12.0, -12.0])])  # right on all of them
    classifier.save(place / "mine.keras")
    return place


def read(path):
    return json.loads(path.read_text())


def test_a_folder_is_trained_on_and_its_best_epoch_is_evaluated_alike(place, monkeypatch, capsys):
    monkeypatch.chdir(place)
    experiment = Experiment.of("photos", "pgd", color="grayscale", **FEW)
    assert (experiment.dataset, experiment.architecture) == ("photos/", "digits_cnn")
    folder = run.train(experiment)
    assert folder.name.startswith("photos-pgd-alpha0.5-seed0-")
    assert experiment_of(folder) == dataclasses.replace(experiment, output_dir=str(folder))
    metrics = read(folder / "metrics.json")
    assert (metrics["dataset"], metrics["examples"]) == ("photos/", 4)
    assert title(metrics) == "photos, 4 test images, linf PGD-2, epsilon 0.031"
    assert list(changed_settings(metrics)) == ["attack_steps 2"]
    assert re.search("labelled class [01], taken for class [01]", (folder / "report.html").read_text())
    evaluation = ModelEvaluation.of(
        "photos/", model=str(folder / "best.keras"), color="grayscale", output_dir="again", **EVALUATED
    )
    evaluate(evaluation)
    again = read(place / "again/metrics.json")
    assert (again["hashes"], again["A_rob"]) == (metrics["hashes"], metrics["A_rob"])


def test_a_search_of_epsilon_needs_a_radius_to_test_with(place, monkeypatch):
    monkeypatch.chdir(place)
    searched = {"strategy": "none", "search": "epsilon:0.01:0.1"}
    message = (
        "search: got epsilon, which eval_attack_step_size and eval_epsilon follow, expected trials that are measured"
    )
    with pytest.raises(InvalidInput, match=message):
        Search.of("photos", **searched).space()
    space = Search.of("photos", eval_epsilon=0.05, **searched).space()
    assert [space.experiment({"epsilon": epsilon}).eval_epsilon for epsilon in (0.01, 0.1)] == [0.05, 0.05]


def test_a_run_in_another_norm_is_named_whatever_its_radius(place, monkeypatch):
    monkeypatch.chdir(place)
    experiment = Experiment.of("photos", "trades", norm="l2", eval_norm="l2", epsilon=3.0)
    facts = {"dataset": "photos/", **training_facts(dataclasses.asdict(experiment))}
    assert list(changed_settings(facts)) == ["norm l2", "epsilon 3"]


@pytest.mark.slow
def test_a_classifier_of_ones_own_is_trained_from_its_weights(place, monkeypatch, capsys):
    monkeypatch.chdir(place)
    few = {**FEW, "learning_rate": 1e-6, "architecture": "mine.keras", "augment": "crop_flip"}
    experiment = Experiment.of("photos.npz", "pgd", **few)
    assert experiment.precision == "float32" and experiment.source().augment == "crop_flip"
    folder = run.train(experiment)
    assert "\nTraining begins with the weights of mine.keras\nWriting into " in capsys.readouterr().out
    metrics = read(folder / "metrics.json")
    assert (metrics["dataset"], metrics["examples"], metrics["A_nat"]) == ("photos.npz", 20, 1.0)
    trained, before = (keras.models.load_model(path) for path in (folder / "best.keras", "mine.keras"))
    assert not np.array_equal(trained.get_weights()[0], before.get_weights()[0])
    assert np.allclose(trained.get_weights()[0], before.get_weights()[0], atol=1e-3)


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"architecture": "mine.keras", "image_size": (9,)}, r"images of shape \(8, 8, 1\), expected .*\(9, 9, 1\)"),
        ({"architecture": "mine.keras", "color": "rgb"}, r"images of shape \(8, 8, 1\), expected .*\(8, 8, 3\)"),
    ],
)
def test_a_classifier_for_other_images_is_refused_before_a_folder_is_made(place, monkeypatch, settings, complaint):
    monkeypatch.chdir(place)
    before = sorted(place.rglob("*"))
    with pytest.raises(InvalidInput, match=complaint):
        run.train(Experiment.of("photos", "pgd", **FEW, **{"color": "grayscale"} | settings))
    assert sorted(place.rglob("*")) == before


def test_a_classifier_of_another_range_is_told_before_it_is_trained(place, monkeypatch):
    monkeypatch.chdir(place)
    classifier = keras.models.load_model("mine.keras")
    splits = data.load("photos.npz", batch_size=5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_range(classifier, splits.train)
    classifier.set_weights([np.full([64, 2], [-0.5, 0.5]), 255 * np.array([12.0, -12.0])])
    with pytest.warns(UserWarning, match=r"scaled to \[0, 255\].* take wmr_tf.with_input_range\(model, 0, 255\)"):
        warn_of_range(classifier, splits.train)


def test_a_search_prints_the_command_of_a_trial_on_ones_own_images(place, monkeypatch):
    monkeypatch.chdir(place)
    search = Search.of("photos", color="grayscale", strategy="none", search="alpha_train:0/1")
    space = search.space()
    command = results.command(space, space.first)
    assert command.startswith("python -m trainers.custom ")
    assert "--dataset=photos --color=grayscale" in command and space.experiment(space.first).dataset == "photos/"


def test_classes_have_their_names_in_metrics_and_pictures():
    metrics = {"classes": [{"class": 0}, {"class": 1}], "worst_class": {"class": 1}}
    shown = [{"label": 1, "prediction": 0, "position": 1}]
    name_classes(metrics, shown, None)
    assert metrics["worst_class"] == {"class": 1}
    name_classes(metrics, shown, ("ant", "bee"))
    assert metrics == {"classes": [{"class": "ant"}, {"class": "bee"}], "worst_class": {"class": "bee"}}
    assert shown == [{"label": "bee", "prediction": "ant", "position": 1}]


# The recipe


@pytest.mark.parametrize("method", methods.BY_NAME)
def test_images_of_ones_own_have_a_recipe_for_every_method(method, place, monkeypatch):
    monkeypatch.chdir(place)
    experiment = Experiment.of("photos.npz", method)
    assert type(experiment.make_method(examples=1)) is methods.BY_NAME[method]
    tested = attacks.PGD(epsilon=0.031, step_size=0.0031, steps=20)
    assert experiment.test_attack() == tested


def test_the_test_attack_has_the_radius_of_the_training_and_steps_follow():
    found = settled(OWN, {"method": "pgd", "epsilon": 0.1})
    lengths = ("attack_step_size", "eval_epsilon", "eval_attack_step_size")
    assert [found[name] for name in lengths] == [0.025, 0.1, 0.01]
    found = settled(OWN, {"method": "natural", "eval_epsilon": 0.2})
    assert [found[name] for name in lengths[1:]] == [0.2, 0.02]
    assert settled(OWN, {"method": "natural"})["eval_epsilon"] == 0.031
    assert settled("mnist", {"method": "pgd", "epsilon": 0.1})["eval_epsilon"] == 0.3  # as in the paper


@pytest.mark.parametrize(
    ("shape", "network"),
    [((8, 8, 1), "digits_cnn"), ((16, 12, 3), "digits_cnn"), ((17, 8, 3), "small_cnn"), ((28, 28, 1), "small_cnn")]
    + [((32, 40, 3), "small_cnn"), ((41, 8, 3), "thin_resnet"), ((224, 224, 3), "thin_resnet")],
)
def test_the_network_goes_by_the_size_of_the_images(shape, network):
    assert recipe(OWN, "trades")["architecture"].of(shape) == network


def test_the_line_of_a_run_counts_its_epochs():
    told = {epochs: describe(Experiment.of("digits", epochs=epochs)) for epochs in (1, 2)}
    assert ", 1 epoch, seed 0" in told[1] and ", 2 epochs, seed 0" in told[2]
