"""The Keras classifier that ours and every TensorFlow peer are measured on."""

import keras
import numpy as np

from benchmarks.task import PARAMETERS, SEED, Task
from wmr_tf import architectures

# Once and not in `build`: it empties TensorFlow's cache of kernels, and the next step of every task would be slow.
keras.utils.set_random_seed(SEED)


def build(task: Task) -> keras.Model:
    """Return a new classifier; its last layer is random, since one of zeros would give a gradient of zeros."""
    classifier = getattr(architectures, task.architecture)()
    parameters = sum(int(np.prod(weight.shape)) for weight in classifier.trainable_weights)
    if parameters != PARAMETERS[task.architecture]:
        raise ValueError(f"{task.architecture} has {parameters} parameters, not {PARAMETERS[task.architecture]}")
    last = classifier.layers[-1].kernel
    last.assign(keras.random.normal(last.shape, stddev=0.05, seed=SEED))
    return classifier
