"""Checks of a classifier: of its layers, and of its outputs on a first batch."""

from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras.src.layers.preprocessing.image_preprocessing import base_image_preprocessing_layer as keras_images

from wmr_tf.checks import one_line, refuse, require
from wmr_tf.engine.precision import layers_backwards, layers_of

FIX_LOGITS = "Take wmr_tf.without_softmax(model), the same model up to its logits, which can be saved, too."


def check_model(classifier: Any) -> None:
    """Check that what was passed as a classifier is a Keras model.

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


def check_architecture(classifier: Any) -> None:
    """Check what can be seen without data: that this is a Keras model whose last layer has no softmax or sigmoid.

    The order of a subclassed model's layers is unknown; `check_logits` looks at its outputs instead.

    Raises:
        InvalidInput: If it is something else.
    """
    check_model(classifier)
    last = next(layers_backwards(classifier), classifier)
    activation = activation_of(last)
    require(
        isinstance(last, keras.Model) or activation not in ("softmax", "sigmoid"),
        f"classifier {classifier.name!r}",
        got=f"a last layer ({last.name!r}) with {activation}",
        expected="logits",
        fix=FIX_LOGITS,
    )


def activation_of(layer: Any) -> str:
    """Return the name of the function that a layer ends with, such as "softmax"; a layer without one is one itself."""
    return getattr(getattr(layer, "activation", None), "__name__", type(layer).__name__.lower())


def check_one_image_stays_one(classifier: keras.Model) -> None:
    """Check that no Keras layer transforms images at random, so that a clean image and its attacked one are comparable.

    Such a layer (`RandomFlip`, `RandomCrop`, ...) would turn the two into different pictures. Layers that regularise
    (`Dropout`, `GaussianNoise`, ...) are accepted: the picture stays the same, and the public code of TRADES draws
    dropout anew for each of the two as well. Random numbers drawn inside a user's own `call` cannot be seen.

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


def classes_of(classifier: keras.Model, images: np.ndarray) -> int:
    """Return the number of classes of a classifier, after checking its outputs for some images.

    Args:
        classifier: The classifier; it is built by this call if it was not.
        images: A batch of images.

    Raises:
        InvalidInput: If the classifier has several inputs or outputs, does not take the images, or returns anything
            but logits.
    """
    return check_logits(outputs_of(classifier, images))


def outputs_of(classifier: keras.Model, images: np.ndarray) -> np.ndarray:
    """Return what a classifier gives for some images when its user calls it, as float32, whatever that is.

    Args:
        classifier: The classifier; it is built by this call if it was not.
        images: A batch of images.

    Raises:
        InvalidInput: If the classifier has several inputs or outputs, or does not take the images.
    """
    inputs = getattr(classifier, "inputs", None) or ["the images"]
    require(
        len(inputs) == 1,
        f"classifier {classifier.name!r}",
        got=f"{len(inputs)} inputs",
        expected="one, the images",
        fix="Make a model of the images alone, which computes the other inputs or holds them as constants.",
    )
    quantised = [layer.name for layer in layers_of(classifier) if layer.quantization_mode == "float8"]
    require(
        not quantised,
        f"classifier {classifier.name!r}",
        got=f"layers in float8 ({', '.join(quantised)})",
        expected="layers that an attack can differentiate, which Keras's in float8 are not on TensorFlow",
        fix="Quantise to int8 or int4, or evaluate the model as it was before.",
    )
    try:
        output = classifier(tf.cast(images, tf.float32), training=False)
    except (ValueError, tf.errors.InvalidArgumentError) as error:
        refuse(
            f"classifier {classifier.name!r}",
            got=f"a failure on images of shape {list(images.shape)} ({one_line(error)})",
            expected="logits",
            fix="Pass batches of the images that it was made for.",
            cause=error,
        )
    require(
        not isinstance(output, dict | list | tuple),
        f"classifier {classifier.name!r}",
        got=f"{len(output)} outputs in a {type(output).__name__}",
        expected="one, the logits",
        fix="Make a model of the output that is the logits: keras.Model(model.inputs, model.outputs[0]).",
    )
    return np.asarray(output, np.float32)


def check_logits(logits: np.ndarray) -> int:
    """Check the outputs of a classifier for a batch.

    Args:
        logits: The outputs, as floats.

    Returns:
        The number of classes.

    Raises:
        InvalidInput: If it is anything but finite logits `[batch, classes]`; probabilities are none.
    """
    check_shape(logits)
    require(
        bool(np.isfinite(logits).all()),
        "classifier",
        got=f"{np.sum(~np.isfinite(logits))} outputs that are NaN or infinite",
        expected="finite logits",
        fix="Look at its weights and at the scale of its inputs.",
    )
    rows_are_probabilities = (logits >= 0).all() and np.allclose(
        logits.sum(axis=1), 1.0, atol=1e-2
    )  # bfloat16 rounds each to 8 bits
    require(
        not rows_are_probabilities,
        "classifier",
        got="outputs that are probabilities (each row is >= 0 and sums to 1)",
        expected="logits",
        fix=FIX_LOGITS,
    )
    return logits.shape[1]


def check_shape(outputs: np.ndarray) -> None:
    """Check that a classifier's outputs for a batch are rows of as many numbers as there are classes.

    Raises:
        InvalidInput: If they are not.
    """
    require(
        outputs.ndim == 2 and outputs.shape[1] >= 2,
        "classifier",
        got=f"an output of shape {outputs.shape}",
        expected="logits of shape (batch, classes) with at least two classes",
        fix="Let it return one logit a class; wmr_tf.without_softmax(model) makes two of the sigmoid of one unit.",
    )
