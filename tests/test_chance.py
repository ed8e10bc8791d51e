"""A classifier that is no better than guessing is pointed out, with the usual causes, before it is attacked."""

import keras
import numpy as np
import pytest

import wmr_tf
from wmr_tf.evaluation.flags import chance_flags, warn_at_chance

RNG = np.random.default_rng(0)
LABELS = np.arange(40) % 2
IMAGES = ((0.2 + 0.6 * LABELS[:, np.newaxis]) + RNG.uniform(-0.1, 0.1, [40, 9])).astype(np.float32)
ATTACK = wmr_tf.attacks.PGD(epsilon=0.1, step_size=0.1, steps=2)
TOLD = "A_nat is {} %, and always guessing the most frequent class gives 50.0 %. Either .*another range.*in the order"


def of_whole_numbers():
    """Return a classifier of images in [0, 255]: an image of more than 127.5 on average is of class 1."""
    model = keras.Sequential([keras.Input([9]), keras.layers.Dense(2)])
    model.set_weights([np.array([[-1.0, 1.0]] * 9) / 9, np.array([127.5, -127.5])])
    return model


MEASURE = {
    "evaluate_robustness": lambda model, labels: wmr_tf.evaluate_robustness(
        model, (IMAGES, labels), ATTACK, suite=None, verbose=0
    ),
    "auto_attack": lambda model, labels: wmr_tf.auto_attack(
        model, (IMAGES, labels), epsilon=0.1, version=["apgd-ce"], verbose=0
    ),
}


@pytest.mark.parametrize("measure", MEASURE.values(), ids=MEASURE)
def test_another_range_and_another_order_of_labels_are_told_of_once(measure, recwarn):
    model = of_whole_numbers()
    ranged = wmr_tf.with_input_range(model, 0, 255)
    good = measure(ranged, LABELS)
    assert not recwarn
    for classifier, labels, accuracy in ((model, LABELS, "50.0"), (ranged, 1 - LABELS, "0.0")):
        with pytest.warns(UserWarning, match=TOLD.format(accuracy)) as found:
            measure(classifier, labels)
        assert len(found) == 1
    if isinstance(good, wmr_tf.Robustness):
        assert good.A_nat.value == 1.0 and "near_chance" not in [flag["name"] for flag in good.flags]


def test_the_evaluation_keeps_it_as_a_flag():
    with pytest.warns(UserWarning, match="^A_nat is"):
        result = MEASURE["evaluate_robustness"](of_whole_numbers(), LABELS)
    (flag,) = (flag for flag in result.metrics()["flags"] if flag["name"] == "near_chance")
    assert (flag["value"], flag["threshold"]) == (0.5, 0.5)
    assert f"Warning: {flag['message']}" in str(result)


@pytest.mark.parametrize(("correct", "is_told"), [(0, True), (34, True), (43, True), (44, False), (100, False)])
def test_three_classes_of_a_hundred_images(correct, is_told):
    # Chance is 0.34, with a standard error of 0.0474; two of them above it are 0.4347.
    assert bool(chance_flags(np.arange(100) < correct, np.arange(100) % 3)) == is_told


def test_what_is_not_finite_is_not_called_chance(recwarn):
    warn_at_chance(np.full([40, 2], np.nan), LABELS)
    assert not recwarn
