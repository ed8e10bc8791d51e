"""Intervals have their coverage, and paired tests find what was planted and nothing else."""

import numpy as np
import pytest
import scipy.stats

from tests.marking import some
from wmr_tf.checks import InvalidInput
from wmr_tf.evaluation import weighted_accuracy
from wmr_tf.evaluation.statistics import (
    Accuracy,
    Seeds,
    interval_of,
    paired,
    paired_weighted,
    weighted_interval,
    welch,
)


def drawn_margins(rng, images):
    """Margins as of a robust MNIST classifier under attack: 92 % correct, most of them surely."""
    wrong = rng.random(images) < 0.08
    return np.where(wrong, -rng.beta(1.2, 1.5, images), rng.beta(3, 1, images))


def true_accuracy(alpha):
    return weighted_accuracy(drawn_margins(np.random.default_rng(99), 4_000_000), alpha).value


def coverage(covers, *, repeats, seed=0):
    """Return in which part of all repeats, each with its own random numbers, `covers(rng)` holds."""
    return np.mean([covers(rng) for rng in np.random.default_rng(seed).spawn(repeats)])


def holds(truth, interval):
    low, high = interval
    return low <= truth <= high


@pytest.mark.parametrize("images", some([500, 1000], fast=[500]))
def test_wilsons_interval_covers_the_truth(images):
    found = coverage(lambda rng: holds(0.92, Accuracy.of(rng.random(images) < 0.92)[1:]), repeats=3000)
    assert 0.93 < found < 0.97


@pytest.mark.parametrize(("images", "repeats"), [(500, 300), (500, 1000), (1000, 1000)])
@pytest.mark.slow
def test_the_bootstrap_of_a_weighted_accuracy_covers_the_truth(images, repeats):
    truth = true_accuracy(alpha=2.0)
    found = coverage(lambda rng: holds(truth, weighted_interval(drawn_margins(rng, images), 2.0)), repeats=repeats)
    assert 0.93 < found < 0.97


def test_intervals_that_hold_all_at_once_do_so_where_ten_of_95_percent_do_not():
    images, truth = 100, 0.98
    counts = np.arange(images + 1)

    def together(simultaneous):
        """The chance that ten intervals cover the truth, summed over what each class may show."""
        found = [Accuracy.of(np.arange(images) < count, simultaneous=simultaneous) for count in counts]
        chances = scipy.stats.binom.pmf(counts, images, truth)
        return sum(chance for chance, (_, *ends) in zip(chances, found, strict=True) if holds(truth, ends)) ** 10

    assert together(1) < 0.9 and together(10) > 0.95


def test_wilsons_interval_is_where_the_score_test_is_at_its_limit():
    value, low, high = Accuracy.of(np.arange(200) < 150)
    for limit in (low, high):
        assert abs(value - limit) / np.sqrt(limit * (1 - limit) / 200) == pytest.approx(1.959964, abs=1e-6)


def test_the_bootstrap_at_alpha_0_is_that_of_a_plain_accuracy():
    margins = np.where(np.arange(1000) < 920, 0.5, -0.5)
    low, high = weighted_interval(margins, 0.0)
    np.testing.assert_allclose((low, high), scipy.stats.binom.ppf([0.025, 0.975], 1000, 0.92) / 1000, atol=2e-3)


def test_a_bootstrap_of_anything_draws_its_arrays_together_and_is_the_same_each_time():
    values = np.random.default_rng(0).normal(size=500)
    assert interval_of(lambda a, b, axis: (a - b).mean(axis), values, values) == (0.0, 0.0)
    low, high = interval_of(np.mean, values)
    assert (low, high) == interval_of(np.mean, values)
    assert (high - low) / 2 == pytest.approx(1.96 * values.std() / np.sqrt(500), rel=0.1)


def mean_of_the_worst(values, axis):
    count = values.shape[axis] // 10
    return np.partition(values, count, axis)[..., :count].mean(axis)


def test_the_mean_of_the_worst_tenth_has_an_interval_that_covers_it():
    # Of uniform radii the worst tenth has the mean 0.05.
    found = coverage(lambda rng: holds(0.05, interval_of(mean_of_the_worst, rng.random(500))), repeats=200)
    assert 0.91 < found < 0.98


@pytest.mark.parametrize("alpha", [0.0, 2.0, 1000.0])
@pytest.mark.parametrize("images", [1, 2, 300])
def test_samples_without_any_variety_have_an_interval(images, alpha):
    low, high = weighted_interval(np.full(images, 0.9), alpha)
    assert high == 1.0 and 0.0 <= low < 1.0
    low_of_none, high_of_none = weighted_interval(np.full(images, -0.9), alpha)
    assert low_of_none == 0.0 and 0.0 <= high_of_none < 1.0


def test_without_a_wrong_image_the_lower_end_allows_for_wrong_ones_of_the_largest_weight():
    share = Accuracy.of(np.zeros(100, bool)).high
    low, high = weighted_interval(np.full(100, 0.9), 2.0)
    expected = (1 - share) * np.exp(-1.8) / ((1 - share) * np.exp(-1.8) + share * np.exp(2.0))
    assert (low, high) == (pytest.approx(expected), 1.0)
    low, high = weighted_interval(np.full(100, -0.3), 2.0)
    assert (low, high) == (0.0, pytest.approx(share / (share + (1 - share) * np.exp(0.6))))
    assert weighted_interval(np.array([0.9, -0.9]), 2.0) == (0.0, 1.0)
    assert interval_of(np.mean, np.array([3.0])) == interval_of(np.mean, np.full(5, 3.0)) == (3.0, 3.0)


def planted(rng, images, only_first, only_second):
    """Two models of which each has some images right that the other has wrong, drawn with these probabilities."""
    drawn = rng.choice(4, images, p=[only_first, only_second, 0.05, 0.95 - only_first - only_second])
    return (drawn == 0) | (drawn == 3), (drawn == 1) | (drawn == 3)


def test_a_planted_difference_is_found_with_its_sign():
    first, second = planted(np.random.default_rng(0), 2000, 0.01, 0.05)
    found = paired(first, second)
    assert (found.only_first, found.only_second) == (np.sum(first & ~second), np.sum(~first & second))
    assert found.difference.value == pytest.approx(second.mean() - first.mean())
    assert 0 < found.difference.low < 0.04 < found.difference.high
    assert found.p_value < 1e-6
    other_way = paired(second, first)
    assert other_way.difference == pytest.approx([-found.difference[part] for part in (0, 2, 1)])
    assert other_way.p_value == found.p_value


def test_no_difference_is_found_in_a_copy():
    first, _ = planted(np.random.default_rng(0), 500, 0.05, 0.05)
    difference, p_value, *counts = paired(first, first.copy())
    assert (difference.value, p_value, counts) == (0.0, 1.0, [0, 0])
    assert difference.low == -difference.high == pytest.approx(-1.96 / 502, rel=1e-4)
    margins = drawn_margins(np.random.default_rng(0), 500)
    assert paired_weighted(margins, margins.copy(), 2.0) == (0.0, 0.0, 0.0)


def test_mcnemars_p_value_by_hand():
    # 8 images differ, 1 for the first model: 2 * (C(8, 0) + C(8, 1)) / 2^8.
    first, second = np.arange(20) < 1, (np.arange(20) > 0) & (np.arange(20) < 8)
    assert paired(first, second).p_value == pytest.approx(2 * 9 / 256)


@pytest.mark.parametrize(("only_first", "only_second"), [(0.02, 0.05), (0.01, 0.01), (0.0, 0.03)])
def test_the_interval_of_a_paired_difference_covers_the_truth(only_first, only_second):
    def covers(rng):
        return holds(only_second - only_first, paired(*planted(rng, 500, only_first, only_second)).difference[1:])

    assert 0.93 < coverage(covers, repeats=2000) < 0.98


def test_mcnemars_test_rejects_equal_models_in_at_most_5_percent():
    rejected = coverage(lambda rng: paired(*planted(rng, 500, 0.04, 0.04)).p_value < 0.05, repeats=2000)
    assert 0.01 < rejected < 0.055


def pair_of_margins(rng, images):
    """Margins of two models on the same images; the second is wrong where the first is, but for a third of them."""
    first = drawn_margins(rng, images)
    return first, np.where((first < 0) & (rng.random(images) < 1 / 3), 0.2, first)


@pytest.mark.slow
def test_the_paired_bootstrap_covers_the_truth_and_is_narrower_than_two_intervals():
    truth = paired_truth(pair_of_margins(np.random.default_rng(99), 2_000_000))
    found = coverage(lambda rng: holds(truth, paired_weighted(*pair_of_margins(rng, 500), 2.0)[1:]), repeats=200)
    assert 0.91 < found < 0.98
    first, second = pair_of_margins(np.random.default_rng(1), 1000)
    _, low, high = paired_weighted(first, second, 2.0)
    apart = sum(np.subtract(*reversed(weighted_interval(margins, 2.0))) for margins in (first, second))
    assert low > 0 and high - low < apart * 0.7


def paired_truth(margins):
    first, second = (weighted_accuracy(each, 2.0).value for each in margins)
    return second - first


def test_two_models_that_are_always_right_differ_by_what_each_may_have_missed():
    first, second = np.full(100, 0.9), np.full(100, 0.5)
    value, low, high = paired_weighted(first, second, 2.0)
    assert value == 0.0
    assert low == pytest.approx(weighted_interval(second, 2.0)[0] - 1)
    assert high == pytest.approx(1 - weighted_interval(first, 2.0)[0])


def test_a_model_that_is_always_right_may_have_missed_some_also_beside_one_that_is_not():
    first = np.full(100, 0.95)
    second = np.where(np.arange(100) < 2, -0.5, first)
    for value, low, high in (paired_weighted(first, second, 2.0), paired_weighted(second, first, 2.0)):
        assert low < value < high
        assert high - low > 1 - weighted_interval(first, 2.0)[0]


def test_seeds_have_mean_deviation_and_number():
    assert Seeds.of([0.8, 0.9, 1.0]) == (pytest.approx(0.9), pytest.approx(0.1), 3)
    mean, deviation, number = Seeds.of([0.8])
    assert (mean, number) == (0.8, 1) and np.isnan(deviation)


def test_groups_of_seeds_differ_by_welchs_interval():
    first, second = np.array([0.80, 0.84, 0.82]), np.array([0.85, 0.86, 0.87, 0.86])
    # By hand: standard errors, and Welch and Satterthwaite's degrees of freedom.
    parts = [group.var(ddof=1) / len(group) for group in (first, second)]
    freedom = sum(parts) ** 2 / (parts[0] ** 2 / 2 + parts[1] ** 2 / 3)
    reach = scipy.stats.t.ppf(0.975, freedom) * np.sqrt(sum(parts))
    assert welch(first, second) == pytest.approx((0.04, 0.04 - reach, 0.04 + reach))
    assert welch([0.5, 0.5], [0.75, 0.75]) == (0.25, 0.25, 0.25)
    found = coverage(lambda rng: holds(0.1, welch(rng.normal(0, 1, 4), rng.normal(0.1, 0.3, 3))[1:]), repeats=2000)
    assert 0.93 < found < 0.98


def test_what_is_no_pair_and_no_group_is_refused():
    with pytest.raises(InvalidInput, match="got 3 of the first model and 4 of the second, expected the same images"):
        paired(np.ones(3, bool), np.ones(4, bool))
    with pytest.raises(InvalidInput, match="got 0 of the first model"):
        paired_weighted(np.ones(0), np.ones(0), 1.0)
    with pytest.raises(InvalidInput, match="seeds: got 1, expected at least 2"):
        welch([0.5], [0.5, 0.6])
    with pytest.raises(InvalidInput, match="alpha: got -1"):
        weighted_interval(np.ones(3), -1.0)
