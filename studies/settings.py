"""What the commands of studies take, checked before anything is trained."""

import dataclasses
from pathlib import Path

from trainers.settings.base import Settings, if_given, setting
from wmr_tf.checks import data_folder, require


@dataclasses.dataclass(frozen=True, kw_only=True)
class Study(Settings):
    """Where a study's page goes."""

    output: str = setting("The page, as Markdown.", "results/study.md")

    def __post_init__(self) -> None:
        require(Path(self.output).suffix == ".md", "output", got=self.output, expected="a .md file", fix="Name one.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataStudy(Study):
    """Where a study has its data from, and where its page goes."""

    data_dir: str | None = setting("Where tensorflow-datasets keeps prepared data.")

    def check_place(self) -> None:
        """Check that the data are where they should be; see `Settings.check_place`."""
        if_given(lambda _, folder: data_folder(folder), "data_dir", self.data_dir)
