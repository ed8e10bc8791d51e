"""Encoded images, in files or in memory: their size, their pixels, and a set of them that stays as it is."""

import dataclasses
import io
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

Encoded = str | os.PathLike[str] | bytes
"""The path of an image's file, or what such a file holds."""


@dataclasses.dataclass(frozen=True)
class EncodedImages:
    """Images that stay encoded until a batch needs them.

    Args:
        encoded: The paths of their files, or what the files hold, [examples].
        image_shape: (height, width, channels), channels 1 or 3; images of another size are resized.
    """

    encoded: np.ndarray
    image_shape: tuple[int, int, int]

    def __len__(self) -> int:
        return len(self.encoded)

    def __getitem__(self, index: Any) -> "EncodedImages":
        return EncodedImages(self.encoded[index], self.image_shape)

    def read(self, index: np.ndarray) -> np.ndarray:
        """Return the images of some numbers, [batch], as uint8 [batch, *image_shape].

        Raises:
            Unsafe: If one cannot be read any more; the message names its file.
        """
        with ThreadPoolExecutor() as threads:
            return np.stack(list(threads.map(self._pixels, self.encoded[index])))

    def _pixels(self, image: Encoded) -> np.ndarray:
        try:
            return pixels(image, self.image_shape)
        except Unsafe as error:
            raise Unsafe(error if isinstance(image, bytes) else f"{image}: {error}") from error


def size_of(encoded: Encoded) -> tuple[int, int]:
    """Return height and width of an image in pixels, as the header of its file tells them.

    Args:
        encoded: A file in one of `FORMATS`, whatever its name.

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
            with Image.open(_checked(encoded), formats=FORMATS) as image:
                return image.height, image.width
        except Exception as error:  # which one Pillow raises depends on what is wrong
            raise _unreadable(error, encoded) from error


def pixels(encoded: Encoded, image_shape: tuple[int, int, int]) -> np.ndarray:
    """Return the image in a file (of a GIF the first picture), without its transparency.

    Args:
        encoded: A file of which `size_of` knows the size.
        image_shape: (height, width, channels). An image of another size is resized, bilinearly and with antialiasing,
            whatever its aspect; one in colour becomes grey if there is one channel.

    Returns:
        uint8 of this shape.

    Raises:
        Unsafe: If it cannot be read.
    """
    height, width, channels = image_shape
    try:
        with Image.open(_checked(encoded), formats=FORMATS) as opened:
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
        raise _unreadable(error, encoded) from error


def pixels_of_each(
    images: Iterable[Encoded], image_shape: tuple[int, int, int]
) -> Iterator[tuple[np.ndarray | None, str | None]]:
    """Yield each image and None, or None and what is wrong with its file."""

    def tried(image: Encoded) -> tuple[np.ndarray | None, str | None]:
        try:
            return pixels(image, image_shape), None
        except Unsafe as error:
            return None, str(error)

    with ThreadPoolExecutor() as threads:
        yield from threads.map(tried, images)


def _checked(encoded: Encoded) -> Any:
    """Return what Pillow opens: a plain file's path, or its content as a file."""
    if isinstance(encoded, bytes):
        return io.BytesIO(encoded)
    check_file(encoded)
    return encoded


def _unreadable(error: Exception, encoded: Encoded) -> Unsafe:
    if isinstance(encoded, bytes):
        return Unsafe(one_line(error).partition(" <_io.BytesIO")[0].rstrip("."))
    return Unsafe(one_line(error).removesuffix(f" {str(encoded)!r}").rstrip(".:"))
