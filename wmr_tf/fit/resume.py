"""Exact resume: a `fit` that is killed at any moment goes on, in another process, to the same bits."""

import contextlib
import os
from pathlib import Path
from typing import Any

import keras

from wmr_tf.checks import at_least, one_of, positive, require
from wmr_tf.fit.interrupts import own_command
from wmr_tf.fit.rollback import check_can_roll_back
from wmr_tf.names import ON_DIVERGENCE


class ExactResume(keras.callbacks.Callback):
    """Has `AdversarialModel.fit` keep checkpoints, and go on from the newest one when the same call is made again.

    A run that was killed at any moment, and is started again by the same command, ends as one that was never stopped,
    under `keras.utils.set_random_seed` and `tf.config.experimental.enable_op_determinism` to the same bits: weights,
    optimizer, what the method keeps, seed generators (dropout), metrics of the epoch under way, history, and the state
    of the callbacks. A training that has ended is not repeated: `fit` returns its history.

    On SIGTERM and SIGINT a checkpoint is written after the batch that is running, or at once if none is; then comes
    `SystemExit` with status 143, or `KeyboardInterrupt`. SIGUSR1 writes one and goes on.

    Data of `wmr_tf.data.load`, whose batches have addresses, go on exactly, and so do those derived from them, without
    `steps_per_epoch`. Of other data the epoch under way is read again up to the batch, and each epoch is the one that
    it would have been: exact with a `tf.data.Dataset` whose shuffles have a seed (or `keras.utils.set_random_seed` was
    called), and with arrays, shuffled by Keras or not. These are not exact, unless they come in the same order in every
    epoch: a generator and a `PyDataset`; a data set in which what is shuffled is repeated, or interleaved in parallel;
    and `steps_per_epoch`, with which data go on from epoch to epoch.

    With `keep_iterator` the state of the `tf.data` iterator is in the checkpoint, with all that its shuffles hold in
    their buffers, and nothing is read again. That is exact with `shuffle(...).repeat()` and `steps_per_epoch` too, and
    a shuffle without a seed goes on with the very images that are left.

    Callbacks see every batch once, though those between the last checkpoint and a kill are trained on again. The
    state of Keras's own callbacks and of this package's is kept; yours name what to keep:
    `kept_state = ("best", "wait")`, of numbers, texts, lists, dictionaries and arrays. It is put back after every
    `on_train_begin`. In `kept_files` they name attributes that are paths of files, each replaced in one move. A setting
    of the method that a callback changes, such as alpha, is not kept: set it in `on_epoch_begin`, which comes again in
    an epoch that is gone on with, and in `on_train_begin` to what it is at first, by which a further `fit` of the same
    model knows its checkpoints.

    Args:
        directory: Where the checkpoints go, two or more folders; created if it is not there.
        minutes: How often, at most, one is written, > 0; always at the end.
        keep: How many stay, >= 2: should the newest be damaged, the one before it is used. One more stays from before
            the epoch under way.
        on_divergence: What to do when `fit` would raise `wmr_tf.divergence.Diverged`, see there: "stop", which leaves
            the checkpoints, all of them finite; or "rollback", at most three times: go on from the newest one, or
            from the one before if that leads there again at once, with half the learning rate, which is said in one
            line, in `rollbacks`, and under this name in the history. A learning rate that a callback sets is halved
            too; one that a `LearningRateSchedule` computes cannot be.
        keep_iterator: Whether to keep the state of the iterator, of a `tf.data.Dataset` of your own, on one replica. It
            cannot be kept of one with `py_function`, generators or random numbers that are not stateless.

    Raises:
        InvalidInput: If an argument is out of range; in `fit`, if the checkpoints are of a training with other
            settings, all of them are damaged, the directory cannot be written, or a rollback is not possible; in the
            `fit` of another model than an `AdversarialModel`.
        Diverged: In `fit`, if the training diverged, and did not go back.

    Example:
        >>> train, validation, test = wmr_tf.data.load("digits")
        >>> history = model.fit(train, epochs=2, callbacks=[ExactResume("checkpoints")], verbose=0)

    Note: To train a plain Keras model so, wrap it: `AdversarialModel(classifier, wmr_tf.methods.Natural())`.
        After a rollback data without addresses come in another order, so an epoch that is gone on with from its middle
        misses some images and sees others twice.
        Several workers keep one only at the end of an epoch, written by the chief and read by all; they cannot roll
        back. Which checkpoint is the newest depends on the time that training takes, so two runs that roll back are
        the same to the bit if they go back to the same one.
    """

    kept_state = ("rollbacks", "sound_epochs")

    def __init__(
        self,
        directory: str | Path,
        *,
        minutes: float = 5.0,
        keep: int = 2,
        on_divergence: str = "stop",
        keep_iterator: bool = False,
    ) -> None:
        super().__init__()
        self.directory = Path(directory).expanduser()
        self.minutes = positive("minutes", minutes)
        self.keep = at_least("keep", keep, 2)
        self.on_divergence = one_of("on_divergence", on_divergence, ON_DIVERGENCE)
        self.keep_iterator = keep_iterator
        self.rollbacks: list[dict[str, Any]] = []
        """For each rollback where the training had diverged (epoch and batch, counted from 1), the loss (None if it was
        not finite), the largest gradient norm, and the learning rate from then on."""
        self.sound_epochs = 0
        """How many epochs there were up to the last one that left no classifier in doubt."""
        self.command = own_command()
        """What goes on with the training, as messages say it."""
        self.tells = False
        """Whether it says where it goes on even if `fit` is silent, as beside a `LogProgress`."""

    def create(self) -> None:
        """Create the directory, if it is not there.

        Raises:
            InvalidInput: If it cannot be written.
        """
        with contextlib.suppress(OSError):
            self.directory.mkdir(parents=True, exist_ok=True)
        is_possible = self.directory.is_dir() and os.access(self.directory, os.W_OK)
        got, expected = repr(str(self.directory)), "a folder that can be written"
        require(is_possible, "directory", got=got, expected=expected, fix="Name another folder for the checkpoints.")

    def on_train_begin(self, logs: Any = None) -> None:
        """Check that it is a `fit` which can resume, and go back if that is asked for."""
        require(
            getattr(self.model, "resumable", None) is not None,
            "ExactResume",
            got=f"the fit of a {type(self.model).__name__}",
            expected="that of a wmr_tf.AdversarialModel, with a list of callbacks",
            fix="Wrap the model: wmr_tf.AdversarialModel(classifier, wmr_tf.methods.Natural()).",
        )
        self.rollbacks, self.sound_epochs = [], 0
        if self.on_divergence == "rollback":
            check_can_roll_back(self.model)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Put the number of rollbacks into the logs."""
        if self.on_divergence == "rollback" and logs is not None:
            logs["rollbacks"] = len(self.rollbacks)
