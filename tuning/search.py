"""Search over alpha_train, or over any other flag of the trainers.

python -m tuning.search --dataset=mnist --tuner=bayesian --max_trials=12 --search=alpha_train:0:4

Flags of the trainers are settings that every trial shares. The same command resumes a search that was killed.

In parallel, run the same command once as the chief, which trains nothing, and once for each worker, with a folder that
all share as --output_dir and a free port of the chief:

KERASTUNER_TUNER_ID=chief   KERASTUNER_ORACLE_IP=10.0.0.1 KERASTUNER_ORACLE_PORT=8000 python -m tuning.search ...
KERASTUNER_TUNER_ID=worker0 KERASTUNER_ORACLE_IP=10.0.0.1 KERASTUNER_ORACLE_PORT=8000 python -m tuning.search ...
KERASTUNER_TUNER_ID=worker1 KERASTUNER_ORACLE_IP=10.0.0.1 KERASTUNER_ORACLE_PORT=8000 python -m tuning.search ...

Workers end when there are no more trials. Up to 20 s after the last of them the chief evaluates the best trial and
ends. The chief waits for a worker that died: start one under the same name, on any machine, and it trains the trial
again from the start. If the chief died, stop the workers and start all of them again.
"""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from trainers.cli import main
from trainers.config import Experiment, setting
from tuning import results, space, tuner
from tuning.hypermodel import ExperimentHyperModel
from tuning.objective import Objective, checked_top_probability
from wmr_tf.checks import at_least, one_of, refuse, require
from wmr_tf.saving import read_json, write_json

RECORD = "search.json"
# A search may be moved, and may go on for longer.
_MAY_CHANGE = ("max_trials", "output_dir", "data_dir", "trust")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Search(Experiment):
    """What all trials share, what is searched, and how."""

    tuner: str = setting("Strategy: " + ", ".join(tuner.ORACLES) + ".", "bayesian")
    max_trials: int | None = setting("How many trials; if not given 12, with grid and hyperband all that there are.")
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
    def of(cls, dataset: str, method: str | None = None, **changes: Any) -> Self:
        """Return the search; as an experiment it is the first of its own.

        It keeps what was given, since for the rest every method has a recipe of its own.
        """
        given = {"dataset": dataset, **({} if method is None else {"method": method}), **changes}
        trials = _space(changes.get("search", cls.search), given)
        first = trials.settings(trials.first)
        return super().of(**first, **{k: v for k, v in changes.items() if k not in _OF_TRIALS}, given=given)

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of("tuner", self.tuner, tuner.ORACLES)
        if self.max_trials is not None:
            at_least("max_trials", self.max_trials, 1)
        Objective(self.objective, self.alpha_test)
        checked_top_probability(self.top_probability)
        trials = self.space()
        for item in trials.searched:
            fix = f"Write for instance --search={item.name}:0.5:4:0.5."
            is_countable = self.tuner != "grid" or item.is_countable
            require(is_countable, "search", got=f"a range of {item.name}", expected="a step, for the grid", fix=fix)
        if self.tuner == "hyperband":
            _check_one_length(trials)

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


def search(settings: Search) -> None:
    """Run a search, or its part in one, and evaluate the best trial on test images.

    Raises:
        InvalidInput: If settings, data or folder are not what they should be; nothing is written then.
        FloatingPointError: If every trial failed.
    """
    tuner.check_role()
    trials, objective = settings.space(), Objective(settings.objective, settings.alpha_test)
    hypermodel = ExperimentHyperModel(trials, objective, settings.top_probability)
    hypermodel.build_model(settings)  # the first trial's: loads the data too
    folder = claim_folder(settings)
    print(f"Searching {settings.search} for the highest {objective.name}\nWriting into {folder}", flush=True)

    few = settings.tuner in ("bayesian", "random")
    oracle = tuner.make_oracle(
        settings.tuner,
        objective,
        max_trials=settings.max_trials or (12 if few else None),
        epochs=settings.rounds,
        seed=settings.seed,
    )
    searcher = tuner.opened(oracle, hypermodel, folder)
    if tuner.is_chief():
        tuner.print_workers(oracle)
    searcher.search()
    if tuner.is_worker():
        print("No more trials for this worker.")
    else:
        conclude(settings, searcher, objective, folder)


def conclude(settings: Search, searcher: tuner.SearchTuner, objective: Objective, folder: Path) -> None:
    """Write the trials, print them with the best one's command, and evaluate that on test images."""
    trials = settings.space()
    rows = results.rows_of(searcher.oracle, trials, folder / tuner.TRIALS)
    results.write(rows, trials, objective, folder)
    print(results.table(rows, trials, objective))
    best = results.best_trial(searcher.oracle)
    if best is None:
        reasons = "; ".join(sorted({row["reason"] for row in rows}))
        raise FloatingPointError(f"search: all {len(rows)} trials failed: {reasons}")
    values = trials.values(best.hyperparameters.copy())
    print(
        f"Best: trial {best.trial_id}, {objective.name} {best.score:.4f}\n{results.command(trials, values)}", flush=True
    )
    if said := results.difference_from_trial(settings.tuner, objective):
        print(said, flush=True)
    results.evaluate_best(searcher, trials, best, folder)
    title = f"{settings.dataset}, {len(rows)} trials, validation images"
    results.draw(rows, trials, objective, folder, title)  # last: a picture that fails costs nothing else
    print(f"Everything is in {folder}")


def claim_folder(settings: Search) -> Path:
    """Return the search's own folder, which it creates; one that holds something else is refused.

    Raises:
        InvalidInput: If it holds anything but this search, or cannot be written.
    """
    folder = Path(settings.output_dir or f"runs/search-{settings.dataset}-{settings.tuner}").expanduser()
    fix = "Name another folder with --output_dir."
    given = {name: value for name, value in settings.given.items() if name not in _MAY_CHANGE}
    record = json.loads(json.dumps({**dataclasses.asdict(settings), "given": given}))
    # In this order: chief and workers may start at the same moment, and another one's record be there any time.
    held = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    strangers = [name for name in held if not name.startswith(f".{RECORD}.")]
    if (folder / RECORD).exists():
        found = read_json(folder / RECORD, RECORD, fix=fix)
        for name in [name for name in record if name not in _MAY_CHANGE]:
            got = f"{str(folder)!r}, a search with {name} {found.get(name)!r}"
            require(found.get(name) == record[name], "output_dir", got=got, expected=repr(record[name]), fix=fix)
        return folder
    is_free = not strangers and (folder.is_dir() or not folder.exists())
    require(is_free, "output_dir", got=repr(str(folder)), expected="a new folder, or this search's", fix=fix)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / RECORD, record)
    except OSError as error:
        refuse("output_dir", got=repr(str(folder)), expected="a folder that can be written", fix=fix, cause=error)
    return folder


if __name__ == "__main__":
    main(Search, search, strategy="none")  # a trial has one device; several trials may run beside each other
