import numpy as np
import pytest
import tensorflow as tf

from wmr_tf.checks import InvalidInput
from wmr_tf.losses import cross_entropy, kl_divergence, weighted_cross_entropy, weighted_kl_divergence
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
