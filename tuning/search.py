"""Search over alpha_train, or over any other flag of the trainers.

python -m tuning.search --dataset=mnist --tuner=bayesian --max_trials=12 --search=alpha_train:0:4

Flags of the trainers are settings that every trial shares. The same command resumes a search that was killed.

In parallel, run the same command once as the chief, which trains nothing, and once for each worker, with a folder that
all share as --output_dir and a free port of the chief:

KERASTUNER_TUNER_ID=chief   KERASTUNER_ORACLE_IP=10.0.0.1 KERASTUNER_ORACLE_PORT=8000 python -m tuning.search ...
KERASTUNER_TUNER_ID=worker0 KERASTUNER_ORACLE_IP=10.0.0.1 KERASTUNER_ORACLE_PORT=8000 python -m tuning.search ...
KERASTUNER_TUNER_ID=worker1 KERASTUNER_ORACLE_IP=10.0.0.1 KERASTUNER_ORACLE_PORT=8000 python -m tuning.search ...

Workers end when there are no more trials. Up to 20 s after the last of them the chief evaluates the best trial and
ends. The chief waits for a worker that died: start one under the same name, on any machine, and it goes on with the
trial from its last checkpoint. If the chief died, stop the workers and start all of them again.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, Self

from trainers.cli import Command
from trainers.quiet import late
from trainers.settings.base import COMMON, setting
from trainers.settings.config import Experiment
from tuning import space
from tuning.goal import checked_top_probability, weights_of
from tuning.role import check_role
from wmr_tf.checks import at_least, one_of, require
from wmr_tf.extras import need

TUNERS = ("bayesian", "random", "hyperband", "grid")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Search(Experiment):
    """What all trials share, what is searched, and how."""

    SECTION = COMMON

    tuner: str = setting("Strategy.", "bayesian", choices=TUNERS)
    max_trials: int | None = setting("How many trials.", unset="12, with grid and hyperband all that there are")
    search: str = setting(
        "What is searched: name:low:high, name:low:high:step, name:low:high:log or name:choice/choice, with commas.",
        "alpha_train:0:4",
    )
    objective: str = setting(
        "What is maximised on validation images: val_A_strong, val_A_sa, val_A_tr, val_A_sa_1p5 (at alpha_test 1.5), "
        "any of them with _matched (at --top_probability, where smaller logits alone gain nothing), or "
        "0.7*val_A_sa+0.3*val_A_nat. A trial that is masked in every epoch fails.",
        "val_A_strong",
    )
    top_probability: float = setting(
        "Mean top probability on clean validation images at which a _matched objective is measured.", 0.95
    )
    given: Mapping[str, Any] = dataclasses.field(default_factory=dict)  # no flag: what the flags said

    @classmethod
    def of(cls, dataset: str = "", method: str | None = None, **changes: Any) -> Self:
        """Return the search; as an experiment it is the first of its own.

        It keeps what was given, since for the rest every method has a recipe of its own.
        """
        given = {"dataset": dataset, **({} if method is None else {"method": method}), **changes}
        trials = _space(changes.get("search", cls.search), given)
        first = trials.settings(trials.first)
        return super().of(**first, **{k: v for k, v in changes.items() if k not in _OF_TRIALS}, given=given)

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of("tuner", self.tuner, TUNERS)
        if self.max_trials is not None:
            at_least("max_trials", self.max_trials, 1)
        weights_of(self.objective, self.alpha_test)
        checked_top_probability(self.top_probability)
        trials = self.space()
        for item in trials.searched:
            fix = f"Write for instance --search={item.name}:0.5:4:0.5."
            is_countable = self.tuner != "grid" or item.is_countable
            require(is_countable, "search", got=f"a range of {item.name}", expected="a step, for the grid", fix=fix)
        if self.tuner == "hyperband":
            _check_one_length(trials)

    def check_place(self) -> None:
        """Check also the tuner and the environment of a parallel search; see `Settings.check_place`."""
        need("tuner", "search")
        super().check_place()
        check_role()

    def space(self) -> space.Space:
        """Return the experiments there are to choose from."""
        return _space(self.search, self.given)


_OF_TRIALS = {field.name for field in dataclasses.fields(Experiment)}


def _space(searched: str, given: Mapping[str, Any]) -> space.Space:
    return space.Space({k: v for k, v in given.items() if k in _OF_TRIALS}, space.parse(searched))


def _check_one_length(trials: space.Space) -> None:
    """Check that all trials go through the images equally often, as Hyperband takes for granted."""
    for item in trials.searched:
        is_fixed = item.name not in ("epochs", "replays")
        expected = "none: Hyperband sets how long a trial trains"
        require(is_fixed, "search", got=item.name, expected=expected, fix="Leave it out.")
    replaying = trials.takers("replays")
    require(
        not replaying or len(trials.methods) == 1,
        "search",
        got=f"method {'/'.join(trials.methods)}",
        expected=f"{'/'.join(replaying)} alone or not at all: its replays make fewer epochs, and Hyperband sets these",
        fix="Take another --tuner, or search that method by itself.",
    )


# A trial has one device; several trials may run beside each other.
COMMAND = Command(Search, late("tuning.searching:search"), strategy="none")

if __name__ == "__main__":
    COMMAND()
