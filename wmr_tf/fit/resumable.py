"""The callbacks of a `fit` that can be stopped at any moment and gone on with."""

import contextlib
import signal
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from wmr_tf.alarms import warn
from wmr_tf.checks import one_line, require
from wmr_tf.divergence import Diverged, StopOnDivergence
from wmr_tf.engine import distribution
from wmr_tf.fit import checkpoints
from wmr_tf.fit.interrupts import Interrupts, leave
from wmr_tf.fit.kept import assign, values_of
from wmr_tf.fit.reading import Reading
from wmr_tf.fit.resume import ExactResume
from wmr_tf.fit.rollback import ROLLBACKS, halve_learning_rate, without_rollbacks
from wmr_tf.fit.training_state import TrainingState
from wmr_tf.saving import note, taken
from wmr_tf.untrusted import well_formed


class Resumable(keras.callbacks.CallbackList):
    """The callbacks of a `fit` that can be stopped and gone on with: tells them what happens, and keeps all state.

    Keras's loop takes it in place of a list. Of an epoch that was stopped within, the loop runs through all batches:
    the callbacks are not told of the first ones, and the training step does nothing, see `has_passed`.

    Args:
        resume: The settings.
        callbacks: Those that were passed to `fit`.
        model: The `AdversarialModel`.
        reading: Of the training data.
        verbose: As in `fit`.
        epochs: As in `fit`.
        config: What the checkpoints are of, after a rollback; callbacks may have changed the method since.
    """

    def __init__(
        self,
        resume: ExactResume,
        callbacks: Sequence[keras.callbacks.Callback],
        model: Any,
        reading: Reading,
        *,
        verbose: Any,
        epochs: int,
        config: dict[str, Any] | None = None,
    ) -> None:
        shown = {"verbose": verbose, "epochs": epochs, "steps": None}
        super().__init__(list(callbacks), add_history=True, add_progbar=verbose != 0, model=model, **shown)
        self._resume, self._reading = resume, reading
        self._is_passing = False  # batches that were trained on before the run was stopped
        self._training = TrainingState(model, self.callbacks)
        self._epoch, self._done = 0, 0  # where the training is: so many batches of this epoch are done
        self._passed = 0  # so many of them before the run was stopped
        self._begun: tuple[int, int] | None = None  # where it went on
        self._saved: tuple[int, int] | None = None
        self._knew: set[str] = set()  # the names of the files that callbacks had, whether they were there or not
        self._half_epoch: dict[str, Any] | None = None  # the state in an epoch that was stopped within
        self._held: dict[str, Any] | None = None  # the state before the callbacks are told of an epoch's end
        self._is_saving, self._is_told = False, False
        self._config = config or {}
        self._has_gone_back = config is not None
        self._clock = time.monotonic()
        self._is_alone = distribution.workers(model.distribute_strategy) == 1
        self._guard = next(callback for callback in callbacks if isinstance(callback, StopOnDivergence))
        self._interrupts = Interrupts(self._heed_if_between)
        self._until_end = contextlib.ExitStack()

    def on_train_begin(self, logs: Any = None) -> None:
        """Tell the callbacks, then put back what was kept."""
        super().on_train_begin(logs)
        self._training.check()
        if not self._config:
            self._config = self._training.configuration | {"batches": self.params["steps"]}
            self._config["data"] = self._reading.settings
        if distribution.is_chief(self.model.distribute_strategy):
            self._resume.create()
            is_ours = self._until_end.enter_context(taken(self._resume.directory))
            got, fix = f"{str(self._resume.directory)!r}, into which another process writes", "Name another folder."
            require(is_ours, "directory", got=got, expected="a folder of this process alone", fix=fix)
        found = checkpoints.newest(self._resume.directory, config=self._config, tell=warn)
        if found is not None:
            fix = "Delete the folder to begin anew."
            with well_formed("checkpoints", got=found.path, expected="the state of this training", fix=fix):
                self._put_back(found)
                self._reading.begin(found.state["reading"])
            self._training.put_back_files(found, self._knew)
        else:
            self._reading.begin({})
            if self._resume.on_divergence == "rollback":
                self._save()  # to have somewhere to go back to
        distribution.check_agreement(
            self.model.distribute_strategy,
            self._epoch,
            "checkpoints",
            fix="Name a folder on a disk that all of them read.",
        )
        self._clock = time.monotonic()

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Tell the callbacks, and have the data begin where they are to."""
        with without_rollbacks(self.model, len(self._resume.rollbacks)):
            super().on_epoch_begin(epoch, logs)
        if epoch != self._epoch:
            self._epoch, self._done = epoch, 0
        self._passed = self._done
        if self._passed and self._half_epoch:  # which began before, with what the callbacks do then
            self._training.restore(self._half_epoch)
            assign(self.model.metrics_variables, self._half_epoch["metrics"])
        self._half_epoch = None
        self._reading.go_to(epoch, self._done)

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        """Tell the callbacks, unless the batch was trained on before."""
        self._is_passing = batch < self._passed
        if not self._is_passing:
            with without_rollbacks(self.model, len(self._resume.rollbacks)):
                super().on_train_batch_begin(batch, logs)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Tell the callbacks, and write a checkpoint if it is time for one, or a signal asks for it."""
        if self._is_passing:
            return
        super().on_train_batch_end(batch, logs)
        self._done = batch + 1
        # Several workers have parts of the metrics each; an epoch that a callback ends here is not gone on with.
        if self._is_alone and not self.model.stop_training:
            self._save_if_due()
            self._heed()

    def on_test_begin(self, logs: Any = None) -> None:
        """Hold the state of an epoch's end before its validation, which resets the metrics."""
        self._hold()
        super().on_test_begin(logs)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Tell the callbacks, who may take long: should a signal come meanwhile, the state from before is kept."""
        self._hold()
        super().on_epoch_end(epoch, logs)
        self._held = None
        self._epoch, self._done = epoch + 1, 0
        if not any(getattr(callback, "is_in_doubt", False) for callback in self.callbacks):
            self._resume.sound_epochs = self._epoch
        if self.model.stop_training or self._epoch == self.params["epochs"]:
            self._save()  # before Keras replaces the weights, from which more epochs go on, by their average
        else:
            self._save_if_due()
        self._heed()

    def on_train_end(self, logs: Any = None) -> None:
        """Write the last checkpoint, from which a run goes on with what comes after the training."""
        self._save()
        super().on_train_end(logs)

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Heed signals in the block, which is Keras's `fit`."""
        try:
            with self._interrupts if self._is_alone else contextlib.nullcontext():
                yield
        except OSError as error:
            is_kept = f"{self._resume.directory} keeps the training {self._told(*self._saved)}" if self._saved else ""
            note(error, is_kept or "No checkpoint was written before", self._resume.command)
            raise
        finally:
            self._until_end.close()
            self.model._initial_epoch = self.model.resumable = None

    def go_back(self, diverged: Diverged) -> dict[str, Any]:
        """Have the next `fit` go on from before a training diverged, with half the learning rate.

        Args:
            diverged: What ended this one.

        Returns:
            What `resumable` has to know of this one.

        Raises:
            Diverged: The same again, if that is not asked for, or was done three times.
        """
        resume, model = self._resume, self.model
        if resume.on_divergence == "stop" or len(resume.rollbacks) == ROLLBACKS:
            raise diverged
        found = self._sound()
        self._held = None  # what a signal would have kept, which has diverged
        if found is None:
            raise diverged
        own = next(found.state["callbacks"][name] for name, holder in self._training.holders if holder is resume)
        assign(self._training.variables, found.state["variables"])
        rate = halve_learning_rate(model, 1 + len(resume.rollbacks) - len(own["rollbacks"]))
        own["rollbacks"] = resume.rollbacks = [*resume.rollbacks, {**diverged.facts(), "learning_rate": rate}]
        state = {**found.state, "variables": values_of(self._training.variables)}
        self._write(state, found.files, instead_of=found.path.name)
        told = self._told(state["epoch"], state["batch"])
        number = f"rollback {len(resume.rollbacks)} of {ROLLBACKS}"
        warn(f"{diverged.told}. Going back to the checkpoint {told}, with a learning rate of {rate:g} ({number}).")
        return {"config": self._config, "made": self._reading.made}

    def _sound(self) -> checkpoints.Checkpoint | None:
        """Return the newest checkpoint from which the training may not diverge again, None if there is none."""
        resume = self._resume
        # At an epoch's end, what was kept after its last batch has the same weights.
        is_in_doubt = resume.sound_epochs < self._epoch or self._held is not None
        last = self._name(min(resume.sound_epochs, self._epoch), 0) if is_in_doubt else None
        names = [name for name in checkpoints.names(resume.directory) if last is None or name <= last]
        if resume.rollbacks and self._saved == self._begun and len(names) > 1:
            names.pop()  # it has diverged from there before
        before = names[-1] if names else last
        return checkpoints.newest(resume.directory, config=self._config, tell=warn, before=before)

    def expect(self, epochs: Any) -> None:
        """Hear of Keras's object that makes the iterators, before all else; it knows how many batches an epoch has."""
        if not self._is_told:  # a validation's data come later
            self._is_told = True
            self.set_params({**self.params, "steps": epochs.num_batches})
            self._reading.expect(epochs)

    def has_passed(self, iterator: Any) -> bool:
        """Return whether the batch that Keras is at was trained on before the run was stopped, and if so pass over it.

        Args:
            iterator: What the batch is read from.
        """
        if self._is_passing:
            self._reading.pass_over(iterator, self.model.steps_per_execution)
        else:
            self._reading.read_from(iterator)
        return self._is_passing

    def _put_back(self, found: checkpoints.Checkpoint) -> None:
        state, model = found.state, self.model
        if not self._has_gone_back:
            self._training.check_learning_rate(state)
        self._training.restore(state)
        self._epoch, self._done, self._half_epoch = state["epoch"], state["batch"], state
        self._knew = set(state.get("files", found.files))  # older states do not have it
        self._saved = self._begun = self._epoch, self._done
        model.stop_training = state["is_stopped"]
        is_over = model.stop_training or self._epoch >= self.params["epochs"]
        # Where Keras's own BackupAndRestore says it too; private, and read after `on_train_begin`.
        model._initial_epoch = self.params["epochs"] if is_over else self._epoch
        if self.params["verbose"] or self._resume.tells:
            said = "The training is complete" if is_over else f"Going on {self._told(self._epoch, self._done)}"
            print(f"{said} ({found.path})", flush=True)

    def _save_if_due(self) -> None:
        if time.monotonic() - self._clock >= 60 * self._resume.minutes:
            self._save()

    def _save(self) -> None:
        """Write a checkpoint; if that fails, say so and go on, since those before are as they were."""
        place = self._reached()
        if place == self._saved or not distribution.is_chief(self.model.distribute_strategy):
            return
        if self._is_alone:
            self._guard.check()
        self._is_saving = True
        try:
            files = {name: path for name, path in self._training.files.items() if path.exists()}
            self._write(self._held or self._state(), files)
            self._saved = place
        except OSError as error:
            warn(f"no checkpoint could be written ({one_line(error)}). Those before are whole; the training goes on.")
        finally:
            self._is_saving = False
            self._clock = time.monotonic()

    def _write(self, state: dict[str, Any], files: dict[str, Path], instead_of: str | None = None) -> None:
        resume = self._resume
        checkpoints.write(
            resume.directory,
            self._name(state["epoch"], state["batch"]),
            state,
            config=self._config,
            files=files,
            keep=resume.keep,
            before=self._name(resume.sound_epochs, 0),
            instead_of=instead_of,
        )

    def _name(self, epoch: int, batch: int) -> str:
        """Return what a checkpoint is called; names sort by age, those after a rollback behind those before."""
        count = len(self._resume.rollbacks)
        return f"rollback-{count}-" * bool(count) + f"epoch-{epoch:06d}-batch-{batch:08d}"

    def _reached(self) -> tuple[int, int]:
        """Return the epoch and batch of what a checkpoint would hold now."""
        held = self._held
        return (held["epoch"], held["batch"]) if held else (self._epoch, self._done)

    def _state(self) -> dict[str, Any]:
        return {**self._training.state(self._epoch, self._done), "reading": self._reading.state(self._done)}

    def _hold(self) -> None:
        if self._held is None and self._done and self._is_alone:
            self._held = self._state()
            self._heed()

    def _heed_if_between(self) -> None:
        if self._held is not None and not self._is_saving:
            with tf.init_scope():  # TensorFlow may be in the midst of a graph
                self._heed()

    def _heed(self) -> None:
        """Do what a signal asks for."""
        come = self._interrupts.take()
        if come is None:
            return
        self._save()
        if come is not signal.SIGUSR1:
            told = self._told(*self._reached())
            leave(come, f"{self._resume.directory} keeps the training {told}", self._resume.command)

    def _told(self, epoch: int, batch: int) -> str:
        of = f" of {self.params['steps']}" if self.params["steps"] else ""
        if not batch:
            return f"after epoch {epoch}" if epoch else "at the beginning"
        return f"within epoch {epoch + 1}, after batch {batch}{of}"


def resumable(
    model: keras.Model,
    data: Any,
    *,
    callbacks: Any = None,
    verbose: Any = "auto",
    epochs: int = 1,
    config: dict[str, Any] | None = None,
    made: int = 0,
    **_: Any,
) -> Resumable | None:
    """Return the callbacks of a `fit` as those of one that can be gone on with, None if no `ExactResume` is among them.

    Args:
        model: The `AdversarialModel`.
        data: The training data as they were passed to `fit`.
        callbacks: As in `fit`, as are the others.
        verbose: As in `fit`.
        epochs: As in `fit`.
        config: See `Resumable`.
        made: See `Reading`.
    """
    given = keras.tree.flatten(callbacks or [])
    resume = next((callback for callback in given if isinstance(callback, ExactResume)), None)
    if resume is None:
        return None
    replicas = model.distribute_strategy.num_replicas_in_sync
    reading = Reading(data, keeps_iterator=resume.keep_iterator, replicas=replicas, made=made)
    return Resumable(resume, given, model, reading, verbose=verbose, epochs=epochs, config=config)
