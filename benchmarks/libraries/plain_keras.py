"""Keras as a user of it writes PGD and TRADES: one `tf.function` over `model(x)`, in TensorFlow's own threads.

The clean probabilities of TRADES are computed once. Nothing is folded, fused or joined, and weights are read anew at
every step of the attack.
"""

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from benchmarks.libraries.keras_classifier import POLICIES, build
from benchmarks.task import BETA, Task

EAGER = False

Loss = Callable[[tf.Tensor], tf.Tensor]


def prepare(task: Task) -> Callable[[], Any]:
    """Return one step of a task."""
    keras.config.set_dtype_policy(POLICIES[task.precision])
    model = build(task)
    images, labels = tf.constant(task.images()), tf.constant(task.labels())
    attack = {"trades": attack_on_divergence}.get(task.kind, attack_on_cross_entropy)
    if task.kind == "attack":
        attacked = tf.function(lambda: attack(task, model, images, labels), autograph=False)
        return lambda: attacked().numpy()
    loss_of = {"trades": trades_loss, "pgd": pgd_loss}[task.kind]
    optimizer = keras.optimizers.SGD(0.01, momentum=0.9)
    optimizer.build(model.trainable_variables)

    @tf.function(autograph=False)
    def train_step(images: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        attacked = attack(task, model, images, labels)
        with tf.GradientTape() as tape:
            loss = loss_of(model, images, labels, attacked)
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
        return loss

    return lambda: float(train_step(images, labels))


def logits_of(model: keras.Model, images: tf.Tensor, training: bool = False) -> tf.Tensor:
    """Return float32 logits."""
    return tf.cast(model(images, training=training), tf.float32)


def attack_on_cross_entropy(task: Task, model: keras.Model, images: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """Attack from a uniform start."""
    start = images + tf.random.uniform(tf.shape(images), -task.epsilon, task.epsilon)
    return pgd(task, lambda x: cross_entropy(labels, logits_of(model, x)), images, start)


def attack_on_divergence(task: Task, model: keras.Model, images: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """Attack the divergence from the clean probabilities, which need no labels, from a small start."""
    clean = tf.nn.softmax(logits_of(model, images))
    start = images + 0.001 * tf.random.normal(tf.shape(images))
    return pgd(task, lambda x: divergence(clean, logits_of(model, x)), images, start)


def pgd(task: Task, loss: Loss, images: tf.Tensor, start: tf.Tensor) -> tf.Tensor:
    """Ascend on the sum of the losses, within ball and box."""
    low, high = tf.maximum(images - task.epsilon, 0.0), tf.minimum(images + task.epsilon, 1.0)

    def step(attacked: tf.Tensor) -> tuple[tf.Tensor]:
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(attacked)
            value = tf.reduce_sum(loss(attacked))
        gradient = tape.gradient(value, attacked)
        return (tf.clip_by_value(attacked + task.step_size * tf.sign(gradient), low, high),)

    start = tf.clip_by_value(start, low, high)
    return tf.while_loop(lambda _: True, step, (start,), maximum_iterations=task.steps)[0]


def trades_loss(model: keras.Model, images: tf.Tensor, labels: tf.Tensor, attacked: tf.Tensor) -> tf.Tensor:
    """Return the mean loss of TRADES."""
    clean = logits_of(model, images, training=True)
    robust = divergence(tf.nn.softmax(clean), logits_of(model, attacked, training=True))
    return tf.reduce_mean(cross_entropy(labels, clean) + BETA * robust)


def pgd_loss(model: keras.Model, images: tf.Tensor, labels: tf.Tensor, attacked: tf.Tensor) -> tf.Tensor:
    """Return the mean cross-entropy of attacked images."""
    return tf.reduce_mean(cross_entropy(labels, logits_of(model, attacked, training=True)))


def cross_entropy(labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """Return `[batch]`."""
    return keras.losses.sparse_categorical_crossentropy(labels, logits, from_logits=True)


def divergence(clean: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """Return the KL divergence from clean probabilities, `[batch]`."""
    return tf.reduce_sum(tf.math.xlogy(clean, clean) - clean * tf.nn.log_softmax(logits), axis=-1)
