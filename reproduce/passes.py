"""What a training costs: passes of an image through the network, forward and back to the image, by calculation.

So a cost means the same work on every machine; minutes are those of the reference machine, two cores with AVX512-BF16
(results/speed.md).
"""

import dataclasses
from collections.abc import Callable, Mapping

from trainers.settings.config import Experiment


@dataclasses.dataclass(frozen=True)
class Data:
    """What a cost depends on, of a data set.

    Attributes:
        train_examples: Images to train on, without those for validation.
        test_examples: Images to test on.
        rates: Passes a second on the reference machine, in bfloat16, by network; budgets of minutes take the first.
    """

    train_examples: int
    test_examples: int
    rates: Mapping[str, int]

    @property
    def first(self) -> tuple[str, int]:
        """The network that budgets of minutes take, and its rate."""
        return next(iter(self.rates.items()))


# From the figures of the reference machine: SmallCNN trains by TRADES-40, 44 passes, at 340 images a second at its
# best (378 ms a step of 128 in results/profile.md; 295 in the rounds of results/speed.md); the digits' network by
# PGD-10, 12 passes, at 7,600; ResNet-18 by the same at 30, and at a quarter of it at 64 x 64. The thin ResNet was not
# there: a PGD-10 step of it takes 2.5 times the processor time of one of SmallCNN, at both sizes, in turns, in
# float32 with AVX2 (2026-11-29).
DATA = {
    "digits": Data(1_078, 599, {"digits_cnn": 90_000}),
    "mnist": Data(55_000, 10_000, {"small_cnn": 15_000}),
    "cifar10": Data(45_000, 10_000, {"thin_resnet": 6_000, "resnet18": 370}),
    "tiny_imagenet": Data(90_000, 10_000, {"thin_resnet": 6_000, "resnet18": 92}),
}
"""What is known of each data set, as tensorflow-datasets and the official archive have it."""


# What it costs to train on an image once, in passes, given all settings and the round. As results/costs.md has measured
# it, a step of the attack is one pass and an update, whose way back goes to the weights too, is two; TRADES updates on
# clean and on attacked images. The repeated first layer of YOPO is not counted. IAAT attacks at three radii once its
# warm-up is over. To know where the weights are worse takes as much again as the update.
_PASSES: dict[str, Callable[[Experiment, int], float]] = {
    "natural": lambda run, epoch: _update(run),
    "pgd": lambda run, epoch: run.steps_at(epoch) + _update(run),
    "trades": lambda run, epoch: run.steps_at(epoch) + 2 * _update(run),
    "free": lambda run, epoch: 2 * (run.replays or 1),
    "yopo": lambda run, epoch: 2 * (run.passes or 1),
    "iaat": lambda run, epoch: (
        (1 if epoch < (run.radius_warmup or 0.0) * run.rounds else 3) * run.steps_at(epoch) + _update(run)
    ),
}


def _update(run: Experiment) -> int:
    return 4 if run.awp else 2


def passes_of(run: Experiment) -> int:
    """Return how many passes a training makes, by calculation.

    Args:
        run: All settings of the training.

    Example:
        >>> passes_of(Experiment.of("mnist", "trades"))  # 100 times 55,000 images, 40 steps and 4
        242000000
    """
    images = run.train_examples or DATA[run.dataset].train_examples
    warm = 2 * run.warm_start  # an epoch of free is a replay, and the warm start counts these
    return round(images * (warm + sum(_PASSES[run.method](run, epoch) for epoch in range(run.rounds))))


def minutes_of(run: Experiment) -> float:
    """Return how long a training takes on the reference machine, in minutes, by calculation.

    Args:
        run: All settings of the training.

    Example:
        >>> round(minutes_of(Experiment.of("cifar10", "trades")) / 60)  # the paper's recipe, in hours
        47
    """
    return passes_of(run) / DATA[run.dataset].rates[run.architecture] / 60
