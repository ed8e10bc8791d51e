"""The settings of each data set and method, after Zeng et al. 2021 and, where it is silent, the public code."""

from typing import Any

from wmr_tf import architectures
from wmr_tf.checks import one_of

ARCHITECTURES = {
    "digits_cnn": architectures.digits_cnn,
    "small_cnn": architectures.small_cnn,
    "resnet18": architectures.resnet18,
    "wide_resnet_34_10": architectures.wide_resnet_34_10,
}

# What holds for a data set whatever the method; the test attack is among it.
_DATASETS: dict[str, dict[str, Any]] = {
    "digits": {
        "architecture": "digits_cnn",
        "eval_epsilon": 0.15,
        "eval_attack_steps": 20,
        "eval_attack_step_size": 0.015,
        "epochs": 30,
        "batch_size": 32,
        "learning_rate": 0.05,
    },
    "mnist": {
        "architecture": "small_cnn",
        "eval_epsilon": 0.3,
        "eval_attack_steps": 40,
        "eval_attack_step_size": 0.01,
        "epochs": 100,
        "learning_rate": 0.01,
        "validation_examples": 1000,
    },
    "cifar10": {
        "architecture": "resnet18",
        "eval_epsilon": 0.031,
        "eval_attack_steps": 20,
        "eval_attack_step_size": 0.003,
        "epochs": 100,
        "learning_rate": 0.2,
        "validation_examples": 1000,
    },
}

_TRAINING_ATTACKS: dict[str, dict[str, Any]] = {
    "digits": {"epsilon": 0.15, "attack_steps": 10, "attack_step_size": 0.03},
    "mnist": {"epsilon": 0.3, "attack_steps": 40, "attack_step_size": 0.01},
    "cifar10": {"epsilon": 0.031, "attack_steps": 10, "attack_step_size": 0.007},
}

_TRADES = {"attack_start": "gaussian", "learning_rate_drop": 0.1}
_PGD = {"attack_start": "uniform", "learning_rate_drop": 0.2, "milestones": (0.60,), "weight_decay": 5e-4}

_METHODS: dict[tuple[str, str], dict[str, Any]] = {
    ("digits", "trades"): {**_TRADES, "alpha_train": 2.0, "beta": 3.0, "milestones": (0.75, 0.90)},
    ("digits", "pgd"): {**_PGD, "alpha_train": 0.5},
    ("mnist", "trades"): {**_TRADES, "alpha_train": 2.0, "beta": 6.0, "milestones": (0.55, 0.75, 0.90)},
    ("mnist", "pgd"): {**_PGD, "alpha_train": 0.5},
    ("cifar10", "trades"): {
        **_TRADES,
        "alpha_train": 2.0,
        "beta": 5.0,
        "milestones": (0.75, 0.90),
        "weight_decay": 2e-4,
    },
    ("cifar10", "pgd"): {**_PGD, "alpha_train": 2.0},
}


def recipe(dataset: str, method: str) -> dict[str, Any]:
    """Returns the settings of a data set and method, by the names of `trainers.config.Experiment`.

    Natural training takes the schedule of PGD training, and no attack.

    Raises:
        InvalidInput: If there is no recipe for the data set or for the method on it.
    """
    one_of("dataset", dataset, _DATASETS)
    if method == "natural":
        schedule = {name: value for name, value in _METHODS[dataset, "pgd"].items() if name != "attack_start"}
        return {**_DATASETS[dataset], **schedule, "alpha_train": 0.0}
    one_of("method", method, ["natural", *(name for data, name in _METHODS if data == dataset)])
    return {**_DATASETS[dataset], **_TRAINING_ATTACKS[dataset], **_METHODS[dataset, method]}
