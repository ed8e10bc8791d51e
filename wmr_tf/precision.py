"""The precision a classifier computes in."""

import contextlib
from collections.abc import Iterator

import keras


def compute_dtypes(classifier: keras.Model) -> set[str]:
    """Returns the dtypes that the classifier's layers compute in, nested ones included."""
    return {layer.compute_dtype for layer in _layers(classifier)}


@contextlib.contextmanager
def float32_compute(classifier: keras.Model) -> Iterator[None]:
    """Lets every layer of a mixed-precision classifier compute, and be saved, in float32 while the context lasts.

    Its variables are float32 already, so nothing is copied. A `tf.function` keeps the precision it was traced with.

    Args:
        classifier: Any built Keras model.

    Example:
        >>> with float32_compute(classifier):
        ...     classifier.save("robust.keras")  # loads as a float32 model
    """
    policies = [(layer, layer.dtype_policy) for layer in _layers(classifier)]
    try:
        for layer, policy in policies:
            if policy.compute_dtype != policy.variable_dtype:
                layer.dtype_policy = keras.DTypePolicy(policy.variable_dtype)
        yield
    finally:
        for layer, policy in policies:
            layer.dtype_policy = policy


def _layers(classifier: keras.Model) -> list[keras.Layer]:
    # Keras offers no public way to list nested layers; `model.layers` stops at the first level.
    return classifier._flatten_layers()
