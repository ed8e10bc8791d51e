"""What TensorBoard shows of a `fit`: curves, the hardest images, margins, and the settings of each run."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from wmr_tf.alarms import warn
from wmr_tf.checks import one_line, require
from wmr_tf.evaluation.records import pictures
from wmr_tf.report.images import sheet
from wmr_tf.report.tables import ACCURACIES

HARDEST = 4
"""How many images an epoch shows."""

_CHARTS = {
    "A_nat, A_rob and A_strong": "epoch_A_(nat|rob|strong)$",
    "A_sa by alpha_test": "epoch_A_sa_.*",
    "A_tr by alpha_test": "epoch_A_tr_.*",
}
"""The curves that belong together, in the tab Custom Scalars: each chart and the names of its curves."""


class WriteEvents(keras.callbacks.TensorBoard):
    """Keras's TensorBoard, which also shows what a `RobustEvaluation` finds, and in what runs differ.

    Beside Keras's curves, which have all accuracies by alpha, `tensorboard --logdir runs` then shows: under Custom
    Scalars A_nat, A_rob and A_strong in one chart, A_sa and A_tr by alpha_test in one each; under Images the hardest
    images of each epoch, clean, attacked and what changed, with label, prediction and margin, see
    `wmr_tf.evaluation.records.pictures`; under Histograms the margins of clean and attacked images; and under HParams
    the settings of all runs beside their accuracies. Nothing is computed for it but pictures.

    A training goes on without it, with a warning, if nothing can be written. And memory does not grow with each batch:
    TensorFlow keeps every number of Python's that it has made a tensor of, and Keras's has it do so with those that it
    does not write, too.

    A training that is gone on with, see `ExactResume`, may write an epoch twice, with the same values, of which
    TensorBoard shows one.

    Args:
        log_dir: The folder of a run's events; those of several runs in one folder are shown side by side.
        evaluation: The `RobustEvaluation` that comes before it in the callbacks; None shows what Keras's shows.
        settings: Numbers and texts by name that tell the run from others, under the same names in all of them.
        options: Further arguments of `keras.callbacks.TensorBoard`.

    Raises:
        InvalidInput: If `evaluation` is none, or a setting is neither a number nor a text.

    Example:
        >>> evaluation = wmr_tf.callbacks.RobustEvaluation(validation, attack, alpha_test=(1.0, 2.0))
        >>> events = WriteEvents("runs/first", evaluation, settings={"alpha_train": 2.0}, write_graph=False)
        >>> history = model.fit(train, callbacks=[evaluation, events], verbose=0)
    """

    _is_lost = False

    def __init__(
        self,
        log_dir: str | os.PathLike[str] = "logs",
        evaluation: keras.callbacks.Callback | None = None,
        *,
        settings: Mapping[str, bool | int | float | str] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(os.fspath(log_dir), **options)
        fix = "Pass the wmr_tf.callbacks.RobustEvaluation that is before it in the callbacks."
        is_one = evaluation is None or (
            isinstance(evaluation, keras.callbacks.Callback) and hasattr(evaluation, "keys")
        )
        require(is_one, "evaluation", got=repr(evaluation), expected="a RobustEvaluation", fix=fix)
        for name, value in (settings or {}).items():
            is_one = isinstance(value, bool | int | float | str)
            require(is_one, "settings", got=f"{name}={value!r}", expected="numbers and texts", fix="Leave it out.")
        self.evaluation = evaluation
        self.settings = dict(settings or {})
        self._own_writer: Any = None

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Open the file, and write what the run is."""
        self._try(super().on_train_begin, logs)
        self._try(self._write_run)

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Write the batch's values, if that is asked for."""
        self._try(super().on_train_batch_end, batch, None if self.update_freq == "epoch" else logs)

    def on_test_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Open the file of a validation by Keras."""
        self._try(super().on_test_begin, logs)

    def on_test_end(self, logs: dict[str, Any] | None = None) -> None:
        """Write what it found."""
        self._try(super().on_test_end, logs)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Write the epoch's values, but of an evaluation that was skipped, and what it found."""
        skipped = [] if self.evaluation is None else self.evaluation.keys
        known = {
            name: np.float32(value)
            for name, value in (logs or {}).items()
            if not (name in skipped and math.isnan(value))
        }
        self._try(super().on_epoch_end, epoch, known)
        self._try(self._write_found, epoch)

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Write what is left and close the files."""
        self._try(super().on_train_end, logs)
        if self._own_writer is not None:
            self._try(self._own_writer.close)

    def _write_run(self) -> None:
        """Write the run's settings, and which curves belong together."""
        # A folder of its own beside Keras's two: TensorBoard reads one file of a folder at a time.
        self._own_writer = tf.summary.create_file_writer(str(self.log_dir))
        with self._own_writer.as_default():
            if self.settings:
                # Here: who writes no settings need not have it.
                from tensorboard.plugins.hparams import api

                metrics = [api.Metric(f"epoch_{name}", group="validation", display_name=name) for name in ACCURACIES]
                api.hparams_config([api.HParam(name) for name in self.settings], metrics if self.evaluation else [])
                api.hparams(self.settings, trial_id=str(self.log_dir))
            if self.evaluation is not None:
                tf.summary.experimental.write_raw_pb(_layout(), step=0)
        self._own_writer.flush()

    def _write_found(self, epoch: int) -> None:
        """Write margins and the hardest images, if the epoch was evaluated."""
        found = None if self.evaluation is None else self.evaluation.result
        if found is None:
            return
        step = np.int64(epoch)
        with self._own_writer.as_default():
            tf.summary.histogram("margin/clean", found.clean_margins, step=step)
            tf.summary.histogram("margin/attacked", found.margins, step=step)
            if shown := [each for each in pictures(found, count=HARDEST) if each["why"] == "hardest"]:
                tf.summary.image("hardest", sheet(shown, HARDEST)[np.newaxis], step=step)
        self._own_writer.flush()

    def _try(self, write: Callable[..., object], *arguments: Any) -> None:
        if self._is_lost:
            return
        try:
            write(*arguments)
        except (OSError, tf.errors.OpError) as error:
            self._is_lost = True
            told = f"TensorBoard's events in {self.log_dir} could not be written ({one_line(error)})"
            warn(f"{told}. The training goes on without them.")


def _layout() -> bytes:
    """Return the charts of Custom Scalars."""
    from tensorboard.plugins.custom_scalar import layout_pb2, summary

    charts = [
        layout_pb2.Chart(title=title, multiline=layout_pb2.MultilineChartContent(tag=[tags]))
        for title, tags in _CHARTS.items()
    ]
    layout = layout_pb2.Layout(category=[layout_pb2.Category(title="Robustness", chart=charts)])
    return bytes(summary.pb(layout).SerializeToString())
