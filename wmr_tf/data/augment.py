"""Random changes of training images: crops and flips as vectorised gathers, the rest by Keras's own layers."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

from wmr_tf.checks import one_of
from wmr_tf.names import AUGMENTATIONS

PADDING = 4

TURN, ZOOM, COLOR = 10 / 360, 0.1, 0.2
"""By which part of a full turn, of the size, and of the brightness and contrast, images are changed at most."""

Augment = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]
"""Maps images, float32 [batch, height, width, channels] in [0, 1], and a seed, integers [2], to changed images."""


def augmentation(name: str) -> Augment:
    """Return a random change of images; the same seed gives the same change.

    Args:
        name: "none"; "crop_flip", see `crop_and_flip`; "crop_flip_color", which then changes brightness and contrast by
            up to 20 %; or "rotate_zoom", which turns by up to 10 degrees and zooms by up to 10 %, for images whose
            mirrored form means something else, such as digits.

    Raises:
        InvalidInput: If there is no such change.

    Example:
        >>> augmentation("rotate_zoom")(tf.ones([2, 32, 32, 3]), tf.constant([0, 1])).shape
        TensorShape([2, 32, 32, 3])
    """
    one_of("augment", name, AUGMENTATIONS)
    of_keras = keras.layers
    if name == "rotate_zoom":
        turn = of_keras.RandomRotation(TURN, fill_mode="nearest", dtype="float32")
        return _by_layers([turn, of_keras.RandomZoom(ZOOM, fill_mode="nearest", dtype="float32")])
    if name == "crop_flip_color":
        brightness = of_keras.RandomBrightness(COLOR, value_range=(0, 1), dtype="float32")
        recolored = _by_layers([brightness, of_keras.RandomContrast(COLOR, value_range=(0, 1), dtype="float32")])

        def both(images: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
            of_crop, of_color = tf.unstack(tf.random.experimental.stateless_split(seed, 2))
            return recolored(crop_and_flip(images, of_crop), of_color)

        return both
    return crop_and_flip if name == "crop_flip" else lambda images, seed: images


class _Given(keras.random.SeedGenerator):
    """Gives Keras's layers a seed from outside; their own ones would count what has been read before."""

    def __init__(self, seed: tf.Tensor) -> None:
        self._seed = seed  # and no variable, which a data set's graph could not make

    def next(self, ordered: bool = True) -> tf.Tensor:
        """Return another seed each time."""
        self._seed, drawn = tf.unstack(tf.random.experimental.stateless_split(self._seed, 2))
        return drawn


def _by_layers(layers: Sequence[Any]) -> Augment:
    def augmented(images: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        given = _Given(seed)
        for layer in layers:
            change = layer.get_random_transformation(images, training=True, seed=given)
            images = layer.transform_images(images, change, training=True)
        return images

    return augmented


def crop_and_flip(images: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Return each image shifted by up to four pixels each way, zeros moving in, and mirrored with probability 1/2.

    Args:
        images: [batch, height, width, channels], any numeric type.
        seed: Integers [2]; the same seed gives the same crops and flips.

    Returns:
        [batch, height, width, channels], of the type of `images`.

    Example:
        >>> crop_and_flip(tf.ones([2, 32, 32, 3]), seed=[0, 1]).shape
        TensorShape([2, 32, 32, 3])

    Source: the usual CIFAR-10 augmentation (He et al., 2016, section 4.2).
    """
    batch, height, width = tf.shape(images)[0], images.shape[1], images.shape[2]
    shift_seed, flip_seed = tf.unstack(tf.random.experimental.stateless_split(seed, 2))
    corner = tf.random.stateless_uniform([2, batch, 1], shift_seed, maxval=2 * PADDING + 1, dtype=tf.int32)
    flip = tf.random.stateless_uniform([batch, 1], flip_seed) < 0.5
    rows = corner[0] + tf.range(height)
    columns = corner[1] + tf.where(flip, tf.range(width)[::-1], tf.range(width))
    padded = tf.pad(images, [[0, 0], [PADDING, PADDING], [PADDING, PADDING], [0, 0]])
    cropped = tf.gather(tf.gather(padded, rows, axis=1, batch_dims=1), columns, axis=2, batch_dims=1)
    return tf.ensure_shape(cropped, images.shape)
