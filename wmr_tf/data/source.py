"""What a data set is before any pipeline: raw arrays in memory and a few facts about them."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np


class Arrays(NamedTuple):
    """Images, uint8 [examples, height, width, channels], and labels, integers [examples], of both given splits."""

    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray


@dataclass(frozen=True)
class Source:
    """A data set that `wmr_tf.data.load` knows.

    Args:
        read: Returns the raw arrays; takes the `data_dir` that the user gave (an existing folder) or None.
        num_classes: Labels are in [0, num_classes).
        image_shape: (height, width, channels).
        scale: The raw value that becomes 1.
        validation_examples: How many training images are set aside for validation; None: 10 %.
        augment: Whether training images are randomly cropped and flipped.
    """

    read: Callable[[Path | None], Arrays]
    num_classes: int
    image_shape: tuple[int, int, int]
    scale: int = 255
    validation_examples: int | None = None
    augment: bool = False
