"""Signals while something runs that can be kept and gone on with."""

import contextlib
import shlex
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType, TracebackType
from typing import Any, NoReturn, Self

from wmr_tf.saving import note


class Interrupts:
    """Tell a block that SIGTERM, SIGINT or SIGUSR1 has come, and put the handlers before back when it ends.

    A second SIGINT raises `KeyboardInterrupt` at once, wherever the block is. Signals reach the main thread alone; in
    another one this does nothing.

    Args:
        at_once: Called when a signal comes, between any two lines of the block.

    Example:
        >>> with Interrupts(lambda: None) as interrupts:
        ...     signal.raise_signal(signal.SIGUSR1)
        ...     interrupts.take().name
        'SIGUSR1'
    """

    def __init__(self, at_once: Callable[[], object]) -> None:
        self._at_once = at_once
        self._come: signal.Signals | None = None
        self._has_sigint = False
        self._before: dict[signal.Signals, Any] = {}

    def take(self) -> signal.Signals | None:
        """Return the signal that has come, once; None if there is none."""
        come, self._come = self._come, None
        return come

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for each in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
                self._before[each] = signal.signal(each, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for each, handler in self._before.items():
            signal.signal(each, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        come = signal.Signals(number)
        if come is signal.SIGINT and self._has_sigint:
            raise KeyboardInterrupt
        self._has_sigint |= come is signal.SIGINT
        # One to go on does not take the place of one to stop.
        self._come = self._come if come is signal.SIGUSR1 and self._come else come
        self._at_once()


@contextlib.contextmanager
def stoppable(kept: str, command: str) -> Iterator[None]:
    """End a block that keeps what it does by itself, wherever it is, when SIGTERM or SIGINT comes; see `leave`.

    If a file cannot be written, the error says the same.
    """

    def at_once() -> None:
        come = interrupts.take()
        if come in (signal.SIGTERM, signal.SIGINT):
            leave(come, kept, command)

    interrupts = Interrupts(at_once)
    with interrupts:
        try:
            yield
        except OSError as error:
            note(error, kept, command)
            raise


def leave(come: signal.Signals, kept: str, command: str) -> NoReturn:
    """Print what is kept and how to go on, in one line, and end.

    Args:
        come: The signal that asks for it.
        kept: What is kept, a sentence's beginning.
        command: What goes on with it.

    Raises:
        KeyboardInterrupt: After SIGINT.
        SystemExit: After SIGTERM, with status 143.
    """
    print(f"\nstopped by {come.name}: {kept}. To go on: {command}", file=sys.stderr, flush=True)
    if come is signal.SIGINT:
        raise KeyboardInterrupt
    sys.exit(128 + come)


def own_command() -> str:
    """Return the command line of this process."""
    return shlex.join(["python", *sys.orig_argv[1:]])
