"""The comparison of runs: what `python -m trainers.compare` does."""

from collections.abc import Sequence

from trainers.compare import Comparison
from trainers.comparison.grouping import Run, check_alike, grouped, labels_of, mean_of
from trainers.comparison.pairing import differences, why_unpaired
from trainers.runs.naming import title
from wmr_tf import report
from wmr_tf.extras import is_installed, mend
from wmr_tf.saving import NotWritten
from wmr_tf.untrusted import well_formed

Table = tuple[str, list[str], list[list[str]]]

_PAIRED = (
    "Differences to {first} on the same images, with 95 % intervals: paired by image, of several seeds Welch's.\n"
    "At equal confidence the logits are scaled to its mean top probability on clean images, and every image is at\n"
    "the smallest margin that any attack found."
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
    return f"{label.removesuffix(' MASKED')}, seed {run.metrics['seed']}" + " MASKED" * bool(run.metrics.get("masked"))


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
    groups = grouped(runs)
    labels = labels_of(groups)
    results = [(label, mean_of(group)) for label, group in zip(labels, groups, strict=True)]
    tables, missing = paired_tables(labels, groups)
    seeds = [(report.SEEDS, *report.comparison_table(results))] if len(groups) < len(runs) else []
    told = [report.tables(results, markdown=settings.markdown)]
    for caption, header, rows in tables:
        told.append(f"\n{caption}\n\n{report.format_table(header, rows, markdown=settings.markdown)}")
    told += ["", *missing]
    if not is_installed("report"):
        return "\n".join([*told, f"Neither picture nor report; for them run {mend('report')}"]), None
    try:
        write(settings, labels, groups, [*seeds, *tables])
    except NotWritten as fault:
        return "\n".join(told), fault
    return "\n".join([*told, f"Picture: {settings.picture}", f"Report: {settings.page}"]), None
