"""Short attacks and other looks at a classifier as TensorFlow functions, each traced once for batches of any size."""

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from wmr_tf import losses
from wmr_tf.attacks import APGD, NORMS, Square
from wmr_tf.attacks.base import computed_once, evaluation_of, input_gradient
from wmr_tf.attacks.norms import is_zero
from wmr_tf.engine import seeds
from wmr_tf.engine.frozen import freeze_in

TEST_STEPS = 40
"""Of plain PGD, as the paper's test attack has them."""

QUERIES = 500
"""Of random search."""

Traced = Callable[..., Any]
"""A `tf.function` of images, labels, positions and runners-up, and of scalars, to what is known of each image."""


def _traced(shape: Any, settings: int = 0) -> Callable[[Callable[..., tf.Tensor]], Traced]:
    """Return the decorator of a function of images of this shape, and so many scalars, whose batch may be any size.

    The arguments' names become nodes of the graph, and TensorFlow warns of those that begin with an underscore.
    """
    whole = tf.TensorSpec([None], tf.int32)
    signature = [tf.TensorSpec([None, *shape]), whole, whole, whole, *[tf.TensorSpec([])] * settings]
    return tf.function(input_signature=signature, autograph=False)


def forward(classifier: keras.Model, shape: tuple[int, ...]) -> Traced:
    """Return the function of images to the logits that attacks see."""
    signature = [tf.TensorSpec([None, *shape])]
    return tf.function(
        lambda images: freeze_in("float32", classifier)(images), input_signature=signature, autograph=False
    )


def zero_gradients(classifier: keras.Model, shape: tuple[int, ...]) -> Traced:
    """Return the function to whether the gradient of the attack's cross-entropy is 0 in all values."""

    @_traced(shape)
    def has_no_gradient(images: tf.Tensor, labels: tf.Tensor, *unused: tf.Tensor) -> tf.Tensor:
        network = freeze_in("float32", classifier)

        def loss(x: tf.Tensor) -> tf.Tensor:
            return losses.unsaturated_cross_entropy(network(x), labels)

        return is_zero(input_gradient(loss, images))

    return has_no_gradient


def ascent(classifier: keras.Model, shape: tuple[int, ...], norm: str, seed: int, steps: int) -> Traced:
    """Return the function of radius, logit scale, whether to aim at the runner-up, and restart, to attacked logits."""
    attack = APGD(epsilon=0.0, norm=norm, steps=steps)  # the radius comes with each call

    @_traced(shape, settings=4)
    def attacked(
        images: tf.Tensor,
        labels: tf.Tensor,
        positions: tf.Tensor,
        targets: tf.Tensor,
        radius: tf.Tensor,
        scale: tf.Tensor,
        is_targeted: tf.Tensor,
        restart: tf.Tensor,
    ) -> tf.Tensor:
        network = freeze_in("float32", classifier)
        logits_of = computed_once(lambda x: scale * network(x))

        def loss(x: tf.Tensor) -> tf.Tensor:
            logits = logits_of(x)
            aimed = losses.targeted_difference_of_logits_ratio(logits, labels, targets)
            return tf.where(is_targeted > 0, aimed, losses.unsaturated_cross_entropy(logits, labels))

        points = attack(
            loss,
            images,
            seed=seeds.by_position(seed, positions, steps, is_targeted, restart),
            score_fn=lambda x: losses.verdict(logits_of(x), labels),
            epsilon=tf.fill(tf.shape(positions), radius),
        )
        return network(points)

    return attacked


def search(classifier: keras.Model, shape: tuple[int, ...], norm: str, seed: int, epsilon: float) -> Traced:
    """Return the function to the logits after random search."""
    attack = Square(epsilon=epsilon, norm=norm, queries=QUERIES)

    @_traced(shape)
    def attacked(images: tf.Tensor, labels: tf.Tensor, positions: tf.Tensor, unused: tf.Tensor) -> tf.Tensor:
        network = freeze_in("float32", classifier)
        own_seeds = seeds.by_position(seed, positions, QUERIES)
        return network(attack(lambda x: -losses.verdict(network(x), labels), images, seed=own_seeds))

    return attacked


def descent(classifier: keras.Model, shape: tuple[int, ...], norm: str, seed: int, epsilon: float) -> Traced:
    """Return the function of a step size to the logit margins along plain PGD, `[images, TEST_STEPS + 1]`."""

    @_traced(shape, settings=1)
    def margins(
        images: tf.Tensor, labels: tf.Tensor, positions: tf.Tensor, unused: tf.Tensor, step_size: tf.Tensor
    ) -> tf.Tensor:
        network = freeze_in("float32", classifier)
        ball = NORMS[norm](images, epsilon)
        logits_of = computed_once(network)

        def loss(x: tf.Tensor) -> tf.Tensor:
            return losses.unsaturated_cross_entropy(logits_of(x), labels)

        def step(k: tf.Tensor, x: tf.Tensor, found: tf.TensorArray) -> tuple[tf.Tensor, ...]:
            _, margin, gradient = evaluation_of(loss, lambda x: losses.logit_margin(logits_of(x), labels))(x)
            return k + 1, ball.project(x + step_size * ball.direction(x, gradient)), found.write(k, margin)

        start = ball.project(ball.uniform(seeds.by_position(seed, positions)))
        nothing_yet = tf.TensorArray(tf.float32, TEST_STEPS + 1)
        path = tf.while_loop(lambda k, *_: k <= TEST_STEPS, step, (0, start, nothing_yet))[2]
        return tf.transpose(path.stack())

    return margins
