"""The report and the pictures of a run, made of its numbers: when they are new, and again when they are old."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from trainers.report import Reports
from trainers.runs.folder import (
    CONFIG,
    HISTORY,
    METRICS,
    REPORT,
    ROBUSTNESS_PICTURE,
    TRAINING_PICTURE,
    experiment_of,
    metrics_of,
    read_history,
)
from trainers.runs.images import Images
from trainers.runs.naming import defence, describe, describe_validation, title
from wmr_tf import report
from wmr_tf.untrusted import well_formed


def report_again(settings: Reports) -> None:
    """Write the reports and pictures of finished runs.

    Raises:
        InvalidInput: If a file of a run is broken.
        NotWritten: If a report or picture cannot be written.
    """
    fix = "Name the folders of finished runs."
    for run in settings.runs:
        folder = Path(run)
        with well_formed("run", got=folder / METRICS, expected="metrics of an evaluation", fix=fix):
            metrics = metrics_of(run)
            images = Images.read(folder, metrics)
            write_report(folder, metrics, images.pictures if images else [])
        if (folder / HISTORY).is_file() and (folder / CONFIG).is_file():
            draw_training(folder, metrics)
        print(f"Report: {folder / REPORT}", flush=True)


def write_report(folder: Path, metrics: Mapping[str, Any], shown: Sequence[Mapping[str, Any]]) -> None:
    """Write report.html and robustness.png of an evaluation.

    Args:
        folder: Where they go.
        metrics: What metrics.json says.
        shown: The images that the report shows, as `wmr_tf.evaluation.records.pictures` returns them.
    """
    results, heading = [(defence(dict(metrics)), metrics)], title(dict(metrics))
    report.plot_alpha(results, folder / ROBUSTNESS_PICTURE, title=heading)
    worst_cases = (report.WORST_CASES, *report.worst_case_table(results))
    report.write_report(folder / REPORT, results, pictures=[shown], tables=[worst_cases], title=heading)


def draw_training(folder: Path, metrics: Mapping[str, Any]) -> None:
    """Write training.png of a run, from its history.csv and config.json.

    Args:
        folder: The run's.
        metrics: What its metrics.json says.
    """
    masked = "MASKED: " * bool(metrics.get("masked"))
    experiment, count = experiment_of(folder), metrics.get("validation_images")
    heading = masked + describe(experiment)
    heading += f"\n{describe_validation(experiment, count)}" if count else ""  # older runs do not say it
    report.plot_training(read_history(folder), folder / TRAINING_PICTURE, title=heading)
