"""The networks of keras.applications by name: their features behind their own preprocessing, and weights of a file."""

import dataclasses
import sys

import keras
import numpy as np
import pytest

from tests.marking import some
from trainers.runs.classifiers import copy_weights, make_classifier
from trainers.settings.config import Experiment
from wmr_tf.architectures.applications import application
from wmr_tf.checks import InvalidInput
from wmr_tf.saving import load_classifier, save_classifier

IMAGES = np.random.default_rng(0).random([2, 32, 32, 3], np.float32)
# One of each kind of preprocessing: none, to [-1, 1], to BGR without its mean, standardised.
SMALL = ["MobileNetV3Small", "MobileNetV2", "VGG16"]
KINDS = some([*SMALL, "DenseNet121"], fast=SMALL)


@pytest.mark.parametrize("name", KINDS)
def test_a_network_is_features_behind_their_own_preprocessing_and_new_logits(name, tmp_path):
    keras.utils.set_random_seed(0)
    network = application(name, 3, (32, 32, 3))
    build = getattr(keras.applications, name)
    features = build(include_top=False, weights=None, input_shape=(32, 32, 3), pooling="avg")
    features.set_weights(network.get_weights()[:-2])
    prepared = sys.modules[build.__module__].preprocess_input(255 * IMAGES)
    kernel, bias = network.get_weights()[-2:]
    expected = np.asarray(features(prepared, training=False)) @ kernel + bias
    assert np.allclose(network(IMAGES, training=False), expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())
    save_classifier(network, tmp_path / "network.keras")
    again = load_classifier(tmp_path / "network.keras")
    assert np.array_equal(again(IMAGES, training=False), network(IMAGES, training=False))


def small_one(classes, **settings):
    build = keras.applications.MobileNetV3Small
    return build(weights=None, classes=classes, input_shape=(32, 32, 3), **settings)


def test_weights_are_those_of_a_file_but_for_a_last_layer_of_other_classes(tmp_path):
    keras.utils.set_random_seed(0)
    source = application("MobileNetV3Small", 5, (32, 32, 3))
    save_classifier(source, tmp_path / "five.keras")
    experiment = Experiment.of(
        write_npz(tmp_path), "pgd", architecture="keras.applications:MobileNetV3Small", precision="float32"
    )
    with pytest.warns(UserWarning, match="the last layer of mobilenetv3small is new, since that of the file is for"):
        made = make_classifier(changed(experiment, initialize_from=str(tmp_path / "five.keras")))
    assert made.output_shape == (None, 2)
    for ours, theirs in zip(made.get_weights()[:-2], source.get_weights()[:-2], strict=True):
        assert np.array_equal(ours, theirs)
    save_classifier(made, tmp_path / "two.keras")
    again = make_classifier(changed(experiment, initialize_from=str(tmp_path / "two.keras")))
    assert np.array_equal(again.get_weights()[-2], made.get_weights()[-2])


def test_the_features_of_a_published_model_fit(recwarn):
    source, target = small_one(5, include_top=False), application("MobileNetV3Small", 3, (32, 32, 3))
    before = target.get_weights()[-2:]
    with pytest.warns(UserWarning, match="the last layer of mobilenetv3small is new"):
        copy_weights(source, target)
    assert all(map(np.array_equal, target.get_weights(), [*source.get_weights(), *before]))


def test_weights_of_another_network_are_refused():
    with pytest.raises(InvalidInput, match=r"^initialize_from: got a model with \d+ weights of other shapes"):
        copy_weights(application("MobileNetV2", 3, (32, 32, 3)), application("MobileNetV3Small", 3, (32, 32, 3)))


@pytest.mark.parametrize(("shape", "told"), [((16, 16, 3), "Input size must be at least"), ((32, 32, 1), "colour")])
def test_images_that_a_network_does_not_take_are_refused(shape, told):
    with pytest.raises(InvalidInput, match=f"^input_shape: got .*{told}"):
        application("MobileNetV3Small", 3, shape)


def changed(experiment, **changes):
    return dataclasses.replace(experiment, **changes)


def write_npz(place):
    images, labels = np.zeros([8, 32, 32, 3], np.uint8), np.arange(8) % 2
    np.savez(place / "data.npz", x_train=images, y_train=labels, x_test=images, y_test=labels)
    return str(place / "data.npz")
