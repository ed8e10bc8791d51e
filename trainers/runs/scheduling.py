"""The course of a training, step by step: callbacks that set what `Training` says of each epoch."""

import math

import keras

from trainers.settings.training import Training
from wmr_tf.fit.optimizers import learning_rate_of


class LearningRateByBatch(keras.callbacks.Callback):
    """Sets the learning rate before each batch, and puts the last one of each epoch into `logs`.

    Args:
        training: Its `learning_rate_at` is asked.
    """

    def __init__(self, training: Training) -> None:
        super().__init__()
        self._training, self._epoch = training, 0

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Hear which epoch it is."""
        self._epoch = epoch

    def on_train_batch_begin(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """Set the learning rate, if it is another one."""
        steps = self.params["steps"]
        rate = self._training.learning_rate_at(self._epoch + (batch / steps if steps else 0.0))
        if not math.isclose(rate, learning_rate_of(self.model), rel_tol=1e-6):  # it is kept in float32
            self.model.optimizer.learning_rate = rate

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Put it into `logs`."""
        if logs is not None:
            logs["learning_rate"] = learning_rate_of(self.model)


class MethodByEpoch(keras.callbacks.Callback):
    """Sets the training attack and the weighting before each epoch; a step is traced anew where they change.

    Args:
        training: Its `attack_at` and `weighting_at` are asked.
    """

    def __init__(self, training: Training) -> None:
        super().__init__()
        self._training = training

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        """Set the first epoch's, so that a checkpoint's settings are the same wherever training goes on."""
        self.on_epoch_begin(0)

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Set the epoch's."""
        method, training = self.model.method, self._training
        if training.takes("attack"):
            method.attack = training.attack_at(epoch)
        if training.takes("alpha"):
            method.alpha = training.weighting_at(epoch)
