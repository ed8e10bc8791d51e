"""How long a model trains: budgets by name, and the settings of the trainers that each one leads to.

A budget of minutes is a number of passes (reproduce/passes.py), and so the same work on every machine.
"""

import abc
import bisect
import dataclasses
import math
from typing import Any

from reproduce.passes import DATA, minutes_of, passes_of
from reproduce.rows import Model, Table
from trainers.settings.config import Experiment
from trainers.settings.recipes import FAST


@dataclasses.dataclass(frozen=True)
class Budget(abc.ABC):
    """How long each model of a table trains.

    Attributes:
        name: What `--budget` calls it.
    """

    name: str

    @abc.abstractmethod
    def settings_of(self, model: Model, *, train_examples: int | None = None) -> dict[str, Any]:
        """Return the settings of `trainers.settings.config.Experiment` by which it trains a model.

        Args:
            model: What is trained.
            train_examples: How many images there are to train on; those of the whole data set if not given.
        """

    @abc.abstractmethod
    def told(self, table: Table, *, train_examples: int | None = None) -> str:
        """Return what it is, what it changes of the paper's recipe for a table's models, and what that would take.

        Args:
            table: Whose models train.
            train_examples: How many images there are to train on; those of the whole data set if not given.
        """


@dataclasses.dataclass(frozen=True)
class Paper(Budget):
    """The paper's recipe word for word, however long it takes.

    Example:
        >>> from reproduce.rows import TABLES
        >>> BUDGETS["paper"].told(TABLES[1])
        "Budget paper: the paper's recipe word for word, by calculation 4.3 to 4.5 hours a model."
    """

    def settings_of(self, model: Model, *, train_examples: int | None = None) -> dict[str, Any]:
        """Change nothing but the number of images, where it is given; see `Budget`."""
        return {} if train_examples is None else {"train_examples": train_examples}

    def told(self, table: Table, *, train_examples: int | None = None) -> str:
        """See `Budget`."""
        return f"Budget {self.name}: the paper's recipe word for word, {_hours(table, train_examples)}."


@dataclasses.dataclass(frozen=True)
class Part(Budget):
    """The paper's recipe and network, once through a part of the images: that it runs, and how long all of it takes.

    Attributes:
        images: The part of the training images.
        evaluated: On how many validation and test images a model is evaluated: on all it would take longer than it
            has been trained.
    """

    images: float
    evaluated: int = 100

    def settings_of(self, model: Model, *, train_examples: int | None = None) -> dict[str, Any]:
        """Change the numbers of images and of epochs; see `Budget`."""
        once = Experiment.of(model.dataset, model.method).replays or 1
        images = max(1, round(self.images * (train_examples or DATA[model.dataset].train_examples)))
        few = {"validation_examples": self.evaluated, "eval_examples": self.evaluated}
        return {"epochs": once, "train_examples": images, **few}

    def told(self, table: Table, *, train_examples: int | None = None) -> str:
        """See `Budget`."""
        seen = (
            f"one epoch of the paper's recipe on {100 * self.images:g} % of the training images, evaluated on "
            f"{self.evaluated} test images unless told otherwise"
        )
        return f"Budget {self.name}: {seen}; the whole recipe takes {_hours(table, train_examples)}."


@dataclasses.dataclass(frozen=True)
class Minutes(Budget):
    """The recipe `fast`, with the first of a data set's networks, for as many passes as the reference machine makes.

    Attributes:
        minutes: Of training on that machine; a model is evaluated on validation images without charge.
        validations: How often.

    Example:
        >>> sorted(BUDGETS["quarter"].settings_of(Model("mnist", "trades", 2.0)))
        ['architecture', 'epochs', 'eval_every', 'recipe', 'train_examples']
    """

    minutes: float
    validations: int = 4

    def settings_of(self, model: Model, *, train_examples: int | None = None) -> dict[str, Any]:
        """Take as many whole epochs as it pays for, or one on as many images as it pays for; see `Budget`."""
        data = DATA[model.dataset]
        images = train_examples or data.train_examples
        changes = {"recipe": FAST, "architecture": data.first[0], "train_examples": images}
        first = Experiment.of(model.dataset, model.method, alpha_train=model.alpha_train, **changes)
        replays = first.replays or 1

        def cost(rounds: int) -> int:
            return passes_of(dataclasses.replace(first, epochs=rounds * replays))

        paid = 60 * self.minutes * data.first[1]
        if cost(1) > paid:
            fewer = max(1, math.floor(images * paid / cost(1)))
            return {**changes, "train_examples": fewer, "epochs": replays, "eval_every": 1}
        too_many = math.ceil(paid / images)  # rounds of one pass each, and none costs less than two
        rounds = bisect.bisect_right(range(1, too_many), paid, key=cost)
        return {**changes, "epochs": rounds * replays, "eval_every": math.ceil(rounds / self.validations)}

    def told(self, table: Table, *, train_examples: int | None = None) -> str:
        """See `Budget`."""
        network, rate = DATA[table.dataset].first
        changed = ", ".join(
            f"{name} ({', '.join(chosen)} for {', '.join(usual)})"
            for name, (chosen, usual) in self._changed(table, train_examples).items()
        )
        return (
            f"Budget {self.name}: {self.minutes:g} minutes of training a model on two cores of the machine of "
            f"results/speed.md, that is {60e-6 * self.minutes * rate:,.1f} million passes of an image through "
            f"{network} and back, at {rate:,} a second; evaluation comes on top. Against the paper's recipe it changes "
            f"{changed}; that recipe takes {_hours(table, train_examples)}."
        )

    def _changed(self, table: Table, train_examples: int | None) -> dict[str, tuple[list[str], list[str]]]:
        """Return what it changes, by the name of the setting: its values of here and of the paper, in rows' order."""
        found: dict[str, tuple[list[str], list[str]]] = {}
        for model in table.models:
            usual = dataclasses.asdict(Experiment.of(model.dataset, model.method))
            settings = self.settings_of(model, train_examples=train_examples)
            chosen = dataclasses.asdict(Experiment.of(model.dataset, model.method, **settings))
            for name in [name for name in _SHOWN if chosen[name] != usual[name]]:
                for values, value in zip(found.setdefault(name, ([], [])), (chosen[name], usual[name]), strict=True):
                    values += [shown for shown in [_shown(value)] if shown not in values]
        return found


BUDGETS: dict[str, Budget] = {
    budget.name: budget
    for budget in (
        Minutes("minutes", 3),
        Minutes("quarter", 15),
        Minutes("hour", 60),
        Minutes("evening", 240),
        Paper("paper"),
        Part("tenth", images=0.1),
    )
}
"""The budgets by name."""


_SHOWN = [
    field.name
    for field in dataclasses.fields(Experiment)
    if field.name not in ("train_examples", "eval_every", "precision", "data_dir", "output_dir")
]
"""Settings that a budget may change, but for those of the machine and of what is looked at."""


def _shown(value: Any) -> str:
    return "none" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _hours(table: Table, train_examples: int | None) -> str:
    """Return how long the paper's recipe takes for a table's models, in words."""
    given = {} if train_examples is None else {"train_examples": train_examples}
    hours = [minutes_of(Experiment.of(model.dataset, model.method, **given)) / 60 for model in table.models]
    shown = [f"{number:.{1 if number < 10 else 0}f}" for number in (min(hours), max(hours))]
    return f"by calculation {' to '.join(shown)} hours a model"
