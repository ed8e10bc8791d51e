"""Compare runs in a table like the paper's Table 1, one of worst cases, and a picture of A_sa and A_tr by alpha_test.

python -m trainers.compare runs/a runs/b --output=comparison.png
"""

from pathlib import Path
from typing import Any

from absl import app, flags

from trainers.cli import fail, parse
from trainers.folder import METRICS
from trainers.naming import defence, title
from wmr_tf import report
from wmr_tf.checks import InvalidInput, refuse, require
from wmr_tf.saving import read_json

_OUTPUT = flags.DEFINE_string("output", "comparison.png", "The picture.")
_MARKDOWN = flags.DEFINE_bool("markdown", False, "Print the tables as Markdown.")


def read(folder: str) -> dict[str, Any]:
    """Return the metrics of a run's folder.

    Raises:
        InvalidInput: If there is no metrics.json in it, or it is not one.
    """
    path = Path(folder) / METRICS
    fix = "Name the folders of finished runs."
    require(path.is_file(), "run", got=repr(folder), expected="a folder with metrics.json", fix=fix)
    metrics = read_json(path, "run", fix=fix)
    try:  # all that is going to be done with them
        conditions(metrics), title(metrics), report.tables([(defence(metrics), metrics)])
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        refuse("run", got=repr(str(path)), expected="metrics of an evaluation", fix=fix, cause=error)
    return metrics


def conditions(metrics: dict[str, Any]) -> dict[str, Any]:
    """Return what must be alike for two evaluations to be compared: the images and the attack, but not its seed."""
    settings = {"precision": "float32", **metrics["attack"]}  # older files do not name it
    attack = {f"attack {name}": value for name, value in settings.items() if name != "seed"}
    return {name: metrics[name] for name in ("dataset", "split", "examples")} | attack


def check_alike(results: list[dict[str, Any]]) -> None:
    """Check that all metrics are from the same images and the same attack.

    Raises:
        InvalidInput: If they are not; the message names the difference.
    """
    first, *others = map(conditions, results)
    for other in others:
        for name in [*first, *other]:
            pair = first.get(name), other.get(name)
            fix = "Compare runs that were evaluated alike."
            expected = "the same images and attack for all"
            require(pair[0] == pair[1], "runs", got=f"{name} {pair[0]} and {pair[1]}", expected=expected, fix=fix)


def compare(argv: list[str]) -> None:
    """Print the tables of the runs named on the command line and write the picture."""
    try:
        fix = "Write python -m trainers.compare runs/a runs/b."
        require(len(argv) > 1, "command line", got="no runs", expected="folders of runs", fix=fix)
        results = [(defence(metrics), metrics) for metrics in map(read, argv[1:])]
        check_alike([metrics for _, metrics in results])
        try:
            report.plot_alpha(results, _OUTPUT.value, title=title(results[0][1]))
        except OSError as error:
            fix = "Name another file with --output."
            expected = "a file that can be written, in an existing folder"
            refuse("output", got=repr(_OUTPUT.value), expected=expected, fix=fix, cause=error)
    except InvalidInput as mistake:
        fail(str(mistake))
    print(report.tables(results, markdown=_MARKDOWN.value))
    print(f"Picture: {_OUTPUT.value}")


if __name__ == "__main__":
    app.run(compare, flags_parser=parse)
