"""The attacks of a suite: what each of them does to a batch of images, and in which order the versions make them."""

import abc
import dataclasses
import zlib
from collections.abc import Callable, Hashable, Iterable
from typing import Any, NamedTuple

import tensorflow as tf

from wmr_tf import losses
from wmr_tf.attacks import APGD, FAB, NORMS, Attack, Square
from wmr_tf.attacks.base import PerExample, computed_once, where
from wmr_tf.checks import one_of, radius, require
from wmr_tf.engine import seeds
from wmr_tf.engine.frozen import Network
from wmr_tf.weights import number_of_classes

TARGETS = 9
"""How many classes a targeted attack tries at most."""

QUERIES_A_PART = 500
"""How many queries Square makes before images that it has broken are put aside."""

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
            return -losses.logit_margin(network(x), batch.labels)

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


class Stages:
    """The stages with the settings of the standard, for one ball; what a version changes is an argument.

    Args:
        epsilon: Radius of the ball.
        norm: Of the ball.
    """

    def __init__(self, epsilon: float, norm: str) -> None:
        self._ball: dict[str, Any] = {"epsilon": epsilon, "norm": norm}
        self._is_l1 = norm == "l1"

    def apgd_ce(self, **settings: Any) -> Stage:
        """Return Auto-PGD on the cross-entropy."""
        return self._ascent("apgd-ce", loss=CROSS_ENTROPY, **{"runs": 5 if self._is_l1 else 1, **settings})

    def apgd_dlr(self, **settings: Any) -> Stage:
        """Return Auto-PGD on the difference of logits ratio."""
        return self._ascent("apgd-dlr", loss=RATIO, **settings)

    def apgd_t(self, **settings: Any) -> Stage:
        """Return Auto-PGD on the targeted ratio, towards the classes that come next for the clean image."""
        runs = 5 if self._is_l1 else TARGETS
        return self._ascent("apgd-t", targeted=True, **{"runs": runs, **settings})

    def fab(self, **settings: Any) -> Stage:
        """Return FAB towards the nearest boundary."""
        return Nearest(name="fab", attack=FAB(**self._ball, **settings))

    def fab_t(self) -> Stage:
        """Return FAB towards the classes that come next for the clean image."""
        return Nearest(name="fab-t", attack=FAB(**self._ball), runs=TARGETS, targeted=True)

    def square(self) -> Stage:
        """Return Square in parts."""
        attack = Square(**self._ball)
        return Search(name="square", attack=attack, runs=attack.queries // QUERIES_A_PART)

    def _ascent(
        self, name: str, *, loss: int = CROSS_ENTROPY, runs: int = 1, targeted: bool = False, **settings: Any
    ) -> Stage:
        attack = APGD(**{**self._ball, "staged": self._is_l1, **settings})
        return Ascent(name=name, attack=attack, loss=loss, runs=runs, targeted=targeted)


VERSIONS: dict[str, Callable[[Stages], list[Stage]]] = {
    "standard": lambda of: [of.apgd_ce(), of.apgd_t(), of.fab_t(), of.square()],
    "plus": lambda of: [
        of.apgd_ce(runs=5, staged=False),
        of.apgd_dlr(runs=5, staged=False),
        of.fab(restarts=5),
        of.square(),
        of.apgd_t(runs=TARGETS, staged=False),
        of.fab_t(),
    ],
    "rand": lambda of: [
        of.apgd_ce(runs=1, staged=False, gradients=20),
        of.apgd_dlr(runs=1, staged=False, gradients=20),
    ],
    "quick": lambda of: [of.apgd_ce(), of.apgd_t()],
    "strong": lambda of: [of.apgd_ce(runs=1, steps=40), of.apgd_t(runs=3, steps=40)],
    "short": lambda of: [of.apgd_ce(runs=1, steps=20), of.apgd_t(runs=1, steps=20)],
}
"""The versions by name: three of the public code, "quick", which is the first half of the standard, "strong", which
stands beside every evaluation, and "short", which stands beside every epoch and takes as many gradients as PGD-40."""

PUBLISHED = ("standard", "plus", "rand")
"""The versions that are the public code's; a figure of another one is not an AutoAttack accuracy."""

SINGLE: dict[str, Callable[[Stages], Stage]] = {
    "apgd-ce": Stages.apgd_ce,
    "apgd-dlr": Stages.apgd_dlr,
    "apgd-t": Stages.apgd_t,
    "fab": Stages.fab,
    "fab-t": Stages.fab_t,
    "square": Stages.square,
}
"""The stages by name, for a suite of one's own."""


def stages_of(version: str | Iterable[str], *, epsilon: float, norm: str) -> list[Stage]:
    """Return the stages of a version, or those of a list of names.

    Args:
        version: A name in `VERSIONS`, or names in `SINGLE` in the order in which they attack.
        epsilon: Radius of the ball.
        norm: "linf", "l2" or "l1".

    Raises:
        InvalidInput: If there is no such version, stage or norm, no stage at all or one twice, or the radius is out of
            range.

    Example:
        >>> [stage.name for stage in stages_of("standard", epsilon=0.3, norm="linf")]
        ['apgd-ce', 'apgd-t', 'fab-t', 'square']
    """
    of = Stages(radius("epsilon", epsilon, one_of("norm", norm, NORMS)), norm)
    if isinstance(version, str):
        return VERSIONS[one_of("version", version, VERSIONS)](of)
    names = [one_of("version", name, SINGLE) for name in version]
    require(
        1 <= len(names) == len(set(names)),
        "version",
        got=", ".join(names) or "no attack",
        expected="names of attacks, at least one and none twice",
        fix="Pass for instance ('apgd-ce', 'square').",
    )
    return [SINGLE[name](of) for name in names]
