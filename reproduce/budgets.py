"""How long a model trains: budgets by name, each a number of passes, and the epochs that it pays for.

A pass is one image through the network, forward and back to the image. So a budget means the same work on every
machine; the minutes in its name are those of the reference machine, two cores with AVX512-BF16 (results/speed.md).
"""

import bisect
import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any

from reproduce.rows import Model, Table
from trainers.settings.config import Experiment
from trainers.settings.recipes import FAST


@dataclasses.dataclass(frozen=True)
class Budget:
    """Training time for each model on the reference machine.

    Attributes:
        name: What `--budget` calls it.
        minutes: How long; None for the paper's recipe word for word, however long it takes.
        images: Of the paper's recipe, the part of the training images that it sees, once; None for all, in all epochs.
    """

    name: str
    minutes: float | None
    images: float | None = None


BUDGETS = {
    name: Budget(name, minutes)
    for name, minutes in {"minutes": 3, "quarter": 15, "hour": 60, "evening": 240, "paper": None}.items()
} | {"tenth": Budget("tenth", None, images=0.1)}
"""The budgets by name; a tenth of an epoch shows that a recipe runs, and how long all of it would take."""

VALIDATIONS = 4
"""How often a model is evaluated on validation images, which no budget is charged for."""

VALIDATED = 100
"""On how many validation images a model of a tenth of an epoch is evaluated."""


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
# same at 30, and at a quarter of it at 64 x 64. The thin ResNet was not there: a PGD-10 step of it takes 2.5 times the
# processor time of one of SmallCNN, at both sizes, in turns, in float32 with AVX2 (2026-11-29).
DATA = {
    "digits": Data(1_078, 599, {"digits_cnn": 90_000}),
    "mnist": Data(55_000, 10_000, {"small_cnn": 15_000}),
    "cifar10": Data(45_000, 10_000, {"thin_resnet": 6_000, "resnet18": 370}),
    "tiny_imagenet": Data(90_000, 10_000, {"thin_resnet": 6_000, "resnet18": 92}),
}
"""What is known of each data set, as tensorflow-datasets and the official archive have it."""


# What it costs to train on an image once, in passes, given all settings and the round. As results/costs.md has measured
# it, a step of the attack is one pass and an update, whose way back goes to the weights too, is two; TRADES updates on
# clean and on attacked images. The repeated first layer of YOPO is not counted. IAAT attacks at three radii once its
# warm-up is over. To know where the weights are worse takes as much again as the update.
_PASSES: dict[str, Callable[[Experiment, int], float]] = {
    "natural": lambda run, epoch: _update(run),
    "pgd": lambda run, epoch: run.steps_at(epoch) + _update(run),
    "trades": lambda run, epoch: run.steps_at(epoch) + 2 * _update(run),
    "free": lambda run, epoch: 2 * (run.replays or 1),
    "yopo": lambda run, epoch: 2 * (run.passes or 1),
    "iaat": lambda run, epoch: (
        (1 if epoch < (run.radius_warmup or 0.0) * run.rounds else 3) * run.steps_at(epoch) + _update(run)
    ),
}


def _update(run: Experiment) -> int:
    return 4 if run.awp else 2


def passes_of(run: Experiment) -> int:
    """Return how many passes a training makes, by calculation.

    Args:
        run: All settings of the training.

    Example:
        >>> passes_of(Experiment.of("mnist", "trades"))  # 100 times 55,000 images, 40 steps and 4
        242000000
    """
    images = run.train_examples or DATA[run.dataset].train_examples
    warm = 2 * run.warm_start  # an epoch of free is a replay, and the warm start counts these
    return round(images * (warm + sum(_PASSES[run.method](run, epoch) for epoch in range(run.rounds))))


def settings_of(model: Model, budget: Budget, *, train_examples: int | None = None) -> dict[str, Any]:
    """Return the settings of `trainers.settings.config.Experiment` by which a budget trains a model.

    The budget `paper` changes nothing, `tenth` only the numbers of images and of epochs. The others take the recipe
    `fast`, and as many whole epochs as they pay for, at least one; `VALIDATIONS` times the model is evaluated on
    validation images.

    Args:
        model: What is trained.
        budget: For how long.
        train_examples: How many images there are to train on; those of the whole data set if not given.

    Example:
        >>> sorted(settings_of(Model("mnist", "trades", 2.0), BUDGETS["quarter"]))
        ['architecture', 'epochs', 'eval_every', 'recipe', 'train_examples']
    """
    data = DATA[model.dataset]
    images = train_examples or data.train_examples
    if budget.images is not None:
        once = Experiment.of(model.dataset, model.method).replays or 1
        return {
            "epochs": once,
            "train_examples": max(1, round(budget.images * images)),
            "validation_examples": VALIDATED,
        }
    if budget.minutes is None:
        return {} if train_examples is None else {"train_examples": train_examples}
    network, rate = next(iter(data.rates.items()))
    changes = {"recipe": FAST, "architecture": network, "train_examples": images}
    first = Experiment.of(model.dataset, model.method, alpha_train=model.alpha_train, **changes)

    def cost(rounds: int) -> int:
        return passes_of(dataclasses.replace(first, epochs=rounds * (first.replays or 1)))

    paid = 60 * budget.minutes * rate
    too_many = math.ceil(paid / images)  # rounds of one pass each, and none costs less than two
    rounds = max(1, bisect.bisect_right(range(1, too_many), paid, key=cost))
    return {**changes, "epochs": rounds * (first.replays or 1), "eval_every": math.ceil(rounds / VALIDATIONS)}


def minutes_of(run: Experiment) -> float:
    """Return how long a training takes on the reference machine, in minutes, by calculation.

    Args:
        run: All settings of the training.

    Example:
        >>> round(minutes_of(Experiment.of("cifar10", "trades")) / 60)  # the paper's recipe, in hours
        47
    """
    return passes_of(run) / DATA[run.dataset].rates[run.architecture] / 60


def told(table: Table, budget: Budget, *, train_examples: int | None = None) -> str:
    """Return what a budget is, what it changes of the paper's recipe for a table's models, and what that would take.

    Args:
        table: Whose models train.
        budget: For how long.
        train_examples: How many images there are to train on; those of the whole data set if not given.

    Example:
        >>> from reproduce.rows import TABLES
        >>> told(TABLES[1], BUDGETS["paper"])
        "Budget paper: the paper's recipe word for word, by calculation 4.3 to 4.5 hours a model."
    """
    given = {} if train_examples is None else {"train_examples": train_examples}
    hours = [minutes_of(Experiment.of(model.dataset, model.method, **given)) / 60 for model in table.models]
    takes = f"by calculation {_hours(min(hours))} to {_hours(max(hours))} hours a model"
    if budget.images is not None:
        seen = f"one epoch of the paper's recipe on {100 * budget.images:g} % of the training images"
        return f"Budget {budget.name}: {seen}; the whole recipe takes {takes}."
    if budget.minutes is None:
        return f"Budget {budget.name}: the paper's recipe word for word, {takes}."
    network, rate = next(iter(DATA[table.dataset].rates.items()))
    chosen: dict[str, list[str]] = {}
    usual: dict[str, list[str]] = {}
    for model in table.models:
        recipe = Experiment.of(model.dataset, model.method)
        settings = settings_of(model, budget, train_examples=train_examples)
        for name in ("recipe", "architecture", "epochs"):
            chosen.setdefault(name, []).append(str(settings[name]))
            usual.setdefault(name, []).append(str(getattr(recipe, name)))
    changed = [
        f"{name} ({', '.join(dict.fromkeys(values))} for {', '.join(dict.fromkeys(usual[name]))})"
        for name, values in chosen.items()
        if values != usual[name]
    ]
    return (
        f"Budget {budget.name}: {budget.minutes:g} minutes of training a model on two cores of the machine of "
        f"results/speed.md, that is {60e-6 * budget.minutes * rate:,.1f} million passes of an image through {network} "
        f"and back, at {rate:,} a second. Against the paper's recipe it changes {', '.join(changed)}; that "
        f"recipe takes {takes}."
    )


def _hours(number: float) -> str:
    return f"{number:.{1 if number < 10 else 0}f}"
