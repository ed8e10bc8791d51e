"""Training on one attack step, and the N-FGSM attack against NumPy."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.test_methods import convnet, data, losses_of_training
from wmr_tf import InvalidInput, attacks, methods
from wmr_tf.attacks import NFGSM
from wmr_tf.engine import seeds

ONE_STEP = attacks.PGD(epsilon=0.1, step_size=0.125, steps=1)
SEED = tf.constant([3, 4])


def images(count=200):
    return tf.constant(np.random.default_rng(0).random([count, 4, 4, 1]), tf.float32)


def wavy_loss(x):
    """A loss with hills and valleys in every pixel."""
    return tf.reduce_sum(tf.sin(37.0 * x), axis=[1, 2, 3])


def wavy_slope(x):
    return 37.0 * np.cos(37.0 * x)


@pytest.mark.parametrize("alpha", [0.0, 1.5])
def test_it_is_pgd_training_with_that_attack(alpha):
    x, y = data(5, 5, 1)
    fast, pgd = convnet(), convnet()
    losses = losses_of_training(fast, methods.Fast(ONE_STEP, alpha=alpha), x, y, steps=3)
    assert losses == losses_of_training(pgd, methods.PGD(ONE_STEP, alpha=alpha), x, y, steps=3)
    for weight, expected in zip(fast.get_weights(), pgd.get_weights(), strict=True):
        np.testing.assert_array_equal(weight, expected)


def test_a_step_beyond_the_ball_ends_on_its_surface():
    # Wong et al. step 1.25 epsilon, so that most pixels end on the border wherever in the ball they started.
    clean = 0.3 + 0.4 * images()
    attacked = ONE_STEP(lambda x: tf.reduce_sum(x, axis=[1, 2, 3]), clean, seed=SEED)
    on_the_border = np.isclose(attacked - clean, 0.1, atol=1e-6)
    # All that start in [-0.025, 0.1] of [-0.1, 0.1].
    assert on_the_border.mean() == pytest.approx(0.125 / 0.2, abs=0.03)


@pytest.mark.parametrize(
    "attack",
    [
        dataclasses.replace(ONE_STEP, steps=2),
        dataclasses.replace(ONE_STEP, restarts=2),
        dataclasses.replace(ONE_STEP, start="none"),
        attacks.FGSM(0.1),
        NFGSM(epsilon=0.1, noise=0.0),
        NFGSM(epsilon=0.0, step_size=0.1),
    ],
)
def test_several_steps_or_a_clean_start_are_refused(attack):
    with pytest.raises(InvalidInput, match=r"^attack: got .*expected one step from a random start"):
        methods.Fast(attack)


# N-FGSM


def n_fgsm_by_hand(x, noise, epsilon, step_size, k):
    noisy = np.clip(x + k * epsilon * noise, 0, 1)
    return np.clip(noisy + step_size * np.sign(wavy_slope(noisy)), 0, 1)


@pytest.mark.parametrize("seed", [SEED, seeds.by_position(3, tf.range(200))], ids=["batch", "image"])
@pytest.mark.parametrize("settings", [{}, {"noise": 1.0, "step_size": 0.05}, {"noise": 0.0}])
def test_n_fgsm_against_numpy(settings, seed):
    attack, clean = NFGSM(epsilon=0.1, **settings), images()
    expected = n_fgsm_by_hand(
        clean.numpy(), seeds.uniform(clean, seed).numpy(), 0.1, settings.get("step_size", 0.1), settings.get("noise", 2)
    )
    np.testing.assert_allclose(attack(wavy_loss, clean, seed=seed), expected, atol=1e-5)


def test_n_fgsm_leaves_the_ball_by_up_to_three_epsilon_and_not_the_box():
    attack, clean = NFGSM(epsilon=0.1), images()
    attacked = attack(wavy_loss, clean, seed=SEED).numpy()
    assert attacked.min() >= 0 and attacked.max() <= 1
    distance = np.abs(attacked - clean).max(axis=(1, 2, 3))
    assert distance.max() <= 0.3 + 1e-6
    assert distance.max() > 0.28 and np.mean(distance > 0.1) > 0.9


def test_n_fgsm_takes_a_radius_an_image():
    clean, radii = images(6), tf.constant([0.0, 0.1, 0.1, 0.2, 0.1, 0.05])
    attack = NFGSM(epsilon=0.1)
    attacked = attack(wavy_loss, clean, seed=SEED, epsilon=radii).numpy()
    same = attack(wavy_loss, clean, seed=SEED, epsilon=tf.fill([6], 0.1))
    np.testing.assert_array_equal(same, attack(wavy_loss, clean, seed=SEED))
    for image, start, noise, radius in zip(attacked, clean.numpy(), seeds.uniform(clean, SEED), radii, strict=True):
        expected = n_fgsm_by_hand(start, noise.numpy(), float(radius), 0.1, 2.0)
        np.testing.assert_allclose(image, expected, atol=1e-5)


def test_n_fgsm_in_a_graph_and_compiled_as_eagerly():
    clean, attack = images(8), NFGSM(epsilon=0.1)
    traced = tf.function(lambda x: attack(wavy_loss, x, seed=SEED))
    np.testing.assert_allclose(traced(clean), attack(wavy_loss, clean, seed=SEED), atol=1e-6)
    # XLA draws other random numbers: compare without any.
    quiet = dataclasses.replace(attack, noise=0.0)
    compiled = tf.function(lambda x: quiet(wavy_loss, x, seed=SEED), jit_compile=True)
    np.testing.assert_allclose(compiled(clean), quiet(wavy_loss, clean, seed=SEED), atol=1e-6)


def test_no_gradient_flows_through_n_fgsm():
    clean, scale = images(2), tf.Variable(2.0)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(clean)
        total = tf.reduce_sum(NFGSM(epsilon=0.1)(lambda x: scale * wavy_loss(x), clean, seed=SEED) ** 2)
    assert tape.gradient(total, clean) is None and tape.gradient(total, scale) is None


def test_n_fgsm_says_what_it_is_and_survives_serialisation():
    attack = NFGSM(epsilon=np.float64(0.1))
    described = {"name": "NFGSM", "norm": "linf", "epsilon": 0.1, "step_size": 0.1, "noise": 2.0}
    assert attack.describe() == described
    assert keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(attack)) == attack


@pytest.mark.parametrize("name", ["epsilon", "step_size", "noise"])
@pytest.mark.parametrize("value", [-0.1, float("nan"), float("inf"), "much"])
def test_n_fgsm_refuses_what_is_out_of_range(name, value):
    with pytest.raises(InvalidInput, match=rf"^{name}: got .*, expected a finite number >= 0"):
        NFGSM(**{"epsilon": 0.1, name: value})
