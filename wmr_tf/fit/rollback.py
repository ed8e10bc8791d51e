"""Going back, with half the learning rate, from where a training diverged."""

import contextlib
from collections.abc import Iterator
from typing import Any

import keras

from wmr_tf.checks import require
from wmr_tf.engine import distribution
from wmr_tf.fit.optimizers import learning_rate_of

ROLLBACKS = 3
"""How often a training goes back, at most."""


def check_can_roll_back(model: Any) -> None:
    """Check that a training can go back.

    Args:
        model: The compiled `AdversarialModel`.

    Raises:
        InvalidInput: If there are several workers, which would have to do it together, or the learning rate is not a
            number that can be set.
    """
    count = distribution.workers(model.distribute_strategy)
    fix = "Leave it out, and start the workers again with a lower learning rate if they diverge."
    require(count == 1, "on_divergence='rollback'", got=f"{count} workers", expected="one", fix=fix)
    require(
        isinstance(model.optimizer.learning_rate, keras.Variable),
        "on_divergence='rollback'",
        got="an optimizer with a schedule of its own",
        expected="one with a learning rate that can be halved",
        fix="Pass a number to it, and the schedule as a keras.callbacks.LearningRateScheduler.",
    )


def halve_learning_rate(model: Any, times: int = 1) -> float:
    """Halve the learning rate of a model's optimizer, so many times, and return the new one."""
    model.optimizer.learning_rate = model.optimizer.learning_rate / 2**times
    return learning_rate_of(model)


@contextlib.contextmanager
def without_rollbacks(model: Any, count: int) -> Iterator[None]:
    """Let callbacks see and set the learning rate that there would be without rollbacks; halve it again afterwards.

    Args:
        model: The compiled model.
        count: How many rollbacks there were.
    """
    optimizer, factor = model.optimizer, 2**count
    if count:
        optimizer.learning_rate = optimizer.learning_rate * factor
    yield
    if count:
        optimizer.learning_rate = optimizer.learning_rate / factor
