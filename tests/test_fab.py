"""FAB and its projections against closed forms and slow references in float64."""

import dataclasses
import math

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from wmr_tf.attacks import FAB, NORMS
from wmr_tf.attacks.planes import DUALS, LENGTHS, to_plane
from wmr_tf.checks import InvalidInput
from wmr_tf.engine import seeds
from wmr_tf.losses import verdict

SEED = tf.constant([3, 4])
OF_NORM = {
    "linf": lambda change: np.abs(change).max(axis=-1),
    "l2": lambda change: np.sqrt((change**2).sum(axis=-1)),
    "l1": lambda change: np.abs(change).sum(axis=-1),
}
DUALS_BY_HAND = {"linf": "l1", "l2": "l2", "l1": "linf"}


@pytest.fixture(params=NORMS)
def norm(request):
    return request.param


# The way to a plane


def uphill_and_room(norm, normal, height, point):
    """Return each value's slope against the way to the plane, and how far it may move, float64 `[batch, d]`."""
    normal, point = np.asarray(normal, np.float64), np.asarray(point, np.float64)
    negligible = 0 if norm == "linf" else np.float32(1e-8)
    uphill = np.where(np.abs(normal) <= negligible, 0, normal) * np.where(np.asarray(height) < 0, -1, 1)[:, np.newaxis]
    return uphill, np.where(uphill > 0, point, 1 - point)


def shortest(norm, size, room, height):
    """Return the shortest pushes down from a height, float64 `[batch, d]`: their level is bisected.

    The level is the push in linf, the push over the slope in l2, one over the smallest slope that is pushed in l1. Up
    to the level before the last bisection no push is too long, and the rest is shared by those that it held back.
    """
    height = np.asarray(height, np.float64)[:, np.newaxis]

    def pushed(level):
        allowed = {"linf": level + 0 * size, "l2": level * size, "l1": np.where(level * size >= 1, np.inf, 0)}[norm]
        return np.where(size > 0, np.minimum(allowed, room), 0)

    low, high = np.full_like(height, 1e-15), np.full_like(height, 1e15)
    for _ in range(100):
        middle = np.sqrt(low * high)
        is_short = (size * pushed(middle)).sum(axis=1, keepdims=True) < height
        low, high = np.where(is_short, middle, low), np.where(is_short, high, middle)
    last = pushed(high) - pushed(low)
    left, gained = (height - (size * pushed(low)).sum(axis=1, keepdims=True)), (size * last).sum(axis=1, keepdims=True)
    return pushed(low) + last * np.clip(np.divide(left, gained, out=np.zeros_like(left), where=gained > 0), 0, 1)


def way(norm, normal, height, point):
    return to_plane(norm, *(tf.constant(values, tf.float32) for values in (normal, height, point))).numpy()


def assert_shortest_way(norm, normal, height, point):
    """Check that it is right up to float32 rounding of the height, whatever little slope is left to reach it with."""
    change = way(norm, normal, height, point)
    uphill, room = uphill_and_room(norm, normal, height, point)
    size, aim, whole = np.abs(uphill), np.abs(np.float64(height)), (np.abs(uphill) * room).sum(axis=1)
    push, rounding = -np.sign(uphill) * change, 1e-6 * (whole + 1e-9)
    assert (change[uphill == 0] == 0).all()
    assert (push >= 0).all()
    assert (push <= room + 1e-7).all()
    misses = aim > whole + rounding
    np.testing.assert_allclose(push[misses], np.where(uphill == 0, 0, room)[misses], rtol=0, atol=1e-7)
    np.testing.assert_allclose((size * push).sum(axis=1), np.minimum(aim, whole), rtol=0, atol=rounding.max())
    length = OF_NORM[norm](push.astype(np.float64))
    at_least, at_most = (
        OF_NORM[norm](shortest(norm, size, room, np.clip(aim + error, 0, None))) for error in (-rounding, rounding)
    )
    assert (at_least - 1e-6 <= length * (1 + 1e-6)).all()
    assert (length <= at_most * (1 + 1e-6) + 1e-6).all()
    if norm == "l1":
        assert ((push > 0) & (push < room - 1e-6)).sum(axis=1).max(initial=0) <= 1  # the last one in part


def normals(values=64, planes=40):
    """Return normals with values large and small, two of which are 0 and two negligible, and points, some on faces."""
    rng = np.random.default_rng(0)
    normal = rng.standard_normal([planes, values]) * rng.random([planes, values])
    normal[:, :4] = [0.0, 0.0, 1e-9, -1e-8]
    point = rng.random([planes, values])
    point[:10] = np.round(point[:10])
    return np.float32(normal), np.float32(point)


def heights(norm, normal, point, share):
    """Return heights of both signs from which the planes take that share of all there is in the box."""
    sign = np.where(np.arange(len(normal)) % 2, -1.0, 1.0)
    uphill, room = uphill_and_room(norm, normal, sign, point)
    return np.float32(sign * share * (np.abs(uphill) * room).sum(axis=1))


@pytest.mark.parametrize("share", [0.0, 0.01, 0.2, 0.6, 0.95])
def test_a_plane_in_the_box_is_reached_on_the_shortest_way(norm, share):
    normal, point = normals()
    height = heights(norm, normal, point, share)
    assert_shortest_way(norm, normal, height, point)
    uphill, room = uphill_and_room(norm, normal, height, point)
    expected = -np.sign(uphill) * shortest(norm, np.abs(uphill), room, np.abs(height))
    np.testing.assert_allclose(way(norm, normal, height, point), expected, rtol=0, atol=5e-5)


@pytest.mark.parametrize("share", [1.001, 1.5, 1e6])
def test_where_the_plane_misses_the_box_it_is_the_corner(norm, share):
    normal, point = normals()
    height = heights(norm, normal, point, share)
    uphill, _ = uphill_and_room(norm, normal, height, point)
    corner = np.where(uphill == 0, point, np.where(uphill > 0, 0, 1))
    np.testing.assert_allclose(point + way(norm, normal, height, point), corner, rtol=0, atol=1e-7)


def test_rounding_of_large_sums_pushes_nothing_out_of_line(norm):
    """The last values have so little slope that the height left to them is rounding alone, of either sign."""
    normal = np.random.default_rng(0).standard_normal([40, 3072])
    normal[:, :3] = 1e-6
    point = np.full_like(normal, 0.5)
    point[:, :3] = 1
    height = 0.5 * np.abs(normal).sum(axis=1) * (1 + 1e-7 * np.arange(-20, 20))
    push = -np.sign(normal) * way(norm, normal, height, point)
    assert (push >= 0).all()
    assert (push <= point).all()
    if norm == "linf":  # to one level, up to the box
        assert (push[:, :3] >= push.max(axis=1, keepdims=True) - 1e-6).all()


@st.composite
def planes_and_points(draw):
    """Planes with zeros, equal and negligible values, through and beside the box; points inside and on its faces."""
    shape = (draw(st.integers(1, 3)), draw(st.integers(1, 30)))
    value = st.floats(-4, 4, width=32, allow_subnormal=False)
    normal = st.one_of(value, st.sampled_from([0.0, 1.0, -1.0, np.float32(1e-8), -1e-9]))
    pixel = st.one_of(st.floats(0, 1, width=32, allow_subnormal=False), st.sampled_from([0.0, 1.0]))
    height = st.one_of(value, st.sampled_from([0.0, 1e-5, -100.0]))
    drawn = [(shape, normal), (shape[:1], height), (shape, pixel)]
    return [draw(arrays(np.float32, shape, elements=elements)) for shape, elements in drawn]


@pytest.mark.parametrize("of_norm", NORMS)
@given(case=planes_and_points())
def test_any_plane_is_reached_on_the_shortest_way(of_norm, case):
    assert_shortest_way(of_norm, *case)


def test_under_xla_as_without():
    normal, point = map(tf.constant, normals())
    height = tf.constant(heights("linf", normal.numpy(), point.numpy(), 0.4))
    compiled = tf.function(lambda: [to_plane(norm, normal, height, point) for norm in NORMS], jit_compile=True)
    for norm, change in zip(NORMS, compiled(), strict=True):
        np.testing.assert_allclose(change, to_plane(norm, normal, height, point), rtol=0, atol=2e-5)


def test_a_plane_with_hardly_any_slope_is_out_of_reach_and_no_nan():
    normal, point = np.float32([[1e-37, 0.0, -1e-37]]), np.float32([[0.5, 0.5, 0.5]])
    found = way("linf", normal, np.float32([100.0]), point)  # in l2 and l1 such slopes count as none
    np.testing.assert_allclose(np.abs(found), [[0.5, 0.0, 0.5]])


def test_a_point_on_the_plane_stays(norm):
    normal, point = normals()
    assert not way(norm, normal, np.zeros(len(normal)), point).any()
    height = heights(norm, normal, point, 0.3)
    there = np.float64(point) + way(norm, normal, height, point)
    left = height + (normal * (there - point)).sum(axis=1)
    assert np.abs(way(norm, normal, left, there)).max() < 2e-6


@pytest.mark.parametrize("height", [0.0, 0.3, -0.3])
def test_without_a_normal_there_is_no_way(norm, height):
    assert not way(norm, np.zeros([2, 5]), [height, height], np.full([2, 5], 0.5)).any()


def test_with_one_value_all_norms_agree(norm):
    normal, height, point = [[2.0], [2.0], [-2.0], [-2.0], [2.0]], [0.4, -0.4, 0.4, -0.4, 9.0], [[0.25]] * 5
    expected = [[-0.2], [0.2], [0.2], [-0.2], [-0.25]]
    np.testing.assert_allclose(way(norm, normal, height, point), expected, rtol=0, atol=1e-7)


def test_only_linf_moves_values_whose_slope_is_negligible(norm):
    moved = way(norm, [[1e-9, 1.0, -1e-8]], [0.5], [[0.5, 0.8, 0.5]])
    np.testing.assert_allclose(moved, [[-0.5, -0.5, 0.5] if norm == "linf" else [0, -0.5, 0]], rtol=0, atol=1e-6)


def test_lengths_are_those_of_the_norm_and_its_dual(norm):
    vector = np.random.default_rng(0).standard_normal([5, 3, 7])
    np.testing.assert_allclose(LENGTHS[norm](tf.constant(vector)), OF_NORM[norm](vector), rtol=1e-6)
    # No vector of length 1 in the norm gains more along another than that one's length in the dual norm, and one does.
    longest = {"linf": np.sign(vector), "l2": vector / OF_NORM["l2"](vector)[..., np.newaxis]}
    longest["l1"] = np.where(np.abs(vector) == OF_NORM["linf"](vector)[..., np.newaxis], np.sign(vector), 0)
    np.testing.assert_allclose(OF_NORM[DUALS[norm]](vector), (vector * longest[norm]).sum(axis=-1), rtol=1e-6)


# Linear classifiers, where the distance is known


@dataclasses.dataclass
class Linear:
    """A linear classifier of vectors, with images that it classifies correctly, sorted other classes and the loss."""

    weights: np.ndarray
    clean: np.ndarray

    def __post_init__(self):
        order = np.argsort(-(self.clean @ self.weights), axis=1)
        self.labels, self.others = np.int32(order[:, 0]), np.int32(order[:, 1:])

    def exact(self, norm):
        """Return the distance to each other class alone, in the order of `others`, within the box; float64."""
        columns = []
        for others in self.others.T:
            slope = np.float64(self.weights[:, others] - self.weights[:, self.labels]).T
            margin = -(slope * self.clean).sum(axis=1)
            uphill, room = uphill_and_room(norm, slope, -margin, self.clean)
            distance = OF_NORM[norm](shortest(norm, np.abs(uphill), room, margin))
            columns.append(np.where((np.abs(uphill) * room).sum(axis=1) < margin, np.inf, distance))
        return np.stack(columns, axis=1)

    def loss(self, others, labels=None):
        labels = self.labels if labels is None else labels

        def loss(x):
            logits = x @ self.weights
            chosen, of_label = (tf.gather(logits, classes, batch_dims=1) for classes in (others, labels))
            return chosen - (of_label if chosen.shape.rank == 1 else of_label[:, tf.newaxis])

        return loss

    def score(self, labels=None):
        return lambda x: verdict(x @ self.weights, self.labels if labels is None else labels)


def linear(values=64, classes=10, images=50, scale=1.0):
    """Return a problem in which the box is active, or with a small scale, in which it is not."""
    rng = np.random.default_rng(1)
    weights = np.float32(rng.standard_normal([values, classes]))
    clean = rng.random([images, values])
    clean[: images // 5] = np.round(clean[: images // 5])
    return Linear(weights, np.float32(0.5 + scale * (clean - 0.5)))


def targeted(problem, attack):
    """Return what the attack finds for each image, in a graph, the nearest of its runs against all other classes."""
    count, targets = problem.others.shape
    rows, labels = np.repeat(problem.clean, targets, axis=0), np.repeat(problem.labels, targets)
    run = tf.function(attack.nearest, autograph=False)
    loss, score = problem.loss(problem.others.reshape(-1), labels), problem.score(labels)
    points, distances = (found.numpy() for found in run(loss, tf.constant(rows), seed=SEED, score_fn=score))
    nearest = distances.reshape(count, targets).argmin(axis=1) + targets * np.arange(count)
    return points[nearest], distances[nearest]


def assert_misclassified_at(problem, norm, points, distances):
    assert (problem.score()(tf.constant(points)).numpy() < 0).all()
    assert points.min() >= 0
    assert points.max() <= 1
    lengths = OF_NORM[norm](np.float64(points) - problem.clean)
    np.testing.assert_allclose(distances, lengths, rtol=1e-5)


@pytest.mark.parametrize("classes", [2, 10])
def test_targeted_it_finds_the_exact_distance_within_one_percent(norm, classes):
    problem = linear(classes=classes)
    points, distances = targeted(problem, FAB(epsilon=0.1, norm=norm))
    assert_misclassified_at(problem, norm, points, distances)
    ratio = distances / problem.exact(norm).min(axis=1)
    assert ratio.min() > 1 - 1e-5
    assert ratio.max() < 1.0088
    is_at_box = (points == 0) | (points == 1)
    assert (is_at_box & (points != problem.clean)).any(axis=1).mean() > 0.3


def test_all_planes_at_once_it_is_sound_and_nearly_as_good(norm):
    """The nearest plane is chosen as if there were no box, so at times it is not the nearest."""
    problem, attack = linear(classes=5), FAB(epsilon=0.1, norm=norm, steps=20)
    clean, loss = tf.constant(problem.clean), problem.loss(problem.others)
    run = tf.function(attack.nearest, autograph=False)
    points, distances = (found.numpy() for found in run(loss, clean, seed=SEED, score_fn=problem.score()))
    assert_misclassified_at(problem, norm, points, distances)
    ratio = distances / problem.exact(norm).min(axis=1)
    assert ratio.min() > 1 - 1e-5
    assert np.median(ratio) < 1.0088
    assert (ratio < 1.0088).mean() > 0.8


def test_by_default_an_image_is_misclassified_where_the_largest_loss_is_positive():
    problem, attack = linear(classes=4, images=20), FAB(epsilon=0.1, steps=2)
    for others in (problem.others, problem.others[:, 0]):
        _, points, distances = judged(attack, problem.loss(others), problem.clean, problem.score())
        by_loss, at = attack.nearest(problem.loss(others), tf.constant(problem.clean), seed=SEED)
        assert np.array_equal(by_loss, points)
        assert np.array_equal(at, distances)


def test_no_robust_image_is_broken_at_any_radius(norm):
    problem = linear()
    attack, exact = FAB(epsilon=0.0, norm=norm, steps=20), problem.exact(norm).min(axis=1)
    loss, score, clean = problem.loss(problem.others[:, 0]), problem.score(), tf.constant(problem.clean)
    run = tf.function(attack, autograph=False)
    broken = []
    for epsilon in np.float32(np.quantile(exact, [0.0, 0.2, 0.5, 0.8, 1.0]) * 1.01):
        attacked = run(loss, clean, seed=SEED, score_fn=score, epsilon=tf.fill([len(exact)], epsilon)).numpy()
        is_broken = score(attacked).numpy() < 0
        assert not is_broken[exact > epsilon * (1 + 1e-5)].any()
        assert (OF_NORM[norm](attacked - problem.clean) <= epsilon * (1 + 1e-6)).all()
        assert np.array_equal(attacked[~is_broken], problem.clean[~is_broken])
        broken.append(is_broken.sum())
    assert 0 < broken[0] < broken[1] < broken[2] < broken[3]


def judged(attack, loss, clean, score, **arguments):
    """Return all points whose score was asked for `[steps, batch, d]`, and what the attack found."""
    seen = []

    def watching(x):
        seen.append(x.numpy())
        return score(x)

    found = attack.nearest(loss, tf.constant(clean), seed=SEED, score_fn=watching, **arguments)
    return np.stack(seen), *(each.numpy() for each in found)


def test_the_first_steps_on_a_plane_are_those_computed_by_hand(norm):
    slope, clean = np.float32(np.random.default_rng(3).standard_normal(8)), np.full([1, 8], 0.5, np.float32)
    exact = 0.1
    height = exact * OF_NORM[DUALS_BY_HAND[norm]](slope)

    def loss(x):
        return tf.linalg.matvec(x - 0.5, slope) - height

    seen, points, distances = judged(FAB(epsilon=0.1, norm=norm, steps=4), loss, clean, lambda x: -loss(x))
    ratios = OF_NORM[norm](np.float64(seen) - clean) / exact
    np.testing.assert_allclose(ratios[:, 0], [1.05000, 1.00521, 1.00870, 1.00844], rtol=0, atol=1e-5)
    assert np.array_equal(points, seen[1])  # the nearest, not the last one
    np.testing.assert_allclose(distances, 1.00521 * exact, rtol=1e-5)


# Steps


def curved_loss(x):
    """A loss whose slope turns, 0 on many curved surfaces."""
    phase = tf.range(x.shape[1], dtype=tf.float32)
    return tf.reduce_sum(tf.sin(5.0 * x + phase), axis=1) - 0.6


def curved_images(images=30, values=6):
    clean = np.float32(np.random.default_rng(6).random([400, values]))
    return clean[curved_loss(tf.constant(clean)).numpy() < 0][:images]


def step_by_hand(norm, point, clean):
    """Return the end of one step in float64, and the share of the clean image in it."""
    phase = np.arange(point.shape[1])
    loss, slope = np.sin(5 * point + phase).sum(axis=1) - 0.6, 5 * np.cos(5 * point + phase)

    def to_zero(start):
        height = loss + (slope * (start - point)).sum(axis=1)
        uphill, room = uphill_and_room(norm, slope, height, start)
        return -np.sign(uphill) * shortest(norm, np.abs(uphill), room, np.abs(height))

    first, second = to_zero(point), to_zero(clean)
    one, two = (np.maximum(OF_NORM[norm](change), 1e-8)[:, np.newaxis] for change in (first, second))
    alpha = np.minimum(one / (one + two), 0.1)
    return np.clip((1 - alpha) * (point + 1.05 * first) + alpha * (clean + 1.05 * second), 0, 1), alpha


def test_every_step_is_the_one_computed_by_hand(norm):
    clean, asked = curved_images(), []

    def loss(x):
        asked.append(x.numpy())
        return curved_loss(x)

    seen, points, distances = judged(FAB(epsilon=0.1, norm=norm, steps=6), loss, clean, lambda x: -curved_loss(x))
    misclassified = np.stack([curved_loss(tf.constant(x)).numpy() > 0 for x in seen])
    np.testing.assert_array_equal(asked[0], clean)
    shares = []
    for before, after in zip(np.float64(asked), seen, strict=True):
        expected, alpha = step_by_hand(norm, before, np.float64(clean))
        np.testing.assert_allclose(after, expected, rtol=0, atol=5e-5)
        shares.extend(alpha[:, 0])
    for k in range(5):
        drawn_back = np.where(misclassified[k, :, np.newaxis], clean + 0.9 * (seen[k] - clean), seen[k])
        np.testing.assert_allclose(asked[k + 1], drawn_back, rtol=0, atol=1e-6)
    lengths = np.where(misclassified, OF_NORM[norm](seen - clean), np.inf)
    np.testing.assert_allclose(distances, lengths.min(axis=0), rtol=1e-5)
    assert np.array_equal(points, seen[lengths.argmin(axis=0), np.arange(len(clean))])
    # Else the test would not see all of it.
    assert 0.1 < np.mean(np.array(shares) < 0.099) < 0.9
    assert 0.1 < misclassified.mean() < 1
    assert len(set(lengths.argmin(axis=0))) > 1


def test_the_plane_nearest_by_the_dual_norm_is_taken(norm):
    for scale in (0.45, 0.55, 0.9, 1.1, 1.9, 2.1):
        planes = np.float32([[2.0, 0, 0, 0], [scale] * 4, [0, 0, 0, 0]])
        height = tf.constant([0.1, 0.1, 1e-6])

        def loss(x, planes=planes, height=height):
            return (x - 0.5) @ planes.T - height

        seen, *_ = judged(
            FAB(epsilon=0.1, norm=norm, steps=1), loss, np.full([1, 4], 0.5, np.float32), lambda x: x[:, 0]
        )
        nearest = (0.1 / OF_NORM[DUALS_BY_HAND[norm]](planes[:2])).min()
        np.testing.assert_allclose(OF_NORM[norm](seen[0, 0] - 0.5), 1.05 * nearest, rtol=1e-5)


def test_slopes_as_good_as_0_count_as_a_little_steeper():
    """Distances of 0.09 and 0.06; but 1e-12 is added to the slopes, and the first one then looks like 0.045."""
    planes, height = np.float32([[1e-12, 0], [0, 1]]), tf.constant([0.09e-12, 0.06])
    seen, *_ = judged(
        FAB(epsilon=0.1, steps=1),
        lambda x: (x - 0.5) @ planes.T - height,
        np.full([1, 2], 0.5, np.float32),
        lambda x: x[:, 0],
    )
    np.testing.assert_allclose(seen[0, 0] - 0.5, [1.05 * 0.09, 0], rtol=0, atol=1e-5)


def test_success_is_any_misclassification():
    """The target's plane is out of the box; on the way there another class wins."""

    def logits(x):
        return tf.stack([tf.zeros_like(x[:, 0]), x[:, 0] - 0.6, x[:, 0] - 5.0], axis=1)

    clean, attack = tf.constant([[0.5, 0.5]]), FAB(epsilon=0.5, steps=2)
    for score_fn, end in ((lambda x: verdict(logits(x), [0]), [[1.0, 0.5]]), (None, clean)):
        assert np.array_equal(attack(lambda x: logits(x)[:, 2], clean, seed=SEED, score_fn=score_fn), end)


def test_a_score_of_0_is_no_success():
    """So a point with that score is neither kept nor drawn back."""
    clean, asked = curved_images(), []

    def loss(x):
        asked.append(x.numpy())
        return curved_loss(x)

    seen, points, distances = judged(FAB(epsilon=0.5, steps=2), loss, clean, lambda x: tf.zeros(len(x)))
    assert np.array_equal(asked[1], seen[0])
    assert np.array_equal(points, clean)
    assert (distances == np.inf).all()


def scripted(*functions):
    """Return a function that is another one at each call."""
    rest = iter(functions)
    return lambda x: next(rest)(x)


def test_a_point_as_near_as_the_best_does_not_replace_it():
    loss = scripted(lambda x: x[:, 0] - 5.0, lambda x: x[:, 1] - 5.0)
    seen, points, distances = judged(
        FAB(epsilon=0.5, steps=2), loss, np.float32([[0.5, 0.5]]), lambda x: tf.constant([-1.0])
    )
    assert np.abs(seen - 0.5).max(axis=2).tolist() == [[0.5], [0.5]]
    assert seen[1].tolist() != seen[0].tolist() == points.tolist() == [[1.0, 0.5]]
    assert distances == [0.5]


def test_without_a_slope_points_drift_back_and_nothing_breaks(norm):
    clean = curved_images()
    seen, points, distances = judged(
        FAB(epsilon=0.3, norm=norm, steps=5, restarts=2),
        lambda x: 0.0 * tf.reduce_sum(x, axis=1) - 1.0,
        clean,
        lambda x: tf.ones(len(x)),
    )
    np.testing.assert_allclose(seen[:5], [clean] * 5, rtol=0, atol=1e-6)
    lengths = OF_NORM[norm](seen[5:] - clean)
    np.testing.assert_allclose(lengths[1:], 0.9 * lengths[:-1], rtol=1e-4)
    assert np.array_equal(points, clean)
    assert (distances == np.inf).all()


@pytest.mark.parametrize(
    ("scores", "kept"), [([-1, np.nan, -1, np.nan], 1), ([np.nan, -1, -1, -1], 0), ([1] * 4, None)]
)
@pytest.mark.parametrize("restarts", [1, 2])
def test_a_score_that_is_nan_is_not_hidden(scores, kept, restarts):
    clean, attack = curved_images(), FAB(epsilon=0.1, steps=4 // restarts, restarts=restarts)

    def score():
        return scripted(*(lambda x, value=value: tf.fill([len(x)], np.float32(value)) for value in scores))

    seen, points, distances = judged(attack, curved_loss, clean, score())
    attacked = attack(curved_loss, tf.constant(clean), seed=SEED, score_fn=score())
    assert np.array_equal(points, clean if kept is None else seen[kept])
    assert np.array_equal(attacked, points)
    assert np.isnan(distances).all() == (kept is not None)


def test_a_gradient_that_is_nan_is_seen():

    @tf.custom_gradient
    def loss(x):
        return x[:, 1] - 0.9, lambda upstream: upstream[:, tf.newaxis] * [0.0, np.nan]

    clean = tf.fill([1, 2], 0.5)
    points, distances = FAB(epsilon=0.5, steps=3).nearest(loss, clean, seed=SEED)
    assert np.isnan(distances).all()
    assert np.isnan(loss(points)).all()


@pytest.mark.parametrize("planes", [1, 3])
def test_a_step_is_two_forward_passes_and_one_backward_pass_a_plane(planes):
    """The second forward pass judges the point, the first one of the next step is where it has been drawn back to."""
    forward, backward = [], []

    @tf.custom_gradient
    def network(x):
        forward.append(x)

        def gradient(upstream):
            backward.append(upstream)
            return tf.tile(tf.reduce_sum(upstream, axis=1, keepdims=True), [1, 6])

        return tf.stack([tf.reduce_sum(x, axis=1) - height for height in range(5, 5 + planes)], axis=1), gradient

    attack = FAB(epsilon=0.1, steps=7, restarts=2)
    attack.nearest(network, tf.constant(curved_images()), seed=SEED, score_fn=lambda x: -network(x)[:, 0])
    assert len(forward) == 2 * 7 * 2
    assert len(backward) == planes * 7 * 2


# Starts


def test_restarts_begin_at_half_the_radius_and_the_nearest_point_is_kept(norm):
    radii, clean = tf.linspace(0.02, 0.2, 30), curved_images()
    asked, attack = [], FAB(epsilon=0.7, norm=norm, steps=3, restarts=3)

    def loss(x):
        asked.append(x.numpy())
        return curved_loss(x)

    seen, points, distances = judged(attack, loss, clean, lambda x: -curved_loss(x), epsilon=radii)
    assert np.array_equal(asked[0], clean)
    for start in (asked[3], asked[6]):
        inside = ((start > 0) & (start < 1)).all(axis=1)
        assert inside.mean() > 0.5
        np.testing.assert_allclose(OF_NORM[norm](start - clean)[inside], radii[inside] / 2, rtol=1e-4)
        assert start.min() >= 0
        assert start.max() <= 1
    assert np.isclose(asked[3], asked[6]).mean() < 0.1
    misclassified = np.stack([curved_loss(tf.constant(x)).numpy() > 0 for x in seen])
    lengths = np.where(misclassified, OF_NORM[norm](seen - clean), np.inf)
    np.testing.assert_allclose(distances, lengths.min(axis=0), rtol=1e-5)
    assert np.array_equal(points, seen[lengths.argmin(axis=0), np.arange(30)])
    assert {0, 1, 2} == set(lengths.argmin(axis=0) // 3)


def test_noise_of_the_starts_is_that_of_the_norm(norm):
    """Uniform in linf, so that the share of the largest values is even; normal in l2 and l1."""
    clean = np.full([4, 5000], 0.5, np.float32)
    start = FAB(epsilon=0.1, norm=norm)._near(tf.constant(clean), 1e-2, SEED).numpy() - 0.5
    kurtosis = (start**4).mean() / (start**2).mean() ** 2
    assert kurtosis == pytest.approx(1.8 if norm == "linf" else 3.0, abs=0.15)


def test_with_a_seed_an_image_the_batch_does_not_matter(norm):
    clean, own = tf.constant(curved_images(12)), seeds.by_position(3, tf.range(12))
    attack = FAB(epsilon=0.1, norm=norm, steps=3, restarts=2)
    whole = attack.nearest(curved_loss, clean, seed=own)
    parts = [attack.nearest(curved_loss, clean[part], seed=own[part]) for part in (slice(0, 5), slice(5, 12))]
    for found, expected in zip(zip(*parts, strict=True), whole, strict=True):
        np.testing.assert_allclose(tf.concat(found, axis=0), expected, rtol=0, atol=1e-6)


def test_only_restarts_depend_on_the_seed():
    clean = tf.constant(curved_images())
    for restarts in (1, 4):
        attack = FAB(epsilon=0.1, steps=3, restarts=restarts)
        one, other = (attack.nearest(curved_loss, clean, seed=tf.constant([3, seed]))[0] for seed in (4, 5))
        assert np.array_equal(one, other) == attack.starts_clean == (restarts == 1)


# What every attack promises


def image_loss(x):
    return curved_loss(tf.reshape(x, [-1, 6]))


def test_beyond_the_radius_the_clean_image_comes_back(norm):
    clean = tf.constant(np.reshape(curved_images(), [30, 1, 3, 2]))
    attack = FAB(epsilon=0.0, norm=norm, steps=5)
    points, distances = attack.nearest(image_loss, clean, seed=SEED)
    assert points.shape == clean.shape
    middle = float(np.median(distances))
    inside = (distances.numpy() <= middle)[:, None, None, None]
    attacked = dataclasses.replace(attack, epsilon=middle)(image_loss, clean, seed=SEED)
    assert np.array_equal(attacked, np.where(inside, points, clean))
    at_its_own = attack(image_loss, clean, seed=SEED, epsilon=distances)  # no slack, and equal is inside
    assert np.array_equal(at_its_own, np.where(np.isfinite(distances)[:, None, None, None], points, clean))
    below = attack(image_loss, clean, seed=SEED, epsilon=np.nextafter(distances, np.float32(0)))
    assert np.array_equal(below, clean)


@pytest.mark.parametrize(("of_norm", "jit_compile"), [*((norm, False) for norm in NORMS), ("l1", True)])
def test_in_a_graph_of_any_batch_size_as_eagerly(of_norm, jit_compile):
    clean = tf.constant(np.reshape(curved_images(), [30, 1, 3, 2]))
    attack = FAB(epsilon=0.1, norm=of_norm, steps=3, restarts=1 if jit_compile else 2)  # XLA draws other numbers

    @tf.function(input_signature=[tf.TensorSpec([None, 1, 3, 2])], jit_compile=jit_compile, autograph=False)
    def traced(x):
        return attack.nearest(image_loss, x, seed=SEED)

    for found, expected in zip(traced(clean), attack.nearest(image_loss, clean, seed=SEED), strict=True):
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)
    if not jit_compile:  # which compiles for each size
        assert traced(clean[:2])[0].shape == [2, 1, 3, 2]


def test_misclassified_images_do_no_harm(norm):
    clean = np.float32(np.random.default_rng(7).random([40, 6]))
    assert (curved_loss(tf.constant(clean)).numpy() > 0).sum() > 5
    points, distances = FAB(epsilon=0.1, norm=norm, steps=5).nearest(curved_loss, tf.constant(clean), seed=SEED)
    assert np.isfinite(points).all()
    assert not np.isnan(distances).any()


def test_no_gradient_flows_through_attacked_images():
    clean, scale = tf.constant(curved_images()), tf.Variable(2.0)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(clean)
        found = FAB(epsilon=0.1, steps=3).nearest(lambda x: scale * curved_loss(x), clean, seed=SEED)
        total = sum(tf.reduce_sum(each) for each in found)
    assert tape.gradient(total, clean) is None
    assert tape.gradient(total, scale) is None


# Settings


def test_settings_go_through_keras_and_are_plain_numbers(norm):
    attack = FAB(epsilon=np.float64(0.25), norm=norm, steps=3.0, restarts=np.int64(2))
    config = keras.saving.serialize_keras_object(attack)
    assert keras.saving.deserialize_keras_object(config) == FAB.from_config(attack.get_config()) == attack
    assert attack.describe() == {"name": "FAB", "norm": norm, "epsilon": 0.25, "steps": 3, "restarts": 2}
    assert [type(value) for value in dataclasses.asdict(attack).values()] == [float, str, int, int]
    assert attack.flags() == []


def test_by_default_it_is_the_standard_one():
    assert FAB(epsilon=0.1) == FAB(epsilon=0.1, norm="linf", steps=100, restarts=1)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("epsilon", value) for value in (-0.1, 8, math.nan, None)),
        *(("steps", value) for value in (0, 1.5, math.nan)),
        *(("restarts", value) for value in (0, -1)),
        *(("norm", value) for value in ("l3", None)),
    ],
)
def test_bad_settings_are_refused_by_name(name, value):
    with pytest.raises(InvalidInput, match=rf"^{name}: got {value!r}, expected "):
        FAB(**{"epsilon": 0.1, name: value})


def test_a_radius_above_1_in_other_norms_is_fine():
    assert FAB(epsilon=8, norm="l2").epsilon == 8.0
