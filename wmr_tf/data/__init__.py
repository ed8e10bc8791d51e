"""The data sets as tf.data pipelines of (image in [0, 1], label), and the check of a user's own batches."""

from wmr_tf.data.loading import SOURCES, Splits, info, load
from wmr_tf.data.source import Arrays, Source
from wmr_tf.inputs.images import check_images_and_labels

__all__ = ["SOURCES", "Arrays", "Source", "Splits", "check_images_and_labels", "info", "load"]
