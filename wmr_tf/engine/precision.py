"""The precision a classifier computes in."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import keras
import tensorflow as tf
from keras.src.backend import AutocastScope

from wmr_tf.engine import machine
from wmr_tf.engine.graph import runs_its_graph

# Keras's `AutocastScope` is not public; there is no other way to read a variable in another precision.


def compute_dtypes(classifier: keras.Model) -> set[str]:
    """Return the dtypes that the classifier's layers compute in, nested ones included."""
    return {layer.compute_dtype for layer in layers_of(classifier)}


def has_bfloat16() -> bool:
    """Return whether this machine multiplies matrices in bfloat16 natively: its GPUs, or its processor without any.

    GPUs do from compute capability 8.0 on; processors say so in /proc/cpuinfo (AVX512-BF16 or AMX; on ARM, bf16).
    """
    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        details = [tf.config.experimental.get_device_details(gpu) for gpu in gpus]
        return all(detail.get("compute_capability", (0, 0)) >= (8, 0) for detail in details)
    return machine.multiplies_bfloat16()


@contextlib.contextmanager
def full_float32() -> Iterator[None]:
    """Have GPUs multiply float32 in all its bits in the context, which decorates a function too.

    By default TensorFlow has those from compute capability 8.0 on round to TensorFloat-32, whose mantissa has 10 bits.

    Example:
        >>> with full_float32():
        ...     logits = classifier(images)
    """
    was_on = tf.config.experimental.tensor_float_32_execution_enabled()
    tf.config.experimental.enable_tensor_float_32_execution(False)
    try:
        yield
    finally:
        tf.config.experimental.enable_tensor_float_32_execution(was_on)


@contextlib.contextmanager
def float32_compute(classifier: keras.Model) -> Iterator[None]:
    """Let every layer of a classifier compute, and be saved, in float32 while the context lasts.

    Variables of another precision are cast as they are read. A quantised layer keeps its integers, and computes around
    them in float32. A `tf.function` keeps the precision it was traced with.

    Args:
        classifier: Any built Keras model.

    Example:
        >>> with float32_compute(classifier):
        ...     classifier.save("robust.keras")  # loads as a float32 model
    """
    with _computing_in(classifier, lambda layer: "float32"):
        yield


@contextlib.contextmanager
def bfloat16_compute(classifier: keras.Model) -> Iterator[None]:
    """Let a classifier compute in bfloat16 in the context, its last layers in float32.

    These are the last layer that has weights, which gives the logits, and the layers after it. A subclassed model has
    none, since the order of its layers is unknown. A `tf.function` keeps the precision it was traced with.

    Args:
        classifier: Any built Keras model.

    Example:
        >>> with bfloat16_compute(classifier):
        ...     logits = classifier(images)  # faster where bfloat16 is native, and less exact
    """
    last = set()
    for layer in layers_backwards(classifier):
        last.add(layer)
        if layer.weights:
            break
    with _computing_in(classifier, lambda layer: "float32" if layer in last else "mixed_bfloat16"):
        yield


COMPUTE = {"float32": float32_compute, "bfloat16": bfloat16_compute}
"""Maps the name of a precision to the context in which a classifier computes in it."""


@contextlib.contextmanager
def _computing_in(classifier: keras.Model, policy_of: Callable[[keras.Layer], str]) -> Iterator[None]:
    policies = [(layer, layer.dtype_policy) for layer in layers_of(classifier)]
    # An inner model that was built on half-precision tensors casts to their dtype whatever it is given.
    halves = [(layer, layer.dtype) for layer in layers_of(classifier) if _is_half_input(layer)]
    try:
        for layer, policy in policies:
            wanted = _with_quantisation_of(policy, policy_of(layer))
            if wanted.compute_dtype != policy.compute_dtype:
                layer.dtype_policy = wanted
        for layer, _ in halves:
            _set_input_dtype(layer, "float32")
        with AutocastScope("float32"):  # variables too, which a layer casts only if its own policy is a mixed one
            yield
    finally:
        for layer, policy in policies:
            layer.dtype_policy = policy
        for layer, dtype in halves:
            _set_input_dtype(layer, dtype)


def _with_quantisation_of(policy: Any, name: str) -> Any:
    """Return the policy of this name, for a quantised layer such that it stays quantised as it is."""
    if policy.quantization_mode is None:
        return keras.DTypePolicy(name)
    return keras.dtype_policies.get(f"{policy.name.split('_from_')[0]}_from_{name}")  # such as "int8_from_float32"


def _is_half_input(layer: keras.Layer) -> bool:
    return isinstance(layer, keras.layers.InputLayer) and layer.dtype in ("float16", "bfloat16")


def _set_input_dtype(layer: keras.layers.InputLayer, dtype: str) -> None:
    # Keras offers no public way to change this: the first is what is saved, the second what the model casts to.
    layer._dtype = layer.output._dtype = dtype


def layers_backwards(layer: keras.Layer) -> Iterator[keras.Layer]:
    """Yield a model's layers from the last to the first, nested models opened; a subclassed one is one layer."""
    if runs_its_graph(layer):
        for inner in reversed(layer.layers):
            yield from layers_backwards(inner)
    else:
        yield layer


def widest(dtype: str) -> str:
    """Return the precision in which to prepare the weights of a layer that computes in `dtype`: float32 or float64."""
    return "float64" if dtype == "float64" else "float32"


def layers_of(classifier: keras.Model) -> list[keras.Layer]:
    """Return the classifier and all its layers, those of nested and subclassed models included."""
    # Keras offers no public way to list these; `model.layers` stops at the first level.
    return classifier._flatten_layers()
