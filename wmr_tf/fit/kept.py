"""What variables, callbacks and other objects that a training goes through keep from step to step."""

import copy
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

_KERAS = keras.callbacks

# The attributes of Keras's own callbacks that change in a training; the file of CSVLogger is read and written again.
_KEPT: dict[type, tuple[str, ...]] = {
    _KERAS.EarlyStopping: ("wait", "stopped_epoch", "best", "best_epoch", "best_weights"),
    _KERAS.ReduceLROnPlateau: ("wait", "best", "cooldown_counter"),
    _KERAS.ModelCheckpoint: ("best", "_batches_seen_since_last_saving", "_last_batch_seen"),
    _KERAS.History: ("history", "epoch"),
    _KERAS.TensorBoard: ("_global_train_batch", "_global_test_batch"),
}


def state_of(holder: Any) -> dict[str, Any]:
    """Return a copy of what an object keeps from step to step, as plain values and arrays.

    Args:
        holder: A callback of Keras's, or any object that names its attributes in `kept_state`; their values may be
            such objects too. What is neither keeps nothing.

    Example:
        >>> state_of(keras.callbacks.ReduceLROnPlateau())
        {'wait': 0, 'best': None, 'cooldown_counter': 0}
    """
    if isinstance(holder, _KERAS.CSVLogger):
        path = Path(holder.filename)
        return {"text": path.read_bytes().decode() if path.exists() else ""}
    values = {name: getattr(holder, name) for name in _names(holder)}
    return {name: state_of(value) if _names(value) else copy.deepcopy(value) for name, value in values.items()}


def take_state(holder: Any, state: dict[str, Any]) -> None:
    """Give an object back what `state_of` returned of it.

    Args:
        holder: The object, whose `on_train_begin` has been called if it is a callback.
        state: The values. Of an attribute that it does not name, such as the path of a file, nothing is taken.
    """
    if isinstance(holder, _KERAS.CSVLogger):
        _write_again(holder, state.get("text", ""))
        return
    for name in state.keys() & set(_names(holder)):
        value = state[name]
        if _names(getattr(holder, name)):
            take_state(getattr(holder, name), value)
        else:
            setattr(holder, name, value)


def files_of(holder: Any) -> dict[str, Path]:
    """Return the files that an object writes and goes on from, by the attributes that it names in `kept_files`."""
    return {name: Path(getattr(holder, name)) for name in getattr(holder, "kept_files", ())}


def _names(holder: Any) -> tuple[str, ...]:
    known = next((names for kind, names in _KEPT.items() if isinstance(holder, kind)), ())
    return (*known, *getattr(holder, "kept_state", ()))


def _write_again(logger: keras.callbacks.CSVLogger, text: str) -> None:
    """Have the open file of a logger hold the rows up to the checkpoint and no others."""
    logger.csv_file.seek(0)
    logger.csv_file.truncate()
    logger.csv_file.write(text)
    logger.csv_file.flush()
    logger.append_header = not text


def values_of(variables: Iterable[Any]) -> list[list[np.ndarray]]:
    """Return copies of variables of Keras's or TensorFlow's.

    Returns:
        Of each variable its value; several, one for each replica of this process, if TensorFlow adds up what replicas
        have only when it is read, as in metrics: the sum would come back rounded.
    """
    return [[np.array(part.numpy()) for part in _parts(variable)] for variable in variables]


def assign(variables: Iterable[Any], values: list[list[np.ndarray]]) -> None:
    """Give variables back what `values_of` returned of them."""
    for variable, kept in zip(variables, values, strict=True):
        for part, value in zip(_parts(variable), kept, strict=True):
            part.assign(value.view(part.dtype.as_numpy_dtype) if value.dtype.kind == "V" else value)  # bfloat16


def _parts(variable: Any) -> tuple[Any, ...]:
    value = variable.value if isinstance(variable, keras.Variable) else variable
    is_apart = value.synchronization == tf.VariableSynchronization.ON_READ
    return tuple(value.values) if is_apart and hasattr(value, "values") else (value,)
