"""Tiny ImageNet for tensorflow-datasets; import this module, and `tfds.load("tiny_imagenet")` knows the data set."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tensorflow as tf
import tensorflow_datasets as tfds
from tensorflow_datasets.core.download.checksums import UrlInfo

from wmr_tf.data.tiny_imagenet.archive import FILE_NAME, NUM_CLASSES, Archive

IMAGE_SHAPE = (64, 64, 3)
_URL = f"http://cs231n.stanford.edu/{FILE_NAME}"


class TinyImagenet(tfds.core.GeneratorBasedBuilder):
    """The builder: splits `train` and `validation`, the official ones, of `{"image", "label"}`.

    Args:
        archive: The archive to prepare from; None: the official one, downloaded and checked.
        **kwargs: Those of every builder, such as `data_dir`. Prepared copies of two archives need two of them.

    Example:
        >>> TinyImagenet(archive="tiny-imagenet-200.zip", data_dir="prepared").download_and_prepare()  # doctest: +SKIP

    Source: Le and Yang, "Tiny ImageNet Visual Recognition Challenge" (CS 231N, 2015).
    """

    VERSION = tfds.core.Version("1.0.0")
    # Here rather than in a file checksums.tsv, which packaging would have to know of. The checksum is the one that
    # several public projects give.
    url_infos = {
        _URL: UrlInfo(248_100_043, "6198c8ae015e2b3e007c7841da39ec069199b9aa3bfa943a462022fe5e43c821", FILE_NAME)
    }

    def __init__(self, *, archive: str | os.PathLike[str] | None = None, **kwargs: Any) -> None:
        self._archive = archive
        super().__init__(**kwargs)

    def _info(self) -> tfds.core.DatasetInfo:
        features = tfds.features.FeaturesDict(
            {
                "image": tfds.features.Image(shape=IMAGE_SHAPE, encoding_format="jpeg"),
                "label": tfds.features.ClassLabel(num_classes=NUM_CLASSES),
            }
        )
        description = "64 x 64 images of 200 classes of ImageNet; labels in the sorted order of wnids.txt."
        return self.dataset_info_from_configs(
            description=description, features=features, supervised_keys=("image", "label")
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Iterator[Any]]:
        path = Path(self._archive or dl_manager.download(_URL))
        return {"train": self._generate_examples(path, "train"), "validation": self._generate_examples(path, "test")}

    def _generate_examples(self, path: Path, split: str) -> Iterator[tuple[str, dict[str, Any]]]:
        with Archive(path) as archive:
            for name, label in getattr(archive, split):
                jpeg = archive.read(name)
                _check_image(archive, name, jpeg)
                yield name, {"image": jpeg, "label": label}


def _check_image(archive: Archive, name: str, jpeg: bytes) -> None:
    # Decoded, as it will be from the prepared copy, once its header has told how large it is; a greyscale image gets
    # three equal channels.
    try:
        shape = tuple(tf.io.extract_jpeg_shape(jpeg).numpy().tolist())
        if shape[:2] == IMAGE_SHAPE[:2]:
            shape = tuple(tf.io.decode_jpeg(jpeg, channels=IMAGE_SHAPE[-1]).shape)
    except tf.errors.InvalidArgumentError:
        shape = None
    got = "an image that does not decode" if shape is None else f"an image of shape {shape}"
    archive.require(shape == IMAGE_SHAPE, f"{got}, {name},", f"JPEG images of shape {IMAGE_SHAPE}")
