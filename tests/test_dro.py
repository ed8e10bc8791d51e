"""KL balls and CVaR against the simplex searched by an optimiser, dual problems and definitions."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import optimize

from wmr_tf.checks import InvalidInput
from wmr_tf.evaluation import dro, weighted_accuracy

ALPHAS = (0.0, 0.1, 1.0, 2.0, 7.0)
RNG = np.random.default_rng(0)
SETS = [RNG.uniform(-0.4, 1, images) for images in (2, 5, 9)] + [np.array([0.7, -0.2, -0.2, 0.1, -0.2, 0.9])]


def divergence(p):
    """KL(p || uniform), term by term."""
    return sum(q * math.log(q * len(p)) for q in p if q > 0)


def any_margins(most: int):
    return arrays(np.float64, st.integers(1, most), elements=st.one_of(st.floats(-1, 1), st.sampled_from([-1.0, 0, 1])))


ANY_ALPHA = st.one_of(st.floats(0, 7), st.sampled_from(ALPHAS))


def test_the_error_of_the_worst_accuracy_counts_that_its_radius_is_an_estimate():
    """With two values of the margin A_worst is A_sa; of many samples the spread is known."""
    margins = np.where(np.arange(100) < 10, -0.5756, 0.5756)
    found = dro.worst_case_accuracy_stderr(margins, 2.0)
    assert found == pytest.approx(weighted_accuracy(margins, 2.0).stderr, rel=1e-6)
    assert found > 1.3 * dro.worst_case_mean_stderr(margins > 0, dro.kl_radius(margins, 2.0))
    of_many = RNG.uniform(-0.2, 1, 5000)
    samples = [RNG.choice(of_many, 500) for _ in range(400)]
    spread = np.std([dro.worst_case_accuracy(each, dro.kl_radius(each, 1.5)) for each in samples])
    assert np.mean([dro.worst_case_accuracy_stderr(each, 1.5) for each in samples[:50]]) == pytest.approx(
        spread, rel=0.15
    )
    for same in (np.ones(9), -np.ones(9)):  # all right, all wrong
        assert dro.worst_case_accuracy_stderr(same, 2.0) == 0
    assert dro.worst_case_accuracy_stderr(of_many, 0.0) == pytest.approx(np.std(of_many > 0) / math.sqrt(5000))


@given(any_margins(20), ANY_ALPHA)
def test_radius_is_the_divergence_of_the_normalised_weights(margins, alpha):
    s = [math.exp(-alpha * margin) for margin in margins]
    p = [weight / sum(s) for weight in s]
    np.testing.assert_allclose(dro.tilt(margins, alpha) / dro.tilt(margins, alpha).sum(), p, rtol=1e-12)
    assert dro.kl_radius(margins, alpha) == pytest.approx(divergence(p), abs=1e-12)


@pytest.mark.parametrize("margins", SETS)
def test_the_tilt_of_a_radius_is_the_inverse(margins):
    for alpha in ALPHAS:
        assert dro.alpha_for_radius(margins, dro.kl_radius(margins, alpha)) == pytest.approx(alpha, rel=1e-5)
    radii = [dro.kl_radius(margins, alpha) for alpha in ALPHAS]
    assert radii[0] == 0 and (np.diff(radii) > 0).all()


@pytest.mark.parametrize(("margins", "fragile"), [([0.5, -0.1, 0.9], 1), ([0.5, -0.1, -0.1, 0.9], 2), ([0.3] * 4, 4)])
def test_at_and_beyond_the_largest_radius_only_the_most_fragile_are_picked(margins, fragile):
    margins = np.array(margins)
    largest = math.log(len(margins) / fragile)
    assert dro.kl_radius(margins, math.inf) == pytest.approx(largest, abs=1e-15)
    for rho in (largest + 1e-9, largest + 1, 100.0):
        assert dro.alpha_for_radius(margins, rho) == math.inf
    assert dro.alpha_for_radius(margins, 0.0) == 0
    p = dro.tilt(margins, math.inf)
    assert p.tolist() == (margins == margins.min()).tolist()
    if fragile < len(margins):
        assert 20 < dro.alpha_for_radius(margins, largest - 1e-6) < math.inf
        # As near as a float comes: the answer may be anything huge, not an endless search.
        assert dro.alpha_for_radius(margins, np.nextafter(dro.kl_radius(margins, math.inf), 0)) > 20


def searched_worst_mean(values, rho):
    """The smallest mean in the KL ball, found by an optimiser on the simplex."""
    n = len(values)
    within = {"type": "ineq", "fun": lambda p: rho - np.sum(p * np.log(np.maximum(p, 1e-300) * n))}
    whole = {"type": "eq", "fun": lambda p: p.sum() - 1}
    found = optimize.minimize(
        lambda p: p @ values, np.full(n, 1 / n), bounds=[(1e-12, 1)] * n, constraints=[within, whole], tol=1e-10
    )
    return found.fun


def dual_worst_mean(values, rho):
    """The Lagrangian dual: max over lambda of -lambda rho - lambda log mean exp(-value / lambda)."""

    def bound(log_lambda):
        scale = math.exp(log_lambda)
        return scale * rho + scale * np.log(np.mean(np.exp(-(values - values.min()) / scale))) - values.min()

    return -optimize.minimize_scalar(bound, bounds=(-8, 8), method="bounded", options={"xatol": 1e-9}).fun


@pytest.mark.parametrize("margins", SETS)
@pytest.mark.parametrize("rho", [0.01, 0.1, 0.3])
def test_worst_cases_against_a_search_of_the_simplex_and_the_dual(margins, rho):
    for values in (margins, (margins > 0).astype(float)):
        worst = dro.worst_case_mean(values, rho)
        assert worst == pytest.approx(searched_worst_mean(values, rho), abs=2e-5)
        assert worst == pytest.approx(dual_worst_mean(values, rho), abs=2e-3)
    correct = np.array([1.0 if margin > 0 else 0.0 for margin in margins])
    assert dro.worst_case_accuracy(margins, rho) == pytest.approx(searched_worst_mean(correct, rho), abs=2e-5)


@pytest.mark.parametrize(("n", "errors"), [(10, 3), (1000, 1), (599, 96)])
def test_worst_accuracy_solves_the_binary_divergence(n, errors):
    margins = np.concatenate([np.full(n - errors, 0.5), np.full(errors, -0.1)])
    e = errors / n
    for rho in (0.001, 0.05, 0.5):
        q = 1 - dro.worst_case_accuracy(margins, rho)
        assert q > e
        assert q * math.log(q / e) + (1 - q) * math.log((1 - q) / (1 - e)) == pytest.approx(rho, abs=1e-9)
    assert dro.worst_case_accuracy(margins, math.log(1 / e)) == pytest.approx(0, abs=1e-9)
    assert dro.worst_case_accuracy(margins, math.log(1 / e) + 0.1) == 0
    assert dro.worst_case_accuracy(margins, 0.0) == 1 - e


def test_worst_accuracy_where_all_images_are_alike():
    assert dro.worst_case_accuracy(np.array([0.1, 0.9]), 5.0) == 1
    assert dro.worst_case_accuracy(np.array([-0.1, 0.0]), 5.0) == 0
    assert dro.worst_case_accuracy(np.array([0.0, 0.1]), 0.0) == 0.5  # a tie counts as wrong


def worst_accuracy_and_a_sa(margins, alpha):
    worst = dro.worst_case_accuracy(margins, dro.kl_radius(margins, alpha))
    return worst, weighted_accuracy(margins, alpha).value


@given(any_margins(60), ANY_ALPHA)
def test_worst_accuracy_is_never_above_a_sa(margins, alpha):
    worst, a_sa = worst_accuracy_and_a_sa(margins, alpha)
    assert worst <= a_sa + 1e-9


def test_worst_accuracy_is_below_a_sa_more_often_than_not():
    rng = np.random.default_rng(1)
    pairs = (
        worst_accuracy_and_a_sa(rng.uniform(-0.5, 1, rng.integers(1, 60)), alpha) for alpha in ALPHAS for _ in range(40)
    )
    assert sum(worst < a_sa - 0.01 for worst, a_sa in pairs) > 100


def test_cvar_is_the_largest_mean_under_bounded_weights():
    rng = np.random.default_rng(4)
    for n in (1, 7, 10):
        losses = rng.exponential(size=n)
        for level in (0.03, 0.1, 0.25, 0.5, 0.99, 1.0):
            most = 1 / (level * n)
            found = optimize.linprog(-losses, A_eq=np.ones([1, n]), b_eq=[1], bounds=(0, most)) if most < 1 else None
            expected = -found.fun if found else losses.max()
            assert dro.cvar(losses, level) == pytest.approx(expected, abs=1e-9)
    assert dro.cvar(np.array([1.0, 4.0, 2.0, 3.0]), 0.5) == 3.5
    assert dro.cvar(np.array([1.0, 4.0, 2.0, 3.0]), 1.0) == 2.5


@pytest.mark.parametrize(
    ("measure", "stderr", "settings"),
    [
        (dro.kl_radius, dro.kl_radius_stderr, (0.5, 2.0)),
        (dro.worst_case_mean, dro.worst_case_mean_stderr, (0.0, 0.05, 0.3)),
        (lambda x, rho: dro.worst_case_mean(x > 0, rho), lambda x, rho: dro.worst_case_mean_stderr(x > 0, rho), (0.2,)),
        (dro.cvar, dro.cvar_stderr, (1.0, 0.5, 0.2)),
    ],
    ids=["rho", "worst mean", "worst accuracy", "cvar"],
)
def test_standard_errors_are_those_of_a_bootstrap_of_the_set(measure, stderr, settings):
    values = np.random.default_rng(2).uniform(-0.4, 1, 500)
    sets = np.random.default_rng(3).choice(values, [400, 500])
    for setting in settings:
        spread = np.std([measure(each, setting) for each in sets])
        assert stderr(values, setting) == pytest.approx(spread, rel=0.1), setting


def test_standard_errors_at_the_ends():
    margins = np.array([0.5, -0.1, 0.9, 0.8])
    assert dro.kl_radius_stderr(margins, 0.0) == 0
    # The radius is log(1 / e) with e the share of the smallest margin, a binomial one.
    assert dro.kl_radius_stderr(margins, math.inf) == pytest.approx(math.sqrt((1 / 0.25 - 1) / 4))
    assert dro.worst_case_mean_stderr(margins > 0, 5.0) == 0 and dro.worst_case_mean_stderr(margins > -1, 0.1) == 0
    assert dro.worst_case_mean_stderr(margins > 0, 0.0) == pytest.approx(math.sqrt(0.25 * 0.75 / 4))
    assert dro.cvar_stderr(margins, 0.25) == 0


@pytest.mark.parametrize("values", [[], [0.5, math.nan], [math.inf]])
def test_what_is_not_finite_is_refused(values):
    for measure, name in ((dro.tilt, "values"), (dro.worst_case_accuracy, "margins"), (dro.cvar, "losses")):
        with pytest.raises(InvalidInput, match=rf"^{name}: got \d of which \d are not finite"):
            measure(np.array(values), 1.0)


@pytest.mark.parametrize(
    ("measure", "name", "bad"),
    [
        (dro.kl_radius, "alpha", (-1.0, math.nan)),
        (dro.alpha_for_radius, "rho", (-0.1, math.nan, math.inf)),
        (dro.worst_case_mean, "rho", (-0.1, math.nan)),
        (dro.cvar, "level", (0.0, -0.1, 1.1, math.nan)),
        (dro.cvar_stderr, "level", (0.0, 1.1)),
        (dro.kl_radius_stderr, "alpha", (-1.0,)),
        (dro.worst_case_mean_stderr, "rho", (-0.1,)),
    ],
)
def test_settings_out_of_range_are_refused(measure, name, bad):
    for value in bad:
        with pytest.raises(InvalidInput, match=f"^{name}: got {value}, expected a"):
            measure(np.array([0.1, 0.2]), value)
