"""What an evaluation measured: accuracy under uniform and non-uniform attackers, over a whole set of images."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from wmr_tf.attacks import Attack
from wmr_tf.checks import require
from wmr_tf.evaluation import dro
from wmr_tf.evaluation.choosers import Choosers
from wmr_tf.evaluation.flags import (
    chance_flags,
    constant_flags,
    gap_flags,
    hides,
    small_sample_flags,
    zero_gradient_flags,
)
from wmr_tf.evaluation.radii import Radii
from wmr_tf.evaluation.statistics import Accuracy, weighted_interval
from wmr_tf.evaluation.suite_result import SuiteResult
from wmr_tf.evaluation.temperature import confidence_curve, mean_top_probability
from wmr_tf.evaluation.weighted import WeightedAccuracy, weighted_accuracy
from wmr_tf.losses import cross_entropy
from wmr_tf.weights import probability_margin

CVAR_LEVELS = (1.0, 0.1)
"""The fractions of the images, worst first, whose mean loss is in `metrics.json`."""


@dataclasses.dataclass(frozen=True)
class Logits:
    """What the classifier says of every image, in the order of the data.

    Attributes:
        labels: int32 `[images]`.
        clean: `[images, classes]`, of the images as they are.
        attacked: `[images, classes]`, attacked with the plain cross-entropy.
        weighted: For each alpha_test, `[images, classes]` attacked with `s * cross-entropy`.
    """

    labels: np.ndarray
    clean: np.ndarray
    attacked: np.ndarray
    weighted: Mapping[float, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Robustness:
    """What an evaluation measured: each image's margin and loss, from which every number follows; print it.

    Attributes:
        clean_margins: `[images]`, not attacked.
        margins: `[images]`, attacked with the plain cross-entropy.
        weighted_margins: For each alpha_test, `[images]` attacked with `s * cross-entropy`.
        losses: `[images]`, the cross-entropy of the images of `margins`.
        attack: The test attack, None if it is not known.
        suite: What a suite of stronger attacks has found on the same images, None if there was none.
        zero_gradients: For how many clean images the gradient of the attack's loss is 0 in all values.
        found: Flags that were raised before the attacks.
        logits: What margins and losses were computed from, None if it is not known.
        radii: The smallest radii at which the images are misclassified, None if they were not measured.
        choosers: What attackers know who choose before they see the outcome.
        hashes: SHA-256 digests of "weights" and "data".
        settings: "seed" and "precision" of the test attack.

    Example:
        >>> margins = np.tile([0.5, 0.5, -0.5, 0.5], 50)
        >>> print(Robustness(margins, margins, {1.0: margins}, -margins))
        200 images
        A_nat 75 ± 3 %, A_rob 75 ± 3 %
        alpha_test 1: A_sa 52 ± 4 %, A_tr 52 ± 4 %
    """

    clean_margins: np.ndarray
    margins: np.ndarray
    weighted_margins: Mapping[float, np.ndarray]
    losses: np.ndarray
    attack: Attack | None = None
    suite: SuiteResult | None = None
    zero_gradients: int = 0
    found: Sequence[Mapping[str, Any]] = ()
    logits: Logits | None = None
    radii: Radii | None = None
    choosers: Choosers = Choosers()
    hashes: Mapping[str, str] = dataclasses.field(default_factory=dict)
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @classmethod
    def of(cls, logits: Logits, attack: Attack, **more: Any) -> "Robustness":
        """Return what follows from logits; `more` are further attributes."""

        def margins(of_attack: np.ndarray) -> np.ndarray:
            return probability_margin(of_attack, logits.labels).numpy()

        weighted = {alpha: margins(of_attack) for alpha, of_attack in logits.weighted.items()}
        losses = cross_entropy(logits.attacked, logits.labels).numpy()
        return cls(margins(logits.clean), margins(logits.attacked), weighted, losses, attack, logits=logits, **more)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._conditions()})"

    def __str__(self) -> str:
        """Return the conditions, the accuracies with their standard errors, and what is wrong with the attack."""
        if not self.is_finite:
            return f"{self._conditions()}\nno accuracies: the classifier gave NaN or infinity for some of them"
        strong = f", A_strong {self.A_strong}" if self.A_strong else ""
        lines = [self._conditions(), f"A_nat {self.A_nat}, A_rob {self.A_rob}{strong}"]
        if self.is_masked:
            lines.insert(0, "MASKED")
        lines += [
            f"alpha_test {alpha:g}: A_sa {self.A_sa(alpha)}, A_tr {self.A_tr(alpha)}" for alpha in self.weighted_margins
        ]
        return "\n".join([*lines, *(f"Warning: {flag['message']}" for flag in self.flags)])

    def _conditions(self) -> str:
        return f"{len(self.margins)} images" + (f", {self.attack}" if self.attack else "")

    @property
    def flags(self) -> list[dict[str, Any]]:
        """What is wrong with the figures: of the attack, see `wmr_tf.attacks.Attack.flags`, and of the classifier.

        Each has a "name", a "message" for people, the "value" that was found and its "threshold".
        """
        found = list(self.attack.flags()) if self.attack else []
        if self.is_finite and (strong := self.A_strong) is not None:
            found += gap_flags(self.A_rob.value, strong.value, len(self.margins))
        if self.suite is not None:
            found += self.suite.flags
        if self.logits is not None and self.is_finite:
            found += constant_flags(self.logits.clean.argmax(axis=1), self.clean_margins > 0)
            found += chance_flags(self.clean_margins > 0, self.logits.labels)
        found += map(dict, self.found)
        return found + zero_gradient_flags(self.zero_gradients, len(self.margins)) + self._small_samples()

    @property
    def is_masked(self) -> bool:
        """Whether stronger attacks leave so much less of A_rob that it is not worth printing."""
        strong = self.A_strong if self.is_finite else None
        return strong is not None and hides(self.A_rob.value, strong.value, len(self.margins))

    def _small_samples(self) -> list[dict[str, Any]]:
        """Return the flag of weighted accuracies that rest on few images, none if they do not."""
        if not self.is_finite:
            return []
        sizes = [self.A_sa(alpha).effective_sample_size for alpha in self.weighted_margins]
        sizes += [self.A_tr(alpha).effective_sample_size for alpha in self.weighted_margins]
        return small_sample_flags(min(sizes, default=math.inf), len(self.margins))

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

    @property
    def A_strong(self) -> WeightedAccuracy | None:
        """Accuracy on images that neither the test attack nor the suite has broken; None if there was no suite."""
        if self.suite is None:
            return None
        return weighted_accuracy(np.where(self.is_robust, 1.0, -1.0), 0.0)

    @property
    def is_robust(self) -> np.ndarray:
        """Which images neither the test attack nor the suite, if there was one, has broken `[images]`."""
        return (self.margins > 0) & (self.suite.is_robust if self.suite else True)

    def A_sa(self, alpha: float) -> WeightedAccuracy:
        """Return the accuracy on the images of A_rob, picked by a non-uniform attacker; any alpha, no new attack."""
        return weighted_accuracy(self.margins, alpha)

    def A_tr(self, alpha: float) -> WeightedAccuracy:
        """Return the accuracy on images attacked with the weighted loss, picked by weight; an evaluated alpha."""
        require(
            alpha in self.weighted_margins,
            "alpha",
            got=alpha,
            expected=f"one of the evaluated {', '.join(map(str, self.weighted_margins))}",
            fix="Name it in alpha_test: A_tr needs an attack of its own for each alpha.",
        )
        return weighted_accuracy(self.weighted_margins[alpha], alpha)

    def rho(self, alpha: float) -> float:
        """Return the KL radius, in nats, that the attacker of A_sa(alpha) needs; any alpha, also infinity."""
        return dro.kl_radius(self.margins, alpha)

    def alpha(self, rho: float) -> float:
        """Return the alpha of A_sa's attacker at the KL radius rho, in nats; infinity from the largest radius on."""
        return dro.alpha_for_radius(self.margins, rho)

    def A_worst(self, alpha: float) -> float:
        """Return the lowest accuracy in the KL ball of radius rho(alpha), on the images of A_rob.

        It is never above A_sa(alpha), which is the accuracy where the expected margin is worst.
        """
        return dro.worst_case_accuracy(self.margins, self.rho(alpha))

    def cvar(self, level: float) -> float:
        """Return the mean cross-entropy of the worst fraction `level` of the images of A_rob; level 1 is the mean.

        With restarts these images are the end points of smallest margin, which need not be those of largest loss.
        """
        return dro.cvar(self.losses, level)

    def ball(self, rho: float) -> dict[str, Any]:
        """Return alpha_test, A_sa, rho and A_worst at a KL radius, in nats, in the form of `metrics.json`.

        The standard errors of A_sa and A_worst are for this alpha and this rho; an infinite alpha is "inf".
        """
        alpha = self.alpha(rho)
        found = {"alpha_test": alpha if math.isfinite(alpha) else "inf", **_named("A_sa", self.A_sa(alpha))}
        worst = dro.worst_case_accuracy(self.margins, rho)
        return {
            **found,
            "rho": rho,
            "A_worst": worst,
            "A_worst_stderr": dro.worst_case_mean_stderr(self.margins > 0, rho),
        }

    def metrics(self) -> dict[str, Any]:
        """Return all numbers, accuracies as fractions of 1, in the form of `metrics.json`."""
        found: dict[str, Any] = {"attack": {**self.attack.describe(), **self.settings}} if self.attack else {}
        found |= {
            "examples": len(self.margins),
            **_plain("A_nat", self.clean_margins > 0, self.A_nat),
            **_plain("A_rob", self.margins > 0, self.A_rob),
            **self._strong(),
            "zero_gradients": self.zero_gradients,
            "non_uniform": [self._non_uniform(alpha) for alpha in self.weighted_margins],
            "cvar": [
                {"level": level, "loss": self.cvar(level), "loss_stderr": dro.cvar_stderr(self.losses, level)}
                for level in CVAR_LEVELS
            ],
        }
        if self.logits is not None:
            found["confidence"] = self._confidence(self.logits)
        if self.logits is not None and self.suite is not None:
            correct, robust = self.clean_margins > 0, self.is_robust
            found |= self.choosers.metrics(self.logits.labels, self.logits.clean, correct, robust)
        if self.radii is not None:
            found["threat"] = self.radii.metrics()
        known = {"hashes": dict(self.hashes)} if self.hashes else {}
        return {**found, **known, "flags": self.flags}

    def _strong(self) -> dict[str, Any]:
        strong = self.A_strong
        if self.suite is None or strong is None:
            return {}
        found = _plain("A_strong", self.is_robust, strong)
        return {**found, "masked": self.is_masked, "suite": self.suite.metrics()}

    def _non_uniform(self, alpha: float) -> dict[str, Any]:
        rho = self.rho(alpha)
        return {
            "alpha_test": alpha,
            **_weighted("A_sa", self.margins, alpha),
            **_weighted("A_tr", self.weighted_margins[alpha], alpha),
            "rho": rho,
            "rho_stderr": dro.kl_radius_stderr(self.margins, alpha),
            "A_worst": self.A_worst(alpha),
            "A_worst_stderr": dro.worst_case_accuracy_stderr(self.margins, alpha),
        }

    def _confidence(self, logits: Logits) -> dict[str, Any]:
        """Return A_sa and A_tr on the smallest margins of all attacks, at the present and at other confidences."""
        strongest = [self.suite.outcomes.logits] if self.suite else []
        weighted = {alpha: [of_attack, *strongest] for alpha, of_attack in logits.weighted.items()}
        curve = confidence_curve(logits.clean, [logits.attacked, *strongest], weighted, logits.labels)
        return {"top_probability": mean_top_probability(logits.clean), "curve": curve}


def _plain(name: str, is_correct: np.ndarray, accuracy: WeightedAccuracy) -> dict[str, Any]:
    interval = Accuracy.of(is_correct)
    return {name: accuracy.value, f"{name}_stderr": accuracy.stderr, f"{name}_interval": [interval.low, interval.high]}


def _weighted(name: str, margins: np.ndarray, alpha: float) -> dict[str, Any]:
    interval = weighted_interval(margins, alpha)
    return {**_named(name, weighted_accuracy(margins, alpha)), f"{name}_interval": list(interval)}


def _named(name: str, accuracy: WeightedAccuracy) -> dict[str, float]:
    return {
        name: accuracy.value,
        f"{name}_stderr": accuracy.stderr,
        f"{name}_effective_sample_size": accuracy.effective_sample_size,
    }
