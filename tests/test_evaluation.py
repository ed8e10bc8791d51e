import dataclasses
import functools
import math
import re

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from keras import layers

from wmr_tf import evaluate_robustness
from wmr_tf.attacks import APGD, PGD
from wmr_tf.checks import InvalidInput
from wmr_tf.engine import seeds
from wmr_tf.engine.frozen import freeze, freeze_in
from wmr_tf.engine.precision import bfloat16_compute
from wmr_tf.evaluation import Robustness, RobustnessEvaluator, weighted_accuracy
from wmr_tf.evaluation.dro import (
    cvar_stderr,
    kl_radius,
    kl_radius_stderr,
    worst_case_accuracy,
    worst_case_accuracy_stderr,
    worst_case_mean_stderr,
)
from wmr_tf.evaluation.statistics import Accuracy, weighted_interval
from wmr_tf.evaluation.temperature import at_temperature
from wmr_tf.losses import cross_entropy, logit_margin
from wmr_tf.weights import probability_margin

ALPHAS = (0.0, 0.1, 0.5, 1.0, 2.0, 5.0, 20.0)


# The weighted accuracy, from margins alone


# One to a hundred: anywhere in [-1, 1], or with many exact ties and ends.
A_MARGIN = st.one_of(st.floats(-1, 1), st.sampled_from([-1.0, -0.5, 0.0, 1e-9, 0.5, 1.0]))
MARGINS = arrays(np.float64, st.integers(1, 100), elements=A_MARGIN)
ANY_ALPHA = st.one_of(st.floats(0, 20), st.sampled_from(ALPHAS))


@given(MARGINS, ANY_ALPHA)
def test_weighted_accuracy_is_its_definition(margins, alpha):
    s = [math.exp(-alpha * margin) for margin in margins]
    value = sum(w for w, margin in zip(s, margins, strict=True) if margin > 0) / sum(s)
    errors = (w**2 * ((margin > 0) - value) ** 2 for w, margin in zip(s, margins, strict=True))
    found = weighted_accuracy(margins, alpha)
    assert found.value == pytest.approx(value, abs=1e-12)
    assert found.stderr == pytest.approx(math.sqrt(sum(errors)) / sum(s), abs=1e-12)
    assert found.effective_sample_size == pytest.approx(sum(s) ** 2 / sum(w**2 for w in s), rel=1e-9)


@given(MARGINS)
def test_weighted_accuracy_keeps_its_bounds_and_falls_with_alpha(margins):
    accuracy = np.mean(margins > 0)
    values = [weighted_accuracy(margins, alpha).value for alpha in ALPHAS]
    assert values[0] == accuracy
    assert (np.diff(values) <= 1e-12).all()
    for alpha, value in zip(ALPHAS, values, strict=True):
        lowest = accuracy / (accuracy + (1 - accuracy) * math.exp(2 * alpha))
        assert lowest - 1e-12 <= value <= accuracy + 1e-12


def test_drawing_images_by_their_weight_reproduces_it():
    rng = np.random.default_rng(1)
    draws = 200_000
    for alpha in (0.5, 2.0, 5.0):
        margins = rng.uniform(-0.4, 1.0, 300)
        s = np.exp(-alpha * margins)
        drawn = margins[rng.choice(len(margins), size=draws, p=s / s.sum())] > 0
        value = weighted_accuracy(margins, alpha).value
        assert 0.02 < value < np.mean(margins > 0) - 0.05
        assert abs(drawn.mean() - value) < 4 * math.sqrt(value * (1 - value) / draws)


@pytest.mark.parametrize("alpha", [0.0, 1.0, 3.0])
def test_standard_error_is_that_of_a_bootstrap_of_the_set(alpha):
    rng = np.random.default_rng(2)
    margins = rng.uniform(-0.4, 1.0, 500)
    s = np.exp(-alpha * margins)
    counts = rng.multinomial(500, np.full(500, 1 / 500), size=4000)  # how often each image is in each new set
    values = counts @ (s * (margins > 0)) / (counts @ s)
    assert weighted_accuracy(margins, alpha).stderr == pytest.approx(values.std(), rel=0.07)


def test_effective_sample_size_goes_from_all_images_to_the_most_fragile():
    margins = np.array([0.9, 0.1, 0.8, -0.2, 0.7])
    sizes = [weighted_accuracy(margins, alpha).effective_sample_size for alpha in ALPHAS]
    assert sizes[0] == 5
    assert (np.diff(sizes) < 0).all()
    assert weighted_accuracy(margins, 1000.0).effective_sample_size == 1
    assert weighted_accuracy(np.full(7, 0.3), 20.0).effective_sample_size == pytest.approx(7)
    assert weighted_accuracy(np.array([-0.2, 0.5, -0.2, -0.2]), 1000.0).effective_sample_size == pytest.approx(3)


@pytest.mark.parametrize(("fragile", "value"), [(-1.0, 0.0), (0.01, 1.0)])
def test_a_huge_alpha_leaves_the_most_fragile_image_and_no_overflow(fragile, value):
    found = weighted_accuracy(np.array([0.5, fragile, 1.0]), 1000.0)
    assert found == (value, pytest.approx(0, abs=1e-100), 1.0)


def test_a_tie_counts_as_wrong():
    assert weighted_accuracy(np.array([0.0, 0.5]), 0.0).value == 0.5


def test_confidence_alone_moves_a_sa_between_its_bounds():
    rng = np.random.default_rng(3)
    logits, labels = rng.standard_normal([400, 5]), rng.integers(5, size=400)
    logits[np.arange(400), labels] += 1.5

    def scaled(scale):
        p = np.exp(scale * (logits - logits.max(axis=1, keepdims=True)))
        p /= p.sum(axis=1, keepdims=True)
        own = p[np.arange(400), labels]
        p[np.arange(400), labels] = -1
        margins = own - p.max(axis=1)
        return Robustness(margins, margins, {}, margins)

    results = [scaled(scale) for scale in (0.001, 0.1, 1.0, 10.0, 1000.0)]
    accuracy = results[0].A_rob.value
    assert 0.5 < accuracy < 0.9
    assert [result.A_rob.value for result in results] == [accuracy] * 5
    a_sa = [result.A_sa(2.0).value for result in results]
    assert (np.diff(a_sa) < -0.01).all()
    assert a_sa[0] == pytest.approx(accuracy, abs=1e-3)
    assert a_sa[-1] == pytest.approx(accuracy / (accuracy + (1 - accuracy) * math.exp(4)), abs=1e-3)


@pytest.mark.parametrize("margins", [[], [0.5, math.nan], [math.inf]])
def test_margins_that_are_none_are_refused(margins):
    with pytest.raises(InvalidInput, match=r"^margins: got \d of which \d are not finite"):
        weighted_accuracy(np.array(margins), 1.0)


ERRORS = r"(\d+(?:\.\d)?) ± (\d+(?:\.\d)?) %"


def test_a_result_is_printed_with_its_conditions_and_errors():
    margins = np.tile([0.5, 0.1, -0.2, 0.9], 200)  # as many as a weighted accuracy needs
    attack = PGD(epsilon=0.3, step_size=0.1, steps=40)
    result = Robustness(np.abs(margins), margins, {1.0: margins, 2.5: margins - 0.2}, margins, attack)
    conditions, plain, *by_alpha = str(result).splitlines()
    assert conditions == f"800 images, {attack}"
    assert repr(result) == f"Robustness(800 images, {attack})"
    assert plain == "A_nat 100 ± 0 %, A_rob 75.0 ± 1.5 %"
    assert len(by_alpha) == 2
    for line, alpha in zip(by_alpha, (1.0, 2.5), strict=True):
        found = re.fullmatch(rf"alpha_test {alpha:g}: A_sa {ERRORS}, A_tr {ERRORS}", line)
        expected = [*result.A_sa(alpha)[:2], *result.A_tr(alpha)[:2]]
        assert [float(number) for number in found.groups()] == pytest.approx(100 * np.array(expected), abs=0.5)
    assert result.metrics()["flags"] == []


def test_a_result_without_accuracies_can_be_printed():
    diverged = np.array([0.5, math.nan])
    assert str(Robustness(diverged, diverged, {1.0: diverged}, diverged)) == (
        "2 images\nno accuracies: the classifier gave NaN or infinity for some of them"
    )
    assert repr(Robustness(np.array([]), np.array([]), {}, np.array([]))) == "Robustness(0 images)"


def test_an_attack_that_cannot_reach_its_ball_is_flagged():
    weak = PGD(epsilon=0.15, step_size=0.05, steps=1)
    with pytest.warns(UserWarning, match="^attack: its steps reach 0.05 in all and epsilon is 0.15, so it cannot"):
        result = evaluate(attack=weak)
    flag, *others = result.metrics()["flags"]
    assert others[-1]["name"] == "small_sample"
    assert (flag["name"], flag["reach"], flag["epsilon"]) == ("attack_cannot_reach", 0.05, 0.15)
    assert result.attack == weak
    warnings = [f"Warning: {each['message']}" for each in (flag, *others)]
    assert str(result).splitlines()[-len(warnings) :] == warnings


def test_what_a_radius_buys():
    margins = np.array([0.5, 0.1, -0.2, 0.9, 0.3, -0.2])
    result = Robustness(margins, margins, {}, margins)
    rho = result.rho(1.5)
    ball = result.ball(rho)
    assert result.alpha(rho) == ball["alpha_test"] == pytest.approx(1.5)
    a_sa = result.A_sa(ball["alpha_test"])
    assert (ball["A_sa"], ball["A_sa_stderr"], ball["A_sa_effective_sample_size"]) == a_sa
    assert (ball["rho"], ball["A_worst"]) == (rho, result.A_worst(1.5))
    assert ball["A_worst_stderr"] == worst_case_mean_stderr(margins > 0, rho) > 0
    beyond = result.ball(2.0)  # log(3) is the largest; JSON has no infinity
    assert (beyond["alpha_test"], beyond["A_sa"], beyond["A_worst"]) == ("inf", 0, 0)
    assert beyond["A_sa_effective_sample_size"] == 2


@pytest.mark.parametrize("alpha", [-0.1, math.nan, "strong"])
def test_a_bad_alpha_is_refused(alpha):
    with pytest.raises(InvalidInput, match=f"^alpha: got {alpha!r}, expected a finite number >= 0"):
        weighted_accuracy(np.array([0.5]), alpha)


# The evaluation of a classifier

SHAPE = (4, 4, 1)
ATTACK = PGD(epsilon=0.15, step_size=0.05, steps=4, restarts=2)


def small_classifier(policy="float32", classes=3):
    """A tiny convnet; under any precision it has the same weights."""
    keras.config.set_dtype_policy(policy)
    rng = np.random.default_rng(0)
    classifier = keras.Sequential(
        [keras.Input(SHAPE), layers.Conv2D(4, 3, activation="tanh"), layers.Flatten(), layers.Dense(classes)]
    )
    classifier.set_weights([rng.standard_normal(weight.shape) for weight in classifier.get_weights()])
    keras.config.set_dtype_policy("float32")
    return classifier


def small_data():
    """Images, and labels of which the classifier gets all but every fifth right before it is attacked."""
    images = np.random.default_rng(1).random([13, *SHAPE], np.float32)
    labels = small_classifier()(images).numpy().argmax(axis=1).astype(np.int32)
    labels[::5] = (labels[::5] + 1) % 3
    return images, labels


def evaluate(classifier=None, data=None, attack=ATTACK, **settings):
    """Without stronger attacks, whose graphs take long to make, unless asked for."""
    return evaluate_robustness(
        classifier or small_classifier(),
        data or small_data(),
        attack,
        **{"alpha_test": (1.0, 2.0), "suite": None, **settings},
    )


@functools.cache
def reference():
    """The evaluation with nothing given: making its graphs takes long, so tests that compare with it share it."""
    return evaluate()


def all_margins(result):
    return np.stack([result.clean_margins, result.margins, *result.weighted_margins.values(), result.losses])


def margin_of(probabilities, label):
    return probabilities[label] - max(p for k, p in enumerate(probabilities) if k != label)


def margins_by_hand(classifier, attack, alpha, seed):
    """Image by image: each restart on its own, then the smallest margin, all from the definitions."""
    once = dataclasses.replace(attack, restarts=1)
    margins = []

    @tf.function(autograph=False)
    def attempt(image, label, own_seed):
        def loss(x):
            p = tf.nn.softmax(classifier(x, training=False))
            others = tf.concat([p[:, :label], p[:, label + 1 :]], axis=1)
            margin = p[:, label] - tf.reduce_max(others, axis=1)
            return tf.exp(-alpha * margin) * -tf.math.log(p[:, label])

        return once(loss, image, seed=own_seed)

    for position, (image, label) in enumerate(zip(*small_data(), strict=True)):
        own_seed = seeds.by_position(seed, tf.constant([position]))
        attempts = [
            attempt(tf.constant(image[np.newaxis]), tf.constant(label), seeds.nth(own_seed, r))
            for r in range(attack.restarts)
        ]
        margins.append(min(margin_of(tf.nn.softmax(classifier(attempt))[0].numpy(), label) for attempt in attempts))
    return np.array(margins)


def test_evaluation_is_the_pipeline_made_by_hand():
    classifier, (images, labels) = small_classifier(), small_data()
    result = evaluate(classifier, seed=7)
    clean = [margin_of(p, y) for p, y in zip(tf.nn.softmax(classifier(images)).numpy(), labels, strict=True)]
    np.testing.assert_allclose(result.clean_margins, clean, rtol=0, atol=1e-5)
    np.testing.assert_allclose(result.margins, margins_by_hand(classifier, ATTACK, 0.0, 7), rtol=0, atol=1e-5)
    assert list(result.weighted_margins) == [1.0, 2.0]
    for alpha, margins in result.weighted_margins.items():
        np.testing.assert_allclose(margins, margins_by_hand(classifier, ATTACK, alpha, 7), rtol=0, atol=1e-5)
        assert np.abs(margins - result.margins).max() > 1e-3
        assert result.A_tr(alpha) == weighted_accuracy(margins, alpha)
        assert result.A_sa(alpha) == weighted_accuracy(result.margins, alpha)
    assert result.A_nat.value == pytest.approx(10 / 13)
    assert 0 < result.A_rob.value == np.mean(result.margins > 0) < result.A_nat.value


def test_losses_are_those_of_the_images_of_the_margins():
    classifier, (images, labels) = small_classifier(), small_data()
    once = dataclasses.replace(ATTACK, restarts=1)

    def losses(x):
        return tf.nn.sparse_softmax_cross_entropy_with_logits(labels, classifier(x, training=False))

    attacked = once(losses, tf.constant(images), seed=seeds.by_position(7, tf.range(13)))
    result = evaluate(classifier, attack=once, seed=7)
    np.testing.assert_allclose(result.losses, losses(attacked), rtol=1e-5, atol=1e-5)


def test_result_does_not_depend_on_the_batches():
    whole = evaluate(batch_size=13)
    odd_batches = tf.data.Dataset.from_tensor_slices(small_data()).batch(5)
    for result in (
        reference(),  # in batches of 256
        evaluate(batch_size=1),
        evaluate(batch_size=4),
        evaluate(data=odd_batches, batch_size=4),
    ):
        # The losses are up to 9, where float32 knows steps of 1e-6.
        np.testing.assert_allclose(all_margins(result), all_margins(whole), rtol=5e-7, atol=1e-6)
        assert result.A_nat.value == whole.A_nat.value
        assert result.A_rob.value == whole.A_rob.value


def test_result_repeats_with_the_seed_and_changes_with_it():
    once, again, other = reference(), evaluate(seed=0), evaluate(seed=1)
    assert np.array_equal(all_margins(once), all_margins(again))
    assert np.array_equal(once.clean_margins, other.clean_margins)
    assert (np.abs(once.margins - other.margins) > 1e-5).mean() > 0.5


def test_one_unweighted_attack_serves_every_alpha():
    without, with_alphas = evaluate(alpha_test=()), evaluate(alpha_test=(0.5, 3.0))
    assert np.array_equal(without.margins, with_alphas.margins)
    assert without.A_sa(3.0) == with_alphas.A_sa(3.0) == weighted_accuracy(without.margins, 3.0)
    assert without.metrics()["non_uniform"] == []


def test_the_weighted_attack_of_alpha_zero_is_the_plain_one():
    result = evaluate(alpha_test=(0.0,))
    assert np.array_equal(result.weighted_margins[0.0], result.margins)


def test_metrics_have_the_keys_of_metrics_json():
    result = evaluate(alpha_test=(1, 2))
    metrics = result.metrics()
    accuracies = [f"{name}{end}" for name in ("A_nat", "A_rob") for end in ("", "_stderr", "_interval")]
    others = "zero_gradients non_uniform cvar confidence hashes flags"
    assert list(metrics) == ["attack", "examples", *accuracies, *others.split()]
    assert metrics["attack"] == {**result.attack.describe(), "seed": 0, "precision": "float32"}
    losses = result.losses.tolist()
    worst = sorted(losses)[-2:]  # a tenth of 13 is the worst and 0.3 of the next
    tenth = pytest.approx((worst[1] + 0.3 * worst[0]) / 1.3)
    mean, spread = pytest.approx(sum(losses) / 13), pytest.approx(np.std(losses) / math.sqrt(13))
    assert metrics["cvar"] == [
        {"level": 1.0, "loss": mean, "loss_stderr": spread},
        {"level": 0.1, "loss": tenth, "loss_stderr": cvar_stderr(result.losses, 0.1)},
    ]
    assert metrics["examples"] == 13
    for name, accuracy, margins in (
        ("A_nat", result.A_nat, result.clean_margins),
        ("A_rob", result.A_rob, result.margins),
    ):
        assert (metrics[name], metrics[f"{name}_stderr"]) == accuracy[:2]
        assert metrics[f"{name}_interval"] == list(Accuracy.of(margins > 0)[1:])
    assert [row["alpha_test"] for row in metrics["non_uniform"]] == [1.0, 2.0]
    for alpha, row in zip((1.0, 2.0), metrics["non_uniform"], strict=True):
        assert list(row) == [
            "alpha_test",
            *("A_sa", "A_sa_stderr", "A_sa_effective_sample_size", "A_sa_interval"),
            *("A_tr", "A_tr_stderr", "A_tr_effective_sample_size", "A_tr_interval"),
            *("rho", "rho_stderr", "A_worst", "A_worst_stderr"),
        ]
        rho, rho_stderr = kl_radius(result.margins, alpha), kl_radius_stderr(result.margins, alpha)
        worst_stderr = worst_case_accuracy_stderr(result.margins, alpha)
        worst = rho, rho_stderr, worst_case_accuracy(result.margins, rho), worst_stderr
        assert (result.rho(alpha), result.A_worst(alpha)) == worst[::2]
        assert 0 <= row["A_worst"] < row["A_sa"] < metrics["A_rob"]
        intervals = {name: row.pop(f"{name}_interval") for name in ("A_sa", "A_tr")}
        assert intervals["A_sa"] == list(weighted_interval(result.margins, alpha))
        assert intervals["A_tr"] == list(weighted_interval(result.weighted_margins[alpha], alpha))
        assert tuple(row.values()) == (alpha, *result.A_sa(alpha), *result.A_tr(alpha), *worst)
        assert all(type(value) is float for value in row.values())


@pytest.mark.parametrize("form", ["int64", "uint8", "column", "one_hot"])
def test_labels_come_in_several_forms(form):
    images, labels = small_data()
    forms = {"column": labels[:, np.newaxis], "one_hot": np.eye(3, dtype=np.float32)[labels]}
    result = evaluate(data=(images, forms.get(form, labels.astype(form if form not in forms else "int32"))))
    assert np.array_equal(all_margins(result), all_margins(reference()))


def test_sample_weights_in_the_data_are_passed_over():
    weighted = tf.data.Dataset.from_tensor_slices((*small_data(), np.zeros(13, np.float32))).batch(13)
    assert np.array_equal(all_margins(evaluate(data=weighted)), all_margins(reference()))


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_a_mixed_precision_classifier_is_attacked_and_scored_in_float32(policy):
    mixed, full = small_classifier(policy), small_classifier()
    images = small_data()[0]
    assert np.abs(tf.cast(mixed(images), tf.float32) - full(images)).max() > 1e-4
    np.testing.assert_allclose(all_margins(evaluate(mixed)), all_margins(reference()), rtol=0, atol=1e-6)
    assert mixed.dtype_policy.name == policy


def test_a_bfloat16_attack_is_scored_in_float32():
    classifier = small_classifier()
    fast, exact = evaluate(classifier, attack_precision="bfloat16"), reference()
    # Clean images and an attack that moves nothing show what the scoring alone computes in.
    assert np.array_equal(fast.clean_margins, exact.clean_margins)
    still = PGD(epsilon=0.0, step_size=0.1, steps=1)
    fast_still, exact_still = (evaluate(attack=still, attack_precision=p) for p in ("bfloat16", "float32"))
    np.testing.assert_allclose(all_margins(fast_still), all_margins(exact_still), rtol=0, atol=1e-6)
    assert 1e-6 < np.abs(fast.margins - exact.margins).max() < 0.2  # other gradients, but not by much
    assert {layer.dtype_policy.name for layer in classifier.layers} == {"float32"}


def test_of_a_sure_classifier_the_nearest_point_to_the_boundary_is_chosen():
    """Its probability margins are all 1, so that of equal ones the first would stay: the random start."""
    images, labels = small_data()
    attack, sure = APGD(epsilon=0.02, steps=10), at_temperature(small_classifier(), 1e-3)
    found = evaluate_robustness(sure, (images, labels), attack, suite=None, verbose=0)
    attacked, clean = (logit_margin(logits, labels).numpy() for logits in (found.logits.attacked, found.logits.clean))
    is_sure = attacked > 20
    assert is_sure.sum() > 4
    assert (attacked < clean)[is_sure].all()


def test_restarts_of_a_bfloat16_attack_are_chosen_in_float32():
    classifier, (images, labels) = small_classifier(), small_data()
    attack = dataclasses.replace(ATTACK, restarts=10)
    once, own_seeds = dataclasses.replace(attack, restarts=1), seeds.by_position(0, tf.range(13))
    exact, rounded = (freeze_in(precision, classifier) for precision in ("float32", "bfloat16"))

    @tf.function(autograph=False)  # where bfloat16 rounds as it does in the evaluation
    def attempt(images, own_seeds):
        return once(lambda x: cross_entropy(rounded(x), labels), images, seed=own_seeds)

    attempts = [attempt(tf.constant(images), seeds.nth(own_seeds, r)) for r in range(10)]
    margins, misjudged = (np.stack([probability_margin(of(x), labels) for x in attempts]) for of in (exact, rounded))
    result = evaluate(classifier, attack=attack, attack_precision="bfloat16", seed=0)
    np.testing.assert_allclose(result.margins, margins.min(axis=0), rtol=0, atol=1e-5)
    assert (margins[misjudged.argmin(axis=0), range(13)] - margins.min(axis=0)).max() > 1e-4


def test_which_layers_a_bfloat16_attack_computes_in_bfloat16():
    inner = small_classifier("mixed_float16")
    classifier = keras.Sequential([keras.Input(SHAPE), inner])
    with bfloat16_compute(classifier):
        policies = [layer.compute_dtype for layer in inner.layers]
        logits = freeze(classifier)(small_data()[0])
    assert policies == ["bfloat16", "bfloat16", "float32"]
    difference = np.abs(logits - small_classifier()(small_data()[0])).max()
    assert 1e-4 < difference < 0.1
    assert {layer.dtype_policy.name for layer in inner.layers} == {"mixed_float16"}


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.logits = layers.Dense(3)  # made first, used last: the order of the layers means nothing
        self.flatten = layers.Flatten()

    def call(self, x):
        return self.logits(self.flatten(x))


@pytest.mark.parametrize("make", [small_classifier, lambda: at_temperature(small_classifier(), 2.0), Subclassed])
def test_what_stays_in_float32_in_a_bfloat16_attack(make):
    classifier = make()
    classifier(small_data()[0])
    leaves = [layer for layer in classifier._flatten_layers() if not isinstance(layer, keras.Model)]
    with bfloat16_compute(classifier):
        exact = [type(layer).__name__ for layer in leaves if layer.compute_dtype == "float32"]
        logits = classifier(small_data()[0])
    assert exact == {small_classifier: ["Dense"], Subclassed: []}.get(make, ["Dense", "Rescaling"])
    assert logits.dtype == ("bfloat16" if make is Subclassed else "float32")
    assert {layer.compute_dtype for layer in leaves} == {"float32"}


def test_the_evaluator_reads_the_weights_anew_and_traces_once():
    classifier, data = small_classifier(), tf.data.Dataset.from_tensor_slices(small_data())
    evaluator = RobustnessEvaluator(classifier, ATTACK, alpha_test=(0.5, 1.0, 2.0), suite=None)
    functions = (evaluator._clean_logits, evaluator._attacked_logits)

    def traces():
        return [function.experimental_get_tracing_count() for function in functions]

    first = evaluator(data.take(10).batch(5), verbose=0)
    assert traces() == [1, 1]
    classifier.set_weights([0.5 * weight for weight in classifier.get_weights()])
    changed = evaluator(data.take(10).batch(5), verbose=0)
    assert traces() == [1, 1]
    assert np.abs(all_margins(changed) - all_margins(first)).max(axis=1).min() > 0.05
    fresh = evaluate(classifier, data.take(10).batch(5), alpha_test=(0.5, 1.0, 2.0))
    np.testing.assert_allclose(all_margins(changed), all_margins(fresh), rtol=0, atol=1e-6)
    for size in (5, 5, 4, 3):  # the last batch is always smaller
        evaluator(data.batch(size), verbose=0)
        assert traces() == [1, 1]


def test_progress_is_shown_only_if_asked_for(bars, capsys):
    evaluator = RobustnessEvaluator(small_classifier(), ATTACK, alpha_test=(1.0,), suite=None)
    data = tf.data.Dataset.from_tensor_slices(small_data()).batch(8)
    evaluator(data, verbose=0)
    assert capsys.readouterr().out == ""
    evaluator(data, verbose=1)
    assert "3/4 ━" in capsys.readouterr().out


# Bad input


def with_softmax(classifier=None):
    return keras.Sequential([classifier or small_classifier(), layers.Softmax()])


class SubclassedWithSoftmax(keras.Model):
    def __init__(self):
        super().__init__()
        self.inner = small_classifier()

    def call(self, x, training=None):
        return keras.ops.softmax(self.inner(x))


def with_nan():
    classifier = small_classifier()
    classifier.set_weights([weight * np.nan for weight in classifier.get_weights()])
    return classifier


IMAGES, LABELS = small_data()


def with_label(label):
    return np.concatenate([[label], LABELS[1:]])


BAD_DATA = {
    "no images": ((IMAGES[:0], LABELS[:0]), r"^images: got shape \[0, 4, 4, 1\]"),
    "above 1": ((IMAGES * 255, LABELS), r"^images: got values from .*, expected values in \[0, 1\]"),
    "below 0": ((IMAGES - 0.5, LABELS), r"^images: got values from -0.4.*, expected values in \[0, 1\]"),
    "NaN": ((np.where(IMAGES > 0.5, np.nan, IMAGES), LABELS), "^images: got .* NaN .*, expected finite values"),
    "label too high": (
        (IMAGES, with_label(3)),
        r"^labels: got values from \d to 3, expected class numbers in \[0, 3\)",
    ),
    "label too low": ((IMAGES, with_label(-1)), r"^labels: got values from -1 to \d, expected class numbers"),
    "labels too few": ((IMAGES, LABELS[:-1]), "^labels: got 13 images and labels of shape .12."),
    "one-hot too wide": ((IMAGES, np.eye(4)[LABELS]), r"^labels: got shape \[.*, 4\], expected \[batch, 3\]"),
    "soft labels": ((IMAGES, np.full([13, 3], 1 / 3)), "^labels: got .* rows with other values"),
}


@pytest.mark.parametrize("name", BAD_DATA)
def test_bad_arrays_are_refused(name):
    data, message = BAD_DATA[name]
    with pytest.raises(InvalidInput, match=message):
        evaluate(data=data)


@pytest.mark.parametrize("name", [name for name in BAD_DATA if name not in ("no images", "labels too few")])
def test_bad_batches_are_refused(name):
    data, message = BAD_DATA[name]
    with pytest.raises(InvalidInput, match=message):
        evaluate(data=tf.data.Dataset.from_tensor_slices(data).batch(6))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (tf.data.Dataset.from_tensor_slices(small_data()).batch(6).take(0), "^data: got nothing, expected batches"),
        (tf.data.Dataset.from_tensor_slices(IMAGES).batch(6), "^data: got a batch without labels, expected batches"),
    ],
)
def test_data_sets_without_images_or_labels_are_refused(data, message):
    with pytest.raises(InvalidInput, match=message):
        evaluate(data=data)


def test_nan_in_a_later_batch_does_not_pass_for_a_number():
    images = IMAGES.copy()
    images[8] = np.nan
    with pytest.raises(InvalidInput, match="^images: got 16 NaN"):
        evaluate(data=tf.data.Dataset.from_tensor_slices((images, LABELS)).batch(6), batch_size=6)


@pytest.mark.parametrize(
    ("classifier", "message"),
    [
        (with_softmax, "probabilities .*expected logits"),
        (SubclassedWithSoftmax, "probabilities .*expected logits"),
        (with_nan, "NaN or infinite, expected finite logits"),
        (lambda: keras.Sequential([keras.Input(SHAPE), layers.Flatten(), layers.Dense(1)]), "at least two classes"),
        (lambda: keras.Sequential([keras.Input(SHAPE), layers.Dense(3)]), r"an output of shape \(13, 4, 4, 3\)"),
    ],
)
def test_a_classifier_that_gives_no_logits_is_refused(classifier, message):
    with pytest.raises(InvalidInput, match=f"^classifier.*: got .*{message}"):
        evaluate(classifier())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"alpha_test": (1.0, -1.0)}, "^alpha_test: got -1.0"),
        ({"alpha_test": (math.nan,)}, "^alpha_test: got nan"),
        ({"batch_size": 0}, "^batch_size: got 0"),
        ({"attack_precision": "float16"}, "^attack_precision: got 'float16', expected one of float32, bfloat16"),
    ],
)
def test_bad_settings_are_refused(settings, message):
    with pytest.raises(InvalidInput, match=message):
        evaluate(**settings)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda x, y: (200.0 * x, y), r"images: got values from .*, expected values in \[0, 1\]"),
        (lambda x, y: (x, y + 100), r"labels: got values from .*, expected class numbers in"),
    ],
)
def test_a_later_batch_is_looked_at_too(spoil, message):
    images, labels = small_data()
    both = tuple(np.concatenate(parts) for parts in zip((images, labels), spoil(images, labels), strict=True))
    data = tf.data.Dataset.from_tensor_slices(both).batch(len(images))
    with pytest.raises(InvalidInput, match=message):
        evaluate(small_classifier(), data, batch_size=len(images))


def test_single_images_are_refused():
    with pytest.raises(InvalidInput, match=r"data: got elements .* Call \.batch\(256\)"):
        evaluate(small_classifier(), tf.data.Dataset.from_tensor_slices(small_data()))


@pytest.mark.parametrize("alphas", [(1.0, 1.0), (1.0, -2.0), float("nan")])
def test_alphas_that_are_refused(alphas):
    with pytest.raises(InvalidInput, match="alpha_test: got"):
        evaluate(small_classifier(), small_data(), alpha_test=alphas)


def test_one_alpha_may_be_a_number():
    assert list(evaluate(small_classifier(), small_data(), alpha_test=2.0).weighted_margins) == [2.0]


def test_a_tr_of_an_alpha_that_was_not_attacked_is_refused():
    result = evaluate(small_classifier(), small_data(), alpha_test=2.0)
    with pytest.raises(InvalidInput, match="alpha: got 1.0, expected one of the evaluated 2.0"):
        result.A_tr(1.0)
