"""What is compared in `studies.weightings`: weightings, and how long a model is trained before they begin."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from wmr_tf.losses import logit_margin
from wmr_tf.weights import GAIRAT, MAIL, CVaR, Detached, Exponential, KLBall, Uniform, Weighting
from wmr_tf.weights.rivals import weights_in_ball

RADIUS = 0.4
"""About the KL radius that the paper's weights of alpha 2 have on the attacked digits."""

LEVEL = 0.67
"""Of which the weights of CVaR have that radius too: log(1 / level)."""


@keras.saving.register_keras_serializable("studies")
@dataclasses.dataclass(frozen=True)
class LogitBall(Detached):
    """`KLBall` of the logit margins: weights in which confidence plays no part, since a scale of them cancels."""

    rho: float

    def __call__(self, logits: tf.Tensor, labels: tf.Tensor, **known: tf.Tensor) -> tf.Tensor:
        """Return the weight of each image; see `Weighting.__call__`."""
        return weights_in_ball(logit_margin(logits, labels), self.rho)


@keras.saving.register_keras_serializable("studies")
@dataclasses.dataclass(frozen=True)
class Constant(Detached):
    """The same weight for every image: what is left of a weighting that knows no image from another."""

    weight: float

    def __call__(self, logits: tf.Tensor, labels: tf.Tensor, **known: tf.Tensor) -> tf.Tensor:
        """Return the weight of each image; see `Weighting.__call__`."""
        return self.weight * Uniform()(logits, labels)


class Row(NamedTuple):
    """What a model is trained with.

    Attributes:
        weighting: From its alpha in the recipe.
        warmup: The fraction of the epochs that comes first, without weights.
    """

    weighting: Callable[[float], Weighting]
    warmup: float = 0.0


_LATE = 76 / 120
"""Of MAIL's training, the part without weights."""

UNWEIGHTED, PAPERS, TUNED = "unweighted", "weights", "tuned"
RIVALS = {
    UNWEIGHTED: Row(lambda alpha: Uniform()),
    PAPERS: Row(Exponential),
    "MAIL": Row(lambda alpha: MAIL(), _LATE),
    "GAIRAT": Row(lambda alpha: GAIRAT(), 59 / 120),
    "CVaR": Row(lambda alpha: CVaR(LEVEL)),
    "KLBall": Row(lambda alpha: KLBall(RADIUS)),
}
VARIANTS = {
    "weights normalised and detached": Row(lambda alpha: Exponential(alpha, stop_gradient=True, normalize=True)),
    "weights normalised": Row(lambda alpha: Exponential(alpha, normalize=True)),
    "weights detached": Row(lambda alpha: Exponential(alpha, stop_gradient=True)),
    "weights late": Row(Exponential, _LATE),
    "weights normalised and late": Row(lambda alpha: Exponential(alpha, normalize=True), _LATE),
    "KLBall of logit margins": Row(lambda alpha: LogitBall(RADIUS)),
    "constant 0.35 late": Row(lambda alpha: Constant(0.35), _LATE),
}
"""The paper's weighting otherwise, and as late as MAIL; the last has of MAIL its mean weight and its schedule alone,
which in TRADES is a smaller beta."""

ROWS = {"trades": {**RIVALS, **VARIANTS}, "pgd": RIVALS}


class WarmUp(keras.callbacks.Callback):
    """Trains without weights for the first epochs."""

    def __init__(self, weighting: Weighting, epochs: int) -> None:
        super().__init__()
        self.weighting, self.epochs = weighting, epochs

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Set what the method weights by."""
        self.model.method.alpha = Uniform() if epoch < self.epochs else self.weighting
