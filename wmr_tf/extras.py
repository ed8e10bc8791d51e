"""What `pip install "wmr-tf[data]"` and the like bring, and the one refusal where it is missing."""

import importlib.util

from wmr_tf.checks import require

EXTRAS = {
    "data": ("tensorflow_datasets", "importlib_resources"),
    "report": ("matplotlib", "jinja2"),
    "tuner": ("keras_tuner",),
}
"""The packages that only some need, as they are imported, by the extra of pyproject.toml that installs them."""


def is_installed(extra: str) -> bool:
    """Return whether all packages of an extra are there, without importing them."""
    return not _missing(extra)


def need(extra: str, what: str) -> None:
    """Raise `InvalidInput` unless all packages of an extra are there.

    Args:
        extra: One of `EXTRAS`.
        what: What needs it, as a message calls it.

    Raises:
        InvalidInput: If one is not there; the message has the command that installs them.
    """
    missing = _missing(extra)
    expected, fix = f"what the extra {extra} installs", f"Run {mend(extra)}."
    require(not missing, what, got=f"no {' and no '.join(missing)}", expected=expected, fix=fix)


def mend(extra: str) -> str:
    """Return the command that installs an extra.

    Args:
        extra: One of `EXTRAS`.

    Example:
        >>> mend("data")
        'pip install "wmr-tf[data]"'
    """
    return f'pip install "wmr-tf[{extra}]"'


def _missing(extra: str) -> list[str]:
    return [name for name in EXTRAS[extra] if importlib.util.find_spec(name) is None]
