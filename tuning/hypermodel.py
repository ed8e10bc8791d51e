"""From a trial's hyperparameters to its accuracies on validation images."""

import copy
import dataclasses
import hashlib
import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import keras
import keras_tuner as kt

from trainers.runs import run
from trainers.runs.testing import number_of_images
from trainers.runs.warming import warm_up
from trainers.settings.config import Experiment
from trainers.settings.dataset import Dataset
from tuning.objective import MatchedEvaluation, Objective, check_evaluation, is_masked
from tuning.space import Space
from wmr_tf import AdversarialModel
from wmr_tf.alarms import FINER_ATTACK
from wmr_tf.callbacks import ExactResume, RobustEvaluation
from wmr_tf.checks import require
from wmr_tf.data import Splits
from wmr_tf.methods import BY_NAME
from wmr_tf.names import log_key

# What `run.load_data` reads of an experiment, besides whether its method needs to know which images it is given.
_DATA = (
    *(field.name for field in dataclasses.fields(Dataset)),
    *("augment", "batch_size", "seed", "train_examples", "validation_examples"),
)


class RobustHyperModel(kt.HyperModel):
    """A search space of your own, for any of Keras Tuner's tuners.

    Args:
        build: Maps hyperparameters to a compiled `AdversarialModel` (or any compiled classifier of logits).
        evaluation: The measurement after each epoch, on validation images; copied for each trial.
        objective: What the search maximises, as `Objective` takes it; the attribute of this name goes to the tuner.
        top_probability: The confidence at which a matched objective is measured, see `Objective`.

    Raises:
        InvalidInput: If the objective is none of what is measured.

    Example:
        >>> import keras_tuner
        >>> def build(hp):
        ...     method = wmr_tf.methods.TRADES(attack, beta=6.0, alpha=hp.Float("alpha_train", 0.0, 4.0))
        ...     model = wmr_tf.AdversarialModel(my_classifier(), method)
        ...     model.compile(optimizer="sgd", metrics=["accuracy"])
        ...     return model
        >>> evaluation = wmr_tf.callbacks.RobustEvaluation(validation, attack, alpha_test=(1.0, 2.0))
        >>> hypermodel = RobustHyperModel(build, evaluation, objective="val_A_sa_2")
        >>> tuner = keras_tuner.BayesianOptimization(hypermodel, hypermodel.objective, max_trials=2)
        >>> tuner.search(train, epochs=1, verbose=0)
        >>> classifier = tuner.get_best_models()[0].classifier

    Note: Keras Tuner keeps the weights of the epoch of highest objective whether it is masked or not, and the trained
        ones, not the average of an optimizer with `use_ema`, which is what was scored. `wmr search` does both right.
    """

    def __init__(
        self,
        build: Callable[[kt.HyperParameters], keras.Model],
        evaluation: RobustEvaluation,
        *,
        objective: str = "val_A_strong",
        top_probability: float = 0.95,
    ) -> None:
        super().__init__()
        check_evaluation(evaluation)
        fix = "Pass the function that returns a compiled model, given hyperparameters."
        require(callable(build), "build", got=repr(build), expected="a function", fix=fix)
        # Not a method: Keras Tuner wraps `build` as it finds it.
        self._build_model = build
        self.evaluation = evaluation
        self.objective = Objective(objective, evaluation.alpha_test, evaluation.alpha_tr)
        self.top_probability = top_probability

    def build(self, hp: kt.HyperParameters) -> keras.Model:
        """Return the compiled model of a trial."""
        return self._build_model(hp)

    def fit(
        self,
        hp: kt.HyperParameters,
        model: keras.Model,
        *args: Any,
        callbacks: Iterable[keras.callbacks.Callback] = (),
        **kwargs: Any,
    ) -> dict[str, float]:
        """Train as `model.fit(*args, **kwargs)` does, and return the values of the best epoch."""
        evaluation = copy.deepcopy(self.evaluation)
        measuring = [evaluation, *_matched(evaluation, self.objective, self.top_probability)]
        history = model.fit(*args, callbacks=[*measuring, *callbacks], **kwargs)
        return best_epoch(history, self.objective, number_of_images(evaluation.batches))


class ExperimentHyperModel(kt.HyperModel):
    """The trainers' experiments as a search space.

    Args:
        space: What is searched, and what is not.
        objective: What the search maximises.
        top_probability: The confidence at which a matched objective is measured.
    """

    def __init__(self, space: Space, objective: Objective, top_probability: float) -> None:
        super().__init__()
        self.space, self.objective, self.top_probability = space, objective, top_probability
        self._kept: tuple[tuple[Any, ...], Splits] | None = None

    def declare_hyperparameters(self, hp: kt.HyperParameters) -> None:
        """Declare all that is searched, so that no model has to be built to find it."""
        self.space.values(hp)

    def splits(self, experiment: Experiment) -> Splits:
        """Return an experiment's data, those of the last call if they are the same."""
        needs_index = BY_NAME[experiment.method].needs_index
        read = (*(getattr(experiment, name) for name in _DATA), needs_index)
        if self._kept is None or self._kept[0] != read:
            self._kept = None  # first, so that there are never two in memory
            self._kept = read, run.load_data(experiment)
        return self._kept[1]

    def build(self, hp: kt.HyperParameters) -> AdversarialModel:
        """Return the compiled model of a trial; every trial starts from the same seed, unless that is searched."""
        return self.build_model(self.space.experiment(self.space.values(hp)))

    def build_model(self, experiment: Experiment) -> AdversarialModel:
        """Return the compiled model of an experiment."""
        run.seed_everything(experiment)
        model = run.build_model(experiment, self.splits(experiment).train_examples)
        # A trial that Hyperband goes on with gets its momentum back only if there is a place for it.
        model.optimizer.build(model.trainable_variables)
        return model

    def fit(
        self,
        hp: kt.HyperParameters,
        model: AdversarialModel,
        callbacks: Iterable[keras.callbacks.Callback] = (),
        warm_starts: Path = Path(),
        **kwargs: Any,
    ) -> dict[str, float]:
        """Train and return the values of the best epoch; `kwargs` are Hyperband's `epochs` and `initial_epoch`.

        Trials whose warm starts are the same share one, in the folder `warm_starts`.

        The learning rate's milestones are fractions of `--epochs`, Hyperband's largest number: a trial that is stopped
        early has not come to them, one that goes on to the end has had the whole schedule.
        """
        experiment = self.space.experiment(self.space.values(hp))
        splits = self.splits(experiment)
        self._kept = None  # their order goes on from epoch to epoch, and the next trial has to begin with the first
        attacked = [alpha for alpha in experiment.alpha_test if self.objective.reads(log_key("A_tr", alpha))]
        evaluation = run.validation_evaluation(experiment, splits, alpha_tr=attacked)
        measuring = run.measuring_callbacks(experiment, evaluation)
        measuring += _matched(evaluation, self.objective, self.top_probability)
        if experiment.warm_start and not kwargs.get("initial_epoch"):  # else Hyperband goes on with a trial that had it
            (resume,) = (callback for callback in callbacks if isinstance(callback, ExactResume))
            warm_up(experiment, splits, model.classifier, warm_starts / _key(experiment), resume)
        history = model.fit(
            splits.train,
            callbacks=[*measuring, *callbacks],
            **{"epochs": experiment.rounds, "verbose": 0, **kwargs},
        )
        return best_epoch(history, self.objective, number_of_images(evaluation.batches))


def _key(experiment: Experiment) -> str:
    """Return a name that experiments share whose warm starts are the same."""
    what = experiment.warming(), *(getattr(experiment, name) for name in _DATA)
    return hashlib.sha256(repr(what).encode()).hexdigest()[:12]


def best_epoch(history: keras.callbacks.History, objective: Objective, images: int) -> dict[str, float]:
    """Return the validation accuracies of the epoch that the objective prefers, the objective and the epoch's number.

    Args:
        history: Of a training with `RobustEvaluation`.
        objective: What the search maximises.
        images: How many validation images there are.

    Raises:
        FloatingPointError: If training diverged, or no epoch has a value.
    """
    # With `validation_freq`, Keras's own validation has fewer values than there are epochs.
    full = {name: values for name, values in history.history.items() if len(values) == len(history.epoch)}
    by_epoch = [dict(zip(full, values, strict=True)) for values in zip(*full.values(), strict=True)]
    masked = [epoch for epoch, logs in enumerate(by_epoch) if is_masked(logs, images)]
    measured = [epoch for epoch, logs in enumerate(by_epoch) if not math.isnan(objective.get_value(logs))]
    loss = by_epoch[-1]["loss"]
    after = f"a loss of {loss:g} after {len(by_epoch)} epochs"
    if not math.isfinite(loss):
        raise FloatingPointError(f"training: got {after}, expected finite numbers. Lower the learning rate.")
    if not measured:
        fix = "Change top_probability or lower" if objective.is_matched else "Lower"
        message = f"training: got no {objective.name} in any epoch, and {after}, expected finite numbers."
        raise FloatingPointError(f"{message} {fix} the learning rate.")
    measured = [epoch for epoch in measured if epoch not in masked]
    if not measured:
        rates = ", ".join(f"{name} {by_epoch[-1][name]:.2%}" for name in ("val_A_rob", "val_A_strong"))
        raise FloatingPointError(
            f"training: got masked classifiers in every epoch ({rates} in the last). {FINER_ATTACK}"
        )
    best = max(measured, key=lambda epoch: objective.get_value(by_epoch[epoch]))
    accuracies = {name: value for name, value in by_epoch[best].items() if name.startswith("val_A_")}
    # Counted from 1; `history.epoch` starts where Hyperband went on.
    return {**accuracies, objective.name: objective.get_value(by_epoch[best]), "epoch": history.epoch[best] + 1.0}


def _matched(evaluation: RobustEvaluation, objective: Objective, top_probability: float) -> list[MatchedEvaluation]:
    return [MatchedEvaluation(evaluation, top_probability=top_probability)] if objective.is_matched else []
