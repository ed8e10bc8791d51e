"""From a trial's hyperparameters to its accuracies on validation images."""

import copy
import math
from collections.abc import Callable, Iterable
from typing import Any

import keras
import keras_tuner as kt

from trainers import run
from tuning.objective import MatchedEvaluation, Objective
from tuning.space import Space
from wmr_tf import AdversarialModel
from wmr_tf.callbacks import RobustEvaluation


class RobustHyperModel(kt.HyperModel):
    """A search space of your own, for any of Keras Tuner's tuners.

    Args:
        build: From hyperparameters to a compiled `AdversarialModel` (or any compiled classifier of logits).
        evaluation: What is measured after each epoch, on validation images; copied for each trial.
        objective: What the search maximises, as `Objective` takes it; the attribute of this name goes to the tuner.
        top_probability: The confidence at which a matched objective is measured, see `Objective`.

    Raises:
        InvalidInput: If the objective is none of what is measured.

    Example:
        >>> def build(hp):
        ...     method = wmr_tf.methods.TRADES(attack, beta=6.0, alpha=hp.Float("alpha_train", 0.0, 4.0))
        ...     model = wmr_tf.AdversarialModel(my_classifier(), method)
        ...     model.compile(optimizer="sgd", metrics=["accuracy"])
        ...     return model
        >>> evaluation = wmr_tf.callbacks.RobustEvaluation(validation, attack, alpha_test=(1.0, 2.0))
        >>> hypermodel = RobustHyperModel(build, evaluation, objective="val_A_sa_2")
        >>> tuner = keras_tuner.BayesianOptimization(hypermodel, hypermodel.objective, max_trials=12)
        >>> tuner.search(train, epochs=10)
        >>> classifier = tuner.get_best_models()[0].classifier
    """

    def __init__(
        self,
        build: Callable[[kt.HyperParameters], keras.Model],
        evaluation: RobustEvaluation,
        *,
        objective: str = "val_A_sa",
        top_probability: float = 0.95,
    ) -> None:
        super().__init__()
        # Not a method: Keras Tuner wraps `build` as it finds it.
        self._build_model = build
        self.evaluation = evaluation
        self.objective = Objective(objective, evaluation.alpha_test)
        self.top_probability = top_probability

    def build(self, hp: kt.HyperParameters) -> keras.Model:
        """Returns the compiled model of a trial."""
        return self._build_model(hp)

    def fit(
        self,
        hp: kt.HyperParameters,
        model: keras.Model,
        *args: Any,
        callbacks: Iterable[keras.callbacks.Callback] = (),
        **kwargs: Any,
    ) -> dict[str, float]:
        """Trains as `model.fit(*args, **kwargs)` does, and returns the values of the best epoch."""
        evaluation = copy.deepcopy(self.evaluation)
        measuring = [evaluation, *_matched(evaluation, self.objective, self.top_probability)]
        history = model.fit(*args, callbacks=[*measuring, *callbacks], **kwargs)
        return best_epoch(history, self.objective)


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

    def build(self, hp: kt.HyperParameters) -> AdversarialModel:
        """Returns the compiled model of a trial; every trial starts from the same seed, unless that is searched."""
        experiment = self.space.experiment(self.space.values(hp))
        run.seed_everything(experiment)
        model = run.build_model(experiment, run.load_data(experiment).train_examples)
        # A trial that Hyperband goes on with gets its momentum back only if there is a place for it.
        model.optimizer.build(model.trainable_variables)
        return model

    def fit(
        self,
        hp: kt.HyperParameters,
        model: AdversarialModel,
        callbacks: Iterable[keras.callbacks.Callback] = (),
        **kwargs: Any,
    ) -> dict[str, float]:
        """Trains and returns the values of the best epoch; `kwargs` are Hyperband's `epochs` and `initial_epoch`.

        The learning rate's milestones are fractions of `--epochs`, Hyperband's largest number: a trial that is stopped
        early has not come to them, one that goes on to the end has had the whole schedule.
        """
        experiment = self.space.experiment(self.space.values(hp))
        splits = run.load_data(experiment)
        evaluation = run.validation_of(experiment, splits)
        measuring = run.schedule_and_measure(experiment, evaluation)
        measuring += _matched(evaluation, self.objective, self.top_probability)
        history = model.fit(
            splits.train,
            callbacks=[*measuring, *callbacks],
            **{"epochs": experiment.rounds, "verbose": 2, **kwargs},
        )
        return best_epoch(history, self.objective)


def best_epoch(history: keras.callbacks.History, objective: Objective) -> dict[str, float]:
    """Returns the validation accuracies of the epoch that the objective prefers, the objective and the epoch's number.

    Raises:
        FloatingPointError: If training diverged, or no epoch has a value.
    """
    by_epoch = [
        dict(zip(history.history, values, strict=True)) for values in zip(*history.history.values(), strict=True)
    ]
    measured = [epoch for epoch, logs in enumerate(by_epoch) if not math.isnan(objective.get_value(logs))]
    loss = by_epoch[-1]["loss"]
    if not measured or not math.isfinite(loss):
        raise FloatingPointError(
            f"training: got a loss of {loss:g} after {len(by_epoch)} epochs, expected finite numbers. "
            "Lower --learning_rate."
        )
    best = max(measured, key=lambda epoch: objective.get_value(by_epoch[epoch]))
    accuracies = {name: value for name, value in by_epoch[best].items() if name.startswith("val_A_")}
    # Counted from 1; `history.epoch` starts where Hyperband went on.
    return {**accuracies, objective.name: objective.get_value(by_epoch[best]), "epoch": history.epoch[best] + 1.0}


def _matched(evaluation: RobustEvaluation, objective: Objective, top_probability: float) -> list[MatchedEvaluation]:
    return [MatchedEvaluation(evaluation, top_probability=top_probability)] if objective.is_matched else []
