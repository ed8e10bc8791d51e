"""Hostile data sets: the archive of Tiny ImageNet, and copies that look as if tensorflow-datasets had prepared them."""

import json
import os
import stat
import struct
import tempfile
import zipfile
import zlib
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import tensorflow as tf

from tests.hostile import Hostile, beside
from tests.hostile.records import NESTED
from wmr_tf.data import SOURCES
from wmr_tf.data.tiny_imagenet.archive import FILE_NAME

ROOT = "tiny-imagenet-200"
WNIDS = [f"n{number:08}" for number in range(200)]


def png(height: int, width: int) -> bytes:
    """Return a greyscale image of zeros, in few bytes however large it is."""
    deflate, rows = zlib.compressobj(9), bytes(1 + width)
    data = b"".join([*(deflate.compress(rows) for _ in range(height)), deflate.flush()])
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)), (b"IDAT", data), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        for kind, content in chunks
    )


def jpeg(height: int = 64, width: int = 64) -> bytes:
    """Return an image of zeros whose header says that it has another size."""
    content = tf.io.encode_jpeg(np.zeros([64, 64, 3], np.uint8)).numpy()
    at = content.index(b"\xff\xc0") + 5
    return content[:at] + struct.pack(">HH", height, width) + content[at + 4 :]


# Tiny ImageNet


def archive(members: dict[Any, bytes], **settings: Any):
    """Return a builder of a folder with a small archive in which some members are others."""

    def build(folder: Path) -> Path:
        image, text = jpeg(), "\n".join(f"val_{number}.JPEG\t{wnid}" for number, wnid in enumerate(WNIDS))
        small: dict[Any, bytes] = {f"{ROOT}/wnids.txt": "\n".join(WNIDS).encode()}
        small |= {f"{ROOT}/val/val_annotations.txt": text.encode()}
        small |= {f"{ROOT}/train/{wnid}/images/{wnid}_0.JPEG": image for wnid in WNIDS}
        small |= {f"{ROOT}/val/images/val_{number}.JPEG": image for number in range(200)}
        with zipfile.ZipFile(folder / FILE_NAME, "w", **settings) as file:
            for name, content in (small | members).items():
                file.writestr(name, content)
        return folder

    return build


def linked(name: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.create_system, info.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    return info


def bomb(name: str, size: int):
    """Return a builder of a folder with an archive in which a member is zeros."""

    def build(folder: Path) -> Path:
        archive({})(folder)
        file = zipfile.ZipFile(folder / FILE_NAME, "a", zipfile.ZIP_DEFLATED, compresslevel=1)
        with file, file.open(name, "w", force_zip64=True) as out:
            for _ in range(size >> 20):
                out.write(bytes(1 << 20))
        return folder

    return build


def claimed(folder: Path) -> Path:
    """Have a member of an archive say that it is larger than it is."""
    path = archive({f"{ROOT}/words.txt": b"x"})(folder) / FILE_NAME
    content = path.read_bytes()
    at = content.rindex(f"{ROOT}/words.txt".encode()) - 46 + 24  # in the directory at its end
    path.write_bytes(content[:at] + struct.pack("<I", 2**32 - 2) + content[at + 4 :])
    return folder


def tiny_imagenet(folder: Path) -> Any:
    default = tempfile.TemporaryDirectory()
    with default, mock.patch("tensorflow_datasets.core.constants.DATA_DIR", default.name):
        return SOURCES["tiny_imagenet"].read(folder)


FIRST = f"{ROOT}/train/{WNIDS[0]}/images/{WNIDS[0]}_0.JPEG"


# Prepared copies


def prepared(image: bytes = b"", change=lambda folder: None, **info: Any):
    """Return a builder of a folder with a prepared MNIST of one image a split, changed."""

    def build(folder: Path) -> Path:
        beside(folder)
        place = folder / "mnist" / "3.0.1"
        place.mkdir(parents=True)
        splits = [
            {
                "name": name,
                "numBytes": "100",
                "shardLengths": ["1"],
                "filepathTemplate": "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}",
            }
            for name in ("train", "test")
        ]
        content = {"name": "mnist", "version": "3.0.1", "fileFormat": "tfrecord", "splits": splits} | info
        (place / "dataset_info.json").write_text(json.dumps(content))
        features = {"image": tf.train.Feature(bytes_list=tf.train.BytesList(value=[image or png(28, 28)]))}
        features["label"] = tf.train.Feature(int64_list=tf.train.Int64List(value=[3]))
        example = tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()
        for name in ("train", "test"):
            with tf.io.TFRecordWriter(str(place / f"mnist-{name}.tfrecord-00000-of-00001")) as file:
                file.write(example)
        change(place)
        return folder

    return build


RECORD = "mnist-train.tfrecord-00000-of-00001"


def replaced(name: str, make):
    def change(place: Path) -> None:
        (place / name).unlink(missing_ok=True)
        make(place / name)

    return change


def crc(content: bytes) -> bytes:
    """Return the masked CRC-32C of a length in a TFRecord."""
    found = 0xFFFFFFFF
    for byte in content:
        found ^= byte
        for _ in range(8):
            found = found >> 1 ^ (0x82F63B78 if found & 1 else 0)
    found ^= 0xFFFFFFFF
    return struct.pack("<I", ((found >> 15 | found << 17 & 0xFFFFFFFF) + 0xA282EAD8) & 0xFFFFFFFF)


def long_record(path: Path) -> None:
    length = struct.pack("<Q", 10 << 30)
    path.write_bytes(length + crc(length) + bytes(100))


def shards(count: int, each: int = 1) -> list[dict[str, Any]]:
    template = "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"
    return [
        {"name": name, "numBytes": "100", "shardLengths": [str(each)] * count, "filepathTemplate": template}
        for name in ("train", "test")
    ]


def mnist(folder: Path) -> Any:
    return SOURCES["mnist"].read(folder)


EVIL_FEATURES = json.dumps({"pythonClassName": "evil.Evil", "featuresDict": {"features": {}}})


HONEST_IMAGES = {"an archive": (archive({}), tiny_imagenet), "a prepared copy": (prepared(), mnist)}

IMAGES = {
    "an archive with a member outside": Hostile(archive({f"{ROOT}/../../x": b"x"}), tiny_imagenet, "member"),
    "an archive with an absolute member": Hostile(archive({"/tmp/x": b"x"}), tiny_imagenet, "member"),
    "an archive with a link": Hostile(archive({linked(f"{ROOT}/words.txt"): b"/etc/passwd"}), tiny_imagenet, "member"),
    "an archive with a name that writes over the terminal": Hostile(
        archive({"\x1b[2J\nx": b"x"}), tiny_imagenet, "member"
    ),
    "a JPEG of 50,000 x 50,000": Hostile(archive({FIRST: jpeg(50_000, 50_000)}), tiny_imagenet, r"shape \(50000"),
    "a PNG of 30,000 x 30,000 named JPEG": Hostile(
        archive({FIRST: png(30_000, 30_000)}), tiny_imagenet, "does not decode", is_costly=True
    ),
    "an archive with 3 GB of zeros": Hostile(bomb(f"{ROOT}/words.txt", 3 << 30), tiny_imagenet, "plausible", True),
    "an archive with a list of 3 GB": Hostile(
        bomb(f"{ROOT}/train/{WNIDS[0]}/{WNIDS[0]}_boxes.txt", 3 << 30), tiny_imagenet, "plausible", True
    ),
    "an archive whose members say 4 GB": Hostile(claimed, tiny_imagenet, "plausible"),
    "half of an archive": Hostile(
        lambda f: (archive({})(f) / FILE_NAME).write_bytes((f / FILE_NAME).read_bytes()[:9_000]) and f,
        tiny_imagenet,
        "zip",
    ),
    "features that name a module": Hostile(
        prepared(change=lambda place: (place / "features.json").write_text(EVIL_FEATURES)), mnist, None
    ),
    "a PNG of 30,000 x 30,000 in a prepared copy": Hostile(
        prepared(png(30_000, 30_000)), mnist, "not of 28 x 28", True
    ),
    "a copy of 10^13 images": Hostile(prepared(splits=shards(1, 10**13)), mnist, "data set"),
    "a copy of 10 million images": Hostile(prepared(splits=shards(1, 10**7)), mnist, "data set"),
    "a copy of a million files": Hostile(prepared(splits=shards(1_000_000)), mnist, "tells of 2000000", True),
    "a copy whose facts are 200,000 deep": Hostile(
        prepared(change=lambda place: (place / "dataset_info.json").write_text(NESTED)), mnist, "nested too deep"
    ),
    "a copy whose facts are a pipe": Hostile(
        prepared(change=replaced("dataset_info.json", os.mkfifo)), mnist, "no plain file"
    ),
    "a copy whose facts are of 10 GB": Hostile(
        prepared(change=lambda place: os.truncate(place / "dataset_info.json", 10 << 30)), mnist, "more than 16 MB"
    ),
    "a copy whose images are a pipe": Hostile(prepared(change=replaced(RECORD, os.mkfifo)), mnist, "no plain file"),
    "a copy whose images have no end": Hostile(
        prepared(change=replaced(RECORD, lambda path: path.symlink_to("/dev/zero"))), mnist, "no plain file"
    ),
    "a copy with a record of 10 GB": Hostile(prepared(change=replaced(RECORD, long_record)), mnist, "DataLossError"),
    "a copy with files elsewhere": Hostile(
        prepared(splits=[{**each, "filepathTemplate": "../../x-{SHARD_X_OF_Y}"} for each in shards(1)]),
        mnist,
        "its images are elsewhere",
    ),
}
