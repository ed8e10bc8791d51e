import math

import numpy as np
import pytest
import tensorflow as tf

from wmr_tf.checks import InvalidInput
from wmr_tf.losses import (
    cross_entropy,
    difference_of_logits_ratio,
    kl_divergence,
    logit_margin,
    targeted_difference_of_logits_ratio,
    unsaturated,
    unsaturated_cross_entropy,
    verdict,
    weighted_cross_entropy,
    weighted_kl_divergence,
)
from wmr_tf.weights import Exponential

ALPHAS = (0.0, 0.5, 2.0, 5.0)


def log_softmax(logits):
    logits = np.asarray(logits, np.float64)
    shifted = logits - logits.max()
    return shifted - np.log(np.exp(shifted).sum())


def weight_by_hand(logits, label, alpha):
    p = np.exp(log_softmax(logits))
    return np.exp(-alpha * (p[label] - np.delete(p, label).max()))


def weighted_ce_by_hand(logits, label, alpha):
    return weight_by_hand(logits, label, alpha) * -log_softmax(logits)[label]


def weighted_kl_by_hand(clean, logits, label, alpha):
    log_p, log_q = log_softmax(clean), log_softmax(logits)
    return weight_by_hand(logits, label, alpha) * np.sum(np.exp(log_p) * (log_p - log_q))


def slopes(function, at, step=1e-5):
    """The gradient of a function of one vector by central differences."""
    return np.array([(function(at + e) - function(at - e)) / (2 * step) for e in step * np.eye(len(at))])


def cases(*, images=12, scale=1.0, dtype=np.float32):
    """Yield clean logits, attacked logits and labels, for 2, 3, 10 and 20 classes."""
    rng = np.random.default_rng(0)
    for classes in (2, 3, 10, 20):
        clean, attacked = (scale * rng.standard_normal([2, images, classes])).astype(dtype)
        yield clean, attacked, rng.integers(classes, size=images)


def value_and_gradient(loss, *arguments):
    """The per-example losses, and the gradient of each with respect to each of the arguments."""
    arguments = [tf.constant(argument) for argument in arguments]
    with tf.GradientTape() as tape:
        tape.watch(arguments)
        values = loss(*arguments)
    assert values.shape == arguments[0].shape[:1]
    assert values.dtype == tf.float32
    return values.numpy(), [gradient.numpy() for gradient in tape.gradient(values, arguments)]


def close(actual, expected):
    """To float32's accuracy, which in a sum with cancellations is relative to the largest number and not below 2e-6."""
    expected = np.asarray(expected)
    np.testing.assert_allclose(actual, expected, rtol=2e-4, atol=2e-5 * max(np.abs(expected).max(), 0.1))


@pytest.mark.parametrize("alpha", ALPHAS)
@pytest.mark.parametrize("scale", [0.01, 1.0, 10.0, 100.0])
def test_values_against_numpy(alpha, scale):
    for clean, attacked, labels in cases(images=100, scale=scale):
        close(
            weighted_cross_entropy(attacked, labels, alpha),
            [weighted_ce_by_hand(*pair, alpha) for pair in zip(attacked, labels, strict=True)],
        )
        close(
            weighted_kl_divergence(clean, attacked, labels, alpha),
            [weighted_kl_by_hand(*three, alpha) for three in zip(clean, attacked, labels, strict=True)],
        )


@pytest.mark.parametrize("alpha", ALPHAS)
def test_gradient_of_weighted_cross_entropy_by_finite_differences(alpha):
    for _, logits, labels in cases(scale=2.0):
        _, [gradient] = value_and_gradient(lambda z, y=labels: weighted_cross_entropy(z, y, alpha), logits)
        for z, y, found in zip(logits.astype(np.float64), labels, gradient, strict=True):
            close(found, slopes(lambda at, y=y: weighted_ce_by_hand(at, y, alpha), z))


@pytest.mark.parametrize("alpha", ALPHAS)
def test_gradients_of_weighted_kl_divergence_by_finite_differences(alpha):
    for clean, attacked, labels in cases(scale=2.0):
        _, gradients = value_and_gradient(
            lambda c, z, y=labels: weighted_kl_divergence(c, z, y, alpha), clean, attacked
        )
        for c, z, y, of_clean, of_attacked in zip(
            clean.astype(np.float64), attacked.astype(np.float64), labels, *gradients, strict=True
        ):
            close(of_clean, slopes(lambda at, z=z, y=y: weighted_kl_by_hand(at, z, y, alpha), c))
            close(of_attacked, slopes(lambda at, c=c, y=y: weighted_kl_by_hand(c, at, y, alpha), z))


def test_stopped_weights_scale_the_plain_gradient():
    alpha = 2.0
    for clean, attacked, labels in cases():
        s = np.array([weight_by_hand(*pair, alpha) for pair in zip(attacked, labels, strict=True)])[:, np.newaxis]
        for weighted, plain, arguments in (
            (weighted_cross_entropy, lambda z, y: cross_entropy(z, y), [attacked]),
            (weighted_kl_divergence, lambda c, z, y: kl_divergence(c, z), [clean, attacked]),
        ):
            flowing, stopped = (
                value_and_gradient(
                    lambda *a, y=labels, f=weighted, w=Exponential(alpha, stop_gradient=stop): f(*a, y, w), *arguments
                )
                for stop in (False, True)
            )
            _, of_plain = value_and_gradient(lambda *a, y=labels, f=plain: f(*a, y), *arguments)
            np.testing.assert_array_equal(stopped[0], flowing[0])
            for found, gradient in zip(stopped[1], of_plain, strict=True):
                np.testing.assert_allclose(found, s * gradient, rtol=1e-5, atol=1e-6)
            assert np.abs(stopped[1][-1] - flowing[1][-1]).max() > 0.1


@pytest.mark.parametrize("stop", [False, True])
def test_normalised_weights_give_the_weighted_mean_and_a_constant_denominator(stop):
    alpha = 2.0
    for clean, attacked, labels in cases():
        for weighted, by_hand, arguments in (
            (weighted_cross_entropy, weighted_ce_by_hand, [attacked]),
            (weighted_kl_divergence, weighted_kl_by_hand, [clean, attacked]),
        ):
            s = [weight_by_hand(z, y, alpha) for z, y in zip(attacked, labels, strict=True)]
            s_times_l = [by_hand(*row, alpha) for row in zip(*arguments, labels, strict=True)]
            (values, gradients), (_, of_sum) = (
                value_and_gradient(
                    lambda *a, y=labels, f=weighted, w=Exponential(alpha, stop_gradient=stop, normalize=n): f(*a, y, w),
                    *arguments,
                )
                for n in (True, False)
            )
            assert values.mean() == pytest.approx(np.sum(s_times_l) / np.sum(s), rel=1e-4)
            # d/dz sum(s l) / sum(s) with the denominator held fixed; through it, another term would be there.
            for found, gradient in zip(gradients, of_sum, strict=True):
                np.testing.assert_allclose(found, gradient / np.mean(s), rtol=1e-4, atol=1e-6)


def test_normalised_weights_average_to_1():
    _, attacked, labels = next(cases())
    assert Exponential(2.0, normalize=True)(attacked, labels).numpy().mean() == pytest.approx(1, rel=1e-6)
    np.testing.assert_array_equal(Exponential(0.0, normalize=True)(attacked, labels), np.ones(len(labels)))
    assert Exponential(2.0)(attacked, labels).numpy().mean() > 1.1  # so there was something to divide by


@pytest.mark.parametrize("alpha", [0.0, Exponential(0.0)])
@pytest.mark.parametrize("scale", [1.0, 100.0])
def test_alpha_zero_is_bitwise_the_plain_loss_and_gradient(alpha, scale):
    for clean, attacked, labels in cases(scale=scale):
        for weighted, plain in (
            (
                value_and_gradient(lambda z, y=labels: weighted_cross_entropy(z, y, alpha), attacked),
                value_and_gradient(lambda z, y=labels: cross_entropy(z, y), attacked),
            ),
            (
                value_and_gradient(lambda c, z, y=labels: weighted_kl_divergence(c, z, y, alpha), clean, attacked),
                value_and_gradient(kl_divergence, clean, attacked),
            ),
        ):
            np.testing.assert_array_equal(weighted[0], plain[0])
            for one, other in zip(weighted[1], plain[1], strict=True):
                np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("dtype", [tf.bfloat16, tf.float16])
def test_half_precision_logits_are_taken_in_float32(dtype):
    for clean, attacked, labels in cases(dtype=dtype.as_numpy_dtype, scale=5.0):
        in_float32 = [logits.astype(np.float32) for logits in (clean, attacked)]
        for half, full in (
            (cross_entropy(attacked, labels), cross_entropy(in_float32[1], labels)),
            (kl_divergence(clean, attacked), kl_divergence(*in_float32)),
            (weighted_cross_entropy(attacked, labels, 2.0), weighted_cross_entropy(in_float32[1], labels, 2.0)),
            (weighted_kl_divergence(clean, attacked, labels, 2.0), weighted_kl_divergence(*in_float32, labels, 2.0)),
        ):
            assert half.dtype == tf.float32
            np.testing.assert_array_equal(half, full)


def test_labels_may_be_one_hot():
    for clean, attacked, labels in cases():
        one_hot = np.eye(attacked.shape[1], dtype=np.float32)[labels]
        for loss in (
            lambda y, z=attacked: cross_entropy(z, y),
            lambda y, z=attacked: weighted_cross_entropy(z, y, 2.0),
            lambda y, c=clean, z=attacked: weighted_kl_divergence(c, z, y, 2.0),
        ):
            np.testing.assert_array_equal(loss(one_hot), loss(labels))


def test_divergence_is_zero_between_equals_and_finite_between_extremes():
    logits = tf.constant([[1e4, -1e4, 0.0], [0.5, 0.25, -3.0]])
    assert kl_divergence(logits, logits).numpy().tolist() == [0.0, 0.0]
    assert kl_divergence(logits, -logits).numpy()[0] == 2e4
    _, gradients = value_and_gradient(kl_divergence, logits, -logits)
    assert np.isfinite(gradients).all()


@pytest.mark.parametrize("loss", [cross_entropy, lambda z, y: weighted_cross_entropy(z, y, 1.0)])
def test_wrong_shapes_are_refused(loss):
    with pytest.raises(InvalidInput, match=r"^logits: got shape \(3, 1\), expected .* at least two classes"):
        loss(tf.zeros([3, 1]), [0, 0, 0])
    with pytest.raises(InvalidInput, match=r"^labels: got shape \(3, 4\), expected .* one-hot \[batch, 5\]"):
        loss(tf.zeros([3, 5]), np.eye(4)[:3])


# The losses of attacks, functions of logits alone


def in_order(logits):
    return np.sort(logits)[::-1]


def margin_by_hand(logits, label):
    return logits[label] - np.delete(logits, label).max()


def ratio_by_hand(logits, label):
    largest = in_order(logits)
    below = largest[0] - largest[2] if len(logits) > 2 else 1
    return -margin_by_hand(logits, label) / below


def targeted_ratio_by_hand(logits, label, target):
    largest = in_order(logits)
    below = {2: 1, 3: largest[0] - largest[-1]}.get(len(logits), largest[0] - (largest[2:4].sum() / 2))
    return (logits[target] - logits[label]) / below


Z = [5.0, 3.0, 2.0, 1.0]


@pytest.mark.parametrize(("label", "value"), [(0, -2 / 3), (1, 2 / 3), (2, 1), (3, 4 / 3)])
def test_dlr_has_the_values_computed_by_hand(label, value):
    assert difference_of_logits_ratio(tf.constant([Z]), [label]).numpy() == pytest.approx(value)


@pytest.mark.parametrize(("label", "target", "value"), [(0, 2, -6 / 7), (0, 1, -4 / 7), (2, 0, 6 / 7), (3, 2, 2 / 7)])
def test_targeted_dlr_has_the_values_computed_by_hand(label, target, value):
    found = targeted_difference_of_logits_ratio(tf.constant([Z]), [label], [target])
    assert found.numpy() == pytest.approx(value)


@pytest.mark.parametrize(("label", "value"), [(0, 2), (1, -2), (2, -3), (3, -4)])
def test_the_logit_margin_has_the_values_computed_by_hand(label, value):
    assert logit_margin(tf.constant([Z]), [label]).numpy() == value


def test_ratios_of_two_and_three_classes_have_the_denominators_that_are_left():
    two, three = tf.constant([[1.0, 4.0]]), tf.constant([[1.0, 4.0, 2.0]])
    assert difference_of_logits_ratio(two, [0]).numpy() == 3
    assert targeted_difference_of_logits_ratio(two, [1], [0]).numpy() == -3
    assert difference_of_logits_ratio(three, [2]).numpy() == pytest.approx(2 / 3)
    assert targeted_difference_of_logits_ratio(three, [1], [2]).numpy() == pytest.approx(-2 / 3)


def targets_of(labels, classes):
    return (labels + 1 + np.arange(len(labels)) % (classes - 1)) % classes


def test_losses_of_attacks_and_their_gradients_against_numpy():
    for _, logits, labels in cases(scale=3.0):
        targets = targets_of(labels, logits.shape[1])
        for loss, by_hand, more in (
            (logit_margin, margin_by_hand, []),
            (difference_of_logits_ratio, ratio_by_hand, []),
            (targeted_difference_of_logits_ratio, targeted_ratio_by_hand, [targets]),
        ):
            values, [gradient] = value_and_gradient(lambda z, f=loss, y=labels, m=more: f(z, y, *m), logits)
            rows = zip(logits.astype(np.float64), labels, *more, values, gradient, strict=True)
            for z, *classes, value, of_value in rows:
                close(value, by_hand(z, *classes))
                close(of_value, slopes(lambda at, f=by_hand, c=classes: f(at, *c), z))


def test_ratios_do_not_change_with_the_temperature():
    for _, logits, labels in cases():
        if logits.shape[1] < 3:
            continue
        targets = targets_of(labels, logits.shape[1])
        for scale, shift in ((100.0, 7.0), (0.01, -3.0)):
            moved = scale * logits + np.float32(scale * shift)
            for loss, *more in ((difference_of_logits_ratio,), (targeted_difference_of_logits_ratio, targets)):
                np.testing.assert_allclose(loss(moved, labels, *more), loss(logits, labels, *more), rtol=1e-3)


def test_ratios_of_logits_that_are_all_alike_are_finite():
    equal = tf.ones([1, 5])
    for loss in (
        lambda z: difference_of_logits_ratio(z, [1]),
        lambda z: targeted_difference_of_logits_ratio(z, [1], [2]),
    ):
        value, [gradient] = value_and_gradient(loss, equal)
        assert value == 0
        assert np.isfinite(gradient).all()


def test_dlr_is_positive_iff_misclassified_and_targeted_iff_the_target_is_ahead():
    for _, logits, labels in cases(images=50):
        targets = targets_of(labels, logits.shape[1])
        rows = np.arange(len(labels))
        is_wrong = logits.argmax(axis=1) != labels
        assert np.array_equal(difference_of_logits_ratio(logits, labels).numpy() > 0, is_wrong)
        is_ahead = logits[rows, targets] > logits[rows, labels]
        found = targeted_difference_of_logits_ratio(logits, labels, targets).numpy()
        assert np.array_equal(found > 0, is_ahead)


def test_the_verdict_is_negative_iff_argmax_gives_another_class():
    rng = np.random.default_rng(0)
    logits, labels = rng.integers(3, size=[500, 4]).astype(np.float32), rng.integers(4, size=500)  # many ties
    found, margins = verdict(logits, labels).numpy(), logit_margin(logits, labels).numpy()
    assert np.array_equal(found < 0, logits.argmax(axis=1) != labels)
    assert np.array_equal(found[margins != 0], margins[margins != 0])
    assert (margins == 0).sum() > 50
    np.testing.assert_allclose(found, margins, rtol=0, atol=1e-20)


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("place", range(3))
def test_the_verdict_is_nan_where_a_logit_is_no_number(place, value):
    logits = np.float32([[3, 2, 1], [3, 2, 1]])
    logits[0, place] = value
    for function in (verdict, tf.function(verdict)):  # in a graph 0 times something may become 0
        assert np.isnan(function(tf.constant(logits), tf.constant([0, 0])).numpy()).tolist() == [True, False]


@pytest.mark.parametrize("gap", [0.0, 9.99, 10.0, -30.0])
def test_logits_that_do_not_saturate_are_left_as_they_are(gap):
    logits = tf.constant([[gap, 0.0, -1.0]])
    assert np.array_equal(unsaturated(logits, [0]), logits)


@pytest.mark.parametrize("gap", [10.0, 20.0, 100.0, 1e4])
def test_the_gradient_of_unsaturated_cross_entropy_is_that_of_exact_arithmetic_at_a_margin_of_10(gap):
    logits = np.float32([[gap + 0.5, 0.5, 0.5 - gap / 5]])
    _, [gradient] = value_and_gradient(lambda z: unsaturated_cross_entropy(z, [0]), logits)
    scaled = np.exp(log_softmax(logits[0].astype(np.float64) * 10 / gap)) - [1, 0, 0]
    np.testing.assert_allclose(gradient[0] / np.abs(gradient).max(), scaled / np.abs(scaled).max(), rtol=0, atol=2e-3)
    if gap >= 20:
        _, [lost] = value_and_gradient(lambda z: cross_entropy(z, [0]), logits)
        assert lost[0, 0] == 0  # so there was something to mend


def test_unsaturated_logits_have_a_margin_of_10_and_the_same_order():
    _, logits, labels = list(cases(scale=40.0))[2]
    found = unsaturated(logits, labels).numpy()
    assert np.array_equal(found.argsort(axis=1), logits.argsort(axis=1))
    margins = logit_margin(logits, labels).numpy()
    np.testing.assert_allclose(logit_margin(found, labels), np.minimum(margins, 10), rtol=1e-5)


def test_unsaturated_cross_entropy_orders_points_by_their_margins_beyond_10_and_is_itself_below():
    """Here cross-entropy is 0 for most, and that of `unsaturated` logits rises and falls with the third class."""
    margins = np.float32([9.0, 9.99, 10.01, 11.0, 20.0, 100.0, 1e4])
    for third in (0.0, -0.5, -1.0):  # as a part of the margin
        logits = np.stack([margins, 0 * margins, third * margins * (np.arange(7) % 2)], axis=1)
        found = unsaturated_cross_entropy(logits, np.zeros(7, np.int32)).numpy()
        assert (np.diff(found) < 0).all()
        assert found[-1] > 0
        assert np.array_equal(found[:2], cross_entropy(logits[:2], np.zeros(2, np.int32)))


@pytest.mark.parametrize(
    "loss", [logit_margin, verdict, unsaturated, unsaturated_cross_entropy, difference_of_logits_ratio]
)
def test_losses_of_attacks_take_one_hot_labels_and_half_precision(loss):
    for _, logits, labels in cases(dtype=np.float16, scale=20.0):
        one_hot = np.eye(logits.shape[1], dtype=np.float32)[labels]
        found = loss(logits, one_hot)
        assert found.dtype == tf.float32
        assert np.array_equal(found, loss(logits.astype(np.float32), labels))
