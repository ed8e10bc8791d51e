"""Adversarial weight perturbation: the gradient of a step is taken where the weights are worse."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import keras
import tensorflow as tf


@contextmanager
def moved_uphill(classifier: keras.Model, loss_fn: Callable[[], tf.Tensor], size: float) -> Iterator[None]:
    """Move each kernel by `size * ||w|| * g / ||g||` while the context lasts, g being the gradient of the loss.

    Biases and other weights of one dimension stay where they are, as in the authors' code. The pass that finds g leaves
    nothing behind: BatchNorm's statistics and the states of dropout are those of before.

    Args:
        classifier: Its trainable weights are moved, and get their values back to the bit.
        loss_fn: Returns the loss, a scalar; any scale will do.
        size: How far, in parts of a kernel's norm, >= 0. At 0 nothing is computed.

    Source: Wu, Xia and Wang 2020, with one step of the perturbation, as in their experiments.

    Note: Their script for TRADES on CIFAR-10 begins with it in the tenth epoch, to save time. A callback that sets the
        model's `awp` by epoch does so here.
    """
    if not size:
        yield
        return
    kernels = [weight for weight in classifier.trainable_variables if len(weight.shape) > 1]
    with kept(classifier.non_trainable_variables), tf.GradientTape() as tape:
        loss = loss_fn()
    gradients = tape.gradient(loss, kernels)
    with kept(kernels):
        for kernel, gradient in zip(kernels, gradients, strict=True):
            if gradient is not None:
                kernel.assign_add(size * tf.norm(kernel) * _direction(gradient))
        yield


@contextmanager
def kept(variables: Sequence[Any]) -> Iterator[None]:
    """Give variables their values back at the end."""
    before = [tf.identity(variable) for variable in variables]
    yield
    for variable, value in zip(variables, before, strict=True):
        variable.assign(value)


def _direction(gradient: tf.Tensor) -> tf.Tensor:
    """Return the gradient with norm 1; 0 where it is 0 or, in float16, has overflowed."""
    norm = tf.norm(gradient)
    return tf.where(tf.math.is_finite(norm), tf.math.divide_no_nan(gradient, norm), 0.0)
