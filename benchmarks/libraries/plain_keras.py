"""Keras as a user of it writes PGD and TRADES: `tf.function`s over `model(x)`, in TensorFlow's own threads.

The attack is a Python loop over one compiled step. A `tf.while_loop` would be no faster, and slower where TensorFlow's
pass for its fast kernels misses the gradient of a max-pool in a loop's body, as it does on SmallCNN. The clean
probabilities of TRADES are computed once. Nothing is folded, fused or joined, and weights are read anew at every step.
"""

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from benchmarks.libraries.keras_classifier import POLICIES, build
from benchmarks.task import BETA, Task

EAGER = False

Attack = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]


def prepare(task: Task) -> Callable[[], Any]:
    """Return one step of a task."""
    keras.config.set_dtype_policy(POLICIES[task.precision])
    model = build(task)
    images, labels = tf.constant(task.images()), tf.constant(task.labels())
    attack = pgd(task, model)
    if task.kind == "attack":
        return lambda: attack(images, labels).numpy()
    loss_of = {"trades": trades_loss, "pgd": pgd_loss}[task.kind]
    optimizer = keras.optimizers.SGD(0.01, momentum=0.9)
    optimizer.build(model.trainable_variables)

    @tf.function(autograph=False)
    def update(images: tf.Tensor, labels: tf.Tensor, attacked: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            loss = loss_of(model, images, labels, attacked)
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
        return loss

    return lambda: float(update(images, labels, attack(images, labels)))


def logits_of(model: keras.Model, images: tf.Tensor, training: bool = False) -> tf.Tensor:
    """Return float32 logits."""
    return tf.cast(model(images, training=training), tf.float32)


def pgd(task: Task, model: keras.Model) -> Attack:
    """Return the attack: for TRADES on the divergence from the clean probabilities, else on the cross-entropy."""
    loss = divergence if task.kind == "trades" else cross_entropy
    probabilities = tf.function(lambda images: tf.nn.softmax(logits_of(model, images)), autograph=False)

    @tf.function(autograph=False)
    def step(attacked: tf.Tensor, target: tf.Tensor, low: tf.Tensor, high: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(attacked)
            value = tf.reduce_sum(loss(target, logits_of(model, attacked)))
        gradient = tape.gradient(value, attacked)
        return tf.clip_by_value(attacked + task.step_size * tf.sign(gradient), low, high)

    def attack(images: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        low, high = tf.maximum(images - task.epsilon, 0.0), tf.minimum(images + task.epsilon, 1.0)
        if task.kind == "trades":
            target, start = probabilities(images), images + 0.001 * tf.random.normal(images.shape)
        else:
            target, start = labels, images + tf.random.uniform(images.shape, -task.epsilon, task.epsilon)
        attacked = tf.clip_by_value(start, low, high)
        for _ in range(task.steps):
            attacked = step(attacked, target, low, high)
        return attacked

    return attack


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
