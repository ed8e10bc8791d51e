"""What a terminal shows and a log does not: lines that are written over, and colours. Known without TensorFlow."""

import os
import shutil
import sys
import textwrap
from typing import TextIO

BOLD, RED, GREEN, YELLOW = "1", "31", "32", "33"


def is_terminal(stream: TextIO | None = None) -> bool:
    """Return whether a stream (standard output if not given) is a terminal that does more than print."""
    stream = stream or sys.stdout
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def writes_over() -> bool:
    """Return whether a line of standard output can be written over: on a terminal, or in a notebook."""
    return is_terminal() or "ipykernel" in sys.modules


def columns() -> int:
    """Return how many letters a line has."""
    return shutil.get_terminal_size().columns


def painted(text: str, colour: str, stream: TextIO | None = None) -> str:
    """Return a text in a colour, or as it is where there are none or NO_COLOR asks for none (see no-color.org)."""
    return f"\033[{colour}m{text}\033[0m" if is_terminal(stream) and not os.environ.get("NO_COLOR") else text


def say(word: str, colour: str, text: str) -> None:
    """Print "word: text" on standard error, the word in a colour; one line, which only a terminal breaks at words."""
    wipe()
    line = f"{word}: {text}"
    if is_terminal(sys.stderr):
        line = textwrap.fill(line, columns() - 1, break_long_words=False, break_on_hyphens=False)
    print(painted(f"{word}:", colour, sys.stderr) + line.removeprefix(f"{word}:"), file=sys.stderr, flush=True)


def show(text: str) -> None:
    """Print a text on standard output, which its reader may close early, as `head` does."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for Python's own flush at its end


def wipe() -> None:
    """Clear the line that is being written, where a bar may stand; it is drawn again at its next step."""
    if writes_over():
        print(f"\r{' ' * (columns() - 1)}\r", end="", flush=True)
