"""Compare runs in a table like the paper's Table 1, one of their differences on the same images, and in a picture.

python -m trainers.compare runs/a runs/b --output=comparison.png

Runs that differ in nothing but the seed are one row: python -m trainers.compare runs/a-* runs/b-*
"""

from collections.abc import Sequence
from pathlib import Path

from absl import app, flags

from trainers.cli import fail, parse
from trainers.grouping import Run, check_alike, grouped, labels_of, mean_of
from trainers.naming import title
from trainers.pairing import differences, why_unpaired
from wmr_tf import report
from wmr_tf.checks import InvalidInput, one_line, refuse, require
from wmr_tf.untrusted import MALFORMED

_OUTPUT = flags.DEFINE_string("output", "comparison.png", "The picture; the report goes beside it, as .html.")
_MARKDOWN = flags.DEFINE_bool("markdown", False, "Print the tables as Markdown.")

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


def write(picture: Path, labels: Sequence[str], groups: Sequence[Sequence[Run]], tables: Sequence[Table]) -> Path:
    """Write the picture of the defences, and a report of all runs beside it, whose path is returned.

    Raises:
        InvalidInput: If they cannot be written.
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
    expected = "a file that can be written, in an existing folder, and no .html"
    page = picture.with_name(f"{picture.stem}.html")
    is_possible = picture.name != "" and page != picture and not page.is_dir()
    require(is_possible, "output", got=repr(str(picture)), expected=expected, fix="Name another file with --output.")
    try:
        report.plot_alpha(means, picture, title=heading)
        report.write_report(page, results, pictures=pictures, tables=tables, title=heading)
    except OSError as error:
        fix = "Name another file with --output."
        refuse("output", got=repr(str(picture)), expected=expected, fix=fix, cause=error)
    return page


def _of_seed(label: str, run: Run) -> str:
    """Return what one run of a group is called; the group is masked if one of its runs is."""
    return f"{label.removesuffix(' MASKED')}, seed {run.metrics['seed']}" + " MASKED" * bool(run.metrics.get("masked"))


def compare(argv: list[str]) -> None:
    """Print the tables of the runs named on the command line, and write the picture and the report."""
    try:
        fix = "Write python -m trainers.compare runs/a runs/b."
        require(len(argv) > 1, "command line", got="no runs", expected="folders of runs", fix=fix)
        runs = list(map(Run.read, argv[1:]))
        check_alike(runs)
        groups = grouped(runs)
        labels = labels_of(groups)
        results = [(label, mean_of(group)) for label, group in zip(labels, groups, strict=True)]
        tables, missing = paired_tables(labels, groups)
        seeds = [(report.SEEDS, *report.comparison_table(results))] if len(groups) < len(runs) else []
        page = write(Path(_OUTPUT.value), labels, groups, [*seeds, *tables])
        told = report.tables(results, markdown=_MARKDOWN.value)
    except InvalidInput as mistake:
        fail(str(mistake))
    except MALFORMED as error:
        got, fix = f"a metrics.json with other values ({one_line(error)})", "Name the folders of finished runs."
        fail(f"runs: got {got}, expected those of evaluations. {fix}")
    print(told)
    for caption, header, rows in tables:
        print(f"\n{caption}\n\n{report.format_table(header, rows, markdown=_MARKDOWN.value)}")
    print("\n".join(["", *missing, f"Picture: {_OUTPUT.value}", f"Report: {page}"]))


if __name__ == "__main__":
    app.run(compare, flags_parser=parse)
