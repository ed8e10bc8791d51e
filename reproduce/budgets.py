"""How long a model trains: budgets by name, each a number of passes, and the epochs that it pays for.

A pass is one image through the network, forward and back to the image. So a budget means the same work on every
machine; the minutes in its name are those of the reference machine, two cores with AVX512-BF16 (results/speed.md).
"""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from reproduce.rows import Model, Table
from trainers.config import Experiment


@dataclasses.dataclass(frozen=True)
class Budget:
    """Training time for each model on the reference machine.

    Attributes:
        name: What `--budget` calls it.
        minutes: How long; None for the recipe word for word, however long it takes.
    """

    name: str
    minutes: float | None


BUDGETS = {
    name: Budget(name, minutes)
    for name, minutes in {"minutes": 3, "quarter": 15, "hour": 60, "evening": 240, "paper": None}.items()
}
"""The budgets by name."""


@dataclasses.dataclass(frozen=True)
class Data:
    """What a budget knows of a data set.

    Attributes:
        train_examples: Images to train on, without those for validation.
        test_examples: Images to test on.
        rates: Passes a second on the reference machine, in bfloat16, by network; a budget takes the first network.
    """

    train_examples: int
    test_examples: int
    rates: Mapping[str, int]


# From the figures of the reference machine in results/speed.md and results/streams.md: SmallCNN trains by TRADES-40, 44
# passes, at 340 images a second on its best days; the digits' network by PGD-10, 12 passes, at 7,600; ResNet-18 by the
# same at 30, and at a quarter of it at 64 x 64. The thin ResNet is by calculation: 40 million multiply-adds at 32 x 32,
# four times those of SmallCNN.
DATA = {
    "digits": Data(1_078, 599, {"digits_cnn": 90_000}),
    "mnist": Data(55_000, 10_000, {"small_cnn": 15_000}),
    "cifar10": Data(45_000, 10_000, {"thin_resnet": 3_700, "resnet18": 370}),
    "tiny_imagenet": Data(90_000, 10_000, {"thin_resnet": 920, "resnet18": 92}),
}
"""What is known of each data set, as tensorflow-datasets and the official archive have it."""


def _iaat(run: Experiment) -> float:
    # After the warm-up it attacks at three radii.
    attacks = 3 - 2 * (run.radius_warmup or 0.0)
    return attacks * (run.attack_steps or 0) + 2


_PASSES: dict[str, Callable[[Experiment], float]] = {
    "natural": lambda run: 2,
    "pgd": lambda run: (run.attack_steps or 0) + 2,
    "trades": lambda run: (run.attack_steps or 0) + 4,
    "free": lambda run: 2 * (run.replays or 1),
    "yopo": lambda run: 2 * (run.passes or 1),
    "iaat": _iaat,
}


def passes_a_round(run: Experiment) -> float:
    """Return what it costs to train on each image once, in passes, as results/costs.md has measured it.

    A step of the attack is one pass and an update, whose way back goes to the weights too, is two; TRADES updates on
    clean and on attacked images. The repeated first layer of YOPO is not counted.

    Args:
        run: All settings of the training; of free a round replays each batch.

    Example:
        >>> passes_a_round(Experiment.of("mnist", "trades"))
        44
    """
    return _PASSES[run.method](run)


class Changes(NamedTuple):
    """What a budget pays for, and what it changes of the recipes of a table's models."""

    minutes: float
    passes: float
    network: str
    rate: int
    changed: dict[str, tuple[list[str], str]]
    """Settings that are not the recipe's: their values over the models, and the recipe's."""


def settings_of(model: Model, budget: Budget, *, train_examples: int | None = None) -> dict[str, Any]:
    """Return the settings of `trainers.config.Experiment` in which a budget departs from the recipe; `paper` in none.

    The epochs are whole, at least one, and otherwise no more than the budget pays for.

    Args:
        model: What is trained.
        budget: For how long.
        train_examples: How many images there are to train on; those of the whole data set if not given.

    Example:
        >>> settings_of(Model("mnist", "trades", 2.0), BUDGETS["quarter"])
        {'architecture': 'small_cnn', 'train_examples': 55000, 'epochs': 5}
    """
    if budget.minutes is None:
        return {} if train_examples is None else {"train_examples": train_examples}
    data = DATA[model.dataset]
    network, rate = next(iter(data.rates.items()))
    images = train_examples or data.train_examples
    changes = {"architecture": network, "train_examples": images}
    run = Experiment.of(model.dataset, model.method, alpha_train=model.alpha_train, **changes)
    rounds = max(1, math.floor(60 * budget.minutes * rate / (passes_a_round(run) * images)))
    return {**changes, "epochs": rounds * (run.replays or 1)}


def passes_of(run: Experiment) -> int:
    """Return how many passes a training makes, by calculation.

    Args:
        run: All settings of the training.

    Example:
        >>> passes_of(Experiment.of("mnist", "trades"))
        242000000
    """
    images = run.train_examples or DATA[run.dataset].train_examples
    return round(run.rounds * passes_a_round(run) * images)


def minutes_of(run: Experiment) -> float:
    """Return how long a training takes on the reference machine, in minutes, by calculation.

    Args:
        run: All settings of the training.

    Example:
        >>> round(minutes_of(Experiment.of("cifar10", "trades")) / 60)  # the paper's recipe, in hours
        47
    """
    return passes_of(run) / DATA[run.dataset].rates[run.architecture] / 60


def changes_of(table: Table, name: str, *, train_examples: int | None = None) -> Changes | None:
    """Return what a budget changes of the recipes of a table's models; None if that is nothing.

    Args:
        table: The table.
        name: Of the budget.
        train_examples: How many images there are to train on; those of the whole data set if not given.
    """
    minutes = BUDGETS[name].minutes
    if minutes is None:
        return None
    network, rate = next(iter(DATA[table.dataset].rates.items()))
    values: dict[str, set[Any]] = {}
    recipes: dict[str, set[Any]] = {}
    for model in table.models:
        usual = Experiment.of(model.dataset, model.method)
        for setting, value in settings_of(model, BUDGETS[name], train_examples=train_examples).items():
            if setting != "train_examples" and value != getattr(usual, setting):
                values.setdefault(setting, set()).add(value)
                recipes.setdefault(setting, set()).add(getattr(usual, setting))
    changed = {setting: (_listed(values[setting]), " and ".join(_listed(recipes[setting]))) for setting in values}
    return Changes(minutes, 60 * minutes * rate, network, rate, changed)


def _listed(values: set[Any]) -> list[str]:
    return list(map(str, sorted(values)))
