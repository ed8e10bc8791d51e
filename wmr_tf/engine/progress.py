"""How far long work is: a bar on a terminal, a line now and then in a log."""

import time

import keras

SECONDS = 60.0
"""How long a log stays silent at most, while there are steps."""


class Progress:
    """Tell how far work of a known number of steps is.

    Args:
        steps: How many there are.
        unit: What one of them is called.
        verbose: 0 shows nothing, 1 a progress bar, 2 a line at most every minute, for a log file.
    """

    def __init__(self, steps: int, *, unit: str, verbose: int) -> None:
        self._done = 0
        self._bar = keras.utils.Progbar(steps, verbose=1, unit_name=unit) if verbose == 1 else None
        self._lines = Lines(steps, unit=unit) if verbose == 2 else None

    def add(self, steps: int) -> None:
        """Count steps that are done."""
        self._done += steps
        if self._bar is not None:
            self._bar.add(steps)
        if self._lines is not None:
            self._lines.add(steps)

    def expect(self, left: int) -> None:
        """Say how many steps are left, where it has turned out to be another number."""
        if self._bar is not None:
            self._bar.target = self._done + left
        if self._lines is not None:
            self._lines.expect(left)


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
        each = (now - self._start) / (self._done - self._before)
        of, left = "", ""
        if self._steps is not None:
            of, left = f"/{self._steps}", f", {shown_time(each * (self._steps - self._done))} left"
        print(f"{self._unit} {self._done}{of}, {each:.3g} s each{left}{told}", flush=True)


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
