"""Every adversarial method trains on the digits, in seconds, to a robust accuracy far above the natural model's.

A new method gets its line in METHODS.
"""

import functools

import keras
import pytest

from trainers.runs import run
from trainers.settings.config import Experiment
from wmr_tf import AdversarialModel, architectures, attacks, data, methods
from wmr_tf.evaluation import evaluate_robustness

EPSILON = 0.15
TEST_ATTACK = attacks.PGD(epsilon=EPSILON, step_size=0.015, steps=20)
ATTACK = attacks.PGD(epsilon=EPSILON, step_size=0.03, steps=10)
GAUSSIAN = attacks.PGD(epsilon=EPSILON, step_size=0.03, steps=10, start="gaussian")
THREE_STEPS = attacks.PGD(epsilon=EPSILON, step_size=0.03, steps=3)
ONE_STEP = attacks.PGD(epsilon=EPSILON, step_size=1.25 * EPSILON, steps=1)

# How each method is made, its epochs, and its learning rate.
METHODS = {
    "pgd": (lambda alpha: methods.PGD(ATTACK, alpha=alpha), 5, 0.05),
    "trades": (lambda alpha: methods.TRADES(GAUSSIAN, beta=3.0, alpha=alpha), 5, 0.05),
    "mart": (lambda alpha: methods.MART(GAUSSIAN, alpha=alpha), 8, 0.01),
    "mixed": (lambda alpha: methods.Mixed(ATTACK, alpha=alpha), 5, 0.03),
    "fast": (lambda alpha: methods.Fast(ONE_STEP, alpha=alpha), 5, 0.05),
    "free": (lambda alpha: methods.Free(attacks.FGSM(EPSILON), replays=4, alpha=alpha), 4, 0.02),
    "yopo": (lambda alpha: methods.YOPO(THREE_STEPS, passes=5, alpha=alpha), 8, 0.05),
    "iaat": (lambda alpha: methods.IAAT(ATTACK, examples=1078, warmup_epochs=2, alpha=alpha), 5, 0.05),
    "n_fgsm": (lambda alpha: methods.Fast(attacks.NFGSM(epsilon=EPSILON), alpha=alpha), 8, 0.05),
}
MARGIN = 0.2


def robust_accuracy(method: methods.Method, epochs: int, learning_rate: float) -> float:
    """Train a fresh classifier and return its A_rob on the digits' test images."""
    keras.utils.set_random_seed(0)
    train, _, test = data.load("digits", batch_size=32, with_index=method.needs_index)
    classifier = architectures.digits_cnn()
    model = AdversarialModel(classifier, method)
    model.compile(optimizer=keras.optimizers.SGD(learning_rate, momentum=0.9))
    model.fit(train, epochs=epochs, verbose=0)
    return evaluate_robustness(classifier, test, TEST_ATTACK, alpha_test=(1.0,)).metrics()["A_rob"]


@functools.cache
def of_natural_training() -> float:
    return robust_accuracy(methods.Natural(), epochs=5, learning_rate=0.05)


@pytest.mark.slow
@pytest.mark.parametrize("alpha", [0.0, 0.5])
@pytest.mark.parametrize("name", METHODS)
def test_robust_accuracy_beats_natural_training_by_20_points(name, alpha):
    make, epochs, learning_rate = METHODS[name]
    assert robust_accuracy(make(alpha), epochs, learning_rate) > of_natural_training() + MARGIN


@pytest.mark.slow
@pytest.mark.parametrize("name", ["free", "n_fgsm"])
def test_recipes_of_few_steps_train_with_an_alpha_of_3(name):
    """With the paper's weights, or at a learning rate of 0.05, both end in a classifier at chance."""
    experiment = Experiment.of("digits", name, alpha_train=3.0)
    run.seed_everything(experiment)
    splits = run.load_data(experiment)
    model = run.build_model(experiment)
    model.fit(splits.train, epochs=experiment.rounds, verbose=0)
    found = evaluate_robustness(model.classifier, splits.test, TEST_ATTACK, alpha_test=(), verbose=0)
    assert found.A_nat.value > 0.9 and found.A_rob.value > 0.5
