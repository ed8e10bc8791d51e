"""The balls of the norms against independent derivations in float64, and the attacks that walk in them."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from wmr_tf.attacks import NORMS, PGD
from wmr_tf.attacks.norms import SPARSITY
from wmr_tf.checks import InvalidInput
from wmr_tf.engine import seeds

SEED = tf.constant([3, 4])
RADII = {"linf": 0.1, "l2": 0.8, "l1": 2.5}  # each wide enough to meet the box, too narrow to hold all of it
LENGTHS = {
    "linf": lambda change: np.abs(change).max(axis=-1),
    "l2": lambda change: np.sqrt((change**2).sum(axis=-1)),
    "l1": lambda change: np.abs(change).sum(axis=-1),
}


@pytest.fixture(params=NORMS)
def norm(request):
    return request.param


def clean_images(values=40):
    """Images black, white, of black and white only, and anywhere in the box."""
    rng = np.random.default_rng(0)
    black_and_white = np.round(rng.random([4, values]))
    anywhere = rng.random([10, values])
    return np.float32(np.concatenate([np.zeros([1, values]), np.ones([1, values]), black_and_white, anywhere]))


def attack_in(norm, **settings):
    return PGD(**{"epsilon": RADII[norm], "step_size": RADII[norm] / 4, "steps": 5, "norm": norm, **settings})


def wavy_loss(x):
    """A loss with hills and valleys in every value, some steeper than others."""
    steepness = tf.range(1.0, 41.0) / 40.0
    return tf.reduce_sum(steepness * tf.sin(37.0 * x + 60.0 * steepness), axis=1)


def assert_in_ball_and_box(norm, attacked, clean, epsilon):
    assert attacked.dtype == np.float32
    assert attacked.min() >= 0
    assert attacked.max() <= 1
    assert (LENGTHS[norm](attacked.astype(np.float64) - clean) <= epsilon + 2e-6).all()


# Projections


def nearest(norm, clean, attacked, epsilon):
    """Return the image nearest to one attacked image in ball and box, float64."""
    clean, change = clean.astype(np.float64), attacked.astype(np.float64) - clean
    size, room = np.abs(change), np.where(change > 0, 1 - clean, clean)
    if norm == "linf":
        left = np.minimum(np.minimum(size, epsilon), room)
    elif np.minimum(size, room).sum() <= epsilon if norm == "l1" else LENGTHS["l2"](np.minimum(size, room)) <= epsilon:
        left = np.minimum(size, room)
    elif norm == "l1":  # linear in the threshold between any two of the points where a value begins or ends to shrink
        thresholds = np.sort(np.concatenate([size, size - room]))
        sums = np.clip(size - thresholds[:, np.newaxis], 0, room).sum(axis=1)
        left = np.clip(size - np.interp(-epsilon, -sums, thresholds), 0, room)
    else:  # of all the shrunk changes, cut with the box, the longest that is in the ball
        low, high = 0.0, 1.0
        for _ in range(80):
            middle = (low + high) / 2
            inside = LENGTHS["l2"](np.minimum(middle * size, room)) <= epsilon
            low, high = (middle, high) if inside else (low, middle)
        left = np.minimum(low * size, room)
    return clean + np.sign(change) * left


def images_at(norm, clean, distance):
    """Return images at a distance from the clean ones."""
    rng = np.random.default_rng(1)
    change = rng.standard_normal(clean.shape) * rng.random(clean.shape) ** 3  # a few large values, many small ones
    change *= distance / LENGTHS[norm](change)[:, np.newaxis]
    return np.float32(clean + change)


A_PIXEL = st.one_of(st.floats(0, 1, width=32), st.sampled_from([0.0, 1.0]))


@st.composite
def clean_and_changed(draw):
    """Images of up to 40 values, black and white among them, with a change of each value, large or none."""
    shape = (draw(st.integers(1, 4)), draw(st.integers(1, 40)))
    change = st.one_of(st.floats(-1, 1, width=32), st.just(0.0))
    return draw(arrays(np.float32, shape, elements=A_PIXEL)), draw(arrays(np.float32, shape, elements=change))


@pytest.mark.parametrize("of_norm", NORMS)
@given(images=clean_and_changed(), epsilon=st.one_of(st.floats(0, 4), st.sampled_from([0.0, 0.1, 0.4])))
def test_projection_of_any_images_is_the_nearest_one(of_norm, images, epsilon):
    """In l2 only where the box does not cut, so there the clean images are further from it than the radius."""
    clean, change = images
    clean, epsilon = (np.float32(0.45 + 0.1 * clean), min(epsilon, 0.4)) if of_norm == "l2" else (clean, epsilon)
    assert_projected_to_the_nearest(of_norm, clean, clean + change, epsilon)


@pytest.mark.parametrize("radii", [0.0, 0.5, 1.0, 1.01, 2.0, 30.0])
def test_projection_is_the_nearest_image(norm, radii):
    clean, epsilon = (np.float32(0.45 + 0.1 * clean_images()), 0.4) if norm == "l2" else (clean_images(), RADII[norm])
    assert_projected_to_the_nearest(norm, clean, images_at(norm, clean, radii * epsilon), epsilon)


def assert_projected_to_the_nearest(norm, clean, attacked, epsilon):
    projected = NORMS[norm](tf.constant(clean), epsilon).project(tf.constant(attacked)).numpy()
    expected = [nearest(norm, *pair, epsilon) for pair in zip(clean, attacked, strict=True)]
    assert_in_ball_and_box(norm, projected, clean, epsilon)
    np.testing.assert_allclose(projected, expected, rtol=0, atol=1e-6)


def test_projection_in_l2_is_not_the_nearest_image_where_the_box_cuts():
    clean = clean_images()
    attacked = images_at("l2", clean, 2 * RADII["l2"])
    projected = NORMS["l2"](tf.constant(clean), RADII["l2"]).project(tf.constant(attacked)).numpy()
    exact = np.stack([nearest("l2", *pair, RADII["l2"]) for pair in zip(clean, attacked, strict=True)])
    in_turn = LENGTHS["l2"](projected - attacked) - LENGTHS["l2"](exact - attacked)
    assert (in_turn >= -1e-6).all()
    assert in_turn.max() > 0.01


def test_projection_onto_a_ball_of_radius_0_is_the_clean_image(norm):
    clean = clean_images()
    attacked = images_at(norm, clean, 1.0)
    assert np.array_equal(NORMS[norm](tf.constant(clean), 0.0).project(tf.constant(attacked)), clean)


# Directions


def test_a_step_is_of_length_1_whatever_the_length_of_the_gradient(norm):
    gradient = np.random.default_rng(2).standard_normal([16, 40]).astype(np.float32)
    middle = tf.fill([16, 40], 0.5)
    ball = NORMS[norm](middle, RADII[norm])
    steps = [ball.direction(middle, tf.constant(gradient) * scale).numpy() for scale in (1.0, 1e-30, 1e30)]
    for step in steps:
        np.testing.assert_allclose(LENGTHS[norm](step), 1, rtol=1e-5)
        np.testing.assert_allclose(step, steps[0], rtol=1e-5)
    assert (steps[0] * gradient >= 0).all()


def test_without_a_slope_there_is_no_step(norm):
    clean = tf.constant(clean_images())
    assert np.array_equal(NORMS[norm](clean, 0.1).direction(clean, tf.zeros_like(clean)), tf.zeros_like(clean))
    flat = attack_in(norm, start="none")(lambda x: 0.0 * tf.reduce_sum(x, axis=1), clean, seed=SEED)
    np.testing.assert_allclose(flat, clean, rtol=0, atol=1e-7)


def test_the_step_in_l1_is_shared_by_the_largest_values_that_the_box_does_not_block():
    gradient = np.float32([np.arange(1, 101) * (-1) ** np.arange(100)])  # the largest are at the end, every other < 0
    attacked = np.full([1, 100], 0.5, np.float32)
    attacked[0, [99, 96]] = [0.0, 1.0]  # 99 would fall and 96 would rise
    attacked[0, [98, 97]] = [0.0, 1.0]  # these two are at the border too, and leave it
    step = NORMS["l1"](tf.constant(attacked), 1.0).direction(tf.constant(attacked), tf.constant(gradient)).numpy()
    assert SPARSITY == 0.05
    assert np.flatnonzero(step).tolist() == [93, 94, 95, 97, 98]
    np.testing.assert_allclose(step[0, [93, 94, 95, 97, 98]], [-0.2, 0.2, -0.2, -0.2, 0.2], rtol=1e-6)


# Starts

# The distribution of one value's size in the unit ball of three dimensions, P(|x| <= t).
CDF_OF_A_VALUE = {
    "linf": lambda t: t,
    "l2": lambda t: (3 * t - t**3) / 2,
    "l1": lambda t: 1 - (1 - t) ** 3,
}


def furthest_from(cdf, sample):
    """Return the Kolmogorov-Smirnov statistic in units of its scale: 1.95 is exceeded once in a thousand samples."""
    sample = np.sort(sample)
    ranks = np.arange(len(sample) + 1) / len(sample)
    return max(np.abs(cdf(sample) - ranks[1:]).max(), np.abs(cdf(sample) - ranks[:-1]).max()) * np.sqrt(len(sample))


@pytest.mark.parametrize("seed", [SEED, seeds.by_position(3, tf.range(4000))], ids=["batch", "image"])
def test_the_start_is_uniform_in_the_ball(norm, seed):
    clean = tf.fill([4000, 3, 1], 0.5)
    start = tf.function(attack_in(norm, epsilon=0.25).start_near)(clean, seed=seed).numpy()
    noise = (start[..., 0].astype(np.float64) - 0.5) / 0.25
    assert furthest_from(lambda radius: radius**3, LENGTHS[norm](noise)) < 1.95
    for value in range(3):
        assert furthest_from(CDF_OF_A_VALUE[norm], np.abs(noise[:, value])) < 1.95
    correlation = np.corrcoef(np.concatenate([noise, np.abs(noise).mean(axis=1, keepdims=True)], axis=1).T)
    assert np.abs(correlation - np.eye(4)).max() < 0.065  # 4 standard deviations
    assert np.abs(noise.mean(axis=0)).max() < 0.04
    assert np.abs((noise > 0).mean(axis=0) - 0.5).max() < 0.032


# Attacks


def test_start_near_and_step_make_the_attack(norm):
    clean = tf.constant(clean_images())
    attack = attack_in(norm)
    attacked = attack.start_near(clean, seed=SEED)
    assert_in_ball_and_box(norm, attacked.numpy(), clean.numpy(), RADII[norm])
    for _ in range(attack.steps):
        with tf.GradientTape() as tape:
            tape.watch(attacked)
            loss = wavy_loss(attacked)
        attacked = attack.step(attacked, tape.gradient(loss, attacked), clean=clean)
        assert_in_ball_and_box(norm, attacked.numpy(), clean.numpy(), RADII[norm])
    assert np.array_equal(attack(wavy_loss, clean, seed=SEED), attacked)


@pytest.mark.parametrize("restarts", [1, 2])
@pytest.mark.parametrize("start", ["uniform", "gaussian"])
def test_equal_radii_are_the_attack_bit_for_bit(norm, start, restarts):
    clean = tf.constant(clean_images())
    attack = attack_in(norm, start=start, restarts=restarts)
    other = attack_in(norm, start=start, restarts=restarts, epsilon=0.9)
    equal = other(wavy_loss, clean, seed=SEED, epsilon=tf.fill([16], RADII[norm]))
    assert np.array_equal(equal, attack(wavy_loss, clean, seed=SEED))


def test_every_image_has_its_own_radius(norm):
    clean, radii = tf.constant(clean_images()), RADII[norm] * tf.range(16.0) / 8.0
    own, attack = seeds.by_position(3, tf.range(16)), attack_in(norm)
    together = attack(wavy_loss, clean, seed=own, epsilon=radii).numpy()
    for i, epsilon in enumerate(radii.numpy()):
        one = slice(i, i + 1)
        alone = attack_in(norm, epsilon=epsilon, step_size=attack.step_size)(wavy_loss, clean[one], seed=own[one])
        np.testing.assert_allclose(together[one], alone, rtol=0, atol=2e-6)
    assert np.array_equal(together[0], clean[0])
    assert_in_ball_and_box(norm, together, clean.numpy(), radii.numpy())


def linear_slope(values):
    """Return slopes of either sign, no two equally steep, three of them 0."""
    rng = np.random.default_rng(4)
    slope = np.maximum(np.arange(values) - 2, 0) * rng.choice([-1, 1], values) / values
    return rng.permutation(slope).astype(np.float32)


def test_on_a_linear_loss_l2_ends_where_the_gradient_leaves_the_ball():
    slope = linear_slope(40)
    clean = np.float32(0.4 + 0.2 * clean_images())
    attack = attack_in("l2", epsilon=0.3, step_size=0.05, steps=100)
    attacked = tf.function(attack)(lambda x: tf.linalg.matvec(x, slope), tf.constant(clean), seed=SEED)
    np.testing.assert_allclose(attacked, clean + 0.3 * slope / np.linalg.norm(slope), rtol=0, atol=1e-4)


def test_on_a_linear_loss_l1_fills_the_largest_values_up_to_the_box():
    """With 20 values a step moves one, and the end is the best of ball and box, by the length of a step."""
    slope, clean = linear_slope(20), clean_images(20)
    expected = clean.astype(np.float64)
    for image in expected:
        budget = RADII["l1"]
        for value in np.argsort(-np.abs(slope)):
            room = min(budget, 1 - image[value] if slope[value] > 0 else image[value]) * abs(np.sign(slope[value]))
            image[value] += np.sign(slope[value]) * room
            budget -= room
    attack = attack_in("l1", step_size=0.02, steps=1000, start="none")
    attacked = tf.function(attack)(lambda x: tf.linalg.matvec(x, slope), tf.constant(clean), seed=SEED)
    np.testing.assert_allclose(attacked, expected, rtol=0, atol=0.03)
    assert np.abs(expected - clean).max(axis=1).min() > 0.5


def test_more_steps_climb_higher(norm):
    clean, target = tf.constant(clean_images()), np.random.default_rng(5).random([16, 40]).astype(np.float32)

    def nearness(x):
        return -tf.reduce_sum((x - target) ** 2, axis=1)

    few, many = (
        nearness(attack_in(norm, step_size=RADII[norm] / 20, steps=steps)(nearness, clean, seed=SEED)).numpy()
        for steps in (1, 20)
    )
    assert (many > few).all()


@pytest.mark.parametrize("start", ["none", "uniform"])
def test_under_xla_as_without(norm, start):
    """XLA draws other random numbers, so only from the clean image is it the same attack."""
    clean = tf.constant(clean_images())
    attack = attack_in(norm, start=start, restarts=2)
    compiled = tf.function(lambda x, e: attack(wavy_loss, x, seed=SEED, epsilon=e), jit_compile=True, autograph=False)
    attacked = compiled(clean, tf.fill([16], RADII[norm])).numpy()
    assert_in_ball_and_box(norm, attacked, clean.numpy(), RADII[norm])
    if start == "none":
        np.testing.assert_allclose(attacked, attack(wavy_loss, clean, seed=SEED), rtol=0, atol=1e-4)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_under_mixed_precision(norm, policy):
    keras.config.set_dtype_policy(policy)
    classifier = keras.Sequential([keras.Input([40]), keras.layers.Dense(8, "tanh"), keras.layers.Dense(1)])
    clean = tf.constant(clean_images())
    attacked = attack_in(norm)(lambda x: tf.cast(classifier(x), tf.float32)[:, 0], clean, seed=SEED).numpy()
    assert_in_ball_and_box(norm, attacked, clean.numpy(), RADII[norm])
    assert (LENGTHS[norm](attacked - clean.numpy()) > 0.3 * RADII[norm]).all()


def test_an_unknown_norm_is_refused():
    with pytest.raises(InvalidInput, match="^norm: got 'l0', expected one of linf, l2, l1. Choose"):
        PGD(epsilon=0.1, step_size=0.01, steps=1, norm="l0")
