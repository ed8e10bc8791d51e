"""The rival weightings: closed forms, what holds for each of them, and what they need to know of an attack."""

import dataclasses
import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tests.test_methods import method_named
from trainers.runs.naming import defence, describe, training_facts
from trainers.settings.config import Experiment
from wmr_tf import AdversarialModel, InvalidInput, attacks, methods, names, weights
from wmr_tf.evaluation import dro
from wmr_tf.losses import cross_entropy, kl_divergence, mart_loss, weighted_cross_entropy
from wmr_tf.weights import GAIRAT, MAIL, CVaR, Exponential, KLBall, Uniform, probability_margin

RNG = np.random.default_rng(0)
X, Y = RNG.random([32, 4], np.float32), RNG.integers(0, 3, 32)
LOGITS = (3 * RNG.standard_normal([40, 5])).astype(np.float32)
LABELS = RNG.integers(0, 5, 40)
ATTACK = attacks.PGD(epsilon=0.3, step_size=0.1, steps=4, start="uniform")
RIVALS = [Uniform(), MAIL(), MAIL(slope=10, bias=0.5), GAIRAT(), CVaR(0.3), KLBall(0.2)]
OF_MEAN_1 = [rival for rival in RIVALS if not isinstance(rival, MAIL)]
LOSSES = arrays(np.float32, st.integers(1, 50), elements=st.floats(0, 50, width=32))
FRACTIONS = arrays(np.float32, st.integers(1, 50), elements=st.integers(0, 10).map(lambda k: np.float32(k / 10)))


def known_of(logits, labels):
    """What a weighting may ask for: some fractions of the steps, and the losses."""
    count = len(labels)
    return {
        "losses": cross_entropy(tf.constant(logits), labels),
        "withstood": tf.constant(np.arange(count) % 5 / 4, tf.float32),
    }


def weigh(weighting, logits=LOGITS, labels=LABELS):
    known = known_of(logits, labels)
    return weighting(tf.constant(logits), labels, **{name: known[name] for name in weighting.needs}).numpy()


def linear(scale=2.0):
    keras.utils.set_random_seed(0)
    classifier = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    classifier.set_weights([scale * weight for weight in classifier.get_weights()])
    return classifier


# Closed forms


@pytest.mark.parametrize(("slope", "bias"), [(1.0, -1.5), (10.0, 0.5), (0.1, 3.0)])
def test_mail_is_three_sigmoids(slope, bias):
    margin = probability_margin(LOGITS, LABELS).numpy().astype(np.float64)
    expected = 3 / (1 + np.exp(slope * (margin - bias)))
    np.testing.assert_allclose(weigh(MAIL(slope, bias)), expected, rtol=1e-5)


@pytest.mark.parametrize("shift", [-1.0, 0.0, 2.0, -100.0])
@given(withstood=FRACTIONS)
def test_gairat_is_tanh_over_its_mean(shift, withstood):
    found = GAIRAT(shift)(LOGITS, LABELS, withstood=tf.constant(withstood)).numpy()
    exponent = 2 * (shift + 5 * (1 - 2 * withstood.astype(np.float64)))
    plain = 1 / (1 + np.exp(-exponent))  # (1 + tanh(z)) / 2, which float64 does not round to 0
    np.testing.assert_allclose(found, plain / plain.mean(), rtol=2e-4, atol=1e-6)
    if shift == -1.0:
        tanh = (1 + np.tanh(exponent / 2)) / 2
        np.testing.assert_allclose(plain, tanh, rtol=1e-9)


@given(losses=LOSSES, level=st.floats(0.01, 1.0))
def test_cvar_is_that_of_the_evaluation(losses, level):
    found = CVaR(level)(LOGITS, LABELS, losses=tf.constant(losses)).numpy().astype(np.float64)
    assert (found >= 0).all() and (found <= 1.0001 * max(1 / level, 1)).all()
    np.testing.assert_allclose(found.mean(), 1, rtol=1e-4)
    np.testing.assert_allclose(np.mean(found * losses), dro.cvar(losses, level), rtol=1e-3, atol=1e-4)


def test_the_image_at_the_edge_of_cvar_counts_in_part():
    losses = tf.constant([3.0, 1.0, 5.0, 2.0, 4.0])
    np.testing.assert_allclose(CVaR(0.5)(LOGITS, LABELS, losses=losses), [1, 0, 2, 0, 2], rtol=1e-6)
    np.testing.assert_allclose(CVaR(0.1)(LOGITS, LABELS, losses=losses), [0, 0, 5, 0, 0], rtol=1e-6)


def test_equal_losses_are_taken_in_their_order():
    np.testing.assert_array_equal(CVaR(0.5)(LOGITS, LABELS, losses=tf.ones(4)), [2, 2, 0, 0])


@pytest.mark.parametrize("rho", [1e-4, 0.01, 0.2, 0.4, 1.0])
def test_a_kl_ball_spends_its_radius_as_the_evaluation_would(rho):
    margin = probability_margin(LOGITS, LABELS).numpy().astype(np.float64)
    found = weigh(KLBall(rho)).astype(np.float64)
    np.testing.assert_allclose(np.mean(found * np.log(found)), rho, rtol=1e-2 if rho == 1e-4 else 1e-4)
    tilted = dro.tilt(margin, dro.alpha_for_radius(margin, rho))
    np.testing.assert_allclose(found, tilted / tilted.mean(), rtol=1e-2)


def test_a_kl_ball_that_cannot_be_reached_ends_at_the_largest_alpha():
    margin = probability_margin(LOGITS, LABELS).numpy()
    tilted = np.exp(-60.0 * (margin - margin.min()).astype(np.float64))
    np.testing.assert_allclose(weigh(KLBall(100.0)), tilted / tilted.mean(), rtol=1e-3, atol=1e-6)
    alike = tf.zeros([4, 3])
    np.testing.assert_array_equal(KLBall(0.5)(alike, tf.zeros(4)), np.ones(4))


@pytest.mark.parametrize("limit", [CVaR(1.0), KLBall(0.0), Exponential(0.0), Uniform()], ids=str)
def test_limits_weight_all_alike(limit):
    np.testing.assert_array_equal(weigh(limit), np.ones(40))


# What holds for each


@pytest.mark.parametrize("rival", OF_MEAN_1, ids=str)
@pytest.mark.parametrize("batch", [1, 2, 7, 40])
def test_weights_are_of_mean_1_in_batches_of_any_size(rival, batch):
    found = weigh(rival, LOGITS[:batch], LABELS[:batch])
    assert found.dtype == np.float32 and (found >= 0).all()
    np.testing.assert_allclose(found.mean(), 1, rtol=1e-5)


@pytest.mark.parametrize("rival", [MAIL(), KLBall(0.2), CVaR(0.3)], ids=str)
def test_the_smaller_the_margin_the_larger_the_weight(rival):
    by = -cross_entropy(LOGITS, LABELS).numpy() if "losses" in rival.needs else probability_margin(LOGITS, LABELS)
    assert (np.diff(weigh(rival)[np.argsort(by)]) <= 1e-6).all()


@pytest.mark.parametrize("rival", RIVALS, ids=str)
@pytest.mark.parametrize("xla", [False, True])
def test_weights_are_the_same_in_a_graph_of_unknown_batch_size(rival, xla):
    known = known_of(LOGITS, LABELS)

    @tf.function(jit_compile=xla, autograph=False, reduce_retracing=True)
    def of(logits, labels, known):
        return rival(logits, labels, **{name: known[name] for name in rival.needs})

    sliced = {name: tensor[:7] for name, tensor in known.items()}
    of(tf.constant(LOGITS[:7]), tf.constant(LABELS[:7]), sliced)
    np.testing.assert_allclose(of(tf.constant(LOGITS), tf.constant(LABELS), known), weigh(rival), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("rival", RIVALS, ids=str)
def test_no_gradient_flows_through_the_weights(rival):
    logits = tf.constant(LOGITS)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(logits)
        losses = cross_entropy(logits, LABELS)
        total = tf.reduce_sum(rival.weighted(losses, logits, LABELS, known_of(LOGITS, LABELS)["withstood"]))
        held = tf.reduce_sum(weigh(rival) * losses)
    np.testing.assert_allclose(tape.gradient(total, logits), tape.gradient(held, logits), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("rival", RIVALS, ids=str)
def test_they_leave_the_attack_alone(rival):
    batch = methods.Batch(tf.constant(X), tf.constant(Y, tf.int32), None, tf.constant([0, 1]))
    plain, weighted = (methods.PGD(ATTACK, alpha=alpha).attacked(linear(), batch) for alpha in (0.0, rival))
    np.testing.assert_array_equal(weighted.images, plain.images)
    assert (weighted.withstood is not None) == isinstance(rival, GAIRAT)


@pytest.mark.parametrize("rival", RIVALS, ids=str)
def test_they_are_saved_and_described(rival):
    saved = keras.saving.serialize_keras_object(rival)
    assert saved["registered_name"] == f"wmr_tf.weights>{type(rival).__name__}"
    assert keras.saving.deserialize_keras_object(saved) == rival
    assert rival.describe() == {"name": type(rival).__name__, **dataclasses.asdict(rival)}
    assert hash(rival) == hash(type(rival)(**dataclasses.asdict(rival)))


def test_exponential_keeps_its_saved_name():
    assert keras.saving.get_registered_name(Exponential) == "wmr_tf.weights>Exponential"


# How long an image withstands


def steps_by_hand(classifier, attack, x, y, seed):
    """Return k / steps from the points of attacks of 0, 1, 2, ... steps."""
    first = np.full(len(x), attack.steps)
    point = attack.start_near(x, seed=seed)
    for k in range(attack.steps):
        wrong = probability_margin(classifier(point), y).numpy() <= 0
        first = np.where(wrong & (first == attack.steps), k, first)
        with tf.GradientTape() as tape:
            tape.watch(point)
            loss = tf.reduce_sum(cross_entropy(classifier(point), y))
        point = attack.step(point, tape.gradient(loss, point), clean=x)
    return first / attack.steps


@pytest.mark.parametrize("traced", [False, True])
def test_withstood_is_the_share_of_the_steps_before_the_first_error(traced):
    classifier, x = linear(6.0), tf.constant(X)
    y = tf.constant(classifier(X).numpy().argmax(axis=1))
    y = tf.where(tf.range(32) < 3, (y + 1) % 3, y)  # three that are wrong from the start
    slow = attacks.PGD(epsilon=0.3, step_size=0.03, steps=10, start="uniform")
    seed = tf.constant([0, 1])
    how = {"seed": seed, "score_fn": lambda x: probability_margin(classifier(x), y)}

    def count(x):
        return slow.counting(lambda x: cross_entropy(classifier(x), y), x, **how)

    images, withstood = tf.function(count, autograph=False)(x) if traced else count(x)
    expected = steps_by_hand(classifier, slow, x, y, seed)
    np.testing.assert_allclose(withstood, expected, atol=1e-6)
    assert len(set(expected)) > 4 and (expected == 0).any() and (expected == 1).any()
    plain = slow(lambda x: cross_entropy(classifier(x), y), x, seed=seed)
    np.testing.assert_array_equal(images, plain)


def test_an_image_that_comes_back_has_not_withstood():
    scores = iter([1.0, -1.0, 1.0, 1.0])
    path = attacks.PGD(epsilon=0.5, step_size=0.1, steps=4, start="none")
    _, withstood = path.counting(
        lambda x: tf.reduce_sum(x, axis=1),
        tf.zeros([1, 2]),
        seed=tf.constant([0, 0]),
        score_fn=lambda x: tf.fill([1], next(scores)),
    )
    assert withstood.numpy() == [0.25]


@pytest.mark.parametrize(
    "make",
    [
        lambda: methods.PGD(attacks.PGD(epsilon=0.3, step_size=0.1, steps=4, restarts=2), alpha=GAIRAT()),
        lambda: methods.TRADES(
            attacks.MomentumPGD(epsilon=0.3, step_size=0.1, steps=4, start="uniform"), alpha=GAIRAT()
        ),
        lambda: setattr(methods.Free(attacks.FGSM(0.3)), "alpha", GAIRAT()),
    ],
)
def test_a_method_that_cannot_tell_is_refused(make):
    with pytest.raises(
        InvalidInput, match="GAIRAT, which needs withstood of each image, expected one that needs no mo"
    ):
        make()


# In a method


def updated(method, x=X, y=Y, **settings):
    classifier = linear()
    model = AdversarialModel(classifier, method)
    model.compile(optimizer=keras.optimizers.SGD(0.1), **settings)
    before = [weight.copy() for weight in classifier.get_weights()]
    model.fit(x, y, batch_size=len(y), shuffle=False, verbose=0)
    return [after - old for after, old in zip(classifier.get_weights(), before, strict=True)]


LOSS_OF = {
    "pgd": lambda clean, logits, y, weigh: weigh(cross_entropy(logits, y)),
    "mart": lambda clean, logits, y, weigh: weigh(mart_loss(clean, logits, y, 6.0)),
    "trades": lambda clean, logits, y, weigh: cross_entropy(clean, y) + 3.0 * weigh(kl_divergence(clean, logits)),
    "mixed": lambda clean, logits, y, weigh: cross_entropy(clean, y) + weigh(cross_entropy(logits, y)),
}


@pytest.mark.parametrize("name", LOSS_OF)
@pytest.mark.parametrize("rival", [GAIRAT(), CVaR(0.3)], ids=str)
def test_an_update_weights_the_losses_of_its_method_by_what_is_known_of_its_attack(name, rival):
    settings = {"trades": {"beta": 3.0}}.get(name, {})
    make = {"pgd": methods.PGD, "mart": methods.MART, "trades": methods.TRADES, "mixed": methods.Mixed}[name]
    method, seen = make(ATTACK, alpha=rival, **settings), []
    attacked = method.attacked
    method.attacked = lambda *args, **kwargs: seen.append(attacked(*args, **kwargs)) or seen[-1]
    change = updated(method, run_eagerly=True)
    classifier, [batch] = linear(), seen
    with tf.GradientTape() as tape:
        clean, logits = classifier(X), classifier(batch.images)
        weigh = lambda losses: rival.weighted(losses, logits, batch.labels, batch.withstood)  # noqa: E731
        loss = tf.reduce_mean(LOSS_OF[name](clean, logits, batch.labels, weigh))
    for step, slope in zip(change, tape.gradient(loss, classifier.trainable_variables), strict=True):
        np.testing.assert_allclose(step, -0.1 * slope, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("rival", [GAIRAT(), CVaR(0.3), KLBall(0.2)], ids=str)
def test_each_trains_under_a_traced_step(rival):
    assert all(
        np.isfinite(step).all() and np.abs(step).max() > 0 for step in updated(methods.TRADES(ATTACK, alpha=rival))
    )


@pytest.mark.parametrize("name", ["fast", "iaat", "free", "yopo"])
def test_other_methods_train_with_what_they_know(name):
    method = method_named(
        name, alpha=CVaR(0.3), **({"iaat": {"examples": 32}, "yopo": {"split": "first"}}.get(name, {}))
    )
    first = keras.layers.Dense(5, name="first")
    model = AdversarialModel(keras.Sequential([keras.Input((4,)), first, keras.layers.Dense(3)]), method)
    model.compile(optimizer=keras.optimizers.SGD(0.1), run_eagerly=True)
    x = {"image": X[:8], "index": np.arange(8)} if name == "iaat" else X[:8]
    assert np.isfinite(model.fit(x, Y[:8], batch_size=8, verbose=0).history["loss"][0])
    if name in ("fast", "iaat"):
        method.alpha = GAIRAT()
        assert np.isfinite(model.fit(x, Y[:8], batch_size=8, verbose=0).history["loss"][0])


def test_uniform_is_alpha_0_to_the_bit_and_may_be_replaced_later():
    plain, uniform = (updated(methods.TRADES(ATTACK, alpha=alpha), run_eagerly=True) for alpha in (0.0, Uniform()))
    for one, other in zip(plain, uniform, strict=True):
        np.testing.assert_array_equal(one, other)
    method = methods.PGD(ATTACK, alpha=Uniform())
    method.alpha = GAIRAT()
    later, at_once = (updated(made, run_eagerly=True) for made in (method, methods.PGD(ATTACK, alpha=GAIRAT())))
    for one, other in zip(later, at_once, strict=True):
        np.testing.assert_array_equal(one, other)


def test_losses_take_what_a_weighting_needs():
    known = known_of(LOGITS, LABELS)
    found = weighted_cross_entropy(tf.constant(LOGITS), LABELS, GAIRAT(), known["withstood"])
    np.testing.assert_allclose(found, weigh(GAIRAT()) * known["losses"].numpy(), rtol=1e-6)


# On the command line


@pytest.mark.parametrize(
    ("text", "expected", "name"),
    [
        ("uniform", Uniform(), "TRADES"),
        ("mail", MAIL(), "TRADES+MAIL (slope 1, bias -1.5)"),
        ("mail:slope=10,bias=0", MAIL(10.0, 0.0), "TRADES+MAIL (slope 10, bias 0)"),
        ("gairat:shift=-2", GAIRAT(-2.0), "TRADES+GAIRAT (shift -2)"),
        ("cvar:level=0.25", CVaR(0.25), "TRADES+CVaR (level 0.25)"),
        ("kl_ball:rho=0.1", KLBall(0.1), "TRADES+KLBall (rho 0.1)"),
    ],
)
def test_the_command_line_chooses_them(text, expected, name):
    experiment = Experiment.of("digits", "trades", weighting=text)
    assert experiment.make_method().weighting == expected
    facts = json.loads(json.dumps(training_facts(dataclasses.asdict(experiment))))
    assert (facts["alpha_train"], facts["weighting"]) == (None, expected.describe())
    assert defence({"dataset": "digits", **facts}) == name
    assert f"trades, beta 3, {text}, digits_cnn" in describe(experiment)


def test_the_names_say_which_need_the_path():
    assert [name for name, kind in weights.BY_NAME.items() if "withstood" in kind.needs] == list(names.OF_THE_PATH)


@pytest.mark.parametrize("name", [name for name, takes in names.METHODS.items() if "alpha" in takes.settings])
def test_the_names_say_which_methods_can_tell_of_it(name):
    method = Experiment.of("digits", name, weighting="exponential").make_method(examples=10)
    assert ("withstood" in method.knows) == names.METHODS[name].path
