import numpy as np
import pytest
import tensorflow as tf

from wmr_tf.engine import seeds

DRAWS = [seeds.uniform, seeds.normal]


def by_position(draw, seed, first, last):
    """The noise of the images from `first` to `last` of a set, attacked in one batch."""
    return draw(tf.zeros([last - first, 5, 4, 1]), seeds.by_position(seed, tf.range(first, last))).numpy()


def correlation(one, other):
    return abs(np.corrcoef(np.ravel(one), np.ravel(other))[0, 1])


@pytest.mark.parametrize("draw", DRAWS)
def test_noise_by_position_does_not_depend_on_the_batches(draw):
    whole = by_position(draw, 7, 0, 23)
    for size in (1, 4, 10):
        ends = [*range(0, 23, size), 23]
        batches = [by_position(draw, 7, first, last) for first, last in zip(ends, ends[1:], strict=False)]
        assert np.array_equal(np.concatenate(batches), whole)


@pytest.mark.parametrize("draw", DRAWS)
def test_noise_by_position_is_the_same_in_a_graph(draw):
    traced = tf.function(lambda positions: draw(tf.zeros([3, 2]), seeds.by_position(7, positions)))
    positions = tf.constant([5, 0, 9])
    assert np.array_equal(traced(positions), draw(tf.zeros([3, 2]), seeds.by_position(7, positions)))


@pytest.mark.parametrize("draw", DRAWS)
def test_images_experiments_and_draws_have_unrelated_noise(draw):
    images = tf.zeros([8, 1000])
    own = seeds.by_position(0, tf.range(8))
    noise = draw(images, own).numpy()
    assert np.abs(np.corrcoef(noise) - np.eye(8)).max() < 0.15
    assert correlation(noise, draw(images, seeds.by_position(1, tf.range(8)))) < 0.05
    for n in (1, 2):
        assert correlation(noise, draw(images, seeds.nth(own, n))) < 0.05
    assert np.array_equal(seeds.nth(own, 0), own)


def test_nth_takes_one_seed_or_one_an_image_and_a_tensor():
    assert seeds.nth(tf.constant([3, 4]), 2).numpy().tolist() == [5, 4]
    assert seeds.nth(tf.constant([[3, 4], [3, 5]]), tf.constant(2)).numpy().tolist() == [[5, 4], [5, 5]]


def test_fold_in_changes_with_each_datum_and_with_their_order():
    data = [(), (0,), (1,), (0, 0), (0, 1), (1, 0), (2, 3), (3, 2)]
    folded = {tuple(seeds.fold_in(seed, *datum).numpy()) for seed in (0, 1) for datum in data}
    assert len(folded) == 2 * len(data)


def test_fold_in_repeats_and_takes_variables():
    step = tf.Variable(5, dtype=tf.int64)
    folded = seeds.fold_in(3, step, 1)
    assert folded.shape == [2]
    assert folded.dtype == tf.int32
    assert np.array_equal(folded, seeds.fold_in(3, 5, 1))
    assert np.array_equal(tf.function(lambda: seeds.fold_in(3, step, 1))(), folded)


@pytest.mark.parametrize("seed", [seeds.fold_in(0), seeds.by_position(0, tf.range(50))], ids=["batch", "image"])
def test_distributions(seed):
    images = tf.zeros([50, 40, 40])
    uniform, normal = seeds.uniform(images, seed).numpy(), seeds.normal(images, seed).numpy()
    assert uniform.shape == normal.shape == (50, 40, 40)
    assert uniform.dtype == normal.dtype == np.float32
    counts, _ = np.histogram(uniform, bins=20, range=(-1, 1))
    assert counts.sum() == uniform.size
    np.testing.assert_allclose(counts, uniform.size / 20, rtol=0.07)  # 4.5 standard deviations
    assert abs(normal.mean()) < 0.015
    assert abs(normal.std() - 1) < 0.01
    assert abs((normal**4).mean() - 3) < 0.15
