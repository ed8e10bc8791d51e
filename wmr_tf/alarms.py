"""What a training run says when it goes wrong: one line, while there is time to stop it."""

import math

import numpy as np

from wmr_tf.engine.terminal import YELLOW, say
from wmr_tf.evaluation.flags import is_at_chance

WATCHED_STEPS = 200
"""For how many steps of a `fit` its loss is watched; later on a rising loss has other causes."""

EXPLOSION = 4.0
"""How many times the loss of the first batch, and that of guessing, a batch's loss must exceed to be exploding."""

SMALLER_STEPS = (
    "Lower the learning rate or alpha. Weights that are not normalised lengthen the steps; normalise them: "
    "alpha=wmr_tf.weights.Exponential(alpha, normalize=True), --weighting=exponential:normalize=true."
)

LONGER_OR_SMALLER_STEPS = f"If it has made few steps, train longer. {SMALLER_STEPS}"

FINER_ATTACK = (
    "It hides from attacks instead of withstanding them. Train with more and smaller steps, or a lower learning rate."
)

EVALUATIONS = 3
"""After how many evaluations in a row a classifier is constant for good."""

SAME = 1e-6
"""By how much logits may differ, as a fraction of the largest, and be the same."""

EARLY_STEPS = 20
"""After how many steps the mean loss must have come below the limit that guessing sets."""


def warn(text: str) -> None:
    """Print a warning, on a line of its own in the place of whatever progress bar there is."""
    say("warning", YELLOW, text)


class LossAlarm:
    """Tell whether the loss explodes in the first steps, once.

    It does if a batch's loss is not finite, or larger than four times that of the first batch and than four times that
    of guessing, `log(classes)`; and if the mean of the first 20 batches is larger than four times that of guessing, as
    where a confident network is hardened. Importance weights are the usual cause: they multiply a step by up to
    `exp(alpha)`.

    Args:
        classes: The number of classes.

    Example:
        >>> alarm = LossAlarm(classes=10)
        >>> [alarm.see(total, images) is None for total, images in ((2.3, 1), (4.4, 2), (44.4, 3))]
        [True, True, False]
    """

    kept_state = ("_steps", "_total", "_images", "_first", "_sum")

    def __init__(self, classes: int) -> None:
        self._guessing = math.log(classes)
        self._steps, self._total, self._images, self._first, self._sum = 0, 0.0, 0.0, 0.0, 0.0

    @property
    def is_watching(self) -> bool:
        """Whether it still looks at losses."""
        return self._steps < WATCHED_STEPS

    def see(self, total: float, images: float) -> str | None:
        """Return what to print after a batch, None if all is well.

        Args:
            total: The sum of the losses of all images of the epoch so far.
            images: How many these are.
        """
        self._steps += 1
        if images <= self._images:  # another epoch
            self._total = self._images = 0.0
        loss = (total - self._total) / (images - self._images)  # of this batch
        self._total, self._images = total, images
        self._first = self._first or loss
        self._sum += loss
        if self._steps == EARLY_STEPS and self._sum / EARLY_STEPS > EXPLOSION * self._guessing:
            return self._told(f"{self._sum / EARLY_STEPS:.3g} in the mean of the first {EARLY_STEPS} steps")
        if math.isfinite(loss) and loss <= EXPLOSION * max(self._first, self._guessing):
            return None
        return self._told(f"{loss:.3g} in step {self._steps}, {self._first:.3g} in the first")

    def _told(self, found: str) -> str:
        self._steps = WATCHED_STEPS  # once is enough
        return f"the loss is exploding: {found}, {self._guessing:.3g} by guessing. {SMALLER_STEPS}"


class ConstantAlarm:
    """Tell whether a classifier has become constant for good: one class for all images, three evaluations in a row.

    It must have been better than chance before, or give all images the same logits: one that has hardly begun to learn
    is constant too. And it must be no better than chance in training: with moving averages of BatchNorm that have yet
    to come near, a classifier is constant in an evaluation and not in training.

    Example:
        >>> alarm, logits, labels = ConstantAlarm(), np.array([[1.0, 0.0]] * 4), np.array([0, 1, 0, 1])
        >>> [alarm.see(logits, labels) for _ in range(3)]
        [False, False, True]
    """

    kept_state = ("in_a_row", "_was_better")

    def __init__(self) -> None:
        self.in_a_row, self._was_better = 0, False

    def see(self, logits: np.ndarray, labels: np.ndarray, training: float | None = None) -> bool:
        """Return whether it is.

        Args:
            logits: Of clean images `[images, classes]`.
            labels: Integers `[images]`.
            training: Accuracy in training, a fraction of 1, where it is known.
        """
        classes = logits.argmax(axis=1)
        self._was_better |= not is_at_chance(np.mean(classes == labels), labels)
        is_constant = len(np.unique(classes)) == 1 < len(np.unique(labels))
        is_same = np.ptp(logits, axis=0).max() <= SAME * np.abs(logits).max()
        learns = training is not None and not is_at_chance(training, labels)
        is_found = is_constant and not learns and (is_same or self._was_better)
        self.in_a_row = self.in_a_row + 1 if is_found else 0
        return self.in_a_row >= EVALUATIONS


class MaskingAlarm:
    """Tell in which epoch a classifier begins to hide from attacks: where a gap opens between two attacks' accuracies.

    Example:
        >>> alarm = MaskingAlarm()
        >>> alarm.see(False, epoch=0, a_rob=0.93, a_strong=0.91) is None
        True
        >>> alarm.see(True, epoch=1, a_rob=0.92, a_strong=0.40)
        'epoch 2 leaves a masked classifier (A_rob 92.00 %, A_strong 40.00 %)'
    """

    kept_state = ("is_masked",)

    def __init__(self) -> None:
        self.is_masked = False

    def see(
        self, is_masked: bool, epoch: int, a_rob: float, a_strong: float, training: float | None = None
    ) -> str | None:
        """Return what to print after an epoch, None if there is nothing new.

        Args:
            is_masked: Whether its classifier is, see `wmr_tf.evaluation.Robustness.is_masked`.
            epoch: Counted from 0.
            a_rob: Accuracy under the test attack, a fraction of 1.
            a_strong: Accuracy under it and stronger attacks.
            training: Accuracy in training, under the training attack, where it is known.
        """
        was_masked, self.is_masked = self.is_masked, is_masked
        if was_masked or not self.is_masked:
            return None
        known = "" if training is None else f", in training {100 * training:.2f} %"
        found = f"A_rob {100 * a_rob:.2f} %{known}, A_strong {100 * a_strong:.2f} %"
        return f"epoch {epoch + 1} leaves a masked classifier ({found})"
