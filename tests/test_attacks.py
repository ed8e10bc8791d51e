import dataclasses
import math
import re

import keras
import numpy as np
import pytest
import tensorflow as tf

from wmr_tf.attacks import APGD, FAB, FGSM, NFGSM, PGD, STARTS, MomentumPGD, Square
from wmr_tf.attacks.base import input_gradient, radius_flags, warn_if_weak
from wmr_tf.checks import InvalidInput
from wmr_tf.engine import seeds
from wmr_tf.losses import cross_entropy, weighted_cross_entropy, weighted_kl_divergence

# Every attack of the package that takes any loss; one that is added gets its line here. FAB and Square, whose loss must
# be a margin, have files of their own. The radius of each is 0.1 unless its name says 0.
ATTACKS = {
    "pgd_uniform": PGD(epsilon=0.1, step_size=0.01, steps=3),
    "pgd_gaussian": PGD(epsilon=0.1, step_size=0.01, steps=3, start="gaussian"),
    "pgd_none": PGD(epsilon=0.1, step_size=0.01, steps=3, start="none"),
    "pgd_restarts": PGD(epsilon=0.1, step_size=0.01, steps=3, restarts=4),
    "pgd_steps_beyond_the_ball": PGD(epsilon=0.1, step_size=0.4, steps=3),
    "pgd_l2_uniform": PGD(epsilon=0.1, step_size=0.02, steps=3, norm="l2"),
    "pgd_l2_steps_beyond_the_ball": PGD(epsilon=0.1, step_size=0.4, steps=3, norm="l2"),
    "pgd_l2_epsilon_0": PGD(epsilon=0.0, step_size=0.02, steps=3, norm="l2"),
    "pgd_l1_uniform": PGD(epsilon=0.1, step_size=0.02, steps=3, norm="l1"),
    "pgd_l1_restarts": PGD(epsilon=0.1, step_size=0.02, steps=3, restarts=2, norm="l1"),
    "pgd_l1_epsilon_0": PGD(epsilon=0.0, step_size=0.02, steps=3, norm="l1"),
    "pgd_epsilon_0": PGD(epsilon=0.0, step_size=0.01, steps=3, start="gaussian"),
    "fgsm": FGSM(epsilon=0.1),
    "momentum": MomentumPGD(epsilon=0.1, step_size=0.02, steps=3),
    "momentum_l2_uniform": MomentumPGD(epsilon=0.1, step_size=0.02, steps=3, norm="l2", start="uniform"),
    "apgd": APGD(epsilon=0.1, steps=5),
    "apgd_l2": APGD(epsilon=0.1, steps=5, norm="l2"),
    "apgd_l1": APGD(epsilon=0.1, steps=3, norm="l1", staged=True),
    "apgd_restarts": APGD(epsilon=0.1, steps=3, restarts=2),
}
STARTS_ANYWHERE = ("uniform", "gaussian", "restarts", "beyond", "apgd")
LENGTHS = {
    "linf": lambda change: np.abs(change).max(axis=(1, 2, 3)),
    "l2": lambda change: np.sqrt((change**2).sum(axis=(1, 2, 3))),
    "l1": lambda change: np.abs(change).sum(axis=(1, 2, 3)),
}
SEED = tf.constant([3, 4])


@pytest.fixture(params=ATTACKS)
def attack(request):
    return ATTACKS[request.param]


def images_at_the_borders():
    """Twelve images: black, white, some of black and white pixels only, the others anywhere in the box."""
    rng = np.random.default_rng(0)
    black_and_white = rng.integers(2, size=[4, 5, 4, 2])
    anywhere = rng.random([6, 5, 4, 2])
    images = np.concatenate([np.zeros([1, 5, 4, 2]), np.ones([1, 5, 4, 2]), black_and_white, anywhere])
    return tf.constant(images, tf.float32)


def wavy_loss(x):
    """A loss with hills and valleys in every pixel, and everywhere a slope."""
    phase = tf.reshape(tf.range(x.shape[1:].num_elements(), dtype=tf.float32), x.shape[1:])
    return tf.reduce_sum(tf.sin(37.0 * x + phase) + 0.1 * x, axis=[1, 2, 3])


def flat_loss(x):
    """A loss without slope, so that an attack returns its start."""
    return 0.0 * tf.reduce_sum(x, axis=range(1, x.shape.rank))


# What every attack promises


@pytest.mark.parametrize("seed", [SEED, seeds.by_position(3, tf.range(12))], ids=["batch", "image"])
def test_stays_in_ball_and_box_and_keeps_shape_and_dtype(attack, seed):
    clean = images_at_the_borders()
    attacked = attack(wavy_loss, clean, seed=seed)
    assert attacked.shape == clean.shape
    assert attacked.dtype == tf.float32
    distance = LENGTHS[attack.norm](attacked.numpy().astype(np.float64) - clean.numpy())
    assert distance.max() <= attack.epsilon + 1e-6
    assert attacked.numpy().min() >= 0
    assert attacked.numpy().max() <= 1
    if attack.epsilon:
        assert (distance > 0.005).all()
    else:
        assert np.array_equal(attacked, clean)


def test_a_vector_is_attacked_like_an_image(attack):
    clean = images_at_the_borders()
    flattened = attack(lambda x: wavy_loss(tf.reshape(x, clean.shape)), tf.reshape(clean, [12, 40]), seed=SEED)
    assert np.array_equal(tf.reshape(flattened, clean.shape), attack(wavy_loss, clean, seed=SEED))


def test_in_a_graph_as_eagerly(attack):
    clean = images_at_the_borders()
    traced = tf.function(lambda x, seed: attack(wavy_loss, x, seed=seed))
    np.testing.assert_allclose(traced(clean, SEED), attack(wavy_loss, clean, seed=SEED), rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", ATTACKS)
def test_result_repeats_with_the_seed_and_changes_with_it(name):
    clean = images_at_the_borders()[6:]
    once, again, other = (ATTACKS[name](wavy_loss, clean, seed=tf.constant(seed)) for seed in ([3, 4], [3, 4], [3, 5]))
    assert np.array_equal(once, again)
    differs = np.any(once.numpy() != other.numpy(), axis=(1, 2, 3))
    assert differs.all() if any(start in name for start in STARTS_ANYWHERE) else not differs.any()


def test_with_a_seed_an_image_the_batch_does_not_matter(attack):
    clean, own = images_at_the_borders(), seeds.by_position(3, tf.range(12))
    whole = attack(wavy_loss, clean, seed=own)
    halves = [attack(wavy_loss, clean[part], seed=own[part]) for part in (slice(0, 5), slice(5, 12))]
    np.testing.assert_allclose(tf.concat(halves, axis=0), whole, rtol=0, atol=1e-6)


def test_no_gradient_flows_through_attacked_images(attack):
    clean, scale = images_at_the_borders(), tf.Variable(2.0)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(clean)
        attacked = attack(lambda x: scale * wavy_loss(x), clean, seed=SEED)
        loss = tf.reduce_sum(attacked**2)
    assert tape.gradient(loss, clean) is None
    assert tape.gradient(loss, scale) is None


def test_settings_go_through_keras_and_describe_names_them(attack):
    config = keras.saving.serialize_keras_object(attack)
    assert keras.saving.deserialize_keras_object(config) == attack
    assert attack.describe() == {"name": type(attack).__name__, **dataclasses.asdict(attack)}
    assert list(attack.describe())[:3] == ["name", "norm", "epsilon"]


def test_settings_saved_before_there_were_norms_are_those_of_linf():
    config = keras.saving.serialize_keras_object(PGD(epsilon=0.1, step_size=0.01, steps=3))
    del config["config"]["norm"]
    assert keras.saving.deserialize_keras_object(config).norm == "linf"


def test_settings_become_plain_numbers():
    attack = PGD(epsilon=np.float64(0.25), step_size=1, steps=3.0, restarts=np.int64(2))
    assert attack == PGD(epsilon=0.25, step_size=1.0, steps=3, restarts=2)
    assert [type(value) for value in dataclasses.asdict(attack).values()] == [float, float, int, int, str, str]


# Momentum


def test_momentum_adds_up_gradients_of_unit_mean_size():
    clean = tf.fill([1, 3], 0.5)
    slopes = tf.constant([[1.0, 2.0, -3.0]])  # the mean size is 2
    attack = MomentumPGD(epsilon=1.0, step_size=0.1, steps=2, decay=0.5, norm="l2")
    seen = attack(lambda x: tf.reduce_sum(slopes * x, axis=1), clean, seed=SEED)
    # A constant gradient: all steps are along it, whatever is added up.
    np.testing.assert_allclose(seen - clean, 0.2 * slopes / np.sqrt(14.0), atol=1e-6)
    turning = attack(
        lambda x: tf.reduce_sum(tf.abs(x - 0.52) * [[-1.0, -1.0, 0.0]] * [[1.0, 3.0, 0.0]], axis=1), clean, seed=SEED
    )
    first = np.array([1.0, 3.0, 0.0])
    position = 0.5 + 0.1 * first / np.linalg.norm(first)
    second = np.where(position < 0.52, first, -first) * [1, 1, 0]
    velocity = 0.5 * first / np.mean(first) + second / np.mean(np.abs(second))
    np.testing.assert_allclose(turning[0], position + 0.1 * velocity / np.linalg.norm(velocity), atol=1e-6)


def test_without_decay_it_is_pgd():
    clean = images_at_the_borders()
    plain = PGD(epsilon=0.1, step_size=0.02, steps=4, start="none")(wavy_loss, clean, seed=SEED)
    same = MomentumPGD(epsilon=0.1, step_size=0.02, steps=4, decay=0.0)(wavy_loss, clean, seed=SEED)
    np.testing.assert_allclose(same, plain, rtol=0, atol=1e-7)
    assert MomentumPGD(epsilon=0.1, step_size=0.02, steps=4).flags()[0]["name"] == "attack_cannot_reach"


# The start


def starts(name, epsilon=0.1, pixels=200_000):
    clean = tf.fill([2, pixels], 0.5)
    attack = PGD(epsilon=epsilon, step_size=0.01, steps=1, start=name)
    return attack(flat_loss, clean, seed=SEED).numpy().astype(np.float64) - 0.5


def test_uniform_start_fills_the_ball():
    noise = starts("uniform")
    counts, _ = np.histogram(noise, bins=20, range=(-0.1 - 1e-7, 0.1 + 1e-7))
    assert counts.sum() == noise.size
    np.testing.assert_allclose(counts, noise.size / 20, rtol=0.035)  # 5 standard deviations
    assert abs(np.corrcoef(noise)[0, 1]) < 0.02


def test_gaussian_start_has_standard_deviation_0_001_whatever_the_ball():
    for epsilon in (0.1, 0.3):
        noise = starts("gaussian", epsilon)
        assert abs(noise.mean()) < 1e-5
        assert abs(noise.std() / 0.001 - 1) < 0.01
        assert abs((noise**4).mean() / 0.001**4 - 3) < 0.1


def test_no_start_is_the_clean_image():
    assert (starts("none") == 0).all()


@pytest.mark.parametrize("start", STARTS)
def test_the_start_is_projected(start):
    clean = images_at_the_borders()
    attacked = PGD(epsilon=0.0005, step_size=1.0, steps=1, start=start)(flat_loss, clean, seed=SEED).numpy()
    assert np.abs(attacked - clean).max() <= 0.0005 + 1e-6
    assert attacked.min() >= 0
    assert attacked.max() <= 1


@pytest.mark.parametrize("start", STARTS)
def test_the_classifier_never_sees_an_image_out_of_ball_or_box(start):
    clean, seen = images_at_the_borders(), []

    def watching(x):
        seen.append(x.numpy())
        return wavy_loss(x)

    PGD(epsilon=0.0005, step_size=0.01, steps=4, start=start)(watching, clean, seed=SEED)
    assert len(seen) == 4
    assert np.abs(np.stack(seen) - clean).max() <= 0.0005 + 1e-6
    assert np.min(seen) >= 0
    assert np.max(seen) <= 1


# The steps, on a linear classifier


def linear_problem(pixels=30):
    """Images, labels, `logits(x) = x W` for two classes, and the direction in which each image's loss rises.

    Five pixels have no influence: there the loss is flat and its sign 0.
    """
    rng = np.random.default_rng(1)
    weights = rng.standard_normal([pixels, 2]).astype(np.float32)
    weights[:5] = 0
    clean = rng.random([16, pixels]).astype(np.float32)
    clean[:4] = np.round(clean[:4])
    labels = np.arange(16) % 2
    uphill = np.where(labels[:, np.newaxis] == 0, 1, -1) * np.sign(weights[:, 1] - weights[:, 0])
    return tf.constant(clean), labels, lambda x: x @ weights, uphill


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("alpha", [0.0, 2.0])
def test_enough_steps_end_in_the_corner_of_the_ball(start, alpha):
    clean, labels, logits, uphill = linear_problem()
    attack = PGD(epsilon=0.1, step_size=0.02, steps=10, start=start)
    attacked = attack(lambda x: weighted_cross_entropy(logits(x), labels, alpha), clean, seed=SEED)
    corner = np.clip(clean + 0.1 * uphill, 0, 1)
    np.testing.assert_allclose(attacked[:, 5:], corner[:, 5:], rtol=0, atol=1e-6)


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("steps", [1, 2, 7])
def test_k_steps_are_k_times_the_step(start, steps):
    clean, labels, logits, uphill = linear_problem()
    noise = {"uniform": 0.1 * seeds.uniform(clean, SEED), "gaussian": 0.001 * seeds.normal(clean, SEED), "none": 0.0}
    low, high = np.maximum(clean - 0.1, 0), np.minimum(clean + 0.1, 1)
    expected = np.clip(clean + noise[start], low, high)
    for _ in range(steps):
        expected = np.clip(expected + 0.02 * uphill, low, high)
    attack = PGD(epsilon=0.1, step_size=0.02, steps=steps, start=start)
    attacked = attack(lambda x: cross_entropy(logits(x), labels), clean, seed=SEED)
    np.testing.assert_allclose(attacked, expected, rtol=0, atol=1e-6)


def test_fgsm_is_one_step_of_length_epsilon_from_the_clean_image():
    clean, labels, logits, uphill = linear_problem()
    attacked = FGSM(epsilon=0.1)(lambda x: cross_entropy(logits(x), labels), clean, seed=SEED)
    np.testing.assert_allclose(attacked, np.clip(clean + 0.1 * uphill, 0, 1), rtol=0, atol=1e-6)


def test_input_gradient_is_each_images_own():
    clean, labels, logits, _ = linear_problem()

    def loss(labels):
        return lambda x: cross_entropy(logits(x), labels)

    together = input_gradient(loss(labels), clean)
    apart = [input_gradient(loss(labels[i : i + 1]), clean[i : i + 1]) for i in range(len(labels))]
    np.testing.assert_allclose(together, tf.concat(apart, axis=0), rtol=1e-5, atol=1e-7)


# Restarts


def rugged(x):
    """A loss of one pixel with five tops, too far apart for one attempt to see two of them."""
    return tf.sin(30.0 * x[:, 0]) + 0.3 * tf.sin(7.0 * x[:, 0])


def other_score(x):
    """What chooses among restarts below; by design not the order of the loss."""
    return tf.cos(11.0 * x[:, 0])


RESTARTED = PGD(epsilon=0.5, step_size=0.01, steps=8, restarts=5)


@pytest.mark.parametrize("seed", [SEED, seeds.by_position(3, tf.range(40))], ids=["batch", "image"])
@pytest.mark.parametrize("score_fn", [other_score, None], ids=["score", "loss"])
@pytest.mark.parametrize("compile_it", [False, True], ids=["eager", "graph"])
def test_each_image_keeps_the_fresh_attempt_of_smallest_score(seed, score_fn, compile_it):
    clean = tf.constant(np.random.default_rng(2).random([40, 1]), tf.float32)
    once = dataclasses.replace(RESTARTED, restarts=1)
    attempts = np.stack([once(rugged, clean, seed=seeds.nth(seed, r)) for r in range(5)])
    score = score_fn or (lambda x: -rugged(x))
    scores = np.stack([score(tf.constant(attempt)) for attempt in attempts])
    best = scores.argmin(axis=0)
    assert set(best) == set(range(5))  # else the choice would not be put to the test

    run = tf.function(RESTARTED) if compile_it else RESTARTED
    attacked = run(rugged, clean, seed=seed, score_fn=score_fn)
    np.testing.assert_allclose(score(attacked), scores.min(axis=0), rtol=0, atol=1e-5)
    np.testing.assert_allclose(attacked, attempts[best, np.arange(40)], rtol=0, atol=1e-6)


def test_restarts_help_where_one_attempt_is_caught():
    clean = tf.constant(np.random.default_rng(2).random([40, 1]), tf.float32)
    one, five = (
        rugged(attack(rugged, clean, seed=SEED)).numpy()
        for attack in (PGD(epsilon=0.5, step_size=0.01, steps=8), RESTARTED)
    )
    assert (five >= one - 1e-6).all()
    assert (five > one + 0.1).sum() > 10


# Weighted losses


def small_network(classes):
    rng = np.random.default_rng(classes)
    first, second = rng.standard_normal([12, 8]), rng.standard_normal([8, classes])
    clean = tf.constant(rng.random([64, 12]), tf.float32)

    def logits(x):
        return tf.tanh(x @ tf.constant(first, tf.float32)) @ tf.constant(second, tf.float32)

    return clean, rng.integers(classes, size=64), logits


def attacked_with(loss, clean, **settings):
    return PGD(**{"epsilon": 0.3, "step_size": 0.05, "steps": 10, **settings})(loss, clean, seed=SEED).numpy()


@pytest.mark.parametrize("alpha", [0.5, 2.0])
def test_with_two_classes_the_weighted_attack_on_cross_entropy_is_the_plain_one(alpha):
    clean, labels, logits = small_network(2)
    plain, weighted = (
        attacked_with(lambda x, power=power: weighted_cross_entropy(logits(x), labels, power), clean)
        for power in (0.0, alpha)
    )
    assert np.array_equal(plain, weighted)


def test_with_three_classes_it_is_another():
    clean, labels, logits = small_network(3)
    plain, weighted = (
        attacked_with(lambda x, power=power: weighted_cross_entropy(logits(x), labels, power), clean)
        for power in (0.0, 2.0)
    )
    assert np.any(plain != weighted, axis=1).mean() > 0.1


def test_with_two_classes_the_weighted_attack_on_divergence_is_another():
    clean, labels, logits = small_network(2)
    constant_clean = logits(clean)
    plain, weighted = (
        attacked_with(
            lambda x, power=power: weighted_kl_divergence(constant_clean, logits(x), labels, power),
            clean,
        )
        for power in (0.0, 2.0)
    )
    assert np.any(plain != weighted, axis=1).mean() > 0.1


# Bad settings


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("epsilon", value) for value in (-0.1, math.nan, math.inf, None, "wide")),
        *(("step_size", value) for value in (0.0, -0.01, math.nan, None)),
        *(("steps", value) for value in (0, -1, 1.5, math.nan)),
        *(("restarts", value) for value in (0, -1, 2.5)),
        *(("start", value) for value in ("random", None)),
        *(("norm", value) for value in ("l3", None)),
    ],
)
def test_bad_settings_are_refused_by_name(name, value):
    with pytest.raises(InvalidInput, match=rf"^{name}: got {value!r}, expected .+\. .+{name}"):
        PGD(**{"epsilon": 0.1, "step_size": 0.01, "steps": 3, name: value})


@pytest.mark.parametrize("epsilon", [0.0, -0.1, math.nan])
def test_fgsm_refuses_a_bad_epsilon_by_name(epsilon):
    with pytest.raises(InvalidInput, match=f"^epsilon: got {epsilon!r}, expected a finite number > 0"):
        FGSM(epsilon)


def test_a_restart_that_gives_nan_is_not_hidden_by_a_later_one():
    scores = tf.constant([-0.5, np.nan, 0.3])
    calls = tf.Variable(0)

    def score(x):
        calls.assign_add(1)
        return tf.fill(tf.shape(x)[:1], scores[calls - 1]) + 0.0 * tf.reduce_sum(x)

    attack = PGD(epsilon=0.5, step_size=0.1, steps=1, restarts=3)
    clean = tf.fill([2, 4], 0.5)
    attempts = [attack_once(clean, r) for r in range(3)]
    attacked = attack(lambda x: tf.reduce_sum(x, axis=1), clean, seed=SEED, score_fn=score)
    np.testing.assert_array_equal(attacked, attempts[1])


def attack_once(clean, restart):
    """The attempt of one restart, alone."""
    once = PGD(epsilon=0.5, step_size=0.1, steps=1)
    return once(lambda x: tf.reduce_sum(x, axis=1), clean, seed=seeds.nth(tf.convert_to_tensor(SEED), restart))


def test_settings_are_named():
    with pytest.raises(TypeError, match="positional"):
        PGD(0.3, 0.01, 40)


@pytest.mark.parametrize(
    ("attack", "runs", "reach"),
    [
        (PGD(epsilon=0.3, step_size=0.01, steps=1), 1, 0.01),
        (PGD(epsilon=0.3, step_size=0.01, steps=5, norm="l2", start="none"), 2, 0.1),
        (PGD(epsilon=0.3, step_size=0.01, steps=5), 6, None),
        (PGD(epsilon=0.031, step_size=0.0031, steps=10), 1, None),  # 10 * 0.0031 is a little less in float64
        (PGD(epsilon=0.49, step_size=0.07, steps=7), 1, None),
        (PGD(epsilon=0.0, step_size=0.01, steps=1), 1, None),
        (FGSM(0.3), 1, None),
        (NFGSM(epsilon=0.3, step_size=0.01), 1, None),  # its noise alone is wider than the ball
    ],
    ids=str,
)
def test_an_attack_that_cannot_reach_the_edge_of_its_ball_says_so(attack, runs, reach):
    flags = attack.flags(runs=runs)
    assert [flag["name"] for flag in flags] == ([] if reach is None else ["attack_cannot_reach"])
    for flag in flags:
        assert (flag["reach"], flag["epsilon"]) == (pytest.approx(reach), 0.3)
        assert flag["message"].startswith(f"attack: its steps reach {reach} in all and epsilon is 0.3, so ")
        with pytest.warns(UserWarning, match=f"^{re.escape(flag['message'])}$"):
            warn_if_weak(attack, runs=runs)
    if not flags:
        warn_if_weak(attack, runs=runs)


@pytest.mark.parametrize(
    ("epsilon", "norm", "says"),
    [
        (0.5, "linf", "epsilon: 0.5 in linf lets every image become grey, so it is probably meant in another unit"),
        (8 / 255 / 255, "linf", "epsilon: 0.00012303 in linf is less than half a grey level of 255, so it is probably"),
        (128.0, "l2", "epsilon: 128 in l2 is larger than any in use"),
        (3060, "l1", "epsilon: 3060 in l1 is larger than any in use"),
        *[(0.4999, "linf", None), (0.5 / 255, "linf", None), (0.0, "linf", None)],
        *[(3.0, "l2", None), (0.001, "l2", None), (255.0, "l1", None)],
    ],
)
def test_a_radius_that_looks_like_another_unit_is_told_of(epsilon, norm, says):
    for attack in (PGD(epsilon=epsilon, step_size=0.9, steps=10_000, norm=norm), APGD(epsilon=epsilon, norm=norm)):
        flags = attack.flags()
        if says is None:
            assert flags == []
            continue
        assert [flag["name"] for flag in flags] == ["unusual_radius"]
        with pytest.warns(UserWarning, match=f"^{re.escape(says)}.*8/255 = 0.031"):
            warn_if_weak(attack)


def test_of_a_radius_in_another_norm_nothing_is_told():
    assert radius_flags(1e6, "wasserstein") == []


def test_attacks_read_their_lengths_as_people_write_them():
    fraction = 2 / 255
    for attack in (
        PGD(epsilon="2/255", step_size="2/255", steps=3),
        MomentumPGD(epsilon="2/255", step_size="2/255", steps=3),
        NFGSM(epsilon="2/255"),
        FGSM("2/255"),
    ):
        assert (attack.epsilon, attack.step_size) == (fraction, fraction)
    for attack in (APGD(epsilon="2/255"), FAB(epsilon="2/255"), Square(epsilon="2/255")):
        assert attack.epsilon == fraction


@pytest.mark.parametrize("make", [FGSM, lambda e: NFGSM(epsilon=e), lambda e: PGD(epsilon=e, step_size=2, steps=10)])
def test_a_radius_above_1_in_linf_is_refused(make):
    with pytest.raises(
        InvalidInput, match=r"^epsilon: got 8.*, expected a radius in \[0, 1\], .*Pass 8/255, that is 0\."
    ):
        make(8)


def test_a_radius_above_1_in_other_norms_is_fine():
    assert PGD(epsilon=8, step_size=2, steps=10, norm="l2").epsilon == 8.0
