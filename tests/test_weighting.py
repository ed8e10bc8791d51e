"""A weighting is a value: in an attack, for any alpha, set anew between two fits, saved, and on the command line."""

import dataclasses
import json
import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.test_methods import method_named
from trainers.runs.naming import defence, training_facts
from trainers.settings.config import Experiment
from trainers.settings.weighting import make_weighting
from wmr_tf import AdversarialModel, InvalidInput, attacks, evaluate_robustness, methods, names, weights
from wmr_tf.losses import cross_entropy
from wmr_tf.weights import (
    Exponential,
    Weighting,
    importance_weights,
    of_unit_size,
    probability_margin,
    weighted_in_attack,
)

RNG = np.random.default_rng(0)
X, Y = RNG.random([32, 4], np.float32), RNG.integers(0, 3, 32)
ATTACK = attacks.PGD(epsilon=0.3, step_size=0.1, steps=4, start="none")


@keras.saving.register_keras_serializable("tests")
@dataclasses.dataclass(frozen=True)
class Hinge(Weighting):
    """Counts images by how far below a margin they are: another weighting, in one class."""

    level: float = 0.5

    def __call__(self, logits, labels):
        return tf.nn.relu(self.level - probability_margin(logits, labels))


def linear(scale=2.0):
    keras.utils.set_random_seed(0)
    classifier = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    classifier.set_weights([scale * weight for weight in classifier.get_weights()])
    return classifier


# In the attack


def test_weights_of_unit_size_are_the_weights_over_powers_of_two():
    given = np.exp(np.linspace(-80, 80, 1001)).astype(np.float32)
    scaled = of_unit_size(tf.constant(given)).numpy()
    assert ((scaled >= 1) & (scaled < 2)).all()
    exponents = np.log2(given.astype(np.float64) / scaled)
    np.testing.assert_array_equal(exponents, exponents.round())
    assert of_unit_size(tf.constant([0.0])).numpy() == 0


@pytest.mark.parametrize("alpha", [0.5, 3.0, 60.0])
def test_an_attack_goes_the_way_of_the_weighted_loss(alpha):
    logits = tf.constant(RNG.standard_normal([50, 5]), tf.float32)
    labels = RNG.integers(0, 5, 50)
    weighting, values, gradients = Exponential(alpha), [], []
    for product in (tf.multiply, weighted_in_attack):
        with tf.GradientTape() as tape:
            tape.watch(logits)
            losses = product(weighting(logits, labels), cross_entropy(logits, labels))
        values.append(losses.numpy())
        gradients.append(tape.gradient(losses, logits).numpy())
    factor = weighting(logits, labels) / of_unit_size(weighting(logits, labels))
    assert len(np.unique(factor)) > 1
    np.testing.assert_array_equal(gradients[1] * factor[:, None], gradients[0])  # not a bit is lost to the factor
    np.testing.assert_allclose(values[1], values[0], rtol=1e-6)  # and what is compared has none


def test_points_and_restarts_are_compared_by_the_weighted_loss():
    """Along a way on which the weight passes a power of two, the farther point is the better one."""
    x = tf.zeros([1, 1])

    def ascended(points):
        return weighted_in_attack(1.9 + points[:, 0], 1.0 + points[:, 0])

    attack = {"epsilon": 0.5, "norm": "linf"}
    for made in (attacks.APGD(steps=20, **attack), attacks.PGD(steps=1, step_size=0.5, restarts=4, **attack)):
        found = made(ascended, x, seed=tf.constant([0, 1]))
        np.testing.assert_allclose(found, [[0.5]], atol=1e-6)


@pytest.mark.parametrize("alpha", [60.0, 100.0, 1e4])
@pytest.mark.parametrize("margin", [-0.999, 0.0, 0.999])
def test_the_gradient_of_a_huge_alpha_is_that_of_the_margin(alpha, margin):
    margins = tf.constant([margin])
    with tf.GradientTape() as tape:
        tape.watch(margins)
        scaled = of_unit_size(importance_weights(margins, alpha))
    slope = tape.gradient(scaled, margins).numpy()
    assert np.isfinite(scaled).all() and 1 <= scaled.numpy() < 2
    np.testing.assert_allclose(slope, -alpha * scaled.numpy(), rtol=1e-4)


def test_an_alpha_test_beyond_float32_still_attacks():
    classifier = linear(scale=20.0)
    found = evaluate_robustness(classifier, (X, Y), ATTACK, alpha_test=(2.0, 200.0), verbose=0)
    clean = found.clean_margins
    moved = np.abs(found.weighted_margins[200.0] - clean) > 1e-6
    assert moved[np.abs(clean) < 0.9].all()  # at 0 gradient, as before, not one would move
    assert math.isfinite(found.A_tr(200.0).value)


# In the update


@pytest.mark.parametrize("alpha", [60.1, 100.0, -1.0, math.inf, math.nan, "much", None])
def test_an_alpha_that_an_update_cannot_take_is_refused(alpha):
    with pytest.raises(InvalidInput, match=r"^alpha: got .*"):
        methods.PGD(ATTACK, alpha=alpha)


@pytest.mark.parametrize("normalize", [False, True])
def test_the_largest_alpha_leaves_the_update_finite(normalize):
    classifier = linear(scale=60.0)  # sure of itself, and wrong of most images: s is exp(60), the loss about 50
    model = AdversarialModel(classifier, methods.PGD(ATTACK, alpha=Exponential(60.0, normalize=normalize)))
    model.compile(optimizer=keras.optimizers.SGD(1e-30))
    assert math.isfinite(model.fit(X, Y, batch_size=32, verbose=0).history["loss"][0])
    assert all(np.isfinite(weight).all() for weight in model.get_weights())


def test_no_image_of_an_attack_depends_on_the_rest_of_its_batch():
    restarts = attacks.PGD(epsilon=0.3, step_size=0.1, steps=4, restarts=3)
    batch = methods.Batch(tf.constant(X), tf.constant(Y, tf.int32), None, tf.constant([0, 1]))
    made = [
        methods.PGD(restarts, alpha=Exponential(3.0, normalize=normalize)).attacked(linear(), batch).images.numpy()
        for normalize in (False, True)
    ]
    np.testing.assert_array_equal(*made)


def test_the_weighting_follows_alpha_and_cannot_be_set_beside_it():
    method = methods.PGD(ATTACK, alpha=1.0)
    with pytest.raises(AttributeError):
        method.weighting = Hinge()
    assert method.weighting == Exponential(1.0)


def test_another_method_takes_effect():
    model = trained_with(2.0)
    first = changed_by_one_step(model)
    model.method = methods.Natural()
    assert np.abs(changed_by_one_step(model) - first).max() > 1e-4


def changed_by_one_step(model):
    before = model.get_weights()
    model.fit(X, Y, batch_size=32, epochs=1, verbose=0)
    change = [after - old for after, old in zip(model.get_weights(), before, strict=True)]
    model.set_weights(before)
    return np.concatenate([part.ravel() for part in change])


def trained_with(alpha):
    model = AdversarialModel(linear(), methods.PGD(ATTACK, alpha=alpha))
    model.compile(optimizer=keras.optimizers.SGD(0.1))
    return model


@pytest.mark.parametrize("other", [3.0, Exponential(1.0, normalize=True), Hinge()], ids=str)
def test_an_alpha_set_between_two_fits_takes_effect(other):
    model = trained_with(0.0)
    first = changed_by_one_step(model)
    model.method.alpha = other
    second = changed_by_one_step(model)
    np.testing.assert_array_equal(second, changed_by_one_step(trained_with(other)))
    assert np.abs(second - first).max() > 1e-4
    with pytest.raises(InvalidInput, match="alpha"):
        model.method.alpha = -1.0
    assert model.method.alpha == other


def test_a_callback_may_change_alpha_within_a_fit():
    class Ramp(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            self.model.method.alpha = float(epoch)

    ramped = trained_with(0.0)
    ramped.fit(X, Y, batch_size=32, epochs=3, verbose=0, shuffle=False, callbacks=[Ramp()])
    by_hand = trained_with(0.0)
    for alpha in (0.0, 1.0, 2.0):
        by_hand.method.alpha = alpha
        by_hand.fit(X, Y, batch_size=32, epochs=1, verbose=0, shuffle=False)
    for one, other in zip(ramped.get_weights(), by_hand.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


# A weighting of one's own


@pytest.mark.parametrize("name", ["pgd", "trades", "mart", "mixed", "fast", "free", "iaat", "yopo"])
def test_another_weighting_trains_with_every_method_and_is_saved(name):
    method = method_named(
        name, alpha=Hinge(0.25), **({"iaat": {"examples": 32}, "yopo": {"split": "first"}}.get(name, {}))
    )
    first = keras.layers.Dense(5, name="first")
    classifier = keras.Sequential([keras.Input((4,)), first, keras.layers.Dense(3)])
    model = AdversarialModel(classifier, method)
    model.compile(optimizer=keras.optimizers.SGD(0.1), run_eagerly=True)
    before = [weight.copy() for weight in classifier.get_weights()]
    index = {"image": X[:8], "index": np.arange(8)} if name == "iaat" else X[:8]
    model.fit(index, Y[:8], batch_size=8, verbose=0)
    assert any(np.abs(after - old).max() > 0 for after, old in zip(classifier.get_weights(), before, strict=True))
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(method))
    assert again.weighting == Hinge(0.25)


def test_a_line_in_both_tables_brings_it_to_the_command_line_and_into_the_metrics(monkeypatch):
    monkeypatch.setitem(weights.BY_NAME, "hinge", Hinge)
    monkeypatch.setitem(names.WEIGHTINGS, "hinge", {"level": None})
    experiment = Experiment.of("digits", "pgd", weighting="hinge:level=0.25")
    assert experiment.make_method().weighting == Hinge(0.25)
    facts = json.loads(json.dumps(training_facts(dataclasses.asdict(experiment))))
    assert facts["weighting"] == {"name": "Hinge", "level": 0.25}
    assert defence({"dataset": "digits", **facts}) == "PGD+Hinge (level 0.25)"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("exponential", Exponential(2.0)),
        ("exponential:normalize=true", Exponential(2.0, normalize=True)),
        ("exponential:stop_gradient=True,normalize=false", Exponential(2.0, stop_gradient=True)),
    ],
)
def test_the_text_of_a_weighting_says_which_and_with_what(text, expected):
    assert make_weighting(text, 2.0) == expected
    assert expected.describe() == {"name": "Exponential", **dataclasses.asdict(expected)}


def test_a_baseline_is_not_named_by_weights_that_are_all_1():
    for alpha, name in ((0.0, "FREE"), (2.0, "FREE+weights (normalize)")):
        facts = training_facts(dataclasses.asdict(Experiment.of("digits", "free", alpha_train=alpha)))
        assert defence({"dataset": "digits", **facts}) == name
