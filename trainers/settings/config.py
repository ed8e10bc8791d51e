"""Every setting of a run, once: the flags, the tuner and the report's captions derive from these dataclasses.

They are made and checked without TensorFlow, which takes seconds to import.
"""

from __future__ import annotations

import dataclasses
import os
from typing import TYPE_CHECKING, Any, Self

import wmr_tf
from trainers.quiet import late
from trainers.settings.base import if_given, setting
from trainers.settings.cluster import STRATEGIES, checked_tf_config
from trainers.settings.dataset import Dataset
from trainers.settings.method import RECIPES_NORM
from trainers.settings.network import Network
from trainers.settings.recipes import PAPER, RECIPES
from trainers.settings.settling import check_own_radii, settled
from trainers.settings.training import Training
from wmr_tf.checks import (
    alphas,
    at_least,
    nonnegative,
    one_of,
    order,
    radius,
    require,
    step,
    whole_numbers,
)
from wmr_tf.checks import seed as checked_seed
from wmr_tf.data.own import address
from wmr_tf.names import (
    NORMS,
    ON_DIVERGENCE,
    ON_MASKED,
    PRECISIONS_OF_ATTACKS,
    RADII,
    SUITES,
    THREADS,
)
from wmr_tf.saving import model_file

if TYPE_CHECKING:
    from wmr_tf.evaluation.wasserstein import WassersteinAttack

TRUST = "Load models although they hold code; only for files that you made or whose author you trust."

STRATEGY = "Devices: none (one), mirrored (all of this machine) or multi_worker (those of all workers in TF_CONFIG)."

SELECTABLE = ("val_A_strong", "val_A_rob", "val_A_nat", "val_A_sa", "val_A_tr")
"""What the best epoch can be the best of."""

REACH = 5
"""How far the attack with an average budget may move a pixel, in epsilons; at most 5^-p of the images can get there."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evaluation(Dataset):
    """How a classifier is evaluated, on which data."""

    alpha_test: tuple[float, ...] = setting("Powers of the non-uniform attacker, with commas.", (1.0, 1.5, 2.0))
    eval_norm: str = setting("Norm of the test attack: " + ", ".join(NORMS) + ".", RECIPES_NORM)
    eval_epsilon: float = setting(
        "Radius of the test attack in its norm, in units of the image range [0, 1], such as 8/255 or 0.031. Usual in "
        "linf: 0.3 on MNIST, 8/255 on CIFAR-10, 4/255 on larger images."
    )
    eval_attack_steps: int = setting(
        "Steps of the test attack; times its step size they should come to at least the radius, better twice that."
    )
    eval_attack_step_size: float = setting("Step size of the test attack; it follows --eval_epsilon.")
    eval_restarts: int = setting("Restarts of the test attack; each image keeps the smallest margin.", 1)
    eval_attack_precision: str = setting(
        "Precision of the attack on test images: float32, or bfloat16, faster and less exact; scored in float32.",
        "float32",
    )
    suite: str = setting(
        "Version of AutoAttack that attacks the same images in the same ball: " + ", ".join(SUITES) + ".", "strong"
    )
    radii: str = setting(
        "How to measure the smallest radius at which each test image is misclassified: fab, fab+apgd (eleven times the "
        "time) or none.",
        "fab",
    )
    trust: bool = setting(TRUST, False)
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
    threads: str = setting(
        "Threads: auto (each core takes a part of the batch, mostly faster) or tensorflow (as TensorFlow has them).",
        "auto",
    )
    eval_batch_size: int | None = setting(
        "Images that an evaluation attacks together, at most. Default: as many, up to 256, as fit in 1.2 GB."
    )
    seed: int = setting("Seed of weights, order, augmentation and attacks.", 0)
    output_dir: str | None = setting("The run's own folder.")

    @classmethod
    def of(cls, dataset: str = "", method: str = "trades", **changes: Any) -> Self:
        """Return the recipe of a data set and method with some settings changed.

        Raises:
            InvalidInput: If a setting is unknown or out of range.
        """
        fix = "Pass --dataset=mnist, or --data=FOLDER for images of your own."
        require(bool(dataset), "dataset", got="nothing", expected="a data set", fix=fix)
        names = [field.name for field in dataclasses.fields(cls)]
        for name in changes:
            one_of("setting", name, names)
        dataset, given = address(dataset), {"method": method, **changes}
        settings = settled(dataset, given)
        made = cls(dataset=dataset, **{name: settings[name] for name in names if name in settings})
        check_own_radii(dataset, given)
        return made

    def __post_init__(self) -> None:
        super().__post_init__()
        alphas("alpha_test", self.alpha_test)
        one_of("eval_norm", self.eval_norm, NORMS)
        one_of("threads", self.threads, THREADS)
        radius("eval_epsilon", self.eval_epsilon, self.eval_norm)
        step("eval_attack_step_size", self.eval_attack_step_size, self.eval_norm)
        at_least("eval_attack_steps", self.eval_attack_steps, 1)
        at_least("eval_restarts", self.eval_restarts, 1)
        one_of("eval_attack_precision", self.eval_attack_precision, PRECISIONS_OF_ATTACKS)
        one_of("suite", self.suite, SUITES)
        one_of("radii", self.radii, [*RADII, "none"])
        if_given(whole_numbers, "budget", self.budget)
        if_given(order, "eval_wasserstein_p", self.eval_wasserstein_p)
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
        for name in ("eval_examples", "eval_batch_size"):
            if_given(at_least, name, getattr(self, name), 1)

    def check_place(self) -> None:
        """Check the surrogate and the data; see `Settings.check_place`."""
        if self.surrogate:
            model_file(self.surrogate, what="surrogate")
        super().check_place()

    def use_threads(self) -> None:
        """Give each core its own part of a batch, unless TensorFlow is to be left alone; see `Settings.use_threads`."""
        self._use_threads(batch_norm=False)

    def _use_threads(self, *, batch_norm: bool) -> None:
        if self.threads == "auto":
            late("wmr_tf.engine.streams:use_all_cores")(batch_norm=batch_norm)

    def test_attack(self) -> wmr_tf.attacks.Attack:
        """Return the attack that measures robustness."""
        return wmr_tf.attacks.PGD(
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
        return wmr_tf.wasserstein.WassersteinAttack(
            epsilon=self.eval_epsilon, step_size=step_size, steps=steps, p=self.eval_wasserstein_p
        )


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

    def check_place(self) -> None:
        """Check also the model and the workers; see `Evaluation.check_place`."""
        super().check_place()
        model_file(self.model)
        _check_workers(self.strategy)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Experiment(Evaluation, Network, Training):
    """A training run and its evaluation."""

    recipe: str = setting(f"Which settings the flags that are not given have: {', '.join(RECIPES)}.", PAPER)
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
    on_divergence: str = setting(
        "What to do when the loss or a weight is not finite any more, or the classifier has become constant: stop, or "
        "rollback (go back one checkpoint with half the learning rate, at most three times).",
        "stop",
    )
    eval_every: int = setting("Evaluate on validation images every so many epochs, and after the last.", 1)
    strategy: str = setting(STRATEGY, "none")
    deterministic: bool = setting("Whether two runs give identical weights, at some cost in speed.", False)
    train_examples: int | None = setting("How many training images to use, the first ones; all if not given.")
    validation_examples: int | None = setting("How many validation images to evaluate each epoch, the first ones.")

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_network()
        one_of("strategy", self.strategy, STRATEGIES)
        one_of("select", self.select, SELECTABLE)
        one_of("on_masked", self.on_masked, ON_MASKED)
        one_of("on_divergence", self.on_divergence, ON_DIVERGENCE)
        require(
            self.on_divergence == "stop" or self.strategy != "multi_worker",
            "on_divergence",
            got="rollback with several workers",
            expected="stop",
            fix="Leave it out, or train without --strategy=multi_worker.",
        )
        at_least("eval_every", self.eval_every, 1)
        for name in ("train_examples", "validation_examples"):
            if_given(at_least, name, getattr(self, name), 1)
        self.check_training()
        require(
            self.warm_start == 0 or self.strategy == "none",
            "warm_start",
            got=f"{self.warm_start} with strategy {self.strategy!r}",
            expected="0, since free, by which it trains, has one perturbation for all batches",
            fix="Leave out --warm_start or --strategy.",
        )

    def check_place(self) -> None:
        """Check also the weights to start from and the workers; see `Evaluation.check_place`."""
        super().check_place()
        self.check_files()
        _check_workers(self.strategy)

    def warming(self) -> Experiment:
        """Return the settings of the warm start; a weighting without alpha does not weight it."""
        shared = ["recipe", "epsilon", "norm", "architecture", "batch_size", "precision", "seed"]
        shared += ["eval_norm", "eval_epsilon"]
        own = {"epochs": self.warm_start, "warm_start": 0, "schedule": "milestones", "averaging": None}
        own["alpha_train"] = getattr(self.make_weighting(), "alpha", 0.0)
        return Experiment.of(self.dataset, "free", **{name: getattr(self, name) for name in shared}, **own)

    def use_threads(self) -> None:
        """Do so in a way that is right for training the network; see `Evaluation.use_threads`."""
        self._use_threads(batch_norm=self.may_have_batch_norm)


def _check_workers(strategy: str) -> None:
    if strategy == "multi_worker":
        checked_tf_config(os.environ.get("TF_CONFIG"))
