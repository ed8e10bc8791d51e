"""The experiments behind the alarms: one classifier, some images, and short attacks of any radius and logit scale."""

import functools
import math
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from wmr_tf.engine.memory import images_at_once
from wmr_tf.evaluation import experiments
from wmr_tf.evaluation.experiments import Traced
from wmr_tf.inputs.classifier import check_shape, outputs_of

STEPS = 20
"""Of each of the two attacks in most experiments: Auto-PGD with the cross-entropy, and then towards the runner-up."""

LONG = 4
"""How many times as many steps the long attacks make."""

TEMPERATURES = (0.01, 0.1, 10.0)
"""What logits are divided by, besides 1."""

CALLS = 5
"""How often the classifier is called for the same images."""

DRAWS, NOISE = 10, 4 / 255
"""How many noisy copies of each image there are, and how far a value is moved at most: that of the published code."""

WHOLE_BOX: dict[str, Callable[[int], float]] = {"linf": lambda values: 1.0, "l2": math.sqrt, "l1": float}
"""By norm the radius of a ball that holds all images with so many values."""


class Probes:
    """What can be asked of a classifier on some images; each answer that several checks need is found once.

    Args:
        classifier: A Keras model.
        images: float32 in [0, 1], `[images, ...]`.
        labels: int32 `[images]`.
        epsilon: Radius of the ball.
        norm: Of the ball.
        batch_size: Images attacked together, at most; None for as many as fit a memory budget.
        seed: Of all random numbers.
    """

    def __init__(
        self,
        classifier: keras.Model,
        images: np.ndarray,
        labels: np.ndarray,
        *,
        epsilon: float,
        norm: str,
        batch_size: int | None,
        seed: int,
    ) -> None:
        self.images, self.labels, self.epsilon, self.norm = images, labels, epsilon, norm
        self._classifier, self._seed = classifier, seed
        self._what = classifier, images.shape[1:]
        self._not_finite = np.zeros(len(images), bool)
        self._ascent = functools.cache(functools.partial(experiments.ascent, *self._what, norm, seed))
        check_shape(outputs_of(classifier, images[:1]))  # which builds it, if need be
        self._batch_size = batch_size or images_at_once(classifier, images.shape[1:])
        self._weights = classifier.get_weights()

    # The classifier, not attacked

    @functools.cached_property
    def outputs(self) -> np.ndarray:
        """What its user gets who calls it several times, `[CALLS, images, classes]`.

        Without a word on `training`: what is said of it when the layers are connected counts then, and only then.
        """
        return np.stack([self._pass(self.images, self._classifier) for _ in range(CALLS)])

    @functools.cached_property
    def logits(self) -> np.ndarray:
        """The logits of the clean images as attacks see them, `[images, classes]`."""
        return self._pass(self.images, self._forward)

    @property
    def is_correct(self) -> np.ndarray:
        """Which clean images are classified correctly, `[images]`."""
        return self.logits.argmax(axis=1) == self.labels

    @functools.cached_property
    def noisy_logits(self) -> np.ndarray:
        """Those of images with a little noise, `[DRAWS, images, classes]`."""
        noise = np.random.default_rng(self._seed).uniform(-NOISE, NOISE, [DRAWS, *self.images.shape])
        return np.stack(
            [self._pass((self.images + each).clip(0, 1).astype(np.float32), self._forward) for each in noise]
        )

    @functools.cached_property
    def has_no_gradient(self) -> np.ndarray:
        """For which images the gradient of the attack's cross-entropy is 0 in all values, `[images]`."""
        return self._in_batches(experiments.zero_gradients(*self._what), np.arange(len(self.images)))

    def moved_weights(self) -> int:
        """Return how many of the weights are other ones than before all this."""
        now = self._classifier.get_weights()
        return sum(not np.array_equal(*pair, equal_nan=True) for pair in zip(self._weights, now, strict=True))

    def put_back(self) -> None:
        """Give the classifier the weights that it had."""
        self._classifier.set_weights(self._weights)

    def not_finite(self) -> np.ndarray:
        """Return for which images an output was NaN or infinite up to now, whatever was done to them, `[images]`."""
        return self._not_finite

    def visit_rim(self) -> None:
        """Call the classifier on the brightest and the darkest images of the ball, without a graph.

        In one, the ReLU of some processors' kernels turns NaN into 0, so that attacks may not see it.
        """
        change = self.epsilon / WHOLE_BOX[self.norm](self.values)
        for changed in (self.images + change, self.images - change):
            self._pass(changed.clip(0, 1).astype(np.float32), self._classifier)

    @property
    def values(self) -> int:
        """How many values an image has."""
        return math.prod(self.images.shape[1:])

    # The attacks

    def survivors(
        self, radius: float, *, among: np.ndarray | None = None, steps: int = STEPS, restart: int = 0
    ) -> np.ndarray:
        """Return which images are robust to Auto-PGD with the cross-entropy, then towards the runner-up, `[images]`.

        Args:
            radius: Of the ball.
            among: Which images to attack, `[images]`; those that are classified correctly if not given.
            steps: Of each of the two.
            restart: The number of its starts.
        """
        left = self.is_correct if among is None else among
        for is_targeted in (False, True):
            left = self._attacked(self._ascent(steps), left, *_floats(radius, 1, is_targeted, restart))
        return left

    @functools.cached_property
    def at_0(self) -> np.ndarray:
        """Which images are robust to the short attacks in a ball of radius 0, `[images]`."""
        return self.survivors(0.0)

    @functools.cached_property
    def after_short(self) -> np.ndarray:
        """Which images are robust to the short attacks in the ball, `[images]`."""
        return self.survivors(self.epsilon)

    @functools.cached_property
    def after_restart(self) -> np.ndarray:
        """Which of those are robust to the same from other starts."""
        return self.survivors(self.epsilon, among=self.after_short, restart=1)

    @functools.cached_property
    def after_long(self) -> np.ndarray:
        """Which of those are robust to four times as many steps."""
        return self.survivors(self.epsilon, among=self.after_restart, steps=LONG * STEPS)

    @functools.cached_property
    def after_scaled(self) -> np.ndarray:
        """Which of those are robust to the cross-entropy of logits divided by temperatures."""
        left = self.after_long
        for temperature in TEMPERATURES:
            left = self._attacked(self._ascent(STEPS), left, *_floats(self.epsilon, 1 / temperature, False, 0))
        return left

    @functools.cached_property
    def after_search(self) -> np.ndarray:
        """Which of those are robust to random search."""
        return self._attacked(experiments.search(*self._what, self.norm, self._seed, self.epsilon), self.after_scaled)

    def descend(self, step_size: float) -> np.ndarray:
        """Return the logit margins along plain PGD in the ball, from its start on, `[TEST_STEPS + 1, images]`."""
        everywhere = np.arange(len(self.images))
        return self._in_batches(self._descent, everywhere, *_floats(step_size)).T

    @functools.cached_property
    def test_path(self) -> np.ndarray:
        """The margins along the paper's attack: 40 steps of a thirtieth of the radius."""
        return self.descend(self.epsilon / 30)

    @functools.cached_property
    def firm_path(self) -> np.ndarray:
        """The margins along as many steps that could cross the ball twice."""
        return self.descend(self.epsilon / 10)

    # How it is done; each function is traced once

    @functools.cached_property
    def _forward(self) -> Traced:
        return experiments.forward(*self._what)

    @functools.cached_property
    def _descent(self) -> Traced:
        return experiments.descent(*self._what, self.norm, self._seed, self.epsilon)

    def _pass(self, images: np.ndarray, network: Callable[[tf.Tensor], tf.Tensor]) -> np.ndarray:
        parts = [np.asarray(network(tf.constant(part)), np.float32) for part in self._cut(images)]
        logits = np.concatenate(parts)
        self._look_at(np.arange(len(images)), logits)
        return logits

    def _attacked(self, attack: Traced, left: np.ndarray, *settings: tf.Tensor) -> np.ndarray:
        """Return which of the images that are left an attack leaves, `[images]`."""
        left, places = left.copy(), np.flatnonzero(left)
        if places.size:
            left[places] = self._look_at(places, self._in_batches(attack, places, *settings))
        return left

    def _in_batches(self, function: Traced, places: np.ndarray, *settings: tf.Tensor) -> np.ndarray:
        runners_up = np.argsort(-self.logits, axis=1, kind="stable")[:, 1].astype(np.int32)
        return np.concatenate(
            [
                function(self.images[at], self.labels[at], at.astype(np.int32), runners_up[at], *settings)
                for at in self._cut(places)
            ]
        )

    def _look_at(self, places: np.ndarray, logits: np.ndarray) -> np.ndarray:
        """Note which logits are not finite, and return which are correct."""
        self._not_finite[places] |= ~np.isfinite(logits).all(axis=1)
        return logits.argmax(axis=1) == self.labels[places]

    def _cut(self, array: np.ndarray) -> list[np.ndarray]:
        return [array[start:][: self._batch_size] for start in range(0, len(array), self._batch_size)]


def _floats(*settings: float) -> list[tf.Tensor]:
    return [tf.constant(setting, tf.float32) for setting in settings]
