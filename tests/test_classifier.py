"""Which classifiers and batches are taken, which are refused and with which words."""

import json
import subprocess
import sys

import keras
import numpy as np
import pytest
from keras import layers

from wmr_tf import AdversarialModel, InvalidInput, attacks, methods
from wmr_tf.inputs.batches import check_first_batch
from wmr_tf.inputs.classifier import FIX_LOGITS, check_architecture

CLASSES = 3
SHAPE = (4, 4, 1)
ATTACK = attacks.PGD(epsilon=0.02, step_size=0.01, steps=2)


def data(batch=8):
    rng = np.random.default_rng(0)
    return rng.random((batch, *SHAPE), dtype="float32"), rng.integers(0, CLASSES, batch)


def sequential(*last, built=True):
    start = [keras.Input(SHAPE)] if built else []
    return keras.Sequential([*start, layers.Flatten(), *(last or [layers.Dense(CLASSES)])])


def functional(activation=None):
    image = keras.Input(SHAPE)
    hidden = layers.Dense(5, activation="relu")(layers.Flatten()(image))
    return keras.Model(image, layers.Dense(CLASSES, activation=activation)(hidden))


class Subclassed(keras.Model):
    """Has no get_config of its own, and a softmax layer last that is not the last to be called."""

    def __init__(self):
        super().__init__()
        self.flatten = layers.Flatten()
        self.head = layers.Dense(CLASSES)
        self.gate = layers.Dense(16, activation="softmax")

    def call(self, images):
        flat = self.flatten(images)
        return self.head(flat * self.gate(flat))


class Softmaxed(Subclassed):
    def call(self, images):
        return keras.ops.softmax(super().call(images))


class LogOfSoftmax(keras.Sequential):
    def call(self, images, training=None, mask=None):
        return keras.ops.log(super().call(images))


class Returning(keras.Model):
    """Returns whatever numbers it is told to, one row an image."""

    def __init__(self, rows):
        super().__init__()
        self.rows = keras.ops.convert_to_tensor(rows, "float32")
        self.flatten = layers.Flatten()

    def call(self, images):
        return self.rows + 0.0 * keras.ops.sum(self.flatten(images))


def trained(classifier, *, epochs=2):
    model = AdversarialModel(classifier, methods.PGD(ATTACK, alpha=1.0))
    model.compile(optimizer=keras.optimizers.SGD(0.5, momentum=0.9), metrics=["accuracy"])
    model.fit(*data(), epochs=epochs, verbose=0)
    return model


# Every kind of classifier trains


def built_subclassed():
    classifier = Subclassed()
    classifier(data()[0])
    return classifier


KINDS = {
    "functional": functional,
    "sequential": sequential,
    "sequential, unbuilt": lambda: sequential(built=False),
    "subclassed": built_subclassed,
    "subclassed, unbuilt": Subclassed,
    "nested": lambda: keras.Sequential([keras.Input(SHAPE), layers.Rescaling(2.0), functional()]),
}


@pytest.mark.parametrize("make", KINDS.values(), ids=list(KINDS))
def test_every_kind_of_classifier_trains(make):
    images, labels = data()
    classifier = make()
    model = AdversarialModel(classifier, methods.PGD(ATTACK, alpha=1.0))
    model.compile(optimizer=keras.optimizers.Adam(0.05), metrics=["accuracy"])
    losses = model.fit(images, labels, epochs=15, verbose=0).history["loss"]
    assert losses[-1] < 0.8 * losses[0]
    np.testing.assert_array_equal(model.predict(images, verbose=0), classifier.predict(images, verbose=0))


def test_an_unbuilt_classifier_can_be_evaluated_and_asked_first():
    images, labels = data()
    for ask in (
        lambda model: model.evaluate(images, labels, verbose=0),
        lambda model: model.predict(images, verbose=0),
    ):
        model = AdversarialModel(Subclassed(), methods.Natural())
        model.compile(metrics=["accuracy"])
        assert np.isfinite(ask(model)).all()


def test_frozen_layers_stay_as_they_are():
    frozen = layers.Dense(5, kernel_regularizer="l2")
    norm = layers.BatchNormalization()
    classifier = sequential(frozen, norm, layers.Dense(CLASSES))
    frozen.trainable = norm.trainable = False
    before = [weight.numpy() for weight in classifier.weights]
    model = AdversarialModel(classifier, methods.PGD(ATTACK), weight_decay=0.1)
    model.compile(optimizer=keras.optimizers.SGD(0.5))
    model.fit(*data(), epochs=2, verbose=0)
    moved = [bool(np.any(weight.numpy() != old)) for weight, old in zip(classifier.weights, before, strict=True)]
    assert moved == [False] * 6 + [True] * 2


def test_a_saved_classifier_opens_with_keras_alone(tmp_path):
    images, _ = data()
    hidden = [layers.Reshape(SHAPE), layers.Conv2D(4, 3), layers.BatchNormalization(), layers.Flatten()]
    classifier = sequential(*hidden, layers.Dense(CLASSES))
    trained(classifier)
    classifier.save(tmp_path / "robust.keras")
    np.save(tmp_path / "images.npy", images)
    script = """
import json, sys, keras, numpy
logits = keras.models.load_model("robust.keras").predict(numpy.load("images.npy"), verbose=0)
print(json.dumps({"ours": "wmr_tf" in sys.modules, "logits": logits.tolist()}))
"""
    run = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True)
    result = json.loads(run.stdout.splitlines()[-1])
    assert result["ours"] is False
    np.testing.assert_allclose(result["logits"], classifier.predict(images, verbose=0), atol=1e-6)


# Softmax is found, in the layers or in the numbers

WITH_SOFTMAX = {
    "functional": lambda: functional("softmax"),
    "activation": lambda: sequential(layers.Dense(CLASSES, activation="softmax")),
    "Softmax layer": lambda: sequential(layers.Dense(CLASSES), layers.Softmax()),
    "Activation layer": lambda: sequential(layers.Dense(CLASSES), layers.Activation("softmax")),
    "unbuilt": lambda: sequential(layers.Dense(CLASSES, activation="softmax"), built=False),
    "nested": lambda: keras.Sequential([keras.Input(SHAPE), functional("softmax")]),
    "sigmoid": lambda: functional("sigmoid"),
}


@pytest.mark.parametrize("make", WITH_SOFTMAX.values(), ids=list(WITH_SOFTMAX))
def test_a_softmax_at_the_end_is_refused_at_once(make):
    with pytest.raises(InvalidInput, match=r"got a last layer .* with (softmax|sigmoid), expected logits") as refusal:
        AdversarialModel(make(), methods.Natural())
    assert FIX_LOGITS in str(refusal.value)


@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16", "mixed_float16"])
@pytest.mark.parametrize("verb", ["fit", "evaluate"])
def test_a_softmax_inside_a_subclassed_classifier_is_refused_by_its_numbers(verb, dtype):
    keras.config.set_dtype_policy(dtype)
    classifier = Softmaxed()
    model = AdversarialModel(classifier, methods.Natural())
    model.compile()
    with pytest.raises(InvalidInput, match="got outputs that are probabilities .* expected logits"):
        getattr(model, verb)(*data(), verbose=0)
    assert model.optimizer.iterations.numpy() == 0  # nothing was trained before


@pytest.mark.parametrize(
    "make",
    [
        Subclassed,  # has a softmax, but not at its end
        lambda: functional("relu"),
        lambda: sequential(layers.Dense(CLASSES, kernel_initializer="zeros")),  # untrained: every logit is 0
        lambda: sequential(layers.Dense(CLASSES, activation="log_softmax")),  # logits as good as any
        lambda: LogOfSoftmax([keras.Input(SHAPE), layers.Flatten(), layers.Dense(CLASSES, activation="softmax")]),
        lambda: Returning([[0.5, 0.5, 0.0]] * 7 + [[0.5, 0.6, 0.0]]),
        lambda: Returning([[2.0, -1.0, 0.0]] * 8),
    ],
)
def test_what_only_looks_like_a_softmax_is_not_refused(make):
    classifier = make()
    check_architecture(classifier)
    check_first_batch(classifier, data())


# Outputs that are no logits


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([[1.0]] * 8, r"got an output of shape \(8, 1\), expected logits .* Let it return one logit a class"),
        ([1.0] * 8, r"got an output of shape \(8,\), expected logits"),
        ([[[1.0, 2.0, 3.0]]] * 8, r"got an output of shape \(8, 1, 3\), expected logits"),
        ([[1.0, 2.0, np.nan]] * 8, "got 8 outputs that are NaN or infinite, expected finite logits. Look at"),
        ([[1.0, 2.0]] * 8, "labels: got values from 0 to 2, expected class numbers in .0, 2.*one logit for each"),
    ],
    ids=["one unit", "rank 1", "rank 3", "NaN", "too few"],
)
def test_outputs_that_are_no_logits_are_refused(rows, message):
    model = AdversarialModel(Returning(rows), methods.Natural())
    model.compile()
    with pytest.raises(InvalidInput, match=message):
        model.fit(*data(), verbose=0)


def test_what_is_no_keras_model_is_refused():
    for classifier in (None, "resnet", layers.Dense(3), lambda images: images):
        with pytest.raises(InvalidInput, match="expected a keras.Model that returns logits"):
            AdversarialModel(classifier, methods.Natural())


# Batches

IMAGES, LABELS = data()


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        (None, "data: got nothing, expected batches of"),
        ((IMAGES,), "data: got a batch without labels"),
        ((IMAGES, None), "data: got a batch without labels"),
        (IMAGES, "data: got a batch without labels"),
        ({"image": IMAGES, "label": LABELS}, "data: got a batch without labels"),
        ((IMAGES * 255, LABELS), "images: got values from .* divide by 255"),
        ((IMAGES, LABELS[:-1]), "labels: got 8 images and labels of shape .7."),
        ((IMAGES, LABELS - 1), "labels: got values from -1"),
        ((IMAGES, LABELS, np.ones(7)), r"sample_weight: got shape \(7,\)"),
        ((IMAGES, LABELS, np.ones([8, 2])), r"sample_weight: got shape \(8, 2\).*expected shape \(8,\)"),
        (
            (IMAGES, LABELS, -np.ones(8)),
            "sample_weight: got .* with 8 values that are negative or not finite, expected",
        ),
        (
            (IMAGES, LABELS, np.full(8, np.nan)),
            "sample_weight: got .* with 8 values that are negative or not finite, expected",
        ),
    ],
)
def test_a_first_batch_that_is_none_is_refused(batch, message):
    with pytest.raises(InvalidInput, match=message):
        check_first_batch(sequential(), batch)


@pytest.mark.parametrize("weights", [np.ones(8), np.zeros([8, 1]), np.arange(8), None])
def test_sample_weights_in_every_good_form_pass(weights):
    check_first_batch(sequential(), (IMAGES, LABELS, weights))


@pytest.mark.parametrize(
    ("x", "message"),
    [
        ({"image": np.zeros([2, 4])}, "^images: got a dictionary with 'image', expected 'image' and 'index'"),
        ({"image": np.zeros([2, 4]), "index": np.zeros(3, int)}, r"^index: got dtype int64 of shape \[3\] with 2"),
        ({"image": np.zeros([2, 4]), "index": np.zeros(2)}, "^index: got dtype float64"),
    ],
)
def test_a_malformed_index_is_refused(x, message):
    with pytest.raises(InvalidInput, match=message):
        check_first_batch(keras.Sequential([keras.Input([4]), layers.Dense(2)]), (x, np.zeros(2, int)))


# Layers that draw

PAIRS = {
    "trades": methods.TRADES(attacks.PGD(epsilon=0.02, step_size=0.01, steps=2, start="gaussian"), beta=2.0),
    "mart": methods.MART(ATTACK),
    "mixed": methods.Mixed(ATTACK),
}
RANDOM = {
    "RandomFlip": lambda: sequential(layers.Reshape(SHAPE), layers.RandomFlip(), layers.Flatten(), layers.Dense(3)),
    "nested": lambda: keras.Sequential([keras.Input(SHAPE), layers.RandomTranslation(0.1, 0.1), functional()]),
    "unbuilt": lambda: keras.Sequential([layers.RandomCrop(4, 4), layers.Flatten(), layers.Dense(CLASSES)]),
}


@pytest.mark.parametrize("make", RANDOM.values(), ids=RANDOM)
@pytest.mark.parametrize("method", PAIRS.values(), ids=PAIRS)
def test_a_layer_that_draws_another_picture_for_each_of_a_pair_is_refused(method, make):
    with pytest.raises(InvalidInput, match="got layers that transform each image at random .random_.* data pipeline"):
        trained_with(method, make())


def test_other_methods_and_layers_that_only_regularise_are_taken():
    trained_with(methods.PGD(ATTACK), RANDOM["RandomFlip"]())
    noise = [layers.GaussianNoise(0.1), layers.GaussianDropout(0.1), layers.Dropout(0.1)]
    still = [layers.Reshape(SHAPE), layers.CenterCrop(4, 4), layers.Flatten()]
    trained_with(PAIRS["trades"], sequential(*still, *noise, layers.Dense(CLASSES)))


def trained_with(method, classifier):
    model = AdversarialModel(classifier, method)
    model.compile(optimizer="sgd")
    model.fit(*data(), verbose=0)
