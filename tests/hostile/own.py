"""Hostile images and arrays of one's own."""

import os
from pathlib import Path
from typing import Any

from PIL import Image

from tests.hostile import Hostile
from tests.hostile.images import png
from tests.hostile.records import cut, header, npz, pickled, pickled_to_size, zeros
from tests.hostile.weights import endless, fifo
from wmr_tf.data import info

NPZ = "own.npz"


def folder(name: str = "z.png", make=lambda path: None):
    """Return a builder of a folder with two classes, into one of which another file is put."""

    def build(place: Path) -> Path:
        for label in ("ant", "bee"):
            (place / "photos" / label).mkdir(parents=True)
            for number in range(3):
                Image.new("L", (8, 8), 10 * number + len(label)).save(place / "photos" / label / f"{number}.png")
        make(place / "photos" / "bee" / name)
        return place / "photos"

    return build


def images(path: Path) -> Any:
    source = info(str(path), image_size=[8])
    return source.read(None)


def arrays(path: Path) -> Any:
    return info(str(path)).read(None)


def honest(place: Path) -> Path:
    members = {name: header((6, 4, 4), "|u1") + bytes(96) for name in ("x_train.npy", "x_test.npy")}
    labels = header((6,), "|u1") + bytes([0, 0, 0, 1, 1, 1])
    distinct = header((6, 4, 4), "|u1") + bytes(range(96))
    return npz(NPZ, {**members, "x_train.npy": distinct, "y_train.npy": labels, "y_test.npy": labels})(place)


def written(content: bytes):
    return lambda path: path.write_bytes(content)


HONEST_OWN = {"an .npz file of images": (honest, arrays)}

OWN = {
    "a PNG of 30,000 x 30,000 in a folder": Hostile(
        folder(make=written(png(30_000, 30_000))), images, "exceeds limit", is_costly=True
    ),
    "a PNG of 9,500 x 9,500 in a folder": Hostile(folder(make=written(png(9_500, 9_500))), images, "exceeds limit"),
    "a PNG in a folder that says 30,000 x 30,000": Hostile(
        folder(make=written(png(8, 8).replace(bytes([0, 0, 0, 8] * 2), bytes([0, 0, 117, 48] * 2)))),
        images,
        "identify",
    ),
    "an image that is a pipe": Hostile(folder(make=os.mkfifo), images, "no plain file"),
    "an image without an end": Hostile(folder(make=lambda path: path.symlink_to("/dev/zero")), images, "no plain file"),
    "an image that is another format": Hostile(folder(make=written(b"%!PS-Adobe-3.0 EPSF-3.0\n")), images, "identify"),
    "an image whose name writes over the terminal": Hostile(
        folder("\x1b[2J\n.png", written(b"no image")), images, r"x1b\[2J"
    ),
    "images that are a pipe": Hostile(fifo(NPZ), arrays, "existing .npz file"),
    "images without an end": Hostile(endless(NPZ), arrays, "existing .npz file"),
    "pickled images": Hostile(pickled(NPZ), arrays, "only pickle reads"),
    "pickled images of the right size": Hostile(pickled_to_size(NPZ), arrays, "only pickle reads"),
    "images of 10^18 numbers": Hostile(npz(NPZ, {"x_train.npy": header((10**9, 10**9))}), arrays, "not of the size"),
    "images of 3 GB of zeros": Hostile(zeros(NPZ, 3 << 30), arrays, "plausible", is_costly=True),
    "half of an .npz file of images": Hostile(cut(NPZ), arrays, "no whole zip"),
}
