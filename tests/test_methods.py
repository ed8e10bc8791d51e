"""The training methods against plain TensorFlow loops, and against NumPy on a linear classifier."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

from wmr_tf import AdversarialModel, InvalidInput, attacks, methods
from wmr_tf.weights import Exponential

CLASSES = 3
ATTACK = attacks.PGD(epsilon=0.2, step_size=0.07, steps=3)
NOT_AN_AMOUNT = [-1.0, float("nan"), float("inf"), "much", None]


def data(*shape, batch=16):
    rng = np.random.default_rng(0)
    return rng.random((batch, *shape), dtype="float32"), rng.integers(0, CLASSES, batch)


def linear(features=4, **kwargs):
    keras.utils.set_random_seed(1)
    dense = keras.layers.Dense(CLASSES, kernel_initializer=keras.initializers.RandomNormal(stddev=1.0), **kwargs)
    return keras.Sequential([keras.Input([features]), dense])


def convnet():
    keras.utils.set_random_seed(1)
    layers = [keras.layers.Conv2D(6, 3, activation="relu"), keras.layers.Flatten(), keras.layers.Dense(CLASSES)]
    return keras.Sequential([keras.Input([5, 5, 1]), *layers])


def losses_of_training(classifier, method, x, y, *, steps=1, rate=0.5, seed=0, eager=True):
    """Train with plain SGD on one and the same batch; return the loss of each step.

    Not in a graph, whose making would take most of the time: that it is the same there is a test of its own.
    """
    model = AdversarialModel(classifier, method, seed=seed)
    model.compile(optimizer=keras.optimizers.SGD(rate), run_eagerly=eager)
    return model.fit(x, y, batch_size=len(y), epochs=steps, shuffle=False, verbose=0).history["loss"]


# The methods without weights, written out


def plain_cross_entropy(logits, y):
    return keras.losses.sparse_categorical_crossentropy(y, logits, from_logits=True)


def plain_divergence(clean, logits):
    log_p, log_q = tf.nn.log_softmax(clean), tf.nn.log_softmax(logits)
    return tf.reduce_sum(tf.nn.softmax(clean) * (log_p - log_q), axis=1)


def step_seed(seed, step):
    """The seed of a training step on the only replica."""
    folded = tf.random.experimental.stateless_fold_in(tf.constant([0, seed]), step)
    return tf.random.experimental.stateless_fold_in(folded, 0)


def plain_attack(loss, x, start, attack=ATTACK):
    low, high = np.maximum(x - attack.epsilon, 0), np.minimum(x + attack.epsilon, 1)
    attacked = tf.clip_by_value(start, low, high)
    for _ in range(attack.steps):
        with tf.GradientTape() as tape:
            tape.watch(attacked)
            value = tf.reduce_sum(loss(attacked))
        ascended = attacked + attack.step_size * tf.sign(tape.gradient(value, attacked))
        attacked = tf.clip_by_value(ascended, low, high)
    return attacked


def plain_descent(classifier, loss, rate=0.5):
    with tf.GradientTape() as tape:
        value = tf.reduce_mean(loss())
    for weight, gradient in zip(classifier.weights, tape.gradient(value, classifier.weights), strict=True):
        weight.assign_sub(rate * gradient)
    return float(value)


def plain_pgd_step(classifier, x, y, step):
    start = x + ATTACK.epsilon * tf.random.stateless_uniform(x.shape, step_seed(7, step), -1, 1)
    attacked = plain_attack(lambda images: plain_cross_entropy(classifier(images), y), x, start)
    return plain_descent(classifier, lambda: plain_cross_entropy(classifier(attacked), y))


def plain_trades_step(classifier, x, y, step):
    start = x + 0.001 * tf.random.stateless_normal(x.shape, step_seed(7, step))
    clean = classifier(x)
    attacked = plain_attack(lambda images: plain_divergence(clean, classifier(images)), x, start)

    def loss():
        clean = classifier(x)
        return plain_cross_entropy(clean, y) + 2.5 * plain_divergence(clean, classifier(attacked))

    return plain_descent(classifier, loss)


GAUSSIAN = dataclasses.replace(ATTACK, start="gaussian")
ONE_STEP = attacks.PGD(epsilon=0.2, step_size=0.25, steps=1)
N_FGSM = attacks.NFGSM(epsilon=0.2)


def method_named(name, **settings):
    """Return a method by its name on the command line; without random numbers where it can do without."""
    clean = dataclasses.replace(ATTACK, start="none")
    of_its_own = {"trades": GAUSSIAN, "fast": ONE_STEP, "n_fgsm": N_FGSM, "free": attacks.FGSM(0.2)}
    if name != "natural":
        settings = {"attack": of_its_own.get(name, clean), "alpha": 1.5, **settings}
    if name == "iaat":
        settings = {"examples": 20, "warmup_epochs": 0, "radius_growth": 0.05, **settings}
    return methods.BY_NAME[name](**settings)


@pytest.mark.parametrize("name", methods.BY_NAME)
def test_a_step_in_a_graph_is_that_without_one(name):
    x, y = data(5, 5, 1)
    images = {"image": x, "index": np.arange(16)} if name == "iaat" else x
    graph, eager = convnet(), convnet()
    losses = losses_of_training(graph, method_named(name), images, y, steps=2, eager=False)
    assert losses == pytest.approx(losses_of_training(eager, method_named(name), images, y, steps=2), rel=1e-6)
    for weight, expected in zip(graph.get_weights(), eager.get_weights(), strict=True):
        np.testing.assert_allclose(weight, expected, atol=1e-6)


@pytest.mark.parametrize(
    ("method", "plain_step"),
    [(methods.PGD(ATTACK), plain_pgd_step), (methods.TRADES(GAUSSIAN, beta=2.5), plain_trades_step)],
    ids=["pgd", "trades"],
)
def test_alpha_0_is_the_plain_method_step_for_step(method, plain_step):
    x, y = data(5, 5, 1)
    ours, plain = convnet(), convnet()
    losses = losses_of_training(ours, method, x, y, steps=4, seed=7, eager=False)
    np.testing.assert_allclose(losses, [plain_step(plain, x, y, step) for step in range(4)], rtol=1e-5)
    for weight, expected in zip(ours.get_weights(), plain.get_weights(), strict=True):
        np.testing.assert_allclose(weight, expected, atol=2e-6)


def test_trades_with_beta_0_is_natural_training():
    x, y = data(5, 5, 1)
    trades, natural, start = convnet(), convnet(), convnet()
    losses_of_training(trades, methods.TRADES(GAUSSIAN, beta=0.0, alpha=2.0), x, y, steps=4)
    losses_of_training(natural, methods.Natural(), x, y, steps=4)
    for weight, expected, before in zip(*(m.get_weights() for m in (trades, natural, start)), strict=True):
        np.testing.assert_allclose(weight, expected, atol=1e-6)
        assert np.abs(weight - before).max() > 1e-2


# The weighted methods on a linear classifier, derivatives by hand in float64


def softmax(z):
    exp = np.exp(z - z.max(axis=1, keepdims=True))
    return exp / exp.sum(axis=1, keepdims=True)


def weights_by_hand(z, y, alpha):
    """`s = exp(-alpha m)` with `m = p_y - p_j`, j the strongest other class, and ds/dz."""
    p, rows, one_hot = softmax(z), np.arange(len(y)), np.eye(CLASSES)
    j = np.where(one_hot[y] == 1, -1, p).argmax(axis=1)
    p_y, p_j = p[rows, y, np.newaxis], p[rows, j, np.newaxis]
    s = np.exp(-alpha * (p_y - p_j))
    return s, -alpha * s * (p_y * (one_hot[y] - p) - p_j * (one_hot[j] - p))


def cross_entropy_by_hand(z, y, alpha=0.0, stop=False):
    """`s CE` and its derivative by z."""
    p, (s, slope) = softmax(z), weights_by_hand(z, y, alpha)
    ce = -np.log(p[np.arange(len(y)), y, np.newaxis])
    return s * ce, s * (p - np.eye(CLASSES)[y]) + (0 if stop else ce * slope)


def divergence_by_hand(clean, z, y, alpha, stop=False):
    """`s KL(p || q)`, its derivatives by the clean logits and by z."""
    p, q, (s, slope) = softmax(clean), softmax(z), weights_by_hand(z, y, alpha)
    log_ratio = np.log(p / q)
    kl = np.sum(p * log_ratio, axis=1, keepdims=True)
    return s * kl, s * p * (log_ratio - kl), s * (q - p) + (0 if stop else kl * slope)


def one_step(x, start, step_size, slope_of_logits, kernel, epsilon=0.2):
    attacked = np.clip(start, 0, 1) + step_size * np.sign(slope_of_logits @ kernel.T)
    return np.clip(attacked, np.maximum(x - epsilon, 0), np.minimum(x + epsilon, 1))


WEIGHTS = [(0.0, False), (1.5, False), (1.5, True)]


@pytest.mark.parametrize(("alpha", "stop"), WEIGHTS)
def test_a_pgd_step_on_a_linear_classifier_by_hand(alpha, stop):
    x, y = data(4)
    classifier = linear()
    kernel, bias = (weight.astype("float64") for weight in classifier.get_weights())
    attack = attacks.PGD(epsilon=0.1, step_size=0.1, steps=1, start="none")
    (logged,) = losses_of_training(classifier, methods.PGD(attack, alpha=Exponential(alpha, stop_gradient=stop)), x, y)

    _, slope = cross_entropy_by_hand(x @ kernel + bias, y, alpha, stop)
    attacked = one_step(x, x, 0.1, slope, kernel)
    losses, slope = cross_entropy_by_hand(attacked @ kernel + bias, y, alpha, stop)
    assert logged == pytest.approx(losses.mean(), rel=1e-5)
    assert_descended(classifier, kernel - 0.5 * attacked.T @ slope / len(x), bias - 0.5 * slope.mean(axis=0))


def test_who_trains_with_an_attack_that_cannot_reach_its_ball_is_warned():
    attack = attacks.PGD(epsilon=0.2, step_size=0.05, steps=3)
    for method in (methods.PGD, methods.TRADES, methods.MART, methods.Mixed):
        with pytest.warns(UserWarning, match="^attack: its steps reach 0.15 in all and epsilon is 0.2, so"):
            method(attack)
    with pytest.warns(UserWarning, match="^attack: its steps reach 0.15 in all"):
        methods.YOPO(attack, passes=1)
    methods.YOPO(attack, passes=2)  # its steps go on behind each pass,
    step = attacks.PGD(epsilon=0.2, step_size=0.01, steps=1, start="none")
    methods.Free(step, replays=2)  # and those of free from batch to batch


@pytest.mark.filterwarnings("ignore:attack. its steps reach")
@pytest.mark.parametrize(("alpha", "stop"), WEIGHTS)
def test_a_trades_step_on_a_linear_classifier_by_hand(alpha, stop):
    x, y = data(4)
    classifier = linear()
    kernel, bias = (weight.astype("float64") for weight in classifier.get_weights())
    attack = attacks.PGD(epsilon=0.2, step_size=0.1, steps=1, start="gaussian")
    method = methods.TRADES(attack, beta=3.0, alpha=Exponential(alpha, stop_gradient=stop))
    (logged,) = losses_of_training(classifier, method, x, y)

    clean = x @ kernel + bias
    start = x + 0.001 * tf.random.stateless_normal(x.shape, step_seed(0, 0)).numpy()
    _, _, slope = divergence_by_hand(clean, start @ kernel + bias, y, alpha, stop)  # clean logits held fixed
    attacked = one_step(x, start, 0.1, slope, kernel)
    natural, by_clean = cross_entropy_by_hand(clean, y)
    divergence, also_by_clean, by_attacked = divergence_by_hand(clean, attacked @ kernel + bias, y, alpha, stop)
    by_clean, by_attacked = by_clean + 3.0 * also_by_clean, 3.0 * by_attacked  # and here through both branches
    assert logged == pytest.approx(np.mean(natural + 3.0 * divergence), rel=1e-5)
    assert_descended(
        classifier,
        kernel - 0.5 * (x.T @ by_clean + attacked.T @ by_attacked) / len(x),
        bias - 0.5 * (by_clean + by_attacked).mean(axis=0),
    )


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize(("alpha", "stop"), WEIGHTS)
@pytest.mark.parametrize("name", ["pgd", "fast", "free", "yopo", "iaat"])
def test_where_no_image_moves_a_step_is_that_on_the_weighted_losses_by_hand(name, alpha, stop, normalize):
    x, y = data(4)
    classifier = linear()
    kernel, bias = (weight.astype("float64") for weight in classifier.get_weights())
    start = "uniform" if name == "fast" else "none"
    attack = attacks.PGD(epsilon=0.0, step_size=0.1, steps=1, start=start)
    settings = {"alpha": Exponential(alpha, stop_gradient=stop, normalize=normalize)}
    settings |= {"free": {"replays": 1}, "yopo": {"passes": 2, "split": classifier.layers[-1].name}}.get(name, {})
    settings |= {"radius_growth": 0.0} if name == "iaat" else {}
    (logged,) = losses_of_training(
        classifier,
        method_named(name, attack=attack, **settings),
        {"image": x, "index": np.arange(16)} if name == "iaat" else x,
        y,
    )
    losses, slope = cross_entropy_by_hand(x @ kernel + bias, y, alpha, stop)
    weights, _ = weights_by_hand(x @ kernel + bias, y, alpha)
    by = weights.mean() if normalize else 1.0
    assert logged == pytest.approx(losses.mean() / by, rel=1e-5)
    assert_descended(classifier, kernel - 0.5 * x.T @ slope / by / len(x), bias - 0.5 * slope.mean(axis=0) / by)


def assert_descended(classifier, kernel, bias):
    got_kernel, got_bias = classifier.get_weights()
    np.testing.assert_allclose(got_kernel, kernel, atol=2e-6)
    np.testing.assert_allclose(got_bias, bias, atol=2e-6)


# What an attack leaves alone, and what the update adds

ALL_METHODS = [
    methods.Natural,
    lambda: methods.PGD(ATTACK, alpha=1.0),
    lambda: methods.TRADES(GAUSSIAN, alpha=1.0),
    lambda: methods.MART(GAUSSIAN, alpha=1.0),
    lambda: methods.Mixed(ATTACK, alpha=1.0),
    lambda: methods.Fast(ONE_STEP, alpha=1.0),
    lambda: methods.Fast(N_FGSM, alpha=1.0),
]


WEIGHTED = {
    "pgd": lambda **weighting: methods.PGD(ATTACK, **weighting),
    "trades": lambda **weighting: methods.TRADES(GAUSSIAN, beta=3.0, **weighting),
    "mart": lambda **weighting: methods.MART(GAUSSIAN, **weighting),
    "mixed": lambda **weighting: methods.Mixed(ATTACK, **weighting),
    "fast": lambda **weighting: methods.Fast(ONE_STEP, **weighting),
}


@pytest.mark.parametrize("name", WEIGHTED)
def test_normalised_weights_are_off_by_default(name):
    assert WEIGHTED[name](alpha=1.5).weighting == Exponential(1.5, stop_gradient=False, normalize=False)


@pytest.mark.parametrize("name", WEIGHTED)
def test_normalised_weights_divide_the_step_and_leave_the_attack_alone(name):
    x, y = data(5, 5, 1)
    seen = {}
    for normalise in (False, True):
        classifier = convnet()
        method = WEIGHTED[name](alpha=Exponential(1.5, normalize=normalise))
        attack, calls = method.attack, []

        def spy(loss_fn, images, *, seed, score_fn=None, epsilon=None, attack=attack, calls=calls):
            calls.append((loss_fn(images), attack(loss_fn, images, seed=seed)))
            return calls[-1][1]

        method.attack = spy
        model = AdversarialModel(classifier, method)
        model.compile(optimizer=keras.optimizers.SGD(0.5), run_eagerly=True)
        before = classifier.get_weights()
        model.train_on_batch(x, y)
        steps = [after - old for after, old in zip(classifier.get_weights(), before, strict=True)]
        seen[normalise] = (*calls[0], classifier, steps)

    for plain, normalised in zip(seen[False][:2], seen[True][:2], strict=True):
        np.testing.assert_array_equal(plain, normalised)  # the losses that the attack saw, and what it made
    weights, _ = weights_by_hand(convnet()(seen[True][1]).numpy().astype("float64"), y, 1.5)
    for plain, normalised in zip(seen[False][-1], seen[True][-1], strict=True):
        if name in ("pgd", "fast", "mart"):  # where all of the loss is weighted, the whole step is divided
            np.testing.assert_allclose(normalised, plain / weights.mean(), atol=1e-5)
        assert np.abs(normalised - plain).max() > 1e-4


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
@pytest.mark.parametrize("name", WEIGHTED)
def test_a_step_in_half_precision_is_near_that_in_float32(name, policy):
    method = WEIGHTED[name](alpha=1.0)
    # From 0.001 beside the clean image the divergence's gradient is lost in bfloat16's rounding: start further off.
    method.attack = {"fast": ONE_STEP}.get(name, ATTACK)
    x, y = data(5, 5, 1)
    steps = {}
    for dtype in ("float32", policy):
        keras.config.set_dtype_policy(dtype)
        classifier = convnet()
        before = classifier.get_weights()
        losses_of_training(classifier, method, x, y, rate=0.1, eager=dtype == "float32")
        assert all(weight.dtype == tf.float32 for weight in classifier.weights)
        steps[dtype] = np.concatenate(
            [(after - old).ravel() for after, old in zip(classifier.get_weights(), before, strict=True)]
        )
    np.testing.assert_allclose(steps[policy], steps["float32"], atol=0.15 * np.abs(steps["float32"]).max())


@pytest.mark.parametrize("name", ["pgd", "trades"])
def test_batch_statistics_move_in_the_update_only(name):
    def network():
        keras.utils.set_random_seed(1)
        norm = keras.layers.BatchNormalization(momentum=0.9, moving_mean_initializer="random_normal")
        layers = [keras.layers.Dense(5), norm, keras.layers.ReLU(), keras.layers.Dense(CLASSES)]
        return keras.Sequential([keras.Input([4]), *layers])

    def statistics(classifier):
        return [weight.numpy() for weight in classifier.non_trainable_weights]

    x, y = data(4)
    classifier, expected = network(), network()
    if name == "pgd":
        start = x + ATTACK.epsilon * tf.random.stateless_uniform(x.shape, step_seed(0, 0), -1, 1)
        attacked = plain_attack(lambda images: plain_cross_entropy(expected(images), y), x, start)
        losses_of_training(classifier, methods.PGD(ATTACK), x, y)
    else:
        start = x + 0.001 * tf.random.stateless_normal(x.shape, step_seed(0, 0))
        attacked = plain_attack(lambda images: plain_divergence(expected(x), expected(images)), x, start)
        losses_of_training(classifier, methods.TRADES(GAUSSIAN), x, y)
        expected(x, training=True)
    before = statistics(expected)
    expected(attacked, training=True)
    for got, wanted, old in zip(statistics(classifier), statistics(expected), before, strict=True):
        np.testing.assert_allclose(got, wanted, atol=1e-6)
        assert np.abs(wanted - old).max() > 1e-3


class Witness(keras.layers.Layer):
    """Notes in which mode it was traced."""

    def __init__(self):
        super().__init__()
        self.modes = []

    def call(self, x, training=False):
        self.modes.append(training)
        return x


@pytest.mark.parametrize(("make", "passes"), list(zip(ALL_METHODS, [1, 1, 2, 2, 2, 1, 1], strict=True)))
def test_dropout_and_batchnorm_are_in_training_mode_in_the_update_only(make, passes):
    x, y = data(4)
    witness = Witness()
    classifier = keras.Sequential([keras.Input([4]), witness, keras.layers.Dense(CLASSES)])
    witness.modes.clear()
    losses_of_training(classifier, make(), x, y)
    modes = list(witness.modes)
    assert modes[-passes:] == [True] * passes
    assert modes[:-passes] and not any(modes[:-passes])  # the look at the first batch, and the attack


@pytest.mark.parametrize("make", ALL_METHODS)
def test_kernel_regularizers_count_once(make):
    x, y = data(4)
    plain, regularised = linear(), linear(kernel_regularizer=keras.regularizers.L2(0.1))
    kernel, _ = plain.get_weights()
    (loss,) = losses_of_training(plain, make(), x, y)
    (loss_with_penalty,) = losses_of_training(regularised, make(), x, y)
    assert loss_with_penalty == pytest.approx(loss + 0.1 * np.sum(kernel**2), rel=1e-5)
    shift = regularised.get_weights()[0] - plain.get_weights()[0]
    np.testing.assert_allclose(shift, -0.5 * 2 * 0.1 * kernel, atol=2e-6)


@dataclasses.dataclass(frozen=True)
class Brighten(attacks.Attack):
    """Looks at the loss inside a loop, as attacks do, and adds 0.1 whatever it saw."""

    epsilon: float = 0.1

    starts_clean = False
    norm = "linf"

    def __call__(self, loss_fn, x, *, seed, score_fn=None, epsilon=None):
        _, seen = tf.while_loop(lambda k, _: k < 2, lambda k, _: (k + 1, loss_fn(x)), (0, tf.zeros(tf.shape(x)[0])))
        return tf.stop_gradient(x + 0.1 + 0.0 * seen[:, tf.newaxis])


@pytest.mark.parametrize(
    ("method", "brighter"),
    [
        (methods.Natural(), 0.0),
        (methods.PGD(Brighten()), 0.1),
        (methods.TRADES(Brighten()), 0.1),
        (methods.MART(Brighten()), 0.1),
        (methods.Mixed(Brighten()), 0.1),
        (methods.Fast(Brighten()), 0.1),
    ],
)
def test_activity_regularizers_count_in_the_last_forward_pass(method, brighter):
    x, y = data(4)
    plain, regularised = linear(), linear(activity_regularizer=lambda logits: 0.1 * keras.ops.sum(logits))
    (loss,) = losses_of_training(plain, method, x, y)
    # In a graph, where a loss of a layer in the attack's loop must not get out of it.
    (loss_with_penalty,) = losses_of_training(regularised, method, x, y, eager=False)
    # Keras divides what a layer adds by the batch size.
    last = x + brighter
    kernel, bias = linear().get_weights()
    assert loss_with_penalty == pytest.approx(loss + 0.1 * np.sum(last @ kernel + bias) / len(x), rel=1e-5)
    shift = regularised.get_weights()[0] - plain.get_weights()[0]
    np.testing.assert_allclose(shift, np.repeat(-0.5 * 0.1 * last.mean(axis=0)[:, np.newaxis], CLASSES, 1), atol=2e-6)


# What is refused, and what is saved


@pytest.mark.parametrize("value", NOT_AN_AMOUNT)
def test_amounts_below_zero_or_not_finite_are_refused(value):
    for make in (
        lambda alpha: methods.PGD(ATTACK, alpha=alpha),
        lambda alpha: methods.TRADES(ATTACK, beta=1, alpha=alpha),
        lambda alpha: methods.MART(ATTACK, alpha=alpha),
        lambda alpha: methods.Mixed(ATTACK, alpha=alpha),
        lambda alpha: methods.Fast(ONE_STEP, alpha=alpha),
    ):
        with pytest.raises(InvalidInput, match="alpha"):
            make(alpha=value)
    with pytest.raises(InvalidInput, match="beta"):
        methods.TRADES(ATTACK, beta=value)


def test_natural_training_has_no_alpha():
    with pytest.raises(TypeError, match="alpha"):
        methods.Natural(alpha=0.5)
    assert not hasattr(methods.Natural(), "alpha")


def test_trades_needs_an_attack_that_leaves_the_clean_image():
    for attack in (attacks.FGSM(0.1), attacks.PGD(epsilon=0.1, step_size=0.1, steps=1, start="none")):
        with pytest.raises(InvalidInput, match="expected a random start"):
            methods.TRADES(attack)


@pytest.mark.parametrize(
    "method",
    [
        methods.Natural(),
        methods.PGD(ATTACK, alpha=Exponential(0.5, stop_gradient=True)),
        methods.TRADES(GAUSSIAN, beta=3.0, alpha=2.0),
        methods.MART(GAUSSIAN, beta=3.0, alpha=Exponential(2.0, normalize=True)),
        methods.Mixed(ATTACK, adversarial_weight=0.5, alpha=Exponential(2.0, normalize=True)),
        methods.Fast(N_FGSM, alpha=Exponential(2.0, normalize=True)),
    ],
    ids=lambda method: type(method).__name__,
)
def test_a_method_survives_serialisation(method):
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(method))
    assert type(again) is type(method)
    assert all(getattr(again, name) == getattr(method, name) for name in type(method).settings())


def test_attack_and_method_of_one_name_are_registered_apart():
    names = [keras.saving.get_registered_name(kind) for kind in (attacks.PGD, methods.PGD)]
    assert names == ["wmr_tf.attacks>PGD", "wmr_tf.methods>PGD"]


@pytest.mark.parametrize("method", [methods.PGD, methods.TRADES, methods.MART, methods.Mixed, methods.Fast])
@pytest.mark.parametrize("attack", [None, 0.3])
def test_what_is_no_attack_is_refused(method, attack):
    with pytest.raises(InvalidInput, match=f"attack: got {attack}, expected a wmr_tf.attacks.Attack"):
        method(attack)
