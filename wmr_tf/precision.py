"""The precision a classifier computes in."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import keras
import tensorflow as tf

CPUINFO = Path("/proc/cpuinfo")


def compute_dtypes(classifier: keras.Model) -> set[str]:
    """Returns the dtypes that the classifier's layers compute in, nested ones included."""
    return {layer.compute_dtype for layer in _layers(classifier)}


def has_bfloat16() -> bool:
    """Returns whether this machine multiplies matrices in bfloat16 natively: its GPUs, or its processor without any.

    GPUs do from compute capability 8.0 on; processors say so in /proc/cpuinfo (AVX512-BF16 or AMX; on ARM, bf16).
    """
    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        details = [tf.config.experimental.get_device_details(gpu) for gpu in gpus]
        return all(detail.get("compute_capability", (0, 0)) >= (8, 0) for detail in details)
    features = CPUINFO.read_text().split() if CPUINFO.exists() else []
    return not {"avx512_bf16", "amx_bf16", "bf16"}.isdisjoint(features)


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
    # An inner model that was built on half-precision tensors casts to their dtype whatever it is given.
    halves = [(layer, layer.dtype) for layer in _layers(classifier) if _is_half_input(layer)]
    try:
        for layer, policy in policies:
            if policy.compute_dtype != policy.variable_dtype:
                layer.dtype_policy = keras.DTypePolicy(policy.variable_dtype)
        for layer, _ in halves:
            _set_input_dtype(layer, "float32")
        yield
    finally:
        for layer, policy in policies:
            layer.dtype_policy = policy
        for layer, dtype in halves:
            _set_input_dtype(layer, dtype)


def _is_half_input(layer: keras.Layer) -> bool:
    return isinstance(layer, keras.layers.InputLayer) and layer.dtype in ("float16", "bfloat16")


def _set_input_dtype(layer: keras.layers.InputLayer, dtype: str) -> None:
    # Keras offers no public way to change this: the first is what is saved, the second what the model casts to.
    layer._dtype = layer.output._dtype = dtype


def _layers(classifier: keras.Model) -> list[keras.Layer]:
    # Keras offers no public way to list nested layers; `model.layers` stops at the first level.
    return classifier._flatten_layers()
