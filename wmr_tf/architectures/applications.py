"""The networks of `keras.applications`, without a download, for images in [0, 1]."""

import sys
import warnings

import keras
import numpy as np
from keras import layers

from wmr_tf.architectures import _layers
from wmr_tf.checks import one_line, one_of, refuse, require
from wmr_tf.names import APPLICATIONS


def application(name: str, num_classes: int = 10, input_shape: tuple[int, int, int] = (224, 224, 3)) -> keras.Model:
    """Return a new network of `keras.applications` with random weights.

    Its features, their global average, and new logits. What its `preprocess_input` does with images in [0, 255] is
    done at its beginning, so that weights which were trained behind that fit.

    Args:
        name: Such as "MobileNetV3Small".
        num_classes: Number of classes, at least 2.
        input_shape: `(height, width, 3)` of an image; most need a height and width of at least 32.

    Returns:
        A Keras model of images `[batch, *input_shape]` in [0, 1] that returns float32 logits `[batch, num_classes]`.

    Raises:
        InvalidInput: If there is no such network, or it does not take such images.

    Example:
        >>> application("MobileNetV3Small", num_classes=3, input_shape=(32, 32, 3)).output_shape
        (None, 3)
    """
    build = getattr(keras.applications, one_of("application", name, APPLICATIONS))
    image = _layers.image_input(input_shape)
    fix = "Pass images of three channels, on the command line with --color=rgb."
    require(input_shape[2] == 3, "input_shape", got=input_shape, expected="colour images", fix=fix)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of the size of images that its published weights are for
            network = build(
                include_top=False, weights=None, input_tensor=_preprocessed(image, build.__module__), pooling="avg"
            )
    except ValueError as error:
        fix = "Pass a larger --image_size, or take another network."
        got = f"{input_shape} ({one_line(error)})"
        refuse("input_shape", got=got, expected=f"images that {name} takes", fix=fix, cause=error)
    return keras.Model(image, _layers.logits(network.output, num_classes), name=name.lower())


def _preprocessed(image: keras.KerasTensor, module: str) -> keras.KerasTensor:
    """Return what `preprocess_input` makes of images, as layers: affine, perhaps with red and blue swapped."""
    preprocess = sys.modules[module].preprocess_input

    def of(*colour: float) -> np.ndarray:
        return np.asarray(preprocess(np.array(colour, np.float32).reshape([1, 1, 1, 3]))).reshape(-1)

    black, white, red = of(0, 0, 0), of(255, 255, 255), of(255, 0, 0)
    scale, offset = (np.round(each, 6).tolist() for each in (white - black, black))
    if red[0] == black[0]:
        image = keras.ops.flip(image, axis=-1)
    return layers.Rescaling(scale, offset, dtype="float32", name="preprocessing")(image)
