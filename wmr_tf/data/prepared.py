"""Data sets as tensorflow-datasets prepares them, MNIST and CIFAR-10 among them; what is not prepared is downloaded."""

import functools
import logging
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn
from unittest import mock

import numpy as np

from wmr_tf.checks import one_line, refuse
from wmr_tf.data.source import Arrays, Source
from wmr_tf.untrusted import Unsafe, check_file, read_json

_BATCH = 1_000


def _read(name: str, data_dir: Path | None) -> Arrays:
    import tensorflow_datasets as tfds  # reads TFDS_DATA_DIR when it is imported, so not before it is needed

    return read(name, functools.partial(tfds.builder, name), data_dir)


def _download(name: str, builder: Any) -> None:
    from tensorflow_datasets.core.download import downloader

    # Without a network, fail after a second rather than minutes, and without a page of warnings. The retries have no
    # public setting; the level stays, because threads that still retry outlive the error.
    logging.getLogger("urllib3").setLevel(logging.ERROR)
    try:
        with mock.patch.object(downloader, "MAX_RETRIES", 3):
            builder.download_and_prepare()
    except Exception as error:  # no connection, a wrong checksum, a full or a read-only disk
        refuse(
            f"data set {name}",
            got=f"no prepared copy in {builder.data_path} and no download ({_told(error)})",
            expected="one of the two",
            fix="Pass --data_dir=FOLDER with a copy that tensorflow-datasets prepared, or connect to the network.",
            cause=error,
        )


def read(
    name: str,
    make_builder: Callable[..., Any],
    data_dir: Path | None,
    *,
    test_split: str = "test",
    prepare: Callable[[str, Any], None] = _download,
) -> Arrays:
    """Return a data set's images and labels, prepared first where that has not been done.

    Args:
        name: How messages call the data set.
        make_builder: Returns the builder of tensorflow-datasets, given `data_dir`.
        data_dir: The folder with the prepared copy, None for the default one.
        test_split: The builder's split that is our test set.
        prepare: Prepares the copy, given `name` and the builder.

    Raises:
        InvalidInput: If there is no copy and none can be prepared, or a damaged one.
    """
    from tensorflow_datasets.core import constants

    folder = Path(data_dir or constants.DATA_DIR).expanduser() / name
    try:
        _check_copy(folder)
        builder = make_builder(data_dir=data_dir)
        prepared = builder.data_path.exists()
    except Exception as error:
        refuse_damaged(f"data set {name}", f"a copy in {folder}", error)
    if not prepared:
        prepare(name, builder)
    try:
        return Arrays(*_split(builder, "train"), *_split(builder, test_split))
    except Exception as error:  # TensorFlow, tensorflow-datasets and JSON each report damage with errors of their own
        refuse_damaged(f"data set {name}", f"a copy in {builder.data_path}", error)


def _check_copy(folder: Path) -> None:
    """Check that a copy, if there is one, is of plain files, as many as it says; tensorflow-datasets believes it."""
    files = [path for path in folder.rglob("*") if not path.is_dir()]
    for path in files:
        check_file(path)
    for path in files:
        if path.name == "dataset_info.json":
            shards = sum(len(split.get("shardLengths", ())) for split in read_json(path).get("splits", ()))
            if shards > len(files):
                raise Unsafe(f"it tells of {shards} files and has {len(files)}")


def _split(builder: Any, split: str) -> tuple[np.ndarray, np.ndarray]:
    import tensorflow_datasets as tfds

    examples, files = (getattr(builder.info.splits[split], name) for name in ("num_examples", "filepaths"))
    if any(Path(path).parent != Path(builder.data_path) for path in files):
        raise Unsafe("its images are elsewhere")
    images = np.empty([examples, *builder.info.features["image"].shape], np.uint8)
    labels = np.empty([examples], np.int64)
    # Batch by batch into their place: all at once, or cached, the images would be in memory twice.
    config = tfds.ReadConfig(try_autocache=False)
    decoders = {"image": tfds.decode.make_decoder()(_decoded)()}
    batches = builder.as_dataset(
        split=split, batch_size=_BATCH, as_supervised=True, read_config=config, decoders=decoders
    )
    for start, (image, label) in zip(range(0, examples, _BATCH), batches.as_numpy_iterator(), strict=True):
        images[start : start + _BATCH], labels[start : start + _BATCH] = image, label
    return images, labels


def _decoded(encoded: Any, feature: Any) -> Any:
    """Return the image in a PNG or JPEG file whose header says that it has the size it should have."""
    import tensorflow as tf

    height, width, _ = feature.shape
    png = struct.pack(">8sI4sII", b"\x89PNG\r\n\x1a\n", 13, b"IHDR", width, height)
    fits = tf.cond(
        tf.io.is_jpeg(encoded),
        lambda: tf.reduce_all(tf.io.extract_jpeg_shape(encoded)[:2] == [height, width]),
        lambda: tf.strings.substr(encoded, 0, len(png)) == png,
    )
    with tf.control_dependencies([tf.debugging.Assert(fits, [f"an image is not of {height} x {width}"])]):
        return feature.decode_example(tf.identity(encoded))


def refuse_damaged(what: str, copy: str, error: Exception) -> NoReturn:
    """Raise `InvalidInput` for a prepared copy that is not what tensorflow-datasets wrote."""
    refuse(
        what,
        got=f"{copy} that cannot be read ({_told(error)})",
        expected="one that tensorflow-datasets prepared",
        fix="Delete it and prepare it again, or pass --data_dir=FOLDER with a whole copy.",
        cause=error,
    )


def refuse_unwritten(name: str, folder: Any, error: Exception) -> NoReturn:
    """Raise `InvalidInput` for a copy that could not be prepared from an archive."""
    refuse(
        f"data set {name}",
        got=f"no prepared copy in {folder} ({_told(error)})",
        expected="a folder that can be written, with space for it",
        fix="Set TFDS_DATA_DIR to another folder for prepared copies.",
        cause=error,
    )


def _told(error: Exception) -> str:
    return one_line(error) if isinstance(error, Unsafe) else f"{type(error).__name__}: {one_line(error)}"


MNIST = Source(
    functools.partial(_read, "mnist"),
    num_classes=10,
    image_shape=(28, 28, 1),
    validation_examples=5_000,
    extra="data",
)
CIFAR10 = Source(
    functools.partial(_read, "cifar10"),
    num_classes=10,
    image_shape=(32, 32, 3),
    validation_examples=5_000,
    augment="crop_flip",
    extra="data",
)
