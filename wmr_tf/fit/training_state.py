"""All that a training is between two steps, as plain values, arrays and files."""

import collections
import sys
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from wmr_tf.alarms import warn
from wmr_tf.checks import one_line, refuse, require
from wmr_tf.fit import checkpoints
from wmr_tf.fit.kept import assign, files_of, state_of, take_state, values_of
from wmr_tf.fit.optimizers import inner, learning_rate_of


class TrainingState:
    """Reads and puts back the variables of a training, and what its callbacks keep.

    Args:
        model: The `AdversarialModel`.
        callbacks: Those of its `fit`.
    """

    def __init__(self, model: Any, callbacks: Sequence[keras.callbacks.Callback]) -> None:
        self._model, self._callbacks = model, callbacks
        # Keras's MultiOptimizer has none of its own.
        self._began_with = learning_rate_of(model) if hasattr(model.optimizer, "learning_rate") else None

    @property
    def variables(self) -> list[Any]:
        """All variables that a step reads and writes, but for the metrics."""
        model = self._model
        return [*model.variables, *model.optimizer.variables, *model.watch.variables]

    @property
    def holders(self) -> list[tuple[str, Any]]:
        """What has a state besides variables, by a name that stays if others come or go."""
        named, count = [], collections.Counter[str]()
        for holder in self._callbacks:
            kind = type(holder).__name__
            named.append((f"{kind}-{count[kind]}", holder))
            count[kind] += 1
        return named

    @property
    def files(self) -> dict[str, Path]:
        """The files that callbacks write and go on from, by the name that they have in a checkpoint.

        That is none of a path: a file that is called otherwise when the training goes on is the same file.
        """
        return {f"{name}-{kept}": path for name, holder in self.holders for kept, path in files_of(holder).items()}

    @property
    def configuration(self) -> dict[str, Any]:
        """What must be the same for a training to go on, as JSON can hold it."""
        model = self._model
        method = keras.saving.serialize_keras_object(model.method)
        return {
            "method": {name: method[name] for name in ("class_name", "config")},
            "weight_decay": model.weight_decay,
            "seed": model.seed,
            "optimizer": _settings(model.optimizer.get_config()),
            "variables": [f"{variable.dtype} {list(variable.shape)}" for variable in self.variables],
            "replicas": model.distribute_strategy.num_replicas_in_sync,
            **({"awp": model.awp} if model.awp else {}),  # checkpoints from before there was any have none
        }

    def check(self) -> None:
        """Check that a checkpoint can hold what callbacks keep, before there is anything to lose.

        Raises:
            InvalidInput: If it cannot.
        """
        for name, holder in self.holders:
            try:
                checkpoints.check_state(state_of(holder))
            except TypeError as error:
                got = f"in {name.rpartition('-')[0]} what no checkpoint can hold ({one_line(error)})"
                expected = "numbers, texts, lists, dictionaries with texts as keys, and arrays"
                refuse("kept_state", got=got, expected=expected, fix="Keep it in another form.", cause=error)

    def state(self, epoch: int, batch: int) -> dict[str, Any]:
        """Return all of it.

        Args:
            epoch: How many epochs are done.
            batch: How many batches of the next one.
        """
        model = self._model
        return {
            "epoch": epoch,
            "batch": batch,
            "is_stopped": bool(model.stop_training) and not batch,
            "variables": values_of(self.variables),
            "metrics": values_of(model.metrics_variables) if batch else [],
            "callbacks": {name: state for name, holder in self.holders if (state := state_of(holder))},
            "files": list(self.files),
            "learning_rate": self._began_with,
            "versions": _versions(),
        }

    def check_learning_rate(self, state: dict[str, Any]) -> None:
        """Check that the training is to have the learning rate that it began with, which a state would replace.

        Not of a model that has made a step: callbacks have changed the rate since. Older states do not have it.

        Raises:
            InvalidInput: If it is another one.
        """
        before, now = state.get("learning_rate"), self._began_with
        if before is None or now is None or keras.ops.convert_to_numpy(inner(self._model.optimizer)._iterations):
            return
        got = f"those of a training with learning_rate {before:g} (now {now:g})"
        fix = "Name another folder, or delete this one to begin anew."
        require(before == now, "checkpoints", got=got, expected="those of this training", fix=fix)

    def restore(self, state: dict[str, Any]) -> None:
        """Put back variables, but for the metrics, and what callbacks keep."""
        self._began_with = state.get("learning_rate", self._began_with)
        assign(self.variables, state["variables"])
        for name, holder in self.holders:
            take_state(holder, state["callbacks"].get(name, {}))

    def put_back_files(self, found: checkpoints.Checkpoint, known: Collection[str]) -> None:
        """Put back the files of callbacks, and say so if other versions wrote the checkpoint.

        Args:
            found: The checkpoint.
            known: The names of the files that the callbacks of then had; one of a new callback stays as it is.
        """
        for name, path in self.files.items():
            if name in known:
                checkpoints.put_back(found.files.get(name), path)
        now, before = _versions(), found.state.get("versions", {})
        told = [f"{name} {before.get(name)} (now {now[name]})" for name in now if before.get(name) != now[name]]
        if told:
            warn(f"{found.path} was written with {', '.join(told)}: the training goes on, but not to the same bits")


def _versions() -> dict[str, str]:
    own = sys.modules["wmr_tf"].__version__  # imported, it would be a circle
    return {"wmr_tf": own, "tensorflow": tf.__version__, "keras": keras.__version__}


def _settings(config: dict[str, Any]) -> dict[str, Any]:
    """Return an optimizer's configuration without its name, which counts up, and its present learning rate."""
    kept = {name: value for name, value in config.items() if name not in ("name", "learning_rate")}
    return {name: _settings(value) if isinstance(value, dict) else value for name, value in kept.items()}
