"""Tiny ImageNet, prepared once from the official archive; the official validation images are our test set."""

import contextlib
import functools
from pathlib import Path
from typing import Any

from wmr_tf.checks import InvalidInput
from wmr_tf.data import prepared
from wmr_tf.data.source import Arrays, Source
from wmr_tf.data.tiny_imagenet.archive import FILE_NAME, NUM_CLASSES, Archive

_NAME = "tiny_imagenet"


def _read(data_dir: Path | None) -> Arrays:
    # Late, since it imports tensorflow-datasets.
    from tensorflow_datasets.core import constants

    from wmr_tf.data.tiny_imagenet.builder import TinyImagenet

    default = Path(constants.DATA_DIR).expanduser()
    archive = _archive(data_dir or default)
    if archive is None:
        return prepared.read(_NAME, TinyImagenet, data_dir, test_split="validation")
    # Never beside the archive, which may be another's or on a disk that cannot be written. Each archive has a copy of
    # its own: what was prepared from one with fewer images must not be taken for the whole.
    with Archive(archive) as opened:
        folder = default / f"{_NAME}-{opened.fingerprint()}"
    make_builder = functools.partial(TinyImagenet, archive=archive)
    return prepared.read(_NAME, make_builder, folder, test_split="validation", prepare=_prepare)


def _archive(folder: Path) -> Path | None:
    places = (folder / FILE_NAME, folder / "downloads" / "manual" / FILE_NAME)
    return next((path for path in places if path.is_file()), None)


def _prepare(name: str, builder: Any) -> None:
    """Prepare the copy of an archive; what fails leaves nothing behind."""
    import tensorflow_datasets as tfds

    *own, default = Path(builder.data_dir).parents[:3]  # own: tiny_imagenet-FINGERPRINT and what is in it
    config = tfds.download.DownloadConfig(try_download_gcs=False)
    try:
        builder.download_and_prepare(download_dir=default / "downloads", download_config=config)
    except Exception as error:
        for folder in own:
            with contextlib.suppress(OSError):
                folder.rmdir()  # if nothing is in it
        if isinstance(error, InvalidInput):
            raise
        if not builder.data_path.exists():  # else another process was faster
            prepared.refuse_unwritten(name, builder.data_path, error)


TINY_IMAGENET = Source(_read, num_classes=NUM_CLASSES, image_shape=(64, 64, 3), augment="crop_flip", extra="data")
