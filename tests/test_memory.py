"""Memory does not grow with the number of steps: neither a training step nor an evaluation keeps anything."""

import subprocess
import sys
import textwrap

import pytest

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
