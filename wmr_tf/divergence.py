"""Trainings that diverge: what stops them, and with which words."""

import math
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from wmr_tf.alarms import LossAlarm, warn


class Diverged(FloatingPointError):
    """A training has come to numbers that are not finite, or to a classifier that is of no use.

    `fit` raises it; `wmr_tf.callbacks.ExactResume(..., on_divergence="rollback")` goes back instead. A callback of your
    own may raise it too.

    Args:
        model: The model that is trained.
        epoch: Counted from 1.
        batch: The last one of this epoch, counted from 1; None if it is not known.
        loss: Of the batch where it is not finite, else the mean over the epoch so far.
        found: What was found, if it was not the loss.

    Attributes:
        told: What has happened, without what to do.
        gradient_norm: The largest finite norm of all gradients together, of all steps so far; None if it is not known.
            Of several replicas that of the first one's part.
    """

    def __init__(self, model: keras.Model, *, epoch: int, batch: int | None, loss: float, found: str = "") -> None:
        self.epoch, self.batch, self.loss = epoch, batch, loss
        watch = getattr(model, "watch", None)
        self.gradient_norm: float | None = watch.gradient_norm if watch else None
        norm = "" if self.gradient_norm is None else f", largest finite gradient norm so far {self.gradient_norm:.3g}"
        place = f"epoch {epoch}" + (f", batch {batch}" if batch else "")
        self.told = f"training diverged in {place}: {found and f'{found}, '}loss {loss:.3g}{norm}"
        super().__init__(f"{self.told}. Lower the learning rate.")

    def facts(self) -> dict[str, Any]:
        """Return all of it as plain values, a loss that is not finite as None."""
        loss = self.loss if math.isfinite(self.loss) else None
        return {"epoch": self.epoch, "batch": self.batch, "loss": loss, "gradient_norm": self.gradient_norm}


class StopOnDivergence(keras.callbacks.Callback):
    """Raises `Diverged` after a batch whose loss is not finite, or an epoch that leaves weights that are not.

    It also warns in the first steps if the loss explodes, see `wmr_tf.alarms.LossAlarm`. The `fit` of an
    `AdversarialModel` puts it before all other callbacks. Of several workers each sees its own losses, so they look at
    the weights alone, which they share, and stop together.

    Args:
        classes: The number of classes.
        is_alone: Whether there is one worker.

    Example:
        >>> history = model.fit(train, callbacks=[StopOnDivergence(classes=10)], verbose=0)
    """

    kept_state = ("_alarm",)

    def __init__(self, classes: int, *, is_alone: bool = True) -> None:
        super().__init__()
        self._alarm = LossAlarm(classes)
        self._is_alone = is_alone
        self.async_safe = not is_alone  # for Keras: then it need not wait for the loss of each batch
        self._epoch, self._batch, self._loss = 0, 0, math.nan

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Hear which epoch it is."""
        self._epoch = epoch + 1

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """Look at the loss."""
        self._batch, self._loss = batch + 1, (logs or {}).get("loss", math.nan)
        if not self._is_alone or "loss" not in (logs or {}):
            return
        if not math.isfinite(self._loss):
            if watch := getattr(self.model, "watch", None):
                watch.check()  # images that are NaN are the cause then, and no divergence
            raise self._diverged()
        if self._alarm.is_watching:
            seen = self.model._loss_tracker
            if told := self._alarm.see(*(float(tf.convert_to_tensor(part)) for part in (seen.total, seen.count))):
                warn(told)

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Look at the weights, which no later batch would show after the last one."""
        self.check()

    def check(self) -> None:
        """Look at all variables.

        Raises:
            Diverged: If one is not finite.
        """
        variables = (*self.model.variables, *self.model.optimizer.variables)
        if not all(map(_is_finite, variables)):
            raise self._diverged("weights that are not finite")

    def _diverged(self, found: str = "") -> Diverged:
        return Diverged(self.model, epoch=self._epoch, batch=self._batch, loss=self._loss, found=found)


def _is_finite(variable: keras.Variable) -> bool:
    return bool(np.isfinite(keras.ops.convert_to_numpy(variable)).all())  # faster than by TensorFlow, one by one
