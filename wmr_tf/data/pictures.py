"""Images in files: their size, their pixels, and a set of them that stays in its files."""

import dataclasses
import os
import warnings
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from PIL import Image

from wmr_tf.checks import one_line
from wmr_tf.untrusted import Unsafe, check_file

FORMATS = ("JPEG", "PNG", "BMP", "GIF")

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif")
"""How the names of image files end, in small letters."""


@dataclasses.dataclass(frozen=True)
class Pictures:
    """Images that stay in their files until a batch needs them.

    Args:
        paths: Those of the files, [examples].
        image_shape: (height, width, channels), channels 1 or 3; images of another size are resized.
    """

    paths: np.ndarray
    image_shape: tuple[int, int, int]

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: Any) -> "Pictures":
        return Pictures(self.paths[index], self.image_shape)

    def read(self, index: np.ndarray) -> np.ndarray:
        """Return the images of some numbers, [batch], as uint8 [batch, *image_shape].

        Raises:
            Unsafe: If one cannot be read any more.
        """
        with ThreadPoolExecutor() as threads:
            read = threads.map(lambda path: pixels(path, self.image_shape), self.paths[index])
            return np.stack(list(read))


def size_of(path: str | os.PathLike[str]) -> tuple[int, int]:
    """Return height and width of an image in pixels, as the header of its file tells them.

    Args:
        path: A file in one of `FORMATS`, whatever its name.

    Raises:
        Unsafe: If it is no such file, or has more pixels than any photograph.

    Example:
        >>> image = Image.new("RGB", (3, 2))
        >>> image.save("black.png")
        >>> size_of("black.png")
        (2, 3)
    """
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            check_file(path)
            with Image.open(path, formats=FORMATS) as image:
                return image.height, image.width
        except Exception as error:  # which one Pillow raises depends on what is wrong
            raise _unreadable(error, path) from error


def pixels(path: str | os.PathLike[str], image_shape: tuple[int, int, int]) -> np.ndarray:
    """Return the image in a file (of a GIF the first picture), without its transparency.

    Args:
        path: A file of which `size_of` knows the size.
        image_shape: (height, width, channels). An image of another size is resized, bilinearly and with antialiasing,
            whatever its aspect; one in colour becomes grey if there is one channel.

    Returns:
        uint8 of this shape.

    Raises:
        Unsafe: If it cannot be read.
    """
    height, width, channels = image_shape
    try:
        with Image.open(path, formats=FORMATS) as opened:
            image: Image.Image = opened
            if image.mode.startswith("I"):  # 16 bits, of which Pillow would keep the lower ones
                image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
            if "transparency" in image.info:
                image = image.convert("RGBA")
            image = image.convert("L" if channels == 1 else "RGB")
            if image.size != (width, height):
                image = image.resize((width, height), Image.Resampling.BILINEAR)
            return np.asarray(image, np.uint8).reshape(image_shape)
    except Exception as error:  # which one Pillow raises depends on where the damage is
        raise _unreadable(error, path) from error


def pixels_of_each(
    paths: Iterable[str], image_shape: tuple[int, int, int]
) -> Iterator[tuple[np.ndarray | None, str | None]]:
    """Yield each image and None, or None and what is wrong with its file."""

    def tried(path: str) -> tuple[np.ndarray | None, str | None]:
        try:
            return pixels(path, image_shape), None
        except Unsafe as error:
            return None, str(error)

    with ThreadPoolExecutor() as threads:
        yield from threads.map(tried, paths)


def _unreadable(error: Exception, path: object) -> Unsafe:
    return Unsafe(one_line(error).removesuffix(f" {str(path)!r}").rstrip("."))
