"""Attackers who choose beforehand, and minimal radii: on linear models, where all is known, at any temperature."""

import functools
import json

import keras
import numpy as np
import pytest
from keras import layers

from tests.marking import some
from tests.test_fab import Linear
from wmr_tf import evaluate_robustness
from wmr_tf.attacks import NORMS, PGD
from wmr_tf.checks import InvalidInput
from wmr_tf.evaluation import auto_attack, minimal_radii
from wmr_tf.evaluation.choosers import Choosers, ChosenClass, budget_curve, budgets, by_class, worst_class
from wmr_tf.evaluation.outcomes import logit_margins
from wmr_tf.evaluation.radii import POINTS, Radii
from wmr_tf.evaluation.records import load_images, pictures, pictures_in, save_images
from wmr_tf.evaluation.statistics import Accuracy
from wmr_tf.evaluation.temperature import SCALES, confidence_curve, probability_margins

pytestmark = pytest.mark.filterwarnings("ignore:attack. its steps reach")

CLASSES, IMAGES, EPSILON = 4, 120, 0.04
SHAPE = (4, 4, 1)
RADII = {"linf": 0.04, "l2": 0.15, "l1": 1.0}


@functools.cache
def problem() -> Linear:
    """A linear problem with about as many images of each class; a fifth of them lie in corners of the box."""
    rng = np.random.default_rng(0)
    weights = rng.standard_normal([16, CLASSES])
    clean = rng.random([IMAGES, 16])
    clean[: IMAGES // 5] = np.round(clean[: IMAGES // 5])
    return Linear(np.float32(weights - weights.mean(axis=0)), np.float32(clean))


def model(weights=None, scale=1.0):
    classifier = keras.Sequential([keras.Input(SHAPE), layers.Flatten(), layers.Dense(CLASSES, use_bias=False)])
    classifier.set_weights([scale * (problem().weights if weights is None else weights)])
    return classifier


def data(wrong=()):
    """Return the problem's images and labels, those of some images wrong."""
    labels = problem().labels.copy()
    labels[list(wrong)] = (labels[list(wrong)] + 1) % CLASSES
    return problem().clean.reshape([-1, *SHAPE]), labels


WRONG = (0, 5, 11)


@functools.cache
def evaluated(scale=1.0):
    return evaluation_of(scale)


def evaluation_of(scale=1.0, **settings):
    attack = PGD(epsilon=EPSILON, step_size=EPSILON / 4, steps=10)
    given = {"alpha_test": (1.0, 2.0), "radii": "fab", "suite": "strong", "verbose": 0}
    return evaluate_robustness(model(scale=scale), data(WRONG), attack, **given, **settings)


def exact(norm="linf"):
    """Return the exact radius of each image of `data(WRONG)`."""
    distances = problem().exact(norm).min(axis=1)
    distances[list(WRONG)] = 0
    return distances


# Which images, by what the attacker knows of the clean ones


def test_the_numbers_of_images_are_fractions_of_all_each_once():
    assert budgets(1000) == (10, 20, 50, 100, 200, 500, 1000)
    assert budgets(12) == (1, 2, 6, 12)
    assert budgets(1) == (1,)
    assert budgets(1000, [7, 7.0]) == (7, 7)


@pytest.mark.parametrize("images", [[11], [3, 0], [-1], [2.5]])
def test_more_images_than_there_are_and_fewer_than_one_are_refused(images):
    with pytest.raises(InvalidInput, match=r"^budget: got .*, expected "):
        budget_curve(np.ones(10, bool), np.arange(10.0), images)


def test_the_images_of_the_smallest_margins_are_picked_and_of_equal_ones_the_first():
    is_robust = np.array([True, False, True, False, True])
    curve = budget_curve(is_robust, np.array([0.3, -1.0, 0.3, 0.2, 5.0]), images=range(1, 6))
    assert [picked.accuracy for picked in curve] == [
        Accuracy.of(np.array(row, bool)) for row in ([0], [0, 0], [0, 0, 1], [0, 0, 1, 1], [0, 0, 1, 1, 1])
    ]


def test_of_many_equal_margins_the_first_images_are_picked():
    rng = np.random.default_rng(3)
    margins, is_robust = rng.integers(0, 3, 1000).astype(np.float32), rng.random(1000) > 0.5
    order = sorted(range(1000), key=lambda place: (margins[place], place))
    for picked in budget_curve(is_robust, margins, images=[200, 500, 900]):
        assert picked.accuracy.value == is_robust[order[: picked.images]].mean()


def test_on_a_linear_model_the_budget_curve_is_that_of_the_exact_radii():
    metrics = evaluated().metrics()
    margins = np.sort(np.float64(problem().clean) @ problem().weights, axis=1)
    margins = margins[:, -1] - margins[:, -2]
    margins[list(WRONG)] = -np.inf
    is_robust = exact() > EPSILON
    assert 0.3 < is_robust.mean() < 0.8
    by_margin, at_random = metrics["budget"]
    assert (by_margin["chooser"], at_random["chooser"]) == ("clean_margin", "random")
    order = np.argsort(margins)
    for point, of_random in zip(by_margin["points"], at_random["points"], strict=True):
        count = point["images"]
        assert point["accuracy"] == pytest.approx(is_robust[order[:count]].mean(), abs=1e-12)
        assert point["interval"] == list(Accuracy.of(is_robust[order[:count]])[1:])
        assert of_random == {**of_random, "images": count, "accuracy": metrics["A_strong"]}
    assert [point["images"] for point in by_margin["points"]] == [1, 2, 6, 12, 24, 60, 120]
    assert by_margin["points"][-1]["accuracy"] == metrics["A_strong"] == is_robust.mean()
    assert by_margin["points"][3]["accuracy"] < metrics["A_strong"] - 0.3


def test_a_surrogate_orders_the_images_by_its_own_margins():
    weights = np.float32(np.random.default_rng(5).standard_normal([16, CLASSES]))
    result = evaluation_of(surrogate=model(weights), budget=(9, 20))
    margins = logit_margins(problem().clean @ weights, data(WRONG)[1])
    found = {curve["chooser"]: curve["points"] for curve in result.metrics()["budget"]}
    assert list(found) == ["clean_margin", "surrogate", "random"]
    for point, count in zip(found["surrogate"], (9, 20), strict=True):
        assert point["images"] == count
        assert point["accuracy"] == result.is_robust[np.argsort(margins)[:count]].mean()
    own = evaluation_of(surrogate=model(), budget=(9, 20)).metrics()["budget"]
    assert own[0]["points"] == own[1]["points"] != found["surrogate"]


@pytest.mark.parametrize(("shape", "classes"), [(SHAPE, CLASSES + 1), ((5, 5, 1), CLASSES)])
def test_a_surrogate_of_other_images_or_classes_is_refused(shape, classes):
    surrogate = keras.Sequential([keras.Input(shape), layers.Flatten(), layers.Dense(classes)])
    with pytest.raises(InvalidInput, match=r"^surrogate: .*got .* expected "):
        evaluation_of(surrogate=surrogate)


# Which class


def test_classes_have_intervals_that_hold_at_once():
    labels, is_correct = np.repeat([3, 7], [10, 30]), np.arange(40) % 4 > 0
    found = by_class(labels, is_correct)
    assert list(found) == [3, 7]
    for each, accuracy in found.items():
        assert accuracy == Accuracy.of(is_correct[labels == each], simultaneous=2)
        assert accuracy.low < Accuracy.of(is_correct[labels == each]).low
    with pytest.raises(InvalidInput, match="images: got 9 of class 3, expected at least 10 of each class"):
        by_class(labels[1:], is_correct[1:])


def test_the_worst_class_is_chosen_by_other_images_and_measured_on_these():
    assert worst_class(np.array([2, 2, 5, 5]), np.array([True, True, False, True])) == ChosenClass(5, 4)
    images, labels = data()
    broken = np.where(labels == 2, 3, labels)  # so that there are errors in class 3, and only there
    result = evaluation_of(validation=(images, broken))
    metrics = result.metrics()["worst_class"]
    is_of = data(WRONG)[1] == metrics["class"]
    assert (metrics["class"], metrics["chosen_on"], metrics["chosen_from"]) == (3, "validation", IMAGES)
    assert metrics["examples"] == is_of.sum()
    assert metrics["A_strong"] == (exact() > EPSILON)[is_of].mean()
    assert metrics["A_strong_interval"] == list(Accuracy.of(result.is_robust[is_of])[1:])


def test_classes_are_left_out_where_one_has_too_few_images_and_a_chosen_one_where_it_has_none():
    labels, logits = np.repeat([0, 1], [10, 12]), np.zeros([22, 3])
    is_correct = np.ones(22, bool)
    found = Choosers(worst_class=ChosenClass(1, 50)).metrics(labels, logits, is_correct, is_correct)
    assert [row["examples"] for row in found["classes"]] == [10, 12]
    assert found["worst_class"]["examples"] == 12
    fewer = Choosers(worst_class=ChosenClass(2, 50)).metrics(labels[1:], logits[1:], is_correct[1:], is_correct[1:])
    assert list(fewer) == ["budget"]


# Radii


@pytest.mark.parametrize("attack", ["fab", "fab+apgd"])
@pytest.mark.parametrize("norm", NORMS)
def test_on_a_linear_model_the_radii_are_the_exact_ones(norm, attack):
    radii = minimal_radii(model(), data(WRONG), norm=norm, attack=attack, verbose=0)
    right = exact(norm) > 0
    assert (radii.values[list(WRONG)] == 0).all() and right.sum() == IMAGES - len(WRONG)
    ratio = radii.values[right] / exact(norm)[right]
    assert ratio.min() > 1 - 1e-4
    assert np.quantile(ratio, 0.9) < 1.02
    assert ratio.max() < 1.1
    worst = np.sort(exact(norm))[: IMAGES // 10].mean()
    assert radii.worst(0.1) == pytest.approx(worst, rel=0.02)
    assert radii.accuracy(RADII[norm]) == pytest.approx((exact(norm) > RADII[norm]).mean(), abs=1.5 / IMAGES)


def test_bisection_alone_finds_the_radii_too():
    suite = auto_attack(model(), data(), epsilon=0.0, version=("bisection",), verbose=0)
    ratio = suite.outcomes.radii / problem().exact("linf").min(axis=1)
    assert ratio.min() > 1 - 1e-4 and np.quantile(ratio, 0.9) < 1.02
    assert suite.is_robust.all()


def test_the_bisection_breaks_what_is_within_the_ball():
    suite = auto_attack(model(), data(), epsilon=EPSILON, version=("bisection",), verbose=0)
    assert (suite.is_robust == (problem().exact("linf").min(axis=1) > EPSILON)).mean() > 0.96
    broken = ~suite.is_robust
    change = np.abs(suite.outcomes.adversarial - suite.outcomes.clean)[broken].reshape([broken.sum(), -1]).max(axis=1)
    assert (change <= EPSILON + 1e-6).all()
    np.testing.assert_allclose(change, suite.outcomes.radii[broken], rtol=1e-4)


def test_what_no_attack_moves_has_the_distance_to_the_farthest_corner():
    classifier = keras.Sequential([keras.Input([2]), layers.Dense(2)])
    classifier.set_weights([np.zeros([2, 2], np.float32), np.float32([3.0, 1.0])])
    images, labels = np.float32([[0.2, 0.5], [0.9, 0.5], [0.5, 0.5]]), np.int32([0, 0, 1])
    distances = {"linf": [0.8, 0.9, 0], "l2": [np.hypot(0.8, 0.5), np.hypot(0.9, 0.5), 0], "l1": [1.3, 1.4, 0]}
    for norm, expected in distances.items():
        found = minimal_radii(classifier, (images, labels), norm=norm, attack="fab+apgd", verbose=0)
        np.testing.assert_allclose(found.values, expected, rtol=1e-6)


def test_the_threat_curve_and_its_worst_parts():
    values = np.linspace(0.0, 0.5, 501)
    radii = Radii(values, "linf", "fab")
    metrics = radii.metrics()
    assert json.loads(json.dumps(metrics)) == metrics
    assert [row["images"] for row in metrics["worst"]] == [5, 25, 50]
    assert "interval" not in metrics["worst"][0]  # of so few images it would be wrong
    for row in metrics["worst"]:
        assert row["radius"] == pytest.approx(values[: row["images"]].mean())
    for row in metrics["worst"][1:]:
        assert row["interval"][0] <= row["radius"] * 1.3 and row["interval"][1] >= row["radius"] * 0.7
    assert len(metrics["curve"]) == POINTS
    for point in metrics["curve"]:
        assert point["accuracy"] == np.mean(values > point["radius"])
    assert metrics["curve"][0]["accuracy"] == 500 / 501
    assert metrics["curve"][-1] == {"radius": 0.5, "accuracy": 0.0}
    within = radii.within(0.1, values > 0.4)
    assert within.accuracy(0.1) == pytest.approx(0.6, abs=0.01) and radii.accuracy(0.1) > 0.79
    assert "median 0.25" in str(radii)
    for fraction in (0.0, 1.5):
        with pytest.raises(InvalidInput, match="^fraction: got"):
            radii.worst(fraction)


def test_an_evaluation_counts_what_any_attack_broke_in_the_ball():
    result = evaluated()
    assert (result.radii.values[~result.is_robust] <= np.float32(EPSILON)).all()
    assert result.radii.accuracy(EPSILON) <= result.A_strong.value
    assert result.metrics()["threat"] == result.radii.metrics()
    with pytest.raises(InvalidInput, match="^radii: got 'pgd', expected one of fab"):
        evaluate_robustness(model(), data(), PGD(epsilon=0.1, step_size=0.1, steps=1), radii="pgd", verbose=0)


# Temperature


@functools.cache
def plain_metrics():
    return evaluation_of(validation=data(WRONG)).metrics()


@pytest.mark.parametrize("scale", some([0.1, 3.0, 10.0], fast=[3.0]))
def test_no_temperature_moves_what_is_chosen_before(scale):
    plain, scaled = plain_metrics(), evaluation_of(scale, validation=data(WRONG)).metrics()
    for name in ("budget", "classes", "worst_class", "threat"):
        numbers = [np.array(list(_numbers(metrics[name]))) for metrics in (plain, scaled)]
        np.testing.assert_allclose(*numbers, rtol=0, atol=1e-6)
    assert abs(plain["non_uniform"][1]["A_sa"] - scaled["non_uniform"][1]["A_sa"]) > 0.01


def _numbers(value):
    """Yield all numbers in nested lists and dictionaries."""
    if isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _numbers(part)
    elif not isinstance(value, str):
        yield value


def test_the_confidence_curve_is_what_the_scaled_model_has_on_the_same_images():
    result = evaluated()
    found = result.metrics()["confidence"]
    assert [point["scale"] for point in found["curve"]] == list(SCALES)
    labels, strong = result.logits.labels, result.suite.outcomes.logits
    point = next(point for point in found["curve"] if point["scale"] == 1.0)
    assert point["top_probability"] == found["top_probability"]
    for point in found["curve"][::5]:
        for row in point["non_uniform"]:
            alpha = row["alpha_test"]
            for name, logits in (("A_sa", result.logits.attacked), ("A_tr", result.logits.weighted[alpha])):
                margins = []
                for of_attacks in zip(labels, logits, strong, strict=True):
                    label, *rows = of_attacks
                    margins.append(min(_margin(point["scale"] * np.float64(row), label) for row in rows))
                s = np.exp(-alpha * np.array(margins))
                assert row[name] == pytest.approx(np.sum(s * (np.array(margins) > 0)) / s.sum(), abs=1e-9)
    a_sa = [point["non_uniform"][0]["A_sa"] for point in found["curve"]]
    assert a_sa[0] > a_sa[-1] + 0.05


def _margin(logits, label):
    p = np.exp(logits - logits.max())
    p /= p.sum()
    return p[label] - np.delete(p, label).max()


def test_one_attack_alone_gives_a_confidence_curve_too():
    logits, labels = np.float32([[3, 1, 0], [0, 1, 2], [1, 1, 0]]), np.array([0, 1, 0])
    np.testing.assert_allclose(
        probability_margins(logits, labels, 2.0),
        [_margin(2.0 * row, each) for row, each in zip(logits, labels, strict=True)],
    )
    curve = confidence_curve(logits, [logits], {}, labels)
    assert [point["non_uniform"] for point in curve] == [[]] * len(SCALES)
    top = [point["top_probability"] for point in curve]
    assert 1 / 3 < top[0] < top[10] < top[20] < 1


# Files and pictures


def test_what_is_known_of_every_image_comes_back_from_its_file(tmp_path):
    result = evaluated()
    save_images(result, tmp_path / "images.npz")
    hashes, found = load_images(tmp_path / "images.npz")
    assert hashes == result.hashes == result.metrics()["hashes"]
    assert list(hashes) == ["weights", "data"]
    expected = {
        "labels": result.logits.labels,
        "clean_logits": result.logits.clean,
        "logits": result.logits.attacked,
        "losses": result.losses,
        "alphas": np.array([1.0, 2.0]),
        "weighted_logits": np.stack([result.logits.weighted[alpha] for alpha in (1.0, 2.0)]),
        "zero_gradients": result.zero_gradients,
        "strong_logits": result.suite.outcomes.logits,
        "is_robust": result.is_robust,
        "radii": result.radii.values,
    }
    assert set(found) == {*expected, "shown", "shown_clean", "shown_adversarial"}
    for picture, read in zip(pictures(result), pictures_in(found), strict=True):
        assert picture.keys() == read.keys()
        assert all(np.array_equal(picture[name], read[name]) for name in picture)
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array)
    (tmp_path / "images.npz").write_bytes(b"none")
    with pytest.raises(InvalidInput, match=r"^images.npz: got .*images.npz' .*, expected a file that an eval"):
        load_images(tmp_path / "images.npz")


def test_the_hardest_images_have_the_smallest_margins_and_the_first_broken_the_smallest_radii():
    result = evaluated()
    shown = pictures(result, count=4)
    kinds = {why: [row for row in shown if row["why"] == why] for why in ("hardest", "first_broken")}
    assert [len(rows) for rows in kinds.values()] == [4, 4]
    right = np.setdiff1d(np.arange(IMAGES), WRONG)
    margins = logit_margins(result.suite.outcomes.logits, result.logits.labels)
    assert [row["position"] for row in kinds["hardest"]] == right[np.argsort(margins[right])[:4]].tolist()
    radii = result.radii.values
    assert [row["radius"] for row in kinds["first_broken"]] == sorted(radii[right].tolist())[:4]
    for row in shown:
        change = np.abs(row["adversarial"] - row["clean"])
        assert row["clean"].shape == SHAPE and change.max() <= EPSILON + 1e-6
        assert np.array_equal(row["clean"], data()[0][row["position"]])
        assert (row["prediction"] == row["label"]) == (row["broken_by"] is None)


def test_without_a_suite_there_is_nothing_to_show_and_no_chooser():
    attack = PGD(epsilon=EPSILON, step_size=0.01, steps=2)
    result = evaluate_robustness(model(), data(), attack, suite=None, verbose=0)
    assert pictures(result) == []
    assert not {"budget", "classes", "worst_class", "threat"} & set(result.metrics())
