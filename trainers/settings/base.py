"""What a command takes: dataclasses whose fields are its flags."""

import dataclasses
from collections.abc import Callable
from typing import Any, Self


def setting(description: str, default: Any = None, also: str | None = None) -> Any:
    """Return a dataclass field that is a flag.

    Args:
        description: What --help says.
        default: Its value; None means the recipe's, or none at all.
        also: Another name of the flag.
    """
    return dataclasses.field(default=default, metadata={"help": description, "also": also})


def arguments() -> Any:
    """Return a dataclass field, a tuple, that gets what stands on the command line beside the flags."""
    return dataclasses.field(default=(), metadata={"is_beside_flags": True})


def if_given(check: Callable[..., object], name: str, value: Any, *args: Any) -> None:
    """Make the check of a setting unless that is None."""
    if value is not None:
        check(name, value, *args)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """The settings of a command, checked when they are made; neither that nor `check_place` imports TensorFlow."""

    @classmethod
    def of(cls, **given: Any) -> Self:
        """Return the settings, given those that are not the defaults.

        Raises:
            InvalidInput: If one is out of range.
        """
        return cls(**given)

    def check_place(self) -> None:
        """Check the files, folders and the environment that the settings name, as far as TensorFlow is not needed.

        Raises:
            InvalidInput: If one is not there, or not what it should be.
        """

    def use_threads(self) -> None:
        """Set what TensorFlow uses of the processor; a command calls it once, before TensorFlow does anything."""
