"""The alarms: each broken classifier raises the flag that is meant, honest ones raise none, and what each number is."""

import json

import numpy as np
import pytest
import tensorflow as tf

from studies import gallery
from tests.marking import some
from wmr_tf import data, diagnose, losses
from wmr_tf.checks import InvalidInput
from wmr_tf.evaluation import Robustness, SuiteResult, diagnostics, experiments, indicators, probes
from wmr_tf.evaluation.flags import allowed, suite_flags
from wmr_tf.evaluation.outcomes import Outcomes
from wmr_tf.evaluation.probes import Probes
from wmr_tf.inputs.classifier import outputs_of
from wmr_tf.saving import load_classifier

EXAMPLES = 64
FAST_BROKEN = ["softmax", "random shift", "wrong label order", "images in [0, 255]"]
FAST_HONEST = ["natural", "natural, linear"]


def tables():
    """Return the gallery's names, the slow ones marked."""
    for table, fast in ((gallery.BROKEN, FAST_BROKEN), (gallery.HONEST, FAST_HONEST)):
        yield some(table, fast)


BROKEN, HONEST = tables()


@pytest.fixture(scope="module")
def digits():
    return gallery.digits("test")


def names(diagnosis):
    return [flag["name"] for flag in diagnosis.flags]


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_classifier_raises_the_flag_that_is_meant(name, digits):
    broken, (images, labels) = gallery.BROKEN[name], digits
    classifier, pair = broken.spoil(gallery.base()), (broken.images(images), labels)
    if broken.meant == "InvalidInput":
        with pytest.raises(InvalidInput, match="look like 0..255"):
            diagnose(classifier, pair, epsilon=gallery.EPSILON, verbose=0)
        return
    diagnosis = diagnose(classifier, pair, epsilon=gallery.EPSILON, examples=EXAMPLES, verbose=0)
    # Which of the two notices winners that take all depends on the sample that it was trained on.
    meant = {broken.meant} | ({"restarts"} if name == "winners take all" else set())
    assert meant & set(names(diagnosis)), str(diagnosis)
    json.dumps(diagnosis.metrics(), allow_nan=False)


@pytest.mark.parametrize("name", HONEST)
def test_an_honest_classifier_raises_none(name, digits):
    honest = gallery.HONEST[name]
    diagnosis = diagnose(honest.make(), digits, epsilon=honest.epsilon, norm=honest.norm, examples=EXAMPLES, verbose=0)
    assert diagnosis.flags == [], str(diagnosis)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "flagged"), [("masked", True), ("honest", False), ("free", False)])
def test_mnist_classifiers(name, flagged, tfds_dir):
    path = tfds_dir.parent / "models" / f"{name}_mnist.keras"
    if not path.exists():
        pytest.skip(f"no {path}")
    test = data.load("mnist", data_dir=tfds_dir).test
    diagnosis = diagnose(load_classifier(path), test, epsilon=0.3, examples=64, verbose=0)
    assert ("masked" in names(diagnosis)) == flagged
    assert bool(diagnosis.flags) == flagged, str(diagnosis)


# A diagnosis as a value


def two_checks():
    found = [diagnostics.Check("one", 0.5, 0.1, "one: half"), diagnostics.Check("two", 0.1, 0.1, "two: a tenth")]
    return diagnostics.Diagnosis(tuple(found), {"examples": 8, "norm": "linf", "epsilon": 0.3, "seed": 1})


def test_a_diagnosis_is_printed_as_a_table_and_warnings():
    head, columns, _, one, two, warning = str(two_checks()).splitlines()
    assert head == "8 images, linf, epsilon 0.3, seed 1"
    assert columns.split() == ["Check", "found", "up", "to", "flag"]
    assert (one.split(), two.split()) == (["one", "0.5", "0.1", "RAISED"], ["two", "0.1", "0.1", "-"])
    assert warning == "Warning: one: half"


def test_its_metrics_are_plain_values():
    metrics = two_checks().metrics()
    assert json.loads(json.dumps(metrics)) == metrics
    assert [(check["name"], check["raised"]) for check in metrics["checks"]] == [("one", True), ("two", False)]
    assert metrics["flags"] == [{"name": "one", "message": "one: half", "value": 0.5, "threshold": 0.1}]
    assert (metrics["examples"], metrics["epsilon"]) == (8, 0.3)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"epsilon": 8}, "epsilon: got 8"),
        ({"epsilon": 0.0}, "epsilon: got 0.0"),
        ({"norm": "l3"}, "norm: got 'l3'"),
        ({"examples": 0}, "examples: got 0"),
        ({"batch_size": 0}, "batch_size: got 0"),
        ({"seed": -1}, "seed: got -1"),
    ],
)
def test_settings_that_are_refused(settings, message, digits):
    with pytest.raises(InvalidInput, match=message):
        diagnose(gallery.linear(), digits, **{"epsilon": 0.1, "verbose": 0, **settings})


def test_labels_that_are_no_classes_are_refused(digits):
    with pytest.raises(InvalidInput, match=r"labels: got values from \d+ to 10\d"):
        diagnose(gallery.linear(), (digits[0], digits[1] + 100), epsilon=0.1, verbose=0)


def test_standardised_images_are_refused(digits):
    with pytest.raises(InvalidInput, match=r"look like -1\.\.1"):
        diagnose(gallery.linear(), (2 * digits[0] - 1, digits[1]), epsilon=0.1, verbose=0)


# The numbers of single checks, on scripted probes


class Scripted:
    """Probes with given answers."""

    norm, values, epsilon = "linf", 4, 0.2

    def __init__(self, **answers):
        self.images = np.zeros([answers.pop("n", 128), 2, 2, 1], np.float32)
        for name, answer in answers.items():
            setattr(self, name, answer)


def first(count, n=128):
    """Return a mask of the first images."""
    return np.arange(n) < count


def test_chance_in_few_images_is_allowed_for():
    rng = np.random.default_rng(0)
    for share, n in ((0.002, 128), (0.002, 1000), (0.005, 128), (0.1, 128)):
        exceeded = rng.binomial(n, share, 100_000) / n > allowed(share, n)
        assert 0.0005 < exceeded.mean() < 0.011
    assert allowed(0.002, 1_000_000) == pytest.approx(0.002, rel=0.06)
    assert 128 * allowed(0.002, 128) == 2 and 128 * allowed(0.005, 128) == 3


@pytest.mark.parametrize(
    ("name", "before", "after", "most"),
    [
        ("restarts", "after_short", "after_restart", 3),
        ("more_steps", "after_restart", "after_long", 3),
        ("logit_scale", "after_long", "after_scaled", 4),
        ("square_helps", "after_scaled", "after_search", 2),
    ],
)
def test_what_is_found_on_top_is_counted(name, before, after, most):
    find, _ = indicators.CHECKS[name]
    for lost in (most, most + 1):
        value, threshold = find(Scripted(**{before: first(100), after: first(100 - lost)}))
        assert value == lost / 128
        assert (value > threshold) == (lost > most)


def path_of(rows):
    """Return margins along a path, those of one image a row."""
    return np.array(rows, float).T


def test_masked_compares_the_end_of_pgd_with_the_short_attacks():
    path = np.ones([41, 128])
    path[-1, 120:] = -1  # where it ends
    found = indicators._masked(Scripted(is_correct=first(126), test_path=path, after_short=first(101)))
    assert found == (19 / 128, 21 / 128)
    path[-1, :10] = -1  # which the short attacks have left
    found = indicators._masked(Scripted(is_correct=first(126), test_path=path, after_short=first(101)))
    assert found.value == 19 / 128


def test_silent_success_is_a_success_on_the_way_only():
    path = path_of([[1, -1, 1], [1, 1, 1], [1, 1, -1], [-1, 1, 1]] + [[1, 1, 1]] * 4)
    assert indicators._silent_success(Scripted(n=8, test_path=path)).value == 2 / 8


def test_incomplete_optimisation_looks_at_the_last_steps_of_images_that_hold():
    done = [*np.linspace(2, 1, 30), *[1] * 10]
    falling = np.linspace(2, 1, 40)
    broken = np.linspace(1, -1, 40)
    for row, value in ((done, 0), (falling, 10 / 39), (broken, 0), ([1] * 40, 0)):
        found = indicators._incomplete(Scripted(n=1, firm_path=path_of([row])))
        assert found.value == pytest.approx(value, abs=1e-9)


def test_the_rise_is_between_neighbours_on_the_ladder():
    left = {0.05: 110, 0.1: 90, 0.4: 84}

    def survivors(radius):
        return first(left[round(radius, 6)])

    found = indicators._rises(Scripted(survivors=survivors, at_0=first(120), after_short=first(93)))
    assert found == (3 / 128, 2 / 128)


def test_epsilon_0_is_held_against_the_classifier_as_its_user_calls_it():
    outputs = np.eye(10)[np.zeros(128, int)][np.newaxis]
    labels = np.where(first(100), 0, 1)
    found = indicators._epsilon_0(Scripted(outputs=outputs, labels=labels, at_0=first(98)))
    assert found == (2 / 128, 2 / 128)
    other = indicators._epsilon_0(Scripted(outputs=outputs, labels=labels, at_0=~first(28)))
    assert other.value == 56 / 128  # as many are right, and not the same ones


def test_unbounded_counts_what_the_whole_box_leaves():
    found = indicators._unbounded(Scripted(survivors=lambda radius: first(3 if radius == 1.0 else 9)))
    assert found == (3 / 128, 0)


@pytest.mark.parametrize(
    ("second", "value"),
    [
        ([[2.0, 0.0, 0.0], [0.0, 1.0, 1.0]], 0),
        ([[1.0, 0.001, 0.0], [0.0, 1.0, 1.0]], 0.5),
        ([[1.0, 0.0, 0.0], [0.0, 1.0, 1.00001]], 0.5),
        ([[1.0, 0.0, 0.0], [0.0, 1.00001, 1.0]], 0),
    ],
)
def test_randomised_is_another_direction_or_another_class(second, value):
    outputs = np.array([[[1.0, 0.0, 0.0], [0.0, 1.0, 1.0]], second])
    assert indicators._randomised(Scripted(n=2, outputs=outputs)) == (value, 0)


@pytest.mark.parametrize(
    ("spoil", "value"),
    [
        (lambda z: z, 0),
        (lambda z: tf.nn.softmax(z).numpy(), 1),
        (lambda z: 7 * tf.nn.softmax(z).numpy(), 1),
        (lambda z: tf.nn.softmax(z).numpy() + 0.002, 1),
        (lambda z: tf.nn.softmax(z).numpy() * np.linspace(0.97, 1.03, 32, dtype=np.float32)[:, np.newaxis], 1),
        (lambda z: tf.nn.log_softmax(z).numpy(), 0),
        (lambda z: z / 1000, 0),
        (lambda z: np.abs(z), 0),
    ],
)
def test_probabilities_up_to_a_factor_and_nearly(spoil, value):
    z = np.random.default_rng(0).standard_normal([32, 10]).astype(np.float32)
    found = indicators._probabilities(Scripted(n=32, outputs=spoil(z)[np.newaxis]))
    assert (found.value > found.threshold) == value


def test_unstable_is_the_relative_change_of_the_margin_up_to_1():
    probe = Scripted(n=2, logits=np.array([[2.0, 0.0], [1.0, 0.0]]), labels=np.array([0, 1]))
    probe.noisy_logits = np.array([[[2.2, 0.0], [9.0, 0.0]], [[2.0, 0.0], [1.0, 0.0]]])
    assert indicators._unstable(probe).value == pytest.approx((0.1 + 1 + 0 + 0) / 4)


@pytest.mark.parametrize(("labels", "raised"), [([0, 1, 2, 3], True), ([1, 1, 1, 1], False)])
def test_constant_only_counts_where_labels_differ(labels, raised):
    probe = Scripted(n=4, labels=np.array(labels), logits=np.eye(4)[[1, 1, 1, 1]])
    value, threshold = indicators._constant(probe)
    assert (value > threshold) == raised


def test_at_chance_allows_for_luck():
    for correct, raised in ((21, True), (22, False)):
        value, threshold = indicators._at_chance(Scripted(is_correct=first(correct), logits=np.zeros([128, 10])))
        assert (value > threshold) == raised


# The probes themselves


def linear_probes(digits, classifier=None, n=24, **settings):
    classifier = classifier or gallery.trained(gallery.linear, gallery.methods.Natural(), epochs=3)
    given = {"epsilon": 0.1, "norm": "linf", "batch_size": 128, "seed": 0, **settings}
    return Probes(classifier, digits[0][:n], digits[1][:n].astype(np.int32), **given)


def test_attacks_do_not_depend_on_the_batch_size(digits):
    classifier = gallery.trained(gallery.linear, gallery.methods.Natural(), epochs=3)
    one, other = (linear_probes(digits, classifier, batch_size=size) for size in (128, 7))
    settings = [tf.constant(setting) for setting in (0.1, 1.0, 0.0, 0.0)]
    attacked = [probe._in_batches(probe._ascent(2), np.arange(24), *settings) for probe in (one, other)]
    assert attacked[0] == pytest.approx(attacked[1], abs=1e-4)
    assert np.abs(attacked[0] - one.logits).max() > 0.1
    assert one.test_path == pytest.approx(other.test_path, abs=1e-4)


def test_confidence_is_caught_by_the_scale_of_the_logits(digits, monkeypatch):
    """Where the attack's losses saturate, as they do not here, dividing the logits finds what was hidden."""
    monkeypatch.setattr(losses, "unsaturated", lambda logits, labels: logits)
    ratio = losses.cross_entropy
    monkeypatch.setattr(losses, "targeted_difference_of_logits_ratio", lambda z, labels, _: ratio(z, labels))
    natural = gallery.trained(gallery.linear, gallery.methods.Natural(), epochs=3)
    confident = gallery.after(lambda z: 200 * z)(natural)
    value, threshold = indicators._logit_scale(linear_probes(digits, confident, n=48))
    assert value > max(threshold, 0.1)


@pytest.mark.parametrize(("norm", "epsilon"), [("l2", 0.4), ("l1", 1.5)])
def test_other_norms(norm, epsilon, digits):
    probe = linear_probes(digits, norm=norm, epsilon=epsilon)
    assert not probe.survivors(probes.WHOLE_BOX[norm](probe.values)).any()
    assert np.array_equal(probe.survivors(0.0), probe.is_correct)
    assert 0 < probe.after_short.sum() < probe.is_correct.sum()
    path = probe.descend(epsilon / 10)
    assert path.shape == (experiments.TEST_STEPS + 1, 24) and (path[-1] < path[0]).mean() > 0.9


def test_probes_see_weights_that_move(digits):
    classifier = gallery.network(norm=True)
    probe = linear_probes(digits, classifier)
    assert probe.moved_weights() == 0
    classifier(digits[0][:8], training=True)
    assert probe.moved_weights() == 2
    probe.put_back()
    assert probe.moved_weights() == 0


def test_an_output_that_is_not_finite_is_remembered(digits):
    spoiled = gallery.after(lambda z: tf.where(z == tf.reduce_max(z), np.nan, z))(gallery.linear())
    probe = linear_probes(digits, spoiled)
    assert not probe.not_finite().any()
    outputs_of(spoiled, digits[0][:4])  # a look from outside does not count
    assert probe.logits.shape == (24, 10)
    assert probe.not_finite().sum() == 1


def test_a_classifier_without_a_single_correct_image_is_diagnosed(digits):
    wrong = (digits[0][:16], np.full(16, 3))
    never = gallery.after(lambda z: z - 100.0 * tf.one_hot(3, 10))(gallery.linear())
    assert "at_chance" in names(diagnose(never, wrong, epsilon=0.1, verbose=0))


# What a suite says


@pytest.mark.parametrize(
    ("after", "gain"),
    [
        ({"apgd-ce": 0.9, "apgd-t": 0.5, "fab-t": 0.5, "square": 0.49}, 0.01),
        ({"apgd-ce": 0.9, "fab": 0.5, "square": 0.49, "apgd-t": 0.4}, 0.01),
        ({"apgd-ce": 0.9, "square": 0.895}, None),
        ({"square": 0.4}, None),
        ({"apgd-ce": 0.9}, None),
    ],
)
def test_square_helps_in_a_suite(after, gain):
    found = suite_flags(after, images=1000)
    assert [flag["name"] for flag in found] == ["square_helps"] * (gain is not None)
    assert all(flag["value"] == gain and flag["threshold"] == 0.006 for flag in found)


def test_a_suite_has_its_flags_among_its_metrics(digits):
    images, labels = digits[0][:32], digits[1][:32]
    outcomes = Outcomes.begin(images, labels, np.eye(10)[labels])
    outcomes.broken_by[:9] = [0] * 4 + [1] * 5
    result = SuiteResult(outcomes, ("apgd-ce", "square"), {"version": "apgd-ce+square"})
    assert [flag["name"] for flag in result.metrics()["flags"]] == ["square_helps"]
    of_evaluation = Robustness(*[np.where(result.is_robust, 1.0, -1.0)] * 2, {}, np.ones(32), suite=result)
    assert of_evaluation.flags == result.flags and result.flags[0]["message"] in str(of_evaluation)
