"""What an evaluation says of a classifier that stronger attacks, or none at all, see through."""

import dataclasses
import functools
import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from tests.test_evaluation import ATTACK, SHAPE, evaluate, small_classifier, small_data
from wmr_tf.attacks import APGD, FAB, PGD
from wmr_tf.attacks.base import input_gradient
from wmr_tf.engine.frozen import freeze
from wmr_tf.evaluation import Robustness, RobustnessEvaluator, evaluate_robustness
from wmr_tf.evaluation.flags import MASKED_GAP, OVERSTATED_GAP, gap_flags, small_sample_flags, zero_gradient_flags
from wmr_tf.evaluation.outcomes import MISCLASSIFIED, ROBUST, Outcomes, load_outcomes
from wmr_tf.evaluation.suite_result import SuiteResult
from wmr_tf.evaluation.temperature import at_temperature

# The flags, from figures alone


def found_by_a_suite(broken_by):
    nothing = np.zeros([len(broken_by), 2], np.float32)
    found = Outcomes.begin(nothing, np.zeros(len(broken_by), np.int32), nothing)
    found.broken_by[:] = broken_by
    return SuiteResult(
        found, ("apgd-ce", "apgd-t"), {"version": "strong", "norm": "linf", "epsilon": 0.3, "seed": 0}, ()
    )


def measured(robust, broken_by, **more):
    margins = np.where(robust, 0.5, -0.5)
    return Robustness(np.abs(margins), margins, {}, -margins, suite=found_by_a_suite(broken_by), **more)


def test_a_strong_is_of_the_images_that_neither_the_test_attack_nor_the_suite_breaks():
    result = measured([1, 1, 1, 0, 0, 1], [ROBUST, 0, 1, ROBUST, 0, MISCLASSIFIED])
    assert result.A_rob.value == 4 / 6
    assert result.A_strong.value == 1 / 6
    assert result.A_strong.stderr == pytest.approx(np.sqrt(1 / 6 * 5 / 6 / 6))
    assert result.metrics()["A_strong"] == 1 / 6
    assert result.metrics()["suite"] == result.suite.metrics()
    assert Robustness(*[np.ones(3)] * 2, {}, np.ones(3)).A_strong is None


def with_gap(broken, images=1000):
    """Return a result with A_rob 1 of which a suite breaks so many images."""
    return measured(np.ones(images), np.where(np.arange(images) < broken, 0, ROBUST))


@pytest.mark.parametrize(
    ("broken", "name"), [(0, None), (9, None), (11, "overstated"), (123, "overstated"), (124, "masked")]
)
def test_a_gap_of_a_tenth_is_masked_and_of_a_hundredth_overstated(broken, name):
    result = with_gap(broken)
    assert [flag["name"] for flag in result.flags] == ([name] if name else [])
    assert result.is_masked == result.metrics()["masked"] == (name == "masked")
    assert ("MASKED" in str(result)) == (name == "masked")
    assert str(result).startswith("MASKED\n") == (name == "masked")
    for flag in result.flags:
        assert flag["value"] == pytest.approx(broken / 1000)
        assert flag["threshold"] == (0.123 if name == "masked" else OVERSTATED_GAP)
        assert f"{100 - broken / 10:.1f} %" in flag["message"]


def test_flags_of_figures():
    assert (MASKED_GAP, OVERSTATED_GAP) == (0.10, 0.01)
    assert gap_flags(0.5, 0.5, 1000) == gap_flags(0.505, 0.5, 1000) == []
    assert gap_flags(0.5, 0.37, 32)[0]["name"] == "overstated"  # four images of 32 prove nothing
    assert gap_flags(0.5, 0.37, 1000)[0]["name"] == "masked"
    assert zero_gradient_flags(0, 10) == []
    (flag,) = zero_gradient_flags(3, 10)
    assert (flag["name"], flag["value"], flag["threshold"]) == ("zero_gradients", 3, 0)
    assert flag["message"].startswith("3 of 10 images have a gradient that is 0 everywhere")
    assert small_sample_flags(100.0, 1000) == []
    (flag,) = small_sample_flags(99.0, 1000)
    assert (flag["name"], flag["value"], flag["threshold"]) == ("small_sample", 99.0, 100.0)
    assert flag["message"].endswith(" Evaluate more images, or take a smaller alpha_test.")
    assert small_sample_flags(38.9, 39)[0]["message"].endswith(" of 39. Evaluate more images.")


def test_weighted_accuracies_of_few_images_are_flagged_with_the_smallest_effective_number():
    many, few = np.full(500, 0.5), np.concatenate([np.full(5, -1.0), np.full(495, 1.0)])
    assert Robustness(many, many, {2.0: many}, many).flags == []
    for margins, weighted in ((many, few), (few, many)):
        result = Robustness(margins, margins, {3.0: weighted}, margins)
        (flag,) = result.flags
        smallest = min(result.A_sa(3.0).effective_sample_size, result.A_tr(3.0).effective_sample_size)
        assert (flag["name"], flag["value"]) == ("small_sample", smallest)
        assert smallest < 100


def test_a_result_that_is_no_number_has_no_flags_of_figures():
    nan = np.full(3, np.nan)
    result = Robustness(nan, nan, {1.0: nan}, nan, suite=found_by_a_suite([ROBUST] * 3))
    assert result.flags == []
    assert not result.is_masked


# Of classifiers


class Rounded(layers.Layer):
    """Rounds to black and white, so that nothing has a slope."""

    def call(self, x):
        return tf.round(x)


def test_images_without_a_gradient_are_counted_and_flagged():
    classifier, (images, labels) = small_classifier(), small_data()
    rounding = keras.Sequential([keras.Input(SHAPE), Rounded(), classifier])
    result = evaluate(rounding, (images, labels))
    assert result.zero_gradients == result.metrics()["zero_gradients"] == 13
    assert "zero_gradients" in [flag["name"] for flag in result.flags]
    np.testing.assert_allclose(result.clean_margins, evaluate(classifier, (np.round(images), labels)).clean_margins)
    assert evaluate(classifier, (images, labels)).zero_gradients == 0


def test_through_rounding_in_half_precision_there_is_no_gradient_either():
    keras.config.set_dtype_policy("mixed_float16")
    rounding = keras.Sequential([keras.Input(SHAPE), Rounded(), small_classifier("mixed_float16")])
    images = tf.constant(small_data()[0])
    network = freeze(rounding)
    assert not input_gradient(lambda x: tf.reduce_sum(network(x), axis=1), images).numpy().any()


@pytest.mark.parametrize("attack", [ATTACK, APGD(epsilon=0.1, steps=3), FAB(epsilon=0.1, steps=3)])
def test_an_attack_by_gradients_goes_nowhere_through_rounding(attack):
    clean = tf.fill([2, 3], 0.7)
    found = attack(lambda x: tf.reduce_sum(tf.round(x), axis=1) - 5.0, clean, seed=tf.constant([0, 1]))
    assert np.abs(found - clean).max() <= 0.15 + 1e-6
    assert (tf.round(found) == tf.round(clean)).numpy().all()


class OnlyAbove(layers.Layer):
    """Rounds the images whose first value is below one half, and leaves the others."""

    def call(self, x):
        return tf.where(x[:, :1, :1] < 0.5, tf.round(x), x)


def test_only_the_images_without_a_gradient_are_counted():
    images, labels = small_data()
    result = evaluate(keras.Sequential([keras.Input(SHAPE), OnlyAbove(), small_classifier()]), (images, labels))
    assert 0 < result.zero_gradients == (images[:, 0, 0, 0] < 0.5).sum() < 13


def test_a_sure_classifier_has_gradients_all_the_same():
    assert evaluate(at_temperature(small_classifier(), 1e-3)).zero_gradients == 0


def test_predictions_are_of_the_clean_images():
    result = evaluate()
    assert np.array_equal(
        result.logits.clean.argmax(axis=1), small_classifier()(small_data()[0]).numpy().argmax(axis=1)
    )


def test_the_suite_attacks_the_same_images_in_the_ball_of_the_attack(tmp_path):
    attack = dataclasses.replace(ATTACK, epsilon=0.05, norm="linf")
    evaluator = RobustnessEvaluator(small_classifier(), attack, alpha_test=(), suite="short", seed=3)
    data = tf.data.Dataset.from_tensor_slices(small_data()).batch(5)
    result = evaluator(data, verbose=0, outcomes=tmp_path / "outcomes.npz")
    settings = {"version": "short", "norm": "linf", "epsilon": 0.05, "seed": 3}
    assert result.suite.settings == settings
    identity, _ = load_outcomes(tmp_path / "outcomes.npz")
    assert {name: identity[name] for name in settings} == settings
    images, labels = small_data()
    assert np.array_equal(result.suite.outcomes.clean, images)
    assert np.array_equal(result.suite.outcomes.labels, labels)
    is_robust = (result.margins > 0) & result.suite.is_robust
    assert result.A_strong.value == is_robust.mean() <= result.A_rob.value
    assert json.loads(json.dumps(result.metrics())) == result.metrics()
    assert str(result).splitlines()[1 + result.is_masked].endswith(f", A_strong {result.A_strong}")
    again = evaluator(data, verbose=0)
    assert np.array_equal(again.suite.outcomes.broken_by, result.suite.outcomes.broken_by)


# Confidence alone, on digits


@functools.cache
def robust_digits():
    """Return a small classifier that holds some of a test set, and this set, 8x8 in [0, 1]."""
    from sklearn.datasets import load_digits

    from wmr_tf import AdversarialModel, methods

    images, labels = load_digits(return_X_y=True)
    images, labels = np.float32(images.reshape(-1, 8, 8, 1) / 16), np.int32(labels)
    keras.utils.set_random_seed(0)
    classifier = keras.Sequential(
        [keras.Input([8, 8, 1]), layers.Conv2D(8, 3, activation="relu"), layers.Flatten(), layers.Dense(10)]
    )
    attack = PGD(epsilon=0.15, step_size=0.05, steps=4)
    model = AdversarialModel(classifier, methods.PGD(attack, alpha=0.0))
    model.compile(keras.optimizers.Adam(3e-3))
    model.fit(images[:1500], labels[:1500], batch_size=64, epochs=8, verbose=0)
    return classifier, (images[1500:1700], labels[1500:1700])


@pytest.mark.slow
def test_dividing_the_logits_changes_no_accuracy_under_attack():
    classifier, data = robust_digits()
    attack = PGD(epsilon=0.15, step_size=0.02, steps=20)
    results = {
        temperature: evaluate_robustness(
            at_temperature(classifier, temperature), data, attack, alpha_test=(), verbose=0
        )
        for temperature in (1.0, 0.3, 0.1, 0.03, 0.01)
    }
    plain = results[1.0]
    assert 0.2 < plain.A_strong.value < plain.A_rob.value < 0.9
    for temperature, result in results.items():
        assert abs(result.A_strong.value - plain.A_strong.value) <= 0.01
        assert abs(result.A_rob.value - results[0.3].A_rob.value) <= 0.01 or temperature == 1.0
        assert not result.is_masked
        assert result.zero_gradients == 0
