"""How a classifier is evaluated."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Self

import wmr_tf
from trainers.quiet import late
from trainers.settings.base import COMMON, EVALUATION, RARE, RUN, if_given, setting
from trainers.settings.dataset import Dataset
from trainers.settings.method import RECIPES_NORM
from trainers.settings.settling import check_own_radii, settled
from wmr_tf.checks import alphas, at_least, nonnegative, one_of, order, radius, require, step, whole_numbers
from wmr_tf.checks import seed as checked_seed
from wmr_tf.data.own import address
from wmr_tf.names import NORMS, PRECISIONS_OF_ATTACKS, RADII, SUITES, THREADS
from wmr_tf.saving import model_file

if TYPE_CHECKING:
    from wmr_tf.evaluation.wasserstein import WassersteinAttack

REACH = 5
"""How far the attack with an average budget may move a pixel, in epsilons; at most 5^-p of the images can get there."""


def trust_flag() -> Any:
    """Return the field of `--trust`."""
    told = "Load models although they hold code; only for files that you made or whose author you trust."
    return setting(told, False, section=RUN)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evaluation(Dataset):
    """How a classifier is evaluated, on which data."""

    SECTION = EVALUATION

    alpha_test: tuple[float, ...] = setting("Powers of the non-uniform attacker, with commas.", (1.0, 1.5, 2.0))
    eval_norm: str = setting("Norm of the test attack.", RECIPES_NORM, choices=NORMS)
    eval_epsilon: float = setting(
        "Radius of the test attack in its norm, in units of the image range [0, 1], such as 8/255 or 0.031. Usual in "
        "linf: 0.3 on MNIST, 8/255 on CIFAR-10, 4/255 on larger images.",
        section=COMMON,
    )
    eval_attack_steps: int = setting(
        "Steps of the test attack; times its step size they should come to at least the radius, better twice that."
    )
    eval_attack_step_size: float = setting("Step size of the test attack; it follows --eval_epsilon.")
    eval_restarts: int = setting("Restarts of the test attack; each image keeps the smallest margin.", 1)
    eval_attack_precision: str = setting(
        "Precision of the attack on test images: bfloat16 is faster and less exact; scores are in float32.",
        "float32",
        choices=PRECISIONS_OF_ATTACKS,
        section=RARE,
    )
    suite: str = setting(
        "Version of AutoAttack that attacks the same images in the same ball.", "strong", choices=SUITES
    )
    radii: str = setting(
        "How to measure the smallest radius at which each test image is misclassified; fab+apgd takes eleven times as "
        "long as fab.",
        "fab",
        choices=[*RADII, "none"],
    )
    trust: bool = trust_flag()
    surrogate: str | None = setting(
        "A .keras file of another model, by whose margins an attacker picks test images.", section=RARE
    )
    budget: tuple[int, ...] | None = setting(
        "How many test images to attack, picked by clean margins: numbers with commas.",
        section=RARE,
        unset="1 to 100 % of them",
    )
    by_class: bool = setting(
        "Refuse to evaluate if a class has too few test images for an interval; otherwise accuracies by class are left "
        "out then.",
        False,
        section=RARE,
    )
    eval_wasserstein_p: float | None = setting(
        "Attack test images also with a budget on the average perturbation, mean(||delta||^p) <= eval_epsilon^p, of "
        "this order p > 1, or inf.",
        section=RARE,
    )
    rho_test: tuple[float, ...] | None = setting(
        "KL radii in nats, with commas: the alpha_test that each buys, with its A_sa and A_worst.", section=RARE
    )
    eval_examples: int | None = setting("How many test images to evaluate, the first ones.", unset="all")
    threads: str = setting(
        "Threads: auto gives each core a part of the batch, mostly faster; tensorflow leaves them to TensorFlow.",
        "auto",
        choices=THREADS,
        section=RUN,
    )
    eval_batch_size: int | None = setting(
        "Images that an evaluation attacks together, at most.",
        section=RUN,
        unset="as many, up to 256, as fit in 1.2 GB",
    )
    seed: int = setting("Seed of weights, order, augmentation and attacks.", 0, section=COMMON)
    output_dir: str | None = setting(
        "The run's own folder.", section=COMMON, unset="a new one in runs, or that of the same run, stopped"
    )

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
