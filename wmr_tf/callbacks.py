"""Keras callbacks: robustness every epoch, and the best classifier kept."""

import os
from collections.abc import Iterable
from pathlib import Path

import keras
import tensorflow as tf

from wmr_tf.attacks import Attack
from wmr_tf.checks import at_least, require
from wmr_tf.evaluation import Robustness, RobustnessEvaluator
from wmr_tf.precision import float32_compute

BATCH_SIZE = 250


def log_key(name: str, alpha: float) -> str:
    """Returns the key in `logs` of A_sa or A_tr at an alpha, without a dot: `log_key("A_sa", 1.5)` is "val_A_sa_1p5"."""
    return f"val_{name}_{alpha:g}".replace(".", "p")


class RobustEvaluation(keras.callbacks.Callback):
    """Measures A_nat, A_rob, A_sa and A_tr after each epoch and puts them into `logs`.

    The keys are `val_A_nat`, `val_A_rob`, for the first alpha_test `val_A_sa` and `val_A_tr`, and for every
    alpha_test such as 1.5 `val_A_sa_1p5` and `val_A_tr_1p5`. All are there in every epoch, NaN in one that is
    skipped. Put it before the callbacks that read them (ModelCheckpoint, EarlyStopping, CSVLogger, TensorBoard).

    Args:
        data: Validation batches of (images, labels), in the same order each time.
        attack: The test attack.
        alpha_test: Powers of the non-uniform attacker, at least one.
        examples: How many images to attack, the first ones; fewer if there are not as many.
        every: Evaluate every so many epochs, and after the last.
        seed: Of the attack's random start.

    Raises:
        InvalidInput: If a setting is out of range.

    Example:
        >>> attack = wmr_tf.attacks.PGD(epsilon=0.3, step_size=0.01, steps=40)
        >>> model.fit(train, callbacks=[RobustEvaluation(validation, attack, alpha_test=(1.0, 2.0))])

    Source: Equations 17 to 19 of Zeng et al. 2021.
    """

    def __init__(
        self,
        data: tf.data.Dataset,
        attack: Attack,
        *,
        alpha_test: Iterable[float] = (1.0,),
        examples: int = 1000,
        every: int = 1,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.alpha_test = tuple(alpha_test)
        require(
            len(self.alpha_test) > 0,
            "alpha_test",
            got="none",
            expected="at least one number >= 0",
            mend="Pass for instance alpha_test=(1.0, 2.0).",
        )
        self.attack = attack
        self.every = at_least("every", every, 1)
        self.seed = seed
        self.data = data.unbatch().take(at_least("examples", examples, 1)).batch(BATCH_SIZE).cache()
        self._evaluator: RobustnessEvaluator | None = None

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Evaluates the model's classifier, or the model itself where it is a plain one."""
        is_due = (epoch + 1) % self.every == 0 or epoch + 1 == self.params.get("epochs")
        if logs is not None:
            logs.update(self._values(self._evaluate()) if is_due else self._values(None))

    def _evaluate(self) -> Robustness:
        classifier = getattr(self.model, "classifier", self.model)
        if self._evaluator is None or self._evaluator.classifier is not classifier:
            self._evaluator = RobustnessEvaluator(
                classifier, self.attack, alpha_test=self.alpha_test, seed=self.seed
            )
        return self._evaluator(self.data, verbose=1 if self.params.get("verbose") == 1 else 0)

    def _values(self, result: Robustness | None) -> dict[str, float]:
        nan = float("nan")
        values = {
            "val_A_nat": result.A_nat.value if result else nan,
            "val_A_rob": result.A_rob.value if result else nan,
        }
        by_alpha = {
            alpha: {
                "A_sa": result.A_sa(alpha).value if result else nan,
                "A_tr": result.A_tr(alpha).value if result else nan,
            }
            for alpha in self.alpha_test
        }
        values |= {f"val_{name}": value for name, value in by_alpha[self.alpha_test[0]].items()}
        for alpha, accuracies in by_alpha.items():
            values |= {log_key(name, alpha): value for name, value in accuracies.items()}
        return values


class SaveBestClassifier(keras.callbacks.Callback):
    """Keeps the classifier of the best epoch as a plain float32 Keras model.

    Args:
        path: The `.keras` file, replaced in one move, so that a killed run leaves a whole file.
        monitor: The key in `logs` to maximise; epochs where it is NaN are passed over.

    Example:
        >>> callbacks = [RobustEvaluation(validation, attack), SaveBestClassifier("best.keras")]
    """

    def __init__(self, path: str | os.PathLike, monitor: str = "val_A_sa") -> None:
        super().__init__()
        self.path = Path(path)
        self.monitor = monitor
        self.best = float("-inf")
        self.best_epoch: int | None = None

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Saves if this epoch is the best so far."""
        require(
            self.monitor in (logs or {}),
            "monitor",
            got=repr(self.monitor),
            expected=f"one of {', '.join(logs or {})}",
            mend="Put RobustEvaluation before this callback.",
        )
        if logs is not None and logs[self.monitor] > self.best:
            self.best, self.best_epoch = logs[self.monitor], epoch
            save_classifier(getattr(self.model, "classifier", self.model), self.path)


def save_classifier(classifier: keras.Model, path: str | os.PathLike) -> None:
    """Saves a classifier as a plain float32 Keras model, in one move.

    Args:
        classifier: A built Keras model, in whatever precision it trains.
        path: The `.keras` file; it loads with `keras.models.load_model` alone if its layers are Keras's own.
    """
    unfinished = Path(path).with_suffix(".unfinished.keras")
    with float32_compute(classifier):
        classifier.save(unfinished)
    os.replace(unfinished, path)
