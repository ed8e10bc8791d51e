"""The attack with an average budget: linear problems solved independently, identities, and the budget itself."""

import functools
import math

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy import optimize

from tests.test_evaluation import SHAPE, small_classifier, small_data
from trainers.settings.evaluation import REACH
from wmr_tf import evaluate_robustness
from wmr_tf.attacks import PGD
from wmr_tf.checks import InvalidInput
from wmr_tf.evaluation import weighted_accuracy
from wmr_tf.evaluation.temperature import at_temperature
from wmr_tf.evaluation.wasserstein import WassersteinAttack, evaluate_wasserstein

EPSILON, STEP, STEPS = 0.1, 0.03, 7


@functools.cache
def evaluate(p=2.0, **changes):
    settings = {"epsilon": EPSILON, "step_size": STEP, "steps": STEPS, "p": p}
    given = {name: changes.pop(name) for name in list(changes) if name in settings}
    return evaluate_wasserstein(
        small_classifier(), small_data(), WassersteinAttack(**{**settings, **given}), verbose=0, **changes
    )


def mean_loss(images):
    logits = small_classifier()(images)
    return float(tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(small_data()[1], logits)))


def gradients(images):
    images, classifier = tf.constant(images), small_classifier()
    with tf.GradientTape() as tape:
        tape.watch(images)
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(small_data()[1], classifier(images, training=False))
    return tape.gradient(losses, images).numpy()


def used(clean, attacked, p):
    sizes = np.abs(attacked.astype(np.float64) - clean).reshape(len(clean), -1).max(axis=1)
    return sizes.max() if math.isinf(p) else np.mean(sizes**p) ** (1 / p)


@pytest.mark.parametrize("p", [1.3, 2.0, 3.5])
@pytest.mark.parametrize("images", [2, 6])
def test_shares_of_a_linear_model_are_the_closed_form(p, images):
    """Hoelder's equality: `r_i = epsilon (c_i^q / mean(c^q))^(1/p)` with c_i = ||g_i||_1 and 1/p + 1/q = 1."""
    x = np.full([images, 5], 0.5, np.float32)
    gradients = np.random.default_rng(0).standard_normal([images, 5]).astype(np.float32)
    c, q = np.abs(gradients).sum(axis=1), p / (p - 1)
    radii = 0.05 * (c**q / np.mean(c**q)) ** (1 / p)
    attack = WassersteinAttack(epsilon=0.05, step_size=0.5, steps=1, p=p)
    attacked = attack(lambda _: gradients, x)
    np.testing.assert_allclose(attacked - x, radii[:, np.newaxis] * np.sign(gradients), rtol=0, atol=1e-6)


@pytest.mark.parametrize("p", [1.01, 1.05])
def test_near_order_one_what_strong_images_cannot_use_goes_to_weak_ones(p):
    x, slopes = np.full([3, 2], 0.5, np.float32), np.array([[1.0], [1e-2], [1e-7]], np.float32)
    epsilon, step = 0.3, 0.35  # the first two have all that a step allows, the third what is left
    attack = WassersteinAttack(epsilon=epsilon, step_size=step, steps=1, p=p)
    sizes = np.abs(attack(lambda _: slopes * np.ones_like(x), x) - x).max(axis=1)
    np.testing.assert_allclose(sizes, [step, step, (3 * epsilon**p - 2 * step**p) ** (1 / p)], rtol=1e-3)


@pytest.mark.parametrize("p", [1.3, 2.0, 4.0])
def test_a_step_solves_its_linear_problem_within_box_and_step_size(p):
    """Against an optimiser: box, step size and what the images have already all bind somewhere."""
    rng = np.random.default_rng(0)
    x = rng.choice([0.0, 0.02, 0.3, 0.9, 1.0], [4, 3]).astype(np.float32)
    present = np.clip(x + rng.uniform(-0.06, 0.06, x.shape), 0, 1).astype(np.float32)
    gradients = (rng.standard_normal(x.shape) * [[3], [1], [0.3], [0.1]]).astype(np.float32)
    step, epsilon = 0.05, float(used(x, present, p))
    radii = WassersteinAttack(epsilon=epsilon, step_size=step, steps=1, p=p)._radii(x, present, gradients)
    low = np.maximum(present - step, 0) - x
    high = np.minimum(present + step, 1) - x

    def gain(r):
        bounded = np.where(gradients > 0, np.minimum(high, r[:, None]), np.maximum(low, -r[:, None]))
        return np.sum(gradients * bounded)

    floor = np.maximum(np.abs(present - x).max(axis=1) - step, 0)
    within = {"type": "ineq", "fun": lambda r: 1 - np.mean(np.abs(r / epsilon) ** p)}
    best = max(
        -optimize.minimize(
            lambda r: -gain(r), floor + share, bounds=[(f, 0.2) for f in floor], constraints=within, tol=1e-12
        ).fun
        for share in (0.0, 0.01, 0.03)
    )
    assert np.mean(radii.astype(np.float64) ** p) <= epsilon**p * (1 + 1e-6)
    assert (radii >= floor).all()
    assert gain(radii) == pytest.approx(best, rel=1e-3) or gain(radii) > best


def test_an_image_gives_back_no_more_than_a_step():
    x, present = np.full([2, 1], 0.5, np.float32), np.array([[0.7], [0.5]], np.float32)
    attack = WassersteinAttack(epsilon=float(used(x, present, 2.0)), step_size=0.05, steps=1)
    radii = attack._radii(x, present, np.array([[0.0], [1.0]], np.float32))
    np.testing.assert_allclose(radii, [0.15, 0.05], rtol=1e-5)


@pytest.mark.parametrize("p", [1.01, 1.1, 2.0, 10.0, 100.0, math.inf])
def test_the_budget_of_the_whole_set_is_kept_and_used_up(p):
    result = evaluate(p)
    clean = small_data()[0]
    assert result.images.dtype == np.float32 and result.images.min() >= 0 and result.images.max() <= 1
    spent = used(clean, result.images, p)
    assert spent <= EPSILON * (1 + 1e-6)
    assert spent == pytest.approx(EPSILON, rel=1e-4)
    assert result.mean_size == pytest.approx(spent, rel=1e-6)
    assert result.sizes.max() <= STEP * STEPS + 1e-6


def test_box_and_steps_limit_what_can_be_used():
    result = evaluate(2.0, epsilon=0.9)
    assert result.sizes.max() == pytest.approx(STEP * STEPS, abs=1e-6)
    x, away = np.array([[1.0, 0.0]], np.float32), np.array([[2.0, -1.0]], np.float32)  # both ascend out of the box
    attack = WassersteinAttack(epsilon=0.1, step_size=0.1, steps=2)
    assert np.array_equal(attack(lambda _: away, x), x)


def test_fragile_images_get_the_larger_share():
    x = np.full([3, 4], 0.5, np.float32)
    gradients = np.array([[5.0], [1.0], [0.0]], np.float32) * np.ones([3, 4], np.float32)
    attacked = WassersteinAttack(epsilon=0.1, step_size=0.4, steps=1)(lambda _: gradients, x)
    sizes = np.abs(attacked - x).max(axis=1)
    assert sizes[0] == pytest.approx(5 * sizes[1], rel=1e-4) and sizes[2] == 0
    assert len(np.unique(evaluate(2.0).sizes.round(4))) > 3  # and a network's images are not all alike


@pytest.mark.filterwarnings("ignore:attack. its steps reach")  # the largest ball is one that both only walk in
@pytest.mark.parametrize("epsilon", [0.0, 0.05, 0.3])
def test_with_the_budget_per_image_it_is_pgd_bit_for_bit(epsilon):
    classifier, (images, labels) = small_classifier(), small_data()
    result = evaluate(math.inf, epsilon=epsilon)
    pgd = PGD(epsilon=epsilon, step_size=STEP, steps=STEPS, start="none")

    def loss(x):
        return tf.nn.sparse_softmax_cross_entropy_with_logits(labels, classifier(x, training=False))

    attacked = pgd(loss, tf.constant(images), seed=tf.constant([0, 0])).numpy()
    assert np.array_equal(result.images, attacked)
    assert np.abs(attacked - images).max() == pytest.approx(min(epsilon, STEP * STEPS), abs=1e-6)
    margins = evaluate_robustness(classifier, (images, labels), pgd, alpha_test=(), verbose=0).margins
    np.testing.assert_allclose(result.margins, margins, rtol=0, atol=1e-6)


def test_a_classifier_that_is_sure_withstands_no_more():
    """By plain cross-entropy most of its gradients would be 0 or noise: at a temperature of 0.001 it would stand."""
    sure = at_temperature(small_classifier(), 1e-3)
    attack = WassersteinAttack(epsilon=0.1, step_size=0.02, steps=10, p=math.inf)
    as_it_is, found = (
        evaluate_wasserstein(classifier, small_data(), attack, verbose=0).accuracy.value
        for classifier in (small_classifier(), sure)
    )
    clean = weighted_accuracy(evaluate(epsilon=0.0).margins, 0.0).value
    assert as_it_is < clean - 0.1
    assert found == pytest.approx(as_it_is, abs=0.08)  # an image of 13


def test_a_high_order_comes_near_to_it():
    np.testing.assert_allclose(evaluate(2000.0).sizes, evaluate(math.inf).sizes, rtol=0, atol=1e-3)


@pytest.mark.parametrize("p", [2.0, math.inf])
def test_without_a_budget_images_stay_clean(p):
    result = evaluate(p, epsilon=0.0)
    assert np.array_equal(result.images, small_data()[0])
    assert (result.mean_size, result.accuracy.value) == (0, pytest.approx(10 / 13))


def test_result_does_not_depend_on_the_batches():
    whole = evaluate(batch_size=13)
    for size in (1, 5, 256):
        parts = evaluate(batch_size=size)
        np.testing.assert_allclose(parts.images, whole.images, rtol=0, atol=1e-5)
        np.testing.assert_allclose(parts.margins, whole.margins, rtol=0, atol=1e-4)


def test_an_average_budget_raises_the_loss_above_the_one_per_image():
    assert mean_loss(evaluate(2.0).images) > mean_loss(evaluate(math.inf).images) + 0.01


@pytest.mark.parametrize(("epsilon", "p"), [(0.03, 1.2), (0.1, 2.0), (0.3, 2.0), (0.3, 4.0)])
def test_it_is_as_strong_as_frank_wolfe_in_as_many_steps(epsilon, p):
    """Within 0.01 of a mean loss that rises by 0.1 to 2, at the step size of the trainers."""
    steps, clean = 20, small_data()[0]
    # From the clean images one step of size 1 maximises over the whole set: budget and box, and nothing else.
    maximiser = WassersteinAttack(epsilon=epsilon, step_size=1.0, steps=1, p=p)
    attacked = clean
    for k in range(steps):
        corner = maximiser(lambda _, present=attacked: gradients(present), clean)
        attacked = attacked + np.float32(2 / (k + 2)) * (corner - attacked)
    ours = evaluate(p, epsilon=epsilon, steps=steps, step_size=REACH * epsilon / steps).images
    assert mean_loss(attacked) > mean_loss(clean) + 0.1
    assert mean_loss(ours) > mean_loss(attacked) - 0.01


def test_metrics_are_plain_and_say_what_was_used():
    result = evaluate(2.0)
    settings = {"norm": "linf", "epsilon": EPSILON, "step_size": STEP, "steps": STEPS, "p": 2.0}
    assert result.metrics() == {
        **settings,
        "mean_size": result.mean_size,
        "largest_size": float(result.sizes.max()),
        "reach": pytest.approx(0.21),
        "accuracy": np.mean(result.margins > 0),
        "accuracy_stderr": result.accuracy.stderr,
    }
    assert evaluate(math.inf).metrics()["p"] == "inf"  # JSON has no infinity


def test_a_mixed_precision_classifier_is_attacked_in_float32_and_progress_shown(bars, capsys):
    attack = WassersteinAttack(epsilon=EPSILON, step_size=STEP, steps=STEPS)
    mixed = small_classifier("mixed_bfloat16")
    result = evaluate_wasserstein(mixed, small_data(), attack, batch_size=5, verbose=1)
    np.testing.assert_allclose(result.margins, evaluate().margins, rtol=0, atol=1e-4)
    assert mixed.dtype_policy.name == "mixed_bfloat16"
    assert "23/24 ━" in capsys.readouterr().out  # three batches, seven steps and the scoring


@pytest.mark.parametrize(
    ("name", "value"),
    [("p", 1.0), ("p", 1.009), ("p", math.nan), ("p", "2"), ("epsilon", -0.1), ("step_size", 0.0), ("steps", 0)],
)
def test_what_is_out_of_range_is_refused(name, value):
    with pytest.raises(InvalidInput, match=f"^{name}: got "):
        evaluate(**{name: value})


def test_what_the_classifier_cannot_take_is_refused():
    softmax = keras.Sequential([keras.Input(SHAPE), keras.layers.Flatten(), keras.layers.Dense(3, "softmax")])
    attack = WassersteinAttack(epsilon=EPSILON, step_size=STEP, steps=STEPS)
    with pytest.raises(InvalidInput, match="^classifier: got outputs that are probabilities"):
        evaluate_wasserstein(softmax, small_data(), attack)
