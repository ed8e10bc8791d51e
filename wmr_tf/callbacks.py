"""Keras callbacks: robustness every epoch, and the best classifier kept."""

import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from wmr_tf.attacks import Attack
from wmr_tf.checks import alphas, at_least, require
from wmr_tf.checks import seed as checked_seed
from wmr_tf.engine.precision import float32_compute
from wmr_tf.evaluation import Robustness, RobustnessEvaluator
from wmr_tf.inputs.batches import batches_of, checked_batches
from wmr_tf.model import AdversarialModel

BATCH_SIZE = 250


def log_key(name: str, alpha: float) -> str:
    """Return the key in `logs` of A_sa or A_tr at an alpha, without a dot: "val_A_sa_1p5" for A_sa at 1.5."""
    return f"val_{name}_{alpha:g}".replace(".", "p")


class RobustEvaluation(keras.callbacks.Callback):
    """Measures A_nat, A_rob, A_sa and A_tr after each epoch and puts them into `logs`.

    The keys are `val_A_nat`, `val_A_rob`, for the first alpha_test `val_A_sa` and `val_A_tr`, and for every
    alpha_test such as 1.5 `val_A_sa_1p5` and `val_A_tr_1p5`. All are there in every epoch, NaN in one that is
    skipped or after which the logits are NaN or infinite (EarlyStopping counts such an epoch as no better). Put it
    before the callbacks that read them (ModelCheckpoint, EarlyStopping, CSVLogger, TensorBoard).

    Args:
        data: Validation batches of (images, labels) as a `tf.data.Dataset`, a list or a `keras.utils.PyDataset`, or a
            pair of arrays; read here, once, and looked at as training begins.
        attack: The test attack.
        alpha_test: Powers of the non-uniform attacker, at least one, each >= 0.
        examples: How many images to attack, the first ones; fewer if there are not as many. None attacks all.
        every: Evaluate every so many epochs, and after the last.
        seed: Of the attack's random start.

    Raises:
        InvalidInput: If a setting is out of range; in `fit`, before the first step, if the data are not what they
            should be.

    Example:
        >>> attack = wmr_tf.attacks.PGD(epsilon=0.3, step_size=0.01, steps=40)
        >>> model.fit(train, callbacks=[RobustEvaluation(validation, attack, alpha_test=(1.0, 2.0))])

    Source: Equations 17 to 19 of Zeng et al. 2021.
    """

    def __init__(
        self,
        data: Any,
        attack: Attack,
        *,
        alpha_test: Iterable[float] | float = (1.0,),
        examples: int | None = 1000,
        every: int = 1,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.alpha_test = alphas("alpha_test", alpha_test)
        self.attack = attack
        self.every = at_least("every", every, 1)
        self.seed = checked_seed(seed)
        # Batches rather than the data set, which cannot be copied, and Keras Tuner copies callbacks for each trial.
        self.batches = batches_of(data, BATCH_SIZE, examples)
        self._evaluator: RobustnessEvaluator | None = None

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        """Check the data, so that a mistake in them does not cost an epoch."""
        self.batches = checked_batches(_classifier_of(self.model), self.batches)

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Evaluate the model's classifier, or the model itself where it is a plain one."""
        classifier = _classifier_of(self.model)
        if logs is not None:
            logs.update(self._values(self._evaluate(classifier) if self.is_due(epoch) else None))

    def is_due(self, epoch: int) -> bool:
        """Return whether an epoch, counted from 0, is evaluated."""
        return (epoch + 1) % self.every == 0 or epoch + 1 == self.params["epochs"]

    def _evaluate(self, classifier: keras.Model) -> Robustness | None:
        """Return the accuracies, None if the classifier has diverged."""
        with float32_compute(classifier):
            logits = classifier(self.batches[0][0], training=False)
        if not tf.reduce_all(tf.math.is_finite(logits)):
            return None
        if self._evaluator is None or self._evaluator.classifier is not classifier:
            self._evaluator = RobustnessEvaluator(classifier, self.attack, alpha_test=self.alpha_test, seed=self.seed)
        is_shown = self.params["verbose"] in (1, "auto")  # "auto" is what `fit` passes on when it is told nothing
        if is_shown and sys.stdout.isatty():
            print("\r\033[K", end="")  # wipes the epoch's own progress bar, which is drawn again when the epoch ends
        result = self._evaluator(self.batches, verbose=int(is_shown))
        return result if result.is_finite else None

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

    Raises:
        InvalidInput: After the first epoch, if no callback before this one has put the key into `logs`.

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
        """Save if this epoch is the best so far."""
        require(
            self.monitor in (logs or {}),
            "monitor",
            got=repr(self.monitor),
            expected=f"one of {', '.join(logs or {})}",
            fix="Put RobustEvaluation before this callback.",
        )
        if logs is not None and logs[self.monitor] > self.best:
            self.best, self.best_epoch = logs[self.monitor], epoch
            save_classifier(_classifier_of(self.model), self.path)


def save_classifier(classifier: keras.Model, path: str | os.PathLike) -> None:
    """Save a classifier as a plain float32 Keras model, in one move.

    Args:
        classifier: A built Keras model, in whatever precision it trains.
        path: The `.keras` file; it loads with `keras.models.load_model` alone if its layers are Keras's own.

    Example:
        >>> save_classifier(model.classifier, "robust.keras")
    """
    unfinished = Path(path).with_suffix(".unfinished.keras")
    with float32_compute(classifier):
        classifier.save(unfinished)
    os.replace(unfinished, path)


def _classifier_of(model: keras.Model) -> keras.Model:
    return model.classifier if isinstance(model, AdversarialModel) else model
