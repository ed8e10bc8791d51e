import keras
import numpy as np
import pytest
import tensorflow as tf

from wmr_tf.checks import InvalidInput
from wmr_tf.evaluation.temperature import at_temperature, mean_top_probability, temperature_for


def random_logits(classes=5):
    return np.random.default_rng(0).standard_normal([300, classes]).astype(np.float32)


@pytest.mark.parametrize("value", [0.01, 1.0, 30.0])
def test_mean_top_probability_is_that_of_the_softmax(value):
    probabilities = tf.nn.softmax(tf.constant(random_logits(), tf.float64) / value).numpy()
    assert mean_top_probability(random_logits(), value) == pytest.approx(probabilities.max(axis=1).mean(), rel=1e-9)


def test_mean_top_probability_does_not_overflow():
    assert mean_top_probability(np.array([[1e6, 0.0, -1e6]]), 1e-6) == 1.0


@pytest.mark.parametrize("classes", [2, 5])
@pytest.mark.parametrize("wanted", [0.51, 0.7, 0.99])
def test_bisection_hits_the_target(classes, wanted):
    logits = random_logits(classes)
    assert mean_top_probability(logits, temperature_for(logits, wanted)) == pytest.approx(wanted, abs=1e-7)


@pytest.mark.parametrize("value", [0.01, 0.5, 1.0, 100.0])
def test_the_temperature_that_was_applied_is_found(value):
    logits = random_logits()
    assert temperature_for(logits * value, mean_top_probability(logits)) == pytest.approx(value, rel=1e-6)


@pytest.mark.parametrize("wanted", [0.0, 0.1, 0.2, 1.01, np.nan])
def test_a_probability_out_of_reach_is_refused(wanted):
    with pytest.raises(InvalidInput, match=rf"^top_probability: got {wanted}, expected a number in \[0.2000, 1.0000\]"):
        temperature_for(random_logits(), wanted)


def test_at_temperature_divides_the_logits_and_leaves_the_predictions():
    classifier = keras.Sequential([keras.Input([4]), keras.layers.Dense(5)])
    images = tf.random.stateless_uniform([200, 4], [0, 1])
    logits = classifier(images).numpy()
    for value in (0.1, 10.0):
        scaled = at_temperature(classifier, value)(images).numpy()
        np.testing.assert_allclose(scaled, logits / value, rtol=1e-6)
        assert np.array_equal(scaled.argmax(axis=1), logits.argmax(axis=1))


def test_at_temperature_gives_float32_logits_of_a_mixed_precision_classifier():
    keras.config.set_dtype_policy("mixed_float16")
    classifier = keras.Sequential([keras.Input([4]), keras.layers.Dense(5)])
    images = tf.random.stateless_uniform([20, 4], [0, 1])
    scaled = at_temperature(classifier, 0.1)(images)
    assert scaled.dtype == tf.float32
    np.testing.assert_allclose(scaled, 10.0 * tf.cast(classifier(images), tf.float32), rtol=1e-6)


def test_at_temperature_survives_saving(tmp_path):
    cooled = at_temperature(keras.Sequential([keras.Input([4]), keras.layers.Dense(5)]), 2.0)
    images = tf.random.stateless_uniform([20, 4], [0, 1])
    expected = cooled(images)
    cooled.save(tmp_path / "cooled.keras")
    np.testing.assert_array_equal(keras.models.load_model(tmp_path / "cooled.keras")(images), expected)


@pytest.mark.parametrize("value", [0.0, -1.0, np.nan])
def test_a_bad_temperature_is_refused(value):
    with pytest.raises(InvalidInput, match="^temperature: got .*, expected a finite number > 0"):
        at_temperature(keras.Sequential([keras.Input([4]), keras.layers.Dense(5)]), value)
