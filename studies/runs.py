"""What the studies share: runs that are made once, their numbers, and the file that a study ends in."""

import dataclasses
import datetime
import shlex
import shutil
import statistics
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from trainers.runs import run
from trainers.runs.folder import METRICS, is_finished
from trainers.settings.config import Experiment
from wmr_tf.report.tables import ACCURACIES
from wmr_tf.saving import read_json, write_json, write_text

_FIX = "Delete the folder: the run is made again."


def trained(experiment: Experiment, folder: Path) -> dict[str, Any]:
    """Return the metrics of an experiment, which is run unless the folder holds this very run, finished.

    The key "seconds" has the time that the whole run took, in one piece.

    Args:
        experiment: All settings.
        folder: Where the run is or goes; another run in there is deleted, and so is one that was stopped.
    """
    clock = folder / "seconds.json"
    if not (is_finished(experiment, folder) and clock.exists()):
        shutil.rmtree(folder, ignore_errors=True)
        start = time.perf_counter()
        run.train(dataclasses.replace(experiment, output_dir=str(folder)))
        write_json(clock, {"seconds": time.perf_counter() - start})
    return read_json(folder / METRICS, "run", fix=_FIX) | read_json(clock, "run", fix=_FIX)


def at_alpha(metrics: dict[str, Any], alpha: float) -> dict[str, float]:
    """Return the accuracies of an evaluation at one alpha_test."""
    row = next(row for row in metrics["non_uniform"] if row["alpha_test"] == alpha)
    return {name: metrics[name] if name in metrics else row[name] for name in ACCURACIES}


def spread(values: list[float]) -> str:
    """Return mean and standard deviation over seeds, in percent."""
    return f"{100 * statistics.mean(values):.1f} ± {100 * statistics.stdev(values):.1f}"


def made_by(module: str) -> str:
    """Return the command of this process and today's date, for the head of a table."""
    return f"`{shlex.join(['python', '-m', module, *sys.argv[1:]])}`, {datetime.date.today()}"


def publish(sections: Iterable[str], path: Path) -> None:
    """Write the sections of a study to a Markdown file, and print them."""
    text = "\n\n".join(sections) + "\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, text)
    print(text)
