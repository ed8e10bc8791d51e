"""What the studies over methods, seeds and precisions share: runs that are made once, and their numbers in tables."""

import datetime
import json
import shlex
import shutil
import statistics
import sys
import time
from pathlib import Path
from typing import Any

from trainers import run
from trainers.config import Experiment

NAMES = ("A_nat", "A_rob", "A_sa", "A_tr")


def trained(experiment: Experiment) -> dict[str, Any]:
    """Return the metrics of an experiment, which is run unless its folder holds just this run, finished.

    Beside them stands, under "seconds", how long the whole run took.
    """
    folder = Path(experiment.output_dir)
    clock = folder / "seconds.json"
    if not (run.is_finished(experiment, folder) and clock.exists()):
        shutil.rmtree(folder, ignore_errors=True)
        start = time.perf_counter()
        run.train(experiment)
        clock.write_text(json.dumps(time.perf_counter() - start))
    return {**json.loads((folder / "metrics.json").read_text()), "seconds": json.loads(clock.read_text())}


def at_alpha(metrics: dict[str, Any], alpha: float) -> dict[str, float]:
    """Return the four accuracies of an evaluation at one alpha_test."""
    row = next(row for row in metrics["non_uniform"] if row["alpha_test"] == alpha)
    return {name: metrics[name] if name in metrics else row[name] for name in NAMES}


def spread(values: list[float]) -> str:
    """Return mean and standard deviation over seeds, in percent."""
    return f"{100 * statistics.mean(values):.1f} ± {100 * statistics.stdev(values):.1f}"


def made_by(module: str) -> str:
    """Return the command of this process and today's date, for the head of a table."""
    return f"`{shlex.join(['python', '-m', module, *sys.argv[1:]])}`, {datetime.date.today()}"
