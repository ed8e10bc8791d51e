"""Which images a command works on."""

from __future__ import annotations

import dataclasses
import functools

import wmr_tf
from trainers.settings.base import COMMON, DATA, Settings, setting
from wmr_tf.checks import data_folder
from wmr_tf.data.own import address
from wmr_tf.data.source import Source
from wmr_tf.names import COLORS, DATASETS


@dataclasses.dataclass(frozen=True, kw_only=True)
class Dataset(Settings):
    """A data set by its name, or images of one's own."""

    SECTION = DATA

    dataset: str = setting(
        "Data set: a name, or images of your own: a folder with one subfolder a class, or with subfolders train, test "
        "and validation of such; an .npz file with x_train, y_train, x_test and y_test; or tfds:NAME, any image "
        "classification set that tensorflow-datasets has prepared in --data_dir.",
        also="data",
        choices=DATASETS,
        section=COMMON,
        unset="none, it has to be given",
    )
    image_size: tuple[int, ...] | None = setting(
        "Pixels to which the images of a folder or of tfds:NAME are resized: one number, or height,width.",
        unset="as they are, all alike",
    )
    color: str | None = setting(
        "Into which these images are turned.", choices=COLORS, unset="rgb; for tfds:NAME what they are"
    )
    skip_broken: bool = setting("Leave out those of them that cannot be read; otherwise they end the run.", False)
    data_dir: str | None = setting(
        "Where tensorflow-datasets keeps prepared data; only read if it is there.", unset="its own folder"
    )

    def __post_init__(self) -> None:
        object.__setattr__(self, "dataset", address(self.dataset))  # so that every record names a folder alike

    def check_place(self) -> None:
        """Check that the data are there, without reading them; see `Settings.check_place`."""
        if self.data_dir is not None:
            data_folder(self.data_dir)
        self.source().check_installed()

    def source(self) -> Source:
        """Return the data set, looked at and not read.

        Raises:
            InvalidInput: If it is not there, or not what it should be.
        """
        return self._source

    @functools.cached_property
    def _source(self) -> Source:  # once: to list a large folder takes a while
        return wmr_tf.data.info(
            self.dataset,
            image_size=self.image_size,
            color=self.color,
            skip_broken=self.skip_broken,
            data_dir=self.data_dir,
        )
