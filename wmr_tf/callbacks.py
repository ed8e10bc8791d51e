"""Keras callbacks: robustness every epoch, and the best classifier kept."""

import contextlib
import math
import os
import time
import weakref
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from wmr_tf.alarms import FINER_ATTACK, LONGER_OR_SMALLER_STEPS, ConstantAlarm, MaskingAlarm, is_at_chance, warn
from wmr_tf.attacks import Attack
from wmr_tf.attacks.base import check_test_attack, warn_if_weak
from wmr_tf.checks import InvalidInput, alphas, at_least, one_of, require
from wmr_tf.checks import seed as checked_seed
from wmr_tf.divergence import Diverged
from wmr_tf.engine.memory import AT_MOST, images_at_once
from wmr_tf.engine.precision import compute_dtypes, float32_compute
from wmr_tf.engine.terminal import wipe
from wmr_tf.evaluation import Robustness, RobustnessEvaluator
from wmr_tf.evaluation.versions import VERSIONS
from wmr_tf.events import WriteEvents
from wmr_tf.fit.averaging import averaged
from wmr_tf.fit.resume import ExactResume
from wmr_tf.inputs.batches import LOOKED_AT, CheckedBatches, batches_of, checked_batches
from wmr_tf.logs import LogProgress, WriteHistory
from wmr_tf.names import ON_MASKED, log_key
from wmr_tf.saving import classifier_of, save_classifier

__all__ = [
    "ExactResume",
    "LogProgress",
    "RobustEvaluation",
    "SaveBestClassifier",
    "WriteEvents",
    "WriteHistory",
    "announce",
    "log_key",
]

GRACE_EPOCHS = 2
"""For how many epochs a classifier may be at chance without a word."""

# By model the keys that the callbacks of the running `fit` are going to put into `logs`.
_ANNOUNCED: weakref.WeakKeyDictionary[keras.Model, set[str]] = weakref.WeakKeyDictionary()


def announce(model: keras.Model, keys: Iterable[str]) -> None:
    """Say which keys a callback will put into `logs`, so that a wrong `monitor` is found when training starts.

    Args:
        model: The model that is trained, `self.model` of the callback.
        keys: Their names; a callback of your own calls this in `on_train_begin`.

    Example:
        >>> announce(classifier, ["val_my_score"])
    """
    _ANNOUNCED.setdefault(model, set()).update(keys)


class RobustEvaluation(keras.callbacks.Callback):
    """Measures A_nat, A_rob, A_strong, A_sa and A_tr after each epoch and puts them into `logs`.

    The keys are `val_A_nat`, `val_A_rob`, `val_A_strong`, for the first alpha_test `val_A_sa` and `val_A_tr`, for every
    alpha_test such as 1.5 `val_A_sa_1p5`, and for every `alpha_tr` `val_A_tr_1p5`. A classifier that computes in
    bfloat16 is attacked in bfloat16; scores are always in float32. All are there in every epoch, NaN in one that is
    skipped or after which the logits are NaN or infinite (EarlyStopping counts such an epoch as no better). Put it
    before the callbacks that read them (ModelCheckpoint, EarlyStopping, CSVLogger, TensorBoard); on a plain Keras model
    those that look for the largest need `mode="max"`, which `AdversarialModel` sees to itself. A classifier that
    has become constant, is at chance after three epochs, or hides from the test attack, is reported in one line after
    that epoch and again at the end. If one is constant for good, see `wmr_tf.alarms.ConstantAlarm`, `fit` raises
    `wmr_tf.divergence.Diverged`. Of an `AdversarialModel` whose optimizer keeps a moving average of the weights
    (`use_ema=True`), the average is evaluated.

    Args:
        data: Validation batches of (images, labels) as a `tf.data.Dataset`, a list or a `keras.utils.PyDataset`, or a
            pair of arrays; read here, once, and looked at as training begins.
        attack: The test attack; a warning is given if it cannot reach the edge of its ball.
        alpha_test: Powers of the non-uniform attacker, at least one, each >= 0.
        alpha_tr: Those of them for which A_tr is measured, in addition to the first; each takes an attack of its own.
        examples: How many images to attack, the first ones; fewer if there are not as many. None attacks all.
        every: Evaluate every so many epochs, after the first, from which EarlyStopping counts, and after the last.
        seed: Of the attacks' random starts.
        suite: The version of AutoAttack that attacks the same images for `val_A_strong`, see
            `wmr_tf.evaluation.auto_attack`. "short" takes as many gradients as PGD-40.
        batch_size: Images attacked together, at most; as many as fit a memory budget if not given.
        on_masked: What to do when the suite lowers A_rob so far that the classifier is hiding: "warn", "stop", or
            "roll_back", which stops with the weights of the last epoch before, and puts NaN into this one's `logs`.
        verbose: What is shown of the attacks, as `evaluate_robustness` takes it; that of `fit` if not given.

    Raises:
        InvalidInput: If a setting is out of range; in `fit`, before the first step, if the data are not what they
            should be.

    Example:
        >>> attack = wmr_tf.attacks.PGD(epsilon=0.3, step_size=0.01, steps=40)
        >>> evaluation = RobustEvaluation(validation, attack, alpha_test=(1.0, 2.0))
        >>> history = model.fit(train, callbacks=[evaluation], verbose=0)
        >>> len(history.history["val_A_sa_2"])
        1

    Source: Equations 17 to 19 of Zeng et al. 2021.
    """

    kept_state = ("_useless", "_constancy", "_masking", "_sound_weights")

    def __init__(
        self,
        data: Any,
        attack: Attack,
        *,
        alpha_test: Iterable[float] | float = (1.0,),
        alpha_tr: Iterable[float] = (),
        examples: int | None = 1000,
        every: int = 1,
        seed: int = 0,
        suite: str = "short",
        batch_size: int | None = None,
        on_masked: str = "warn",
        verbose: int | None = None,
    ) -> None:
        super().__init__()
        self.verbose = verbose
        self.alpha_test = alphas("alpha_test", alpha_test)
        wanted = [one_of("alpha_tr", alpha, self.alpha_test) for alpha in alpha_tr]
        self.alpha_tr = tuple(dict.fromkeys([self.alpha_test[0], *wanted]))
        self.seconds = 0.0, 0.0
        """How long the last epoch's validation took, and the epoch with it."""
        self.result: Robustness | None = None
        """What the epoch's evaluation found, until the next epoch begins."""
        self._began = time.monotonic()
        check_test_attack(attack)
        warn_if_weak(attack)
        self.attack = attack
        self.every = at_least("every", every, 1)
        self.seed = checked_seed(seed)
        self.suite = one_of("suite", suite, VERSIONS)
        self.on_masked = one_of("on_masked", on_masked, ON_MASKED)
        # Batches rather than the data set, which cannot be copied, and Keras Tuner copies callbacks for each trial.
        self.batch_size = batch_size
        self.batches = batches_of(data, batch_size or AT_MOST, examples)
        self._evaluator: RobustnessEvaluator | None = None
        self._useless = ""  # what is wrong with the classifier of the last epoch, and since when
        self._constancy = ConstantAlarm()
        self._masking = MaskingAlarm()
        self._sound_weights: list[np.ndarray] | None = None  # of the last epoch that was not masked

    @property
    def keys(self) -> list[str]:
        """The keys that it puts into `logs`."""
        return list(self._values(None))

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        """Check the data, so that a mistake in them does not cost an epoch."""
        announce(self.model, self.keys)
        self._useless, self._sound_weights = "", None
        self._constancy, self._masking = ConstantAlarm(), MaskingAlarm()
        if not isinstance(self.batches, CheckedBatches):  # on the way back from where it diverged, they are
            classifier = classifier_of(self.model)
            batches = checked_batches(classifier, self.batches)
            self.batches = batches.split(self.batch_size or images_at_once(classifier, batches[0][0].shape[1:]))

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Look at the clock, and let go of what was found: it may be large."""
        self.result = None
        self._began = time.monotonic()

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Evaluate the model's classifier, or the model itself where it is a plain one."""
        began = time.monotonic()
        went_back = False
        with averaged(self.model):
            result = self._evaluate(classifier_of(self.model)) if self.is_due(epoch) else None
            if result is not None:
                self._tell_if_useless(epoch, result)
                self._stop_if_constant(epoch, result, logs or {})
                went_back = self._act_if_masked(epoch, result, logs or {})
        if logs is not None:
            logs.update(self._values(None if went_back else result))  # of weights that are gone nothing is said
        self.result = result
        self.seconds = time.monotonic() - began, time.monotonic() - self._began

    def on_train_end(self, logs: dict[str, float] | None = None) -> None:
        """Say once more if the classifier is of no use."""
        _ANNOUNCED.pop(self.model, None)
        if self._useless:
            warn(f"training ended with a classifier {self._useless}. {LONGER_OR_SMALLER_STEPS}")
        if self._masking.is_masked and self.on_masked != "roll_back":
            warn(f"training ended with a masked classifier. {FINER_ATTACK}")

    @property
    def is_masked(self) -> bool:
        """Whether the last classifier that was evaluated hides from the test attack."""
        return self._masking.is_masked

    @property
    def is_in_doubt(self) -> bool:
        """Whether the last classifier was constant: `ExactResume` then keeps a checkpoint from before."""
        return self._constancy.in_a_row > 0

    def is_due(self, epoch: int) -> bool:
        """Return whether an epoch, counted from 0, is evaluated."""
        return (epoch + 1) % self.every == 0 or epoch + 1 in (1, self.params["epochs"])

    def _evaluate(self, classifier: keras.Model) -> Robustness | None:
        """Return the accuracies, None if the classifier has diverged."""
        if not tf.reduce_all(tf.math.is_finite(self._logits(classifier))):
            return None
        if self._evaluator is None or self._evaluator.classifier is not classifier:
            self._evaluator = RobustnessEvaluator(
                classifier,
                self.attack,
                alpha_test=self.alpha_tr,
                attack_precision="bfloat16" if "bfloat16" in compute_dtypes(classifier) else "float32",
                seed=self.seed,
                suite=self.suite,
                batch_size=self.batch_size,
            )
        verbose = self.params["verbose"] if self.verbose is None else self.verbose
        verbose = 1 if verbose == "auto" else int(verbose)  # "auto" is what `fit` passes on when it is told nothing
        if verbose == 1:
            wipe()  # the epoch's own progress bar, which Keras draws again when the epoch ends
        try:
            result = self._evaluator(self.batches, verbose=verbose)
        except InvalidInput:  # NaN for an image that the suite has attacked; the data were checked before
            return None
        return result if result.is_finite else None

    def _logits(self, classifier: keras.Model) -> tf.Tensor:
        """Return those of a few images, computed eagerly, where NaN is seen."""
        with float32_compute(classifier):
            return classifier(self.batches[0][0][:LOOKED_AT], training=False)

    def _tell_if_useless(self, epoch: int, result: Robustness) -> None:
        constant = next((flag["value"] for flag in result.flags if flag["name"] == "constant_classifier"), None)
        found = "" if constant is None else f"that predicts class {constant} for every image"
        labels = np.concatenate([labels for _, labels in self.batches])
        if not found and epoch >= GRACE_EPOCHS and is_at_chance(result.A_nat.value, labels):
            found = f"at chance (A_nat {result.A_nat.value:.2%})"
        if found and not self._useless:
            warn(f"epoch {epoch + 1} leaves a classifier {found}. {LONGER_OR_SMALLER_STEPS}")
        self._useless = found

    def _stop_if_constant(self, epoch: int, result: Robustness, logs: dict[str, float]) -> None:
        logits = result.logits
        if logits is not None and self._constancy.see(logits.clean, logits.labels, logs.get("accuracy")):
            found = f"a classifier that predicts class {logits.clean[0].argmax()} for every image, for the third time"
            place = {"epoch": epoch + 1, "batch": self.params["steps"]}
            raise Diverged(self.model, **place, loss=logs.get("loss", math.nan), found=found)

    def _act_if_masked(self, epoch: int, result: Robustness, logs: dict[str, float]) -> bool:
        """Warn of a masked classifier, stop, or go back to the last sound one; return whether it went back."""
        classifier = classifier_of(self.model)
        is_attacked = classifier is not self.model  # of a plain model it is the clean accuracy
        strong = result.A_strong
        training = logs.get("accuracy") if is_attacked else None
        told = strong and self._masking.see(result.is_masked, epoch, result.A_rob.value, strong.value, training)
        if told:
            warn(f"{told}. {FINER_ATTACK}")
        if self.on_masked == "roll_back" and not self._masking.is_masked:
            self._sound_weights = classifier.get_weights()
        if self.on_masked == "warn" or not self._masking.is_masked:
            return False
        self.model.stop_training = True
        if self._sound_weights is None:
            return False
        classifier.set_weights(self._sound_weights)
        return True

    def _values(self, result: Robustness | None) -> dict[str, float]:
        nan = float("nan")
        strong = result.A_strong if result else None
        values = {
            "val_A_nat": result.A_nat.value if result else nan,
            "val_A_rob": result.A_rob.value if result else nan,
            "val_A_strong": strong.value if strong else nan,
        }
        by_alpha = {alpha: {"A_sa": result.A_sa(alpha).value if result else nan} for alpha in self.alpha_test}
        for alpha in self.alpha_tr:
            by_alpha[alpha]["A_tr"] = result.A_tr(alpha).value if result else nan
        values |= {f"val_{name}": value for name, value in by_alpha[self.alpha_test[0]].items()}
        for alpha, accuracies in by_alpha.items():
            values |= {log_key(name, alpha): value for name, value in accuracies.items()}
        return values


class SaveBestClassifier(keras.callbacks.Callback):
    """Keeps the classifier of the best epoch as a plain float32 Keras model, with averaged weights if there are any.

    Args:
        path: The `.keras` file, replaced in one move, so that a killed run leaves a whole file. Its folder is created.
        monitor: The key in `logs` to maximise; epochs where it is NaN are passed over. The default is robust accuracy
            under strong attacks, as the field chooses; `val_A_sa` prefers classifiers that are less sure.

    Raises:
        InvalidInput: If it is not the name of a `.keras` file, or the key is a loss; when training starts, if the
            folder cannot be written or, after the first batch, if the key is neither one of Keras's nor announced by
            another callback, see `announce`.

    Example:
        >>> callbacks = [RobustEvaluation(validation, attack), SaveBestClassifier("best.keras")]
    """

    kept_state, kept_files = ("best", "best_epoch"), ("path",)

    def __init__(self, path: str | os.PathLike[str], monitor: str = "val_A_strong") -> None:
        super().__init__()
        self.path = Path(path).expanduser()
        fix = f"Write {self.path.with_suffix('.keras')}."
        is_keras = self.path.suffix == ".keras"
        require(is_keras, "path", got=repr(str(path)), expected="the name of a .keras file", fix=fix)
        fix = "Leave it out, or name an accuracy."
        is_maximised = not monitor.endswith("loss")
        require(is_maximised, "monitor", got=repr(monitor), expected="a key that is to be large", fix=fix)
        self.monitor = monitor
        self.best = float("-inf")
        self.best_epoch: int | None = None
        self._is_known = False

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        """Create the folder, so that one that cannot be written does not cost an epoch."""
        folder, self._is_known = self.path.parent, False
        with contextlib.suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
        require(
            folder.is_dir() and os.access(folder, os.W_OK),
            "path",
            got=repr(str(self.path)),
            expected="a file in a folder that can be written",
            fix="Name another file.",
        )

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """Check the key, once: Keras's metrics are known after the first batch."""
        if self._is_known:
            return
        metrics = [name for name in logs or {} if name not in ("batch", "size")]
        known = [*metrics, *(f"val_{name}" for name in metrics), *sorted(_ANNOUNCED.get(self.model, ()))]
        self._is_known = self.monitor in known
        fix = "Add RobustEvaluation to the callbacks, or call wmr_tf.callbacks.announce in your own."
        expected = f"one of {', '.join(known)}"
        require(self._is_known, "monitor", got=repr(self.monitor), expected=expected, fix=fix)

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Save if this epoch is the best so far."""
        require(
            self.monitor in (logs or {}),
            "monitor",
            got=f"no {self.monitor!r} after epoch {epoch + 1}",
            expected=f"one of {', '.join(logs or {})}",
            fix="Put RobustEvaluation before this callback, and pass validation_data for Keras's own val_ keys.",
        )
        if logs is not None and logs[self.monitor] > self.best:
            self.best, self.best_epoch = logs[self.monitor], epoch
            with averaged(self.model):
                save_classifier(classifier_of(self.model), self.path)
