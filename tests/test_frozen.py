import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from wmr_tf.attacks import PGD
from wmr_tf.engine.frozen import freeze, freeze_in
from wmr_tf.engine.precision import compute_dtypes, float32_compute
from wmr_tf.engine.training import training_logits
from wmr_tf.losses import cross_entropy

SHAPE = (6, 6, 2)
POLICIES = ["float32", "mixed_bfloat16", "mixed_float16"]


@keras.saving.register_keras_serializable("tests")
class Subclassed(keras.Model):
    """A classifier whose layers Keras finds as attributes, one of them a model."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.features = keras.Sequential([layers.Conv2D(4, 3), layers.BatchNormalization(), layers.ReLU()])
        self.dropout = layers.Dropout(0.5)
        self.top = keras.Sequential([layers.Flatten(), layers.Dense(3)])

    def call(self, x, training=None):
        return self.top(self.dropout(self.features(x, training=training), training=training))


def sequential():
    parts = [layers.Conv2D(4, 3), layers.BatchNormalization(), layers.ReLU(), layers.Dropout(0.5)]
    return keras.Sequential([keras.Input(SHAPE), *parts, layers.Flatten(), layers.Dense(3)])


def functional():
    """A residual block around an inner model, BatchNorm before the first and after the last convolution."""
    x = image = keras.Input(SHAPE)
    x = layers.BatchNormalization()(x)
    x = layers.Conv2D(4, 3, activation="relu")(x)
    inner = keras.Sequential([layers.Conv2D(4, 3, padding="same"), layers.BatchNormalization(), layers.Dropout(0.3)])
    x = layers.Add()([x, inner(x)])
    return keras.Model(image, layers.Dense(3)(layers.Flatten()(layers.BatchNormalization()(x))))


def depthwise():
    """A depthwise convolution of two outputs for each channel between two of BatchNorm, as MobileNet has it."""
    convolution = layers.DepthwiseConv2D(3, strides=2, padding="same", depth_multiplier=2, use_bias=False)
    parts = [layers.BatchNormalization(), convolution, layers.BatchNormalization(), layers.ReLU()]
    return keras.Sequential([keras.Input(SHAPE), *parts, layers.Dropout(0.5), layers.Flatten(), layers.Dense(3)])


def subclassed():
    model = Subclassed()
    model(tf.zeros([1, *SHAPE]))
    return model


MODELS = [sequential, functional, depthwise, subclassed]


def randomised(make, policy="float32", seed=0):
    """A classifier with random weights everywhere, BatchNorm's statistics included."""
    keras.config.set_dtype_policy(policy)
    classifier = make()
    keras.config.set_dtype_policy("float32")
    rng = np.random.default_rng(seed)
    for variable in classifier.variables:
        if "float" in variable.dtype:
            noise = rng.standard_normal(variable.shape)
            is_scale = variable.name in ("gamma", "moving_variance")
            variable.assign(0.5 + np.abs(noise) if is_scale else 0.3 * noise)
    return classifier


def images(count=8):
    return tf.constant(np.random.default_rng(5).random([count, *SHAPE]), tf.float32)


def state(classifier):
    """Every number the classifier holds, seeds of dropout included."""
    return [keras.ops.convert_to_numpy(variable) for variable in classifier.variables]


def gradient(network, loss_fn, x):
    with tf.GradientTape() as tape:
        tape.watch(x)
        loss = tf.reduce_sum(loss_fn(network(x)))
    return tape.gradient(loss, x).numpy()


# The classifier as the attack sees it


@pytest.mark.parametrize("make", MODELS)
@pytest.mark.parametrize("policy", POLICIES)
def test_frozen_is_the_classifier_in_inference_mode(make, policy):
    classifier = randomised(make, policy)
    expected = classifier(images(), training=False)
    logits = freeze(classifier)(images())
    assert logits.dtype == tf.float32
    assert np.abs(expected - classifier(images(), training=True)).max() > 0.05  # so the mode matters
    tolerance = {"float32": 1e-5, "mixed_float16": 1e-2, "mixed_bfloat16": 8e-2}[policy]
    np.testing.assert_allclose(logits, tf.cast(expected, tf.float32), rtol=0, atol=tolerance)


@pytest.mark.parametrize("make", MODELS)
def test_frozen_has_the_gradient_of_the_classifier(make):
    classifier = randomised(make)
    labels = tf.range(8) % 3
    expected, found = (
        gradient(network, lambda logits: cross_entropy(logits, labels), images())
        for network in (lambda x: classifier(x, training=False), freeze(classifier))
    )
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("make", MODELS)
@pytest.mark.parametrize("policy", ["float32", "mixed_float16"])
@pytest.mark.parametrize("in_graph", [False, True])
def test_nothing_moves_during_an_attack(make, policy, in_graph):
    classifier = randomised(make, policy)
    before = state(classifier)

    def attack(x):
        logits = freeze(classifier)
        return PGD(epsilon=0.1, step_size=0.05, steps=3)(
            lambda attacked: cross_entropy(logits(attacked), tf.range(8) % 3), x, seed=tf.constant([0, 1])
        )

    attacked = (tf.function(attack, autograph=False) if in_graph else attack)(images())
    assert np.abs(attacked - images()).max() > 0.09
    for now, then in zip(state(classifier), before, strict=True):
        np.testing.assert_array_equal(now, then)


def _conv(activation=None):
    return layers.Conv2D(4, 2, activation=activation)


STACKS = {
    "conv relu, pool, norm": lambda: [_conv("relu"), layers.MaxPooling2D(), layers.BatchNormalization()],
    "conv, norm, pool": lambda: [_conv(), layers.BatchNormalization(), layers.MaxPooling2D()],
    "conv relu, norm, pool": lambda: [_conv("relu"), layers.BatchNormalization(), layers.MaxPooling2D()],
    "conv, norm, norm": lambda: [_conv(), layers.BatchNormalization(), layers.BatchNormalization()],
    "norm, pool": lambda: [layers.BatchNormalization(), layers.MaxPooling2D()],
    "conv relu, pool, pool": lambda: [_conv("relu"), layers.MaxPooling2D(), layers.MaxPooling2D()],
}


def in_inference_mode(classifier):
    return lambda x: classifier(x, training=False)


def assert_frozen_equals(classifier):
    np.testing.assert_allclose(freeze(classifier)(images()), classifier(images(), training=False), rtol=0, atol=1e-5)
    losses = lambda logits: cross_entropy(logits, tf.range(8) % 3)  # noqa: E731
    expected, found = (gradient(net, losses, images()) for net in (in_inference_mode(classifier), freeze(classifier)))
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("stack", STACKS)
def test_pools_and_norms_in_any_order(stack):
    body = [*STACKS[stack](), layers.Flatten(), layers.Dense(3)]
    assert_frozen_equals(randomised(lambda: keras.Sequential([keras.Input(SHAPE), *body])))


def test_a_layer_shared_with_a_nested_model_is_left_as_it_is():
    def shared():
        conv = layers.Conv2D(SHAPE[-1], 3, padding="same")
        inner = keras.Sequential([keras.Input(SHAPE), conv, layers.Activation("tanh")])
        image = keras.Input(SHAPE)
        x = layers.BatchNormalization()(conv(inner(image)))
        return keras.Model(image, layers.Dense(3)(layers.Flatten()(x)))

    assert_frozen_equals(randomised(shared))


# float16


def confident_classifier(policy):
    """Two classes, whose logits differ by about 20 for bright images and by about nothing for black ones."""
    keras.config.set_dtype_policy(policy)
    kernel = np.linspace(-0.1, 0.6, 72)[:, np.newaxis] * [1.0, -1.0]
    dense = layers.Dense(2, use_bias=False)
    classifier = keras.Sequential([keras.Input(SHAPE), layers.Flatten(), dense])
    dense.set_weights([kernel])
    keras.config.set_dtype_policy("float32")
    return classifier


def losses_of_first_class(logits):
    return cross_entropy(logits, tf.zeros(tf.shape(logits)[0], tf.int32))


def test_float16_gradient_of_a_confident_image_does_not_vanish():
    bright = tf.fill([1, *SHAPE], 0.6)
    full, half = confident_classifier("float32"), confident_classifier("mixed_float16")
    expected = gradient(full, losses_of_first_class, bright)
    assert 0 < np.abs(expected).max() < 2e-8  # float16 has nothing below 6e-8
    unscaled = gradient(lambda x: tf.cast(half(x), tf.float32), losses_of_first_class, bright)
    assert (unscaled == 0).all()  # what would happen otherwise
    found = gradient(freeze(half), losses_of_first_class, bright)
    assert np.array_equal(np.sign(found), np.sign(expected))
    np.testing.assert_allclose(found, expected, rtol=0.02, atol=1e-11)


def test_float16_gradient_of_an_image_does_not_depend_on_its_neighbours():
    both = tf.stack([tf.fill(SHAPE, 0.6), tf.zeros(SHAPE)])
    network = freeze(confident_classifier("mixed_float16"))
    together = gradient(network, losses_of_first_class, both)
    apart = [gradient(network, losses_of_first_class, both[i : i + 1])[0] for i in range(2)]
    assert np.abs(together[1]).max() > 1e6 * np.abs(together[0]).max() > 0
    np.testing.assert_array_equal(together, apart)


def test_float16_gradient_of_a_flat_loss_is_zero():
    network = freeze(confident_classifier("mixed_float16"))
    assert (gradient(network, lambda logits: 0.0 * logits, images()) == 0).all()


def test_float16_attack_is_that_of_float32():
    bright = tf.fill([1, *SHAPE], 0.6)
    attack = PGD(epsilon=0.1, step_size=0.02, steps=3, start="none")

    @tf.function(autograph=False)
    def attacked(classifier):
        logits = freeze(classifier)
        return attack(lambda x: losses_of_first_class(logits(x)), bright, seed=tf.constant([0, 1]))

    full, half = (attacked(confident_classifier(policy)) for policy in ("float32", "mixed_float16"))
    assert np.abs(full - bright).min() > 0.05
    np.testing.assert_allclose(half, full, rtol=0, atol=1e-6)


# Precision


@pytest.mark.parametrize("make", MODELS)
@pytest.mark.parametrize("policy", POLICIES)
def test_compute_dtypes_sees_nested_layers(make, policy):
    half = policy.removeprefix("mixed_")
    assert half in compute_dtypes(randomised(make, policy))
    assert compute_dtypes(randomised(make)) == {"float32"}


def test_compute_dtypes_sees_a_layer_that_differs():
    inner = keras.Sequential([layers.Flatten(), layers.Dense(4, dtype="mixed_float16")])
    outer = keras.Sequential([keras.Input(SHAPE), inner, layers.Dense(3)])
    assert compute_dtypes(outer) == {"float32", "float16"}


@pytest.mark.parametrize("make", MODELS)
@pytest.mark.parametrize("policy", POLICIES)
def test_float32_compute_gives_the_float32_models_outputs(make, policy):
    mixed, twin = randomised(make, policy), randomised(make)
    expected = twin(images(), training=False)
    before = mixed(images(), training=False)
    with float32_compute(mixed):
        assert compute_dtypes(mixed) == {"float32"}
        inside = mixed(images(), training=False)
        frozen_inside = freeze(mixed)(images())
    np.testing.assert_allclose(inside, expected, rtol=0, atol=1e-6)
    np.testing.assert_allclose(frozen_inside, expected, rtol=0, atol=1e-5)
    after = mixed(images(), training=False)
    assert after.dtype == before.dtype
    np.testing.assert_array_equal(tf.cast(after, tf.float32), tf.cast(before, tf.float32))
    if policy != "float32":
        assert np.abs(tf.cast(before, tf.float32) - expected).max() > 1e-4


@pytest.mark.parametrize("make", MODELS)
def test_float32_compute_restores_every_policy_even_after_an_error(make):
    classifier = randomised(make, "mixed_bfloat16")
    every_layer = classifier._flatten_layers()
    before = [layer.dtype_policy.name for layer in every_layer]
    assert "mixed_bfloat16" in before
    with pytest.raises(RuntimeError, match="inside"), float32_compute(classifier):
        raise RuntimeError("inside")
    assert [layer.dtype_policy.name for layer in every_layer] == before


@pytest.mark.parametrize("make", [sequential, functional])
@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_a_model_saved_inside_loads_as_a_float32_one_with_keras_alone(make, policy, tmp_path):
    classifier = randomised(make, policy)
    with float32_compute(classifier):
        classifier.save(tmp_path / "classifier.keras")
    loaded = keras.models.load_model(tmp_path / "classifier.keras")
    assert compute_dtypes(loaded) == {"float32"}
    assert {variable.dtype for variable in loaded.trainable_variables} == {"float32"}
    expected = randomised(make)(images(), training=False)
    np.testing.assert_allclose(loaded(images(), training=False), expected, rtol=0, atol=1e-6)


# Policies whose variables are not float32 either

PURE = {"bfloat16": 8e-2, "float16": 1e-2, "float64": 1e-5}
"""How far a classifier under the policy may be from itself computed another way."""


def twin_of(classifier, make):
    """A float32 classifier with the very weights of another."""
    twin = make()
    twin.set_weights([tf.cast(weight, tf.float32).numpy() for weight in classifier.weights])
    return twin


@pytest.mark.parametrize("make", MODELS)
@pytest.mark.parametrize("policy", PURE)
def test_a_pure_policy_is_frozen_and_trained_in_its_precision_and_scored_in_float32(make, policy):
    classifier = randomised(make, policy)
    with tf.GradientTape() as tape:
        trained = training_logits(classifier, images())
        total = tf.reduce_sum(tf.cast(trained, tf.float32))
    assert all(gradient is not None for gradient in tape.gradient(total, classifier.trainable_variables))
    twin = twin_of(classifier, make)
    np.testing.assert_allclose(
        tf.cast(classifier(images(), training=False), tf.float32),
        freeze(classifier)(images()),
        rtol=0,
        atol=PURE[policy],
    )
    expected = twin(images(), training=False)
    for weight in classifier.weights:
        assert weight.dtype in (policy, "uint32")  # the latter of dropout's seed
    for logits_of in (freeze_in("float32", classifier), freeze(twin)):
        np.testing.assert_allclose(logits_of(images()), expected, rtol=0, atol=1e-5)
    np.testing.assert_allclose(freeze_in("bfloat16", classifier)(images()), expected, rtol=0, atol=0.1)
    assert compute_dtypes(classifier) == {policy}


@pytest.mark.parametrize("policy", PURE)
def test_a_pure_policy_trains_batchnorm_as_float32_does(policy):
    def without_dropout():
        parts = [layers.Conv2D(4, 3), layers.BatchNormalization(), layers.ReLU()]
        return keras.Sequential([keras.Input(SHAPE), *parts, layers.Flatten(), layers.Dense(3)])

    classifier = randomised(without_dropout, policy)
    twin = twin_of(classifier, without_dropout)
    logits, expected = training_logits(classifier, images()), training_logits(twin, images())
    np.testing.assert_allclose(tf.cast(logits, tf.float32), expected, rtol=0, atol=PURE[policy])
    for weight, other in zip(classifier.non_trainable_variables, twin.non_trainable_variables, strict=True):
        np.testing.assert_allclose(tf.cast(weight, tf.float32), other, rtol=0, atol=PURE[policy])


@pytest.mark.parametrize("policy", PURE)
def test_a_pure_policy_is_saved_inside_as_a_float32_model(policy, tmp_path):
    classifier = randomised(sequential, policy)
    with float32_compute(classifier):
        classifier.save(tmp_path / "classifier.keras")
    loaded = keras.models.load_model(tmp_path / "classifier.keras")
    assert compute_dtypes(loaded) == {variable.dtype for variable in loaded.trainable_variables} == {"float32"}
    expected = twin_of(classifier, sequential)(images(), training=False)
    np.testing.assert_allclose(loaded(images(), training=False), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("mode", ["int8", "int4"])
def test_a_quantised_layer_stays_quantised_in_every_precision(mode):
    classifier = randomised(sequential, "mixed_bfloat16")
    classifier.layers[-1].quantize(mode)
    before = classifier.layers[-1].dtype_policy.name
    with float32_compute(classifier):
        expected = classifier(images(), training=False)
        assert expected.dtype == tf.float32
        assert compute_dtypes(classifier) == {"float32"}
        assert classifier.layers[-1].quantization_mode == mode
    np.testing.assert_allclose(tf.cast(classifier(images(), training=False), tf.float32), expected, atol=8e-2)
    np.testing.assert_allclose(freeze_in("float32", classifier)(images()), expected, atol=1e-5)
    assert classifier.layers[-1].dtype_policy.name == before
