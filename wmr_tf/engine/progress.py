"""How far long work is: a bar on a terminal, a line now and then in a log."""

import time

from wmr_tf.engine.terminal import columns, wipe, writes_over

SECONDS = 60.0
"""How long a log stays silent at most, while there are steps."""

REDRAWN = 0.1
"""How many seconds a bar stays as it is, at least."""

_CELLS = 20  # of a bar


class Lines:
    """Print a line at most every minute, with the time that is left.

    Args:
        steps: How many there are; None if that is not known.
        unit: What one of them is called.
        before: How many of them are done.
    """

    def __init__(self, steps: int | None, *, unit: str, before: int = 0) -> None:
        self._steps, self._unit = steps, unit
        self._done, self._before, self._start = before, before, time.monotonic()
        self._told = self._start

    def expect(self, left: int) -> None:
        """Say how many steps are left, where it has turned out to be another number."""
        self._steps = self._done + left

    def add(self, steps: int, told: str = "") -> None:
        """Count steps that are done, and print a line if it is time for one; `told` is added to it."""
        self._done += steps
        now = time.monotonic()
        if now - self._told < SECONDS or self._done == self._steps:
            return
        self._told = now
        parts = [f"{self._unit} {self._counted()}", f"{self._each(now):.3g} s each", self._left(now)]
        print(", ".join(filter(None, parts)) + told, flush=True)

    def _counted(self) -> str:
        return f"{self._done}" if self._steps is None else f"{self._done}/{self._steps}"

    def _each(self, now: float) -> float:
        """Return how many seconds a step takes."""
        return (now - self._start) / (self._done - self._before)

    def _left(self, now: float) -> str:
        """Return how long the other steps will take, nothing if that is not known."""
        return "" if self._steps is None else f"{shown_time(self._each(now) * (self._steps - self._done))} left"


class Bar(Lines):
    """Draw a bar on the line that is being written, with the time that is left; at the end it is gone.

    Args:
        steps: How many there are; None if that is not known, which takes the bar away and leaves the count.
        unit: What one of them is called.
        before: How many of them are done.
    """

    def expect(self, left: int) -> None:
        """Say how many steps are left, where it has turned out to be another number."""
        super().expect(left)
        if left == 0:
            wipe()

    def add(self, steps: int, told: str = "") -> None:
        """Count steps that are done, and draw the bar anew if it is time; `told` stands behind it."""
        self._done += steps
        now = time.monotonic()
        if self._done == self._steps:
            wipe()
        elif now - self._told >= REDRAWN:
            self._told = now
            width = columns() - 1
            print(f"\r{self._drawn(now, told)[:width]:{width}}", end="", flush=True)

    def _drawn(self, now: float, told: str) -> str:
        if self._steps is None:
            return f"{self._unit} {self._counted()}{told}"
        full = _CELLS * min(self._done, self._steps) // self._steps
        bar = "━" * full + "─" * (_CELLS - full)
        return f"{self._unit} {self._counted()} {bar} {self._left(now)}{told}"


class Progress:
    """Tell how far work of a known number of steps is.

    Args:
        steps: How many there are; None if that is not known.
        unit: What one of them is called.
        verbose: 0 shows nothing, 1 a bar where a line can be written over and else what 2 does, 2 a line at most every
            minute, for a log file.
        before: How many of them are done.
    """

    def __init__(self, steps: int | None, *, unit: str, verbose: int, before: int = 0) -> None:
        kind = Bar if verbose == 1 and writes_over() else Lines
        self._shown = kind(steps, unit=unit, before=before) if verbose else None

    def add(self, steps: int, told: str = "") -> None:
        """Count steps that are done; `told` is added to what is shown."""
        if self._shown is not None:
            self._shown.add(steps, told)

    def expect(self, left: int) -> None:
        """Say how many steps are left, where it has turned out to be another number."""
        if self._shown is not None:
            self._shown.expect(left)


def shown_time(seconds: float) -> str:
    """Return a length of time as people write it.

    Example:
        >>> shown_time(42.4), shown_time(600), shown_time(8100)
        ('42 s', '10 min', '2 h 15 min')
    """
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
