"""A batch in several streams against the whole batch; tests set their number without the threads that go with it."""

import dataclasses
import os
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.marking import some
from tests.test_attacks import ATTACKS
from tests.test_frozen import MODELS, SHAPE, randomised
from tests.test_methods import ATTACK, convnet, data, losses_of_training, method_named
from wmr_tf import AdversarialModel, methods
from wmr_tf.engine import machine, streams
from wmr_tf.engine.frozen import freeze
from wmr_tf.engine.training import training_logits
from wmr_tf.evaluation import evaluate_robustness
from wmr_tf.losses import cross_entropy

SEED = tf.constant([3, 4])


@pytest.fixture
def in_streams(monkeypatch):
    """Return a function that sets the number of streams, down to one image each."""

    def set_to(count):
        monkeypatch.setattr(streams, "_streams", count)
        monkeypatch.setattr(streams, "LEAST", 1)

    return set_to


@pytest.fixture
def passes(monkeypatch):
    """Return the list of the numbers of images that go through a network in each pass."""
    found = []
    call = keras.layers.Dense.call
    monkeypatch.setattr(
        keras.layers.Dense, "call", lambda self, x, **kw: found.append(x.shape[0]) or call(self, x, **kw)
    )
    return found


def slopes(function, x):
    with tf.GradientTape() as tape:
        tape.watch(x)
        outputs = function(x)
    return tape.gradient(outputs, x)


@pytest.mark.parametrize("images", [1, 2, 3, 7, 12])
@pytest.mark.parametrize("count", [2, 5])
def test_a_function_of_images_in_parts_is_that_of_all(in_streams, images, count):
    in_streams(count)
    x, factor = tf.random.normal([images, 4]), tf.random.normal([images, 1])
    seen = []

    def function(x, factor):
        seen.append(x.shape[0])
        return factor * tf.sin(x)

    expected, slope = factor * tf.sin(x), factor * tf.cos(x)
    for spec in ([images, 4], [None, 4]):
        seen.clear()
        traced = tf.function(
            lambda x, factor: (
                streams.in_parts(function, x, factor),
                slopes(lambda x: streams.in_parts(function, x, factor), x),
            ),
            input_signature=[tf.TensorSpec(spec), tf.TensorSpec([spec[0], 1])],
            autograph=False,
        )
        found, found_slope = traced(x, factor)
        assert len(seen) == 2 * (count if spec[0] is None else min(count, images))
        np.testing.assert_allclose(found, expected, rtol=1e-6)
        np.testing.assert_allclose(found_slope, slope, rtol=1e-6)


def test_parts_are_of_8_images_at_least_and_side_by_side(monkeypatch):
    monkeypatch.setattr(streams, "_streams", 4)
    for images, parts in [(7, 1), (15, 1), (16, 2), (31, 3), (32, 4), (1000, 4)]:
        seen: list[int] = []

        def function(x, seen=seen):
            seen.append(x.shape[0])
            return x

        streams.in_parts(function, tf.zeros([images, 2]))
        assert len(seen) == parts
        assert len(set(seen)) == 1


@pytest.mark.parametrize("make", MODELS)
def test_a_frozen_network_in_streams_gives_the_same_logits_and_gradients(in_streams, make):
    classifier, x = randomised(make), tf.random.uniform([7, *SHAPE])
    expected, slope = freeze(classifier)(x), slopes(freeze(classifier), x)
    in_streams(3)
    np.testing.assert_allclose(freeze(classifier)(x), expected, atol=1e-5)
    np.testing.assert_allclose(slopes(freeze(classifier), x), slope, atol=1e-5)


@pytest.mark.parametrize("name", ATTACKS)
def test_every_attack_in_streams_ends_where_it_ends_in_one(in_streams, name):
    classifier, (x, y) = convnet(), data(5, 5, 1, batch=10)
    logits = freeze(classifier)

    def attacked():
        return ATTACKS[name](lambda x: cross_entropy(logits(x), y), tf.constant(x), seed=SEED)

    expected = attacked()
    in_streams(3)
    np.testing.assert_allclose(attacked(), expected, atol=1e-5)


@pytest.mark.parametrize("name", some(methods.BY_NAME, fast=("trades", "free")))
def test_every_method_in_streams_trains_as_in_one(in_streams, name):
    x, y = data(5, 5, 1)
    x = {"image": x, "index": np.arange(len(y))} if name == "iaat" else x
    trained = []
    for count in (1, 3):
        in_streams(count)
        classifier = convnet()
        losses = losses_of_training(classifier, method_named(name), x, y, steps=3)
        trained.append([losses, *classifier.get_weights()])
    for whole, parts in zip(*trained, strict=True):
        np.testing.assert_allclose(parts, whole, atol=2e-5)


def test_keras_predicts_and_evaluates_in_streams(in_streams, passes):
    x, y = data(5, 5, 1, batch=9)
    model = AdversarialModel(convnet(), methods.Natural())
    model.compile(metrics=["accuracy"])
    expected = model.predict(x, verbose=0), model.evaluate(x, y, verbose=0, return_dict=True)
    in_streams(3)
    model.predict_function = model.test_function = None
    passes.clear()
    np.testing.assert_allclose(model.predict(x, verbose=0), expected[0], rtol=1e-5)
    assert len(passes) >= 3
    assert model.evaluate(x, y, verbose=0, return_dict=True) == pytest.approx(expected[1], rel=1e-5)


def test_an_update_is_split_only_where_layers_treat_images_alone(in_streams, passes):
    in_streams(2)
    x = tf.random.uniform([8, 5, 5, 1])
    training_logits(convnet(), x)
    assert passes[-2:] == [4, 4]
    norm = keras.Sequential([keras.Input([5, 5, 1]), keras.layers.BatchNormalization(), *convnet().layers])
    training_logits(norm, x)
    assert passes[-1] == 8


def test_dropout_in_streams_draws_a_mask_for_each_image(in_streams):
    in_streams(2)
    classifier = keras.Sequential([keras.Input([400]), keras.layers.Dropout(0.5)])
    outputs = training_logits(classifier, tf.ones([4, 400])).numpy()
    assert len({row.tobytes() for row in outputs}) == 4
    assert np.allclose((outputs == 0).mean(axis=1), 0.5, atol=0.1)


def test_an_evaluation_in_streams_finds_the_same(in_streams):
    classifier, (x, y) = convnet(), data(5, 5, 1, batch=11)
    attack = dataclasses.replace(ATTACK, restarts=2)

    def found():
        result = evaluate_robustness(classifier, (x, y), attack, suite=None, radii=None, verbose=0)
        return np.concatenate([result.margins, result.weighted_margins[1.0], result.clean_margins])

    expected = found()
    in_streams(3)
    np.testing.assert_allclose(found(), expected, atol=1e-5)


def in_a_process(code, **environment):
    """Run Python code; return what it printed, or its last line on stderr."""
    settings = {name: value for name, value in os.environ.items() if not name.startswith("TF_NUM")}
    run = subprocess.run(
        [sys.executable, "-c", f"import wmr_tf, tensorflow as tf\n{code}"],
        env={**settings, **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )
    return run.stdout.strip() or run.stderr.strip().splitlines()[-1]


SHOWN = """
from wmr_tf.engine import streams
threads = tf.config.threading
print(streams._streams, threads.get_intra_op_parallelism_threads(), threads.get_inter_op_parallelism_threads())
"""


@pytest.mark.slow
@pytest.mark.skipif(machine.available_cores() < 2 and not hasattr(os, "sched_getaffinity"), reason="has one core")
def test_kernels_get_one_thread_or_with_batchnorm_all():
    cores = len(os.sched_getaffinity(0))
    if cores == 1:
        pytest.skip("this process is bound to one core")
    several = min(cores, streams.MOST)
    assert in_a_process(f"wmr_tf.use_all_cores(){SHOWN}") == f"{several} {-(-cores // several)} {cores}"
    assert in_a_process(f"wmr_tf.use_all_cores(batch_norm=True){SHOWN}") == f"{several} {cores} {cores}"


@pytest.mark.slow
def test_one_core_or_one_thread_asked_for_is_left_alone():
    assert in_a_process(f"wmr_tf.use_all_cores(){SHOWN}", TF_NUM_INTEROP_THREADS="1") == "1 0 0"
    core = min(os.sched_getaffinity(0))
    assert in_a_process(f"import os; os.sched_setaffinity(0, [{core}])\nwmr_tf.use_all_cores(){SHOWN}") == "1 0 0"


@pytest.mark.slow
def test_after_tensorflow_has_started_it_is_refused():
    if len(os.sched_getaffinity(0)) == 1:
        pytest.skip("this process is bound to one core, where the call does nothing")
    told = in_a_process("tf.zeros([1]); wmr_tf.use_all_cores()")
    assert told == (
        "wmr_tf.checks.InvalidInput: use_all_cores: got a call after TensorFlow has started, expected a call before "
        "anything else. Call it right after the imports; in a notebook, restart the kernel first."
    )
