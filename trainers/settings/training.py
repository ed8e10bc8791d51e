"""How a classifier is trained: the method, and what changes in the course of the epochs."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import wmr_tf
from trainers.settings.base import COMMON, RARE, if_given, setting
from trainers.settings.method import METHOD_SETTINGS, MethodSettings
from wmr_tf.checks import at_least, fraction, nonnegative, one_of, positive, require, within
from wmr_tf.names import METHODS

SCHEDULES = ("milestones", "cosine", "one_cycle")

RISING = 0.25
"""The part of the epochs in which the learning rate of one_cycle rises."""

COARSER = 4
"""How many times longer, and fewer, the steps of the training attack are in coarse epochs."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Training(MethodSettings):
    """A training method, the optimizer, and the course of both; an epoch is a pass over the images.

    What is a fraction of the epochs scales with them, so that short runs keep the shape.
    """

    epochs: int = setting(
        "Passes over the training images; all that is given in fractions of them scales with them.", section=COMMON
    )
    batch_size: int = setting("Images a step, on all devices together.", 128)
    learning_rate: float = setting("Highest learning rate of SGD with momentum 0.9.")
    schedule: str = setting(
        "Course of the learning rate: it drops at milestones, falls to 0 as a cosine, or rises from 0 in the first "
        "quarter of the epochs and then falls to 0 (one_cycle).",
        "milestones",
        choices=SCHEDULES,
    )
    milestones: tuple[float, ...] = setting("Fractions of the epochs at which the learning rate drops.")
    learning_rate_drop: float = setting("Factor by which it drops, in (0, 1].")
    weight_decay: float = setting("As in PyTorch: weight_decay * w is added to the gradient.", 0.0)
    clip_norm: float | None = setting(
        "Largest norm of all gradients together; longer ones are scaled down to it.", section=RARE
    )
    averaging: float | None = setting(
        "Evaluate and keep the exponential moving average of the weights, with this decay a step, in [0, 1).",
        section=RARE,
    )
    awp: float = setting(
        "Adversarial weight perturbation: how far each kernel is moved uphill before the gradient of a step is taken, "
        "in parts of its norm, such as 0.005.",
        0.0,
        section=RARE,
    )
    warm_start: int = setting(
        "Epochs of free, with the same radius, no weights and the learning rate of free's recipe, before the training "
        "itself; its replays count.",
        0,
        section=RARE,
    )
    epsilon_warmup: float = setting(
        "Fraction of the epochs in which the training attack's radius rises.", 0.0, section=RARE
    )
    alpha_warmup: float = setting(
        "Fraction of the epochs in which alpha_train rises; a weighting without it weighs all alike until then.",
        0.0,
        section=RARE,
    )
    coarse: float = setting(
        f"Fraction of the epochs, the first ones, in which the training attack makes 1/{COARSER} of its steps, each "
        f"{COARSER} times as long.",
        0.0,
        section=RARE,
    )

    def check_training(self) -> None:
        """Check all of it.

        Raises:
            InvalidInput: If a setting is out of range, or the method does not take it.
        """
        self.check_method()
        one_of("schedule", self.schedule, SCHEDULES)
        at_least("epochs", self.epochs, 1)
        at_least("batch_size", self.batch_size, 1)
        positive("learning_rate", self.learning_rate)
        fraction("learning_rate_drop", self.learning_rate_drop)
        nonnegative("weight_decay", self.weight_decay)
        if_given(positive, "clip_norm", self.clip_norm)
        nonnegative("awp", self.awp)
        for milestone in self.milestones:
            fix = "Milestones are fractions of the epochs, such as 0.75,0.9."
            require(0 <= milestone <= 1, "milestones", got=milestone, expected="numbers in [0, 1]", fix=fix)
        fix = "Give for instance 0.999, or leave it out."
        is_decay = self.averaging is None or 0 <= self.averaging < 1
        require(is_decay, "averaging", got=self.averaging, expected="a number in [0, 1)", fix=fix)
        at_least("warm_start", self.warm_start, 0)
        for name in ("epsilon_warmup", "alpha_warmup", "coarse"):
            within(name, getattr(self, name), 0, 1)
        self._check_has_course("awp", METHODS[self.method].descends)
        self._check_has_course("warm_start", self.takes("attack"))
        self._check_has_course("epsilon_warmup", self.takes("attack") and not self.takes("radius_growth"))
        self._check_has_course("alpha_warmup", self.takes("alpha"))
        self._check_has_course("coarse", self.takes("attack") and (self.attack_steps or 0) >= COARSER)

    def _check_has_course(self, name: str, is_possible: bool) -> None:
        lacks = {
            "awp": f"{self.method!r} takes the gradient of a step from several passes",
            "warm_start": f"{self.method!r} has no attack",
            "epsilon_warmup": f"{self.method!r} has no attack of one radius",
            "alpha_warmup": f"{self.method!r} has no attacked images to weight",
            "coarse": f"{self.method!r} here has no attack of {COARSER} steps or more",
        }
        expected, fix = f"0, since method {lacks[name]}", f"Leave out --{name} or choose another --method."
        require(is_possible or getattr(self, name) == 0, name, got=getattr(self, name), expected=expected, fix=fix)

    def make_method(self, examples: int | None = None) -> wmr_tf.methods.Method:
        """Return the training method, given those of the settings that it takes, as it is when its course is over.

        Args:
            examples: The number of training images, for a method that keeps something for each of them.

        Raises:
            InvalidInput: If a setting is out of range, or the method needs the number of images and it is not given.
        """
        offered: dict[str, Any] = {parameter: getattr(self, name) for name, parameter in METHOD_SETTINGS.items()}
        offered |= {"alpha": self.make_weighting(), "examples": examples}
        offered["warmup_epochs"] = (self.radius_warmup or 0.0) * self.rounds
        if self.takes("attack"):
            offered["attack"] = self.training_attack()
        return wmr_tf.methods.BY_NAME[self.method](**{k: v for k, v in offered.items() if self.takes(k)})

    @property
    def rounds(self) -> int:
        """How often training goes through the images: `epochs`, with free divided by the replays and rounded up."""
        return math.ceil(self.epochs / (self.replays or 1))

    def learning_rate_at(self, time: float) -> float:
        """Return the learning rate after so many rounds; a milestone within a round rounds, half upwards."""
        if self.schedule == "milestones":
            passed = sum(time >= math.floor(milestone * self.rounds + 0.5) for milestone in self.milestones)
            return self.learning_rate * self.learning_rate_drop**passed
        done, rising = time / self.rounds, RISING if self.schedule == "one_cycle" else 0.0
        if done < rising:
            return self.learning_rate * done / rising
        return self.learning_rate * (1 + math.cos(math.pi * (done - rising) / (1 - rising))) / 2

    def attack_at(self, epoch: int) -> wmr_tf.attacks.Attack:
        """Return the training attack of a round, counted from 0."""
        attack: Any = self.training_attack()
        part = self._risen(self.epsilon_warmup, epoch)
        settings = {"epsilon": attack.epsilon * part, "step_size": attack.step_size * part}
        if self._is_coarse(epoch):
            longest = 1.0 if attack.norm == "linf" else math.inf  # which crosses the box
            settings["step_size"] = min(longest, settings["step_size"] * COARSER)
            settings["steps"] = self.steps_at(epoch)
        return dataclasses.replace(attack, **settings)

    def steps_at(self, epoch: int) -> int:
        """Return how many steps the training attack makes in a round, counted from 0; 0 without an attack."""
        return (self.attack_steps or 0) // (COARSER if self._is_coarse(epoch) else 1)

    def _is_coarse(self, epoch: int) -> bool:
        return epoch < math.floor(self.coarse * self.rounds + 0.5)

    def weighting_at(self, epoch: int) -> wmr_tf.weights.Weighting:
        """Return how attacked images are weighted in a round, counted from 0."""
        weighting: Any = self.make_weighting()
        part = self._risen(self.alpha_warmup, epoch)
        if hasattr(weighting, "alpha"):
            return dataclasses.replace(weighting, alpha=weighting.alpha * part)
        return weighting if part == 1 else wmr_tf.weights.Uniform()

    def _risen(self, warmup: float, epoch: int) -> float:
        """Return which part of its end a value that rises in equal steps has come to; it never is 0."""
        return min(1.0, (epoch + 1) / (warmup * self.rounds + 1))
