"""The versions of a suite: which attacks it makes, with which settings, and in which order."""

from collections.abc import Callable, Iterable
from typing import Any

from wmr_tf.attacks import APGD, FAB, NORMS, Square
from wmr_tf.checks import one_of, radius, require
from wmr_tf.evaluation.stages import CROSS_ENTROPY, RATIO, Ascent, Bisection, Nearest, Search, Stage

TARGETS = 9
"""How many classes a targeted attack tries at most."""

QUERIES_A_PART = 500
"""How many queries Square makes before images that it has broken are put aside."""


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

    def nearest(self) -> Stage:
        """Return a short FAB towards the three classes that come next, which measures radii."""
        return Nearest(name="nearest", attack=FAB(**self._ball, steps=30), runs=3, targeted=True)

    def bisection(self) -> Stage:
        """Return Auto-PGD by bisection over the radius, towards the three classes that come next."""
        return Bisection(name="bisection", attack=APGD(**self._ball, steps=30), runs=3, targeted=True)

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
    "nearest": Stages.nearest,
    "bisection": Stages.bisection,
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
