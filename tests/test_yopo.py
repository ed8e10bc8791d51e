"""YOPO against its steps written out, and where it splits which classifier."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.test_methods import step_seed
from wmr_tf import AdversarialModel, InvalidInput, architectures, attacks, methods
from wmr_tf.losses import weighted_cross_entropy
from wmr_tf.methods.yopo import first_layer

layers = keras.layers
RATE, SEED = 0.5, 7
ATTACK = attacks.PGD(epsilon=0.2, step_size=0.04, steps=3)
RNG = np.random.default_rng(0)
X, Y = RNG.random((8, 6, 6, 1), dtype="float32"), RNG.integers(0, 3, 8)


def network(activation=None):
    keras.utils.set_random_seed(1)
    first = [layers.Rescaling(2.0, -1.0), layers.Conv2D(4, 3, activation=activation, name="conv")]
    rest = [layers.Activation("tanh"), layers.Flatten(), layers.Dense(3, dtype="float32")]
    return keras.Sequential([keras.Input((6, 6, 1)), *first, *rest])


def trained(method, classifier, epochs=1, **kwargs):
    model = AdversarialModel(classifier, method, seed=SEED, **kwargs)
    model.compile(optimizer=keras.optimizers.SGD(RATE))
    return model, model.fit(X, Y, batch_size=len(X), epochs=epochs, shuffle=False, verbose=0).history["loss"]


def plain_step(classifier, passes, attack, alpha, *, through_all):
    """One update written out; the images follow the whole network's gradient, or that of `<p, f0(x)>`."""
    scaling, conv, *rest = classifier.layers
    low, high = np.maximum(X - attack.epsilon, 0), np.minimum(X + attack.epsilon, 1)
    noise = tf.random.stateless_uniform(X.shape, step_seed(SEED, 0), -1, 1)
    x = tf.clip_by_value(X + attack.epsilon * noise, low, high)
    sums, losses = [0.0] * len(classifier.weights), []
    for _ in range(passes):
        with tf.GradientTape() as tape:
            tape.watch(x)
            features = conv(scaling(x))
            logits = features
            for layer in rest:
                logits = layer(logits)
            loss = tf.reduce_mean(weighted_cross_entropy(logits, Y, alpha))
        *behind, p, full = tape.gradient(loss, [*classifier.weights[2:], features, x])
        losses.append(float(loss))
        for _ in range(attack.steps):
            with tf.GradientTape() as tape:
                tape.watch(x)
                objective = tf.reduce_sum(p * conv(scaling(x)))
            partial = tape.gradient(objective, x)
            x = tf.clip_by_value(x + attack.step_size * tf.sign(full if through_all else partial), low, high)
        with tf.GradientTape() as tape:
            objective = tf.reduce_sum(p * conv(scaling(x)))
        gradients = [*tape.gradient(objective, conv.weights), *behind]
        sums = [total + gradient for total, gradient in zip(sums, gradients, strict=True)]
    for weight, total in zip(classifier.weights, sums, strict=True):
        weight.assign_sub(RATE * total / passes)
    return np.mean(losses)


@pytest.mark.parametrize("alpha", [0.0, 2.0])
@pytest.mark.parametrize("activation", [None, "softplus"])
def test_an_update_is_that_written_out(alpha, activation):
    ours, plain = network(activation), network(activation)
    _, losses = trained(methods.YOPO(ATTACK, passes=4, alpha=alpha), ours)
    expected = plain_step(plain, 4, ATTACK, alpha, through_all=False)
    np.testing.assert_allclose(losses, [expected], rtol=1e-5)
    for got, wanted in zip(ours.get_weights(), plain.get_weights(), strict=True):
        np.testing.assert_allclose(got, wanted, atol=3e-6)


@pytest.mark.filterwarnings("ignore:attack. its steps reach")
def test_the_first_layers_gradient_is_the_whole_networks_where_p_was_taken():
    """With one step between passes, each is made where p belongs: YOPO-m-1 follows the full gradient."""
    attack = dataclasses.replace(ATTACK, steps=1)
    ours, plain = network("softplus"), network("softplus")
    trained(methods.YOPO(attack, passes=4), ours)
    plain_step(plain, 4, attack, 0.0, through_all=True)
    for got, wanted in zip(ours.get_weights(), plain.get_weights(), strict=True):
        np.testing.assert_allclose(got, wanted, atol=3e-6)


def test_weight_decay_counts_once_whatever_the_passes():
    """With a ball of radius 0 all passes are the same one, and YOPO is natural training."""
    attack = dataclasses.replace(ATTACK, epsilon=0.0)
    yopo, natural = network(), network()
    trained(methods.YOPO(attack, passes=3), yopo, epochs=3, weight_decay=0.1)
    trained(methods.Natural(), natural, epochs=3, weight_decay=0.1)
    for got, wanted in zip(yopo.get_weights(), natural.get_weights(), strict=True):
        np.testing.assert_allclose(got, wanted, atol=2e-6)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision_trains_as_float32_does(policy):
    method = methods.YOPO(ATTACK, passes=3, alpha=1.0)
    _, expected = trained(method, network(), epochs=3)
    keras.config.set_dtype_policy(policy)
    model, losses = trained(method, network(), epochs=3)
    assert model.optimizer.iterations.numpy() == 3
    np.testing.assert_allclose(losses, expected, rtol=0.05)


def test_settings_survive_saving(tmp_path):
    model, _ = trained(methods.YOPO(ATTACK, passes=2, split="conv", alpha=0.5), network())
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.method.get_config() == model.method.get_config()
    for either in (model, loaded):
        either.fit(X, Y, batch_size=8, shuffle=False, verbose=0)
    for got, expected in zip(loaded.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(got, expected)


# Where the classifier is split


def residual(first):
    image = keras.Input((6, 6, 1))
    x = first(image)
    x = layers.Add()([x, layers.Conv2D(4, 3, padding="same", name="inner")(x)])
    return keras.Model(image, layers.Dense(3)(layers.Flatten()(x)))


def bypassed():
    image = keras.Input((6, 6, 1))
    x = layers.Concatenate()([layers.Conv2D(4, 3, padding="same", name="conv")(image), image])
    return keras.Model(image, layers.Dense(3)(layers.Flatten()(layers.Conv2D(4, 3, name="second")(x))))


def called_twice():
    image, conv = keras.Input((6, 6, 1)), layers.Conv2D(1, 3, padding="same", name="conv")
    return keras.Model(image, layers.Dense(3)(layers.Flatten()(layers.Conv2D(4, 3)(conv(conv(image))))))


def nested():
    return keras.Sequential([keras.Input((6, 6, 1)), layers.Rescaling(0.5), network("relu")])


def padded():
    first = [layers.Rescaling(2.0), layers.ZeroPadding2D(1), layers.Conv2D(4, 3, name="conv")]
    return residual(keras.Sequential(first))


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.inner = network()

    def call(self, images):
        return self.inner(images)


@pytest.mark.parametrize("make", [network, nested, padded, lambda: residual(layers.Conv2D(4, 3, name="conv"))])
def test_the_first_convolution_is_found(make):
    classifier = make()
    assert first_layer(classifier).name == "conv"
    before = classifier.get_weights()
    trained(methods.YOPO(ATTACK, passes=2), classifier)
    assert all(np.abs(got - was).max() > 1e-4 for got, was in zip(classifier.get_weights(), before, strict=True))


@pytest.mark.parametrize("build", [architectures.digits_cnn, architectures.small_cnn, architectures.resnet18])
def test_our_architectures_are_split_behind_their_first_convolution(build):
    classifier = build()
    kernels = [weight for weight in classifier.weights if weight.path.endswith("kernel") and len(weight.shape) == 4]
    assert first_layer(classifier).kernel is kernels[0]


def test_a_named_layer_takes_precedence():
    dense = keras.Sequential([keras.Input((6, 6, 1)), layers.Flatten(), layers.Dense(5, name="first"), layers.Dense(3)])
    before = dense.get_weights()
    trained(methods.YOPO(ATTACK, passes=2, split="first"), dense)
    assert np.abs(dense.get_weights()[0] - before[0]).max() > 1e-3


@pytest.mark.parametrize(
    ("make", "split", "message"),
    [
        (bypassed, None, "^layer 'conv': got a way around it"),
        (called_twice, None, "^layer 'conv': got a way around it, or several calls"),
        (lambda: residual(layers.Conv2D(4, 3, name="conv")), "inner", "^layer 'inner': got a way around"),
        (Subclassed, None, "got 0 layers in a graph, none of them a convolution, expected a Functional"),
        (network, "nowhere", "none of them a layer named 'nowhere'"),
    ],
)
def test_where_it_cannot_be_split_an_error_says_why(make, split, message):
    with pytest.raises(InvalidInput, match=message):
        trained(methods.YOPO(ATTACK, split=split), make())


def test_it_says_so_as_soon_as_there_is_a_built_classifier():
    with pytest.raises(InvalidInput, match="none of them a layer named 'nowhere'"):
        AdversarialModel(network(), methods.YOPO(ATTACK, split="nowhere"))
    unbuilt = keras.Sequential([layers.Conv2D(4, 3), layers.Flatten(), layers.Dense(3)])
    model, _ = trained(methods.YOPO(ATTACK, passes=2), unbuilt)
    assert model.optimizer.iterations.numpy() == 1


@pytest.mark.parametrize("attack", [dataclasses.replace(ATTACK, restarts=2), attacks.NFGSM(epsilon=0.1, step_size=0.1)])
def test_an_attack_that_cannot_be_taken_apart_is_refused(attack):
    with pytest.raises(InvalidInput, match="^attack: got .*without restarts"):
        methods.YOPO(attack)


def test_no_passes_are_refused():
    with pytest.raises(InvalidInput, match="^passes: got 0"):
        methods.YOPO(ATTACK, passes=0)
