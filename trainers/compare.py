"""Compare runs in a table like the paper's Table 1 and a picture of A_sa and A_tr by alpha_test.

python -m trainers.compare runs/a runs/b --output=comparison.png
"""

import json
from pathlib import Path
from typing import Any

from absl import app, flags

from trainers.cli import fail, parse
from trainers.run import defence, title
from wmr_tf import report
from wmr_tf.checks import InvalidInput, require

_OUTPUT = flags.DEFINE_string("output", "comparison.png", "The picture.")
_MARKDOWN = flags.DEFINE_bool("markdown", False, "Print the table as Markdown.")


def read(folder: str) -> dict[str, Any]:
    """Returns the metrics of a run's folder.

    Raises:
        InvalidInput: If there is no metrics.json in it, or it is not one.
    """
    path = Path(folder) / "metrics.json"
    mend = "Name the folders of finished runs."
    require(path.is_file(), "run", got=repr(folder), expected="a folder with metrics.json", mend=mend)
    try:
        metrics = json.loads(path.read_text())
    except json.JSONDecodeError as error:
        raise InvalidInput(f"run: got {str(path)!r}, which is no JSON, expected metrics.json. {mend}") from error
    require("non_uniform" in metrics, "run", got=repr(str(path)), expected="metrics of an evaluation", mend=mend)
    return metrics


def compare(argv: list[str]) -> None:
    """Prints the table of the runs named on the command line and writes the picture."""
    try:
        mend = "Write python -m trainers.compare runs/a runs/b."
        require(len(argv) > 1, "command line", got="no runs", expected="folders of runs", mend=mend)
        results = [(defence(metrics), metrics) for metrics in map(read, argv[1:])]
        titles = {title(metrics): None for _, metrics in results}  # in their order
        mend = "Compare runs that were evaluated alike."
        require(len(titles) == 1, "runs", got="; ".join(titles), expected="one data set and attack", mend=mend)
        folder = Path(_OUTPUT.value).parent
        mend = "Name another file with --output."
        require(folder.is_dir(), "output", got=repr(_OUTPUT.value), expected="a file in an existing folder", mend=mend)
    except InvalidInput as mistake:
        fail(str(mistake))
    print(report.format_table(*report.comparison_table(results), markdown=_MARKDOWN.value))
    report.plot_alpha(results, _OUTPUT.value, title=title(results[0][1]))
    print(f"Picture: {_OUTPUT.value}")


if __name__ == "__main__":
    app.run(compare, flags_parser=parse)
