"""MNIST and CIFAR-10 as tensorflow-datasets prepares them; it downloads what is not prepared yet."""

import functools
import logging
import re
import textwrap
from pathlib import Path
from typing import Any
from unittest import mock

from wmr_tf.checks import InvalidInput
from wmr_tf.data.source import Arrays, Source


def _read(name: str, data_dir: Path | None) -> Arrays:
    import tensorflow_datasets as tfds  # reads TFDS_DATA_DIR when it is imported, so not before it is needed

    try:
        builder = tfds.builder(name, data_dir=data_dir)
        prepared = builder.data_path.exists()
    except Exception as error:
        folder = data_dir or "the default folder of tensorflow-datasets"
        raise InvalidInput(_damaged(name, folder, error)) from error
    if not prepared:
        _download(name, builder)
    try:
        return _arrays(builder)
    except Exception as error:  # TensorFlow, tensorflow-datasets and JSON each report damage with errors of their own
        raise InvalidInput(_damaged(name, builder.data_path, error)) from error


def _arrays(builder: Any) -> Arrays:
    splits = [builder.as_dataset(split=split, batch_size=-1, as_supervised=True) for split in ("train", "test")]
    return Arrays(*(tensor.numpy() for split in splits for tensor in split))


def _download(name: str, builder: Any) -> None:
    from tensorflow_datasets.core.download import downloader

    # Without a network, fail after a second rather than minutes, and without a page of warnings. The retries have no
    # public setting; the level stays, because threads that still retry outlive the error.
    logging.getLogger("urllib3").setLevel(logging.ERROR)
    try:
        with mock.patch.object(downloader, "MAX_RETRIES", 3):
            builder.download_and_prepare()
    except Exception as error:  # no connection, a wrong checksum, a full or a read-only disk
        raise InvalidInput(
            f"data set {name}: got no prepared copy in {builder.data_path} and no download ({_one_line(error)}), "
            "expected one of the two. Pass --data_dir=FOLDER with a copy that tensorflow-datasets prepared, "
            "or connect to the network."
        ) from error


def _damaged(name: str, folder: Any, error: Exception) -> str:
    return (
        f"data set {name}: got a copy in {folder} that cannot be read ({_one_line(error)}), expected one that "
        "tensorflow-datasets prepared. Delete it and prepare it again, or pass --data_dir=FOLDER with a whole copy."
    )


def _one_line(error: Exception) -> str:
    message = re.sub(r"\{\{function_node.*?\}\}", "", str(error))  # the name of a TensorFlow kernel helps nobody
    return textwrap.shorten(f"{type(error).__name__}: {message}", 200)


MNIST = Source(functools.partial(_read, "mnist"), num_classes=10, image_shape=(28, 28, 1), validation_examples=5_000)
CIFAR10 = Source(
    functools.partial(_read, "cifar10"),
    num_classes=10,
    image_shape=(32, 32, 3),
    validation_examples=5_000,
    augment=True,
)
