"""What is searched: `alpha_train:0:4,learning_rate:0.01:0.1:log,method:pgd/trades`."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from trainers.cli import value_of
from trainers.settings.config import Experiment
from trainers.settings.evaluation import Evaluation
from trainers.settings.method import METHOD_SETTINGS
from wmr_tf.checks import InvalidInput, one_of, require
from wmr_tf.names import METHODS

if TYPE_CHECKING:
    import keras_tuner as kt

# What decides how a trial is measured cannot differ from trial to trial, and a process is deterministic or is not.
_MEASURE = {field.name for field in dataclasses.fields(Evaluation)} - {"seed"} | {"validation_examples", "eval_every"}
_FIXED = _MEASURE | {"deterministic", "initialize_from", "strategy"}
SEARCHABLE = [field.name for field in dataclasses.fields(Experiment) if field.name not in _FIXED]

_FORMS = "name:low:high, name:low:high:step, name:low:high:log or name:choice/choice"
_EXAMPLE = "Write for instance --search=alpha_train:0:4,method:pgd/trades."


@dataclasses.dataclass(frozen=True)
class Range:
    """Numbers from low to high, in steps if a step is given."""

    name: str
    low: float
    high: float
    step: float | None
    is_log: bool
    is_int: bool

    def declare(self, hp: kt.HyperParameters) -> Any:
        """Make it known to Keras Tuner, and return the trial's value, None where it does not apply."""
        declare = hp.Int if self.is_int else hp.Float
        # Keras Tuner counts the steps by `//`, and 1 // 0.1 is 9.
        high = self.high + 1e-6 * self.step if self.step and not self.is_int else self.high
        return declare(self.name, self.low, high, step=self.step, sampling="log" if self.is_log else "linear")

    @property
    def is_countable(self) -> bool:
        """Whether there are finitely many values."""
        return self.step is not None or self.is_int and not self.is_log

    @property
    def ends(self) -> tuple[Any, ...]:
        """The values to check: if these are valid, so are all between them."""
        return self.low, self.high


@dataclasses.dataclass(frozen=True)
class Choice:
    """Some values, each as the text that the flag takes: Keras Tuner knows no tuples."""

    name: str
    texts: tuple[str, ...]

    def declare(self, hp: kt.HyperParameters) -> Any:
        """Make it known to Keras Tuner, and return the trial's value, None where it does not apply."""
        text = hp.Choice(self.name, list(self.texts))
        return None if text is None else value_of(Experiment, self.name, text)

    @property
    def is_countable(self) -> bool:
        """Whether there are finitely many values."""
        return True

    @property
    def ends(self) -> tuple[Any, ...]:
        """All values."""
        return tuple(value_of(Experiment, self.name, text) for text in self.texts)


@dataclasses.dataclass(frozen=True)
class Space:
    """Which experiments there are to choose from.

    Args:
        given: The settings that all trials share, by the names of `trainers.settings.config.Experiment`. A trial
            takes all other settings from the recipe of its method.
        searched: The settings that differ from trial to trial.

    Raises:
        InvalidInput: If a setting is both given and searched, does not fit the methods, or has a first, last or
            listed value that goes with none of the others'.
    """

    given: Mapping[str, Any]
    searched: tuple[Range | Choice, ...]

    def __post_init__(self) -> None:
        for item in self.searched:
            fix = f"Leave out --{item.name}, or {item.name} in --search."
            require(item.name not in self.given, item.name, got="a value", expected="none, as it is searched", fix=fix)
            takers = self.takers(item.name)
            expected = f"a method that takes it, not only {', '.join(self.methods)}"
            require(bool(takers), "search", got=item.name, expected=expected, fix="Change --method.")
        for method in self.methods:
            self._fitting(method)
        first = self.experiment(self.first)
        for method in self.methods:
            for item in self._searched_with(method):
                for value in item.ends:
                    trial = self.experiment(self._fitting(method, **{item.name: value}))
                    self._check_measured_alike(item.name, first, trial)

    @staticmethod
    def _check_measured_alike(searched: str, one: Experiment, other: Experiment) -> None:
        """Check that trials are measured alike: of one's own images the test attack's radius follows epsilon."""
        differing = [name for name in sorted(_MEASURE) if getattr(one, name) != getattr(other, name)]
        got = f"{searched}, which {' and '.join(differing)} follow{'s' * (len(differing) == 1)}"
        fix = f"Pass {' and '.join(f'--{name}' for name in differing)}."
        require(not differing, "search", got=got, expected="trials that are measured alike", fix=fix)

    @property
    def methods(self) -> tuple[str, ...]:
        """The methods that are searched, or the one that is not."""
        found = [item.ends for item in self.searched if item.name == "method"]
        return found[0] if found else (self.given.get("method", "trades"),)

    @property
    def first(self) -> dict[str, Any]:
        """The first values that go together."""
        return self._fitting(self.methods[0])

    def values(self, hp: kt.HyperParameters) -> dict[str, Any]:
        """Declare what is searched, and return the values of a trial.

        A setting that only some methods take, such as beta, is searched for these alone.
        """
        values = {}
        # The method comes first: what depends on it refers to it.
        for item in sorted(self.searched, key=lambda item: item.name != "method"):
            takers = self.takers(item.name)
            if len(takers) < len(self.methods) and item.name != "method":
                with hp.conditional_scope("method", list(takers)):
                    values[item.name] = item.declare(hp)
            else:
                values[item.name] = item.declare(hp)
        return {name: value for name, value in values.items() if value is not None}

    def settings(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return the settings of a trial beyond its recipe: those given that its method takes, and those searched."""
        settings = {"method": self.methods[0], **self.given, **values}
        method = settings["method"]
        # A method that is not searched gets all that is given, and an error if it does not take it.
        return {
            name: value
            for name, value in settings.items()
            if name in values or len(self.methods) == 1 or method in self.takers(name)
        }

    def experiment(self, values: Mapping[str, Any]) -> Experiment:
        """Return the experiment of a trial.

        Raises:
            InvalidInput: If these values do not go together.
        """
        return Experiment.of(**self.settings(values))

    def takers(self, name: str) -> tuple[str, ...]:
        """Return the methods in this space that take a setting."""
        parameter = METHOD_SETTINGS.get(name)
        needed = {parameter} if parameter else set()
        return tuple(
            method for method in self.methods if needed <= set(METHODS[one_of("method", method, METHODS)].settings)
        )

    def _searched_with(self, method: str) -> list[Range | Choice]:
        return [item for item in self.searched if item.name != "method" and method in self.takers(item.name)]

    def _fitting(self, method: str, **fixed: Any) -> dict[str, Any]:
        """Return the first values of a method, the fixed ones among them, that go together.

        Raises:
            InvalidInput: If none do: what is wrong with the first.
        """
        free = [item for item in self._searched_with(method) if item.name not in fixed]
        mistakes = []
        for values in itertools.product(*(item.ends for item in free)):
            found = {"method": method, **fixed, **dict(zip((item.name for item in free), values, strict=True))}
            try:
                self.experiment(found)
            except InvalidInput as mistake:
                mistakes.append(mistake)
            else:
                return found
        raise mistakes[0]


def parse(text: str) -> tuple[Range | Choice, ...]:
    """Return the settings that a `--search` names.

    Args:
        text: Settings with commas between them, each `name:low:high`, `name:low:high:step`, `name:low:high:log` or
            `name:choice/choice`. Numbers within a choice are joined by a plus: `milestones:0.5+0.75/0.9`.

    Raises:
        InvalidInput: If it is not of that form.

    Example:
        >>> parse("alpha_train:0:4:0.5")
        (Range(name='alpha_train', low=0.0, high=4.0, step=0.5, is_log=False, is_int=False),)
    """
    items = tuple(map(_item, text.split(",")))
    names = [item.name for item in items]
    fix = "Name each setting once."
    require(len(names) == len(set(names)), "search", got=repr(text), expected="different settings", fix=fix)
    return items


def _item(text: str) -> Range | Choice:
    name, *rest = text.split(":")
    one_of("search", name, SEARCHABLE)
    require(len(rest) in (1, 2, 3) and all(rest), "search", got=repr(text), expected=_FORMS, fix=_EXAMPLE)
    if len(rest) == 1:
        choice = Choice(name, tuple(part.replace("+", ",") for part in rest[0].split("/")))
        require(
            len(set(choice.ends)) == len(choice.ends) > 1,
            "search",
            got=repr(text),
            expected="at least two choices, all different",
            fix=_EXAMPLE,
        )
        return choice
    return _range(name, text, *rest)


def _range(name: str, text: str, low_text: str, high_text: str, third: str = "") -> Range:
    low, high = value_of(Experiment, name, low_text), value_of(Experiment, name, high_text)
    is_number = all(type(end) in (int, float) for end in (low, high))
    fix = f"Write --search={name}:choice/choice."
    require(is_number, "search", got=repr(text), expected=f"choices, since {name} is no number", fix=fix)
    require(low < high < float("inf"), "search", got=repr(text), expected="low < high, both finite", fix=_EXAMPLE)
    is_log = third == "log"
    require(low > 0 or not is_log, "search", got=repr(text), expected="low > 0 for log", fix=_EXAMPLE)
    step = value_of(Experiment, name, third) if third and not is_log else None
    expected = "a step > 0 that is no larger than the range, or log"
    require(step is None or 0 < step <= high - low, "search", got=repr(text), expected=expected, fix=_EXAMPLE)
    return Range(name, low, high, step, is_log, is_int=type(low) is int)
