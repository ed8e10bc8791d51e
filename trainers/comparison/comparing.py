"""The comparison of runs: what `python -m trainers.compare` does."""

from collections.abc import Callable, Sequence

from trainers.compare import Comparison
from trainers.comparison.grouping import (
    Run,
    by_radius,
    check_alike,
    conditions,
    grouped,
    is_masked,
    labels_of,
    mean_of,
    runs_table,
)
from trainers.comparison.pairing import differences, why_unpaired
from trainers.runs.naming import title
from wmr_tf import report
from wmr_tf.extras import is_installed, mend
from wmr_tf.report.words import MASKED
from wmr_tf.saving import NotWritten
from wmr_tf.untrusted import well_formed

Table = tuple[str, list[str], list[list[str]]]

_PAIRED = (
    "Differences to {first} on the same images, with 95 % intervals: paired by image, of several seeds Welch's.\n"
    "Under all attacks every image is at the smallest margin that any of them found. At equal confidence it is too,\n"
    "and the logits are scaled to the mean top probability that {first} has on clean images."
)


def paired_tables(labels: Sequence[str], groups: Sequence[Sequence[Run]]) -> tuple[list[Table], list[str]]:
    """Return the table of the differences to the first defence, if there are any, and why some are not in it."""
    found, missing = [], []
    for label, group in zip(labels[1:], groups[1:], strict=True):
        if why := why_unpaired(groups[0], group):
            missing.append(f"No differences between {label} and {labels[0]}: {why}.")
        else:
            found += [{"label": label, **each} for each in differences(groups[0], group)]
    tables = [(_PAIRED.format(first=labels[0]), *report.difference_table(found))] if found else []
    return tables, missing


def write(
    settings: Comparison, labels: Sequence[str], groups: Sequence[Sequence[Run]], tables: Sequence[Table]
) -> None:
    """Write the picture of the defences, and a report of all runs beside it.

    Raises:
        NotWritten: If they cannot be written.
    """
    heading = title(groups[0][0].metrics)
    means = [(label, mean_of(group)) for label, group in zip(labels, groups, strict=True)]
    runs = [
        (label if len(group) == 1 else _of_seed(label, run), run)
        for label, group in zip(labels, groups, strict=True)
        for run in group
    ]
    results = [(label, run.metrics) for label, run in runs]
    pictures = [run.images.pictures if run.images else [] for _, run in runs]
    report.plot_alpha(means, settings.picture, title=heading)
    report.write_report(settings.page, results, pictures=pictures, tables=tables, title=heading)


def _of_seed(label: str, run: Run) -> str:
    """Return what one run of a group is called; the group is masked if one of its runs is."""
    return f"{label.removesuffix(MASKED)}, seed {run.metrics['seed']}{MASKED * is_masked([run])}"


def compare(settings: Comparison) -> None:
    """Print the tables of runs, and write the picture and the report.

    Raises:
        InvalidInput: If a folder holds no finished run, or the runs were not evaluated alike.
        NotWritten: If picture or report cannot be written; the tables are printed then.
    """
    fix = "Name the folders of finished runs."
    with well_formed("runs", got=" ".join(settings.runs), expected="those of evaluations", fix=fix):
        told, fault = _compared(settings)
    print(told, flush=True)
    if fault is not None:
        raise fault


def _compared(settings: Comparison) -> tuple[str, NotWritten | None]:
    """Return the tables as text, and why picture and report are not written, None if they are."""
    runs = list(map(Run.read, settings.runs))
    check_alike(runs)
    has_curve = len({run.epsilon for run in runs}) > 1
    told, write_all = (_across_radii if has_curve else _side_by_side)(settings, runs)
    if not is_installed("report"):
        return f"{told}\nNeither picture nor report; for them run {mend('report')}", None
    try:
        write_all()
    except NotWritten as fault:
        return told, fault
    return f"{told}\nPicture: {settings.picture}\nReport: {settings.page}", None


def _side_by_side(settings: Comparison, runs: Sequence[Run]) -> tuple[str, Callable[[], None]]:
    """Return the tables of runs that were evaluated at one radius, and what writes picture and report."""
    groups = grouped(runs)
    labels = labels_of(groups)
    results = [(label, mean_of(group)) for label, group in zip(labels, groups, strict=True)]
    tables, missing = paired_tables(labels, groups)
    tables.append(runs_table(labels, groups))
    seeds = [(report.SEEDS, *report.comparison_table(results))] if len(groups) < len(runs) else []
    told = [report.tables(results, markdown=settings.markdown), *_as_text(tables, settings), "", *missing]
    return "\n".join(told), lambda: write(settings, labels, groups, [*seeds, *tables])


def _across_radii(settings: Comparison, runs: Sequence[Run]) -> tuple[str, Callable[[], None]]:
    """Return the table of runs that were evaluated at several radii, and what writes picture and report."""
    curves = by_radius(runs)
    all_runs = [[run for group in curve.values() for run in group] for curve in curves]
    labels = [label.removesuffix(MASKED) for label in labels_of([next(iter(curve.values())) for curve in curves])]
    means = [
        (label + MASKED * is_masked(ours), [mean_of(group) for group in curve.values()])
        for label, ours, curve in zip(labels, all_runs, curves, strict=True)
    ]
    heading = title(runs[0].metrics, radius=False)
    step = conditions(runs[0].metrics).get("attack step_size", "-")
    caption = f"{heading}, steps of {step}"
    tables: list[Table] = [(caption, *report.epsilon_table(means)), runs_table(labels, all_runs)]
    results = [
        (f"{label}, epsilon {epsilon:g}{MASKED * is_masked(group)}", mean_of(group), group[0])
        for label, curve in zip(labels, curves, strict=True)
        for epsilon, group in curve.items()
    ]

    def write_all() -> None:
        report.plot_epsilon(means, settings.picture, title=heading)
        pictures = [run.images.pictures if run.images else [] for _, _, run in results]
        named = [(label, metrics) for label, metrics, _ in results]
        report.write_report(settings.page, named, pictures=pictures, tables=tables, title=heading)

    return "\n".join([*_as_text(tables, settings), ""]).lstrip("\n"), write_all


def _as_text(tables: Sequence[Table], settings: Comparison) -> list[str]:
    return [
        f"\n{caption}\n\n{report.format_table(header, rows, markdown=settings.markdown)}"
        for caption, header, rows in tables
    ]
