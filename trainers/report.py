"""Make the report and the pictures of finished runs again, each in its own folder, from the numbers that are there.

python -m trainers.report runs/a runs/b

A run's report.html and robustness.png are made of its metrics.json and images.npz, its training.png of its history.csv:
nothing is trained or evaluated. For one report of several runs write python -m trainers.compare runs/a runs/b.
"""

import dataclasses
import os
from pathlib import Path

from trainers.cli import Command
from trainers.quiet import late
from trainers.runs.folder import metrics_of
from trainers.settings.base import Settings, arguments
from wmr_tf.checks import require
from wmr_tf.extras import need


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reports(Settings):
    """Whose reports are made."""

    runs: tuple[str, ...] = arguments()

    def __post_init__(self) -> None:
        fix = "Write python -m trainers.report runs/a."
        require(bool(self.runs), "command line", got="no runs", expected="folders of runs", fix=fix)

    def check_place(self) -> None:
        """Check that the runs are finished and their folders can be written; see `Settings.check_place`."""
        need("report", "a report")
        for run in self.runs:
            metrics_of(run)
            is_writable = os.access(Path(run), os.W_OK)
            require(is_writable, "run", got=repr(run), expected="a folder that can be written", fix="Copy it first.")


COMMAND = Command(Reports, late("trainers.runs.reporting:report_again", tensorflow=False))

if __name__ == "__main__":
    COMMAND()
