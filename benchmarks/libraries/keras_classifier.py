"""The Keras classifiers that wmr_tf and every TensorFlow peer are measured on."""

import functools
from collections.abc import Callable

import keras
import numpy as np

from benchmarks.task import CLASSES, IMAGE_SHAPES, PARAMETERS, SEED, Task
from wmr_tf import architectures

POLICIES = {"float32": "float32", "bfloat16": "mixed_bfloat16"}
ARCHITECTURES: dict[str, Callable[[], keras.Model]] = {
    "digits_cnn": architectures.digits_cnn,
    "small_cnn": architectures.small_cnn,
    "resnet18": architectures.resnet18,
    "mobilenet_v3_small": functools.partial(
        keras.applications.MobileNetV3Small,
        input_shape=IMAGE_SHAPES["mobilenet_v3_small"],
        weights=None,
        classes=CLASSES,
        classifier_activation=None,
        include_preprocessing=False,
    ),
}

# Once and not in `build`: it empties TensorFlow's cache of kernels, and the next step of every task would be slow.
keras.utils.set_random_seed(SEED)


def build(task: Task) -> keras.Model:
    """Return a new classifier; its last kernel is random, since one of zeros would give a gradient of zeros."""
    classifier = ARCHITECTURES[task.architecture]()
    parameters = sum(int(np.prod(weight.shape)) for weight in classifier.trainable_weights)
    if parameters != PARAMETERS[task.architecture]:
        raise ValueError(f"{task.architecture} has {parameters} parameters, not {PARAMETERS[task.architecture]}")
    last = next(weight for weight in reversed(classifier.trainable_weights) if len(weight.shape) > 1)
    last.assign(keras.random.normal(last.shape, stddev=0.05, seed=SEED))
    return classifier
