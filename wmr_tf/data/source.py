"""What a data set is before any pipeline: raw arrays in memory and a few facts about them."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from wmr_tf.extras import need


class Images(Protocol):
    """Images that a pipeline takes by their numbers: an array in memory, or `wmr_tf.data.encoded.EncodedImages`."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: Any, /) -> Any: ...


class Arrays(NamedTuple):
    """Images, numbers [examples, height, width, channels], and labels, integers [examples], of the given splits.

    Without validation images these are cut from the training images.
    """

    train_images: Images
    train_labels: np.ndarray
    test_images: Images
    test_labels: np.ndarray
    validation_images: Images | None = None
    validation_labels: np.ndarray | None = None


@dataclass(frozen=True)
class Source:
    """A data set that `wmr_tf.data.load` can load.

    Args:
        read: Returns the raw arrays; takes the `data_dir` that the user gave (an existing folder) or None.
        num_classes: Labels are in [0, num_classes).
        image_shape: (height, width, channels).
        scale: The raw value that becomes 1.
        validation_examples: How many training images are set aside for validation, if there are no others; None: 10 %.
        augment: How training images are changed at random, one of `wmr_tf.names.AUGMENTATIONS`.
        class_names: What a report calls the classes, by label; None: their labels.
        extra: Which of `wmr_tf.extras.EXTRAS` reading them needs; None: none.
    """

    read: Callable[[Path | None], Arrays]
    num_classes: int
    image_shape: tuple[int, int, int]
    scale: int = 255
    validation_examples: int | None = None
    augment: str = "none"
    class_names: tuple[str, ...] | None = None
    extra: str | None = None

    def check_installed(self) -> None:
        """Raise `InvalidInput` unless all that reads it is installed."""
        if self.extra:
            need(self.extra, "data set")
