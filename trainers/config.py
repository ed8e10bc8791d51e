"""Every setting of a run, once: the flags, the tuner and the report's captions derive from these dataclasses."""

import dataclasses
import math
import warnings
from typing import Any, Self

from trainers.recipes import ARCHITECTURES, Epsilons, recipe
from trainers.strategy import STRATEGIES
from trainers.weighting import make_weighting
from wmr_tf import attacks, data, methods, weights
from wmr_tf.callbacks import ON_MASKED
from wmr_tf.checks import alphas, at_least, nonnegative, one_of, positive, radius, require
from wmr_tf.checks import seed as checked_seed
from wmr_tf.engine.precision import COMPUTE, has_bfloat16
from wmr_tf.evaluation.choosers import budgets
from wmr_tf.evaluation.radii import MEASURES
from wmr_tf.evaluation.versions import VERSIONS
from wmr_tf.evaluation.wasserstein import WassersteinAttack, checked_order

STRATEGY = "Devices: none (one), mirrored (all of this machine) or multi_worker (those of all workers in TF_CONFIG)."

PRECISIONS = {"float32": "float32", "bfloat16": "mixed_bfloat16", "float16": "mixed_float16"}

SELECTABLE = ("val_A_strong", "val_A_rob", "val_A_nat", "val_A_sa", "val_A_tr")
"""What the best epoch can be the best of."""

RECIPES_NORM = "linf"
"""The norm that the radii and step sizes of all recipes are measured in."""

REACH = 5
"""How far the attack with an average budget may move a pixel, in epsilons; at most 5^-p of the images can get there."""

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


def settings_of_method(method: str | None) -> list[str]:
    """Return the settings that a training method takes, none of one that is not known."""
    taken = methods.BY_NAME[method].settings() if method in methods.BY_NAME else []
    return [name for name, parameter in METHOD_SETTINGS.items() if parameter in taken]


def setting(description: str, default: Any = None) -> Any:
    """Return a dataclass field; a default of None means the recipe's, or none at all."""
    return dataclasses.field(default=default, metadata={"help": description})


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evaluation:
    """How a classifier is evaluated, on which data."""

    dataset: str = setting("Data set.")
    alpha_test: tuple[float, ...] = setting("Powers of the non-uniform attacker, with commas.", (1.0, 1.5, 2.0))
    eval_norm: str = setting("Norm of the test attack: " + ", ".join(attacks.NORMS) + ".", RECIPES_NORM)
    eval_epsilon: float = setting("Radius of the test attack in its norm, in units of the image range [0, 1].")
    eval_attack_steps: int = setting("Steps of the test attack.")
    eval_attack_step_size: float = setting("Step size of the test attack.")
    eval_restarts: int = setting("Restarts of the test attack; each image keeps the smallest margin.", 1)
    eval_attack_precision: str = setting(
        "Precision of the attack on test images: float32, or bfloat16, faster and less exact; scored in float32.",
        "float32",
    )
    suite: str = setting(
        "Version of AutoAttack that attacks the same images in the same ball: " + ", ".join(VERSIONS) + ".", "strong"
    )
    radii: str = setting(
        "How to measure the smallest radius at which each test image is misclassified: fab, fab+apgd (eleven times the "
        "time) or none.",
        "fab",
    )
    trust: bool = setting(
        "Load models although they hold code of their own; only for files that you made or whose author you trust.",
        False,
    )
    surrogate: str | None = setting("A .keras file of another model, by whose margins an attacker picks test images.")
    budget: tuple[int, ...] | None = setting(
        "How many test images to attack, picked by clean margins: numbers with commas. Default: 1 to 100 % of them."
    )
    by_class: bool = setting(
        "Refuse to evaluate if a class has too few test images for an interval; otherwise accuracies by class are left "
        "out then.",
        False,
    )
    eval_wasserstein_p: float | None = setting(
        "Attack test images also with a budget on the average perturbation, mean(||delta||^p) <= eval_epsilon^p, of "
        "this order p > 1, or inf."
    )
    rho_test: tuple[float, ...] | None = setting(
        "KL radii in nats, with commas: the alpha_test that each buys, with its A_sa and A_worst."
    )
    eval_examples: int | None = setting("How many test images to evaluate, the first ones; all if not given.")
    seed: int = setting("Seed of weights, order, augmentation and attacks.", 0)
    data_dir: str | None = setting("Where tensorflow-datasets keeps prepared data; only read if it is there.")
    output_dir: str | None = setting("The run's own folder.")

    @classmethod
    def of(cls, dataset: str, method: str = "trades", **changes: Any) -> Self:
        """Return the recipe of a data set and method with some settings changed.

        Raises:
            InvalidInput: If a setting is unknown or out of range.
        """
        names = [field.name for field in dataclasses.fields(cls)]
        for name in changes:
            one_of("setting", name, names)
        settings = {"method": method, **recipe(dataset, method), **changes}
        multiples = {k: v.of(settings["epsilon"]) for k, v in settings.items() if isinstance(v, Epsilons)}
        settings |= multiples
        made = cls(dataset=dataset, **{name: settings[name] for name in names if name in settings})
        for prefix in ("", "eval_"):
            own = f"{prefix}epsilon", f"{prefix}attack_step_size"
            _check_own_radius(changes | multiples, f"{prefix}norm", *own)
        return made

    def __post_init__(self) -> None:
        one_of("dataset", self.dataset, data.SOURCES)
        alphas("alpha_test", self.alpha_test)
        one_of("eval_norm", self.eval_norm, attacks.NORMS)
        radius("eval_epsilon", self.eval_epsilon, self.eval_norm)
        positive("eval_attack_step_size", self.eval_attack_step_size)
        at_least("eval_attack_steps", self.eval_attack_steps, 1)
        at_least("eval_restarts", self.eval_restarts, 1)
        one_of("eval_attack_precision", self.eval_attack_precision, COMPUTE)
        one_of("suite", self.suite, VERSIONS)
        one_of("radii", self.radii, [*MEASURES, "none"])
        if self.budget is not None:
            budgets(max(self.budget, default=1), self.budget)
        _if_given(checked_order, "eval_wasserstein_p", self.eval_wasserstein_p)
        require(
            self.eval_wasserstein_p is None or self.eval_norm == "linf",
            "eval_wasserstein_p",
            got=f"{self.eval_wasserstein_p} with eval_norm {self.eval_norm!r}",
            expected="norm 'linf', the only one that it has",
            fix="Leave out --eval_wasserstein_p or --eval_norm.",
        )
        for rho in self.rho_test or ():
            nonnegative("rho_test", rho)
        checked_seed(self.seed)
        _if_given(at_least, "eval_examples", self.eval_examples, 1)

    def test_attack(self) -> attacks.Attack:
        """Return the attack that measures robustness."""
        return attacks.PGD(
            epsilon=self.eval_epsilon,
            step_size=self.eval_attack_step_size,
            steps=self.eval_attack_steps,
            restarts=self.eval_restarts,
            norm=self.eval_norm,
        )

    def wasserstein_attack(self) -> WassersteinAttack | None:
        """Return the attack with a budget on the average perturbation, if asked for; epsilon and steps as above.

        Its step size lets a pixel go REACH times epsilon; the test attack's would stop it hardly beyond epsilon.
        """
        if self.eval_wasserstein_p is None:
            return None
        steps, step_size = self.eval_attack_steps, REACH * self.eval_epsilon / self.eval_attack_steps
        step_size = step_size or self.eval_attack_step_size  # with epsilon 0, where any will do
        return WassersteinAttack(epsilon=self.eval_epsilon, step_size=step_size, steps=steps, p=self.eval_wasserstein_p)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelEvaluation(Evaluation):
    """The evaluation of a saved classifier."""

    model: str = setting("The .keras file of a classifier that returns logits.", "")
    diagnose: bool = setting(
        "Look for what makes robust accuracies wrong, in 18 checks on the first 128 images.", False
    )
    strategy: str = setting(STRATEGY, "none")

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of("strategy", self.strategy, STRATEGIES)
        require(
            bool(self.model),
            "model",
            got="nothing",
            expected="the .keras file of a classifier",
            fix="Pass --model=runs/NAME/best.keras.",
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Experiment(Evaluation):
    """A training run and its evaluation."""

    method: str = setting("Training method: " + ", ".join(methods.BY_NAME) + ".", "trades")
    alpha_train: float = setting("Power of the non-uniform attacker that is trained against; 0 is the baseline.")
    weighting: str = setting(
        "How attacked images are weighted: " + ", ".join(weights.BY_NAME) + ", with options such as "
        "exponential:normalize=true (weights divided by their mean over the batch).",
        "exponential",
    )
    beta: float | None = setting("Weight of the divergence in TRADES (the paper's 1/lambda) and MART.")
    adversarial_weight: float | None = setting("Weight of the adversarial loss in mixed, the lambda of Equation 8.")
    norm: str = setting("Norm of the training attack: " + ", ".join(attacks.NORMS) + ".", RECIPES_NORM)
    epsilon: float | None = setting("Radius of the training attack in its norm, in units of the image range [0, 1].")
    attack_steps: int | None = setting("Steps of the training attack.")
    attack_step_size: float | None = setting("Step size of the training attack.")
    attack_start: str | None = setting("Start of the training attack: uniform, gaussian, none or noise (N-FGSM).")
    replays: int | None = setting("How often free trains on each batch; the epochs are divided by it.")
    passes: int | None = setting("Full passes of YOPO for each batch, the m of YOPO-m-n; n is attack_steps.")
    split: str | None = setting("Layer that YOPO's first part ends with; the first convolution if not given.")
    radius_growth: float | None = setting("By how much IAAT lets an image's radius grow or shrink.")
    radius_smoothing: float | None = setting("Fraction of that by which the radius moves, in [0, 1].")
    radius_warmup: float | None = setting("Fraction of the epochs in which IAAT's radii stay as they are.")
    epsilon_max: float | None = setting("The largest radius of IAAT.")
    select: str = setting(
        "What best.keras is the best epoch of, on validation images: val_A_strong, val_A_rob, val_A_nat, val_A_sa or "
        "val_A_tr (these two at the first alpha_test).",
        "val_A_strong",
    )
    on_masked: str = setting(
        "What to do when the classifier hides from the test attack: warn, stop, or roll_back (stop, and go back to the "
        "last epoch before).",
        "warn",
    )
    eval_every: int = setting("Evaluate on validation images every so many epochs, and after the last.", 1)
    epochs: int = setting("Passes over the training images; the milestones of the learning rate scale with them.")
    batch_size: int = setting("Images a step, on all devices together.", 128)
    learning_rate: float = setting("Learning rate of SGD with momentum 0.9, before the first milestone.")
    milestones: tuple[float, ...] = setting("Fractions of the epochs at which the learning rate drops.")
    learning_rate_drop: float = setting("Factor by which it drops.")
    weight_decay: float = setting("As in PyTorch: weight_decay * w is added to the gradient.", 0.0)
    architecture: str = setting("Network: " + ", ".join(ARCHITECTURES) + ".")
    precision: str = setting(
        "float32, bfloat16, float16 or auto (bfloat16 where it is native); evaluation: float32.", "float32"
    )
    strategy: str = setting(STRATEGY, "none")
    deterministic: bool = setting("Whether two runs give identical weights, at some cost in speed.", False)
    train_examples: int | None = setting("How many training images to use, the first ones; all if not given.")
    validation_examples: int | None = setting("How many validation images to evaluate each epoch, the first ones.")
    initialize_from: str | None = setting("A .keras file whose weights to start from.")

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of("method", self.method, methods.BY_NAME)
        one_of("norm", self.norm, attacks.NORMS)
        one_of("architecture", self.architecture, ARCHITECTURES)
        one_of("precision", self.precision, [*PRECISIONS, "auto"])
        one_of("strategy", self.strategy, STRATEGIES)
        one_of("select", self.select, SELECTABLE)
        one_of("on_masked", self.on_masked, ON_MASKED)
        if self.precision == "auto":  # settled here, so that every record of the run says what it was
            object.__setattr__(self, "precision", "bfloat16" if has_bfloat16() else "float32")
        for name in ("eval_every", "epochs", "batch_size"):
            at_least(name, getattr(self, name), 1)
        for name in ("learning_rate", "learning_rate_drop"):
            positive(name, getattr(self, name))
        nonnegative("weight_decay", self.weight_decay)
        for milestone in self.milestones:
            fix = "Milestones are fractions of the epochs, such as 0.75,0.9."
            require(0 <= milestone <= 1, "milestones", got=milestone, expected="numbers in [0, 1]", fix=fix)
        for name in ("train_examples", "validation_examples"):
            _if_given(at_least, name, getattr(self, name), 1)
        self._check_method_settings()
        with warnings.catch_warnings(action="ignore"):  # for its checks; the one that trains warns of a weak attack
            self.make_method(examples=1)

    def make_method(self, examples: int | None = None) -> methods.Method:
        """Return the training method, given those of the settings that it takes.

        Args:
            examples: The number of training images, for a method that keeps something for each of them.

        Raises:
            InvalidInput: If a setting is out of range, or the method needs the number of images and it is not given.
        """
        offered: dict[str, Any] = {parameter: getattr(self, name) for name, parameter in METHOD_SETTINGS.items()}
        offered |= {"alpha": self.make_weighting(), "examples": examples}
        offered["warmup_epochs"] = nonnegative("radius_warmup", self.radius_warmup or 0.0) * self.rounds
        if self._takes("attack"):
            offered["attack"] = self._training_attack()
        return methods.BY_NAME[self.method](**{k: v for k, v in offered.items() if self._takes(k)})

    def make_weighting(self) -> weights.Weighting:
        """Return how the training method weights attacked images."""
        return make_weighting(self.weighting, self.alpha_train)

    @property
    def rounds(self) -> int:
        """How often training goes through the images: `epochs`, with free divided by the replays and rounded up."""
        return math.ceil(self.epochs / (self.replays or 1))

    def learning_rate_at(self, epoch: int) -> float:
        """Return the learning rate of a round, counted from 0; a milestone within a round rounds, half upwards."""
        passed = sum(epoch >= math.floor(milestone * self.rounds + 0.5) for milestone in self.milestones)
        return self.learning_rate * self.learning_rate_drop**passed

    def _training_attack(self) -> attacks.Attack:
        epsilon = radius("epsilon", self.epsilon, self.norm)
        step_size = positive("attack_step_size", self.attack_step_size)
        steps = at_least("attack_steps", self.attack_steps, 1)
        start = one_of("attack_start", self.attack_start, [*attacks.STARTS, "noise"])
        if start != "noise":
            return attacks.PGD(epsilon=epsilon, step_size=step_size, steps=steps, start=start, norm=self.norm)
        fix = "Take --norm=linf or another --attack_start."
        require(self.norm == "linf", "norm", got=self.norm, expected="linf with --attack_start=noise", fix=fix)
        expected = "1 with --attack_start=noise, which is N-FGSM"
        require(steps == 1, "attack_steps", got=steps, expected=expected, fix="Take --method=n_fgsm.")
        return attacks.NFGSM(epsilon=epsilon, step_size=step_size)

    def _takes(self, parameter: str) -> bool:
        return parameter in methods.BY_NAME[self.method].settings()

    def _check_method_settings(self) -> None:
        unset = {field.name: field.default for field in dataclasses.fields(self)}
        for name, parameter in METHOD_SETTINGS.items():
            require(
                self._takes(parameter) or getattr(self, name) == unset[name] or name == "alpha_train",
                name,
                got=getattr(self, name),
                expected=f"nothing, since method {self.method!r} has no {parameter}",
                fix=f"Leave out --{name} or choose another --method.",
            )
        nonnegative("alpha_train", self.alpha_train)
        _if_given(nonnegative, "beta", self.beta)
        require(
            self._takes("alpha") or self.alpha_train == 0,
            "alpha_train",
            got=self.alpha_train,
            expected=f"0, since method {self.method!r} has no attacked images to weight",
            fix="Leave out --alpha_train or choose another --method.",
        )


def _check_own_radius(changes: dict[str, Any], norm: str, *own: str) -> None:
    """Check that a changed norm comes with a radius and step size of its own: 0.3 is much in linf and little in l1."""
    missing = [f"--{name}" for name in own if name not in changes]
    require(
        changes.get(norm, RECIPES_NORM) == RECIPES_NORM or not missing,
        norm,
        got=f"{changes.get(norm)} without {' and '.join(missing)}",
        expected="a radius and a step size that are meant for the norm",
        fix=f"Pass {' and '.join(missing)} too; the recipe's are for {RECIPES_NORM}.",
    )


def _if_given(check: Any, name: str, value: Any, *args: Any) -> None:
    if value is not None:
        check(name, value, *args)
