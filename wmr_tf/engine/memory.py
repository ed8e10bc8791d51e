"""How much memory a classifier takes, by calculation, and how many images may go through it at once."""

import weakref
from collections.abc import Callable, Iterable

import keras
import tensorflow as tf

from wmr_tf.engine import machine
from wmr_tf.engine.frozen import freeze_in
from wmr_tf.engine.training import training_logits

AT_MOST = 256
"""How many images go at once where memory allows it; more are not faster."""

BUDGET = 1.2e9
"""Bytes that the outputs of all layers may take at once: 2 GB with what TensorFlow takes, and small batches are as fast
for networks that are so large."""

_TRACED = 4  # images; what does not depend on their number weighs little
_NEEDED: weakref.WeakKeyDictionary[keras.Model, dict[tuple[int, ...], float]] = weakref.WeakKeyDictionary()


def images_at_once(classifier: keras.Model, image_shape: Iterable[int], at_most: int = AT_MOST) -> int:
    """Return how many images an evaluation passes through a classifier at once: a power of two, or `at_most`.

    As many as fit a budget that is the same in every run, or a quarter of the machine's memory if that is less. Not of
    what is free at the moment: an evaluation that was stopped goes on in the same batches, to the same bits.

    Args:
        classifier: A built Keras model; it is traced once for each shape of images.
        image_shape: `(height, width, channels)`.
        at_most: The largest number to return.

    Example:
        >>> images_at_once(classifier, (8, 8, 1))
        256
    """
    known, shape = _NEEDED.setdefault(classifier, {}), tuple(image_shape)
    if shape not in known:
        known[shape] = bytes_an_image(lambda images: freeze_in("float32", classifier)(images), shape)
    fitting = int(min(BUDGET, machine.total_memory() / 4) / max(known[shape], 1.0))
    return at_most if fitting >= at_most else 1 << max(fitting.bit_length() - 1, 0)


def bytes_an_image(network: Callable[[tf.Tensor], tf.Tensor], image_shape: Iterable[int]) -> float:
    """Return the bytes of all that a network computes of an image, forward.

    Keras keeps all of it until a pass without a graph has ended. The gradient of an attack, in a graph, takes at most
    half of it, and that of an update about as much. What a loop inside a layer computes is not counted.

    Args:
        network: A function of images; its graph is made and not run.
        image_shape: `(height, width, channels)`.
    """
    spec = tf.TensorSpec([_TRACED, *image_shape])
    graph = tf.function(network, autograph=False).get_concrete_function(spec).graph
    of_images, total = {graph.inputs[0].ref()}, 0
    for operation in graph.get_operations():
        if any(tensor.ref() in of_images for tensor in operation.inputs):
            of_images.update(tensor.ref() for tensor in operation.outputs)
            total += sum((tensor.shape.num_elements() or 0) * tensor.dtype.size for tensor in operation.outputs)
    return total / _TRACED


def training_bytes(model: keras.Model, image_shape: Iterable[int], batch_size: int) -> float:
    """Return about how many bytes a training step takes, beyond those of the process before it.

    The larger one of attack and update, which is the update, with weights, their gradients, the optimizer's variables
    and the attack's copy of the weights.

    Args:
        model: A `wmr_tf.AdversarialModel`, compiled.
        image_shape: `(height, width, channels)`.
        batch_size: Images a step.
    """
    classifier = model.classifier
    of_image = bytes_an_image(lambda images: training_logits(classifier, images), image_shape)
    weights = sum(weight.shape.num_elements() * 4 for weight in classifier.trainable_variables)
    return batch_size * model.method.passes_an_image * of_image + 4 * weights
