"""What a command takes: dataclasses whose fields are its flags."""

import dataclasses
import inspect
from collections.abc import Callable, Iterable
from typing import Any, ClassVar, Self

SECTIONS = ("common", "data", "method and training", "attack", "evaluation", "run", "rare")
"""The parts of --help, in order."""

COMMON, DATA, TRAINING, ATTACK, EVALUATION, RUN, RARE = SECTIONS


def setting(
    description: str,
    default: Any = None,
    *,
    also: str | None = None,
    choices: Iterable[str] = (),
    section: str | None = None,
    unset: str = "none",
) -> Any:
    """Return a dataclass field that is a flag.

    Args:
        description: What --help says, besides choices and default.
        default: Its value; None means the recipe's, or none at all.
        also: Another name of the flag.
        choices: The values there are, or those that have a name; --help and the shell's completion list them.
        section: Which of `SECTIONS` it belongs to; that of its class if not given.
        unset: What --help says of a default that is None and not the recipe's.
    """
    metadata = {"help": description, "also": also, "choices": tuple(choices), "section": section, "unset": unset}
    return dataclasses.field(default=default, metadata=metadata)


def arguments(*choices: str) -> Any:
    """Return a dataclass field, a tuple, that gets what stands on the command line beside the flags.

    Args:
        *choices: What the shell's completion offers; files and folders if not given.
    """
    return dataclasses.field(default=(), metadata={"beside_flags": choices})


def if_given(check: Callable[..., object], name: str, value: Any, *args: Any) -> None:
    """Make the check of a setting unless that is None."""
    if value is not None:
        check(name, value, *args)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """The settings of a command, checked when they are made; neither that nor `check_place` imports TensorFlow."""

    SECTION: ClassVar[str] = COMMON
    """Which of `SECTIONS` the settings of the class belong to, but those that name one."""

    @classmethod
    def section_of(cls, name: str) -> str:
        """Return which of `SECTIONS` a setting belongs to."""
        (field,) = (field for field in dataclasses.fields(cls) if field.name == name)
        definers = (each for each in cls.__mro__ if name in inspect.get_annotations(each))
        return field.metadata["section"] or next(each.SECTION for each in definers if issubclass(each, Settings))

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
