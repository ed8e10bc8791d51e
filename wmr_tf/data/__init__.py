"""The data sets as tf.data pipelines of (image in [0, 1], label), and the check of a user's own batches."""

from typing import TYPE_CHECKING

from wmr_tf.lazy import lazily

if TYPE_CHECKING:
    from wmr_tf.data.loading import Splits, load
    from wmr_tf.data.source import Arrays, Source
    from wmr_tf.data.sources import SOURCES, info
    from wmr_tf.inputs.images import check_images_and_labels

__all__ = ["SOURCES", "Arrays", "Source", "Splits", "check_images_and_labels", "info", "load"]

# Late, since commands look at data sets before TensorFlow is imported.
__getattr__, __dir__ = lazily(
    __name__,
    {
        **dict.fromkeys(("Splits", "load"), "wmr_tf.data.loading"),
        **dict.fromkeys(("SOURCES", "info"), "wmr_tf.data.sources"),
        **dict.fromkeys(("Arrays", "Source"), "wmr_tf.data.source"),
        "check_images_and_labels": "wmr_tf.inputs.images",
    },
)
