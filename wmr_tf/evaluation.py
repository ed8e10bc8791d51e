"""Accuracy under uniform and non-uniform attackers, over a whole set of images."""

import dataclasses
import math
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from wmr_tf import dro, seeds
from wmr_tf.attacks import Attack
from wmr_tf.checks import alphas, at_least, one_of, require
from wmr_tf.checks import seed as checked_seed
from wmr_tf.classifier import check_batched, check_batches, check_first_batch
from wmr_tf.distribution import shared
from wmr_tf.frozen import Network, freeze
from wmr_tf.losses import cross_entropy, weighted_cross_entropy
from wmr_tf.precision import COMPUTE, float32_compute
from wmr_tf.weights import class_indices, probability_margin

CVAR_LEVELS = (1.0, 0.1)
"""The fractions of the images, worst first, whose mean loss `metrics.json` has."""


class WeightedAccuracy(NamedTuple):
    """An accuracy under an attacker who picks images in proportion to `exp(-alpha * margin)`."""

    value: float
    """`sum(s~ * correct)`, a fraction of 1."""
    stderr: float
    """`sqrt(sum(s^2 (correct - value)^2)) / sum(s)`."""
    effective_sample_size: float
    """`sum(s)^2 / sum(s^2)`, a number of images."""


def weighted_accuracy(margins: np.ndarray, alpha: float) -> WeightedAccuracy:
    """Returns the accuracy under the attacker of power alpha, who has attacked every image to these margins.

    `s = exp(-alpha * margin)`, normalised over the whole set; an image is correct iff its margin is positive.

    Args:
        margins: Floats `[images]` in [-1, 1].
        alpha: The attacker's power, >= 0; 0 gives the plain accuracy, infinity that on the most fragile images.

    Returns:
        Value, standard error and effective sample size.

    Raises:
        InvalidInput: If there are no images, a margin is not finite, or alpha is negative.

    Example:
        >>> weighted_accuracy(np.array([0.5, 0.5, -0.5, 0.5]), alpha=1.0).value
        0.5246331135813284

    Source: Equations 18 and 19 of Zeng et al. 2021, with alpha = 0 Equation 17; the standard error is that of a
        self-normalised importance sampling estimate.
    """
    margins = dro.finite("margins", margins)
    weights = dro.tilt(margins, alpha)
    correct = margins > 0
    value = np.sum(weights * correct) / np.sum(weights)
    stderr = np.sqrt(np.sum(weights**2 * (correct - value) ** 2)) / np.sum(weights)
    return WeightedAccuracy(float(value), float(stderr), float(np.sum(weights) ** 2 / np.sum(weights**2)))


@dataclasses.dataclass(frozen=True)
class Robustness:
    """What an evaluation measured: each image's margin and loss, from which every number follows.

    Attributes:
        clean_margins: `[images]`, not attacked.
        margins: `[images]`, attacked with the plain cross-entropy.
        weighted_margins: For each alpha_test, `[images]` attacked with `s * cross-entropy`.
        losses: `[images]`, the cross-entropy of the images of `margins`.
    """

    clean_margins: np.ndarray
    margins: np.ndarray
    weighted_margins: Mapping[float, np.ndarray]
    losses: np.ndarray

    @property
    def is_finite(self) -> bool:
        """Whether every margin is a number: a classifier that has diverged gives NaN."""
        return all(np.isfinite(of).all() for of in (self.clean_margins, self.margins, *self.weighted_margins.values()))

    @property
    def A_nat(self) -> WeightedAccuracy:
        """Accuracy on clean images."""
        return weighted_accuracy(self.clean_margins, 0.0)

    @property
    def A_rob(self) -> WeightedAccuracy:
        """Accuracy on images attacked with the plain cross-entropy, all picked alike."""
        return weighted_accuracy(self.margins, 0.0)

    def A_sa(self, alpha: float) -> WeightedAccuracy:
        """Accuracy on the images of A_rob, picked by a non-uniform attacker; any alpha, no new attack."""
        return weighted_accuracy(self.margins, alpha)

    def A_tr(self, alpha: float) -> WeightedAccuracy:
        """Accuracy on images attacked with the weighted loss and picked by weight; an alpha that was evaluated."""
        require(
            alpha in self.weighted_margins,
            "alpha",
            got=alpha,
            expected=f"one of the evaluated {', '.join(map(str, self.weighted_margins))}",
            mend="Name it in alpha_test: A_tr needs an attack of its own for each alpha.",
        )
        return weighted_accuracy(self.weighted_margins[alpha], alpha)

    def rho(self, alpha: float) -> float:
        """Radius, in nats, of the KL ball that the attacker of A_sa(alpha) uses up; any alpha, also infinity."""
        return dro.kl_radius(self.margins, alpha)

    def alpha(self, rho: float) -> float:
        """Power of the attacker of A_sa that the KL radius rho, in nats, buys; infinity from the largest one on."""
        return dro.alpha_for_radius(self.margins, rho)

    def A_worst(self, alpha: float) -> float:
        """Lowest accuracy in the KL ball of radius rho(alpha), on the images of A_rob; never above A_sa(alpha).

        A_sa is the accuracy where the expected margin is worst, this one where the accuracy itself is.
        """
        return dro.worst_case_accuracy(self.margins, self.rho(alpha))

    def cvar(self, level: float) -> float:
        """Mean cross-entropy of that fraction of the images of A_rob where it is largest; level 1 is the mean.

        With restarts these images are the end points of smallest margin, which need not be those of largest loss.
        """
        return dro.cvar(self.losses, level)

    def ball(self, rho: float) -> dict[str, Any]:
        """Returns what a KL radius buys, in nats, in the form of `metrics.json`: alpha_test, A_sa, rho, A_worst.

        The standard errors of A_sa and A_worst are for this alpha and this rho; an infinite alpha is "inf".
        """
        alpha = self.alpha(rho)
        found = {"alpha_test": alpha if math.isfinite(alpha) else "inf", **_named("A_sa", self.A_sa(alpha))}
        return {**found, "rho": rho, **self._worst(rho)}

    def metrics(self) -> dict[str, Any]:
        """Returns all numbers, accuracies as fractions of 1, in the form of `metrics.json`."""
        return {
            "examples": len(self.margins),
            "A_nat": self.A_nat.value,
            "A_nat_stderr": self.A_nat.stderr,
            "A_rob": self.A_rob.value,
            "A_rob_stderr": self.A_rob.stderr,
            "non_uniform": [self._non_uniform(alpha) for alpha in self.weighted_margins],
            "cvar": [
                {"level": level, "loss": self.cvar(level), "loss_stderr": dro.cvar_stderr(self.losses, level)}
                for level in CVAR_LEVELS
            ],
        }

    def _non_uniform(self, alpha: float) -> dict[str, float]:
        row = {"alpha_test": alpha, **_named("A_sa", self.A_sa(alpha)), **_named("A_tr", self.A_tr(alpha))}
        rho = self.rho(alpha)
        return {**row, "rho": rho, "rho_stderr": dro.kl_radius_stderr(self.margins, alpha), **self._worst(rho)}

    def _worst(self, rho: float) -> dict[str, float]:
        return {
            "A_worst": dro.worst_case_accuracy(self.margins, rho),
            "A_worst_stderr": dro.worst_case_mean_stderr(self.margins > 0, rho),
        }


def _named(name: str, accuracy: WeightedAccuracy) -> dict[str, float]:
    return {
        name: accuracy.value,
        f"{name}_stderr": accuracy.stderr,
        f"{name}_effective_sample_size": accuracy.effective_sample_size,
    }


class RobustnessEvaluator:
    """Evaluates one classifier again and again with one trace of the attack, as a callback needs it.

    The classifier is scored in float32 whatever precision it trains in, and attacked so unless told otherwise.

    Args:
        classifier: A Keras model that returns logits.
        attack: The test attack; among its restarts each image keeps the smallest margin.
        alpha_test: Powers of the non-uniform attacker, each >= 0; none gives A_nat, A_rob and A_sa in one attack.
        seed: Of the attack's random start, which is keyed by the image's position in the data.
        attack_precision: "float32", or "bfloat16" for gradients that are faster to have, where the processor has it,
            and less exact: no headline number should rest on it.

    Raises:
        InvalidInput: If an alpha is negative or not finite, or there is no such precision.

    Example:
        >>> evaluator = RobustnessEvaluator(classifier, attack, alpha_test=(1.0, 2.0))
        >>> evaluator(test, verbose=0).A_sa(2.0).value
    """

    def __init__(
        self,
        classifier: keras.Model,
        attack: Attack,
        *,
        alpha_test: Iterable[float] | float = (1.0,),
        seed: int = 0,
        attack_precision: str = "float32",
    ) -> None:
        self.classifier = classifier
        self.alphas = alphas("alpha_test", alpha_test, minimum=0)
        seed = checked_seed(seed)
        one_of("attack_precision", attack_precision, COMPUTE)

        @tf.function(autograph=False)
        def clean_margins(images: tf.Tensor, labels: tf.Tensor):
            return (probability_margin(freeze_in("float32", classifier)(images), labels),)

        @tf.function(autograph=False)
        def attacked_margins(images: tf.Tensor, labels: tf.Tensor, positions: tf.Tensor, alpha: tf.Tensor):
            used = {"float32", attack_precision}
            # Here, so that every call reads the weights as they are by then.
            logits_of = {precision: freeze_in(precision, classifier) for precision in sorted(used)}
            attacked = attack(
                lambda x: weighted_cross_entropy(logits_of[attack_precision](x), labels, alpha),
                images,
                seed=seeds.by_position(seed, positions),
                score_fn=lambda x: probability_margin(logits_of["float32"](x), labels),
            )
            logits = logits_of["float32"](attacked)
            return probability_margin(logits, labels), cross_entropy(logits, labels)

        self._clean_margins = clean_margins
        self._attacked_margins = attacked_margins
        self._on_replicas = [shared(classifier.distribute_strategy, f) for f in (clean_margins, attacked_margins)]

    def __call__(self, data: tf.data.Dataset, *, verbose: int = 1) -> Robustness:
        """Attacks every image of `data` once for A_rob and A_sa, and once for each alpha_test for A_tr.

        A classifier made under a distribution strategy is evaluated on all its replicas, each with its share of each
        batch; every process gets all results.

        Args:
            data: Batches of (images, labels), the same images in the same order each time.
            verbose: 1 shows a progress bar, 0 nothing.

        Returns:
            Margins and losses, and the accuracies that follow.

        Raises:
            InvalidInput: If a batch is not what it should be, or there is none.
        """
        batches = checked_batches(self.classifier, data)
        # The attack of alpha 0 is the plain one, so that one function serves all.
        attacks = [0.0, *self.alphas]
        clean: list[tf.Tensor] = []
        attacked: list[list[np.ndarray]] = [[] for _ in attacks]  # margins and losses `[2, batch]` of each batch
        progress = keras.utils.Progbar(len(batches) * len(attacks), verbose=verbose, unit_name="attack")
        position = 0
        clean_margins, attacked_margins = self._on_replicas
        self._trace(batches[0][0])
        for images, labels in batches:
            positions = tf.range(position, position + len(images))
            position += len(images)
            clean.extend(clean_margins(images, labels))
            for scores, alpha in zip(attacked, attacks, strict=True):
                scores.append(np.stack(attacked_margins(images, labels, positions, tf.constant(alpha))))
                progress.add(1)
        (margins, losses), *weighted = (np.concatenate(scores, axis=1) for scores in attacked)
        weighted_margins = {alpha: scores[0] for alpha, scores in zip(self.alphas, weighted, strict=True)}
        return Robustness(np.concatenate(clean), margins, weighted_margins, losses)

    def _trace(self, images: tf.Tensor) -> None:
        """Traces both functions, once, for batches of any size: the last one is often smaller."""
        specs = [tf.TensorSpec([None, *images.shape[1:]], tf.float32), tf.TensorSpec([None], tf.int32)]
        self._clean_margins.get_concrete_function(*specs)
        self._attacked_margins.get_concrete_function(*specs, tf.TensorSpec([None], tf.int32), tf.TensorSpec([]))


def evaluate_robustness(
    classifier: keras.Model,
    data: tf.data.Dataset | tuple[Any, Any],
    attack: Attack,
    *,
    alpha_test: Iterable[float] | float = (1.0,),
    seed: int = 0,
    batch_size: int = 256,
    verbose: int = 1,
    attack_precision: str = "float32",
) -> Robustness:
    """Returns A_nat, A_rob, and A_sa, A_tr and A_worst for every alpha_test, and CVaR, over all of `data`.

    Args:
        classifier: A Keras model of images, float32 in [0, 1], that returns logits `[batch, classes]`.
        data: Batches of (images, labels) as a `tf.data.Dataset`, or a pair of arrays.
        attack: The test attack; among its restarts each image keeps the smallest margin.
        alpha_test: Powers of the non-uniform attacker, one or several, each >= 0.
        seed: Of the attack's random start, which is keyed by the image's position in the data.
        batch_size: Images attacked together; no result depends on it but for rounding.
        verbose: 1 shows a progress bar, 0 nothing.
        attack_precision: "float32", or "bfloat16" for a faster and less exact attack; scored in float32 all the same.

    Returns:
        Margins and losses, and the accuracies that follow; `.metrics()` gives them as plain values.

    Raises:
        InvalidInput: If data, classifier or a setting is not what it should be.

    Example:
        >>> result = evaluate_robustness(classifier, test, PGD(epsilon=0.3, step_size=0.01, steps=40), alpha_test=[2.0])
        >>> result.A_rob.value, result.A_sa(2.0).value, result.A_tr(2.0).value

    Source: Equations 17 to 19 of Zeng et al. 2021.
    """
    batches = in_batches(classifier, data, batch_size)
    evaluator = RobustnessEvaluator(
        classifier, attack, alpha_test=alpha_test, seed=seed, attack_precision=attack_precision
    )
    return evaluator(batches, verbose=verbose)


def in_batches(classifier: keras.Model, data: tf.data.Dataset | tuple[Any, Any], batch_size: int) -> tf.data.Dataset:
    """Returns a data set or a pair of arrays in batches of `batch_size`.

    Raises:
        InvalidInput: If the size is no whole number >= 1, or the data are not what the classifier takes.
    """
    at_least("batch_size", batch_size, 1)
    if not isinstance(data, tf.data.Dataset):
        check_first_batch(classifier, data)
        data = tf.data.Dataset.from_tensor_slices(tuple(data)).batch(batch_size)
    check_batched(data)
    return data.rebatch(batch_size)


def checked_batches(classifier: keras.Model, data: Iterable[Any]) -> list[tuple[tf.Tensor, tf.Tensor]]:
    """Returns all batches as float32 images and int32 class indices.

    Raises:
        InvalidInput: If a batch is not what it should be, or there is none.
    """
    given = list(data)
    with float32_compute(classifier):
        check_batches(classifier, given)  # as given: a cast may hide what is wrong
    return [(tf.cast(images, tf.float32), class_indices(labels)) for images, labels, *_ in given]


def freeze_in(precision: str, classifier: keras.Model) -> Network:
    """Returns `freeze(classifier)` computing in "float32" or "bfloat16", whatever precision the classifier is in."""
    with COMPUTE[precision](classifier):
        network = freeze(classifier)

    def logits(images: tf.Tensor) -> tf.Tensor:
        with COMPUTE[precision](classifier):
            return network(images)

    return logits
