"""A search from its settings to its folder: what `python -m tuning.search` does."""

import dataclasses
import json
from pathlib import Path

from trainers.runs.folder import BEST, FILES
from trainers.runs.naming import describe_validation
from trainers.runs.run import validation_evaluation
from trainers.runs.telling import conditions_of
from trainers.runs.testing import number_of_images, prepare, tell_files, tell_of_missing_report
from tuning import results, tuner
from tuning.hypermodel import ExperimentHyperModel
from tuning.objective import Objective
from tuning.role import is_chief, is_worker
from tuning.search import Search
from wmr_tf.checks import refuse, require
from wmr_tf.data.own import short_name
from wmr_tf.fit.interrupts import own_command, stoppable
from wmr_tf.report.tables import filled
from wmr_tf.saving import forget_unfinished, noted, picture_files, read_json, write_json

RECORD = "search.json"
_FILES = (
    *(RECORD, "trials.json", "trials.md", "trials.csv", "oracle.json", "tuner.json", "trial.json"),
    *(file.name for file in picture_files(results.PICTURE)),
)
# A search may be moved, and may go on for longer.
_MAY_CHANGE = ("max_trials", "output_dir", "data_dir", "trust")


def search(settings: Search) -> None:
    """Run a search, or its part in one, and evaluate the best trial on test images.

    Raises:
        InvalidInput: If settings, data or folder are not what they should be; nothing is written then.
        FloatingPointError: If every trial failed.
        OSError: If a file cannot be written; its notes say how to go on.
    """
    trials, objective = settings.space(), Objective(settings.objective, settings.alpha_test)
    hypermodel = ExperimentHyperModel(trials, objective, settings.top_probability)
    hypermodel.build_model(settings)  # the first trial's: loads the data too
    prepare(settings, hypermodel.splits(settings))  # for its checks: the best trial is evaluated at the end
    images = number_of_images(hypermodel.splits(settings).validation)
    tell_of_missing_report()
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
    searcher = tuner.opened(oracle, hypermodel, folder, images=images, on_divergence=settings.on_divergence)
    if is_chief():
        tuner.print_workers(oracle)
    # A chief and its workers wait in Keras Tuner's code, which a signal may end.
    keeping = noted if is_chief() or is_worker() else stoppable
    with keeping(f"{folder} keeps the trials", own_command()):
        searcher.search()
        if is_worker():
            print("No more trials for this worker.")
        else:
            conclude(settings, searcher, objective, folder)


def conclude(settings: Search, searcher: tuner.SearchTuner, objective: Objective, folder: Path) -> None:
    """Write the trials, print them with the best one's command, and evaluate that on test images."""
    trials = settings.space()
    splits = searcher.hypermodel.splits(settings)
    evaluation = validation_evaluation(settings, splits)
    rows = results.rows_of(searcher.oracle, trials, folder / tuner.TRIALS)
    results.write(rows, trials, objective, folder)
    caption = filled(conditions_of(evaluation, short_name(settings.dataset)))
    print(f"\n{caption}\n\n{results.table(rows, trials, objective)}\n")
    best = results.best_trial(searcher.oracle)
    if best is None:
        reasons = "; ".join(sorted({row["reason"] for row in rows}))
        raise FloatingPointError(f"search: all {len(rows)} trials failed: {reasons}")
    values = trials.values(best.hyperparameters.copy())
    print(
        f"Best: trial {int(best.trial_id)}, {objective.name} {best.score:.4f}\n{results.command(trials, values)}",
        flush=True,
    )
    if said := results.difference_from_trial(settings.tuner, objective):
        print(said, flush=True)
    results.evaluate_best(searcher, trials, best, folder)
    judged = describe_validation(settings, number_of_images(splits.validation))
    title = f"{short_name(settings.dataset)}, {len(rows)} trials\n{judged}"
    results.draw(rows, trials, objective, folder, title)  # last: a picture that fails costs nothing else
    searcher.forget_warm_starts()  # no worker is writing any more
    for each in (folder, *(path for path in folder.rglob("*") if path.is_dir())):
        forget_unfinished(each, (*_FILES, *FILES))
    tell_files(folder / results.BEST_TRIAL, **{BEST: f"the classifier of trial {int(best.trial_id)}, the best"})
    print(f"The trials are in {folder / 'trials.md'}, {folder / results.PICTURE}")


def claim_folder(settings: Search) -> Path:
    """Return the search's own folder, which it creates; one that holds something else is refused.

    Raises:
        InvalidInput: If it holds anything but this search, or cannot be written.
    """
    folder = Path(settings.output_dir or f"runs/search-{short_name(settings.dataset)}-{settings.tuner}").expanduser()
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
