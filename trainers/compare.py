"""Compare runs in a table like the paper's Table 1, one of their differences on the same images, and in a picture.

python -m trainers.compare runs/a runs/b --output=comparison.png

Runs that differ in nothing but the seed are one row: python -m trainers.compare runs/a-* runs/b-*
"""

import dataclasses
import os
from pathlib import Path

from trainers.cli import Command
from trainers.quiet import late
from trainers.runs.folder import metrics_of
from trainers.settings.base import Settings, arguments, setting
from wmr_tf.checks import require
from wmr_tf.extras import is_installed, need
from wmr_tf.saving import picture_files


@dataclasses.dataclass(frozen=True, kw_only=True)
class Comparison(Settings):
    """What is compared, and where the result goes."""

    runs: tuple[str, ...] = arguments()
    output: str | None = setting(
        "The picture, .png, .pdf or .svg; all three and the report go beside it.",
        unset="comparison.png",
    )
    markdown: bool = setting("Print the tables as Markdown.", False)

    def __post_init__(self) -> None:
        fix = "Write python -m trainers.compare runs/a runs/b."
        require(bool(self.runs), "command line", got="no runs", expected="folders of runs", fix=fix)
        self.check_output(self.picture.name != "" and self.picture in picture_files(self.picture))

    def check_place(self) -> None:
        """Check that the runs are finished, and that the picture can be written; see `Settings.check_place`."""
        for run in self.runs:
            metrics_of(run)
        if self.output is None and not is_installed("report"):
            return  # the tables need no place
        need("report", "output")
        folder, names = self.picture.parent, (*picture_files(self.picture), self.page)
        self.check_output(os.access(folder, os.W_OK) and folder.is_dir() and not any(path.is_dir() for path in names))

    @property
    def picture(self) -> Path:
        """The picture's path."""
        return Path(self._name).expanduser()

    @property
    def page(self) -> Path:
        """The path of the report, beside the picture."""
        return self.picture.with_name(f"{self.picture.stem}.html")

    @property
    def _name(self) -> str:
        return "comparison.png" if self.output is None else self.output

    def check_output(self, is_possible: bool) -> None:
        """Refuse the picture unless it `is_possible` to write it.

        Raises:
            InvalidInput: If it is not.
        """
        expected = "a file that can be written, in an existing folder, .png, .pdf or .svg"
        fix = "Name another file with --output."
        require(is_possible, "output", got=repr(self._name), expected=expected, fix=fix)


COMMAND = Command(Comparison, late("trainers.comparison.comparing:compare", tensorflow=False))

if __name__ == "__main__":
    COMMAND()
