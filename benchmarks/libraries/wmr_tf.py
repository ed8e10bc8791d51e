"""wmr_tf: training steps as `fit` runs them, the attack alone, and an evaluation."""

import functools
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

import wmr_tf
from benchmarks.libraries.keras_classifier import POLICIES, build
from benchmarks.task import BETA, SEED, Task
from wmr_tf.engine.frozen import freeze
from wmr_tf.evaluation import RobustnessEvaluator
from wmr_tf.losses import cross_entropy

EAGER = False


def prepare(task: Task) -> Callable[[], Any]:
    """Return one step of a task."""
    if task.kind == "matmul":
        return matmul(task)
    use_all_cores(batch_norm=task.architecture == "resnet18")  # the other one that has BatchNorm is not trained
    return step_of(task)


def step_of(task: Task) -> Callable[[], Any]:
    """Return one step of a task, with the threads that there are."""
    keras.config.set_dtype_policy(POLICIES[task.precision])
    return {"trades": training, "pgd": training, "attack": attack_alone, "evaluation": evaluation}[task.kind](task)


@functools.cache
def use_all_cores(*, batch_norm: bool) -> None:
    """Set the threads, once: they hold for the process, and TensorFlow refuses others."""
    wmr_tf.use_all_cores(batch_norm=batch_norm)


def attack_of(task: Task) -> wmr_tf.attacks.PGD:
    """Return the attack of a task, from the start that belongs to its method."""
    start = "gaussian" if task.kind == "trades" else "uniform"
    return wmr_tf.attacks.PGD(epsilon=task.epsilon, step_size=task.step_size, steps=task.steps, start=start)


def training(task: Task) -> Callable[[], Any]:
    """Return one call of the function that `fit` compiles, on a batch that is in memory already."""
    attack = attack_of(task)
    method = wmr_tf.methods.TRADES(attack, beta=BETA) if task.kind == "trades" else wmr_tf.methods.PGD(attack)
    model = wmr_tf.AdversarialModel(build(task), method, seed=SEED)
    model.compile(optimizer=keras.optimizers.SGD(0.01, momentum=0.9), metrics=["accuracy"])
    model.make_train_function()
    batches = iter(tf.data.Dataset.from_tensors((task.images(), task.labels())).repeat())
    return lambda: float(model.train_function(batches)["loss"])


def attack_alone(task: Task) -> Callable[[], Any]:
    """Return the attack on a frozen classifier; freezing is part of it, since training freezes once a batch."""
    classifier, attack = build(task), attack_of(task)
    images, labels = tf.constant(task.images()), tf.constant(task.labels(), tf.int32)

    @tf.function(autograph=False)
    def attacked() -> tf.Tensor:
        frozen = freeze(classifier)
        return attack(lambda x: cross_entropy(frozen(x), labels), images, seed=tf.constant([0, SEED]))

    return lambda: attacked().numpy()


def evaluation(task: Task) -> Callable[[], Any]:
    """Return the evaluation of A_rob, in float32 and in batches of 256, as `evaluate_robustness` does it."""
    evaluator = RobustnessEvaluator(build(task), attack_of(task), alpha_test=(), seed=SEED)
    data = tf.data.Dataset.from_tensor_slices((task.images(), task.labels())).batch(256)
    return lambda: evaluator(data, verbose=0)


def matmul(task: Task) -> Callable[[], Any]:
    """Return the product of two square matrices."""
    a, b = (tf.cast(tf.random.normal([task.size, task.size], seed=seed), task.precision) for seed in (0, 1))
    product = tf.function(lambda: tf.matmul(a, b), autograph=False)
    return lambda: product()[0, 0].numpy()
