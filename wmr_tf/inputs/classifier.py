"""What a classifier must be, found out from its layers and from the numbers it gives for a first batch."""

from typing import Any

import keras
import numpy as np
from keras.src.layers.preprocessing.image_preprocessing import base_image_preprocessing_layer as keras_images

from wmr_tf.checks import require
from wmr_tf.engine.precision import layers_backwards, layers_of

FIX_LOGITS = "Remove the last activation (activation=None): softmax belongs to the losses, which take it in float32."


def check_architecture(classifier: Any) -> None:
    """Check what can be seen without data: that this is a Keras model whose last layer has no softmax or sigmoid.

    A subclassed model lists its layers in no order that means anything; its numbers will tell.

    Raises:
        InvalidInput: If it is something else.
    """
    require(
        isinstance(classifier, keras.Model),
        "classifier",
        got=type(classifier).__name__,
        expected="a keras.Model that returns logits",
        fix="Wrap it in keras.Sequential([...]) or subclass keras.Model.",
    )
    last = next(layers_backwards(classifier), classifier)
    activation = getattr(getattr(last, "activation", None), "__name__", type(last).__name__.lower())
    require(
        isinstance(last, keras.Model) or activation not in ("softmax", "sigmoid"),
        f"classifier {classifier.name!r}",
        got=f"a last layer ({last.name!r}) with {activation}",
        expected="logits",
        fix=FIX_LOGITS,
    )


def check_one_image_stays_one(classifier: keras.Model) -> None:
    """Check that no layer of Keras transforms images at random, so that a clean and an attacked one stay comparable.

    Such a layer (`RandomFlip`, `RandomCrop`, ...) would turn the two into different pictures. Layers that drop or add
    noise to features (`Dropout`, `GaussianNoise`, ...) are taken: they regularise, and the picture stays the same. What
    draws inside the `call` of a layer or a model of one's own cannot be seen.

    Raises:
        InvalidInput: If there is such a layer.
    """
    transforming = [layer.name for layer in layers_of(classifier) if _transforms_at_random(layer)]
    require(
        not transforming,
        f"classifier {classifier.name!r}",
        got=f"layers that transform each image at random ({', '.join(transforming)})",
        expected="none, since the method compares a clean image with its attacked one, and each would be drawn anew",
        fix="Augment in the data pipeline: train.map(lambda x, y: (augment(x, training=True), y)).",
    )


def _transforms_at_random(layer: keras.Layer) -> bool:
    draws = any(isinstance(value, keras.random.SeedGenerator) for value in vars(layer).values())
    return draws and isinstance(layer, keras_images.BaseImagePreprocessingLayer)


def check_logits(logits: np.ndarray) -> int:
    """Check what a classifier returned for a batch.

    Args:
        logits: What it returned, as floats.

    Returns:
        The number of classes.

    Raises:
        InvalidInput: If it is anything but finite logits `[batch, classes]`; probabilities are none.
    """
    require(
        logits.ndim == 2 and logits.shape[1] >= 2,
        "classifier",
        got=f"an output of shape {logits.shape}",
        expected="logits of shape (batch, classes) with at least two classes",
        fix="Let it return one logit a class; a binary one has two.",
    )
    require(
        bool(np.isfinite(logits).all()),
        "classifier",
        got=f"{np.sum(~np.isfinite(logits))} outputs that are NaN or infinite",
        expected="finite logits",
        fix="Look at its weights and at the scale of its inputs.",
    )
    rows_are_probabilities = (logits >= 0).all() and np.allclose(logits.sum(axis=1), 1.0, atol=2e-3)
    require(
        not rows_are_probabilities,
        "classifier",
        got="outputs that are probabilities (each row is >= 0 and sums to 1)",
        expected="logits",
        fix=FIX_LOGITS,
    )
    return logits.shape[1]
