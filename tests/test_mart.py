"""MART's loss against NumPy in float64, and its training step by finite differences."""

import numpy as np
import pytest
import tensorflow as tf

from tests.test_losses import cases, close, log_softmax, slopes, value_and_gradient, weight_by_hand
from tests.test_methods import NOT_AN_AMOUNT, data, linear, losses_of_training
from wmr_tf import InvalidInput, attacks, methods
from wmr_tf.losses import boosted_cross_entropy, mart_loss
from wmr_tf.weights import Exponential


def log_rest_by_hand(logits, label):
    """log(1 - p[j]), j the strongest wrong class: the logarithm of the sum of all other probabilities."""
    log_p = log_softmax(logits)
    j = max((k for k in range(len(log_p)) if k != label), key=lambda k: log_p[k])
    return np.logaddexp.reduce(np.delete(log_p, j))


def boosted_by_hand(logits, label):
    return -log_softmax(logits)[label] - log_rest_by_hand(logits, label)


def mart_by_hand(clean, logits, label, beta):
    log_p, log_q = log_softmax(clean), log_softmax(logits)
    kl = np.sum(np.exp(log_p) * (log_p - log_q))
    return boosted_by_hand(logits, label) + beta * kl * (1 - np.exp(log_p[label]))


def test_boosted_cross_entropy_as_it_is_written_in_the_paper():
    for _, logits, labels in cases():
        for z, y, found in zip(logits, labels, boosted_cross_entropy(logits, labels), strict=True):
            p = np.exp(log_softmax(z))
            assert float(found) == pytest.approx(-np.log(p[y]) - np.log(1 - np.delete(p, y).max()), rel=1e-5)


@pytest.mark.parametrize("scale", [0.01, 1.0, 10.0, 100.0])
def test_values_against_numpy(scale):
    for clean, attacked, labels in cases(images=100, scale=scale):
        both = list(zip(attacked, labels, strict=True))
        close(boosted_cross_entropy(attacked, labels), [boosted_by_hand(*pair) for pair in both])
        expected = [mart_by_hand(*three, 6.0) for three in zip(clean, attacked, labels, strict=True)]
        close(mart_loss(clean, attacked, labels, 6.0), expected)


def test_gradients_by_finite_differences():
    for clean, attacked, labels in cases(scale=2.0):
        _, gradients = value_and_gradient(lambda c, z, y=labels: mart_loss(c, z, y, 6.0), clean, attacked)
        for c, z, y, of_clean, of_attacked in zip(
            clean.astype(np.float64), attacked.astype(np.float64), labels, *gradients, strict=True
        ):
            close(of_clean, slopes(lambda at, z=z, y=y: mart_by_hand(at, z, y, 6.0), c))
            close(of_attacked, slopes(lambda at, c=c, y=y: mart_by_hand(c, at, y, 6.0), z))


def test_a_wrong_class_of_probability_1_keeps_value_and_gradient():
    # In float32 1 - p[j] is 0 from a gap of 17 on; the loss goes on growing with it, by 2 a logit.
    logits = np.array([[0.0, gap, -1.0] for gap in (20.0, 40.0, 200.0, 2000.0)], np.float32)
    labels = np.zeros(4, np.int32)
    values, [gradient] = value_and_gradient(lambda z: boosted_cross_entropy(z, labels), logits)
    np.testing.assert_allclose(values, [boosted_by_hand(z, 0) for z in logits], rtol=1e-6)
    rest = 1 / (1 + np.exp(-1))
    np.testing.assert_allclose(gradient, np.tile([-1 - rest, 2, rest - 1], [4, 1]), atol=1e-6)
    assert np.isfinite(gradient).all()


def test_a_clean_image_that_is_surely_right_is_not_pulled():
    clean, attacked = np.float32([[30.0, 0.0, 0.0]]), np.float32([[0.0, 1.0, 0.0]])
    with_pull, without = (mart_loss(clean, attacked, [0], beta).numpy() for beta in (6.0, 0.0))
    assert with_pull == pytest.approx(without, abs=1e-6)
    assert mart_loss(clean, attacked, [1], 6.0).numpy() > boosted_cross_entropy(attacked, [1]).numpy() + 6


def test_half_precision_logits_and_one_hot_labels():
    for clean, attacked, labels in cases(dtype=tf.bfloat16.as_numpy_dtype, scale=5.0):
        one_hot = np.eye(attacked.shape[1], dtype=np.float32)[labels]
        half = mart_loss(clean, attacked, one_hot, 6.0)
        assert half.dtype == tf.float32
        np.testing.assert_array_equal(half, mart_loss(*(z.astype("float32") for z in (clean, attacked)), labels, 6.0))


@pytest.mark.parametrize("stop", [False, True])
@pytest.mark.parametrize(("alpha", "normalize"), [(0.0, False), (1.5, False), (1.5, True)])
def test_a_step_on_a_linear_classifier_by_finite_differences(alpha, normalize, stop):
    x, y = data(4)
    classifier, rate = linear(), 0.1
    kernel, bias = (weight.astype("float64") for weight in classifier.get_weights())
    attack = attacks.PGD(epsilon=0.1, step_size=0.1, steps=1, start="none")
    method = methods.MART(attack, beta=2.0, alpha=Exponential(alpha, stop_gradient=stop, normalize=normalize))
    (logged,) = losses_of_training(classifier, method, x, y, rate=rate)

    def weight(z, label, at):
        return weight_by_hand(at if stop else z, label, alpha)  # `at` is where the step starts

    def attack_loss(z, label, at):
        return weight(z, label, at) * -log_softmax(z)[label]

    uphill = [
        slopes(lambda z, k=k, at=at: attack_loss(z, k, at), at) for at, k in zip(x @ kernel + bias, y, strict=True)
    ]
    attacked = np.clip(x + 0.1 * np.sign(uphill @ kernel.T), 0, 1)
    starts = attacked @ kernel + bias
    at_first = np.mean([weight_by_hand(z, k, alpha) for z, k in zip(starts, y, strict=True)])

    def objective(parameters):
        w, b = parameters[:-3].reshape(kernel.shape), parameters[-3:]
        rows = zip(x @ w + b, attacked @ w + b, y, starts, strict=True)
        losses = [weight(z, k, at) * mart_by_hand(c, z, k, 2.0) for c, z, k, at in rows]
        return np.mean(losses) / (at_first if normalize else 1)  # a constant: no gradient flows through it

    start = np.concatenate([kernel.ravel(), bias])
    assert logged == pytest.approx(objective(start), rel=1e-5)
    expected = start - rate * slopes(objective, start)
    found = np.concatenate([weight.ravel() for weight in classifier.get_weights()])
    np.testing.assert_allclose(found, expected, atol=5e-6)


def test_beta_is_6_and_at_0_the_clean_images_do_not_count():
    attack = attacks.PGD(epsilon=0.1, step_size=0.1, steps=1)
    assert methods.MART(attack).beta == 6.0
    clean, attacked, labels = next(cases())
    _, [of_clean, _] = value_and_gradient(lambda c, z: mart_loss(c, z, labels, 0.0), clean, attacked)
    assert not of_clean.any()


def test_weights_multiply_the_whole_loss():
    clean, attacked, labels = next(cases())
    expected = [
        weight_by_hand(z, y, 2.0) * mart_by_hand(c, z, y, 6.0) for c, z, y in zip(clean, attacked, labels, strict=True)
    ]
    close(Exponential(2.0)(attacked, labels) * mart_loss(clean, attacked, labels, 6.0), expected)


@pytest.mark.parametrize("value", NOT_AN_AMOUNT)
def test_a_beta_below_zero_or_not_finite_is_refused(value):
    with pytest.raises(InvalidInput, match=r"^beta: got .*, expected a finite number >= 0"):
        methods.MART(attacks.PGD(epsilon=0.1, step_size=0.1, steps=1), beta=value)
