"""What a `fit` tells while it runs: its history in a file, lines in a log."""

import csv
from pathlib import Path
from typing import Any

import keras

from wmr_tf.engine.progress import Lines
from wmr_tf.saving import written_whole


class WriteHistory(keras.callbacks.Callback):
    """Writes the values of all epochs into a CSV file after each epoch, in one move.

    Keras's CSVLogger writes the same line by line into an open file, of which a kill or a full disk leaves a part.

    Args:
        path: The file, in an existing folder.

    Raises:
        NotWritten: In `fit`, if it cannot be written.

    Example:
        >>> history = model.fit(train, verbose=0, callbacks=[WriteHistory("history.csv")])
    """

    kept_state = ("rows",)

    def __init__(self, path: str | Path) -> None:
        super().__init__()
        self.path = Path(path).expanduser()
        self.rows: list[dict[str, Any]] = []

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Begin with no rows."""
        self.rows = []

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Write all rows, with this epoch's."""
        self.rows.append({"epoch": epoch, **(logs or {})})
        names = sorted({name for row in self.rows for name in row} - {"epoch"})
        with written_whole(self.path) as unfinished, open(unfinished, "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, ["epoch", *names])
            writer.writeheader()
            writer.writerows(self.rows)


class LogProgress(keras.callbacks.Callback):
    """Print a line at least every minute of an epoch where `fit` shows no progress bar, with `verbose=2`.

    Example:
        >>> history = model.fit(train, verbose=0, callbacks=[LogProgress()])
    """

    _lines: Lines | None = None

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Forget the epoch before."""
        self._epoch, self._lines = epoch, None

    def on_train_batch_begin(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """Start the epoch's clock, with the first batch or, in one that is gone on with, a later one."""
        if self._lines is None and self.params["verbose"] == 2:
            unit = f"epoch {self._epoch + 1}/{self.params['epochs']}: step"
            self._lines = Lines(self.params["steps"], unit=unit, before=batch)

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """Count the batch."""
        if self._lines is not None:
            self._lines.add(1, told=f", loss {logs['loss']:.3g}" if logs and "loss" in logs else "")
