"""Models made into classifiers that can be attacked: up to their logits, and of images in [0, 1]."""

import json
import subprocess
import sys
import zipfile

import keras
import numpy as np
import pytest
import scipy.special
import tensorflow as tf
from keras import layers

import wmr_tf
from wmr_tf.engine import frozen, graph
from wmr_tf.inputs.classifier import check_architecture

SHAPE = (6, 6, 3)
IMAGES = np.random.default_rng(0).random((5, *SHAPE), np.float32)


def sequential(*last):
    hidden = [layers.Conv2D(4, 3), layers.BatchNormalization(), layers.ReLU(), layers.Flatten()]
    return keras.Sequential([keras.Input(SHAPE), *hidden, *last], name="mine")


def functional(*last):
    image = keras.Input(SHAPE)
    output = layers.Flatten()(image)
    for layer in last:
        output = layer(output)
    return keras.Model(image, output, name="mine")


def nested(inner):
    """A model that ends in another one, as a Sequential and within a Functional one."""
    image = keras.Input(SHAPE)
    inside = keras.Sequential([keras.Input(SHAPE), layers.ReLU(), inner])
    return keras.Model(image, inside(layers.Rescaling(2.0)(image)))


SOFTMAX = {
    "activation": lambda: sequential(layers.Dense(3, activation="softmax")),
    "layer": lambda: sequential(layers.Dense(3), layers.Softmax()),
    "activation layer": lambda: sequential(layers.Dense(3), layers.Activation("softmax", dtype="float32")),
    "functional": lambda: functional(layers.Dense(3, activation="softmax", use_bias=False)),
    "function": lambda: functional(layers.Dense(3), keras.activations.softmax),
    "operation": lambda: functional(layers.Dense(3), keras.ops.softmax),
    "nested": lambda: nested(sequential(layers.Dense(3, activation="softmax"))),
    "nested functional": lambda: nested(functional(layers.Dense(3), layers.Softmax())),
}
SIGMOID = {
    "activation": lambda: sequential(layers.Dense(1, activation="sigmoid")),
    "layer": lambda: functional(layers.Dense(1), layers.Activation("sigmoid")),
    "operation": lambda: functional(layers.Dense(1), keras.ops.sigmoid),
    "nested": lambda: nested(sequential(layers.Dense(1, activation="sigmoid"))),
}


def randomised(model, dimensions=(1, 2, 4)):
    """Give a model weights of so many dimensions that leave nothing at its initial value, and compile it."""
    rng = np.random.default_rng(1)
    for weight in (weight for weight in model.weights if len(weight.shape) in dimensions):
        noise = rng.normal(size=weight.shape)
        weight.assign(0.5 + np.abs(noise) if weight.name in ("gamma", "moving_variance") else 0.3 * noise)
    model.compile("sgd", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def gradient(function, images=IMAGES):
    images = tf.constant(images)
    with tf.GradientTape() as tape:
        tape.watch(images)
        value = tf.reduce_sum(function(images))
    return tape.gradient(value, images).numpy()


@pytest.mark.parametrize("make", SOFTMAX.values(), ids=SOFTMAX)
def test_logits_are_the_logarithm_of_softmax_up_to_a_constant(make):
    model = randomised(make())
    probabilities = model(IMAGES).numpy()
    logits = wmr_tf.without_softmax(model)
    found = logits(IMAGES).numpy()
    constants = found - np.log(probabilities)
    np.testing.assert_allclose(constants, constants[:, :1] + np.zeros([1, 3]), atol=1e-5)
    assert np.abs(found.sum(axis=1)).max() > 0.1  # they are no logarithms of probabilities themselves
    np.testing.assert_allclose(scipy.special.softmax(found, axis=1), probabilities, atol=1e-6)
    np.testing.assert_array_equal(model(IMAGES), probabilities)
    np.testing.assert_allclose(  # log p[0] is z[0] less the logarithm of the sum
        gradient(lambda x: tf.nn.log_softmax(logits(x))[:, 0]),
        gradient(lambda x: tf.math.log(model(x)[:, 0])),
        atol=1e-5,
    )
    check_architecture(logits)
    assert (logits.name, logits.compiled, model.compiled) == (model.name, False, True)


@pytest.mark.parametrize("make", SIGMOID.values(), ids=SIGMOID)
def test_a_sigmoid_becomes_two_logits(make):
    model = randomised(make())
    of_one = model(IMAGES).numpy()[:, 0]
    found = wmr_tf.without_softmax(model)(IMAGES).numpy()
    np.testing.assert_array_equal(found[:, 0], 0)
    np.testing.assert_allclose(found[:, 1], np.log(of_one / (1 - of_one)), rtol=1e-4, atol=1e-5)
    assert np.ptp(found[:, 1]) > 0.1


@pytest.mark.parametrize("make", [*SOFTMAX.values(), *SIGMOID.values()], ids=[*SOFTMAX, *SIGMOID])
def test_training_one_changes_the_other(make):
    model = randomised(make())
    logits = wmr_tf.without_softmax(model)
    assert [id(weight) for weight in logits.trainable_weights] == [id(weight) for weight in model.trainable_weights]
    assert [id(weight) for weight in logits.weights] == [id(weight) for weight in model.weights]
    before = model(IMAGES).numpy()
    training = wmr_tf.AdversarialModel(logits, wmr_tf.methods.Natural())
    training.compile(keras.optimizers.SGD(0.1))
    training.fit(IMAGES, np.array([0, 1, 1, 0, 1]), verbose=0)
    after = model(IMAGES).numpy()
    assert np.abs(after - before).max() > 1e-3
    found = logits(IMAGES).numpy()
    expected = scipy.special.softmax(found, axis=1)
    np.testing.assert_allclose(after, expected if after.shape[1] > 1 else expected[:, 1:], atol=1e-6)


def test_a_frozen_last_layer_stays_frozen():
    model = sequential(layers.Dense(3, activation="softmax", trainable=False))
    assert len(wmr_tf.without_softmax(model).trainable_weights) == len(model.trainable_weights) == 4


LOADED = """
import json, sys, keras, numpy
images = numpy.load("images.npy")
models = [keras.models.load_model(name) for name in sys.argv[1:]]
outputs = [model(images).numpy().tolist() for model in models]
print(json.dumps([[model.compiled for model in models], "wmr_tf" in sys.modules, outputs]))
"""


@pytest.mark.slow
def test_what_is_saved_opens_with_keras_alone_and_is_not_compiled(tmp_path):
    made = {name: wmr_tf.without_softmax(randomised(SOFTMAX[name]())) for name in ("activation", "function", "nested")}
    made["sigmoid"] = wmr_tf.without_softmax(randomised(SIGMOID["activation"]()))
    made["range"] = wmr_tf.with_input_range(randomised(SOFTMAX["nested"]()), 0, 255)
    made["both"] = wmr_tf.without_softmax(wmr_tf.with_input_range(randomised(SOFTMAX["activation"]()), -1, 1))
    np.save(tmp_path / "images.npy", IMAGES)
    files = [f"{name.replace(' ', '_')}.keras" for name in made]
    for file, model in zip(files, made.values(), strict=True):
        model.save(tmp_path / file)
        assert "crossentropy" not in zipfile.ZipFile(tmp_path / file).read("config.json").decode()
    run = subprocess.run(
        [sys.executable, "-c", LOADED, *files], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    compiled, ours, outputs = json.loads(run.stdout.splitlines()[-1])
    assert not any(compiled) and not ours
    for model, found in zip(made.values(), outputs, strict=True):
        np.testing.assert_allclose(found, model(IMAGES).numpy(), atol=1e-5)


def test_who_does_not_look_at_the_end_is_told_so():
    class Softmaxed(keras.Sequential):
        def call(self, images, training=None, mask=None):
            return keras.ops.softmax(super().call(images))

    for model in (Softmaxed([keras.Input([4]), layers.Dense(3)]), nested(Softmaxed([keras.Input(SHAPE)]))):
        with pytest.raises(wmr_tf.InvalidInput, match="got a Softmaxed with a call of its own.*Let its call return"):
            wmr_tf.without_softmax(model)


RANGED = {
    "sequential": lambda: sequential(layers.Dense(3)),
    "functional": lambda: functional(layers.Dense(3)),
    "nested": lambda: nested(sequential(layers.Dense(3))),
}


@pytest.mark.parametrize(("low", "high"), [(0, 255), (-1.0, 1.0), ("-1/2", "1/2")])
@pytest.mark.parametrize("make", RANGED.values(), ids=RANGED)
def test_a_model_of_another_range_gets_its_images_in_that(make, low, high):
    model = randomised(make())
    ranged = wmr_tf.with_input_range(model, low, high)
    low, high = (-0.5, 0.5) if isinstance(low, str) else (low, high)
    images = (low + (high - low) * IMAGES.astype(np.float64)).astype(np.float32)
    expected = model(images).numpy()
    np.testing.assert_allclose(ranged(IMAGES), expected, rtol=1e-4, atol=1e-3)
    slope = (high - low) * gradient(lambda x: model(x)[:, 0], images)
    np.testing.assert_allclose(gradient(lambda x: ranged(x)[:, 0]), slope, rtol=1e-4, atol=1e-3)
    assert [id(weight) for weight in ranged.weights] == [id(weight) for weight in model.weights]
    assert not ranged.compiled


@pytest.mark.parametrize("make", RANGED.values(), ids=RANGED)
def test_batch_norm_is_folded_behind_another_range(make):
    ranged = wmr_tf.with_input_range(randomised(make()), 0, 255)
    folded = frozen._fold(ranged)
    norms = [layer for layer in ranged._flatten_layers() if isinstance(layer, layers.BatchNormalization)]
    assert len(norms) == (make is not RANGED["functional"])
    for norm in norms:
        assert folded[id(norm)](IMAGES) is IMAGES  # nothing is left for it to do
    np.testing.assert_allclose(frozen.freeze(ranged)(IMAGES), ranged(IMAGES), rtol=1e-4, atol=1e-3)


def test_a_subclassed_or_unbuilt_model_of_another_range_stays_one_layer():
    class Summed(keras.Model):
        def __init__(self):
            super().__init__()
            self.top = layers.Dense(3)

        def call(self, images):
            return self.top(keras.ops.sum(images, axis=(1, 2)))

    for model in (Summed(), keras.Sequential([layers.Flatten(), layers.Dense(3)])):
        ranged = wmr_tf.with_input_range(model, 0, 255)
        np.testing.assert_allclose(ranged(IMAGES), model(255 * IMAGES), rtol=1e-4)


def mobile_net():
    base = keras.applications.MobileNetV3Small(
        input_shape=(32, 32, 3), weights=None, include_top=False, pooling="avg", include_preprocessing=True
    )
    return keras.Sequential([keras.Input((32, 32, 3)), base, layers.Dense(10, activation="softmax")])


def test_a_model_of_keras_applications_keeps_its_fast_path():
    model = randomised(mobile_net(), dimensions=(1,))  # BatchNorm's and the biases; kernels are random
    classifier = wmr_tf.with_input_range(wmr_tf.without_softmax(model), 0, 255)
    images = np.random.default_rng(2).random((2, 32, 32, 3), np.float32)
    found = classifier(images).numpy()
    np.testing.assert_allclose(scipy.special.softmax(found, axis=1), model(255 * images), atol=1e-5)
    np.testing.assert_allclose(frozen.freeze(classifier)(images), found, rtol=1e-3, atol=1e-4)
    norms = [layer for layer in classifier._flatten_layers() if isinstance(layer, layers.BatchNormalization)]
    folded = frozen._fold(classifier)
    assert len(norms) == 34 and all(folded[id(norm)](found) is found for norm in norms)
    assert graph.runs_its_graph(classifier)
