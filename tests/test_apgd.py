"""Auto-PGD against linear classifiers, scripted losses and a plain NumPy version of its steps."""

import dataclasses
import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.marking import some
from tests.test_fab import OF_NORM, linear
from wmr_tf import losses
from wmr_tf.attacks import APGD, NORMS, apgd
from wmr_tf.attacks.apgd import STAGES
from wmr_tf.attacks.ascent import _largest_signs, windows, with_momentum
from wmr_tf.attacks.base import computed_once, evaluation_of
from wmr_tf.attacks.norms import LInf
from wmr_tf.checks import InvalidInput
from wmr_tf.engine import seeds

SEED = tf.constant([3, 4])
EPSILONS = {"linf": 0.1, "l2": 0.6, "l1": 3.0}


@pytest.fixture(params=NORMS)
def norm(request):
    return request.param


# Linear classifiers, where it is known which images are robust


def attacked(problem, attack, loss, *, targets=None, epsilon=None):
    """Return the attacked images, each run towards its targets `[images, runs]`, and whether one of these broke it."""
    images = len(problem.clean)
    runs = 1 if targets is None else targets.shape[1]
    clean, labels = np.repeat(problem.clean, runs, axis=0), np.repeat(problem.labels, runs)
    chosen = [] if targets is None else [targets.reshape(-1)]
    radii = np.full(images, attack.epsilon) if epsilon is None else epsilon

    @tf.function(autograph=False)
    def run(x, epsilon):
        logits_of = computed_once(lambda x: x @ problem.weights)
        return attack(
            lambda x: loss(logits_of(x), labels, *chosen),
            x,
            seed=seeds.by_position(0, tf.range(len(clean))),
            score_fn=lambda x: losses.verdict(logits_of(x), labels),
            epsilon=epsilon,
        )

    found = run(tf.constant(clean), tf.constant(np.repeat(radii, runs), tf.float32)).numpy()
    is_broken = (found @ problem.weights).argmax(axis=1) != labels
    return found.reshape(images, runs, -1), is_broken.reshape(images, runs).any(axis=1)


def towards_the_next(problem, attack, runs, **settings):
    loss = losses.targeted_difference_of_logits_ratio
    return attacked(problem, attack, loss, targets=problem.others[:, :runs], **settings)


def assert_in_ball_and_box(norm, found, clean, epsilon):
    distance = OF_NORM[norm](found.astype(np.float64) - clean)
    assert (distance <= epsilon * (1 + 1e-6) + 1e-6).all()
    assert found.min() >= 0
    assert found.max() <= 1


# The share of images that are robust falls from one half to a tenth.
@pytest.mark.parametrize("of_norm", ["linf", "l2"])
@pytest.mark.parametrize("share", some([0.5, 0.95, 0.8, 0.3, 0.2, 0.1], fast=[0.5]))
def test_towards_all_classes_it_breaks_exactly_the_images_that_are_not_robust(of_norm, share):
    problem = linear(images=300)
    exact = problem.exact(of_norm).min(axis=1)
    epsilon = float(np.quantile(exact, 1 - share))
    found, is_broken = towards_the_next(problem, APGD(epsilon=epsilon, norm=of_norm), 9)
    assert_in_ball_and_box(of_norm, found, problem.clean[:, np.newaxis], epsilon)
    assert not is_broken[exact > epsilon * (1 + 1e-5)].any()
    assert is_broken[exact < epsilon * (1 - (1e-5 if of_norm == "linf" else 1e-3))].all()


@pytest.mark.parametrize(
    ("staged", "images"), [(True, 100), *(pytest.param(each, 300, marks=pytest.mark.slow) for each in (True, False))]
)
def test_in_l1_it_misses_few(staged, images):
    problem = linear(images=images)
    exact = problem.exact("l1").min(axis=1)
    epsilon = float(np.median(exact))
    found, is_broken = towards_the_next(problem, APGD(epsilon=epsilon, norm="l1", staged=staged), 9)
    assert_in_ball_and_box("l1", found, problem.clean[:, np.newaxis], epsilon)
    assert not is_broken[exact > epsilon * (1 + 1e-5)].any()
    assert (~is_broken[exact < epsilon]).sum() <= 0.02 * images


def test_just_below_its_exact_radius_no_image_is_broken_and_a_little_above_it_nearly_all(norm):
    problem = linear(images=40)
    exact = problem.exact(norm).min(axis=1)
    attack = APGD(epsilon=0.1, norm=norm, staged=norm == "l1")
    both = dataclasses.replace(problem, clean=np.repeat(problem.clean, 2, axis=0))
    epsilon = np.repeat(exact, 2) * np.tile([1 - 1e-4, 1.05], len(exact))
    _, is_broken = towards_the_next(both, attack, 3, epsilon=epsilon)
    below, above = is_broken[::2], is_broken[1::2]
    assert not below.any()
    assert above.mean() > (0.7 if norm == "l1" else 0.95)


def test_with_two_classes_cross_entropy_is_exact(norm):
    problem = linear(classes=2, images=100)
    exact = problem.exact(norm)[:, 0]
    epsilon = float(np.median(exact))
    attack = APGD(epsilon=epsilon, norm=norm)
    _, is_broken = attacked(problem, attack, losses.unsaturated_cross_entropy)
    assert np.array_equal(is_broken, exact < epsilon) or norm == "l1"
    assert np.mean(is_broken == (exact < epsilon)) > 0.97


# The step size, on scripted losses


class Watched(LInf):
    """A ball that keeps the step sizes: each step is projected twice, first as it is, then with momentum."""

    def __init__(self, clean, epsilon):
        super().__init__(clean, epsilon)
        self.at, self.asked = [], []

    def direction(self, attacked, gradient):
        self.at.append(attacked.numpy())
        return super().direction(attacked, gradient)

    def project(self, attacked):
        self.asked.append(attacked.numpy())
        return super().project(attacked)

    @property
    def step_sizes(self):
        return np.abs(np.array(self.asked[::2]) - np.array(self.at))[..., 0]


def scripted(script):
    """Return step sizes `[steps, images]` in a ball of radius 1/4 where losses, one row a point, are these."""
    script = np.float32(script)
    ball = Watched(tf.fill([script.shape[1], 1], 0.5), 0.25)
    rows = iter(script)

    def evaluate(x):
        loss = tf.constant(next(rows))
        return loss, -loss, tf.ones_like(x)

    with_momentum(evaluate, ball, ball.clean, len(script) - 1, cold=True)
    assert next(rows, None) is None
    return ball.step_sizes


ENDS = np.cumsum(windows(100))
"""After how many steps each window ends."""


def halvings(losses):
    """Return for each of the scripts after which steps the step size is halved; 100 steps, no loss before them."""
    sizes = scripted(np.concatenate([np.zeros([1, len(losses)]), np.transpose(losses)]))
    np.testing.assert_allclose(sizes[0], 0.5, atol=1e-6)
    ratios = sizes[1:] / sizes[:-1]
    is_halved = np.abs(ratios - 0.5) < 1e-3
    assert (is_halved | (np.abs(ratios - 1) < 1e-3)).all()
    return [np.flatnonzero(of_image) + 1 for of_image in is_halved.T], sizes[-1]


def rising_but_for(falls, depth=0.5):
    """Return a loss that rises by 1 in each of 100 steps but in these, counted from 1, where it falls."""
    changes = np.ones(100)
    changes[np.array(falls, int) - 1] = -depth
    return np.cumsum(changes)


def test_a_loss_that_always_rises_leaves_the_step_size_and_one_that_never_does_halves_it_at_each_check():
    (rising, constant, falling), last = halvings([rising_but_for([]), np.ones(100), -np.arange(100.0)])
    assert len(rising) == 0
    assert constant.tolist() == falling.tolist() == [22, 41, 57, 70, 80, 87, 93, 99]
    np.testing.assert_allclose(last, [0.5, 0.5 / 256, 0.5 / 256], rtol=1e-3)


def test_twelve_rises_in_sixteen_steps_are_too_few_and_thirteen_enough():
    # The third window is of steps 42 to 57.
    (twelve, thirteen), _ = halvings([rising_but_for([43, 46, 49, 52]), rising_but_for([43, 46, 49])])
    assert twelve.tolist() == [57]
    assert thirteen.tolist() == []


@pytest.mark.parametrize("window", range(8))
def test_rises_are_counted_within_each_window(window):
    length, end = windows(100)[window], ENDS[window]
    enough = math.floor(0.75 * length) + 1
    inside = np.arange(end - length + 2, end + 1)  # but the first, so that the first one of all can be among them
    found, _ = halvings([rising_but_for(inside[: length - rises], 0.01) for rises in (enough - 1, enough)])
    assert [each.tolist() for each in found] == [[end], []]


def test_a_window_without_a_better_point_halves_unless_the_one_before_did():
    peak = rising_but_for([22], depth=1000.0)  # rises in the second window, far below the peak in the first
    never_again = peak.copy()
    never_again[41] -= 1000.0
    flat_then_low = np.concatenate([np.full(22, 500.0), np.arange(78.0)])  # halved after 22, where too few rose
    (once, twice, after_a_halving), _ = halvings([peak, never_again, flat_then_low])
    # Once halved, the next check asks only for rises; the one after that asks for a better point again.
    assert once.tolist() == twice.tolist() == [41, 70, 87, 99]
    assert after_a_halving.tolist() == [22, 57, 80, 93]


def test_the_first_loss_is_compared_with_0_and_not_with_that_of_the_start():
    # In one step and one window: too few rises iff the first loss is not above 0.
    sizes = scripted([[5.0, -5.0], [1.0, -1.0], [2.0, 2.0], [3.0, 3.0]])
    np.testing.assert_allclose(sizes[1], [0.5, 0.25], atol=1e-6)


def test_windows_by_hand():
    assert windows(100) == [22, 19, 16, 13, 10, 7, 6, 6]
    assert np.cumsum(windows(50)).tolist() == [11, 21, 30, 38, 45]
    assert windows(3) == [1, 1, 1]
    assert windows(1) == [1]
    for steps in range(1, 300):
        assert 0 <= steps - sum(windows(steps)) < max(windows(steps)[-1], 1)


# The steps, by hand and against NumPy


def moved(norm, clean, epsilon, x, before, gradient, step_size, share):
    """Return the next points of vectors `[batch, d]`, in float64; numbers of an image are `[batch, 1]`."""

    def project(v):
        if norm == "linf":
            v = np.clip(v, clean - epsilon, clean + epsilon)
        else:
            length = np.sqrt(((v - clean) ** 2).sum(axis=1, keepdims=True)) + 1e-30
            v = clean + (v - clean) * np.minimum(epsilon / length, 1)
        return np.clip(v, 0, 1)

    length = np.sqrt((gradient**2).sum(axis=1, keepdims=True))
    direction = np.sign(gradient) if norm == "linf" else gradient / (length + 1e-30)
    stepped = project(x + step_size * direction)
    return project(x + share * (stepped - x) + (1 - share) * (x - before))


def shown_by(norm, start, gradients, script, clean, epsilon):
    """Return the points `[steps + 1, d]` that an ascent is shown, where gradients and losses come from a script."""
    shown = []

    def evaluate(x):
        shown.append(x.numpy()[0])
        loss = tf.constant([script[len(shown) - 1]], tf.float32)
        return loss, -loss, tf.constant([gradients[len(shown) - 1]], tf.float32)

    ball = NORMS[norm](tf.constant([clean], tf.float32), epsilon)
    with_momentum(evaluate, ball, tf.constant([start], tf.float32), len(script) - 1, cold=True)
    return np.array(shown)


def test_three_steps_in_linf_by_hand():
    shown = shown_by("linf", [0.375], [[2.0], [-3.0], [5.0], [0.0]], [0.0, 1.0, 2.0, 3.0], [0.5], 0.25)
    second = 0.75 + 0.75 * (0.25 - 0.75) + 0.25 * (0.75 - 0.375)
    third = second + 0.75 * (0.75 - second) + 0.25 * (second - 0.75)
    np.testing.assert_allclose(shown[:, 0], [0.375, 0.75, second, third], atol=1e-6)


def test_three_steps_in_linf_over_a_return_to_the_best_point_by_hand():
    # The best point is the start. After the second step it is gone back to, and its gradient; half a step from there,
    # and momentum is what leads to it from the first point.
    shown = shown_by("linf", [0.375], [[2.0], [-3.0], [-1.0], [0.0]], [5.0, 1.0, 0.5, 0.0], [0.5], 0.25)
    second = 0.75 + 0.75 * (0.25 - 0.75) + 0.25 * (0.75 - 0.375)
    third = 0.375 + 0.75 * 0.25 + 0.25 * (0.375 - 0.75)
    np.testing.assert_allclose(shown[:, 0], [0.375, 0.75, second, third], atol=1e-6)


def test_three_steps_in_l2_by_hand():
    shown = shown_by("l2", [0.6, 0.5], [[3.0, 4.0], [0.0, -1.0], [1.0, 0.0], [0.0, 0.0]], range(4), [0.5, 0.5], 0.2)
    # 0.4 along (3, 4) is (0.34, 0.32) away from the clean image, and there is no momentum yet.
    first = 0.5 + 0.2 * np.array([0.34, 0.32]) / math.hypot(0.34, 0.32)
    away = first - [0.5, 0.5] - [0.0, 0.4]
    stepped = 0.5 + 0.2 * away / math.hypot(*away)
    second = first + 0.75 * (stepped - first) + 0.25 * (first - [0.6, 0.5])
    away = second - 0.5
    second = 0.5 + away * min(1, 0.2 / math.hypot(*away))
    away = second - 0.5 + [0.4, 0.0]
    stepped = 0.5 + 0.2 * away / math.hypot(*away)
    third = second + 0.75 * (stepped - second) + 0.25 * (second - first)
    away = third - 0.5
    third = 0.5 + away * min(1, 0.2 / math.hypot(*away))
    np.testing.assert_allclose(shown, [[0.6, 0.5], first, second, third], atol=1e-6)


def test_in_l2_the_ball_comes_before_the_box():
    shown = shown_by("l2", [0.9, 0.5], [[1.0, 1.0], [0.0, 0.0]], [0.0, 1.0], [0.9, 0.5], 0.4)
    np.testing.assert_allclose(shown[1], [1.0, 0.5 + 0.4 / math.sqrt(2)], atol=1e-6)


RNG = np.random.default_rng(5)
FIRST, SECOND = (np.float32(RNG.standard_normal(shape)) for shape in ([12, 16], [16, 4]))
VECTORS = np.float32(RNG.random([8, 12]))
VECTORS[:2] = np.round(VECTORS[:2])
LABELS = np.argmax(np.tanh(3 * VECTORS @ FIRST) @ SECOND, axis=1)


def smooth(x):
    """Return the logits of a small smooth classifier."""
    return tf.tanh(3 * x @ FIRST) @ SECOND


def smooth_loss(x, labels=LABELS):
    return losses.cross_entropy(smooth(x), labels)


def smooth_verdict(x):
    return losses.verdict(smooth(x), LABELS)


@pytest.fixture
def watched(monkeypatch):
    """Return all points that an attack is shown with losses, scores and gradients of each, and what it returns."""
    rows = []

    def watched_evaluation(*arguments, **settings):
        evaluate = evaluation_of(*arguments, **settings)

        def evaluated_and_kept(x):
            found = evaluate(x)
            tf.numpy_function(lambda *row: rows.append([part.copy() for part in row]), [x, *found], [])
            return found

        return evaluated_and_kept

    monkeypatch.setattr(apgd, "evaluation_of", watched_evaluation)

    def run(attack, *, loss_fn=smooth_loss, **settings):
        rows.clear()
        own = seeds.by_position(7, tf.range(8))
        found = in_graph(lambda x: attack(loss_fn, x, seed=own, **settings))(tf.constant(VECTORS)).numpy()
        return [np.array(column) for column in zip(*rows, strict=True)], found

    return run


def in_graph(function, **settings):
    """Return it as a graph, which makes many steps faster."""
    return tf.function(function, autograph=False, **settings)


def predicted_with_momentum(norm, epsilon, shown, losses, gradients):
    """Return each next point, from the points before it, as the public code computes it; vectors `[batch, d]`.

    Source: Croce and Hein 2020, Algorithm 1, with the public code's counting of rises.
    """
    steps, batch = len(shown) - 1, shown.shape[1]
    checks = set(np.cumsum(windows(steps)) - 1)
    next_points = np.empty([steps, *shown.shape[1:]])
    restored = 0
    for b in range(batch):
        trace = np.zeros(steps)
        x = before = best = shown[0, b].astype(np.float64)
        gradient = best_gradient = gradients[0, b]
        best_loss = last_best = losses[0, b]
        step_size, was_halved, since = 2 * epsilon, True, 0
        for i in range(steps):
            rows = (VECTORS[b], epsilon, x, before, gradient)
            clean, radius, *at = (row[np.newaxis] if np.ndim(row) else row for row in rows)
            next_points[i, b] = moved(norm, clean, radius, *at, step_size, 0.75 if i else 1.0)[0]
            before, x = x, shown[i + 1, b].astype(np.float64)
            gradient, trace[i] = gradients[i + 1, b], losses[i + 1, b]
            if trace[i] > best_loss:
                best, best_loss, best_gradient = x, trace[i], gradient
            since += 1
            if i in checks:
                rises = sum(trace[j] > trace[j - 1] for j in range(i - since + 1, i + 1))  # trace[-1] is the last, 0
                is_few = rises <= 0.75 * since
                if is_few or (not was_halved and best_loss == last_best):
                    step_size, was_halved, restored = step_size / 2, True, restored + 1
                    x, gradient = best, best_gradient
                else:
                    was_halved = False
                last_best, since = best_loss, 0
    return next_points, restored


@pytest.mark.parametrize("of_norm", ["linf", "l2"])
@pytest.mark.parametrize("steps", [1, 30, 100])
def test_each_step_is_that_of_a_plain_numpy_version_from_where_it_was(watched, of_norm, steps):
    epsilon = EPSILONS[of_norm]
    (shown, of_shown, _, gradients), _ = watched(APGD(epsilon=epsilon, norm=of_norm, steps=steps))
    assert len(shown) == steps + 1
    expected, restored = predicted_with_momentum(of_norm, epsilon, shown, of_shown, gradients)
    np.testing.assert_allclose(shown[1:], expected, rtol=0, atol=1e-5)
    assert steps == 1 or restored > 8


def predicted_sparse(epsilon, shown, losses, gradients, *, cold):
    """Return each next point in l1 from the points before it; vectors `[batch, d]`."""
    steps, values = len(shown) - 1, shown.shape[2]
    period = max(int(0.04 * steps), 1)
    pushed = np.empty([steps, *shown.shape[1:]])
    restored = 0
    for b, clean in enumerate(VECTORS):
        x = best = shown[0, b].astype(np.float64)
        gradient = best_gradient = gradients[0, b]
        best_loss, step_size = losses[0, b], epsilon
        moved_before = values if cold else (shown[0, b] != clean).sum()
        share = np.float32(0.2 if cold else moved_before / (1.5 * values))
        for i in range(steps):
            order = np.sort(np.abs(gradient))
            smallest = order[min(max(int((1 - share) * np.float32(values)), 0), values - 1)]
            signs = np.sign(gradient) * (np.abs(gradient) >= smallest)
            pushed[i, b] = x + step_size * signs / np.abs(signs).sum()
            x, gradient = shown[i + 1, b].astype(np.float64), gradients[i + 1, b]
            if losses[i + 1, b] > best_loss:
                best, best_loss, best_gradient = shown[i + 1, b], losses[i + 1, b], gradient
            if (i + 1) % period == 0:
                now = (np.float32(best) != clean).sum()
                share = np.float32(now / (1.5 * values))
                if now / moved_before < 0.95:
                    step_size, x, gradient, restored = epsilon, best.astype(np.float64), best_gradient, restored + 1
                else:
                    step_size = max(step_size / 1.5, epsilon / 10)
                moved_before = now
    ball = NORMS["l1"](tf.constant(np.tile(VECTORS, [steps, 1])), epsilon)
    return ball.project(tf.constant(pushed.reshape(-1, values), tf.float32)).numpy().reshape(pushed.shape), restored


@pytest.mark.parametrize("steps", [1, 30, 100])
def test_each_step_in_l1_is_that_of_a_plain_numpy_version_from_where_it_was(watched, steps):
    (shown, of_shown, _, gradients), _ = watched(APGD(epsilon=3.0, norm="l1", steps=steps))
    expected, restored = predicted_sparse(3.0, shown, of_shown, gradients, cold=True)
    np.testing.assert_allclose(shown[1:], expected, rtol=0, atol=2e-5)
    assert steps == 1 or restored > 4


def test_a_staged_attack_goes_through_three_radii_and_only_the_last_one_counts(watched):
    assert STAGES == ((3.0, 0.3), (2.0, 0.3), (1.0, 0.4))
    attack = APGD(epsilon=0.8, norm="l1", steps=50, staged=True)
    (shown, of_shown, scores, gradients), found = watched(attack, score_fn=smooth_verdict)
    first = 0
    start = None
    for scale, steps in ((3, 15), (2, 15), (1, 20)):
        part = slice(first, first + steps + 1)
        points = shown[part]
        assert (OF_NORM["l1"](points.astype(np.float64) - VECTORS) <= scale * 0.8 + 1e-5).all()
        expected, _ = predicted_sparse(scale * 0.8, points, of_shown[part], gradients[part], cold=False)
        np.testing.assert_allclose(points[1:], expected, rtol=0, atol=2e-5)
        if start is not None:
            ball = NORMS["l1"](tf.constant(VECTORS), scale * 0.8)
            np.testing.assert_allclose(points[0], ball.project(start), rtol=0, atol=1e-6)
        start = points[of_shown[part].argmax(axis=0), range(8)]
        first += steps + 1
    assert first == len(shown)
    assert np.array_equal(found, shown[-21:][scores[-21:].argmin(axis=0), range(8)])
    assert (scores[:-21].min(axis=0) < scores[-21:].min(axis=0)).any()  # there was something to leave out


def test_a_step_in_l1_moves_the_share_of_values_with_the_largest_gradients():
    gradient = tf.constant([[0.1, -0.5, 0.3, -0.2, 0.0]] * 4)
    found = _largest_signs(gradient, tf.constant([0.2, 0.4, 0.0, 1.0]))
    one, two, none, all_of_them = found.numpy()
    np.testing.assert_allclose(one, [0, -1, 0, 0, 0], atol=1e-6)
    np.testing.assert_allclose(two, [0, -0.5, 0.5, 0, 0], atol=1e-6)
    np.testing.assert_allclose(none, one)  # the largest is always there
    np.testing.assert_allclose(all_of_them, [0.25, -0.25, 0.25, -0.25, 0], atol=1e-6)
    assert not _largest_signs(tf.zeros([2, 5]), tf.fill([2], 0.2)).numpy().any()


# What it is shown, and what it keeps


def test_it_starts_on_the_sphere(norm):
    grey = tf.fill([20, 4, 4, 2], 0.5)
    starts = []

    def loss_fn(x):
        starts.append(x.numpy())
        return tf.reduce_sum(x, axis=[1, 2, 3])

    APGD(epsilon=0.1, norm=norm, steps=1)(loss_fn, grey, seed=SEED)
    change = (starts[0].astype(np.float64) - 0.5).reshape(20, -1)
    np.testing.assert_allclose(OF_NORM[norm](change), 0.1, rtol=1e-5)
    signs = np.sign(change[:, 0] if norm != "l1" else change[np.abs(change) > 0])
    assert abs(signs.mean()) < 0.7


def test_it_returns_the_point_of_smallest_score_of_all_it_was_shown(watched, norm):
    attack = APGD(epsilon=EPSILONS[norm], norm=norm, steps=20, restarts=3)

    def score_fn(x):
        return tf.reduce_sum(tf.sin(40 * x), axis=1)  # which has little to do with the loss

    (shown, _, scores, _), found = watched(attack, score_fn=score_fn)
    assert len(shown) == 3 * 21
    smallest = scores.argmin(axis=0)
    assert np.array_equal(found, shown[smallest, range(8)])
    assert len(set(smallest // 21)) > 1
    assert (smallest % 21 < 20).any()


def test_the_start_counts_and_so_does_the_last_point():
    attack = APGD(epsilon=0.1, steps=3)
    for chosen in range(4):
        calls = []

        def score_fn(x, calls=calls, chosen=chosen):
            calls.append(x.numpy())
            return tf.fill([8], -1.0 if len(calls) == chosen + 1 else 1.0)

        found = attack(smooth_loss, tf.constant(VECTORS), seed=SEED, score_fn=score_fn)
        assert np.array_equal(found, calls[chosen])


def test_without_a_score_the_highest_loss_wins(watched, norm):
    (shown, of_shown, _, _), found = watched(APGD(epsilon=EPSILONS[norm], norm=norm, steps=10, restarts=2))
    assert np.array_equal(found, shown[of_shown.argmax(axis=0), range(8)])


@pytest.mark.parametrize("of_norm", ["linf", "l1"])
@pytest.mark.parametrize("first", [0, 2, 4])
def test_the_first_point_with_a_nan_score_is_kept(of_norm, first):
    shown = []

    def score_fn(x):
        shown.append(x.numpy())
        return tf.fill([8], math.nan if len(shown) > first else -10.0)

    attack = APGD(epsilon=EPSILONS[of_norm], norm=of_norm, steps=2, restarts=2)
    found = attack(smooth_loss, tf.constant(VECTORS), seed=SEED, score_fn=score_fn)
    assert len(shown) == 6
    assert np.array_equal(found, shown[first])


def test_restarts_are_the_attempts_of_neighbouring_seeds(norm):
    clean, own = tf.constant(VECTORS), seeds.by_position(7, tf.range(8))
    once, often = (APGD(epsilon=EPSILONS[norm], norm=norm, steps=2, restarts=count) for count in (1, 3))
    attempt = in_graph(lambda seed: once(smooth_loss, clean, seed=seed))
    apart = np.array([attempt(seeds.nth(own, r)) for r in range(3)])
    scores = np.array([-smooth_loss(x) for x in apart])
    together = in_graph(lambda seed: often(smooth_loss, clean, seed=seed))(own)
    # By score, since a corner of a ball may be found by two of them.
    np.testing.assert_allclose(-smooth_loss(together), scores.min(axis=0), rtol=0, atol=1e-4)
    assert len(set(scores.argmin(axis=0))) > 1


def test_steps_and_restarts_cost_one_pass_each_and_one_for_each_start(norm):
    for attack in (
        APGD(epsilon=0.1, norm=norm, steps=7),
        APGD(epsilon=0.1, norm=norm, steps=5, restarts=3),
        APGD(epsilon=0.1, norm=norm, steps=5, gradients=4),
    ):
        calls = []

        def loss_fn(x, calls=calls):
            tf.numpy_function(lambda: calls.append(1), [], [])
            return smooth_loss(x)

        in_graph(lambda x, attack=attack, loss_fn=loss_fn: attack(loss_fn, x, seed=SEED))(tf.constant(VECTORS))
        assert len(calls) == attack.restarts * (attack.steps + 1) * attack.gradients


def test_a_gradient_is_the_mean_of_several_passes_and_loss_and_score_are_of_the_last():
    slopes = [1.0, 5.0, -3.0, 7.0]
    calls, x = [], tf.constant([[0.5], [0.25]])

    def loss_fn(x):
        calls.append(1)
        return slopes[len(calls) - 1] * x[:, 0]

    loss, score, gradient = evaluation_of(loss_fn, lambda x: 100.0 * len(calls) + x[:, 0], gradients=4)(x)
    assert loss.numpy().tolist() == [3.5, 1.75]
    assert score.numpy().tolist() == [400.5, 400.25]
    assert gradient.numpy().tolist() == [[2.5], [2.5]]
    assert len(calls) == 4


def test_averaging_gradients_of_a_classifier_that_is_not_random_changes_nothing():
    once, often = (APGD(epsilon=0.1, steps=10, gradients=count) for count in (1, 4))
    clean = tf.constant(VECTORS)
    found = [in_graph(lambda x, a=attack: a(smooth_loss, x, seed=SEED))(clean) for attack in (once, often)]
    np.testing.assert_allclose(*found, rtol=0, atol=1e-5)


def runner(attack):
    """Return what the attack finds for some of the vectors, each with its own seed and perhaps radius."""

    @tf.function(autograph=False, reduce_retracing=True)
    def run(x, labels, positions, epsilon):
        own = seeds.by_position(7, positions)
        return attack(lambda x: smooth_loss(x, labels), x, seed=own, epsilon=epsilon)

    def run_on(images, epsilon=None):
        images = np.int32(images)
        radii = np.broadcast_to(np.float32(attack.epsilon if epsilon is None else epsilon), images.shape)
        parts = VECTORS[images], np.int32(LABELS)[images], images, radii
        return run(*map(tf.constant, parts)).numpy()

    signature = [([None, 12], tf.float32), ([None], tf.int32), ([None], tf.int32), ([None], tf.float32)]
    run.get_concrete_function(*(tf.TensorSpec(*each) for each in signature))
    return run_on


@pytest.mark.parametrize("staged", [False, True])
def test_neither_the_batch_nor_its_order_nor_the_radius_of_another_image_matters(norm, staged):
    run_on = runner(APGD(epsilon=1.0, norm=norm, steps=10, staged=staged))
    radii = np.float32(EPSILONS[norm] * np.array([0.0, 0.5, 1.0, 0.2, 0.7, 0.1, 0.9, 0.3]))
    whole, order = run_on(range(8), radii), [5, 2, 7, 0]
    # Up to what ten steps make of rounding: kernels differ with the size of the batch.
    np.testing.assert_allclose(run_on(order, radii[order]), whole[order], rtol=0, atol=1e-2)
    for image in range(8):
        np.testing.assert_allclose(run_on([image], radii[[image]]), whole[[image]], rtol=0, atol=1e-2)
    assert np.array_equal(whole[0], VECTORS[0])
    distance = OF_NORM[norm](whole.astype(np.float64) - VECTORS)
    assert (distance <= radii + 1e-6).all()


def test_a_radius_for_each_image_is_that_of_an_attack_for_all(norm):
    of_attack, of_images = (APGD(epsilon=epsilon, norm=norm, steps=5) for epsilon in (EPSILONS[norm], 0.0))
    clean, radii = tf.constant(VECTORS), tf.fill([8], EPSILONS[norm])
    expected = in_graph(lambda x: of_attack(smooth_loss, x, seed=SEED))(clean)
    found = in_graph(lambda x: of_images(smooth_loss, x, seed=SEED, epsilon=radii))(clean)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


def test_in_a_graph_as_eagerly(norm):
    attack = APGD(epsilon=EPSILONS[norm], norm=norm, steps=4, restarts=2)
    clean = tf.constant(VECTORS)
    traced = in_graph(lambda x: attack(smooth_loss, x, seed=SEED))
    np.testing.assert_allclose(traced(clean), attack(smooth_loss, clean, seed=SEED), rtol=0, atol=1e-4)


@pytest.mark.parametrize("of_norm", some(["linf", "l2", "l1"], fast=["linf", "l2"]))
def test_under_xla_it_finds_as_high_losses(of_norm):
    """Not the same points, since there the generators draw other numbers."""
    attack = APGD(epsilon=EPSILONS[of_norm], norm=of_norm, steps=20, staged=of_norm == "l1")

    def loss_fn(x):
        return tf.linalg.matvec(x, FIRST[:, 0])

    plain, compiled = (
        in_graph(lambda x: attack(loss_fn, x, seed=SEED), jit_compile=jit)(tf.constant(VECTORS))
        for jit in (False, True)
    )
    assert_in_ball_and_box(of_norm, compiled.numpy(), VECTORS, attack.epsilon)
    assert np.all(loss_fn(compiled) > loss_fn(plain) - 0.02)


def test_without_a_slope_it_returns_its_start_and_no_nan(watched, norm):
    attack = APGD(epsilon=EPSILONS[norm], norm=norm, steps=30)
    (shown, *_), found = watched(attack, loss_fn=lambda x: 0.0 * tf.reduce_sum(x, axis=1))
    assert np.array_equal(found, shown[0])
    np.testing.assert_allclose(shown[-1], shown[0], rtol=0, atol=1e-6)


# Settings


def test_settings_go_through_keras_and_are_plain_numbers(norm):
    attack = APGD(
        epsilon=np.float64(0.25), norm=norm, steps=3.0, restarts=np.int64(2), staged=True, gradients=np.int32(4)
    )
    config = keras.saving.serialize_keras_object(attack)
    assert keras.saving.deserialize_keras_object(config) == APGD.from_config(attack.get_config()) == attack
    assert attack.describe() == {
        "name": "APGD",
        **{"epsilon": 0.25, "norm": norm, "steps": 3, "restarts": 2, "staged": True, "gradients": 4},
    }
    assert [type(value) for value in dataclasses.asdict(attack).values()] == [float, int, int, str, bool, int]
    assert attack.flags() == []
    assert not attack.starts_clean


def test_by_default_it_is_the_standard_one():
    assert APGD(epsilon=0.1) == APGD(epsilon=0.1, norm="linf", steps=100, restarts=1, staged=False, gradients=1)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("epsilon", value) for value in (-0.1, 8, math.nan, None)),
        *((name, value) for name in ("steps", "restarts", "gradients") for value in (0, 1.5, -1)),
        *(("norm", value) for value in ("l3", None)),
    ],
)
def test_bad_settings_are_refused_by_name(name, value):
    with pytest.raises(InvalidInput, match=rf"^{name}: got {value!r}, expected "):
        APGD(**{"epsilon": 0.1, name: value})
