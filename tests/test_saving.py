"""Files are written whole, and a classifier comes back as it was saved."""

import json

import keras
import numpy as np
import pytest

from wmr_tf import AdversarialModel, InvalidInput, attacks, methods
from wmr_tf.saving import classifier_of, load_classifier, read_json, save_classifier, write_json, written_whole


def small_classifier() -> keras.Model:
    return keras.Sequential([keras.Input((2, 2, 1)), keras.layers.Flatten(), keras.layers.Dense(3)])


def test_a_file_that_was_not_finished_leaves_the_old_one(tmp_path):
    path = tmp_path / "metrics.json"
    write_json(path, {"A_rob": 0.5})
    with pytest.raises(KeyboardInterrupt), written_whole(path) as unfinished:
        unfinished.write_text("half")
        raise KeyboardInterrupt
    with pytest.raises(TypeError):
        write_json(path, {"A_rob": object()})
    assert json.loads(path.read_text()) == {"A_rob": 0.5}
    assert list(tmp_path.iterdir()) == [path]


def test_two_may_write_one_file_at_once(tmp_path):
    path = tmp_path / "trial.json"
    with written_whole(path) as first, written_whole(path) as second:
        first.write_text("first")
        second.write_text("second")
        assert not path.exists()
    assert path.read_text() == "first"  # whose block ended last
    assert list(tmp_path.iterdir()) == [path]


def test_json_is_readable_and_comes_back(tmp_path):
    write_json(tmp_path / "a.json", {"alpha_test": (1.0, 2.0), "beta": None})
    assert (tmp_path / "a.json").read_text().startswith('{\n  "alpha_test": [\n')
    assert read_json(tmp_path / "a.json", "a.json", fix="") == {"alpha_test": [1.0, 2.0], "beta": None}


@pytest.mark.parametrize("content", [None, b"[1]", b"{", b"\xff\xfe"])
def test_what_is_no_json_object_is_refused(tmp_path, content):
    if content is not None:
        (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(
        InvalidInput, match=r"^run: got '.*a\.json'( \(.+\))?, expected a file with a JSON object\. Look again\.$"
    ):
        read_json(tmp_path / "a.json", "run", fix="Look again.")


@pytest.mark.parametrize("trained", [False, True])
def test_a_classifier_comes_back_also_from_the_model_that_trained_it(tmp_path, monkeypatch, trained):
    monkeypatch.setenv("HOME", str(tmp_path))
    classifier = small_classifier()
    if trained:
        AdversarialModel(classifier, methods.PGD(attacks.FGSM(0.1))).save(tmp_path / "saved.keras")
    else:
        save_classifier(classifier, "~/saved.keras")
    loaded = load_classifier("~/saved.keras")
    assert type(loaded) is keras.Sequential
    images = np.random.default_rng(0).random([4, 2, 2, 1], np.float32)
    np.testing.assert_array_equal(loaded(images), classifier(images))


def test_a_part_named_classifier_is_not_taken_for_the_whole():
    class Network(keras.Model):
        def __init__(self):
            super().__init__()
            self.backbone, self.classifier = keras.layers.Flatten(), small_classifier()

    network = Network()
    assert classifier_of(network) is network


def test_what_is_no_classifier_is_refused(tmp_path):
    (tmp_path / "broken.keras").write_text("no model")
    with pytest.raises(
        InvalidInput, match=r"^model: got '.*broken\.keras', which does not load \(.+\), expected a"
    ) as e:
        load_classifier(tmp_path / "broken.keras")
    assert e.value.__cause__ is not None
    with pytest.raises(InvalidInput, match=r"^model: got '.*nowhere\.keras', expected an existing \.keras file\."):
        load_classifier(tmp_path / "nowhere.keras")
    (tmp_path / "best.keras").write_text("of a run")
    with pytest.raises(InvalidInput, match=r"an existing \.keras file\. Name its classifier, .*/best\.keras\.$"):
        load_classifier(tmp_path)
