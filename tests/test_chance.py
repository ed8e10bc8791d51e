"""A classifier that is no better than guessing is pointed out, with the usual causes, before it is attacked."""

import keras
import numpy as np
import pytest

import wmr_tf
from wmr_tf.evaluation.flags import chance_flags, range_flags
from wmr_tf.evaluation.ranges import other_range, warn_of_clean

RNG = np.random.default_rng(0)
LABELS = np.arange(40) % 2
IMAGES = ((0.2 + 0.6 * LABELS[:, np.newaxis]) + RNG.uniform(-0.1, 0.1, [40, 9])).astype(np.float32)
ATTACK = wmr_tf.attacks.PGD(epsilon=0.1, step_size=0.1, steps=2)
RANGE = (
    "on the first 40 images A_nat is 50.0 %, and 100.0 % if they are scaled to [0, 255]. If the classifier was trained "
    "on such images, take wmr_tf.with_input_range(model, 0, 255)."
)
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
    for classifier, labels, accuracy, more in ((model, LABELS, "50.0", [RANGE]), (ranged, 1 - LABELS, "0.0", [])):
        with pytest.warns(UserWarning, match=TOLD.format(accuracy)) as found:
            measure(classifier, labels)
        assert [str(each.message) for each in found[1:]] == more
    if isinstance(good, wmr_tf.Robustness):
        assert good.A_nat.value == 1.0 and "near_chance" not in [flag["name"] for flag in good.flags]


def test_the_evaluation_keeps_it_as_a_flag():
    with pytest.warns(UserWarning, match="A_nat is"):
        result = MEASURE["evaluate_robustness"](of_whole_numbers(), LABELS)
    (flag,) = (flag for flag in result.metrics()["flags"] if flag["name"] == "near_chance")
    assert (flag["value"], flag["threshold"]) == (0.5, 0.5)
    assert f"Warning: {flag['message']}" in str(result)


@pytest.mark.parametrize(("correct", "is_told"), [(0, True), (34, True), (43, True), (44, False), (100, False)])
def test_three_classes_of_a_hundred_images(correct, is_told):
    # Chance is 0.34, with a standard error of 0.0474; two of them above it are 0.4347.
    assert bool(chance_flags(np.arange(100) < correct, np.arange(100) % 3)) == is_told


def test_what_is_not_finite_is_not_called_chance(recwarn):
    assert warn_of_clean(never, [(IMAGES, LABELS)], np.full([40, 2], np.nan)) == []
    assert not recwarn


def never(images, labels):
    raise AssertionError("computed for nothing")


def logits_of(low, high):
    """Return a classifier of dark and light images in a range, as a function; it takes other images for dark ones."""
    middle = (low + high) / 2

    def classify(images, labels):
        mean = np.asarray(images).mean(axis=1)
        is_light = (mean > middle) & (mean <= high) & (np.asarray(images).min() < (low + middle) / 2)
        return np.eye(2)[is_light.astype(int)]

    return classify


@pytest.mark.parametrize("expected", [(0, 255), (-1, 1)])
def test_the_range_that_a_classifier_expects_is_named(expected):
    batches = [(IMAGES[start : start + 16], LABELS[start : start + 16]) for start in (0, 16, 32)]
    (found,) = other_range(logits_of(*expected), batches)
    assert f"take wmr_tf.with_input_range(model, {expected[0]}, {expected[1]})" in found["message"]
    assert found["name"] == "input_range" and found["value"] == 0.5


def test_nothing_is_tried_for_a_classifier_that_is_right_on_nine_of_ten():
    logits = np.eye(2)[np.where(np.arange(40) < 4, 1 - LABELS, LABELS)]
    assert other_range(never, [(IMAGES, LABELS)], logits) == []


def test_only_the_first_images_are_tried():
    seen = []

    def classify(images, labels):
        seen.append(len(labels))
        return np.zeros([len(labels), 2])

    assert other_range(classify, [(IMAGES, LABELS)] * 10) == []
    assert seen == [40] * 7 * 3  # as they are, in [0, 255] and in [-1, 1]; six batches are 240 images


@pytest.mark.parametrize(("gained", "is_told"), [(10, False), (11, True), (50, True)])
def test_a_gain_is_a_tenth_at_least(gained, is_told):
    # Of 100 images with 11 gained the gain is 0.11, and three standard errors are 0.094; of 1,000, of which 11 % are.
    images = np.arange(1000)
    assert bool(range_flags(images < 400, images < 400 + 10 * gained, (0, 255))) == is_told


def test_a_gain_of_few_images_is_more_than_chance():
    images = np.arange(20)
    assert range_flags(images < 10, images < 13, (0, 255)) == []  # 0.15, of which three standard errors are 0.24
    assert range_flags(images < 10, images < 18, (0, 255))
