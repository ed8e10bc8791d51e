"""Floating-point operations that a task needs, counted by hand from the layers' shapes.

A convolution or dense layer of `M` multiply-adds an image takes `2 M` operations forward, as many for the gradient of
its input and as many for that of its weights. With `F` the sum over all layers and `F1` the first one, whose input
gradient only an attack needs, in multiply-adds an image:

    attack of k steps         k (forward + input gradient)                                 2 k F
    update on one image       forward + input gradient but of the first layer + weights    3 F - F1
    PGD training step         attack + update on the attacked image                        (2 k + 3) F - F1
    TRADES training step      clean logits + attack + update on clean and attacked image   (2 k + 7) F - 2 F1

These are the operations that the methods cannot do without. Activations, pooling, BatchNorm, losses and the optimizer
do not count. A row that computes more, such as clean logits at every step, gets no credit for it.
"""

import functools
import math
from typing import Any

from benchmarks.task import Task

PASSES = ("forward", "input gradient", "weight gradient")


@functools.cache
def layers(architecture: str) -> dict[str, Any]:
    """Return the convolutions and dense layers by name, in the order of the network."""
    from trainers.quiet import import_tensorflow  # here, so that the measuring process does without TensorFlow

    import_tensorflow()
    import keras

    from benchmarks.libraries.keras_classifier import ARCHITECTURES

    counted = (keras.layers.Conv2D, keras.layers.DepthwiseConv2D, keras.layers.Dense)
    return {layer.name: layer for layer in ARCHITECTURES[architecture]().layers if isinstance(layer, counted)}


def multiply_adds(architecture: str) -> dict[str, int]:
    """Return the multiply-adds of each convolution and dense layer for one image, in the order of the network."""
    # A dense layer's output is one pixel.
    return {
        name: math.prod(layer.output.shape[1:-1]) * math.prod(layer.kernel.shape)
        for name, layer in layers(architecture).items()
    }


def passes(task: Task) -> dict[str, tuple[int, int, int]]:
    """Return how often one step of a task runs each layer forward, for its input's and for its weights' gradient."""
    updates = {"attack": 0, "pgd": 1, "trades": 2}[task.kind]  # images, for each one of the batch
    forward = task.steps + updates + (task.kind == "trades")  # the clean logits
    first, *others = layers(task.architecture)
    return {
        first: (forward, task.steps, updates),
        **dict.fromkeys(others, (forward, task.steps + updates, updates)),
    }


def operations(task: Task) -> int:
    """Return the operations of one step of a task on its whole batch."""
    if task.kind == "matmul":
        return 2 * task.size**3
    adds = multiply_adds(task.architecture)
    return 2 * task.size * sum(adds[name] * sum(times) for name, times in passes(task).items())
