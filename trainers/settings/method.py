"""The settings of a training method: which it takes, and what they may be."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any

import wmr_tf
from trainers.settings.base import Settings, setting
from trainers.settings.weighting import checked_weighting, make_weighting
from wmr_tf.checks import at_least, nonnegative, one_of, radius, require, step, within
from wmr_tf.names import METHODS, NOISE, NORMS, OF_THE_PATH, STARTS, WEIGHTINGS

RECIPES_NORM = "linf"
"""The norm that the radii and step sizes of all recipes are measured in."""

# The settings that a method's constructor takes, and under which name it takes them.
METHOD_SETTINGS = {
    "alpha_train": "alpha",
    "weighting": "alpha",
    "beta": "beta",
    "adversarial_weight": "adversarial_weight",
    "norm": "attack",
    "epsilon": "attack",
    "attack_steps": "attack",
    "attack_step_size": "attack",
    "attack_start": "attack",
    "replays": "replays",
    "passes": "passes",
    "split": "split",
    "radius_growth": "radius_growth",
    "radius_smoothing": "radius_smoothing",
    "radius_warmup": "warmup_epochs",
    "epsilon_max": "epsilon_max",
}


_CHECKS: dict[str, Callable[[str, Any], object]] = {
    "beta": nonnegative,
    "adversarial_weight": nonnegative,
    "replays": functools.partial(at_least, minimum=1),
    "passes": functools.partial(at_least, minimum=1),
    "radius_smoothing": functools.partial(within, low=0, high=1),
    "radius_warmup": functools.partial(within, low=0, high=1),
}


def settings_of_method(method: str | None) -> list[str]:
    """Return the settings that a training method takes, none of one that is not known."""
    taken = METHODS[method].settings if method in METHODS else ()
    return [name for name, parameter in METHOD_SETTINGS.items() if parameter in taken]


@dataclasses.dataclass(frozen=True, kw_only=True)
class MethodSettings(Settings):
    """A training method, its attack, and what else it takes."""

    method: str = setting("Training method: " + ", ".join(METHODS) + ".", "trades")
    alpha_train: float = setting("Power of the non-uniform attacker that is trained against; 0 is the baseline.")
    weighting: str = setting(
        "How attacked images are weighted: " + ", ".join(WEIGHTINGS) + ", with options such as "
        "exponential:normalize=true (weights divided by their mean over the batch) or cvar:level=0.5; alpha_train is "
        "that of exponential.",
        "exponential",
    )
    beta: float | None = setting("Weight of the divergence in TRADES (the paper's 1/lambda) and MART.")
    adversarial_weight: float | None = setting("Weight of the adversarial loss in mixed, the lambda of Equation 8.")
    norm: str = setting("Norm of the training attack: " + ", ".join(NORMS) + ".", RECIPES_NORM)
    epsilon: float | None = setting(
        "Radius of the training attack in its norm, in units of the image range [0, 1], such as 8/255 or 0.031."
    )
    attack_steps: int | None = setting("Steps of the training attack.")
    attack_step_size: float | None = setting("Step size of the training attack; it follows --epsilon.")
    attack_start: str | None = setting("Start of the training attack: uniform, gaussian, none or noise (N-FGSM).")
    replays: int | None = setting("How often free trains on each batch; the epochs are divided by it.")
    passes: int | None = setting("Full passes of YOPO for each batch, the m of YOPO-m-n; n is attack_steps.")
    split: str | None = setting("Layer that YOPO's first part ends with; the first convolution if not given.")
    radius_growth: float | None = setting("By how much IAAT lets an image's radius grow or shrink.")
    radius_smoothing: float | None = setting("Fraction of that by which the radius moves, in [0, 1].")
    radius_warmup: float | None = setting("Fraction of the epochs in which IAAT's radii stay as they are.")
    epsilon_max: float | None = setting("The largest radius of IAAT.")

    def check_method(self) -> None:
        """Check all of it.

        The method and its attack make most of these checks themselves, but too late: they need TensorFlow.

        Raises:
            InvalidInput: If a setting is out of range, or the method does not take it.
        """
        one_of("method", self.method, METHODS)
        one_of("norm", self.norm, NORMS)
        nonnegative("alpha_train", self.alpha_train)
        self._check_taken()
        weighting, _ = checked_weighting(self.weighting, self.alpha_train)
        if self.takes("attack"):
            self._check_attack()
        if weighting in OF_THE_PATH:
            has_path = METHODS[self.method].path and self.attack_start != NOISE
            expected = f"another one, since method {self.method!r} cannot tell how long an image withstood its attack"
            fix = "Take --method=pgd or trades, or another --weighting."
            require(has_path, "weighting", got=self.weighting, expected=expected, fix=fix)
        for name, check in _CHECKS.items():
            if self.takes(METHOD_SETTINGS[name]):
                check(name, getattr(self, name))
        if self.takes("radius_growth"):
            radius("radius_growth", self.radius_growth, self.norm)
        if self.epsilon_max is not None:
            radius("epsilon_max", self.epsilon_max, self.norm)
            within("epsilon_max", self.epsilon_max, self.epsilon or 0.0, math.inf)

    def takes(self, parameter: str) -> bool:
        """Return whether the method's constructor takes an argument."""
        return parameter in METHODS[self.method].settings

    def make_weighting(self) -> wmr_tf.weights.Weighting:
        """Return how the training method weights attacked images."""
        return make_weighting(self.weighting, self.alpha_train)

    def training_attack(self) -> wmr_tf.attacks.Attack:
        """Return the attack that the method trains against."""
        settings: dict[str, Any] = {"epsilon": self.epsilon, "step_size": self.attack_step_size}
        if self.attack_start == NOISE:
            return wmr_tf.attacks.NFGSM(**settings)
        settings |= {"steps": self.attack_steps, "start": self.attack_start, "norm": self.norm}
        return wmr_tf.attacks.PGD(**settings)

    def _check_taken(self) -> None:
        """Check that the method takes the settings that are given."""
        unset = {field.name: field.default for field in dataclasses.fields(self)}
        for name, parameter in METHOD_SETTINGS.items():
            require(
                self.takes(parameter) or getattr(self, name) == unset[name] or name == "alpha_train",
                name,
                got=getattr(self, name),
                expected=f"nothing, since method {self.method!r} has no {parameter}",
                fix=f"Leave out --{name} or choose another --method.",
            )
        require(
            self.takes("alpha") or self.alpha_train == 0,
            "alpha_train",
            got=self.alpha_train,
            expected=f"0, since method {self.method!r} has no attacked images to weight",
            fix="Leave out --alpha_train or choose another --method.",
        )

    def _check_attack(self) -> None:
        radius("epsilon", self.epsilon, self.norm)
        step("attack_step_size", self.attack_step_size, self.norm)
        steps = at_least("attack_steps", self.attack_steps, 1)
        start = one_of("attack_start", self.attack_start, [*STARTS, NOISE])
        if start == NOISE:
            fix = "Take --norm=linf or another --attack_start."
            require(self.norm == "linf", "norm", got=self.norm, expected="linf with --attack_start=noise", fix=fix)
            expected = "1 with --attack_start=noise, which is N-FGSM"
            require(steps == 1, "attack_steps", got=steps, expected=expected, fix="Take --method=n_fgsm.")
        method, takes = f"method {self.method!r}", METHODS[self.method]
        fix = "Leave out --attack_start or choose another --method."
        expected = f"{' or '.join(takes.starts)} with {method}"
        require(start in takes.starts, "attack_start", got=start, expected=expected, fix=fix)
        expected, fix = f"{takes.steps} with {method}", "Leave out --attack_steps or choose another --method."
        require(takes.steps in (None, steps), "attack_steps", got=steps, expected=expected, fix=fix)
