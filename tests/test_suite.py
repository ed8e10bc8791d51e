"""AutoAttack's ensemble: on scripted attacks, and on linear classifiers, where it is known which images are robust."""

import dataclasses
import functools
import json
import re
import zipfile

import keras
import numpy as np
import pytest
import scipy.stats
import tensorflow as tf
from keras import layers

from tests.test_fab import OF_NORM, linear
from wmr_tf import losses
from wmr_tf.attacks import FAB, PGD, Square
from wmr_tf.checks import InvalidInput
from wmr_tf.engine import progress
from wmr_tf.evaluation import Suite, auto_attack, outcomes, suite, suite_result
from wmr_tf.evaluation.outcomes import MISCLASSIFIED, ROBUST, Outcomes, load_outcomes
from wmr_tf.evaluation.stages import Batch, Found, Nearest, Search, Stage
from wmr_tf.evaluation.temperature import at_temperature
from wmr_tf.evaluation.versions import SINGLE, VERSIONS, Stages, stages_of
from wmr_tf.inputs.batches import checked_batches

# Scripted attacks: of vectors whose first value decides, by how much it is above 0.4


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scripted(Stage):
    """Breaks images of given positions, in given runs; keeps what it was given."""

    attack: PGD = PGD(epsilon=0.3, step_size=0.1, steps=10)
    breaks: tuple[tuple[int, ...], ...] = ((),)
    to: float = 0.3
    seen: list = dataclasses.field(default_factory=list, compare=False)

    @property
    def passes(self):
        return 10

    def __call__(self, network, batch, run, seed):
        mask = np.array([[position in of_run for position in range(100)] for of_run in self.breaks])
        is_broken = tf.gather(tf.gather(tf.constant(mask), run), batch.positions)
        tf.numpy_function(lambda *row: self.seen.append([part.copy() for part in row]), [*batch, run, seed], [])
        there = tf.concat([tf.fill(tf.shape(batch.images[:, :1]), self.to), batch.images[:, 1:]], axis=1)
        points = tf.where(is_broken[:, tf.newaxis], there, batch.images)
        return Found(points, batch.margins + float("inf"), batch.carried + 1.0, batch.margins + 1.0)

    def positions_in(self, run):
        """Each once, since batches are filled up with some of their images."""
        return [*dict.fromkeys(position for row in self.seen if row[6] == run for position in row[2].tolist())]


VECTORS = np.float32(np.random.default_rng(0).random([20, 3]))
VECTORS[:, 0] = 0.5 + 0.4 * VECTORS[:, 0]
WRONG = (3, 11)
LABELS = np.zeros(20, np.int32)
LABELS[list(WRONG)] = 1


@functools.cache
def thresholded(classes=2):
    """Return a classifier that gives class 0 iff the first value is at least 0.4, else class 1."""
    classifier = keras.Sequential([keras.Input([3]), layers.Dense(classes)])
    kernel, bias = np.zeros([3, classes]), -1.0 - np.arange(classes)
    kernel[0, 0], bias[:2] = 1.0, [0.0, 0.4]
    classifier.set_weights([kernel, bias])
    return classifier


def ensemble(*stages, classifier=None, batch_size=256, **settings):
    made = Suite(classifier or thresholded(), epsilon=0.3, version="standard", batch_size=batch_size, **settings)
    made.stages = list(stages)
    return made


def outcome(made, data=(VECTORS, LABELS), path=None, verbose=0):
    return made(checked_batches(made.classifier, [data]), outcomes=path, verbose=verbose)


def three():
    return [
        Scripted(name="one", breaks=((0, 1, 2, 3),), to=0.3),
        Scripted(name="two", breaks=((2, 4), (5, 19)), runs=2, to=0.2),
        Scripted(name="three", breaks=((0, 5, 7),), to=0.1),
    ]


CORRECT = [position for position in range(20) if position not in WRONG]


def assert_same(one, other):
    for field in dataclasses.fields(Outcomes):
        assert np.array_equal(getattr(one.outcomes, field.name), getattr(other.outcomes, field.name)), field.name


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rough(Scripted):
    """One whose network may compute in bfloat16; keeps what that gives."""

    allows_bfloat16 = True
    logits: list = dataclasses.field(default_factory=list, compare=False)

    def __call__(self, network, batch, run, seed):
        found = super().__call__(network, batch, run, seed)
        tf.numpy_function(lambda logits: self.logits.append(logits.copy()), [network(found.points)], [])
        return found


class Precise(Rough):
    allows_bfloat16 = False


@pytest.mark.parametrize(("kind", "predicted"), [(Rough, 1), (Precise, 0)])
def test_a_point_that_is_misclassified_in_bfloat16_alone_breaks_no_image(kind, predicted):
    # In bfloat16 0.4008 is 0.4004, below the threshold of class 0.
    classifier = keras.Sequential([keras.Input([3]), layers.Dense(2), layers.Dense(2)])
    classifier.set_weights([np.eye(3)[:, :2], np.zeros(2), np.float32([[1, 0], [0, 0]]), np.float32([0, 0.4006])])
    data = np.full([4, 3], 0.5, np.float32), np.zeros(4, np.int32)
    stage = kind(name="one", breaks=(tuple(range(20)),), to=0.4008)
    result = outcome(ensemble(stage, classifier=classifier, precision="bfloat16"), data)
    assert (stage.logits[0].argmax(axis=1) == predicted).all()
    assert result.is_robust.all() and result.settings["precision"] == "bfloat16"
    assert not outcome(ensemble(dataclasses.replace(stage, to=0.4), classifier=classifier), data).is_robust.any()


def test_an_image_is_broken_by_the_first_attack_that_finds_a_misclassified_point():
    result = outcome(ensemble(*three()))
    assert result.stages == ("one", "two", "two", "three")
    expected = np.full(20, ROBUST)
    expected[list(WRONG)] = MISCLASSIFIED
    expected[[0, 1, 2]], expected[4], expected[[5, 19]], expected[7] = 0, 1, 2, 3
    assert result.outcomes.broken_by.tolist() == expected.tolist()
    names = {ROBUST: None, MISCLASSIFIED: "clean", 0: "one", 1: "two", 2: "two", 3: "three"}
    assert result.broken_by == [names[run] for run in expected]
    assert np.array_equal(result.is_robust, expected == ROBUST)


def test_survivors_go_on_in_order_and_from_their_clean_images():
    one, two, third = three()
    outcome(ensemble(one, two, third))
    assert one.positions_in(0) == CORRECT
    assert two.positions_in(0) == [p for p in CORRECT if p not in (0, 1, 2)]
    assert two.positions_in(1) == [p for p in CORRECT if p not in (0, 1, 2, 4)]
    assert third.positions_in(0) == [p for p in CORRECT if p not in (0, 1, 2, 4, 5, 19)]
    for images, labels, positions, *_ in one.seen + two.seen + third.seen:
        assert np.array_equal(images, VECTORS[positions])
        assert np.array_equal(labels, LABELS[positions])


def test_accuracies_are_of_all_images_and_fall_from_attack_to_attack():
    result = outcome(ensemble(*three()))
    assert result.clean_accuracy.value == 18 / 20
    assert {name: found.value for name, found in result.accuracy_after.items()} == {
        "one": 15 / 20,
        "two": 12 / 20,
        "three": 11 / 20,
    }
    assert result.accuracy.value == 11 / 20
    low, high = scipy.stats.binomtest(11, 20).proportion_ci(0.95, method="wilson")
    assert result.accuracy[1:] == pytest.approx((low, high))
    z, p = 1.959964, 11 / 20
    half = z * np.sqrt(p * (1 - p) / 20 + z**2 / 1600) / (1 + z**2 / 20)
    assert result.accuracy.high - result.accuracy.low == pytest.approx(2 * half, rel=1e-5)
    assert list(result.accuracy_after) == ["one", "two", "three"]


def test_the_images_of_broken_ones_are_adversarial_and_of_the_others_clean():
    found = outcome(ensemble(*three())).outcomes
    expected = VECTORS.copy()
    expected[[0, 1, 2], 0], expected[[4, 5, 19], 0], expected[7, 0] = 0.3, 0.2, 0.1
    assert np.array_equal(found.adversarial, expected)
    assert np.array_equal(found.clean, VECTORS)
    np.testing.assert_allclose(found.logits, thresholded()(expected), atol=1e-6)
    np.testing.assert_allclose(found.clean_logits, thresholded()(VECTORS), atol=1e-6)
    sign = np.where(LABELS == 0, 1, -1)
    np.testing.assert_allclose(found.margins, sign * (expected[:, 0] - 0.4), atol=1e-6)


def test_a_point_nearer_to_the_boundary_is_kept_though_it_breaks_nothing():
    near, nearer, far = (
        Scripted(name=name, breaks=((0,),), to=to) for name, to in (("near", 0.45), ("nearer", 0.41), ("far", 0.6))
    )
    found = outcome(ensemble(near, nearer, far)).outcomes
    assert found.adversarial[0, 0] == np.float32(0.41)
    assert found.broken_by[0] == ROBUST
    for stage in (nearer, far):
        clean = stage.seen[0][0][: len(CORRECT)]
        assert np.array_equal(clean, VECTORS[CORRECT])  # each starts from the clean images all the same


def test_a_tie_is_broken_iff_argmax_gives_another_class():
    vectors, labels = np.float32([[0.9, 0, 0], [0.1, 0, 0]]), np.int32([0, 1])
    found = outcome(ensemble(Scripted(name="tie", breaks=((0, 1),), to=0.4)), (vectors, labels)).outcomes
    assert np.array_equal(found.logits[:, 0], found.logits[:, 1])
    assert found.broken_by.tolist() == [ROBUST, 0]
    assert np.array_equal(found.adversarial[:, 0], np.float32([0.4, 0.4]))


def test_a_broken_image_is_kept_though_its_margin_is_no_smaller_than_before():
    clean, tied = np.zeros([1, 3], np.float32), np.float32([[0, 1, 1]])
    found = Outcomes.begin(clean, np.int32([1]), tied)
    found.update(np.array([0]), clean + 1, np.float32([[1, 1, 0]]))
    assert found.broken_by.tolist() == [0]
    assert np.array_equal(found.adversarial, clean + 1)


def test_what_square_carries_is_handed_from_run_to_run_image_by_image():
    stages = three()
    outcome(ensemble(*stages, batch_size=7))
    for count, stage in enumerate(stages):
        first = [0, 1, 3][count]
        for _, _, positions, _, carried, margins, run, _ in stage.seen:
            assert (carried == first + run).all()
            assert (margins == first + run).all()
            assert carried.shape == (len(positions), 3)


@pytest.mark.parametrize("batch_size", [1, 7, 64])
def test_the_size_of_the_batches_does_not_matter(batch_size):
    stages = three()
    assert_same(outcome(ensemble(*stages, batch_size=batch_size)), outcome(ensemble(*three())))
    sizes = [len(positions) for _, _, positions, *_ in stages[0].seen]
    assert sizes == [
        min(suite.filled_up(min(batch_size, 18 - start)), batch_size) for start in range(0, 18, batch_size)
    ]


def test_batches_are_filled_up_to_few_sizes():
    sizes = [suite.filled_up(count) for count in range(1, 257)]
    assert len(set(sizes)) == 16 and sizes[-1] == 256
    assert all(count <= size < min(2 * count, max(1.25 * count + 1, count + 16)) for count, size in enumerate(sizes, 1))


def test_seeds_are_of_stage_run_and_position_alone():
    seeds = {}
    for batch_size in (5, 256):
        stages = [*three(), Scripted(name="one more", breaks=((), ()), runs=2)]
        outcome(ensemble(*stages, batch_size=batch_size, seed=4))
        for stage in stages:
            for _, _, positions, *_, run, seed in stage.seen:
                for position, of_image in zip(positions.tolist(), seed.tolist(), strict=True):
                    key = (stage.name, int(run), position)
                    assert seeds.setdefault(key, of_image) == of_image
    assert len(set(map(tuple, seeds.values()))) == len(seeds)
    other = three()[0]
    outcome(ensemble(other, seed=5))
    assert other.seen[0][7].tolist() != [seeds["one", 0, position] for position in CORRECT]


def test_targets_are_the_classes_that_follow_for_the_clean_image():
    rng = np.random.default_rng(1)
    vectors = np.float32(rng.random([30, 3]))
    classifier = keras.Sequential([keras.Input([3]), layers.Dense(12)])
    classifier.set_weights([rng.standard_normal([3, 12]), np.zeros(12)])
    ranks = np.argsort(-classifier(vectors).numpy(), axis=1)
    stage = Scripted(name="t", targeted=True, runs=9, breaks=((),) * 9)
    outcome(ensemble(stage, classifier=classifier), (vectors, ranks[:, 0]))
    assert [row[6] for row in stage.seen] == list(range(9))
    for _, labels, positions, targets, *_, run, _ in stage.seen:
        assert np.array_equal(targets, ranks[positions, run + 1])
        assert (targets != labels).all()


def test_after_an_interruption_targets_are_those_of_the_clean_image_too(monkeypatch, tmp_path):
    monkeypatch.setattr(suite, "SAVE_SECONDS", -1)
    classifier, stages = rising(), []
    ranks = np.argsort(-classifier(VECTORS).numpy(), axis=1)
    with monkeypatch.context() as until_then:
        for batches in (1, 1000):
            killed_after(until_then, batches)
            stages[:] = (
                Scripted(name="p", breaks=(tuple(range(20)),), to=1.0),
                Scripted(name="t", targeted=True, runs=2, breaks=((),) * 2),
            )
            try:
                outcome(
                    ensemble(*stages, classifier=classifier), (VECTORS, ranks[:, 0]), path=tmp_path / "outcomes.npz"
                )
            except Killed:
                assert batches == 1
            until_then.undo()
    assert [row[6] for row in stages[1].seen] == [0, 1]
    for _, _, positions, targets, *_, run, _ in stages[1].seen:
        assert np.array_equal(targets, ranks[positions, run + 1])


def rising():
    """Return a classifier that gives class 3 everywhere, the surer the higher the first value; others change order."""
    classifier = keras.Sequential([keras.Input([3]), layers.Dense(4)])
    kernel = np.zeros([3, 4])
    kernel[0] = [1.0, -1.0, 0.0, 0.5]
    classifier.set_weights([kernel, np.array([0.0, 1.5, 0.7, 3.0])])
    return classifier


def test_of_equal_logits_the_first_class_is_the_first_target():
    stage = Scripted(name="t", targeted=True, runs=9, breaks=((),) * 9)
    classifier = keras.Sequential([keras.Input([3]), layers.Dense(4)])
    classifier.set_weights([np.zeros([3, 4]), np.array([1.0, 2.0, 2.0, 2.0])])
    outcome(ensemble(stage, classifier=classifier), (VECTORS[:1], np.int32([1])))
    assert [int(row[3][0]) for row in stage.seen] == [2, 3, 0]


@pytest.mark.parametrize("classes", [2, 3, 4, 9, 10, 12])
def test_there_is_a_run_for_each_other_class_and_nine_at_most(classes):
    targeted = Scripted(name="t", targeted=True, runs=9, breaks=((),) * 9)
    plain = Scripted(name="p", runs=5, breaks=((),) * 5)
    result = outcome(ensemble(targeted, plain, classifier=thresholded(classes)))
    assert [row[6] for row in targeted.seen] == list(range(min(9, classes - 1)))
    assert [row[6] for row in plain.seen] == list(range(5))
    assert result.stages == ("t",) * min(9, classes - 1) + ("p",) * 5
    few = [sentence for sentence in result.deviations if "need four classes" in sentence]
    assert len(few) == (classes < 4)


def test_any_misclassification_counts_though_the_target_is_another_class():
    stage = Scripted(name="t", targeted=True, runs=3, breaks=((), (4,), ()))  # the second target is class 2
    result = outcome(ensemble(stage, classifier=thresholded(4)))
    assert result.outcomes.logits[4].argmax() == 1
    assert result.outcomes.broken_by[4] == 1


def test_a_targeted_attack_keeps_a_misclassified_point_though_another_one_is_nearer_to_the_target():
    """Of one value: class 1 is below 0.4, and the target, class 2, is uphill and never reached."""

    def network(x):
        one = tf.ones_like(x)
        return tf.concat([one, 1 + 10 * (0.4 - x), 30 * x - 30, -30 * one], axis=1)

    ratio = losses.targeted_difference_of_logits_ratio
    low, high = (ratio(network(tf.constant([[x]])), tf.constant([0]), tf.constant([2])) for x in (0.35, 0.55))
    assert low < high
    clean, labels = tf.fill([20, 1], 0.45), tf.zeros([20], tf.int32)
    batch = Batch(clean, labels, tf.range(20), labels + 2, clean, clean[:, 0])
    stage = Stages(0.1, "linf").apgd_t(steps=3)
    points = stage(network, batch, tf.constant(0), stage.seed(0, batch.positions, tf.constant(0))).points
    starts_below = network(points).numpy().argmax(axis=1) == 1
    assert 4 < starts_below.sum() < 16
    np.testing.assert_allclose(points[:, 0], np.where(starts_below, 0.35, 0.55), atol=1e-6)


def test_one_survivor_and_none():
    all_but_one = Scripted(name="one", breaks=(tuple(p for p in CORRECT if p != 8),))
    last, never = Scripted(name="two", breaks=((8,),)), Scripted(name="three")
    result = outcome(ensemble(all_but_one, last, never))
    assert last.positions_in(0) == [8]
    assert never.seen == []
    assert result.accuracy.value == 0
    assert {name: found.value for name, found in result.accuracy_after.items()} == {
        "one": 1 / 20,
        "two": 0,
        "three": 0,
    }


def test_where_all_clean_images_are_misclassified_nothing_is_attacked():
    stage = Scripted(name="one")
    result = outcome(ensemble(stage), (VECTORS, 1 - LABELS * 0))
    assert stage.seen == []
    assert result.clean_accuracy.value == result.accuracy.value == 0


def test_a_suite_reads_the_weights_anew_and_traces_each_attack_once():
    classifier = keras.models.clone_model(thresholded())
    classifier.set_weights(thresholded().get_weights())
    made = ensemble(Scripted(name="one"), classifier=classifier, batch_size=7)
    assert outcome(made).clean_accuracy.value == 0.9
    kernel, bias = classifier.get_weights()
    classifier.set_weights([-kernel, -bias])
    assert outcome(made).clean_accuracy.value == pytest.approx(0.1)
    assert [function.experimental_get_tracing_count() for function in made._made.values()] == [1, 1]


# The outcomes file


class Killed(Exception):
    pass


def killed_after(monkeypatch, batches):
    """Make a suite fail in the batch after so many."""
    attack_batch, count = Suite._attack_batch, iter(range(1000))

    def failing(*arguments):
        if next(count) == batches:
            raise Killed
        attack_batch(*arguments)

    monkeypatch.setattr(Suite, "_attack_batch", failing)


@pytest.mark.parametrize("batches", [0, 1, 3])
def test_an_evaluation_that_is_killed_again_and_again_ends_with_the_same_outcomes(monkeypatch, tmp_path, batches):
    monkeypatch.setattr(suite, "SAVE_SECONDS", -1)
    whole, path = outcome(ensemble(*three())), tmp_path / "outcomes.npz"
    attack_batch, kills, attacked = Suite._attack_batch, 0, []
    while True:
        monkeypatch.setattr(Suite, "_attack_batch", attack_batch)
        killed_after(monkeypatch, batches or kills)
        stages = three()
        try:
            result = outcome(ensemble(*stages, batch_size=4), path=path)
            break
        except Killed:
            kills += 1
        finally:
            # In a batch each once, since batches are filled up with some of their images.
            attacked += [(s.name, int(row[6]), p) for s in stages for row in s.seen for p in set(row[2].tolist())]
    assert kills > 3
    assert_same(result, whole)
    assert len(attacked) == len(set(attacked)) == 18 + 15 + 14 + 12  # nothing was done twice


def test_a_finished_evaluation_is_read_and_nothing_is_attacked_again(tmp_path):
    path = tmp_path / "outcomes.npz"
    first = outcome(ensemble(*three()), path=path)
    stages = three()
    assert_same(outcome(ensemble(*stages), path=path), first)
    assert not any(stage.seen for stage in stages)
    assert [file.name for file in tmp_path.iterdir()] == ["outcomes.npz"]


def test_work_is_saved_now_and_then_and_at_the_end(monkeypatch, tmp_path):
    saves = []
    monkeypatch.setattr(Outcomes, "save", lambda self, path, identity: saves.append((self.run, self.done)))
    monkeypatch.setattr(suite, "SAVE_SECONDS", 1e9)
    outcome(ensemble(*three(), batch_size=4), path=tmp_path / "outcomes.npz")
    assert saves == [(4, 0)]
    monkeypatch.setattr(suite, "SAVE_SECONDS", -1)
    outcome(ensemble(*three(), batch_size=10), path=tmp_path / "outcomes.npz")
    assert saves[1:] == [(0, 10), (0, 18), (1, 10), (1, 15), (2, 10), (2, 14), (3, 10), (3, 12), (4, 0)]


def test_the_file_has_no_pickle_and_all_that_is_needed(tmp_path):
    path = tmp_path / "outcomes.npz"
    result = outcome(ensemble(*three(), seed=3), path=path)
    identity, arrays = load_outcomes(path)
    assert set(arrays) == {field.name for field in dataclasses.fields(Outcomes)} - {"clean"}
    for name in ("labels", "clean_logits", "adversarial", "logits", "broken_by", "radii"):
        assert np.array_equal(arrays[name], getattr(result.outcomes, name)), name
    assert set(identity) == {"weights", "data", "version", "norm", "epsilon", "seed"}
    assert (identity["version"], identity["norm"], identity["epsilon"], identity["seed"]) == (
        "standard",
        "linf",
        0.3,
        3,
    )
    assert zipfile.is_zipfile(path)


def shifted(by):
    classifier = keras.models.clone_model(thresholded())
    kernel, bias = thresholded().get_weights()
    classifier.set_weights([kernel, bias + np.float32([by, 0])])
    return classifier


@pytest.mark.parametrize(
    ("settings", "data", "named"),
    [
        ({"classifier": lambda: shifted(1e-6)}, (VECTORS, LABELS), "weights"),
        ({"classifier": lambda: at_temperature(thresholded(), 0.5)}, (VECTORS, LABELS), "classifier"),
        ({}, (np.float32(VECTORS * 0.999), LABELS), "data"),
        ({}, (VECTORS, 1 - LABELS), "data"),
        ({}, (VECTORS[:19], LABELS[:19]), "data"),
        ({"seed": 1}, (VECTORS, LABELS), "seed"),
        ({"epsilon": 0.2}, (VECTORS, LABELS), "epsilon"),
        ({"norm": "l2"}, (VECTORS, LABELS), "norm"),
        ({"version": "plus"}, (VECTORS, LABELS), "version"),
        ({"version": ("apgd-t",), "norm": "l1"}, (VECTORS, LABELS), "version, norm"),
    ],
)
def test_outcomes_of_another_evaluation_are_refused_by_what_differs(tmp_path, settings, data, named):
    path = tmp_path / "outcomes.npz"
    outcome(ensemble(*three()), path=path)
    written = path.read_bytes()
    classifier = settings.pop("classifier", thresholded)()
    other = Suite(classifier, **{"epsilon": 0.3, "version": "standard", **settings})
    other.stages = three()
    with pytest.raises(
        InvalidInput, match=rf"^outcomes: got .*outcomes.npz', which is of another evaluation \({named}\), expected"
    ):
        outcome(other, data, path=path)
    assert path.read_bytes() == written


def altered(**changes):
    """Return what spoils an outcomes file by other arrays, None for one that is missing."""

    def alter(path):
        identity, arrays = load_outcomes(path)
        kept = {name: array for name, array in {**arrays, **changes}.items() if array is not None}
        np.savez(path, identity=json.dumps(identity), **kept)

    return alter


SPOILS = {
    "garbage": lambda path: path.write_bytes(b"no outcomes at all"),
    "empty": lambda path: path.write_bytes(b""),
    "half of it": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "one array": lambda path: (np.save(path.with_suffix(".npy"), np.zeros(3)), path.with_suffix(".npy").replace(path)),
    "pickle": lambda path: np.savez(path, identity=np.array([{}], object)),
    "no identity": lambda path: np.savez(path, labels=np.zeros(3)),
    "another identity": lambda path: np.savez(path, identity="[1, 2]"),
    "an array is missing": altered(radii=None),
    "an array too many": altered(more=np.zeros(3)),
    "an array of text": altered(radii=np.array(["0.1"] * 20)),
    "an array that is too short": altered(radii=np.zeros(19, np.float32)),
}


@pytest.mark.parametrize("spoil", SPOILS)
def test_a_file_that_is_no_outcomes_is_refused(tmp_path, spoil):
    path = tmp_path / "outcomes.npz"
    outcome(ensemble(*three()), path=path)
    SPOILS[spoil](path)
    with pytest.raises(
        InvalidInput, match=r"^outcomes: got '.*outcomes.npz'.*, expected .* Move it away to begin anew"
    ):
        outcome(ensemble(*three()), path=path)


def test_a_file_is_never_half_written(monkeypatch, tmp_path):
    path = tmp_path / "outcomes.npz"
    monkeypatch.setattr(suite, "SAVE_SECONDS", -1)
    with monkeypatch.context() as until_then, pytest.raises(Killed):
        killed_after(until_then, 2)
        outcome(ensemble(*three(), batch_size=4), path=path)
    written = path.read_bytes()

    def failing(file, **arrays):
        file.write(b"half of it")
        raise OSError("no space left")

    for name in ("savez", "savez_compressed"):
        monkeypatch.setattr(outcomes.np, name, failing)
    # On the way it can do without, not at the end.
    with pytest.warns(UserWarning, match="goes on without"), pytest.raises(OSError, match="no space left"):
        outcome(ensemble(*three(), batch_size=4), path=path)
    assert path.read_bytes() == written
    assert [file.name for file in tmp_path.iterdir()] == ["outcomes.npz"]


# What is printed


def test_metrics_are_plain_values():
    result = outcome(ensemble(*three(), seed=2))
    metrics = result.metrics()
    assert json.loads(json.dumps(metrics)) == metrics
    assert metrics == {
        **{"version": "standard", "norm": "linf", "epsilon": 0.3, "seed": 2, "examples": 20},
        **{"clean_accuracy": 0.9, "accuracy": 0.55, "accuracy_interval": [result.accuracy.low, result.accuracy.high]},
        **{"accuracy_after": {"one": 0.75, "two": 0.6, "three": 0.55}},
        "deviations": list(result.deviations),
        "flags": [],
    }


def test_a_result_prints_its_conditions_and_an_accuracy_a_line():
    result = outcome(ensemble(*three(), classifier=thresholded(10)))
    assert str(result).splitlines() == [
        "20 images, linf, epsilon 0.3, version standard, seed 0",
        "clean            90 % (70 to 97)",
        "after one        75 % (53 to 89)",
        "after two        60 % (39 to 78)",
        "after three      55 % (34 to 74)",
    ]


@pytest.mark.parametrize("version", ["standard", "plus", "rand", "quick", "strong", "short", ("apgd-ce", "square")])
def test_a_version_that_is_not_published_says_so(version):
    deviations = suite_result.deviations(Suite(thresholded(), epsilon=0.3, version=version).settings["version"], 10)
    assert len(deviations) == (version not in ("standard", "plus", "rand"))
    assert all(sentence.startswith("Not a standard AutoAttack accuracy: ") for sentence in deviations)


def test_progress_is_shown_as_asked_for(monkeypatch, capsys):
    outcome(ensemble(*three()), verbose=0)
    assert capsys.readouterr().out == ""
    with monkeypatch.context() as terminal:
        terminal.setattr(progress, "writes_over", lambda: True)
        terminal.setattr(progress, "REDRAWN", -1)
        outcome(ensemble(*three(), batch_size=4), verbose=1)
        assert re.search(r"\rstronger attacks: pass \d+/590 ━+─* ", capsys.readouterr().out)
    outcome(ensemble(*three(), batch_size=4), verbose=1)
    assert "\r" not in capsys.readouterr().out
    monkeypatch.setattr(progress, "SECONDS", -1)
    outcome(ensemble(*three(), batch_size=10), verbose=2)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(",")[0].removeprefix("stronger attacks: ") for line in lines] == [
        *("pass 100/720", "pass 180/720", "pass 280/630", "pass 330/630", "pass 430/610", "pass 470/610"),
        "pass 570/590",
    ]
    assert all(line.endswith(" left") for line in lines)


# Settings and data


def test_the_versions_are_those_of_the_public_code():
    def shown(version, norm="linf"):
        return [
            (stage.name, stage.runs, stage.targeted, *(getattr(stage.attack, name, None) for name in names))
            for stage in stages_of(version, epsilon=0.3, norm=norm)
        ]

    names = ["steps", "restarts", "staged", "gradients", "queries", "norm", "epsilon"]
    ball = ("linf", 0.3)
    ce, targets = ("apgd-ce", 1, False, 100, 1, False, 1, None), ("apgd-t", 9, True, 100, 1, False, 1, None)
    fab_t, square = ("fab-t", 9, True, 100, 1, None, None, None), ("square", 10, False, None, None, None, None, 5000)
    dlr = ("apgd-dlr", *ce[1:])
    assert shown("standard") == [(*row, *ball) for row in (ce, targets, fab_t, square)]
    assert shown("quick") == shown("standard")[:2]
    five = [("apgd-ce", 5, *ce[2:]), ("apgd-dlr", 5, *ce[2:]), ("fab", 1, False, 100, 5, None, None, None)]
    assert shown("plus") == [(*row, *ball) for row in (*five, square, targets, fab_t)]
    assert shown("rand") == [(*row[:6], 20, None, *ball) for row in (ce, dlr)]
    assert shown("strong") == [(*row[:1], runs, row[2], 40, *row[4:], *ball) for row, runs in ((ce, 1), (targets, 3))]
    assert shown("short") == [(*row[:1], 1, row[2], 20, *row[4:], *ball) for row in (ce, targets)]
    in_l1 = [("apgd-ce", 5, False, 100, 1, True, 1, None), ("apgd-t", 5, True, 100, 1, True, 1, None), fab_t, square]
    assert shown("standard", "l1") == [(*row, "l1", 0.3) for row in in_l1]
    assert not any(row[5] for row in shown("plus", "l1") + shown("rand", "l1"))
    assert [row[1] for row in shown("plus", "l1")] == [5, 5, 1, 10, 9, 9]
    assert [row[0] for row in shown(("square", "fab"))] == ["square", "fab"]
    assert set(VERSIONS) == {"standard", "plus", "rand", "quick", "strong", "short"}
    assert [stage.name for stage in stages_of(SINGLE, epsilon=0.3, norm="l2")] == list(SINGLE)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"epsilon": 8}, r"^epsilon: got 8, expected a radius in \[0, 1\].* Pass 8/255"),
        ({"epsilon": -0.1}, "^epsilon: got -0.1"),
        ({"epsilon": None}, "^epsilon: got None"),
        ({"norm": "l3"}, "^norm: got 'l3', expected one of linf, l2, l1"),
        ({"version": "custom"}, "^version: got 'custom', expected one of standard, plus, rand"),
        ({"version": ("apgd-ce", "pgd")}, "^version: got 'pgd', expected one of apgd-ce, apgd-dlr, apgd-t"),
        ({"version": ()}, "^version: got no attack, expected"),
        ({"version": ("square", "square")}, "^version: got square, square, expected .* none twice"),
        ({"batch_size": 0}, "^batch_size: got 0"),
        ({"examples": 0}, "^examples: got 0"),
        ({"seed": -1}, "^seed: got -1"),
        ({"classifier": "robust.keras"}, "^classifier: got str, expected a keras.Model"),
    ],
)
def test_bad_settings_are_refused(settings, message):
    classifier = settings.pop("classifier", thresholded())
    with pytest.raises(InvalidInput, match=message):
        auto_attack(classifier, (VECTORS, LABELS), **{"epsilon": 0.3, "verbose": 0, **settings})


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ((255 * VECTORS, LABELS), r"^images: got values from .*, expected values in \[0, 1\]"),
        ((VECTORS - 0.5, LABELS), r"^images: got values from -.*, expected values in \[0, 1\]"),
        ((np.where(VECTORS > 0.7, np.nan, VECTORS), LABELS), "^images: got .* NaN"),
        ((VECTORS, LABELS + 1), r"^labels: got values from 1 to 2, expected class numbers in \[0, 2\)"),
        ((VECTORS, LABELS - 1), "^labels: got values from -1"),
        ((VECTORS, LABELS[:19]), "^labels: got 20 images and labels of shape .19"),
        ((VECTORS[:0], LABELS[:0]), "^images: got shape"),
    ],
)
def test_bad_data_are_refused(data, message):
    with pytest.raises(InvalidInput, match=message):
        auto_attack(thresholded(), data, epsilon=0.3, verbose=0)


def test_probabilities_are_refused():
    with pytest.raises(InvalidInput, match="probabilities"):
        auto_attack(keras.Sequential([thresholded(), layers.Softmax()]), (VECTORS, LABELS), epsilon=0.3, verbose=0)


class NaNBeyond(layers.Layer):
    """Gives NaN for all of an image with a value above a limit, else nothing but the image."""

    def __init__(self, limit):
        super().__init__()
        self.limit = limit

    def call(self, x):
        largest = tf.reduce_max(x, axis=range(1, x.shape.rank), keepdims=True)
        return tf.where(largest > self.limit, float("nan") * x, x)


def nan_beyond(limit, shape):
    inner = keras.Sequential([keras.Input(shape), layers.Flatten(), layers.Dense(3)])
    return keras.Sequential([keras.Input(shape), NaNBeyond(limit), inner])


@pytest.mark.parametrize("name", ["apgd-ce", "fab-t", "square"])
def test_a_classifier_that_gives_nan_for_attacked_images_is_refused_by_the_attack(name):
    classifier, images = nan_beyond(0.6, [6, 6, 1]), np.full([2, 6, 6, 1], 0.5, np.float32)
    labels = classifier(images).numpy().argmax(axis=1)
    with pytest.raises(InvalidInput, match=rf"^classifier: got NaN or infinite logits for 2 .*The attack was {name}\."):
        made = Suite(classifier, epsilon=0.3, version=(name,))
        made.stages = [short(stage) for stage in made.stages]
        outcome(made, (images, labels))


@pytest.mark.parametrize("label", [0, 1])
def test_a_classifier_that_gives_nan_for_a_clean_image_is_refused_wherever_it_stands(label):
    classifier, images = nan_beyond(0.6, [6, 6, 1]), np.full([80, 6, 6, 1], 0.5, np.float32)
    images[70] = 0.7  # beyond the images whose logits are looked at before
    labels = np.full(80, label)
    with pytest.raises(InvalidInput, match="^classifier: got NaN or infinite logits for 1 clean image"):
        outcome(ensemble(Scripted(name="one"), classifier=classifier), (images, labels))


# Real attacks, made short, on a linear classifier


def short(stage):
    """Return a stage with few steps, as many runs as it had, but no more than 4."""
    few = {"queries": 40} if isinstance(stage.attack, Square) else {"steps": 8}
    return dataclasses.replace(stage, attack=dataclasses.replace(stage.attack, **few), runs=min(stage.runs, 4))


@functools.cache
def problem():
    """Return a linear problem and a median radius of its 40 images, of which 4 have a wrong label."""
    found = linear(images=40)
    return found, float(np.median(found.exact("linf").min(axis=1)))


@functools.cache
def of_problem():
    classifier = keras.Sequential([keras.Input([8, 8, 1]), layers.Flatten(), layers.Dense(10, use_bias=False)])
    classifier.set_weights([problem()[0].weights])
    return classifier


def images_and_labels():
    labels = problem()[0].labels.copy()
    labels[::10] = (labels[::10] + 1) % 10
    return problem()[0].clean.reshape(-1, 8, 8, 1), labels


@functools.cache
def real_suite(epsilon=None, version="standard", classifier=None):
    made = Suite(classifier or of_problem(), epsilon=epsilon or problem()[1], version=version)
    made.stages = [short(stage) for stage in made.stages]
    return made


@functools.cache
def real_result():
    return outcome(real_suite(), images_and_labels())


def test_no_robust_image_is_broken_and_few_others_hold():
    result, (found, epsilon) = real_result(), problem()
    exact = found.exact("linf").min(axis=1)
    is_wrong = np.arange(40) % 10 == 0
    assert np.array_equal(result.outcomes.broken_by == MISCLASSIFIED, is_wrong)
    assert not (~result.is_robust & ~is_wrong & (exact > epsilon * (1 + 1e-5))).any()
    assert (result.is_robust & (exact < epsilon * (1 - 1e-5))).sum() <= 1


def test_broken_images_come_with_a_misclassified_point_in_ball_and_box_and_its_logits():
    result, (images, labels) = real_result(), images_and_labels()
    found = result.outcomes
    assert_in_ball(found.adversarial, images, "linf", problem()[1])
    of_points = of_problem()(found.adversarial).numpy()
    np.testing.assert_allclose(found.logits, of_points, atol=1e-5)
    assert np.array_equal(of_points.argmax(axis=1) == labels, result.is_robust)
    np.testing.assert_allclose(found.clean_logits, of_problem()(images), atol=1e-5)
    is_wrong = found.broken_by == MISCLASSIFIED
    assert np.array_equal(found.adversarial[is_wrong], images[is_wrong])
    moved = np.abs(found.adversarial - images).max(axis=(1, 2, 3))
    assert (moved[~is_wrong] > 0.5 * problem()[1]).all()  # also of those that hold, the point of smallest margin


def assert_in_ball(points, images, norm, epsilon):
    distance = OF_NORM[norm]((points.astype(np.float64) - images).reshape(len(images), -1))
    assert (distance <= epsilon * (1 + 1e-6) + 1e-6).all()
    assert points.min() >= 0
    assert points.max() <= 1


def test_fab_leaves_the_distance_of_all_that_it_was_shown():
    result, (found, _) = real_result(), problem()
    first = result.stages.index("fab-t")
    was_shown = result.outcomes.robust_after(first - 1)
    exact, radii = found.exact("linf").min(axis=1), result.outcomes.radii
    assert np.isfinite(radii[was_shown]).all()
    assert np.isinf(radii[~was_shown]).all()
    ratio = radii[was_shown] / exact[was_shown]
    assert ratio.min() > 1 - 1e-5
    assert ratio.max() < 1.02


@pytest.mark.parametrize("batch_size", [1, 7])
def test_batches_of_any_size_break_the_same_images(monkeypatch, batch_size):
    monkeypatch.setattr(real_suite(), "batch_size", batch_size)
    found, whole = outcome(real_suite(), images_and_labels()).outcomes, real_result().outcomes
    assert np.array_equal(found.broken_by, whole.broken_by)
    np.testing.assert_allclose(found.logits, whole.logits, rtol=0, atol=1e-3)
    np.testing.assert_allclose(found.radii, whole.radii, rtol=1e-4)


def test_killed_at_each_save_real_attacks_end_with_the_same_outcomes_bit_by_bit(monkeypatch, tmp_path):
    monkeypatch.setattr(suite, "SAVE_SECONDS", -1)
    monkeypatch.setattr(real_suite(), "batch_size", 16)
    whole, kills, attack_batch = outcome(real_suite(), images_and_labels()), 0, Suite._attack_batch
    while True:
        monkeypatch.setattr(Suite, "_attack_batch", attack_batch)
        killed_after(monkeypatch, 2)
        try:
            result = outcome(real_suite(), images_and_labels(), path=tmp_path / "outcomes.npz")
            break
        except Killed:
            kills += 1
    assert kills > 4
    assert_same(result, whole)


def test_square_in_parts_is_square_in_one_piece():
    def made(runs):
        found = Suite(of_problem(), epsilon=problem()[1], version=("square",))
        found.stages = [Search(name="square", attack=Square(epsilon=problem()[1], norm="linf", queries=60), runs=runs)]
        return outcome(found, images_and_labels())

    parts, whole = made(4), made(1)
    assert np.array_equal(parts.is_robust, whole.is_robust)
    assert np.array_equal(parts.outcomes.adversarial, whole.outcomes.adversarial)
    assert len(set(parts.outcomes.broken_by)) > 3  # so some were put aside on the way


def test_at_radius_0_it_is_the_clean_accuracy():
    made = Suite(of_problem(), epsilon=0.0, version="standard")
    made.stages = [short(stage) for stage in made.stages]
    result = outcome(made, images_and_labels())
    assert result.accuracy == result.clean_accuracy
    assert result.clean_accuracy.value == 0.9
    assert np.array_equal(result.outcomes.adversarial, images_and_labels()[0])


@pytest.mark.slow
@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_with_all_steps_it_breaks_what_is_not_robust_less_and_less_at_smaller_radii(norm):
    exact = problem()[0].exact(norm).min(axis=1)[np.arange(40) % 10 > 0]
    accuracies = []
    for share in (0.21, 0.5, 0.79):  # between two of the 36 distances, none of which is the radius
        epsilon = float(np.quantile(exact, share))
        made = Suite(of_problem(), epsilon=epsilon, norm=norm)
        made.stages = [s if s.name != "square" else short(s) for s in made.stages]
        result = outcome(made, images_and_labels())
        assert_in_ball(result.outcomes.adversarial, images_and_labels()[0], norm, epsilon)
        assert result.accuracy.value * 40 == (exact > epsilon).sum()
        accuracies.append(result.accuracy.value)
    assert accuracies[0] > accuracies[1] > accuracies[2]


@pytest.mark.parametrize("classes", [2, 3, 4])
def test_with_few_classes_it_is_as_exact(classes):
    found = linear(images=20, classes=classes)
    exact = found.exact("linf").min(axis=1)
    epsilon = float(np.median(exact))
    classifier = keras.Sequential([keras.Input([64]), layers.Dense(classes, use_bias=False)])
    classifier.set_weights([found.weights])
    made = Suite(classifier, epsilon=epsilon, version=("apgd-t",))
    made.stages = [dataclasses.replace(made.stages[0], attack=dataclasses.replace(made.stages[0].attack, steps=50))]
    result = outcome(made, (found.clean, found.labels))
    assert np.array_equal(result.is_robust, exact > epsilon)
    assert len(result.stages) == classes - 1


def test_images_in_another_order_with_the_seeds_of_their_old_places_have_the_same_outcomes(monkeypatch):
    images, labels = images_and_labels()
    order = np.random.default_rng(3).permutation(np.arange(40, dtype=np.int32))
    seed_of = Stage.seed
    monkeypatch.setattr(
        Stage, "seed", lambda self, seed, positions, run: seed_of(self, seed, tf.gather(order, positions), run)
    )
    version = ("apgd-ce", "apgd-t")
    moved = Suite(of_problem(), epsilon=problem()[1], version=version)
    moved.stages = [short(stage) for stage in moved.stages]
    found = outcome(moved, (images[order], labels[order])).outcomes
    monkeypatch.undo()
    is_first = real_result().outcomes.broken_by[order] < 5  # by one of the two, in 1 and 4 runs, or clean
    expected = np.where(is_first, real_result().outcomes.broken_by[order], ROBUST)
    assert np.array_equal(found.broken_by, expected)


def test_fewer_examples_are_the_first_ones():
    result = auto_attack(thresholded(), (VECTORS, LABELS), epsilon=0.0, version=("apgd-ce",), examples=12, verbose=0)
    assert len(result.outcomes.labels) == 12
    assert result.clean_accuracy.value == 10 / 12
    assert np.array_equal(result.outcomes.clean, VECTORS[:12])


def test_fab_is_not_shown_as_breaking_what_is_beyond_the_radius():
    found, epsilon = problem()
    far = FAB(epsilon=epsilon, norm="linf", steps=8)
    made = Suite(of_problem(), epsilon=epsilon, version=("fab-t",))
    made.stages = [Nearest(name="fab-t", attack=far, runs=2, targeted=True)]
    result = outcome(made, images_and_labels())
    radii, is_wrong = result.outcomes.radii, result.outcomes.broken_by == MISCLASSIFIED
    assert np.array_equal(result.is_robust, (radii > epsilon) & ~is_wrong)
    assert np.isfinite(radii[~is_wrong]).all()
    assert 0 < result.is_robust.sum() < 36


def test_settings_of_a_stage_can_be_changed_where_it_is_made():
    of = Stages(0.3, "l1")
    assert (of.apgd_ce().runs, of.apgd_ce(runs=1).runs, of.apgd_t().runs) == (5, 1, 5)
    assert of.apgd_ce().attack.staged
    assert not of.apgd_ce(staged=False).attack.staged


def test_images_that_the_last_attack_cannot_take_are_refused_before_the_first():
    images = np.zeros([4, 6, 2], np.float32)
    classifier = keras.Sequential([keras.Input([6, 2]), keras.layers.Flatten(), keras.layers.Dense(3)])
    made = Suite(classifier, epsilon=0.1, version=("apgd-ce", "square"))
    made._attack = None  # no attack is made
    with pytest.raises(InvalidInput, match=r"images: got the shape \(4, 6, 2\).*Square"):
        made(checked_batches(classifier, [(images, np.zeros(4, np.int32))]), verbose=0)
