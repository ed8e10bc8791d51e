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

from benchmarks.task import Task


@functools.cache
def multiply_adds(architecture: str) -> dict[str, int]:
    """Return the multiply-adds of each convolution and dense layer for one image, in the order of the network."""
    from trainers.quiet import import_tensorflow  # here, so that the measuring process does without TensorFlow

    import_tensorflow()
    import keras

    from wmr_tf import architectures

    counts = {}
    for layer in getattr(architectures, architecture)().layers:
        if isinstance(layer, keras.layers.Conv2D):
            counts[layer.name] = math.prod(layer.output.shape[1:3]) * math.prod(layer.kernel.shape)
        elif isinstance(layer, keras.layers.Dense):
            counts[layer.name] = math.prod(layer.kernel.shape)
    return counts


def operations(task: Task) -> int:
    """Return the operations of one step of a task on its whole batch."""
    if task.kind == "matmul":
        return 2 * task.size**3
    layers = multiply_adds(task.architecture)
    forward, first = sum(layers.values()), next(iter(layers.values()))
    attack, update = 2 * task.steps * forward, 3 * forward - first
    of_an_image = {"attack": attack, "pgd": attack + update, "trades": forward + attack + 2 * update}[task.kind]
    return 2 * task.size * of_an_image
