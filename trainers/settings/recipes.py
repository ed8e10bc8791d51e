"""The settings of each data set and method.

What the paper (Zeng et al. 2021) says of them is little: the radius and the steps of the test attacks, alpha_train and,
on CIFAR-10 and Tiny ImageNet, 1/lambda. The public code of TRADES (https://github.com/yaodongyu/TRADES) gives most of
the rest for MNIST and CIFAR-10. What is from neither is ours to answer for:

| setting | mnist | cifar10 | tiny_imagenet |
|---|---|---|---|
| epsilon, steps of the test attack | paper | paper | paper |
| step size of the test attack | TRADES code | TRADES code | neither |
| steps and step size of training | TRADES code | TRADES code | neither |
| alpha_train of TRADES | paper | paper | paper |
| alpha_train of PGD | paper | paper | paper |
| beta of TRADES | neither (its code has 1) | paper | paper |
| start of TRADES' attack | paper, Algorithm 1 | paper, Algorithm 1 | paper, Algorithm 1 |
| start of PGD's attack, uniform | neither (paper: Gaussian) | neither (paper: Gaussian) | neither (paper: Gaussian) |
| batch, momentum, epochs of TRADES | TRADES code | TRADES code, but 100 epochs (its code has 80) | neither |
| learning rate | TRADES code | neither (TRADES code: 0.1) | neither |
| milestones of TRADES, an epoch later | TRADES code (55, 75 and 90 of 100) | TRADES code (75 and 90) | neither |
| weight decay of TRADES | TRADES code (none) | TRADES code | neither |
| schedule and weight decay of PGD | neither | neither | neither |

Step sizes are multiples of the radius, so that they follow it where it is changed.

All settings of the digits and of images of one's own are ours. Of the other methods, comments below say what is their
authors'; the rest is PGD's schedule.
"""

import bisect
import dataclasses
from typing import Any

from wmr_tf.checks import nonnegative, one_of
from wmr_tf.data.own import is_own

PAPER, FAST = RECIPES = ("paper", "fast")


OWN = "own"
"""The name under which images of one's own have their recipes."""


@dataclasses.dataclass(frozen=True)
class Epsilons:
    """A length in multiples of an attack's radius, so that it follows `--epsilon` or `--eval_epsilon` in every norm."""

    times: float

    def __str__(self) -> str:
        return "epsilon" if self.times == 1 else f"{self.times:.3g} epsilon"

    def of(self, epsilon: float) -> float:
        """Return the length, given the radius."""
        return round(self.times * epsilon, 12)


def lengths(settings: dict[str, Any], recipe: dict[str, Any]) -> dict[str, float]:
    """Return what settings that are `Epsilons` come to, those of the test attack in multiples of its own radius.

    Args:
        settings: All settings.
        recipe: The recipe's, whose radius stands in for one of 0: a step is longer than that.

    Raises:
        InvalidInput: If a radius is no number >= 0.
    """
    found = {}
    for name, value in settings.items():
        if isinstance(value, Epsilons):
            radius = "eval_epsilon" if name.startswith("eval_") else "epsilon"
            found[name] = value.of(nonnegative(radius, settings[radius]) or recipe[radius])
    return found


@dataclasses.dataclass(frozen=True)
class BySize:
    """A network for each size of image: for each but the last the largest side, in pixels, that it is for."""

    sides: tuple[int, ...]
    networks: tuple[str, ...]

    def __str__(self) -> str:
        parts = [f"{network} up to {side} pixels" for side, network in zip(self.sides, self.networks, strict=False)]
        return f"{', '.join(parts)}, {self.networks[-1]} beyond"

    def of(self, image_shape: tuple[int, int, int]) -> str:
        """Return the network for images of a shape (height, width, channels)."""
        return self.networks[bisect.bisect_left(self.sides, max(image_shape[:2]))]


# The settings of a data set, for every method; the test attack is among them.
_DATASETS: dict[str, dict[str, Any]] = {
    "digits": {
        "architecture": "digits_cnn",
        "eval_epsilon": 0.15,
        "eval_attack_steps": 20,
        "eval_attack_step_size": Epsilons(0.015 / 0.15),
        "epochs": 30,
        "batch_size": 32,
        "learning_rate": 0.05,
    },
    "mnist": {
        "architecture": "small_cnn",
        "eval_epsilon": 0.3,
        "eval_attack_steps": 40,
        "eval_attack_step_size": Epsilons(0.01 / 0.3),
        "epochs": 100,
        "learning_rate": 0.01,
        "validation_examples": 1000,
    },
    "cifar10": {
        "architecture": "resnet18",
        "eval_epsilon": 0.031,
        "eval_attack_steps": 20,
        "eval_attack_step_size": Epsilons(0.003 / 0.031),
        "epochs": 100,
        "learning_rate": 0.2,
        "validation_examples": 1000,
    },
    "tiny_imagenet": {
        "architecture": "resnet18",
        "eval_epsilon": 0.016,
        "eval_attack_steps": 10,
        "eval_attack_step_size": Epsilons(0.004 / 0.016),
        "epochs": 100,
        "learning_rate": 0.1,
        "validation_examples": 1000,
    },
    OWN: {
        "architecture": BySize((16, 40), ("digits_cnn", "small_cnn", "thin_resnet")),
        "eval_epsilon": Epsilons(1.0),
        "eval_attack_steps": 20,
        "eval_attack_step_size": Epsilons(0.1),
        "epochs": 50,
        "batch_size": 32,
        "learning_rate": 0.02,
    },
}

_TRAINING_ATTACKS: dict[str, dict[str, Any]] = {
    "digits": {"epsilon": 0.15, "attack_steps": 10, "attack_step_size": Epsilons(0.03 / 0.15)},
    "mnist": {"epsilon": 0.3, "attack_steps": 40, "attack_step_size": Epsilons(0.01 / 0.3)},
    "cifar10": {"epsilon": 0.031, "attack_steps": 10, "attack_step_size": Epsilons(0.007 / 0.031)},
    "tiny_imagenet": {"epsilon": 0.016, "attack_steps": 10, "attack_step_size": Epsilons(0.004 / 0.016)},
    OWN: {"epsilon": 0.031, "attack_steps": 10, "attack_step_size": Epsilons(0.25)},
}

_TRADES = {"attack_start": "gaussian", "learning_rate_drop": 0.1}
_PGD = {"attack_start": "uniform", "learning_rate_drop": 0.2, "milestones": (0.60,), "weight_decay": 5e-4}

# beta is that of the released MART code and its script for WideResNet; the paper has 5, and so its one for ResNet-18.
_MART = {"attack_start": "gaussian", "beta": 6.0, "learning_rate_drop": 0.1, "milestones": (0.75, 0.90)}
# Equation 8 of Zeng et al. leaves lambda open.
_MIXED = {**_PGD, "adversarial_weight": 1.0}
# Steps of Wong et al. and of de Jorge et al.; neither's cyclic learning rate.
_FAST = {**_PGD, "attack_steps": 1, "attack_step_size": Epsilons(1.25)}
# With the paper's weights these two become constant from an alpha of 1 or 2 on: the weights make the steps up to
# exp(alpha) times as long, and their gradient adds up to alpha times the loss. Normalised weights and the learning
# rates below train on the digits with every alpha from 0 to 3, and free on MNIST; there n_fgsm trains too, but what it
# makes is masked (results/weighting.md).
_STEADY = {"weighting": "exponential:normalize=true"}
_N_FGSM = {**_PGD, **_STEADY, "attack_start": "noise", "attack_steps": 1, "attack_step_size": Epsilons(1.0)}
# Replays of Shafahi et al. on CIFAR-10.
_FREE = {
    **_PGD,
    **_STEADY,
    "attack_start": "none",
    "attack_steps": 1,
    "attack_step_size": Epsilons(1.0),
    "replays": 8,
}
# YOPO-5-3, as Zhang et al. have it on CIFAR-10.
_YOPO = {**_PGD, "attack_steps": 3, "passes": 5}
# The growth is about that of Balaji et al. on CIFAR-10; they have no largest radius.
_RADII = {"radius_growth": Epsilons(0.24), "epsilon_max": Epsilons(2.0)}
_IAAT = {**_PGD, **_RADII, "radius_smoothing": 0.1, "radius_warmup": 0.1}

_TINY_IMAGENET = {"learning_rate_drop": 0.1, "milestones": (0.75, 0.90)}  # for every method

_METHODS: dict[tuple[str, str], dict[str, Any]] = {
    ("digits", "trades"): {**_TRADES, "alpha_train": 2.0, "beta": 3.0, "milestones": (0.75, 0.90)},
    ("digits", "pgd"): {**_PGD, "alpha_train": 0.5},
    ("digits", "mart"): {**_MART, "alpha_train": 0.5, "learning_rate": 0.01},  # at 0.05 it stays at chance
    ("digits", "mixed"): {**_MIXED, "alpha_train": 0.5},
    ("digits", "fast"): {**_FAST, "alpha_train": 0.5},
    ("digits", "n_fgsm"): {**_N_FGSM, "alpha_train": 0.5, "learning_rate": 0.005},
    # At 0.05 the replays of a batch, one after the other, undo what was learned before.
    ("digits", "free"): {**_FREE, "alpha_train": 0.5, "replays": 4, "learning_rate": 0.005},
    ("digits", "yopo"): {**_YOPO, "alpha_train": 0.5},
    ("digits", "iaat"): {**_IAAT, "alpha_train": 0.5},
    ("mnist", "trades"): {**_TRADES, "alpha_train": 2.0, "beta": 6.0, "milestones": (0.55, 0.75, 0.90)},
    ("mnist", "pgd"): {**_PGD, "alpha_train": 0.5},
    ("mnist", "mart"): {**_MART, "alpha_train": 0.5},
    ("mnist", "mixed"): {**_MIXED, "alpha_train": 0.5},
    ("mnist", "fast"): {**_FAST, "alpha_train": 0.5},
    ("mnist", "n_fgsm"): {**_N_FGSM, "alpha_train": 0.5},
    ("mnist", "free"): {**_FREE, "alpha_train": 0.5},
    ("mnist", "yopo"): {**_YOPO, "alpha_train": 0.5, "attack_steps": 10},  # YOPO-5-10, as its authors for MNIST
    # Twice epsilon would be more than half the range, within which every image can be made grey.
    ("mnist", "iaat"): {**_IAAT, "alpha_train": 0.5, "epsilon_max": Epsilons(4 / 3)},
    ("cifar10", "trades"): {
        **_TRADES,
        "alpha_train": 2.0,
        "beta": 5.0,
        "milestones": (0.75, 0.90),
        "weight_decay": 2e-4,
    },
    ("cifar10", "pgd"): {**_PGD, "alpha_train": 2.0},
    # Learning rate and weight decay are those of the released MART code for ResNet-18.
    ("cifar10", "mart"): {**_MART, "alpha_train": 2.0, "learning_rate": 0.01, "weight_decay": 3.5e-3},
    ("cifar10", "mixed"): {**_MIXED, "alpha_train": 2.0},
    ("cifar10", "fast"): {**_FAST, "alpha_train": 2.0},
    ("cifar10", "n_fgsm"): {**_N_FGSM, "alpha_train": 2.0},
    ("cifar10", "free"): {**_FREE, "alpha_train": 2.0},
    ("cifar10", "yopo"): {**_YOPO, "alpha_train": 2.0, "attack_step_size": Epsilons(0.008 / 0.031)},
    ("cifar10", "iaat"): {**_IAAT, "alpha_train": 2.0},
    ("tiny_imagenet", "trades"): {
        **_TRADES,
        "alpha_train": 5.0,
        "beta": 6.0,
        "milestones": (0.75, 0.90),
        "weight_decay": 2e-4,
    },
    ("tiny_imagenet", "pgd"): {**_PGD, **_TINY_IMAGENET, "alpha_train": 0.3},
    ("tiny_imagenet", "mart"): {**_MART, **_TINY_IMAGENET, "alpha_train": 0.3, "weight_decay": 5e-4},
    ("tiny_imagenet", "mixed"): {**_MIXED, **_TINY_IMAGENET, "alpha_train": 0.3},
    ("tiny_imagenet", "free"): {**_FREE, **_TINY_IMAGENET, "alpha_train": 0.3},
    ("tiny_imagenet", "yopo"): {**_YOPO, **_TINY_IMAGENET, "alpha_train": 0.3},
    ("tiny_imagenet", "iaat"): {**_IAAT, **_TINY_IMAGENET, "alpha_train": 0.3},
    ("tiny_imagenet", "fast"): {**_FAST, **_TINY_IMAGENET, "alpha_train": 0.3},
    ("tiny_imagenet", "n_fgsm"): {**_N_FGSM, **_TINY_IMAGENET, "alpha_train": 0.3},
    (OWN, "trades"): {**_TRADES, "alpha_train": 2.0, "beta": 6.0, "milestones": (0.75, 0.90), "weight_decay": 2e-4},
    (OWN, "pgd"): {**_PGD, "alpha_train": 0.5},
    (OWN, "mart"): {**_MART, "alpha_train": 0.5, "learning_rate": 0.01},
    (OWN, "mixed"): {**_MIXED, "alpha_train": 0.5},
    (OWN, "fast"): {**_FAST, "alpha_train": 0.5},
    (OWN, "n_fgsm"): {**_N_FGSM, "alpha_train": 0.5, "learning_rate": 0.005},
    (OWN, "free"): {**_FREE, "alpha_train": 0.5, "replays": 4, "learning_rate": 0.005},
    (OWN, "yopo"): {**_YOPO, "alpha_train": 0.5},
    (OWN, "iaat"): {**_IAAT, "alpha_train": 0.5},
}


# The recipe `fast`: what it changes for every method, weighted or not.
_FASTER: dict[str, dict[str, Any]] = {
    "digits": {"schedule": "one_cycle", "averaging": 0.99},
    "mnist": {"schedule": "one_cycle", "averaging": 0.995, "epochs": 15, "learning_rate": 0.02},
    "cifar10": {"schedule": "one_cycle", "averaging": 0.99, "epochs": 30, "learning_rate": 0.1},
    "tiny_imagenet": {"schedule": "one_cycle", "averaging": 0.99, "epochs": 30},
    OWN: {"schedule": "one_cycle", "averaging": 0.99, "epochs": 30},
}
# And what it changes besides for the methods of many steps: MNIST's 40 would cost 3 to 4 times as much, the 10 of the
# small radii twice to three times. Ten of 0.04 reach as far as 40 of 0.01; two of 0.6 epsilon reach 1.2 radii, those of
# IAAT one of its largest.
_OF_MANY_STEPS = ("trades", "pgd", "mart", "mixed", "iaat")
_SMALL_RADII = ("cifar10", "tiny_imagenet")
_TEN_STEPS = {"warm_start": 8, "attack_steps": 10, "attack_step_size": Epsilons(0.04 / 0.3)}
_TWO_STEPS = {"attack_steps": 2, "attack_step_size": Epsilons(0.6)}
_FASTER_ATTACKS: dict[tuple[str, str], dict[str, Any]] = {
    **{("mnist", method): _TEN_STEPS for method in _OF_MANY_STEPS},
    **{(data, method): _TWO_STEPS for data in _SMALL_RADII for method in _OF_MANY_STEPS},
    **{(data, "iaat"): {**_TWO_STEPS, "attack_step_size": Epsilons(1.0)} for data in _SMALL_RADII},
}


def recipe(dataset: str, method: str, name: str = PAPER) -> dict[str, Any]:
    """Return the settings of a data set and method, by the names of `trainers.settings.config.Experiment`.

    Some are `Epsilons` or `BySize`. Natural training takes the schedule of PGD training, and no attack.

    Args:
        dataset: The name of the data set, or the address of images of one's own, which have one recipe.
        method: The method.
        name: One of `RECIPES`.

    Raises:
        InvalidInput: If there is no recipe for the data set or for the method on it.
    """
    dataset = one_of("dataset", OWN if is_own(dataset) else dataset, _DATASETS)
    settings = _paper(dataset, method)
    if one_of("recipe", name, RECIPES) == FAST:
        settings |= _FASTER[dataset] | _FASTER_ATTACKS.get((dataset, method), {})
    return settings


def names_in_recipes() -> set[str]:
    """Return the names of the settings that a recipe of any data set and method has."""
    return {name for each in (*_DATASETS.values(), *_TRAINING_ATTACKS.values(), *_METHODS.values()) for name in each}


def _paper(dataset: str, method: str) -> dict[str, Any]:
    if method == "natural":
        schedule = {name: value for name, value in _METHODS[dataset, "pgd"].items() if name != "attack_start"}
        return {**_DATASETS[dataset], **schedule, "alpha_train": 0.0}
    one_of("method", method, ["natural", *(name for data, name in _METHODS if data == dataset)])
    return {**_DATASETS[dataset], **_TRAINING_ATTACKS[dataset], **_METHODS[dataset, method]}
