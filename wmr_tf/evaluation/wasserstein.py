"""An attacker with a budget on the average perturbation, which it distributes over the images: a Wasserstein ball."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from wmr_tf.attacks.base import input_gradient
from wmr_tf.checks import at_least, order, positive, radius, require
from wmr_tf.engine.frozen import freeze_in
from wmr_tf.engine.memory import AT_MOST, images_at_once
from wmr_tf.engine.precision import full_float32
from wmr_tf.engine.progress import Progress
from wmr_tf.evaluation.robustness import WeightedAccuracy, weighted_accuracy
from wmr_tf.inputs.batches import batches_of, checked_batches
from wmr_tf.losses import unsaturated_cross_entropy
from wmr_tf.weights import probability_margin

BISECTIONS = 32


@dataclasses.dataclass(frozen=True, kw_only=True)
class WassersteinAttack:
    """Ascends on the linearised loss, step by step, under a budget on the average perturbation.

    The budget is `mean_i(||delta_i||_inf^p) <= epsilon^p` over the whole set. Each step goes to the maximiser of
    `sum_i <g_i, delta_i>`, g_i the gradient of image i, among all perturbations of the whole set within the budget,
    within [0, 1], and within step_size of the present ones. That is the step of PGD,
    `clip(x' + step_size * sign(g), x - r_i, x + r_i)`, with a radius r_i for each image; without box and step_size
    `r_i ~ ||g_i||_1^(1 / (p - 1))`, so fragile images get a large share.

    Args:
        epsilon: The budget, >= 0, in units of the images' range [0, 1].
        step_size: How far a pixel moves in a step, > 0. No pixel moves further than `reach = steps * step_size`: with
            a reach of several epsilon, fragile images can get more than the average.
        steps: Number of steps, >= 1.
        p: Order of the budget, >= 1.01; infinity is the budget per image, and the attack is PGD from the clean image.

    Raises:
        InvalidInput: If a setting is out of range.

    Example:
        >>> images, gradients = np.full([2, 2], 0.5, np.float32), np.array([[9, 9], [3, 3]], np.float32)
        >>> WassersteinAttack(epsilon=0.1, step_size=0.2, steps=1, p=2.0)(lambda x: gradients, images)[:, 0].round(3)
        array([0.634, 0.545], dtype=float32)

    Source: Staib and Jegelka 2017, for the budget and its linear problem, the ball of a mixed norm.

    Note: This is not their Frank-Wolfe rule, which averages, `delta <- (1 - gamma) delta + gamma * maximiser`, with the
        maximiser over the whole ball. Ours is the maximiser over a trust region of step_size, without an average. It
        needs no schedule, equals PGD when p is infinite (the average does not), and reaches as high a loss in as many
        steps (tested on a small network: mean losses within 0.01 after 20 steps of 5 epsilon / 20). The box [0, 1] is
        part of the linear problem, so that clipping wastes no budget. Orders below 1.01 are refused: there the budget
        goes to the images of the largest gradients, and rounding decides which these are.
    """

    epsilon: float
    step_size: float
    steps: int
    p: float = 2.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "epsilon", radius("epsilon", self.epsilon, "linf"))
        object.__setattr__(self, "step_size", positive("step_size", self.step_size))
        at_least("steps", self.steps, 1)
        order("p", self.p)

    def __call__(self, gradients_of: Callable[[np.ndarray], np.ndarray], x: np.ndarray) -> np.ndarray:
        """Return attacked images.

        Args:
            gradients_of: Maps all images `[images, ...]` to the gradient of each one's loss, of the same shape.
            x: All clean images, float32 in [0, 1].

        Returns:
            float32, shaped as `x`, in [0, 1], within the budget.
        """
        attacked, step_size = x, np.float32(self.step_size)
        for _ in range(self.steps):
            gradients = gradients_of(attacked)
            radii = self._radii(x, attacked, gradients).reshape([-1] + [1] * (x.ndim - 1))
            ascended = attacked + step_size * np.sign(gradients)
            attacked = np.clip(ascended, np.maximum(x - radii, 0), np.minimum(x + radii, 1))
        return attacked

    @property
    def reach(self) -> float:
        """How far a pixel can move from the clean image, even with an unlimited budget: `steps * step_size`."""
        return self.steps * self.step_size

    def describe(self) -> dict[str, Any]:
        """Return norm and settings as plain values, as `metrics.json` prints them; JSON has no infinity."""
        return {"norm": "linf", **dataclasses.asdict(self), "p": self.p if math.isfinite(self.p) else "inf"}

    def _radii(self, x: np.ndarray, attacked: np.ndarray, gradients: np.ndarray) -> np.ndarray:
        """Return each image's share of the budget in the linear problem, float32 `[images]`.

        A radius r_i gains `sum_k |g_k| min(r_i, room_k)`, where room_k is how far pixel k may be from the clean image
        in the direction of its gradient. At the optimum this gain's slope equals that of the cost, `~ r_i^(p-1)`; and
        the slope at r is the sum of |g_k| over the pixels with more room than r. With the rooms in order and these sums
        to the power 1 / (p - 1) as pulls, that is `r_i = max_k min(room_k, scale * pull_k)` with one scale for all. In
        logarithms, since pulls of a p near 1 leave the range of floats: those of weak images would be 0.
        """
        if self.epsilon == 0 or math.isinf(self.p):
            return np.full(len(x), self.epsilon, np.float32)
        rooms, pulls = self._rooms_and_pulls(x, attacked, gradients)
        # An image cannot give back more than step_size of what it has.
        floor = np.maximum(_sizes(attacked - x) - np.float32(self.step_size), 0)

        def radii_at(scale: float) -> np.ndarray:
            return np.maximum(floor, np.exp2(np.minimum(rooms, np.float32(scale) + pulls).max(axis=1)))

        # From where the strongest pull of all, 1, buys next to nothing to where the weakest buys all the room.
        low, high = math.log2(self.epsilon) - 30, -float(pulls.min(initial=0, where=pulls > -np.inf))
        for _ in range(BISECTIONS):
            middle = (low + high) / 2
            fits = _power_mean(radii_at(middle), self.p) <= self.epsilon
            low, high = (middle, high) if fits else (low, middle)
        return radii_at(low)

    def _rooms_and_pulls(
        self, x: np.ndarray, attacked: np.ndarray, gradients: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the logarithms, to base 2, of all rooms, in rising order for each image, and of all pulls."""
        signs = np.sign(gradients)
        box = np.where(signs > 0, 1 - x, x)
        rooms = np.minimum(signs * (attacked - x) + np.float32(self.step_size), box).reshape(len(x), -1)
        slopes = np.abs(gradients).reshape(rooms.shape)
        order = np.argsort(rooms, axis=1)
        rooms, slopes = (np.take_along_axis(values, order, axis=1) for values in (rooms, slopes))
        slopes = np.cumsum(slopes[:, ::-1], axis=1)[:, ::-1]  # of all pixels with at least this room
        with np.errstate(divide="ignore"):  # the logarithm of nothing is -inf, as it should be
            rooms, slopes = np.log2(np.maximum(rooms, 0)), np.log2(slopes)
        strongest = slopes.max()
        return rooms, (slopes - strongest if strongest > -np.inf else slopes) / np.float32(self.p - 1)


@dataclasses.dataclass(frozen=True)
class WassersteinRobustness:
    """The outcome of an attack with a budget on the average perturbation.

    Attributes:
        attack: The attack.
        images: The attacked images `[images, ...]`, float32 in [0, 1].
        margins: Their probability margins `[images]`.
        sizes: How far each was moved, `||delta_i||_inf`, `[images]`.
    """

    attack: WassersteinAttack
    images: np.ndarray
    margins: np.ndarray
    sizes: np.ndarray

    @property
    def accuracy(self) -> WeightedAccuracy:
        """Accuracy on the attacked images, all picked alike."""
        return weighted_accuracy(self.margins, 0.0)

    @property
    def mean_size(self) -> float:
        """`mean_i(||delta_i||_inf^p)^(1/p)`, how much of the budget epsilon was used; for p = inf the largest size."""
        return _power_mean(self.sizes, self.attack.p)

    def metrics(self) -> dict[str, Any]:
        """Return the attack, its reach, how much of both it used, and the accuracy, as in `metrics.json`."""
        used = {"mean_size": self.mean_size, "largest_size": float(self.sizes.max()), "reach": self.attack.reach}
        accuracy = {"accuracy": self.accuracy.value, "accuracy_stderr": self.accuracy.stderr}
        return {**self.attack.describe(), **used, **accuracy}


@full_float32()
def evaluate_wasserstein(
    classifier: keras.Model,
    data: tf.data.Dataset | tuple[Any, Any],
    attack: WassersteinAttack,
    *,
    batch_size: int | None = None,
    verbose: int = 1,
) -> WassersteinRobustness:
    """Attack all of `data` with a budget on the average perturbation, and return the outcome.

    The attack maximises the mean cross-entropy, see `wmr_tf.losses.unsaturated_cross_entropy`, in float32, without
    randomness. It does not maximise the number of errors: much of the budget may go to images that are wrong already.

    Args:
        classifier: A Keras model of images, float32 in [0, 1], that returns logits `[batch, classes]`.
        data: Batches of (images, labels) as a `tf.data.Dataset`, or a pair of arrays.
        attack: The attack.
        batch_size: Images in one pass, at most; as many as fit a memory budget if not given, see
            `wmr_tf.engine.memory.images_at_once`. Results depend on it only by rounding.
        verbose: 1 shows a progress bar, 2 prints a line a minute, 0 nothing.

    Returns:
        Attacked images, their margins, the accuracy, and how much of the budget was used.

    Raises:
        InvalidInput: If data, classifier or a setting is not what it should be.

    Example:
        >>> attack = WassersteinAttack(epsilon=0.1, step_size=0.01, steps=40, p=2.0)
        >>> result = evaluate_wasserstein(classifier, test, attack, verbose=0)
        >>> 0 <= result.accuracy.value <= 1
        True

    Source: Staib and Jegelka 2017.

    Note: All images, perturbations, gradients and sorted pixels are in the host's memory at once, about ten times the
        images in float32: 0.3 GB for 10,000 of MNIST, 1.2 GB for 10,000 of CIFAR-10.
    """
    fix = "Pass for instance WassersteinAttack(epsilon=0.1, step_size=0.01, steps=40, p=2.0)."
    is_one = isinstance(attack, WassersteinAttack)
    require(is_one, "attack", got=repr(attack), expected="a WassersteinAttack", fix=fix)
    batches = checked_batches(classifier, batches_of(data, batch_size or AT_MOST))
    batches = batches.split(batch_size or images_at_once(classifier, batches[0][0].shape[1:]))
    specs = [tf.TensorSpec([None, *batches[0][0].shape[1:]]), tf.TensorSpec([None], tf.int32)]
    progress = Progress(len(batches) * (attack.steps + 1), unit="pass", verbose=verbose)

    @tf.function(autograph=False, input_signature=specs)
    def gradients(images: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        logits_of = freeze_in("float32", classifier)
        return input_gradient(lambda x: unsaturated_cross_entropy(logits_of(x), labels), images)

    @tf.function(autograph=False, input_signature=specs)
    def margins(images: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        return probability_margin(freeze_in("float32", classifier)(images), labels)

    ends = np.cumsum([len(labels) for _, labels in batches])[:-1]

    def of_all(function: Callable[..., tf.Tensor], images: np.ndarray) -> np.ndarray:
        parts = []
        for part, (_, labels) in zip(np.split(images, ends), batches, strict=True):
            parts.append(function(tf.constant(part), labels).numpy())
            progress.add(1)
        return np.concatenate(parts)

    x = np.concatenate([images.numpy() for images, _ in batches])
    attacked = attack(lambda images: of_all(gradients, images), x)
    return WassersteinRobustness(attack, attacked, of_all(margins, attacked), _sizes(attacked - x))


def _sizes(perturbations: np.ndarray) -> np.ndarray:
    return np.abs(perturbations).reshape(len(perturbations), -1).max(axis=1)


def _power_mean(sizes: np.ndarray, p: float) -> float:
    """Return `mean(sizes^p)^(1/p)`, the largest size for p = inf."""
    largest = float(sizes.max())
    if largest == 0 or math.isinf(p):
        return largest
    return largest * float(np.mean((sizes.astype(np.float64) / largest) ** p) ** (1 / p))  # so no power overflows
