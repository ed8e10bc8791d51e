"""Signals while something runs that can be kept and gone on with."""

import contextlib
import os
import shlex
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType, TracebackType
from typing import Any, NoReturn, Self

from wmr_tf.engine.terminal import wipe
from wmr_tf.saving import noted

_PACKAGE = f"{__name__.partition('.')[0]}."

APART = 0.3
"""Seconds between two SIGINT; of less they are one, which forked processes have heard too."""


class Interrupts:
    """Tell a block that SIGTERM, SIGINT or SIGUSR1 has come, and put the handlers before back when it ends.

    Python calls a handler once the main thread is back from TensorFlow. A thread hears SIGINT before that: at the first
    it prints a line, at the second it ends the process at once, with status 130, as a kill would. Signals reach the
    main thread alone; in another one this does nothing. In an interactive session the second does nothing either, and
    signals that are ignored, such as SIGINT of a job in the background, stay so.

    Args:
        at_once: Called when a signal has come, before the next line of this package, or at the end of the block; what
            it raises comes up there. Raised by a handler, wherever the block is, an exception could be lost: Python
            drops it in a destructor, and TensorFlow's C++ makes another one of it.

    Example:
        >>> with Interrupts(lambda: None) as interrupts:
        ...     signal.raise_signal(signal.SIGUSR1)
        ...     interrupts.take().name
        'SIGUSR1'
    """

    def __init__(self, at_once: Callable[[], object]) -> None:
        self._at_once = at_once
        self._come: signal.Signals | None = None
        self._is_waiting = False  # for the next line
        self._tracer: Any = None
        self._undo = contextlib.ExitStack()

    def take(self) -> signal.Signals | None:
        """Return the signal that has come, once; None if there is none."""
        come, self._come = self._come, None
        return come

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            heard, told = os.pipe()
            os.set_blocking(told, False)
            if not _is_interactive():  # a notebook is more than what it runs
                threading.Thread(target=_hear, args=(heard,), daemon=True).start()
            self._undo.callback(os.close, told)  # which ends the thread
            self._undo.callback(signal.set_wakeup_fd, signal.set_wakeup_fd(told, warn_on_full_buffer=False))
            self._tracer = sys.gettrace()  # that of a debugger
            self._undo.callback(sys.settrace, self._tracer)
            for each in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
                # None is a handler of a program around Python, which could not be put back.
                if signal.getsignal(each) not in (None, signal.SIG_IGN):
                    self._undo.callback(signal.signal, each, signal.signal(each, self._note))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._undo.close()
        if self._is_waiting:
            self._at_once()
        if error is None and self._come in (signal.SIGTERM, signal.SIGINT):
            signal.raise_signal(self._come)  # too late for this block, not for what is around it

    def _note(self, number: int, frame: FrameType | None) -> None:
        come = signal.Signals(number)
        # One to go on does not take the place of one to stop.
        self._come = self._come if come is signal.SIGUSR1 and self._come else come
        self._is_waiting = True
        sys.settrace(self._step)
        while frame is not None:
            frame.f_trace = self._step
            frame = frame.f_back

    def _step(self, frame: FrameType, event: str, argument: Any) -> None:
        """Do what is to be done at once if it is a line of this package that Python is about to run."""
        module = frame.f_globals.get("__name__", "")
        if self._is_waiting and module.startswith(_PACKAGE) and module != __name__:
            self._is_waiting = False
            sys.settrace(self._tracer)
            self._at_once()


def _is_interactive() -> bool:
    return hasattr(sys, "ps1") or "ipykernel" in sys.modules


def _hear(heard: int) -> None:
    first = None
    with open(heard, "rb", buffering=0) as pipe:
        for number in iter(lambda: pipe.read(1), b""):
            if number[0] != signal.SIGINT:
                continue
            if first is None:
                first = time.monotonic()
                told = "SIGINT: stopping when the running batch has ended; again: at once"
                wipe()
                print(told, file=sys.stderr, flush=True)
            elif time.monotonic() - first > APART:
                os._exit(130)


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
    with interrupts, noted(kept, command):
        yield


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
    wipe()
    print(f"stopped by {come.name}: {kept}. To go on: {command}", file=sys.stderr, flush=True)
    if come is signal.SIGINT:
        raise KeyboardInterrupt
    sys.exit(128 + come)


def own_command() -> str:
    """Return the command line of this process."""
    return shlex.join(["python", *sys.orig_argv[1:]])
