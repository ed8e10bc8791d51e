"""Classifiers of the digits that fool attacks, each in its own way, and honest ones: what alarms are measured on."""

import dataclasses
import functools
from collections.abc import Callable
from functools import partial
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from wmr_tf import AdversarialModel, attacks, data, methods

EPSILON = 0.15
ATTACK = attacks.PGD(epsilon=EPSILON, step_size=0.05, steps=5)
L2: dict[str, Any] = {"epsilon": 0.5, "norm": "l2"}

Arrays = tuple[np.ndarray, np.ndarray]


class Through(layers.Layer):
    """A layer that computes a function of its input, and of its own weights if there are any."""

    def __init__(self, function: Callable[[tf.Tensor], tf.Tensor], **settings: Any) -> None:
        super().__init__(**settings)
        self.function = function

    def call(self, x: tf.Tensor) -> tf.Tensor:
        """Return the function of x."""
        return self.function(x)


def digits(split: str) -> Arrays:
    """Return the images and labels of a split of the digits."""
    batches = list(getattr(data.load("digits", batch_size=32), split))
    return np.concatenate([x for x, _ in batches]), np.concatenate([y for _, y in batches])


def network(
    *, filters: int = 8, activation: Any = "relu", norm: bool = False, hidden: int = 0, dtype: str = "float32"
) -> keras.Model:
    """Return a new small convnet of 8x8 images."""
    settings = {"activation": activation, "dtype": dtype}
    return keras.Sequential(
        [
            keras.Input([8, 8, 1]),
            layers.Conv2D(filters, 3, padding="same", **settings),
            *([layers.BatchNormalization()] if norm else []),
            layers.Conv2D(2 * filters, 3, strides=2, padding="same", **settings),
            layers.Flatten(),
            *([layers.Dense(hidden, **settings)] if hidden else []),
            layers.Dense(10),
        ]
    )


def linear() -> keras.Model:
    """Return a new linear classifier of 8x8 images."""
    return keras.Sequential([keras.Input([8, 8, 1]), layers.Flatten(), layers.Dense(10)])


def trained(make: Callable[[], keras.Model], method: methods.Method, *, epochs: int, seed: int = 0) -> keras.Model:
    """Return a new classifier, trained on the digits."""
    keras.utils.set_random_seed(seed)
    classifier = make()
    model = AdversarialModel(classifier, method)
    model.compile(optimizer=keras.optimizers.SGD(0.05, momentum=0.9))
    model.fit(data.load("digits", batch_size=32, seed=seed).train, epochs=epochs, verbose=0)
    return classifier


# What fools attacks


def rounded(x: tf.Tensor) -> tf.Tensor:
    """Return images in five shades, without a gradient."""
    return tf.round(x * 4) / 4


def compressed(x: tf.Tensor) -> tf.Tensor:
    """Return images whose 8x8 cosine transform is rounded as JPEG does, without a gradient."""
    k, n = np.meshgrid(np.arange(8), np.arange(8), indexing="ij")
    basis = np.sqrt(np.where(k == 0, 1, 2) / 8) * np.cos(np.pi * (2 * n + 1) * k / 16)
    basis = tf.constant(basis, tf.float32)
    steps = tf.constant(0.25 + 0.1 * (k + n), tf.float32)
    coefficients = tf.einsum("ki,bijc,lj->bklc", basis, x, basis)
    coefficients = tf.round(coefficients / steps[..., tf.newaxis]) * steps[..., tf.newaxis]
    return tf.einsum("ki,bklc,lj->bijc", basis, coefficients, basis)


def shifted(x: tf.Tensor) -> tf.Tensor:
    """Return images moved by up to a pixel, at random in every call."""
    x = tf.pad(x, [[0, 0], [1, 1], [1, 1], [0, 0]])
    top, left = tf.unstack(tf.random.uniform([2], 0, 3, tf.int32))
    return tf.slice(x, tf.stack([0, top, left, 0]), [-1, 8, 8, -1])


def resized(x: tf.Tensor) -> tf.Tensor:
    """Return images made smaller by a size that is drawn in every call, and as large as before."""
    size = tf.random.uniform([], 5, 9, tf.int32)
    return tf.ensure_shape(tf.image.resize(tf.image.resize(x, [size, size]), [8, 8]), [None, 8, 8, 1])


def saturated(z: tf.Tensor) -> tf.Tensor:
    """Return log-probabilities at temperature 0.01 by way of a softmax in half precision, in which most are 0."""
    probabilities = tf.nn.softmax(tf.cast(100 * z, tf.float16))
    return tf.math.log(tf.cast(probabilities, tf.float32) + 1e-7)


def winners(x: tf.Tensor) -> tf.Tensor:
    """Return the largest thirtieth of each image's activations, and 0 for all others."""
    flat = tf.reshape(x, [-1, np.prod(x.shape[1:])])
    smallest = tf.math.top_k(flat, max(1, flat.shape[1] // 30)).values[:, -1:]
    return tf.reshape(tf.where(flat >= smallest, flat, 0.0), tf.shape(x))


def undefined(x: tf.Tensor) -> tf.Tensor:
    """Return images unchanged, but NaN for those that are brighter than any digit, as attacked ones may be."""
    mean = tf.reduce_mean(x, axis=[1, 2, 3], keepdims=True)
    return x + 0.0 * tf.sqrt(0.42 - mean)


def before(function: Callable[[tf.Tensor], tf.Tensor]) -> Callable[[keras.Model], keras.Model]:
    """Return what puts a function of images in front of a classifier."""
    return lambda classifier: keras.Sequential([keras.Input([8, 8, 1]), Through(function), *classifier.layers])


def after(function: Callable[[tf.Tensor], tf.Tensor]) -> Callable[[keras.Model], keras.Model]:
    """Return what puts a function of logits behind a classifier."""
    return lambda classifier: keras.Sequential([keras.Input([8, 8, 1]), *classifier.layers, Through(function)])


def careless(layer: keras.Layer) -> Callable[[keras.Model], keras.Model]:
    """Return what puts a layer in training mode, also in inference, before the last one of a classifier."""

    def make(classifier: keras.Model) -> keras.Model:
        image = x = keras.Input([8, 8, 1])
        *first, last = classifier.layers
        for each in first:
            x = each(x)
        return keras.Model(image, last(layer(x, training=True)))

    return make


@functools.cache
def base() -> keras.Model:
    """Return the honest classifier that the others are made of: trained by PGD, once."""
    return trained(partial(network, filters=16), methods.PGD(ATTACK), epochs=12)


@dataclasses.dataclass(frozen=True)
class Broken:
    """A classifier whose robust accuracy must not be believed.

    Attributes:
        meant: The flag that is to say so, or "InvalidInput" where the images are refused.
        spoil: Makes it of an honest classifier.
        images: What is done to the images.
    """

    meant: str
    spoil: Callable[[keras.Model], keras.Model]
    images: Callable[[np.ndarray], np.ndarray] = lambda x: x


@dataclasses.dataclass(frozen=True)
class Honest:
    """A classifier whose robust accuracy is what attacks say, high or low.

    Attributes:
        make: Trains it.
        norm: Of the ball.
        epsilon: Its radius.
    """

    make: Callable[[], keras.Model]
    norm: str = "linf"
    epsilon: float = EPSILON


BROKEN: dict[str, Broken] = {
    "rounded images": Broken("zero_gradients", before(rounded)),
    "compressed images": Broken("zero_gradients", before(compressed)),
    "softmax": Broken("probabilities", after(tf.nn.softmax)),
    "nearly softmax": Broken("probabilities", after(lambda z: tf.nn.softmax(z) + 0.003 * tf.tanh(z))),
    "dropout in inference": Broken("randomised", lambda classifier: careless(layers.Dropout(0.3))(classifier)),
    "random shift": Broken("randomised", before(shifted)),
    "random size": Broken("randomised", before(resized)),
    "temperature 0.01, saturated": Broken("zero_gradients", after(saturated)),
    "squeezed logits": Broken("zero_gradients", after(lambda z: tf.round(20 * tf.tanh(z / 20)))),
    "winners take all": Broken("masked", lambda _: winning()),
    "wrong label order": Broken("at_chance", after(lambda z: tf.roll(z, 1, axis=1))),
    "images in [0, 255]": Broken("InvalidInput", lambda classifier: classifier, images=lambda x: 255 * x),
    "constant": Broken("constant_classifier", after(lambda z: 0 * z + tf.range(10.0))),
    "NaN for some": Broken("not_finite", before(undefined)),
    "BatchNorm trains": Broken("weights_moved", lambda classifier: careless(layers.BatchNormalization())(classifier)),
}
"""What must be flagged, by which check."""

HONEST: dict[str, Honest] = {
    "natural": Honest(lambda: trained(network, methods.Natural(), epochs=8)),
    "natural, wide, seed 1": Honest(
        lambda: trained(partial(network, filters=24), methods.Natural(), epochs=20, seed=1)
    ),
    "natural, temperature 0.01": Honest(
        lambda: after(lambda z: 100 * z)(trained(network, methods.Natural(), epochs=12, seed=2))
    ),
    "natural, BatchNorm": Honest(lambda: trained(partial(network, norm=True), methods.Natural(), epochs=8)),
    "natural, linear": Honest(lambda: trained(linear, methods.Natural(), epochs=8)),
    "PGD": Honest(base),
    "TRADES, deeper, seed 2": Honest(
        lambda: trained(partial(network, hidden=64), methods.TRADES(ATTACK, beta=2.0), epochs=12, seed=2)
    ),
    "PGD, BatchNorm": Honest(lambda: trained(partial(network, norm=True), methods.PGD(ATTACK), epochs=12)),
    "PGD, linear": Honest(lambda: trained(linear, methods.PGD(ATTACK), epochs=8)),
    "PGD in l2": Honest(
        lambda: trained(
            partial(network, filters=16), methods.PGD(attacks.PGD(**L2, step_size=0.2, steps=5)), epochs=12
        ),
        **L2,
    ),
    "TRADES": Honest(lambda: trained(partial(network, filters=16), methods.TRADES(ATTACK, beta=3.0), epochs=12)),
    "TRADES, temperature 10": Honest(
        lambda: after(lambda z: z / 10)(
            trained(partial(network, filters=16), methods.TRADES(ATTACK), epochs=12, seed=1)
        )
    ),
    "PGD, bfloat16": Honest(
        lambda: trained(partial(network, filters=16, dtype="mixed_bfloat16"), methods.PGD(ATTACK), epochs=8)
    ),
}
"""What must not be flagged."""


def winning() -> keras.Model:
    """Return a classifier of which only the largest activations count, which makes its gradients jump."""
    return trained(partial(network, filters=32, activation=winners), methods.Natural(), epochs=12)
