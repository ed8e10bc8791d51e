"""Every setting of a run, once: the flags, the tuner and the report's captions derive from these dataclasses."""

import dataclasses
import math
from typing import Any, Self

from trainers.recipes import ARCHITECTURES, recipe
from wmr_tf import attacks, data, methods
from wmr_tf.checks import alphas, at_least, nonnegative, one_of, positive, require
from wmr_tf.checks import seed as checked_seed
from wmr_tf.precision import has_bfloat16

PRECISIONS = {"float32": "float32", "bfloat16": "mixed_bfloat16", "float16": "mixed_float16"}

# The settings that a method's constructor takes, and under which name it takes them.
METHOD_SETTINGS = {
    "alpha_train": "alpha",
    "beta": "beta",
    "epsilon": "attack",
    "attack_steps": "attack",
    "attack_step_size": "attack",
    "attack_start": "attack",
}


def setting(description: str, default: Any = None) -> Any:
    """Returns a dataclass field; a default of None means the recipe's, or none at all."""
    return dataclasses.field(default=default, metadata={"help": description})


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evaluation:
    """How a classifier is evaluated, on which data."""

    dataset: str = setting("Data set.")
    alpha_test: tuple[float, ...] = setting("Powers of the non-uniform attacker, with commas.", (1.0, 1.5, 2.0))
    eval_epsilon: float = setting("Radius of the test attack, in units of the image range [0, 1].")
    eval_attack_steps: int = setting("Steps of the test attack.")
    eval_attack_step_size: float = setting("Step size of the test attack.")
    eval_restarts: int = setting("Restarts of the test attack; each image keeps the smallest margin.", 1)
    eval_examples: int | None = setting("How many test images to evaluate, the first ones; all if not given.")
    seed: int = setting("Seed of weights, order, augmentation and attacks.", 0)
    data_dir: str | None = setting("Where tensorflow-datasets keeps prepared data; only read if it is there.")
    output_dir: str | None = setting("The run's own folder.")

    @classmethod
    def of(cls, dataset: str, method: str = "trades", **changes: Any) -> Self:
        """Returns the recipe of a data set and method with some settings changed.

        Raises:
            InvalidInput: If a setting is unknown or out of range.
        """
        names = [field.name for field in dataclasses.fields(cls)]
        for name in changes:
            one_of("setting", name, names)
        settings = {"method": method, **recipe(dataset, method)}
        return cls(dataset=dataset, **{name: settings[name] for name in names if name in settings} | changes)

    def __post_init__(self) -> None:
        one_of("dataset", self.dataset, data.SOURCES)
        alphas("alpha_test", self.alpha_test)
        nonnegative("eval_epsilon", self.eval_epsilon)
        positive("eval_attack_step_size", self.eval_attack_step_size)
        at_least("eval_attack_steps", self.eval_attack_steps, 1)
        at_least("eval_restarts", self.eval_restarts, 1)
        checked_seed(self.seed)
        _if_given(at_least, "eval_examples", self.eval_examples, 1)

    def test_attack(self) -> attacks.Attack:
        """Returns the attack that measures robustness."""
        return attacks.PGD(
            epsilon=self.eval_epsilon,
            step_size=self.eval_attack_step_size,
            steps=self.eval_attack_steps,
            restarts=self.eval_restarts,
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelEvaluation(Evaluation):
    """The evaluation of a saved classifier."""

    model: str = setting("The .keras file of a classifier that returns logits.", "")

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            bool(self.model),
            "model",
            got="nothing",
            expected="the .keras file of a classifier",
            mend="Pass --model=runs/NAME/best.keras.",
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Experiment(Evaluation):
    """A training run and its evaluation."""

    method: str = setting("Training method: " + ", ".join(methods.BY_NAME) + ".", "trades")
    alpha_train: float = setting("Power of the non-uniform attacker that is trained against; 0 is the baseline.")
    beta: float | None = setting("Weight of the divergence in TRADES, the paper's 1/lambda.")
    epsilon: float | None = setting("Radius of the training attack, in units of the image range [0, 1].")
    attack_steps: int | None = setting("Steps of the training attack.")
    attack_step_size: float | None = setting("Step size of the training attack.")
    attack_start: str | None = setting("Start of the training attack: uniform, gaussian or none.")
    eval_every: int = setting("Evaluate on validation images every so many epochs, and after the last.", 1)
    epochs: int = setting("Passes over the training images; the milestones of the learning rate scale with them.")
    batch_size: int = setting("Images a step.", 128)
    learning_rate: float = setting("Learning rate of SGD with momentum 0.9, before the first milestone.")
    milestones: tuple[float, ...] = setting("Fractions of the epochs at which the learning rate drops.")
    learning_rate_drop: float = setting("Factor by which it drops.")
    weight_decay: float = setting("As in PyTorch: weight_decay * w is added to the gradient.", 0.0)
    architecture: str = setting("Network: " + ", ".join(ARCHITECTURES) + ".")
    precision: str = setting(
        "float32, bfloat16, float16 or auto (bfloat16 where it is native); evaluation: float32.", "float32"
    )
    deterministic: bool = setting("Whether two runs give identical weights, at some cost in speed.", False)
    train_examples: int | None = setting("How many training images to use, the first ones; all if not given.")
    validation_examples: int | None = setting("How many validation images to evaluate each epoch, the first ones.")
    initialize_from: str | None = setting("A .keras file whose weights to start from.")

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of("method", self.method, methods.BY_NAME)
        one_of("architecture", self.architecture, ARCHITECTURES)
        one_of("precision", self.precision, [*PRECISIONS, "auto"])
        if self.precision == "auto":  # settled here, so that every record of the run says what it was
            object.__setattr__(self, "precision", "bfloat16" if has_bfloat16() else "float32")
        for name in ("eval_every", "epochs", "batch_size"):
            at_least(name, getattr(self, name), 1)
        for name in ("learning_rate", "learning_rate_drop"):
            positive(name, getattr(self, name))
        nonnegative("weight_decay", self.weight_decay)
        for milestone in self.milestones:
            mend = "Milestones are fractions of the epochs, such as 0.75,0.9."
            require(0 <= milestone <= 1, "milestones", got=milestone, expected="numbers in [0, 1]", mend=mend)
        for name in ("train_examples", "validation_examples"):
            _if_given(at_least, name, getattr(self, name), 1)
        self._check_method_settings()
        self.make_method()

    def make_method(self) -> methods.Method:
        """Returns the training method, given those of the settings that it takes."""
        offered: dict[str, Any] = {"alpha": self.alpha_train, "beta": self.beta}
        if self._takes("attack"):
            offered["attack"] = attacks.PGD(
                epsilon=nonnegative("epsilon", self.epsilon),
                step_size=positive("attack_step_size", self.attack_step_size),
                steps=at_least("attack_steps", self.attack_steps, 1),
                start=one_of("attack_start", self.attack_start, attacks.STARTS),
            )
        return methods.BY_NAME[self.method](**{k: v for k, v in offered.items() if self._takes(k)})

    def learning_rate_at(self, epoch: int) -> float:
        """Returns the learning rate of an epoch, counted from 0; a milestone within an epoch rounds, half upwards."""
        passed = sum(epoch >= math.floor(milestone * self.epochs + 0.5) for milestone in self.milestones)
        return self.learning_rate * self.learning_rate_drop**passed

    def _takes(self, parameter: str) -> bool:
        return parameter in methods.BY_NAME[self.method].settings()

    def _check_method_settings(self) -> None:
        for name, parameter in METHOD_SETTINGS.items():
            require(
                self._takes(parameter) or getattr(self, name) is None,
                name,
                got=getattr(self, name),
                expected=f"nothing, since method {self.method!r} has no {parameter}",
                mend=f"Leave out --{name} or choose another --method.",
            )
        nonnegative("alpha_train", self.alpha_train)
        _if_given(nonnegative, "beta", self.beta)
        require(
            self._takes("attack") or self.alpha_train == 0,
            "alpha_train",
            got=self.alpha_train,
            expected=f"0, since method {self.method!r} has no attacked images to weight",
            mend="Leave out --alpha_train or choose another --method.",
        )


def _if_given(check: Any, name: str, value: Any, *args: Any) -> None:
    if value is not None:
        check(name, value, *args)
