"""What the reference has to show, read from the code: public names, commands, flags. It needs no Sphinx."""

import inspect
from types import ModuleType

from trainers.completion import command_of
from trainers.usage import Flag

MODULES = (
    "wmr_tf",
    "wmr_tf.methods",
    "wmr_tf.attacks",
    "wmr_tf.weights",
    "wmr_tf.losses",
    "wmr_tf.architectures",
    "wmr_tf.data",
    "wmr_tf.callbacks",
    "wmr_tf.evaluation",
    "wmr_tf.evaluation.dro",
    "wmr_tf.evaluation.statistics",
    "wmr_tf.evaluation.temperature",
    "wmr_tf.evaluation.wasserstein",
    "wmr_tf.report",
    "wmr_tf.zoo",
    "wmr_tf.saving",
    "wmr_tf.alarms",
    "wmr_tf.divergence",
    "tuning",
)
"""What has a place in the reference."""


def names_in(module: ModuleType) -> list[str]:
    """Return the public names of a module: its `__all__`, or the classes and functions that it defines."""
    if hasattr(module, "__all__"):
        return sorted(module.__all__, key=str.lower)
    return [
        name
        for name, value in vars(module).items()
        if not name.startswith("_")
        and (inspect.isclass(value) or inspect.isroutine(value))
        and value.__module__ == module.__name__
    ]


def flags_of(module: str) -> list[Flag]:
    """Return the flags of a command; a module without settings, such as `trainers.resume`, has none."""
    command = command_of(module)
    return [] if command is None else command.flags()
