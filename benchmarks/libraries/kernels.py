"""TensorFlow's kernels of single layers by themselves, all threads at work on the whole batch.

A kernel runs again and again in a loop within one graph, so that the call of the graph hardly counts.
"""

import functools
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from benchmarks.floor import PLANES
from benchmarks.flops import layers
from benchmarks.task import Task
from wmr_tf.engine import greyscale

EAGER = False

Kernel = Callable[[], tf.Tensor]


def prepare(task: Task, parts: int = 1) -> Callable[[], Any]:
    """Return `task.steps` runs of a kernel, on as many parts of the batch side by side."""
    layer, kind = task.kind.split(": ")
    kernels = [kernel(task, layers(task.architecture)[layer], kind, task.size // parts) for _ in range(parts)]

    @tf.function(autograph=False)
    def run() -> list[tf.Tensor]:
        return [repeated(each, task.steps, task.precision) for each in kernels]

    return lambda: [used.numpy() for used in run()]


def repeated(kernel: Kernel, times: int, precision: str) -> tf.Tensor:
    """Run a kernel so many times, one after the other, and use its output a little: else TensorFlow leaves it out."""

    def once(done: tf.Tensor, used: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        output = kernel()
        return done + 1, used + output[(0,) * output.shape.rank]

    start = (tf.constant(0), tf.zeros((), precision))
    return tf.while_loop(lambda done, _: done < times, once, start, parallel_iterations=1)[1]


def kernel(task: Task, layer: Any, kind: str, images: int) -> Kernel:
    """Return one pass of a layer over so many images."""
    random = functools.partial(random_of, task.precision)
    x, weights = random((images, *layer.input.shape[1:])), random(layer.kernel.shape)
    upstream = random((images, *layer.output.shape[1:]))
    if isinstance(layer, keras.layers.Dense):
        return {
            "forward": lambda: tf.matmul(x, weights),
            "input gradient": lambda: tf.matmul(upstream, weights, transpose_b=True),
            "weight gradient": lambda: tf.matmul(x, upstream, transpose_a=True),
        }[kind]
    how = {"strides": [1, *layer.strides, 1], "padding": layer.padding.upper()}
    raw = tf.raw_ops
    return {
        "forward": lambda: raw.Conv2D(input=x, filter=weights, **how),
        "input gradient": lambda: raw.Conv2DBackpropInput(
            input_sizes=x.shape, filter=weights, out_backprop=upstream, **how
        ),
        "weight gradient": lambda: raw.Conv2DBackpropFilter(
            input=x, filter_sizes=weights.shape, out_backprop=upstream, **how
        ),
        PLANES: lambda: gradient_by_planes(x, weights, upstream, layer.padding),
    }[kind]


def gradient_by_planes(images: tf.Tensor, weights: tf.Tensor, upstream: tf.Tensor, padding: str) -> tf.Tensor:
    """Return the gradient for one-channel images as this library computes it; the forward pass is pruned."""
    with tf.GradientTape() as tape:
        tape.watch(images)
        output = greyscale.convolve(images, weights, padding)
    return tape.gradient(output, images, upstream)


def random_of(precision: str, shape: tuple[int, ...]) -> tf.Tensor:
    """Return a random tensor, outside the graph, which would compute it at every run."""
    return tf.cast(tf.random.normal(shape), precision)
