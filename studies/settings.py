"""What the commands of studies take, checked before anything is trained."""

import dataclasses
from pathlib import Path
from typing import ClassVar

from trainers.settings.base import Settings, setting
from wmr_tf.checks import data_folder, require


@dataclasses.dataclass(frozen=True, kw_only=True)
class Study(Settings):
    """Where a study's page goes."""

    output: str | None

    def __post_init__(self) -> None:
        require(self.page.suffix == ".md", "output", got=self.output, expected="a .md file", fix="Name one.")

    @property
    def page(self) -> Path:
        """The file of the page."""
        return Path(self.output or "")


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataStudy(Study):
    """Where a study has its data from, and where its page goes."""

    data_dir: str | None = setting("Where tensorflow-datasets keeps prepared data.")

    def check_place(self) -> None:
        """Check that the data are where they should be; see `Settings.check_place`."""
        if self.data_dir is not None:
            data_folder(self.data_dir)


@dataclasses.dataclass(frozen=True, kw_only=True)
class PageByData(DataStudy):
    """A study with a page for each data set, so that none takes another's place."""

    name: ClassVar[str]
    dataset: str
    output: str | None = setting(
        "The page, as Markdown; a picture goes beside it.", unset="results/STUDY.md, STUDY_DATASET.md if not the digits"
    )

    @property
    def page(self) -> Path:
        """The file of the page."""
        of_data = "" if self.dataset == "digits" else f"_{self.dataset}"
        return Path(self.output or f"results/{self.name}{of_data}.md")
