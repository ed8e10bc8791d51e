"""The attacks of a suite: what each of them does to a batch of images."""

import abc
import dataclasses
import zlib
from collections.abc import Callable, Hashable
from typing import NamedTuple

import tensorflow as tf

from wmr_tf import losses
from wmr_tf.attacks import APGD, FAB, Attack, Square
from wmr_tf.attacks.base import PerExample, computed_once, where
from wmr_tf.attacks.norms import values_of
from wmr_tf.attacks.planes import LENGTHS
from wmr_tf.engine import seeds
from wmr_tf.engine.frozen import Network
from wmr_tf.weights import number_of_classes

LogitLoss = Callable[[tf.Tensor, tf.Tensor, tf.Tensor], tf.Tensor]
"""Maps logits, labels and targets to the loss `[batch]` that an attack maximises."""


class Batch(NamedTuple):
    """What a stage gets: images that are still classified correctly, and what is known of each.

    Attributes:
        images: Clean, `[batch, ...]`.
        labels: int32 `[batch]`.
        positions: Where they stand in the evaluated set, int32 `[batch]`.
        targets: The class that a targeted stage pushes each image to, int32 `[batch]`; else what `Stage.target` is.
        carried: Where Square's search has got to, `[batch, ...]`.
        margins: Of these points, `[batch]`.
    """

    images: tf.Tensor
    labels: tf.Tensor
    positions: tf.Tensor
    targets: tf.Tensor
    carried: tf.Tensor
    margins: tf.Tensor


class Found(NamedTuple):
    """What a stage returns.

    Attributes:
        points: Attacked images in ball and box, `[batch, ...]`.
        radii: Distance to the nearest misclassified point found, infinity where there is none or nobody looked.
        carried: As in `Batch`.
        margins: As in `Batch`.
    """

    points: tf.Tensor
    radii: tf.Tensor
    carried: tf.Tensor
    margins: tf.Tensor


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stage(abc.ABC):
    """An attack of a suite, made in runs: restarts, targets or parts, each on the images that are still robust.

    Args:
        name: Such as "apgd-ce".
        attack: The attack, with its settings.
        runs: How many.
        targeted: Whether a run is a target, of which there are one fewer than classes.
    """

    name: str
    attack: Attack
    runs: int = 1
    targeted: bool = False

    allows_bfloat16 = False
    """Whether it may be made in bfloat16, since only its points count, on which the classifier is tried in float32."""

    @property
    def trace(self) -> Hashable:
        """Stages with equal ones are one function of a batch and share its trace."""
        return self.name

    @property
    def target(self) -> int:
        """What stands in place of a target where there is none."""
        return 0

    @property
    @abc.abstractmethod
    def passes(self) -> int:
        """Forward and backward passes of a run, for an image."""

    @abc.abstractmethod
    def __call__(self, network: Network, batch: Batch, run: tf.Tensor, seed: tf.Tensor) -> Found:
        """Return what a run finds.

        Args:
            network: Maps images to logits.
            batch: The images.
            run: Which run, from 0, a scalar int32.
            seed: Of each image, int32 `[batch, 2]`.
        """

    def runs_for(self, classes: int) -> int:
        """Return how many runs there are for a classifier of so many classes."""
        return min(self.runs, classes - 1) if self.targeted else self.runs

    def seed(self, seed: int, positions: tf.Tensor, run: tf.Tensor) -> tf.Tensor:
        """Return the seed of each image in a run: by stage, run and position, and by nothing else."""
        return seeds.by_position(seed, positions, zlib.crc32(self.name.encode()) >> 1, run)


def _attacker(network: Network, batch: Batch, loss: LogitLoss) -> tuple[PerExample, PerExample]:
    """Return loss and score, which is negative iff an image is misclassified, as functions of images; one pass."""
    logits_of = computed_once(network)
    return (
        lambda x: loss(logits_of(x), batch.labels, batch.targets),
        lambda x: losses.verdict(logits_of(x), batch.labels),
    )


CROSS_ENTROPY, RATIO = -1, -2
"""In place of a target: the loss of an ascent without one."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ascent(Stage):
    """Auto-PGD with one of its losses; a run is a restart or a target.

    Args:
        loss: `CROSS_ENTROPY` or `RATIO`, if it is not targeted.
    """

    attack: APGD
    loss: int = CROSS_ENTROPY

    allows_bfloat16 = True

    @property
    def trace(self) -> Hashable:
        """Whatever the loss is: making a graph takes longer than computing three losses of logits."""
        return self.attack

    @property
    def target(self) -> int:
        """The loss."""
        return self.loss

    @property
    def passes(self) -> int:
        """Forward and backward passes of a run, for an image."""
        return 2 * self.attack.gradients * (self.attack.steps + 1) + 1

    def __call__(self, network: Network, batch: Batch, run: tf.Tensor, seed: tf.Tensor) -> Found:
        """Return the points of smallest margin; see `Stage.__call__`."""
        loss_fn, score_fn = _attacker(network, batch, _ascended)
        points = self.attack(loss_fn, batch.images, seed=seed, score_fn=score_fn)
        return Found(points, tf.fill(tf.shape(batch.margins), float("inf")), batch.carried, batch.margins)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Nearest(Stage):
    """FAB towards a target in each run, or in one run towards the nearest boundary."""

    attack: FAB

    @property
    def passes(self) -> int:
        """Forward and backward passes of a run, for an image."""
        return self.attack.restarts * 3 * self.attack.steps + 1

    def __call__(self, network: Network, batch: Batch, run: tf.Tensor, seed: tf.Tensor) -> Found:
        """Return the nearest misclassified points where they are in the ball; see `Stage.__call__`."""
        loss_fn, score_fn = _attacker(network, batch, _target_ahead if self.targeted else _others_ahead)
        points, radii = self.attack.nearest(loss_fn, batch.images, seed=seed, score_fn=score_fn)
        is_outside = radii > self.attack.epsilon  # NaN is not, so that it is seen
        return Found(where(is_outside, batch.images, points), radii, batch.carried, batch.margins)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Search(Stage):
    """Square; a run is a part of its queries and goes on where the one before has got to."""

    attack: Square

    @property
    def passes(self) -> int:
        """Forward passes of a run, for an image."""
        return self.attack.queries // self.runs + 1

    def __call__(self, network: Network, batch: Batch, run: tf.Tensor, seed: tf.Tensor) -> Found:
        """Return the points of smallest margin; see `Stage.__call__`. The seed is that of all runs."""

        def loss_fn(x: tf.Tensor) -> tf.Tensor:
            return -losses.verdict(network(x), batch.labels)

        points, margins = tf.cond(
            run == 0,
            lambda: self.attack.start(loss_fn, batch.images, seed=seed),
            lambda: (batch.carried, batch.margins),
        )
        part = self.attack.queries // self.runs
        points, margins = self.attack.search(
            loss_fn, batch.images, points, margins, seed=seed, first=run * part, last=(run + 1) * part
        )
        return Found(points, tf.fill(tf.shape(margins), float("inf")), points, margins)

    def seed(self, seed: int, positions: tf.Tensor, run: tf.Tensor) -> tf.Tensor:
        """Return the seed of each image, the same in all runs."""
        return super().seed(seed, positions, tf.zeros_like(run))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Bisection(Stage):
    """Auto-PGD on the targeted ratio, by bisection over the radius of each image; a run is a target.

    A radius in which a misclassified point is found brings the upper end to that point, any other one the lower end to
    the radius. The bracket starts at the corner of the box that is farthest from the image.

    Args:
        rounds: How often the bracket is cut, each time to at most half of its length.
    """

    attack: APGD
    rounds: int = 14

    @property
    def passes(self) -> int:
        """Forward and backward passes of a run, for an image."""
        return self.rounds * (2 * (self.attack.steps + 1) + 1)

    def __call__(self, network: Network, batch: Batch, run: tf.Tensor, seed: tf.Tensor) -> Found:
        """Return the nearest misclassified points where they are in the ball; see `Stage.__call__`."""
        loss_fn, score_fn = _attacker(network, batch, _ascended)
        clean = batch.images

        def distances(points: tf.Tensor) -> tf.Tensor:
            return LENGTHS[self.attack.norm](tf.reshape(points - clean, [-1, values_of(clean)]))

        def cut(k: tf.Tensor, low: tf.Tensor, high: tf.Tensor, best: tf.Tensor) -> tuple[tf.Tensor, ...]:
            middle = (low + high) / 2
            points = self.attack(loss_fn, clean, seed=seeds.nth(seed, k), score_fn=score_fn, epsilon=middle)
            is_broken = score_fn(points) < 0
            nearer = tf.minimum(distances(points), middle)
            low, high = tf.where(is_broken, low, middle), tf.where(is_broken, nearer, high)
            return k + 1, tf.minimum(low, high), high, where(is_broken, points, best)

        corner = tf.where(clean < 0.5, 1.0, 0.0)
        nothing = tf.zeros_like(batch.margins)
        ends = nothing, distances(corner), clean
        _, _, radii, points = tf.while_loop(lambda k, *_: k < self.rounds, cut, (0, *ends))
        is_found = tf.reduce_any(tf.reshape(points != clean, [-1, values_of(clean)]), axis=1)
        radii = tf.where(is_found, radii, float("inf"))
        is_outside = radii > self.attack.epsilon
        return Found(where(is_outside, clean, points), radii, batch.carried, batch.margins)


def _target_ahead(logits: tf.Tensor, labels: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
    return tf.gather(logits, targets, batch_dims=1) - tf.gather(logits, labels, batch_dims=1)


def _others_ahead(logits: tf.Tensor, labels: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
    """Return by how much each other class is ahead of the label, `[batch, classes - 1]`."""
    others = tf.range(number_of_classes(logits) - 1)[tf.newaxis]
    others += tf.cast(others >= labels[:, tf.newaxis], tf.int32)
    return tf.gather(logits, others, batch_dims=1) - tf.gather(logits, labels[:, tf.newaxis], batch_dims=1)


def _ascended(logits: tf.Tensor, labels: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
    """Return the targeted ratio of images with a target, and the loss that stands in its place of the others."""
    targeted = losses.targeted_difference_of_logits_ratio(logits, labels, tf.maximum(targets, 0))
    others = tf.where(
        targets == RATIO,
        losses.difference_of_logits_ratio(logits, labels),
        losses.cross_entropy(logits, labels),
    )
    return tf.where(targets >= 0, targeted, others)
