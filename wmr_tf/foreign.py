"""Models that anyone may have made: a .keras file is looked at before Keras opens it.

Keras makes of a configuration whatever objects it names, and builds them before it looks at the weights. So this knows
which objects those are, that there are no more weights than the file holds, and that the weights are in the file.
"""

import contextlib
import functools
import importlib
import io
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import h5py
import keras

from wmr_tf.untrusted import Unsafe, check_file, open_archive, parse_json

_CONFIG, _WEIGHTS = "config.json", "model.weights.h5"
_MEMBERS = sorted([_CONFIG, _WEIGHTS, "metadata.json"])

_MOST_LAYERS = 2_000
"""Twice as many as the largest of keras.applications has; building one takes milliseconds."""

_MOST_PARTS = 50_000
"""Of a configuration, and of a file of weights; looking at one takes microseconds."""

_OURS = "wmr_tf."
"""How the names of this package's modules begin, which are imported without trust, for a training model's classes."""

_FORGIVEN = 1 << 20
"""So many weights may be missing in the file."""

_CARRY_CODE = (
    keras.layers.Lambda,
    keras.layers.TFSMLayer,
    keras.layers.TorchModuleWrapper,
    keras.layers.JaxLayer,
    keras.layers.FlaxLayer,
)
_PARTS = (
    keras.Operation,  # which layers and models are
    keras.Initializer,
    keras.Regularizer,
    keras.constraints.Constraint,
    keras.DTypePolicy,
    keras.dtype_policies.DTypePolicyMap,
    keras.Quantizer,
    keras.quantizers.QuantizationConfig,
    keras.Loss,
    keras.Metric,
    keras.Optimizer,
    keras.optimizers.schedules.LearningRateSchedule,
)
"""What a model is made of; Keras has callables besides that write files or change its settings."""

_FUNCTIONS = ("builtins", "keras.activations", "keras.ops", "keras.losses", "keras.metrics")
"""Where functions of a configuration may be from; of Python's built-in ones Keras takes none, but its own."""

_TENSOR = "__keras_tensor__"
_VALUES = (_TENSOR, "__tensor__", "__numpy__", "__bytes__", "__ellipsis__", "__slice__")


class HoldsMore(Unsafe):
    """A file holds more than layers of Keras's own, or registered ones, and their weights: it needs trust."""


@contextlib.contextmanager
def checked(path: Path, *, trust: bool) -> Iterator[None]:
    """Check a .keras file, and have Keras in the block build no more weights than it holds.

    Args:
        path: The file.
        trust: Whether it may bring code; the modules that it names are imported then.

    Raises:
        OSError: If it cannot be read.
        HoldsMore: If it brings code and is not trusted.
        Unsafe: If it is damaged, or made to cost memory, time or other files.
    """
    if path.suffix in (".h5", ".hdf5"):
        if not trust:
            raise HoldsMore("what Keras's old format may hold")
        yield
        return
    with open_archive(path) as archive:
        names = sorted(archive.namelist())
        if not trust and names != _MEMBERS:
            raise HoldsMore(f"the members {', '.join(names[:5])}")
        config = parse_json(archive.read(_CONFIG))
        if isinstance(config, dict):
            config.pop("compile_config", None)  # which is not read
        parts = list(_parts(config))
        if len(parts) > _MOST_PARTS:
            raise Unsafe(f"its configuration has more than {_MOST_PARTS:,} parts")
        _check_code(parts, trust)
        if not trust:
            _check_graph(config, parts)
        with h5py.File(io.BytesIO(archive.read(_WEIGHTS)), "r") as weights:
            held = _weights_in(weights, archive.getinfo(_WEIGHTS).file_size)
    with _no_more_weights(held + _FORGIVEN):
        yield


def check_weights(path: Path) -> None:
    """Check a file of weights in HDF5.

    Raises:
        OSError: If it cannot be read.
        Unsafe: If it has links, or data that are elsewhere or larger than the file.
    """
    check_file(path)
    with h5py.File(path, "r") as weights:
        _weights_in(weights, path.stat().st_size)


def _parts(value: Any) -> Iterator[dict[str, Any]]:
    """Yield all dictionaries within JSON."""
    if isinstance(value, dict):
        yield value
    for each in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _parts(each)


def _check_graph(config: Any, parts: list[dict[str, Any]]) -> None:
    """Check that a model is not much larger than any in use, and calls its layers on nothing but symbolic tensors."""
    if (calls := _layers(config)) > _MOST_LAYERS:
        raise Unsafe(f"it calls about {calls:,.0f} layers, more than {_MOST_LAYERS:,}")
    # Keras never writes such a call, but would compute it as it builds the model, however much that is.
    for node in (node for part in parts for node in part.get("inbound_nodes") or ()):
        if not any(part.get("class_name") == _TENSOR for part in _parts(node)):
            raise Unsafe("it calls a layer on a constant")


def _layers(value: Any) -> float:
    """Return how many layers Keras builds for JSON, one that is called several times counted as often."""
    if not isinstance(value, dict):
        return sum(map(_layers, value)) if isinstance(value, list) else 0
    layers = value.get("layers")
    if not isinstance(layers, list):
        return sum(map(_layers, value.values()))
    count = sum((1 + _layers(layer)) * max(1, len(layer.get("inbound_nodes") or ())) for layer in layers)
    # A Sequential runs through all of them again for each that is added; that takes a twentieth of building them.
    return count if "input_layers" in value else count * max(1, len(layers) / 20)


def _check_code(parts: list[dict[str, Any]], trust: bool) -> None:
    named = [part for part in parts if "class_name" in part]
    for module in {str(part["module"]) for part in named if part.get("module") and not _is_known(part)}:
        if trust or module.startswith(_OURS):
            importlib.import_module(module)  # which registers its classes
    unknown = sorted({f"{part.get('module') or ''}.{_name(part)}" for part in named if not _is_known(part)})
    if unknown and not trust:
        raise HoldsMore(f"code, {', '.join(name.strip('.') for name in unknown[:3])}")


def _name(part: dict[str, Any]) -> Any:
    return part.get("config") if part["class_name"] == "function" else part["class_name"]


def _is_known(part: dict[str, Any]) -> bool:
    """Return whether what a part of a configuration names is registered, or one of Keras's that can do no harm."""
    name, module, is_function = _name(part), part.get("module"), part["class_name"] == "function"
    # As Keras looks it up: a class by its registered name if it names a module too, else, and a function, by its own.
    key = name if is_function or "module" not in part else part.get("registered_name", name)
    registered = keras.saving.get_registered_object(key) if isinstance(key, str) else None
    if registered is not None:
        return not (isinstance(registered, type) and issubclass(registered, _CARRY_CODE))
    if is_function:
        return module in _FUNCTIONS and isinstance(name, str)
    if module is None and name in _VALUES:
        return True
    found = _of_keras(module, name)
    return isinstance(found, type) and issubclass(found, _PARTS) and not issubclass(found, _CARRY_CODE)


def _of_keras(module: Any, name: Any) -> Any:
    """Return what Keras has under a name in one of its modules, None if there is none; nothing is imported for it."""
    package, *path = f"{module}.{name}".split(".")
    try:
        return functools.reduce(getattr, path, keras) if package == "keras" else None
    except AttributeError:
        return None


def _weights_in(file: h5py.File, size: int) -> int:
    """Return how many numbers a file of weights holds, all of them within it, each once."""
    held = declared = 0
    seen: set[int] = set()
    waiting = [file["/"]]
    while waiting:
        group = waiting.pop()
        for name in group:
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                raise Unsafe(f"its weights have a link, {name!r}")
            item = group[name]
            address = h5py.h5o.get_info(item.id).addr
            if address in seen or len(seen) > _MOST_PARTS:
                raise Unsafe(f"its weights have {name!r} twice, or more than {_MOST_PARTS} parts")
            seen.add(address)
            if isinstance(item, h5py.Group):
                waiting.append(item)
                continue
            if not isinstance(item, h5py.Dataset) or item.is_virtual or item.external or item.dtype.hasobject:
                raise Unsafe(f"its weights {name!r} are elsewhere, or no numbers")
            held, declared = held + item.size, declared + item.nbytes
            if item.nbytes > item.id.get_storage_size() or declared > size:
                raise Unsafe(f"its weights {name!r} of shape {item.shape} are larger than the file")
    return held


@contextlib.contextmanager
def _no_more_weights(left: int) -> Iterator[None]:
    add_weight = keras.layers.Layer.add_weight

    def counted(self: keras.layers.Layer, shape: Any = None, *args: Any, **kwargs: Any) -> Any:
        nonlocal left
        left -= math.prod(shape or ())
        if left < 0:
            raise Unsafe(f"it would make more weights than it holds, in {self.name!r}")
        return add_weight(self, shape, *args, **kwargs)

    with mock.patch.object(keras.layers.Layer, "add_weight", counted):
        yield
