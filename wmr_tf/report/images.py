"""Images of a report: clean, attacked, and the perturbation between the two, in a page or on a sheet."""

import base64
import io
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps


class Tile(NamedTuple):
    """An image as a report shows it."""

    shown: list[tuple[str, str, str]]
    """Clean, attacked and perturbation: what it is, its address with the pixels in it, and its alt text."""
    caption: str


def tiles(pictures: Iterable[Mapping[str, Any]]) -> list[Tile]:
    """Return images as a report shows them, see `wmr_tf.report.write_report`.

    Args:
        pictures: Of each the position, label, prediction, "clean" and "adversarial" `[height, width, channels]` in
            [0, 1], margin, radius and what broke it.
    """
    return [_tile(picture) for picture in pictures]


def _tile(picture: Mapping[str, Any]) -> Tile:
    clean, adversarial = (np.asarray(picture[name], np.float32) for name in ("clean", "adversarial"))
    shown, factor = magnified(adversarial - clean)
    what = f"image {picture['position']}, labelled {picture['label']}"
    magnification = f"change, magnified {factor:.3g} times" if factor else "no change"
    parts = [f"Image {picture['position']}: labelled {picture['label']}, taken for {picture['prediction']}"]
    parts += [f"margin {picture['margin']:.2f}"]
    parts += [f"smallest change found {picture['radius']:.3g}"] if picture.get("radius") is not None else []
    parts += [f"broken by {picture['broken_by']}"] if picture.get("broken_by") else []
    return Tile(
        [
            ("clean", data_uri(clean), f"Clean {what}"),
            ("attacked", data_uri(adversarial), f"Attacked {what}, taken for {picture['prediction']}"),
            (magnification, data_uri(shown), f"What the attack changed in {what}; grey is no change"),
        ],
        f"{', '.join(parts)}.",
    )


def magnified(change: np.ndarray) -> tuple[np.ndarray, float]:
    """Return a change around grey, so large that its largest value is black or white, and how many times that is.

    Args:
        change: Floats of any shape.

    Example:
        >>> magnified(np.array([0.0, 0.1, -0.05]))
        (array([0.5 , 1.  , 0.25]), 5.0)
    """
    largest = float(np.abs(change).max())
    factor = 0.5 / largest if largest else 0.0
    return 0.5 + factor * change, factor


_SIDE, _GAP, _LINE = 128, 8, 20
"""Of a sheet, in pixels: an image, the space around it, and a line of text."""


def sheet(pictures: Iterable[Mapping[str, Any]], rows: int) -> np.ndarray:
    """Return images as one picture, of a size that depends on the number of rows alone.

    Args:
        pictures: As `tiles` takes them; of each a row is drawn, clean, attacked and what changed, magnified.
        rows: For how many there is room; the others are left out.

    Returns:
        `[height, width, 3]` uint8.

    Example:
        >>> sheet([], rows=4).shape
        (640, 416, 3)
    """
    drawn = Image.new("RGB", (3 * _SIDE + 4 * _GAP, rows * (_SIDE + _LINE + _GAP) + 2 * _GAP), "#eeeeee")
    draw, font = ImageDraw.Draw(drawn), ImageFont.load_default(15)
    for row, picture in zip(range(rows), pictures, strict=False):
        top = _GAP + row * (_SIDE + _LINE + _GAP)
        clean, adversarial = (np.asarray(picture[name], np.float32) for name in ("clean", "adversarial"))
        shown, _ = magnified(adversarial - clean)
        told = f"labelled {picture['label']}", f"taken for {picture['prediction']}", f"margin {picture['margin']:.2f}"
        for place, (image, text) in enumerate(zip((clean, adversarial, shown), told, strict=True)):
            left = _GAP + place * (_SIDE + _GAP)
            draw.text((left, top), text, fill="black", font=font)
            scaled = ImageOps.contain(_as_pil(image), (_SIDE, _SIDE), Image.Resampling.BOX)
            drawn.paste(scaled, (left, top + _LINE))
    return np.asarray(drawn)


def data_uri(image: np.ndarray) -> str:
    """Return an image as PNG in an address.

    Args:
        image: Floats `[height, width, channels]` in [0, 1]; of other than three channels the mean is shown.
    """
    file = io.BytesIO()
    _as_pil(image).save(file, format="PNG")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"


def _as_pil(image: np.ndarray) -> Image.Image:
    levels = np.rint(255 * np.clip(image if image.shape[-1] == 3 else image.mean(axis=-1), 0, 1)).astype(np.uint8)
    return Image.fromarray(levels)
