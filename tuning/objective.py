"""The objective of a search, always on validation images, and the accuracies at matched confidence."""

import copy
import math
from collections.abc import Iterable, Mapping

import keras
import keras_tuner as kt
import numpy as np

from tuning.goal import MATCHED, checked_top_probability, weights_of
from wmr_tf.callbacks import RobustEvaluation, announce
from wmr_tf.checks import InvalidInput, require
from wmr_tf.engine.precision import float32_compute
from wmr_tf.evaluation.flags import hides
from wmr_tf.evaluation.temperature import temperature_for
from wmr_tf.fit.averaging import averaged
from wmr_tf.saving import classifier_of


class Objective(kt.Objective):
    """A weighted sum of the accuracies that `RobustEvaluation` puts into `logs`, to be maximised.

    Smaller logits alone raise A_sa and A_tr: dividing all logits by a number changes no prediction, but it changes
    every margin and with it every weight. A search that maximises `val_A_sa` is therefore drawn to models that are
    less confident, whether or not they are harder to fool. `val_A_sa_matched` removes that effect: first the logits
    are divided by the temperature at which the mean top probability on clean validation images is a given number, the
    same in all trials, and then the scaled model is attacked. Every key has such a twin.

    A classifier that hides from the test attack has high values of all of these but `val_A_strong`. An epoch that
    leaves such a one is not counted, and a trial that has no other epochs fails.

    Args:
        text: A key such as "val_A_sa", "val_A_tr" or "val_A_sa_1p5", or a sum such as "0.7*val_A_sa+0.3*val_A_nat".
        alpha_test: The powers of the attacker that are evaluated; they decide which keys there are.
        alpha_tr: Those for which A_tr is measured; all of them if not given.

    Raises:
        InvalidInput: If there is no such key, or the text is no such sum.

    Example:
        >>> Objective("0.75*val_A_sa+0.25*val_A_nat").get_value({"val_A_sa": 0.4, "val_A_nat": 0.8})
        0.5
    """

    def __init__(
        self, text: str, alpha_test: Iterable[float] = (1.0,), alpha_tr: Iterable[float] | None = None
    ) -> None:
        super().__init__(text, "max")
        self.weights = weights_of(text, alpha_test, alpha_tr)

    def reads(self, key: str) -> bool:
        """Return whether it is computed from a key, or from its matched twin."""
        return not self.weights.keys().isdisjoint({key, f"{key}{MATCHED}"})

    @property
    def is_matched(self) -> bool:
        """Whether any of its keys is of the model at matched confidence."""
        return any(key.endswith(MATCHED) for key in self.weights)

    def has_value(self, logs: Mapping[str, float]) -> bool:
        """Return whether all keys are in `logs`."""
        return self.weights.keys() <= logs.keys()

    def get_value(self, logs: Mapping[str, float]) -> float:
        """Return the weighted sum, NaN if one of the values is."""
        return sum(weight * logs[key] for key, weight in self.weights.items())


def is_masked(logs: Mapping[str, float], images: int) -> bool:
    """Return whether the classifier of an epoch hides from the test attack, False if that was not measured.

    Args:
        logs: What `RobustEvaluation` put there.
        images: Of how many validation images.
    """
    return hides(logs.get("val_A_rob", 0.0), logs.get("val_A_strong", math.inf), images)


class MatchedEvaluation(keras.callbacks.Callback):
    """Measures, after each epoch, the classifier with its logits scaled to a given confidence.

    Puts every key of `RobustEvaluation` into `logs` again, with "_matched" behind it. The temperature is that at
    which `mean_i max_k softmax(logits_i / T)_k` over the clean images is `top_probability`.

    Args:
        evaluation: What is measured; a copy of it attacks the scaled classifier, which doubles the cost.
        top_probability: The mean top probability on clean validation images, in (1 / classes, 1). The values of an
            epoch in which no temperature gives it are NaN.

    Example:
        >>> evaluation = RobustEvaluation(validation, attack)
        >>> callbacks = [evaluation, MatchedEvaluation(evaluation, top_probability=0.95)]
    """

    kept_state = ("evaluation",)

    def __init__(self, evaluation: RobustEvaluation, *, top_probability: float) -> None:
        super().__init__()
        check_evaluation(evaluation)
        self.evaluation = copy.deepcopy(evaluation)
        self.evaluation.on_masked = "warn"  # what is to be done is done by the other one
        self.top_probability = checked_top_probability(top_probability)

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        """Put the temperature behind the classifier."""
        self._classifier = classifier_of(self.model)
        self._temperature = _Temperature()
        self.evaluation.set_model(keras.Sequential([self._classifier, self._temperature]))
        self.evaluation.set_params(self.params)
        self.evaluation.on_train_begin(logs)
        announce(self.model, [f"{key}{MATCHED}" for key in self.evaluation.keys])

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Find this epoch's temperature and evaluate the scaled classifier."""
        values: dict[str, float] = {}
        with averaged(self.model):
            if self.evaluation.is_due(epoch):
                self._temperature.value.assign(self._found_temperature())
            self.evaluation.on_epoch_end(epoch, values)
        if logs is not None:
            logs.update({f"{key}{MATCHED}": value for key, value in values.items()})

    def _found_temperature(self) -> float:
        """Return this epoch's temperature; NaN if there is none, which makes the logits NaN and so the evaluation."""
        with float32_compute(self._classifier):
            batches = [self._classifier(images, training=False) for images, *_ in self.evaluation.batches]
        logits = np.concatenate([np.asarray(batch, np.float32) for batch in batches])
        try:
            return temperature_for(logits, self.top_probability) if np.isfinite(logits).all() else math.nan
        except InvalidInput:
            return math.nan


def check_evaluation(evaluation: object) -> None:
    """Check that what was passed as the measurement after each epoch is one.

    Raises:
        InvalidInput: If it is something else.
    """
    fix = "Pass wmr_tf.callbacks.RobustEvaluation(validation, attack)."
    is_one = isinstance(evaluation, RobustEvaluation)
    require(is_one, "evaluation", got=repr(evaluation), expected="a RobustEvaluation", fix=fix)


class _Temperature(keras.layers.Layer):
    """Divides logits by a variable, so that the attack is traced once and not in every epoch."""

    def __init__(self) -> None:
        super().__init__(name="temperature", dtype="float32")
        self.value = self.add_weight(initializer="ones", trainable=False)

    def call(self, logits: keras.KerasTensor) -> keras.KerasTensor:
        return logits / self.value
