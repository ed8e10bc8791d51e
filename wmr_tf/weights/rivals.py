"""Other weightings than the paper's: what is compared with it. All of them count as constants in the gradient."""

import dataclasses
from typing import Any

import keras
import tensorflow as tf

from wmr_tf.checks import LARGEST_EXPONENT, fraction, nonnegative, positive, real
from wmr_tf.weights.margins import probability_margin
from wmr_tf.weights.weighting import Detached

HALVINGS = 40
"""How often [0, 60] is halved for an alpha: it is then known to the last bit of float32."""


@keras.saving.register_keras_serializable("wmr_tf.weights")
@dataclasses.dataclass(frozen=True)
class Uniform(Detached):
    """No weighting: 1 for every image, as `Exponential(0.0)`; for a warm-up, say, before another one.

    Example:
        >>> Uniform()(tf.constant([[0.0, 1.0]]), tf.constant([0])).numpy()
        array([1.], dtype=float32)

    Source: the attacker of Equation 3 of Zeng et al. 2021.
    """

    def __call__(self, logits: tf.Tensor, labels: tf.Tensor, **known: tf.Tensor) -> tf.Tensor:
        """Return 1 for each image; see `Weighting.__call__`."""
        return self.of_each_image(logits, labels)


@keras.saving.register_keras_serializable("wmr_tf.weights")
@dataclasses.dataclass(frozen=True)
class MAIL(Detached):
    """Margin-aware instance reweighting (MAIL): `s = 3 * sigmoid(slope * (bias - margin))`, a constant.

    The margin is `probability_margin` of the attacked image.

    Args:
        slope: How steep the sigmoid is, > 0.
        bias: The margin at which it is 1/2, a finite number.

    Raises:
        InvalidInput: If slope or bias is out of range.

    Example:
        >>> MAIL()(tf.constant([[0.0, 0.0], [9.0, 0.0]]), tf.constant([0, 0])).numpy().round(2)
        array([0.55, 0.23], dtype=float32)

    Source: Wang et al. 2021 ("Probabilistic margins for instance reweighting in adversarial training"), PM_adv.

    Note: Form, factor 3 and defaults are those of the released code. The weights are not divided by their mean over the
        batch, so that with the defaults they are below 1 for most images and the step is shorter than without. The
        code trains the first 76 of 120 epochs without weights; that is a schedule of the method's `alpha`. With MART
        it weights the cross-entropy and leaves the divergence as it is, where here the weights go to both.
    """

    slope: float = 1.0
    bias: float = -1.5

    def __post_init__(self) -> None:
        object.__setattr__(self, "slope", positive("slope", self.slope))
        object.__setattr__(self, "bias", real("bias", self.bias))

    def __call__(self, logits: tf.Tensor, labels: tf.Tensor, **known: tf.Tensor) -> tf.Tensor:
        """Return the weight of each image; see `Weighting.__call__`."""
        margin = tf.stop_gradient(probability_margin(logits, labels))
        return 3.0 * tf.sigmoid(self.slope * (self.bias - margin))


@keras.saving.register_keras_serializable("wmr_tf.weights")
@dataclasses.dataclass(frozen=True)
class GAIRAT(Detached):
    """Geometry-aware reweighting: `s = (1 + tanh(shift + 5 (1 - 2 k / K))) / 2` over its mean in the batch, a constant.

    k is the number of the attack's K steps before the first point that is misclassified: an image that is misclassified
    where the attack starts has k = 0, one that is right at all K points from which a step is made has k = K.

    Args:
        shift: The lambda of the source, a finite number: the larger, the more images count alike.

    Raises:
        InvalidInput: If shift is not finite.

    Example:
        >>> withstood = tf.constant([0.0, 0.5, 1.0])  # k / K
        >>> GAIRAT()(tf.zeros([3, 2]), tf.constant([0, 0, 0]), withstood=withstood).numpy().round(2)
        array([2.68, 0.32, 0.  ], dtype=float32)

    Source: Zhang et al. 2021 ("Geometry-aware instance-reweighted adversarial training"), Equation 5 and Algorithm 1.

    Note: The released code counts all points that are right, also after the first error. It trains the first 59 of 120
        epochs without weights; that is a schedule of the method's `alpha`. On several devices each has its own mean.
    """

    needs = ("withstood",)
    shift: float = -1.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "shift", real("shift", self.shift))

    def __call__(self, logits: tf.Tensor, labels: tf.Tensor, **known: tf.Tensor) -> tf.Tensor:
        """Return the weight of each image; see `Weighting.__call__`."""
        # (1 + tanh(z)) / 2 is sigmoid(2 z), whose logarithm does not underflow.
        return _of_mean_1(tf.math.log_sigmoid(2.0 * (self.shift + 5.0 * (1.0 - 2.0 * known["withstood"]))))


@keras.saving.register_keras_serializable("wmr_tf.weights")
@dataclasses.dataclass(frozen=True)
class CVaR(Detached):
    """Conditional value at risk: `s = 1 / level` for the fraction `level` of the batch with the largest losses, else 0.

    Where `level * batch` is not whole, the image at the edge counts in part, so that the mean is 1 and `mean(s * loss)`
    is the mean loss of the worst fraction. The weights are constants.

    Args:
        level: The fraction, in (0, 1]; 1 weights all alike, one over the batch's size and less only the worst image.

    Raises:
        InvalidInput: If level is out of range.

    Example:
        >>> losses = tf.constant([1.0, 4.0, 2.0, 3.0])
        >>> CVaR(0.375)(tf.zeros([4, 2]), tf.zeros([4]), losses=losses).numpy().round(2)  # of one and a half images
        array([0.  , 2.67, 0.  , 1.33], dtype=float32)

    Source: Rockafellar and Uryasev 2000; Levy et al. 2020 for the estimate from a batch.

    Note: The losses are those that the method weights: the divergence in TRADES, the cross-entropy in PGD training. On
        several devices each takes the worst of its own share.
    """

    needs = ("losses",)
    level: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "level", fraction("level", self.level))

    def __call__(self, logits: tf.Tensor, labels: tf.Tensor, **known: tf.Tensor) -> tf.Tensor:
        """Return the weight of each image; see `Weighting.__call__`."""
        worst_first = tf.argsort(tf.stop_gradient(known["losses"]), direction="DESCENDING", stable=True)
        rank = tf.cast(tf.argsort(worst_first), tf.float32)
        count = tf.cast(tf.size(worst_first), tf.float32)
        return tf.clip_by_value(self.level * count - rank, 0.0, 1.0) / self.level


@keras.saving.register_keras_serializable("wmr_tf.weights")
@dataclasses.dataclass(frozen=True)
class KLBall(Detached):
    """The worst weights within a KL divergence: `s = exp(-alpha * margin) / mean(exp(-alpha * margin))`, constants.

    alpha is what in each batch gives `KL(s / n || uniform) = mean(s log s) = rho`: the paper's weights at a radius that
    does not depend on how confident the classifier is. They are the worst in this ball for the mean negative margin.

    Args:
        rho: Radius of the ball in nats, >= 0; 0 weights all alike.

    Raises:
        InvalidInput: If rho is negative.

    Example:
        >>> weights = KLBall(0.2)(tf.constant([[0.0, 0.0], [0.0, 1.0], [2.0, 0.0]]), tf.constant([0, 0, 0])).numpy()
        >>> round(float(np.mean(weights * np.log(weights))), 4)
        0.2

    Source: Equation 11 of Zeng et al. 2021; Hu and Hong 2013, Theorem 1, for the form of the worst case.

    Note: alpha is at most 60, as in `Exponential`; where that does not reach rho, as with margins that are all alike,
        the divergence is smaller. It is found by bisection. On several devices each has the ball of its own share.
        Unlike the paper's, the weights count as constants: the attack may not depend on the batch, which alpha does.
    """

    rho: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "rho", nonnegative("rho", self.rho))

    def __call__(self, logits: tf.Tensor, labels: tf.Tensor, **known: tf.Tensor) -> tf.Tensor:
        """Return the weight of each image; see `Weighting.__call__`."""
        return weights_in_ball(probability_margin(logits, labels), self.rho)


def weights_in_ball(values: tf.Tensor, rho: float) -> tf.Tensor:
    """Return the weights within a KL divergence that are worst for the mean of some values, of mean 1, as constants.

    `s = exp(-alpha * value) / mean(exp(-alpha * value))` with the alpha in [0, 60], by bisection, that gives
    `mean(s log s) = rho`; 60 where none does.

    Args:
        values: float32 `[batch]`, the smaller the worse, such as margins.
        rho: Radius of the ball in nats, >= 0.

    Returns:
        float32 `[batch]`, >= 0.

    Example:
        >>> weights = weights_in_ball(tf.constant([0.9, 0.8, 0.1, -0.4]), rho=0.451).numpy()
        >>> round(float(np.log(weights[3] / weights[2])), 2)  # alpha times 0.5
        1.0
    """
    values = tf.stop_gradient(values)

    def halved(k: tf.Tensor, low: tf.Tensor, high: tf.Tensor) -> tuple[Any, ...]:
        middle = (low + high) / 2.0
        weights = _of_mean_1(-middle * values)
        # Rounding may make it negative, and a radius of 0 means alpha 0.
        is_outside = tf.maximum(tf.reduce_mean(tf.math.xlogy(weights, weights)), 0.0) >= rho
        return k + 1, tf.where(is_outside, low, middle), tf.where(is_outside, middle, high)

    begin = (0, tf.constant(0.0), tf.constant(LARGEST_EXPONENT))
    _, alpha, _ = tf.while_loop(lambda k, *_: k < HALVINGS, halved, begin)
    return _of_mean_1(-alpha * values)


def _of_mean_1(log_weights: tf.Tensor) -> tf.Tensor:
    """Return weights `[batch]` divided by their mean, given their logarithms; nothing of it can overflow."""
    return tf.nn.softmax(log_weights) * tf.cast(tf.size(log_weights), tf.float32)
