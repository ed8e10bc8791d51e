"""The paper's weighting, and a number for short."""

import dataclasses

import keras
import tensorflow as tf

from wmr_tf.checks import one_of, power
from wmr_tf.weights.margins import importance_weights, probability_margin
from wmr_tf.weights.weighting import Weighting


@keras.saving.register_keras_serializable("wmr_tf.weights")
@dataclasses.dataclass(frozen=True)
class Exponential(Weighting):
    """The paper's weighting, `s = exp(-alpha * margin)`: `alpha=2.0` of a method is short for `Exponential(2.0)`.

    Args:
        alpha: Power of the attacker that is trained against, in [0, 60]; 0 gives 1 everywhere.
        stop_gradient: Whether s counts as a constant. Not so in the paper; for study.
        normalize: Whether s is divided by its mean over the batch, a constant, so that `mean(s * loss)` becomes
            `sum(s * loss) / sum(s)` and alpha does not change the size of the steps. On several devices each has its
            own mean; sample weights are not in it.

    Raises:
        InvalidInput: If alpha is out of range.

    Example:
        >>> Exponential(2.0)(tf.constant([[0.0, 1.0]]), tf.constant([0])).numpy().round(3)
        array([2.52], dtype=float32)

    Source: Equation 7 of Zeng et al. 2021; a branch of its released code normalises. Equation 16 does not hold then.
    """

    alpha: float
    stop_gradient: bool = dataclasses.field(default=False, kw_only=True)
    normalize: bool = dataclasses.field(default=False, kw_only=True)

    def __post_init__(self) -> None:
        object.__setattr__(self, "alpha", power("alpha", self.alpha))
        for name in ("stop_gradient", "normalize"):
            one_of(name, getattr(self, name), (True, False))

    def __call__(self, logits: tf.Tensor, labels: tf.Tensor, **known: tf.Tensor) -> tf.Tensor:
        """Return `exp(-alpha * margin)` of each image; see `Weighting.__call__`."""
        weights = self.of_each_image(logits, labels)
        return weights / tf.stop_gradient(tf.reduce_mean(weights)) if self.normalize else weights

    def of_each_image(self, logits: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        """Return the weights before they are normalised; see `Weighting.of_each_image`."""
        weights = importance_weights(probability_margin(logits, labels), self.alpha)
        return tf.stop_gradient(weights) if self.stop_gradient else weights


def as_weighting(alpha: float | Weighting) -> Weighting:
    """Return `alpha` if it is a weighting, and `Exponential(alpha)` if it is a number.

    Raises:
        InvalidInput: If it is a number out of range, or something else.
    """
    return alpha if isinstance(alpha, Weighting) else Exponential(alpha)
