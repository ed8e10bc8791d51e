"""`AdversarialModel` as Keras users use it: data in every form, weights, precision, saving, repeating."""

import functools
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from tests.marking import some
from tests.test_methods import method_named
from wmr_tf import AdversarialModel, InvalidInput, attacks, callbacks, methods
from wmr_tf.engine import seeds
from wmr_tf.engine.perturbation import moved_uphill
from wmr_tf.engine.precision import float32_compute
from wmr_tf.evaluation import RobustnessEvaluator, evaluate_robustness
from wmr_tf.weights import probability_margin

CLASSES = 3
FEATURES = 4
PGD = methods.PGD(attacks.PGD(epsilon=0.1, step_size=0.05, steps=2), alpha=1.0)
TRADES = methods.TRADES(attacks.PGD(epsilon=0.1, step_size=0.05, steps=2, start="gaussian"), beta=2.0, alpha=1.0)
METHODS = {"pgd": PGD, "trades": TRADES}
RNG = np.random.default_rng(0)
X, Y = RNG.random((20, FEATURES), dtype="float32"), RNG.integers(0, CLASSES, 20)
ONE_HOT = np.eye(CLASSES, dtype="float32")[Y]


def network(**kwargs):
    keras.utils.set_random_seed(1)
    hidden = layers.Dense(5, activation="relu", **kwargs)
    return keras.Sequential([keras.Input([FEATURES]), hidden, layers.Dense(CLASSES, **kwargs)])


def linear():
    keras.utils.set_random_seed(1)
    kernel = keras.initializers.RandomNormal(stddev=2.0)
    return keras.Sequential([keras.Input([FEATURES]), layers.Dense(CLASSES, kernel_initializer=kernel)])


def compiled(method=PGD, classifier=None, *, rate=0.5, momentum=0.0, seed=0, weight_decay=0.0, **kwargs):
    model = AdversarialModel(classifier or network(), method, weight_decay=weight_decay, seed=seed)
    model.compile(optimizer=keras.optimizers.SGD(rate, momentum=momentum), metrics=["accuracy"], **kwargs)
    return model


def fit(model, *data, epochs=2, **kwargs):
    return model.fit(*data, epochs=epochs, verbose=0, shuffle=False, **kwargs).history


def weights_after(*data, compile=None, method=PGD, **kwargs):
    model = compiled(method, **(compile or {}))
    fit(model, *data, **kwargs)
    return model.get_weights()


@functools.cache
def weights_after_arrays(name="pgd", batch_size=4):
    """What the other ways to train are compared with: making a graph takes long, so tests share it."""
    return weights_after(X, Y, method=METHODS[name], batch_size=batch_size)


EAGER = {"run_eagerly": True}  # no graph; that it gives the same weights there is a test of its own


def assert_same(weights, expected, atol=1e-6):
    for got, wanted in zip(weights, expected, strict=True):
        np.testing.assert_allclose(got, wanted, rtol=0, atol=atol)


def assert_different(weights, others):
    assert any(np.abs(got - other).max() > 1e-4 for got, other in zip(weights, others, strict=True))


def probabilities(model_weights, images):
    kernel, bias = model_weights
    exp = np.exp(images @ kernel + bias)
    return exp / exp.sum(axis=1, keepdims=True)


# Data in every form


class Batches(keras.utils.PyDataset):
    def __len__(self):
        return 5

    def __getitem__(self, index):
        part = slice(4 * index, 4 * index + 4)
        return X[part], Y[part]


def forever():
    """Five batches, again and again."""
    while True:
        yield from (Batches()[index] for index in range(5))


DATA = {
    "dataset": (lambda: tf.data.Dataset.from_tensor_slices((X, Y)).batch(4), {}),
    "PyDataset": (Batches, {}),
    "generator": (forever, {"steps_per_epoch": 5}),
}


@pytest.mark.parametrize(("make", "kwargs"), DATA.values(), ids=list(DATA))
def test_every_form_of_data_gives_the_weights_that_arrays_give(make, kwargs):
    assert_same(weights_after(make(), **kwargs), weights_after_arrays())


def test_a_generator_is_read_once_and_in_order():
    batches = [Batches()[index] for index in range(5)]
    assert_same(
        weights_after((batch for batch in batches), epochs=1, steps_per_epoch=5),
        weights_after(X, Y, epochs=1, batch_size=4, compile=EAGER),
    )
    measured = compiled().evaluate((batch for batch in batches), steps=5, verbose=0)
    np.testing.assert_allclose(measured, compiled().evaluate(X, Y, verbose=0), rtol=1e-5)


@pytest.mark.parametrize(("make", "kwargs"), DATA.values(), ids=list(DATA))
def test_every_form_of_validation_data_is_measured_whole(make, kwargs):
    # One epoch: after it, where a generator stands depends on how far Keras has read ahead.
    model = compiled(methods.Natural())
    logs = fit(model, X, Y, epochs=1, validation_data=make(), validation_steps=kwargs.get("steps_per_epoch"))
    expected = model.evaluate(X, Y, verbose=0)
    np.testing.assert_allclose([logs["val_loss"][0], logs["val_accuracy"][0]], expected, rtol=1e-5)


INDEXED = {"image": X, "index": np.arange(20)}


@pytest.mark.parametrize("name", METHODS)
def test_an_index_beside_the_images_changes_nothing_for_who_needs_none(name):
    method, expected = METHODS[name], weights_after_arrays(name)
    assert_same(weights_after(INDEXED, Y, batch_size=4, method=method), expected, atol=0)
    dataset = tf.data.Dataset.from_tensor_slices((INDEXED, Y)).batch(4)
    assert_same(weights_after(dataset, method=method, validation_data=dataset, compile=EAGER), expected)
    model = compiled(method)
    assert model.evaluate(INDEXED, Y, verbose=0) == model.evaluate(X, Y, verbose=0)


def test_the_gradient_at_the_images_comes_with_that_for_the_weights():
    """On a linear classifier, by hand."""
    model = compiled(methods.Natural(), linear())
    weights = model.get_weights()
    images = tf.constant(X)
    batch = methods.Batch(images, tf.constant(Y), tf.constant(np.arange(20) / 10.0, tf.float32), tf.constant([0, 0]))

    def loss():
        logits = model.classifier(images)
        return keras.ops.sparse_categorical_crossentropy(Y, logits, from_logits=True), logits

    logits, gradients, ascent = model.differentiate(batch, loss, at=images)
    slope = (np.arange(20) / 10.0)[:, np.newaxis] * (probabilities(weights, X) - ONE_HOT)
    np.testing.assert_allclose(logits, X @ weights[0] + weights[1], rtol=1e-5)
    np.testing.assert_allclose(ascent, slope @ weights[0].T / 20, atol=1e-6)
    assert_same([g.numpy() for g in gradients], [X.T @ slope / 20, slope.mean(axis=0)])
    assert_same(model.get_weights(), weights, atol=0)
    model.update(gradients)
    assert_same(model.get_weights(), [w - 0.5 * g.numpy() for w, g in zip(weights, gradients, strict=True)])


def test_validation_data_are_looked_at_before_training():
    model = compiled()
    for validation in [(255 * X, Y), tf.data.Dataset.from_tensor_slices((X, Y + 1)).batch(4)]:
        with pytest.raises(InvalidInput, match="images|labels"):
            fit(model, X, Y, validation_data=validation)
    assert model.optimizer.iterations.numpy() == 0


@pytest.mark.parametrize("empty", [tf.data.Dataset.from_tensor_slices((X, Y)).take(0).batch(4), (i for i in ())])
def test_no_data_at_all_are_refused(empty):
    with pytest.raises(InvalidInput, match="data: got nothing"):
        fit(compiled(), empty)


def spoilt(part, value):
    """Twelve images and labels in batches of four, of which the last is wrong."""
    parts = [X[:12].copy(), Y[:12].copy()]
    parts[part][9] = value
    return tf.data.Dataset.from_tensor_slices(tuple(parts)).batch(4)


SPOILT = {
    "too bright": (spoilt(0, 2.0), "images: got 1 with values outside"),
    "standardised": (spoilt(0, -0.1), "images: got 1 with values outside"),
    "NaN": (spoilt(0, np.nan), "images: got 1 with values outside"),
    "a class too many": (spoilt(1, CLASSES), "labels: got 1 that are no class numbers in .0, 3."),
    "no class": (spoilt(1, -1), "labels: got 1 that are no class numbers in .0, 3."),
    "soft": (
        tf.data.Dataset.from_tensor_slices((X[:12], np.concatenate([ONE_HOT[:9], np.full([3, 3], 1 / 3)]))).batch(4),
        "labels: got 3 that are no class numbers",
    ),
}


@pytest.mark.parametrize(("data", "message"), SPOILT.values(), ids=SPOILT)
def test_a_later_batch_that_is_wrong_ends_training_and_evaluation(data, message):
    with pytest.raises(InvalidInput, match=f"^{message}.*check_images_and_labels"):
        fit(compiled(methods.Natural()), data)
    model = compiled(methods.Natural())
    with pytest.raises(InvalidInput, match=f"^{message}.*check_images_and_labels"):
        model.evaluate(data, verbose=0)
    fit(model, data.take(1))  # what was counted is forgotten


@pytest.mark.parametrize("way", [{"jit_compile": True}, {"run_eagerly": True}, {"steps_per_execution": 3}], ids=str)
def test_a_later_batch_is_looked_at_however_steps_are_run(way):
    with pytest.raises(InvalidInput, match="labels: got 1 that are"):
        fit(compiled(methods.Natural(), **way), SPOILT["a class too many"][0])


def test_a_method_that_is_none_is_refused():
    for method in ("trades", methods.TRADES, PGD.attack):
        with pytest.raises(InvalidInput, match="^method: got .*expected one of wmr_tf.methods.*TRADES"):
            AdversarialModel(network(), method)


def with_two(what):
    first, second = keras.Input([FEATURES]), keras.Input([FEATURES])
    if what == "inputs":
        return keras.Model([first, second], layers.Dense(CLASSES)(layers.Add()([first, second])))
    return keras.Model(first, [layers.Dense(CLASSES)(first), layers.Dense(2)(first)])


@pytest.mark.parametrize(
    ("make", "data", "message"),
    [
        (network, (tf.data.Dataset.from_tensor_slices((X, Y)),), "data: got elements .*batches.* Call .batch"),
        (network, ([(X[:4], Y[:4])],), "data: got a list without labels, expected arrays.* as a generator"),
        (network, (X,), "data: got a ndarray without labels"),
        (network, (X, Y.astype(float)), "labels: got dtype float64.* expected integers.* Cast class numbers to int32"),
        (network, (X[:, :3], Y), r"classifier .*got a failure on images of shape .16, 3. .*expected logits"),
        (lambda: with_two("inputs"), (X, Y), "classifier .*got 2 inputs, expected one, the images. Make a model"),
        (lambda: with_two("outputs"), (X, Y), "classifier .*got 2 outputs in a list, expected one, the logits. Make"),
    ],
    ids=["single images", "list", "no labels", "float labels", "other images", "two inputs", "two outputs"],
)
def test_what_fit_does_not_take_is_refused_with_what_to_do(make, data, message):
    model = compiled(methods.Natural(), make())
    with pytest.raises(InvalidInput, match=f"^{message}"):
        fit(model, *data)
    assert model.optimizer.iterations.numpy() == 0


@pytest.mark.parametrize("labels", [Y[:, np.newaxis], Y.astype("uint8"), ONE_HOT, ONE_HOT.astype("int64")])
def test_labels_in_every_form_give_the_same_training(labels):
    model, expected = compiled(), compiled(**EAGER)
    logs, expected_logs = fit(model, X, labels), fit(expected, X, Y)
    np.testing.assert_allclose(logs["loss"], expected_logs["loss"], rtol=1e-6)
    assert logs["accuracy"] == expected_logs["accuracy"]
    assert_same(model.get_weights(), expected.get_weights())


def test_images_are_cast_to_float32():
    double = X.astype("float64")
    assert_same(weights_after(tf.data.Dataset.from_tensor_slices((double, Y)).batch(4)), weights_after_arrays())
    assert_same(weights_after(double, Y, batch_size=32), weights_after_arrays(batch_size=32))


@pytest.mark.parametrize("way", [{"steps_per_execution": 3}, {"run_eagerly": True}], ids=str)
def test_every_way_to_execute_gives_the_same_weights(way):
    assert_same(weights_after(X, Y, batch_size=4, compile=way), weights_after_arrays())


# What is descended on, and what is logged


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_weight_decay_is_that_of_pytorch(momentum):
    model = compiled(methods.Natural(), linear(), rate=0.2, momentum=momentum, weight_decay=0.1)
    weights = [weight.astype("float64") for weight in model.get_weights()]
    buffers = [0.0, 0.0]
    for _ in range(2):
        slope = (probabilities(weights, X) - ONE_HOT) / len(X)
        for k, gradient in enumerate([X.T @ slope, slope.sum(axis=0)]):
            buffers[k] = momentum * buffers[k] + gradient + 0.1 * weights[k]
        weights = [weight - 0.2 * buffer for weight, buffer in zip(weights, buffers, strict=True)]
    fit(model, X, Y, batch_size=len(X))
    assert_same(model.get_weights(), weights, atol=2e-6)


@pytest.mark.parametrize("value", [-0.1, float("nan"), float("inf"), "strong"])
def test_a_weight_decay_that_is_none_is_refused(value):
    with pytest.raises(InvalidInput, match="weight_decay"):
        AdversarialModel(network(), PGD, weight_decay=value)


def test_awp_takes_the_gradient_where_the_kernel_is_worse():
    model = AdversarialModel(linear(), methods.Natural(), awp=0.3)
    model.compile(optimizer=keras.optimizers.SGD(0.2))
    model.classifier.layers[-1].bias.assign([0.5, -1.0, 0.2])
    kernel, bias = (weight.astype("float64") for weight in model.get_weights())

    def slope(kernel):
        return (probabilities((kernel, bias), X) - ONE_HOT) / len(X)

    uphill = X.T @ slope(kernel)
    worse = kernel + 0.3 * np.linalg.norm(kernel) * uphill / np.linalg.norm(uphill)  # the bias stays
    fit(model, X, Y, epochs=1, batch_size=len(X))
    expected = [kernel - 0.2 * X.T @ slope(worse), bias - 0.2 * slope(worse).sum(axis=0)]
    assert_same(model.get_weights(), expected, atol=2e-6)


@pytest.mark.parametrize("method", METHODS)
def test_awp_gives_weights_back_to_the_bit_and_leaves_no_other_trace(method):
    states = []
    for awp in (0.0, 0.2):
        keras.utils.set_random_seed(1)
        norm = [keras.Input([FEATURES]), layers.BatchNormalization(), layers.Dropout(0.5, seed=3)]
        model = AdversarialModel(keras.Sequential([*norm, layers.Dense(CLASSES)]), METHODS[method], awp=awp)
        model.compile(optimizer=keras.optimizers.SGD(0.0))
        before = model.classifier.layers[-1].get_weights()
        fit(model, X, Y, epochs=1, batch_size=10)
        assert all(
            np.array_equal(*pair) for pair in zip(model.classifier.layers[-1].get_weights(), before, strict=True)
        )
        states.append([variable.numpy() for variable in model.classifier.non_trainable_variables])
    assert len(states[0]) == 3 and np.abs(states[0][0]).max() > 0  # mean, variance, and the state of dropout
    for without, with_awp in zip(*states, strict=True):
        np.testing.assert_array_equal(with_awp, without)


def test_awp_makes_trades_another_step():
    without, with_awp = (AdversarialModel(network(), TRADES, awp=awp) for awp in (0.0, 0.05))
    for model in (without, with_awp):
        model.compile(optimizer=keras.optimizers.SGD(0.5))
        fit(model, X, Y, epochs=1)
    differences = [np.abs(a - b).max() for a, b in zip(without.get_weights(), with_awp.get_weights(), strict=True)]
    assert min(differences) > 1e-5


@pytest.mark.parametrize("name", ["free", "yopo"])
def test_awp_is_refused_where_a_step_has_several_gradients(name):
    classifier = keras.Sequential(
        [keras.Input((4, 4, 1)), layers.Conv2D(2, 3), layers.Flatten(), layers.Dense(CLASSES)]
    )
    with pytest.raises(InvalidInput, match="awp: got 0.01, expected 0, since (Free|YOPO) takes the gradient of a step"):
        AdversarialModel(classifier, method_named(name), awp=0.01)


def test_awp_is_refused_under_a_strategy():
    with tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope():
        model = AdversarialModel(network(), PGD, awp=0.01)
        model.compile(optimizer="sgd")
    with pytest.raises(InvalidInput, match="awp: got 0.01, expected 0 under a distribution strategy"):
        fit(model, X, Y)


@pytest.mark.parametrize("scale", [np.inf, 0.0])
def test_awp_does_not_move_along_a_gradient_that_is_none(scale):
    classifier = linear()
    before = classifier.get_weights()
    with moved_uphill(classifier, lambda: scale * tf.reduce_sum(classifier(X)), 0.1):
        assert_same(classifier.get_weights(), before)


def test_sample_weights_multiply_each_loss_and_the_mean_is_over_images():
    model = compiled(methods.Natural(), linear(), rate=0.2)
    w = np.arange(20) / 10.0
    kernel, bias = model.get_weights()
    p = probabilities((kernel, bias), X)
    logs = fit(model, X, Y, epochs=1, batch_size=len(X), sample_weight=w)
    assert logs["loss"][0] == pytest.approx(np.sum(w * -np.log(p[np.arange(20), Y])) / len(X), rel=1e-5)
    slope = w[:, np.newaxis] * (p - ONE_HOT) / len(X)
    assert_same(model.get_weights(), [kernel - 0.2 * X.T @ slope, bias - 0.2 * slope.sum(axis=0)], atol=2e-6)


@pytest.mark.parametrize("name", METHODS)
def test_class_weights_and_both_ways_to_give_sample_weights_agree(name):
    method, class_weight = METHODS[name], {0: 0.2, 1: 1.0, 2: 3.0}
    w = np.array([class_weight[label] for label in Y], "float32")
    expected = weights_after(X, Y, sample_weight=w, method=method, batch_size=4)
    assert_different(expected, weights_after_arrays(name))
    third = tf.data.Dataset.from_tensor_slices((X, Y, w[:, np.newaxis])).batch(4)
    assert_same(weights_after(third, method=method), expected)
    by_class = {"class_weight": class_weight, "method": method, "batch_size": 4, "compile": EAGER}
    assert_same(weights_after(X, Y, **by_class), expected)
    assert_same(weights_after(X, ONE_HOT, **by_class), expected)


@pytest.mark.parametrize("bad", [-np.ones(20), np.full(20, np.nan), np.ones([20, 2]), np.ones(19)])
def test_malformed_sample_weights_are_refused(bad):
    for verb in ("fit", "evaluate"):
        with pytest.raises(InvalidInput, match="sample_weight: got"):
            getattr(compiled(), verb)(X, Y, sample_weight=bad, verbose=0)


def test_accuracy_in_fit_is_that_of_the_attacked_images():
    attack = attacks.PGD(epsilon=0.3, step_size=0.3, steps=1, start="none")
    model = compiled(methods.PGD(attack), linear())
    kernel, bias = model.get_weights()
    attacked = np.clip(X + 0.3 * np.sign((probabilities((kernel, bias), X) - ONE_HOT) @ kernel.T), 0, 1)
    accuracy, clean_accuracy = (np.mean((images @ kernel + bias).argmax(axis=1) == Y) for images in (attacked, X))
    assert accuracy < clean_accuracy
    assert model.evaluate(X, Y, verbose=0)[1] == pytest.approx(clean_accuracy)
    assert fit(model, X, Y, epochs=1, batch_size=len(X))["accuracy"] == pytest.approx([accuracy])


def test_evaluate_returns_loss_and_accuracy_of_the_images_as_given():
    model = compiled(classifier=linear())
    p = probabilities(model.get_weights(), X)
    cross_entropy, w = -np.log(p[np.arange(20), Y]), np.arange(20) / 10.0
    expected = [np.mean(cross_entropy), np.mean(p.argmax(axis=1) == Y)]
    np.testing.assert_allclose(model.evaluate(X, Y, verbose=0, batch_size=6), expected, rtol=1e-5)
    assert list(model.evaluate(X, Y, verbose=0, return_dict=True)) == ["accuracy", "loss"]
    assert model.evaluate(X, Y, sample_weight=w, verbose=0)[0] == pytest.approx(np.mean(w * cross_entropy), rel=1e-5)


def test_a_loss_in_compile_is_refused():
    model = AdversarialModel(network(), PGD)
    model.compile(optimizer="sgd", loss="sparse_categorical_crossentropy")
    for verb in (model.fit, model.evaluate, model.train_on_batch):
        with pytest.raises(InvalidInput, match=r"compile\(loss=...\): got a loss, expected none.*Leave out loss="):
            verb(X, Y)


# Precision


@pytest.fixture(scope="module")
def float32_losses():
    """What four steps in float32 give, by method."""
    return {name: losses_and_model(method, EAGER)[0] for name, method in METHODS.items()}


def losses_and_model(method, compile, **kwargs):
    model = compiled(method, network(activity_regularizer="l2", **kwargs), rate=0.1, **compile)
    return fit(model, X, Y, epochs=4, batch_size=len(X))["loss"], model


@pytest.mark.parametrize(
    ("name", "policy", "by_layer"),
    [
        ("pgd", "mixed_bfloat16", False),
        ("trades", "mixed_bfloat16", True),
        ("pgd", "mixed_float16", True),
        ("trades", "mixed_float16", False),
    ],
)
def test_mixed_precision_trains_as_float32_does(float32_losses, name, policy, by_layer):
    if not by_layer:
        keras.config.set_dtype_policy(policy)
    losses, model = losses_and_model(METHODS[name], {}, **({"dtype": policy} if by_layer else {}))
    assert model.optimizer.iterations.numpy() == 4
    assert isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer) == (policy == "mixed_float16")
    assert {variable.dtype for variable in model.trainable_variables} == {"float32"}
    assert losses[-1] < losses[0]
    np.testing.assert_allclose(losses, float32_losses[name], rtol=0.02)


@pytest.mark.parametrize("policy", some(["bfloat16", "float16", "float64"], fast=["bfloat16"]))
@pytest.mark.parametrize("name", METHODS)
def test_a_pure_policy_trains_as_float32_does_and_is_evaluated_in_float32(name, policy):
    twin = compiled(METHODS[name], network(activity_regularizer="l2"), rate=0.1, weight_decay=0.1)
    keras.config.set_dtype_policy(policy)
    model = compiled(METHODS[name], network(activity_regularizer="l2"), rate=0.1, weight_decay=0.1)
    keras.config.set_dtype_policy("float32")
    twin.classifier.set_weights([tf.cast(weight, tf.float32).numpy() for weight in model.classifier.weights])
    expected, losses = (fit(each, X, Y, epochs=4, batch_size=len(X))["loss"] for each in (twin, model))
    assert isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer) == (policy == "float16")
    assert {variable.dtype for variable in model.trainable_variables} == {policy}
    assert losses[-1] < losses[0]
    np.testing.assert_allclose(losses, expected, rtol=0.02)
    result = evaluate_robustness(model.classifier, (X, Y), PGD.attack, verbose=0)
    with float32_compute(model.classifier):
        np.testing.assert_allclose(result.clean_margins, probability_margin(model.classifier(X), Y), atol=1e-5)


def test_float16_does_not_lose_small_gradients():
    model = compiled(methods.Natural(), network(dtype="mixed_float16"), rate=1e6)
    before = model.get_weights()
    fit(model, X, Y, epochs=1, batch_size=len(X), sample_weight=np.full(20, 1e-7))  # gradients of 1e-8 and less
    assert_different(model.get_weights(), before)


# Tracing and randomness


@keras.saving.register_keras_serializable("tests")
class Counting(keras.Model):
    """Not built before it is called; counts how often it is traced for training."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.dense = layers.Dense(CLASSES)
        self.traces = 0

    def call(self, images, training=False):
        self.traces += int(training)
        return self.dense(images)


class Traced(layers.Layer):
    """Hands on what it gets; counts how often it is traced for training."""

    def __init__(self):
        super().__init__()
        self.traces = 0

    def call(self, x, training=False):
        self.traces += int(training)
        return x


@pytest.mark.parametrize("name", methods.BY_NAME)
def test_no_method_is_traced_again_after_the_first_batch(name):
    layer, traces = Traced(), []
    classifier = keras.Sequential(
        [keras.Input([FEATURES]), layers.Dense(5, name="first"), layer, layers.Dense(CLASSES)]
    )
    method = method_named(name, **{"yopo": {"split": "first"}, "free": {"replays": 2}}.get(name, {}))  # 8 diverge here
    watch = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: traces.append(layer.traces))
    layer.traces = 0
    fit(compiled(method, classifier), INDEXED, Y, batch_size=8, epochs=2, callbacks=[watch])  # 8, 8 and 4
    assert 0 < traces[0] <= 2  # some methods train on clean images too
    assert traces == traces[:1] * 6


def test_nothing_is_traced_again_after_the_first_batch():
    classifier, traces = Counting(), []
    validation = tf.data.Dataset.from_tensor_slices((X, Y)).batch(8)
    watch = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: traces.append(classifier.traces))
    evaluation = callbacks.RobustEvaluation(validation, PGD.attack)
    fit(compiled(classifier=classifier), X, Y, batch_size=8, epochs=3, callbacks=[evaluation, watch])  # 8, 8 and 4
    assert traces == [1] * 9  # TensorFlow traces twice where a function creates variables


@pytest.mark.filterwarnings("ignore:attack. its steps reach")
def test_each_step_and_each_seed_has_its_own_noise():
    method = methods.PGD(attacks.PGD(epsilon=0.3, step_size=1e-6, steps=1))

    def losses(seed):
        return fit(compiled(method, linear(), rate=0.0, seed=seed), X, Y, epochs=3, batch_size=len(X))["loss"]

    first = losses(seed=0)
    assert len(set(first)) == 3  # nothing but the noise differs, the rate being 0
    assert losses(seed=0) == first
    assert not set(losses(seed=1)) & set(first)


def run_script(script):
    root = Path(__file__).resolve().parents[1]
    run = subprocess.run([sys.executable, "-c", script], cwd=root, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-3000:]
    return run.stdout.splitlines()[-1]


SETUP = """
import keras, numpy as np, tensorflow as tf, wmr_tf as wmr
rng = np.random.default_rng(0)
x, y = rng.random((32, 6, 6, 1), dtype="float32"), rng.integers(0, 3, 32)
attack = wmr.attacks.PGD(epsilon=0.1, step_size=0.05, steps=2)

def make():
    layers = keras.layers
    hidden = [layers.Conv2D(8, 3), layers.BatchNormalization(), layers.ReLU(), layers.Flatten(), layers.Dropout(0.5)]
    classifier = keras.Sequential([keras.Input([6, 6, 1]), *hidden, layers.Dense(3)])
    model = wmr.AdversarialModel(classifier, wmr.methods.TRADES(attack, alpha=1.0), weight_decay=1e-3)
    model.compile(optimizer=keras.optimizers.SGD(0.1, momentum=0.9), metrics=["accuracy"])
    return model
"""


@pytest.mark.slow
def test_two_deterministic_runs_give_the_same_bytes():
    script = """
tf.config.experimental.enable_op_determinism()

def run(seed):
    keras.utils.set_random_seed(seed)
    model = make()
    model.fit(x, y, batch_size=8, epochs=2, verbose=0)
    return b"".join(weight.tobytes() for weight in model.get_weights())

first = run(3)
print(first == run(3), first == run(4))
"""
    assert run_script(SETUP + script) == "True False"


# Saving


@pytest.mark.parametrize(
    ("method", "make", "policy"),
    [(PGD, network, "float32"), (TRADES, network, "mixed_float16"), (PGD, Counting, "float32")],
    ids=["pgd", "trades in float16", "subclassed"],
)
def test_a_saved_training_model_goes_on_as_if_nothing_had_happened(method, make, policy, tmp_path):
    keras.config.set_dtype_policy(policy)
    model = compiled(method, make(), momentum=0.9, seed=5, weight_decay=0.01)
    fit(model, X, Y, batch_size=4)
    model.save(tmp_path / "training.keras")
    loaded = keras.models.load_model(tmp_path / "training.keras")
    assert type(loaded.method) is type(method)
    assert loaded.method.get_config() == method.get_config()
    assert (loaded.method.attack, loaded.weight_decay, loaded.seed) == (method.attack, 0.01, 5)
    assert type(loaded.optimizer) is type(model.optimizer)
    assert_same([v.numpy() for v in loaded.optimizer.variables], [v.numpy() for v in model.optimizer.variables], atol=0)
    assert fit(loaded, X, Y, batch_size=4) == fit(model, X, Y, batch_size=4)
    assert_same(loaded.get_weights(), model.get_weights(), atol=0)


@pytest.mark.parametrize("copy", [keras.models.clone_model, lambda model: type(model).from_config(model.get_config())])
def test_a_copy_has_the_settings_and_takes_the_weights_from_a_file(copy, tmp_path):
    model = AdversarialModel(network(), TRADES, weight_decay=0.1, awp=0.2, seed=3, name="mine")
    twin = copy(model)
    assert (twin.name, twin.weight_decay, twin.awp, twin.seed) == ("mine", 0.1, 0.2, 3)
    assert twin.method.get_config() == TRADES.get_config()
    assert_different(twin.get_weights(), model.get_weights())
    model.save_weights(tmp_path / "model.weights.h5")
    twin.load_weights(tmp_path / "model.weights.h5")
    assert_same(twin.get_weights(), model.get_weights(), atol=0)


def fixed_noise(sample, like, seed):
    """As many numbers in [-1, 1] as `like` has, the same for every seed."""
    return tf.reshape(tf.sin(7.0 * tf.cast(tf.range(tf.size(like)), tf.float32)), tf.shape(like))


@pytest.mark.parametrize("name", some(methods.BY_NAME, fast=("pgd", "free")))
def test_a_step_under_xla_is_the_plain_step(name, monkeypatch):
    """What Keras does on a GPU by itself. XLA draws other random numbers: here noise is the same at every draw."""
    monkeypatch.setattr(seeds, "_draw", fixed_noise)
    rng = np.random.default_rng(0)
    images, labels = rng.uniform(size=(8, 8, 8, 1)).astype(np.float32), rng.integers(0, 5, 8)
    restarts = attacks.PGD(epsilon=0.1, step_size=0.05, steps=3, restarts=2, start="none")
    network = [
        layers.Conv2D(4, 3, use_bias=False),
        layers.BatchNormalization(),
        layers.ReLU(),
        layers.Flatten(),
        layers.Dense(5),
    ]
    classifier = keras.Sequential([keras.Input((8, 8, 1)), *network])
    before = classifier.get_weights()
    trained = []
    for jit_compile in (False, True):
        classifier.set_weights(before)
        model = AdversarialModel(classifier, method_named(name, **({"attack": restarts} if name == "pgd" else {})))
        model.compile(keras.optimizers.SGD(0.01), jit_compile=jit_compile)
        model.fit({"image": images, "index": np.arange(8)}, labels, batch_size=8, verbose=0)
        assert model.jit_compile == jit_compile
        trained.append(classifier.get_weights())
    for plain, compiled, first in zip(*trained, before, strict=True):
        np.testing.assert_allclose(compiled, plain, rtol=0, atol=1e-5)
        assert np.abs(compiled - first).max() > 20 * 1e-5


@pytest.mark.parametrize(("name", "value"), [("awp", 0.5), ("weight_decay", 0.5), ("seed", 7)])
def test_a_setting_of_the_model_that_a_callback_changes_counts_from_then_on(name, value):
    class Change(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 1:
                setattr(self.model, name, value)

    changed, plain = compiled(), compiled()
    for model, given in ((changed, [Change()]), (plain, [])):
        fit(model, X, Y, batch_size=4, epochs=2, callbacks=given)
    differs = [
        np.abs(one - other).max() > 1e-4 for one, other in zip(changed.get_weights(), plain.get_weights(), strict=True)
    ]
    assert all(differs)


def test_arguments_of_fit_may_stand_by_their_place_as_in_keras():
    model = compiled(run_eagerly=True)
    history = model.fit(X, Y, 10, 1, 0, None, 0.0, (X, Y)).history
    assert "val_accuracy" in history
    with pytest.raises(TypeError, match="multiple values for argument 'epochs'"):
        model.fit(X, Y, 10, 1, epochs=2)
    with pytest.raises(TypeError, match="unexpected keyword argument 'epoch'"):
        model.fit(X, Y, epoch=2)


def test_one_hot_labels_may_be_truth_values():
    assert_same(weights_after(X, ONE_HOT.astype(bool), batch_size=4), weights_after_arrays())


def test_images_of_unknown_rank_or_sides_are_refused_in_one_line():
    data = tf.data.Dataset.from_tensor_slices((X, Y)).batch(4)

    def unknown(rank):
        def forget(x, y):
            return tf.ensure_shape(tf.numpy_function(lambda x: x, [x], tf.float32), rank), y

        return data.map(forget)

    with pytest.raises(InvalidInput, match=r"data: got images of unknown rank.*tf\.ensure_shape"):
        compiled().fit(unknown(None), verbose=0)
    of_length = methods.PGD(attacks.PGD(epsilon=0.1, step_size=0.05, steps=2, norm="l2"))
    with pytest.raises(InvalidInput, match=r"images: got the shape .*known sides.*tf\.ensure_shape"):
        compiled(of_length, run_eagerly=False).fit(unknown([None, None]), verbose=0)


def test_evaluations_multiply_in_all_bits_of_float32_and_leave_the_setting_as_it_was(monkeypatch):
    is_on, seen = tf.config.experimental.tensor_float_32_execution_enabled, []
    monkeypatch.setattr("wmr_tf.evaluation.evaluator.Robustness.of", lambda *_, **__: seen.append(is_on()))
    before = is_on()
    evaluator = RobustnessEvaluator(network(), PGD.attack, suite=None)
    for setting in (True, False):
        tf.config.experimental.enable_tensor_float_32_execution(setting)
        evaluator([(X, Y)], verbose=0)
        assert seen == [False] and is_on() == setting
        seen.clear()
    tf.config.experimental.enable_tensor_float_32_execution(before)


# What Keras would do otherwise


def test_a_loss_in_compile_is_refused_until_it_is_left_out():
    model = AdversarialModel(network(), PGD)
    model.compile(optimizer="sgd", loss="sparse_categorical_crossentropy")
    with pytest.raises(InvalidInput, match="Leave out loss= in compile"):
        fit(model, X, Y)
    model.compile(optimizer="sgd")
    assert list(fit(model, X, Y, validation_data=(X, Y))) == ["loss", "val_loss"]


def test_data_without_an_end_are_taken_if_it_is_said_how_much_is_read():
    endless = tf.data.Dataset.from_tensor_slices((X, Y)).batch(5).repeat()
    model = compiled()
    bounds = {"steps_per_epoch": 2, "validation_data": endless, "validation_steps": 1}
    assert len(fit(model, endless, **bounds)["val_loss"]) == 2
    assert model.evaluate(endless, steps=2, verbose=0)


def test_callbacks_that_monitor_an_accuracy_under_attack_look_for_the_largest(tmp_path):
    evaluation = callbacks.RobustEvaluation((X, Y), PGD.attack, alpha_test=1.0)
    monitoring = [
        keras.callbacks.EarlyStopping("val_A_strong", patience=9),
        keras.callbacks.ModelCheckpoint(tmp_path / "best.keras", "val_A_strong", save_best_only=True),
        keras.callbacks.ReduceLROnPlateau("val_A_sa", patience=9),
        keras.callbacks.EarlyStopping("val_loss", patience=9),
    ]
    history = fit(compiled(), X, Y, callbacks=[evaluation, *monitoring], validation_data=(X, Y), epochs=3)
    assert [callback.mode for callback in monitoring] == ["max", "max", "max", "auto"]
    assert monitoring[0].best == max(history["val_A_strong"])


def test_batches_whose_gradients_are_accumulated_have_seeds_of_their_own(monkeypatch):
    seen = []
    batch_seed = AdversarialModel._batch_seed
    monkeypatch.setattr(AdversarialModel, "_batch_seed", lambda model: seen.append(batch_seed(model)) or seen[-1])
    for steps in (None, 2):
        model = AdversarialModel(network(), PGD)
        optimizer = keras.optimizers.SGD(0.1, gradient_accumulation_steps=steps)
        model.compile(optimizer=optimizer, run_eagerly=True)
        fit(model, X, Y, batch_size=5, epochs=1)
    found = [tuple(np.ravel(seed)) for seed in seen[-8:]]
    assert len(set(found[4:])) == 4 and found[:4] == found[4:]


@pytest.mark.parametrize("clip", ["clipnorm", "global_clipnorm", "clipvalue"])
def test_a_clipping_optimizer_is_refused_under_a_strategy(clip):
    with tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope():
        model = AdversarialModel(network(), PGD)
        model.compile(optimizer=keras.optimizers.SGD(0.1, **{clip: 1.0}))
    with pytest.raises(InvalidInput, match=f"optimizer: got {clip}, expected none under a distribution strategy"):
        fit(model, X, Y)
