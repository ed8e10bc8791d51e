"""Natural plus adversarial training against plain steps, and its limits."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.test_methods import (
    ATTACK,
    assert_descended,
    convnet,
    cross_entropy_by_hand,
    data,
    linear,
    losses_of_training,
    one_step,
    plain_attack,
    plain_cross_entropy,
    plain_descent,
    step_seed,
)
from wmr_tf import InvalidInput, attacks, methods
from wmr_tf.weights import Exponential


def with_batchnorm_and_dropout():
    keras.utils.set_random_seed(1)
    body = [keras.layers.Dense(8), keras.layers.BatchNormalization(), keras.layers.ReLU()]
    head = [keras.layers.Dropout(0.5, seed=3), keras.layers.Dense(3)]
    return keras.Sequential([keras.Input([4]), *body, *head])


@pytest.mark.parametrize(("network", "shape"), [(convnet, [5, 5, 1]), (with_batchnorm_and_dropout, [4])])
def test_weight_0_is_natural_training_bit_for_bit(network, shape):
    x, y = data(*shape)
    mixed, natural, start = network(), network(), network()
    method = methods.Mixed(ATTACK, adversarial_weight=0.0, alpha=2.0)
    losses = losses_of_training(mixed, method, x, y, steps=4)
    assert losses == losses_of_training(natural, methods.Natural(), x, y, steps=4)
    for weight, expected, before in zip(*(model.weights for model in (mixed, natural, start)), strict=True):
        np.testing.assert_array_equal(weight, expected)
        assert not np.array_equal(weight, before)


def test_a_small_weight_is_near_natural_training():
    x, y = data(5, 5, 1)
    mixed, natural = convnet(), convnet()
    losses_of_training(mixed, methods.Mixed(ATTACK, adversarial_weight=1e-6), x, y, steps=4)
    losses_of_training(natural, methods.Natural(), x, y, steps=4)
    for weight, expected in zip(mixed.get_weights(), natural.get_weights(), strict=True):
        np.testing.assert_allclose(weight, expected, atol=1e-5)


def test_alpha_0_is_the_plain_sum_step_for_step():
    x, y = data(5, 5, 1)
    ours, plain = convnet(), convnet()
    losses = losses_of_training(ours, methods.Mixed(ATTACK, adversarial_weight=0.7), x, y, steps=4, seed=7, rate=0.3)
    for step, loss in enumerate(losses):
        start = x + ATTACK.epsilon * tf.random.stateless_uniform(x.shape, step_seed(7, step), -1, 1)
        attacked = plain_attack(lambda images: plain_cross_entropy(plain(images), y), x, start)

        def plain_loss(attacked=attacked):
            return plain_cross_entropy(plain(x), y) + 0.7 * plain_cross_entropy(plain(attacked), y)

        assert loss == pytest.approx(plain_descent(plain, plain_loss, rate=0.3), rel=1e-5)
    for weight, expected in zip(ours.get_weights(), plain.get_weights(), strict=True):
        np.testing.assert_allclose(weight, expected, atol=2e-6)


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize(("alpha", "stop"), [(1.5, False), (1.5, True)])
def test_alpha_weights_the_adversarial_term_only(alpha, stop, normalize):
    x, y = data(4)
    classifier = linear()
    kernel, bias = (weight.astype("float64") for weight in classifier.get_weights())
    attack = attacks.PGD(epsilon=0.1, step_size=0.1, steps=1, start="none")
    weighting = Exponential(alpha, stop_gradient=stop, normalize=normalize)
    method = methods.Mixed(attack, adversarial_weight=3.0, alpha=weighting)
    (logged,) = losses_of_training(classifier, method, x, y)

    clean = x @ kernel + bias
    _, slope = cross_entropy_by_hand(clean, y, alpha, stop)
    attacked = one_step(x, x, 0.1, slope, kernel)
    natural, of_clean = cross_entropy_by_hand(clean, y)
    weighted, of_attacked = cross_entropy_by_hand(attacked @ kernel + bias, y, alpha, stop)
    plain, _ = cross_entropy_by_hand(attacked @ kernel + bias, y)
    total = 3.0 / np.mean(weighted / plain) if normalize else 3.0
    assert logged == pytest.approx(np.mean(natural + total * weighted), rel=1e-5)
    of_attacked = total * of_attacked
    assert_descended(
        classifier,
        kernel - 0.5 * (x.T @ of_clean + attacked.T @ of_attacked) / len(x),
        bias - 0.5 * (of_clean + of_attacked).mean(axis=0),
    )


@pytest.mark.parametrize("value", [-1.0, float("nan"), float("inf"), "much", None])
def test_a_weight_below_zero_or_not_finite_is_refused(value):
    with pytest.raises(InvalidInput, match=r"^adversarial_weight: got .*, expected a finite number >= 0"):
        methods.Mixed(ATTACK, adversarial_weight=value)
