"""Hostile files of models: archives and weights that are not what they say, and other formats under their name."""

import io
import os
import stat
import warnings
import zipfile
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np

from tests.hostile import MARKER, Hostile, Payload
from tests.hostile.models import CONFIG, WEIGHTS, archive, honest
from wmr_tf.saving import load_classifier

GIGABYTE = 1 << 30


# Weights


def weights(change) -> Any:
    """Return a builder of a file whose weights, those of an honest model, are changed in place."""

    def build(folder: Path) -> Path:
        (folder / "secret").write_bytes(bytes(100))
        with h5py.File(folder / "other.h5", "w") as other:
            other["kernel"] = np.zeros([4, 3], np.float32)
        file = io.BytesIO(honest()[WEIGHTS])
        with h5py.File(file, "r+") as content:
            of_dense = content["layers/dense/vars"]
            del of_dense["0"]
            change(of_dense)
        return archive(folder, {WEIGHTS: file.getvalue()})

    return build


def external_link(of_dense: Any) -> None:
    of_dense["0"] = h5py.ExternalLink("other.h5", "kernel")


def soft_link(of_dense: Any) -> None:
    of_dense["0"] = h5py.SoftLink("/layers/dense/vars/1")


def external_storage(of_dense: Any) -> None:
    of_dense.create_dataset("0", (4, 3), "f4", external=[("secret", 0, 48)])


def virtual_dataset(of_dense: Any) -> None:
    layout = h5py.VirtualLayout((4, 3), "f4")
    layout[:] = h5py.VirtualSource("other.h5", "kernel", (4, 3), "f4")
    of_dense.create_virtual_dataset("0", layout)


def hard_links(of_dense: Any) -> None:
    """Have 2^50 paths to a group: each group is in the one before it twice."""
    group = of_dense.file.create_group("more")
    for _ in range(50):
        inner = group.create_group("a")
        group["b"] = inner
        group = inner


def objects(of_dense: Any) -> None:
    of_dense.create_dataset("0", (4, 3), h5py.string_dtype())


def declared(*shape: int, **settings: Any):
    return lambda of_dense: of_dense.create_dataset("0", shape, "f4", **settings)


def declared_sizes(member: str, size: int):
    """Return a builder of an archive that says a member is larger than it is; who reads it may reserve as much."""

    def build(folder: Path) -> Path:
        path = archive(folder, {}, compression=zipfile.ZIP_DEFLATED)
        with zipfile.ZipFile(path) as file:
            content, at, true = path.read_bytes(), file.start_dir, file.getinfo(member).file_size
        entry = content.index(member.encode(), at) - 46
        changed = content[: entry + 24] + size.to_bytes(4, "little") + content[entry + 28 :]
        assert int.from_bytes(content[entry + 24 : entry + 28], "little") == true
        path.write_bytes(changed)
        return path

    return build


def bomb(member: str, size: int):
    """Return a builder of an archive with a member of zeros."""

    def build(folder: Path) -> Path:
        path = archive(folder, {member: None})
        with (
            zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED, compresslevel=1) as file,
            file.open(member, "w", force_zip64=True) as out,
        ):
            for _ in range(size >> 20):
                out.write(bytes(1 << 20))
        return path

    return build


# Members and files


def member(name: str, content: bytes = b"x", mode: int = stat.S_IFREG | 0o600):
    """Return a builder of an archive with one more member."""
    info = zipfile.ZipInfo(name)
    info.create_system, info.external_attr = 3, mode << 16
    return lambda folder: archive(folder, {info: content})


def twice(folder: Path) -> Path:
    path = archive(folder, {})
    with zipfile.ZipFile(path, "a") as file, warnings.catch_warnings(action="ignore"):
        file.writestr(CONFIG, honest()[CONFIG])
    return path


def legacy(name: str):
    """Return a builder of a file in Keras's old format with a Lambda layer."""

    def build(folder: Path) -> Path:
        run = keras.layers.Lambda(lambda x: (open("code-of-the-file-ran", "w").close(), x)[1])
        model = keras.Sequential([keras.Input((2, 2, 1)), run, keras.layers.Flatten(), keras.layers.Dense(3)])
        model.save(folder / "legacy.h5")
        (folder / MARKER).unlink()
        return (folder / "legacy.h5").rename(folder / name)

    return build


def text(name: str, content: str):
    def build(folder: Path) -> Path:
        (folder / name).write_text(content)
        return folder / name

    return build


def cut(folder: Path) -> Path:
    path = archive(folder, {})
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return path


def flipped(folder: Path) -> Path:
    path = archive(folder, {})
    content = bytearray(path.read_bytes())
    content[path.stat().st_size // 2] ^= 0xFF
    path.write_bytes(content)
    return path


def fifo(name: str):
    def build(folder: Path) -> Path:
        os.mkfifo(folder / name)
        return folder / name

    return build


def endless(name: str):
    """Return a builder of a link to a device without an end."""

    def build(folder: Path) -> Path:
        (folder / name).symlink_to("/dev/zero")
        return folder / name

    return build


def directory(name: str):
    def build(folder: Path) -> Path:
        (folder / name).mkdir()
        return folder / name

    return build


def pickled(folder: Path) -> Path:
    import pickle

    (folder / "model.keras").write_bytes(pickle.dumps(Payload()))
    return folder / "model.keras"


HONEST_WEIGHTS = {
    "a model, compressed": (lambda folder: archive(folder, {}, compression=zipfile.ZIP_DEFLATED), load_classifier),
    "weights that are written again": (
        weights(lambda of_dense: of_dense.create_dataset("0", data=np.ones([4, 3], np.float32))),
        load_classifier,
    ),
}

WEIGHTS_AND_ARCHIVES = {
    # Sizes
    "a configuration of 3 GB": Hostile(bomb(CONFIG, 3 * GIGABYTE), load_classifier, "plausible", True),
    "weights of 3 GB of zeros": Hostile(bomb(WEIGHTS, 3 * GIGABYTE), load_classifier, "plausible", True),
    "a member that says 4 GB": Hostile(declared_sizes(WEIGHTS, 2**32 - 2), load_classifier, "plausible"),
    "weights of 10 GB in no bytes": Hostile(weights(declared(50_000, 50_000)), load_classifier, "larger than the file"),
    "weights of 3 GB in no bytes": Hostile(weights(declared(30_000, 25_000)), load_classifier, "larger than the file"),
    "weights of 10 GB, compressed": Hostile(
        weights(declared(50_000, 50_000, chunks=(5_000, 5_000), compression="gzip")),
        load_classifier,
        "larger than the file",
    ),
    # Weights that are elsewhere
    "an external link": Hostile(weights(external_link), load_classifier, "link"),
    "a soft link": Hostile(weights(soft_link), load_classifier, "link"),
    "external storage": Hostile(weights(external_storage), load_classifier, "elsewhere"),
    "2^50 paths": Hostile(weights(hard_links), load_classifier, "twice"),
    "texts for weights": Hostile(weights(objects), load_classifier, "no numbers"),
    "a virtual dataset": Hostile(weights(virtual_dataset), load_classifier, "elsewhere"),
    # Members
    "a member outside": Hostile(member("../outside"), load_classifier, "member"),
    "an absolute member": Hostile(member("/tmp/outside"), load_classifier, "member"),
    "a member that is a link": Hostile(member("assets", b"/etc", stat.S_IFLNK | 0o777), load_classifier, "member"),
    "a member of assets": Hostile(member("assets/vocabulary.txt"), load_classifier, "member"),
    "a member twice": Hostile(twice, load_classifier, "member"),
    # Broken ones
    "half of it": Hostile(cut, load_classifier, "no whole zip"),
    "a flipped byte": Hostile(flipped, load_classifier, "CRC"),
    "nothing in it": Hostile(text("model.keras", ""), load_classifier, "no whole zip"),
    "a pipe": Hostile(fifo("model.keras"), load_classifier, "an existing"),
    "a folder": Hostile(directory("model.keras"), load_classifier, "an existing"),
    "a device without an end": Hostile(endless("model.keras"), load_classifier, "an existing"),
    # Other formats
    "the old format": Hostile(legacy("model.h5"), load_classifier, "old format.*--trust"),
    "the old format by another name": Hostile(legacy("model.keras"), load_classifier, "no whole zip"),
    "a pickle": Hostile(pickled, load_classifier, "no whole zip"),
}
