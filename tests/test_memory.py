"""Memory is bounded: nothing is kept from step to step, and images go through a network as many as fit at once."""

import subprocess
import sys
import textwrap

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import wmr_tf
from tests.marking import some
from trainers.runs.run import tell_memory
from wmr_tf.engine import machine, memory
from wmr_tf.engine.frozen import freeze
from wmr_tf.evaluation import RobustnessEvaluator
from wmr_tf.inputs.batches import CheckedBatches

MEGABYTE = 2**20


def _growth(body: str) -> float:
    """Return by how many megabytes a process grew between the first of six equal pieces of work and the last."""
    script = """
        import gc, os
        from trainers.quiet import import_tensorflow
        import_tensorflow()
        import numpy as np, tensorflow as tf, keras, wmr_tf as wmr

        def resident():
            gc.collect()
            with open("/proc/self/statm") as file:
                return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

        images = np.random.default_rng(0).random((64, 8, 8, 1), np.float32)
        labels = np.arange(64) % 10
        data = tf.data.Dataset.from_tensor_slices((images, labels)).batch(16)
        classifier = wmr.architectures.digits_cnn()
        attack = wmr.attacks.PGD(epsilon=0.1, step_size=0.05, steps=3, start="gaussian")
    """
    measure = """
        sizes = []
        for _ in range(6):
            work()
            sizes.append(resident())
        print(sizes[-1] - sizes[0])
    """
    program = "\n".join(map(textwrap.dedent, (script, body, measure)))
    finished = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=600)
    assert finished.returncode == 0, finished.stderr
    return int(finished.stdout.split()[-1]) / MEGABYTE


@pytest.mark.slow
def test_a_thousand_training_steps_keep_no_memory():
    body = """
        model = wmr.AdversarialModel(classifier, wmr.methods.TRADES(attack, alpha=1.0))
        model.compile(optimizer="sgd", metrics=["accuracy"])
        repeated = data.repeat()
        work = lambda: model.fit(repeated, epochs=1, steps_per_epoch=250, verbose=0)
    """
    assert _growth(body) < 2  # in 1,250 steps; their images alone are 5 MB


@pytest.mark.slow
def test_a_thousand_attacked_batches_keep_no_memory():
    body = """
        from wmr_tf.evaluation import RobustnessEvaluator
        evaluator = RobustnessEvaluator(classifier, attack, alpha_test=(1.0,))
        def work():
            for _ in range(50):
                evaluator(data, verbose=0)
    """
    assert _growth(body) < 2


def convolutions(size, filters=8):
    image = keras.Input([size, size, 2])
    x = layers.Conv2D(filters, 3, padding="same", use_bias=False)(image)
    x = layers.Conv2D(filters, 3, padding="same", use_bias=False)(x)
    return keras.Model(image, layers.Dense(2, use_bias=False)(layers.Flatten()(x)))


def test_the_bytes_of_an_image_are_those_of_the_layers_outputs():
    per_image = memory.bytes_an_image(freeze(convolutions(16)), [16, 16, 2])
    # Two convolutions, the biases of both, and the flattened ones; the logits weigh nothing.
    assert per_image == pytest.approx(5 * 4 * 16 * 16 * 8, rel=0.01)


def test_large_images_go_in_smaller_batches_and_small_ones_do_not(monkeypatch):
    classifier = convolutions(16)
    assert memory.images_at_once(classifier, [16, 16, 2]) == memory.AT_MOST
    of_image = memory.bytes_an_image(freeze(classifier), [16, 16, 2])
    monkeypatch.setattr(memory, "BUDGET", 21 * of_image)
    assert memory.images_at_once(classifier, [16, 16, 2]) == 16
    assert memory.images_at_once(classifier, [16, 16, 2], at_most=20) == 20
    monkeypatch.setattr(machine, "total_memory", lambda: 4 * 5 * of_image)
    assert memory.images_at_once(classifier, [16, 16, 2]) == 4
    monkeypatch.setattr(memory, "BUDGET", 1.0)
    assert memory.images_at_once(classifier, [16, 16, 2]) == 1


def test_a_classifier_is_traced_once_for_each_shape(monkeypatch):
    calls = []
    original = memory.bytes_an_image
    monkeypatch.setattr(memory, "bytes_an_image", lambda *given: calls.append(given) or original(*given))
    classifier = convolutions(16)
    for _ in range(3):
        memory.images_at_once(classifier, (16, 16, 2))
    assert len(calls) == 1


@pytest.mark.parametrize("suite", some([None, "short"], fast=[None]))
def test_an_evaluation_passes_no_more_images_at_once_than_fit_and_finds_the_same(monkeypatch, suite):
    images = np.random.default_rng(0).random([40, 16, 16, 2], np.float32)
    labels = np.arange(40) % 2
    classifier, attack = convolutions(16, filters=2), wmr_tf.attacks.PGD(epsilon=0.02, step_size=0.01, steps=3)

    def evaluated(**settings):
        settings = {"suite": suite, "radii": suite and "fab", "verbose": 0, **settings}
        return wmr_tf.evaluate_robustness(classifier, (images, labels), attack, **settings)

    sizes, as_one = [], evaluated()
    original = RobustnessEvaluator._trace

    def traced(evaluator, first):
        sizes.append(len(first))
        original(evaluator, first)

    monkeypatch.setattr(RobustnessEvaluator, "_trace", traced)
    monkeypatch.setattr(memory, "BUDGET", 9 * memory.bytes_an_image(freeze(classifier), [16, 16, 2]))
    in_parts = evaluated()
    by_hand = evaluated(batch_size=5)
    assert sizes == [8, 5]
    for found in (in_parts, by_hand):
        np.testing.assert_allclose(found.logits.attacked, as_one.logits.attacked, atol=1e-5)
        if suite:
            assert found.suite.broken_by == as_one.suite.broken_by
            np.testing.assert_allclose(found.radii.values, as_one.radii.values, atol=1e-3)


def test_batches_are_cut_and_not_changed():
    images, labels = tf.range(12.0), tf.range(12)
    whole = CheckedBatches([(images[:7], labels[:7]), (images[7:], labels[7:])])
    parts = whole.split(3)
    assert [len(part) for part, _ in parts] == [3, 3, 1, 3, 2]
    for column, expected in zip(zip(*parts, strict=True), (images, labels), strict=True):
        np.testing.assert_array_equal(tf.concat(column, axis=0), expected)


@pytest.mark.parametrize(("method", "passes"), [(wmr_tf.methods.PGD, 1), (wmr_tf.methods.TRADES, 2)])
def test_what_a_training_step_takes_grows_with_the_batch_and_its_passes(method, passes):
    classifier = convolutions(16)
    model = wmr_tf.AdversarialModel(classifier, method(wmr_tf.attacks.PGD(epsilon=0.1, step_size=0.1, steps=2)))
    few, many = (memory.training_bytes(model, [16, 16, 2], size) for size in (10, 30))
    of_image = memory.bytes_an_image(lambda images: classifier(images, training=True), [16, 16, 2])
    assert many - few == pytest.approx(20 * passes * of_image)
    assert few - 10 * passes * of_image == 16 * classifier.count_params()


@pytest.mark.parametrize(("free", "is_told"), [("1000 kB", True), ("100000000 kB", False), (None, False)])
def test_a_run_says_what_a_step_takes_and_warns_where_it_is_not_free(tmp_path, monkeypatch, capfd, free, is_told):
    meminfo = tmp_path / "meminfo"
    if free:
        meminfo.write_text(f"MemTotal: 1 kB\nMemAvailable: {free}\n")
    monkeypatch.setattr(machine, "MEMINFO", meminfo)
    model = wmr_tf.AdversarialModel(convolutions(16), wmr_tf.methods.Natural())
    tell_memory(model, (tf.TensorSpec([None, 16, 16, 2]), tf.TensorSpec([None])), 128)
    out, err = capfd.readouterr()
    assert ("A step of 128 images takes less than 0.1 GB" in out) == (free is not None)
    assert ("Lower --batch_size" in err) == is_told


@pytest.mark.slow
@pytest.mark.parametrize(
    ("build", "at_most"),
    [("resnet18(num_classes=200, input_shape=(64, 64, 3))", 2.0), ("wide_resnet_34_10(num_classes=10)", 4.0)],
)
def test_networks_that_are_large_are_evaluated_in_bounded_memory(build, at_most):
    program = f"""
        from trainers.quiet import import_tensorflow
        import_tensorflow()
        import numpy as np, wmr_tf as wmr
        classifier = wmr.architectures.{build}
        images = np.random.default_rng(0).random((40, *classifier.input_shape[1:]), np.float32)
        attack = wmr.attacks.PGD(epsilon=0.01, step_size=0.01, steps=1)
        evaluate = wmr.evaluation.RobustnessEvaluator(classifier, attack, alpha_test=(), suite=None)
        evaluate([(images, np.arange(40) % 10)], verbose=0)
        # Not ru_maxrss, in which the process that started this one counts too.
        lines = open("/proc/self/status").read().splitlines()
        print(next(line.split()[1] for line in lines if line.startswith("VmHWM")))
    """
    finished = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, timeout=600
    )
    assert finished.returncode == 0, finished.stderr
    assert int(finished.stdout.split()[-1]) * 1024 / 1e9 < at_most
