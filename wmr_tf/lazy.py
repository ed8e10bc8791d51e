"""Public names that are imported when they are first used, so that nobody waits for TensorFlow who does not need it."""

import importlib
import sys
from collections.abc import Callable, Mapping
from typing import Any

from wmr_tf.extras import need


def lazily(
    package: str, homes: Mapping[str, str], *, extra: str | None = None
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return the `__getattr__` and `__dir__` of a package whose names come from modules that are imported on first use.

    Args:
        package: Its `__name__`.
        homes: For each name the module that it is in, or that it is.
        extra: Which of `wmr_tf.extras.EXTRAS` these modules need, if they need one.

    Example:
        >>> get, names = lazily("wmr_tf", {"InvalidInput": "wmr_tf.checks", "dro": "wmr_tf.evaluation.dro"})
        >>> get("InvalidInput"), get("dro").__name__, "dro" in names()
        (<class 'wmr_tf.checks.InvalidInput'>, 'wmr_tf.evaluation.dro', True)

    Source: PEP 562.
    """

    def get(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        if extra:
            need(extra, f"{package}.{name}")
        module = importlib.import_module(homes[name])
        value = module if homes[name].endswith(f".{name}") else getattr(module, name)
        setattr(sys.modules[package], name, value)  # Python finds it by itself from now on
        return value

    return get, lambda: sorted({*homes, *vars(sys.modules[package])})
