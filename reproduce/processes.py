"""One command at a time in a process of its own, which hears the signals that this one gets."""

import contextlib
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType


class Stopped(Exception):
    """A signal came, and the process has ended.

    Args:
        come: The signal.
    """

    def __init__(self, come: signal.Signals) -> None:
        super().__init__(come.name)
        self.come = come


class Failed(Exception):
    """A process ended with another status than 0; the message has the last line that it printed."""


def run(command: Sequence[str], log: Path) -> None:
    """Run `python -m ...` to its end; what it prints is added to a file.

    SIGINT and SIGTERM go on to the process, which has a group of its own so that Ctrl-C reaches it once; a training
    writes a checkpoint then.

    Args:
        command: Module and flags, as after `python -m`.
        log: The file, in an existing folder.

    Raises:
        Failed: If it fails.
        Stopped: If it was stopped by a signal.
    """
    come: list[signal.Signals] = []
    with open(log, "ab") as printed:
        place = printed.tell()
        with _heard(come) as process_of:
            process = subprocess.Popen(
                [sys.executable, "-m", *command],
                stdin=subprocess.DEVNULL,
                stdout=printed,
                stderr=subprocess.STDOUT,
                process_group=0,
            )
            process_of.append(process)
            status = process.wait()
    if come:  # even if the process had just come to its end: nobody wants the next one
        raise Stopped(come[-1])
    if status:
        raise Failed(f"status {status}: {_last_line(log, place)}")


@contextlib.contextmanager
def _heard(come: list[signal.Signals]) -> Iterator[list[subprocess.Popen]]:
    """Note signals and pass them on to the processes in the list that is yielded."""
    processes: list[subprocess.Popen] = []

    def pass_on(number: int, frame: FrameType | None) -> None:
        come.append(signal.Signals(number))
        for process in processes:
            process.send_signal(number)

    with contextlib.ExitStack() as undo:
        for each in (signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(each) is not signal.SIG_IGN:  # as a shell has it for what runs in the background
                undo.callback(signal.signal, each, signal.signal(each, pass_on))
        yield processes


def _last_line(log: Path, place: int) -> str:
    with open(log, "rb") as file:
        file.seek(place)
        lines = [line for line in file.read().decode(errors="replace").splitlines() if line.strip()]
    return lines[-1].removeprefix("error: ") if lines else "it printed nothing"
