"""Keras Tuner's strategies, resumed cleanly and saying why a trial failed."""

import contextlib
import datetime
import functools
import itertools
import shutil
import threading
import time
import traceback
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import keras
import keras_tuner as kt
from keras_tuner.src.engine.oracle import Display
from keras_tuner.src.engine.tuner_utils import SaveBestEpoch

from trainers.runs import run
from tuning.objective import Objective, is_masked
from tuning.role import is_worker
from wmr_tf.callbacks import ExactResume
from wmr_tf.checks import one_line
from wmr_tf.engine.progress import shown_time
from wmr_tf.engine.terminal import wipe
from wmr_tf.foreign import check_weights
from wmr_tf.saving import forget_unfinished, write_json, write_text, written_whole
from wmr_tf.untrusted import read_json, well_formed

TRIALS, FAILURE, CHECKPOINTS = "trials", "failure.txt", "checkpoints"
WARM_STARTS = "warm-starts"
_ENDED = ("COMPLETED", "FAILED")


class WholeFiles(kt.Oracle):
    """Makes an oracle write its files in one move; Keras Tuner cannot go on from half a file."""

    def save(self) -> None:
        """Write the state of the search."""
        write_json(self._get_oracle_fname(), self.get_state())

    def _save_trial(self, trial: Any) -> None:
        write_json(Path(self._get_trial_dir(trial.trial_id)) / "trial.json", trial.get_state())


class GridOracle(kt.Oracle):
    """Tries every combination: trial n the nth.

    Keras Tuner's own keeps its place in memory alone, and after a restart stops or fails.
    """

    def populate_space(self, trial_id: str) -> dict[str, Any]:
        """Return the values of a trial, as Keras Tuner asks for them."""
        number = int(trial_id)
        if number >= len(self._combinations):
            return {"status": "STOPPED"}
        return {"status": "RUNNING", "values": dict(self._combinations[number])}

    @functools.cached_property
    def _combinations(self) -> list[dict[str, Any]]:
        return combinations(self.hyperparameters)  # which are all known before the first trial


def combinations(space: kt.HyperParameters) -> list[dict[str, Any]]:
    """Return all combinations of values, each with the active ones only."""
    found = {}
    for values in itertools.product(*(hp.values for hp in space.space)):
        trial = kt.HyperParameters()
        for hp, value in zip(space.space, values, strict=True):
            trial.merge([hp])
            if trial.is_active(hp):
                trial.values[hp.name] = value
        found[tuple(trial.values.items())] = trial.values
    return list(found.values())


ORACLES = {
    name: type(oracle.__name__, (WholeFiles, oracle), {})
    for name, oracle in {
        "bayesian": kt.oracles.BayesianOptimizationOracle,
        "random": kt.oracles.RandomSearchOracle,
        "hyperband": kt.oracles.HyperbandOracle,
        "grid": GridOracle,
    }.items()
}


def make_oracle(tuner: str, objective: Objective, *, max_trials: int | None, epochs: int, seed: int) -> kt.Oracle:
    """Return what decides which trial comes next; a search goes on however many trials fail in a row."""
    settings = {"max_epochs": epochs} if tuner == "hyperband" else {}
    # A seed of 0 is none to Keras Tuner.
    oracle = ORACLES[tuner](objective=objective, seed=seed + 1, max_consecutive_failed_trials=None, **settings)
    oracle.max_trials = max_trials  # which Hyperband's constructor does not take
    oracle._display = TrialLines(oracle)
    return oracle


class TrialLines(Display):
    """Tells of each trial under the number that it has in the table; Keras Tuner's own counts the trials from 1."""

    def on_trial_begin(self, trial: Any) -> None:
        """Tell its number and values."""
        self.trial_start[trial.trial_id] = datetime.datetime.now()
        values = trial.hyperparameters.values.items()
        told = [f"{name} {self.format_value(value)}" for name, value in values if not name.startswith("tuner/")]
        print(f"\nTrial {int(trial.trial_id)}: {', '.join(told)}", flush=True)

    def on_trial_end(self, trial: Any) -> None:
        """Tell what it reached, and which one is the best so far."""
        took = datetime.datetime.now() - self.trial_start[trial.trial_id]
        name, best = self.oracle.objective.name, self.oracle.get_best_trials()
        reached = trial.status.lower() if trial.score is None else f"{name} {trial.score:.4f}"
        is_known = best and best[0].score is not None
        so_far = f"; best so far {best[0].score:.4f} (trial {int(best[0].trial_id)})" if is_known else ""
        print(f"Trial {int(trial.trial_id)} took {shown_time(took.total_seconds())}: {reached}{so_far}", flush=True)


class BestEpoch(SaveBestEpoch):
    """Makes Keras Tuner's callback write the best weights in one move, and go on with a trial that was stopped.

    Masked epochs do not count, as for `tuning.hypermodel.best_epoch`.

    Args:
        objective: What decides.
        path: Of the weights.
        images: How many validation images it is measured on.
    """

    kept_state, kept_files = ("best_value",), ("filepath",)

    def __init__(self, objective: Objective, path: str, images: int) -> None:
        super().__init__(objective, path)
        self.images = images

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Save the weights if this epoch is the best so far."""
        if not is_masked(logs or {}, self.images):
            super().on_epoch_end(epoch, logs)

    def _save_model(self) -> None:
        with written_whole(self.filepath) as unfinished:
            self.model.save_weights(unfinished)


class SearchTuner(kt.Hyperband):
    """Runs trials, alone or as the chief or a worker of several, as Keras Tuner's environment variables say.

    A trial that was stopped goes on from its last checkpoint, in its folder, whoever of the workers takes it up.

    Args:
        oracle: What decides which trial comes next, see `make_oracle`.
        hypermodel: Builds and fits; its `declare_hyperparameters` declares all that is searched.
        folder: Where the trials are; a search that is there goes on.
        images: How many validation images there are.
        on_divergence: What a trial does that diverges, see `wmr_tf.callbacks.ExactResume`.

    Note: With an oracle that sets no epochs, what `Hyperband` adds to `Tuner` does nothing; so this is all of them.
    """

    def __init__(
        self, oracle: kt.Oracle, hypermodel: kt.HyperModel, folder: Path, *, images: int, on_divergence: str = "stop"
    ) -> None:
        self._images, self._on_divergence = images, on_divergence
        super(kt.Hyperband, self).__init__(
            oracle=oracle, hypermodel=hypermodel, directory=str(folder), project_name=TRIALS
        )
        if not is_worker():
            run_unfinished_again(oracle)

    def save(self) -> None:
        """Write the state of the search, and that there is one."""
        if not is_worker():
            self.oracle.save()
        write_json(self._get_tuner_fname(), self.get_state())

    def _activate_all_conditions(self) -> None:
        """Do nothing: the hypermodel declares all that is searched, where Keras Tuner would build models to see."""

    def _get_tuner_fname(self) -> str:
        # Keras Tuner goes on with a search if this file exists. Its own name for it is that of the role, which would
        # have a search that was begun alone start anew with a chief.
        return super()._get_tuner_fname() if is_worker() else str(Path(self.project_dir) / "tuner.json")

    def load_model(self, trial: Any) -> Any:
        """Return the model of a trial with the weights of its best epoch."""
        folder = Path(self.get_trial_dir(trial.trial_id))
        with _files_of_a_search(folder):
            _check([*folder.glob("*.json"), *folder.glob("[!.]*.h5")])
            return super().load_model(trial)

    def pre_create_trial(self) -> None:
        """Wait a little, since Keras Tuner lets an idle worker ask again at once."""
        if is_worker():
            time.sleep(0.5)

    def _build_and_fit_model(
        self, trial: Any, *args: Any, callbacks: Iterable[keras.callbacks.Callback] = (), **kwargs: Any
    ) -> Any:
        kept = [callback for callback in callbacks if not isinstance(callback, SaveBestEpoch)]
        kept.append(BestEpoch(self.oracle.objective, self._get_checkpoint_fname(trial.trial_id), self._images))
        minutes = run.CHECKPOINT_MINUTES
        resume = ExactResume(self._checkpoints(trial), minutes=minutes, on_divergence=self._on_divergence)
        resume.tells = True
        kept.append(resume)
        return super()._build_and_fit_model(trial, *args, callbacks=kept, warm_starts=self._warm_starts, **kwargs)

    @property
    def _warm_starts(self) -> Path:
        return Path(self.project_dir) / WARM_STARTS / self.tuner_id  # no two workers write the same checkpoints

    def forget_warm_starts(self) -> None:
        """Delete the warm starts that trials shared."""
        shutil.rmtree(Path(self.project_dir) / WARM_STARTS, ignore_errors=True)

    def on_trial_end(self, trial: Any) -> None:
        """Tell the oracle, and delete the trial's checkpoints."""
        super().on_trial_end(trial)
        shutil.rmtree(self._checkpoints(trial), ignore_errors=True)
        best = Path(self._get_checkpoint_fname(trial.trial_id))
        forget_unfinished(best.parent, [best.name])

    def _checkpoints(self, trial: Any) -> Path:
        return Path(self.get_trial_dir(trial.trial_id)) / CHECKPOINTS

    def run_trial(self, trial: Any, *args: Any, **kwargs: Any) -> Any:
        """Train one trial; if it fails, say why and keep the reason beside it."""
        failure = Path(self.get_trial_dir(trial.trial_id)) / FAILURE
        failure.unlink(missing_ok=True)  # of a run that was killed
        try:
            return super().run_trial(trial, *args, **kwargs)
        except (kt.errors.FatalError, OSError):
            raise
        except Exception as error:
            reason = one_line(error)
            write_text(failure, f"{reason}\n\n{traceback.format_exc()}")
            wipe()
            print(f"Trial {int(trial.trial_id)} failed: {reason}", flush=True)
            raise kt.errors.FailedTrialError(reason) from None

    def _run_and_update_trial(self, *args: Any, **kwargs: Any) -> None:
        try:
            super()._run_and_update_trial(*args, **kwargs)
        except OSError as error:  # a full disk is no fault of the trial, which runs again when the search goes on
            raise Unwritable(error.errno, error.strerror, error.filename) from error


class Unwritable(kt.errors.FatalError, OSError):
    """A file cannot be written: Keras Tuner ends the search, where other errors end the trial alone."""

    def __str__(self) -> str:
        return str(self.__cause__)


def opened(oracle: kt.Oracle, hypermodel: kt.HyperModel, folder: Path, **settings: Any) -> SearchTuner:
    """Return the search in a folder, which goes on if it is there; see `SearchTuner`.

    Raises:
        InvalidInput: If a file of it is not what a search wrote.
    """
    with _files_of_a_search(folder):
        # Others may be half written, by a trial that was killed and runs again.
        _check([*folder.glob(f"{TRIALS}/*.json"), *folder.glob(f"{TRIALS}/*/trial.json")])
        return SearchTuner(oracle, hypermodel, folder, **settings)


def _check(paths: Iterable[Path]) -> None:
    """Check files before Keras Tuner reads them."""
    for path in paths:
        check_weights(path) if path.suffix == ".h5" else read_json(path)


def _files_of_a_search(folder: Path) -> contextlib.AbstractContextManager[None]:
    fix = "Name another folder with --output_dir."
    return well_formed("output_dir", got=folder, expected="the files of a search", fix=fix)


def run_unfinished_again(oracle: kt.Oracle) -> None:
    """Let a reloaded oracle run again what was running when it was killed, once, and nothing else.

    Keras Tuner saves a trial and its list of trials one after the other. A kill in between leaves a trial that is in
    no list and would count though it never ends; one at the end of a trial has it run again though it has ended.
    """
    listed = set(oracle.start_order)
    oracle.trials = {name: trial for name, trial in sorted(oracle.trials.items()) if name in listed}
    unfinished = [trial for trial in oracle.trials.values() if trial.status not in _ENDED]
    for trial in unfinished:
        trial.metrics.metrics.clear()  # else they are averaged with those of the second run
    oracle._retry_queue = [trial.trial_id for trial in unfinished]


def print_workers(oracle: kt.Oracle) -> None:
    """Start a thread that prints who is at work whenever that changes, so that one sees for whom the chief waits."""

    def tell() -> None:
        told = ""
        while True:
            time.sleep(2)
            trials = {
                worker: f" (trial {int(trial.trial_id)})" for worker, trial in list(oracle.ongoing_trials.items())
            }
            now = ", ".join(f"{worker}{trials.get(worker, '')}" for worker in sorted(oracle.tuner_ids))
            if now != told:
                print(f"At work: {now or 'nobody'}", flush=True)
                told = now

    threading.Thread(target=tell, daemon=True).start()
