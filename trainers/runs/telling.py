"""What a training tells after each epoch: the rows of a table."""

import math
from typing import Any

import keras

from wmr_tf.callbacks import RobustEvaluation
from wmr_tf.engine.terminal import BOLD, RED, YELLOW, painted
from wmr_tf.report.tables import ACCURACIES, filled
from wmr_tf.report.words import conditions

_HEAD = ["epoch", "loss", *ACCURACIES, "train s", "eval s"]
_WIDTHS = [7, 9, *(max(7, len(name) + 2) for name in ACCURACIES), 8, 8]


class AccuracyTable(keras.callbacks.Callback):
    """Prints a row an epoch: the loss and, where it was evaluated, the accuracies on validation images in percent.

    It stands behind the evaluation. A row that is masked, or whose loss is not finite, says so, and is in colour on a
    terminal.

    Args:
        evaluation: What measures.
        dataset: What the table calls the data.
    """

    def __init__(self, evaluation: RobustEvaluation, dataset: str) -> None:
        super().__init__()
        self._evaluation, self._dataset, self._has_head = evaluation, dataset, False

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Begin a new table."""
        self._has_head = False

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Print the head, before the first epoch's warnings."""
        if not self._has_head:
            told = f"{conditions_of(self._evaluation, self._dataset)} Times are in seconds."
            print(f"\n{filled(told)}\n\n{painted(_row(_HEAD), BOLD)}", flush=True)
            self._has_head = True

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Print the epoch's row."""
        found = logs or {}
        loss, accuracies = found.get("loss", math.nan), [found[f"val_{name}"] for name in ACCURACIES]
        shown = ["-" if math.isnan(value) else f"{100 * value:.2f}" for value in accuracies]
        evaluated, both = self._evaluation.seconds
        times = [f"{both - evaluated:.1f}", f"{evaluated:.1f}"]
        row = _row([f"{epoch + 1}/{self.params['epochs']}", f"{loss:.3g}", *shown, *times])
        print(self._marked(row, loss), flush=True)

    def _marked(self, row: str, loss: float) -> str:
        if not math.isfinite(loss):
            return painted(f"{row}  diverged", RED)
        return painted(f"{row}  masked", YELLOW) if self._evaluation.is_masked else row


def conditions_of(evaluation: RobustEvaluation, dataset: str) -> str:
    """Return what stands above a table of accuracies on validation images: which images, which attacks."""
    told = conditions(
        {
            "examples": sum(len(labels) for _, labels in evaluation.batches),
            "split": "validation",
            "dataset": dataset,
            "attack": evaluation.attack.describe(),
            "suite": {"version": evaluation.suite},
        }
    )
    return f"{told} Accuracies are in percent, A_sa and A_tr at alpha_test {evaluation.alpha_test[0]:g}."


def _row(cells: list[str]) -> str:
    return "".join(cell.rjust(width) for cell, width in zip(cells, _WIDTHS, strict=True))
