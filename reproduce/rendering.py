"""A table beside the paper's figures, as text and as a page."""

import dataclasses
import datetime
import shlex
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from reproduce.passes import DATA, passes_of
from reproduce.results import at_alpha, summary
from reproduce.rows import Model, Row, Table
from reproduce.settings import ALL, Reproduction
from trainers.cli import as_flag
from trainers.settings.config import Experiment
from wmr_tf import report
from wmr_tf.report.rounding import decimals, with_error
from wmr_tf.report.tables import SEEDS
from wmr_tf.report.words import MASKED

Entries = Sequence[tuple[Row, Sequence[Mapping[str, Any]]]]
"""Rows, each with the results of its model by seed; none where it is not yet run."""

NOT_YET = "not yet run"

_SUITE = (
    "A_suite is what AutoAttack's version {versions} leaves of so many of the first test images, whatever PGD does."
)
_CONFIDENCE = (
    "Smaller logits alone raise A_sa and A_tr, and those of a MASKED model, which hides from PGD, count for nothing: "
    "A_suite is the figure to believe."
)
_TOLD = ("architecture", "precision", "epochs")
_WIDTH = 116


def comparison(entries: Entries) -> tuple[list[str], list[list[str]]]:
    """Return the header and the rows of a table beside the paper's figures, as `report.format_table` takes them.

    Each accuracy is in percent, the mean over seeds; the difference is in points, without decimals that the error does
    not carry.

    Args:
        entries: Rows with their results, at least one row.
    """
    first = entries[0][0]
    is_uniform = first.alpha_test is None
    header = ["Defense", *["1/lambda"] * is_uniform, "alpha_train"]
    header += [] if is_uniform else ["alpha_test", "A_nat here"]
    for name in first.figures:
        header += [f"{name} paper", f"{name} here", "diff"] + ["A_suite here"] * (name == "A_rob")
    return [*header, "seeds"], [_cells(row, results) for row, results in entries]


def _cells(row: Row, results: Sequence[Mapping[str, Any]]) -> list[str]:
    metrics = at_alpha(summary(results), row.alpha_test) if results else {}
    cells = [defence(row, results)]
    cells += [f"{row.beta:g}" if row.beta else "-"] if row.alpha_test is None else []
    cells += [str(row.model.alpha_train) if row.model.alpha_train else "-"]
    if row.alpha_test is not None:  # whose tables have no A_nat in the paper
        cells += [str(row.alpha_test), with_error(metrics, "A_nat") if metrics else NOT_YET]
    for name, paper in row.figures.items():
        cells += [f"{paper:.2f}", with_error(metrics, name) if metrics else NOT_YET, _difference(metrics, name, paper)]
        if name == "A_rob":
            cells.append(f"{with_error(metrics, 'A_suite')} of {metrics['suite_examples']:,}" if metrics else "-")
    return [*cells, str(len(results))]


def defence(row: Row, results: Sequence[Mapping[str, Any]]) -> str:
    """Return the name of a row's defence, which says so if its model hides from attacks."""
    return row.defence + MASKED * bool(results and summary(results).get("masked"))


def _difference(metrics: Mapping[str, Any], name: str, paper: float) -> str:
    if name not in metrics:
        return "-"
    digits = min(2, decimals(100 * metrics[f"{name}_stderr"]))
    return f"{round(100 * metrics[name] - paper, digits) + 0:+.{digits}f}"  # adding 0 takes the sign from -0


def notes(table: Table, entries: Entries) -> list[str]:
    """Return what has to be said of a table, sentence by sentence."""
    found = [result for _, results in entries for result in results]
    said = []
    if found:
        data = DATA[table.dataset]
        trained = {result["settings"].get("train_examples") or data.train_examples for result in found}
        tested = {result["metrics"]["examples"] for result in found}
        versions = " and ".join(sorted({result["suite"]["version"] for result in found}))
        said += [
            f"The models of here are trained on {_first(trained, data.train_examples)} training images and evaluated "
            f"on {_first(tested, data.test_examples)} test images; the paper's name of +weights is +ours. {SEEDS}",
            _SUITE.format(versions=versions),
        ]
        said += [_CONFIDENCE] if "A_sa" in table.accuracies else []
    return [*said, *([table.remark] if table.remark else [])]


def _first(numbers: set[int], every: int) -> str:
    """Return in words how many images these are, of so many."""
    return (
        f"all {every:,}" if numbers == {every} else f"the first {' and '.join(f'{each:,}' for each in sorted(numbers))}"
    )


def as_text(settings: Reproduction, entries: Entries) -> str:
    """Return the table with its notes for a terminal."""
    after = map(_filled, notes(settings.of_table, entries))
    return "\n\n".join([settings.title, report.format_table(*comparison(entries)), *after])


def as_page(settings: Reproduction, entries: Entries) -> str:
    """Return the table as a Markdown page: notes, picture, what each model cost and which commands made it."""
    table = settings.of_table
    budget = settings.of_budget.told(table, train_examples=settings.train_examples)
    command = own_command(settings, entries)
    head = [f"# {settings.title}", _filled(f"`{command}`, rendered {datetime.date.today()}. {budget}")]
    after = [*map(_filled, notes(table, entries)), f"![Paper and here]({settings.picture.name})"]
    shown = report.format_table(*comparison(entries), markdown=True)
    return "\n\n".join([*head, shown, *after, *_making(entries)]) + "\n"


def own_command(settings: Reproduction, entries: Entries) -> str:
    """Return the command that runs what the page shows, and renders it, without places of this machine.

    Its rows and seeds are those that are there, whoever ran them; those of the settings if there are none.
    """
    by_model = {row.model: [each["seed"] for each in results] for row, results in entries if results}
    if by_model:
        is_whole = len(by_model) == len(settings.of_table.models)
        rows = (ALL,) if is_whole else tuple(model.name for model in by_model)
        seeds = tuple(sorted({seed for of_model in by_model.values() for seed in of_model}))
        settings = dataclasses.replace(settings, seeds=seeds, rows=rows)
    names = ("budget", "seeds", "rows", "train_examples", "eval_examples", "suite", "suite_examples")
    flags = [as_flag(name, getattr(settings, name)) for name in names if _is_given(settings, name)]
    return shlex.join(["python", "-m", f"reproduce.table{settings.table}", *flags])


def _is_given(settings: Reproduction, name: str) -> bool:
    return name in ("budget", "seeds") or getattr(settings, name) != getattr(type(settings), name)


def _making(entries: Entries) -> Iterable[str]:
    """Yield the sections on how the models were made, if there are any."""
    by_model = {row.model: results for row, results in entries if results}
    if not by_model:
        return
    costs = ["passes (M)", "minutes there", "minutes here", "paper's recipe here (h)"]
    header = ["Model", "network", "precision", "epochs", *costs, "seeds"]
    rows = [[model.name, *_cost(model, results)] for model, results in by_model.items()]
    results = [result for found in by_model.values() for result in found]
    machines = sorted({f"{result['processor']}, {result['cores']} cores" for result in results})
    commits = sorted({result["commit"] or "unknown" for result in results})
    dates = sorted({result["date"] for result in results})
    yield "## How they were made"
    yield _filled(
        "Minutes there are those of the reference machine by calculation; minutes here what the epochs took without "
        f"their validation, mean over seeds, on {' and '.join(machines)}, whatever else ran beside them. The paper's "
        "recipe on all training images is reckoned from these minutes by passes, unless it trains another network. "
        "A processor that multiplies in bfloat16 trains in it, others in float32: minutes of the two do not compare. "
        f"Commits {', '.join(commits)}; {' to '.join(dict.fromkeys([dates[0], dates[-1]]))}."
    )
    yield report.format_table(header, rows, markdown=True)
    yield "The commands of the first seed; RUN is what the command before has written into, FOLDER where the data are:"
    lines = [wrapped(command) for found in by_model.values() for command in found[0]["commands"]]
    yield "\n".join(["```", *lines, "```"])


def _cost(model: Model, results: Sequence[Mapping[str, Any]]) -> list[str]:
    first = results[0]
    measured = [result["seconds"] / 60 for result in results if result["seconds"]]
    minutes = sum(measured) / len(measured) if measured else None
    told = [", ".join(dict.fromkeys(str(each[name]) for each in results)) for name in _TOLD]
    shown = [*told, f"{first['passes'] / 1e6:.2f}", f"{first['minutes_by_calculation']:.1f}"]
    shown += ["-" if minutes is None else f"{minutes:.1f}", _hours_of_the_recipe(model, first, minutes)]
    return [*shown, ", ".join(str(each["seed"]) for each in results)]


def _hours_of_the_recipe(model: Model, result: Mapping[str, Any], minutes: float | None) -> str:
    """Return how many hours the paper's recipe would take where a result took so many minutes, by passes."""
    recipe = Experiment.of(model.dataset, model.method)
    if minutes is None or recipe.architecture != result["architecture"]:
        return "-"
    return f"{minutes / 60 * passes_of(recipe) / result['passes']:.1f}"


def wrapped(command: str) -> str:
    """Return a command in lines that a shell reads as one.

    Example:
        >>> wrapped("python -m trainers.digits --seed=0")
        'python -m trainers.digits --seed=0'
    """
    lines = textwrap.wrap(command, _WIDTH, break_long_words=False, break_on_hyphens=False, subsequent_indent="    ")
    return " \\\n".join(lines)


def _filled(text: str) -> str:
    return textwrap.fill(text, _WIDTH + 4, break_long_words=False, break_on_hyphens=False)
