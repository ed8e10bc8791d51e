"""Measure rows in turns, A B C A B C ..., so that what slows the machine for a minute slows them all."""

import contextlib
import dataclasses
import statistics
import time
from collections.abc import Callable, Iterator

from benchmarks.task import Task
from benchmarks.worker import DidNotRun, Worker


@dataclasses.dataclass(frozen=True)
class Row:
    """One line of a table: a library's way to do a task.

    Attributes:
        label: What the table calls it.
        library: Its file in `benchmarks/libraries/`.
        task: What it does.
        rounds: After so many it has no further turn: for what takes long and says little.
    """

    label: str
    library: str
    task: Task
    rounds: int = 100


@dataclasses.dataclass(frozen=True)
class Plan:
    """How long to measure the rows of a table.

    Attributes:
        rounds: How often each row has its turn.
        seconds: After these, preparation included, no further round is begun; there is always one.
        at_least: Seconds a turn, in which a step is repeated; one step where that takes longer.
    """

    rounds: int
    seconds: float
    at_least: float


@dataclasses.dataclass
class Measurement:
    """What was found for one row: seconds a step, one number a round, or why there are none."""

    row: Row
    seconds: list[float] = dataclasses.field(default_factory=list)
    error: str | None = None

    @property
    def median(self) -> float:
        """Median seconds a step."""
        return statistics.median(self.seconds)


def alternate(rows: list[Row], plan: Plan, say: Callable[[str], None]) -> list[Measurement]:
    """Return one measurement a row; a row that does not run keeps its error, and the others go on."""
    start = time.perf_counter()
    measurements = [Measurement(row) for row in rows]
    with contextlib.ExitStack() as stack:
        turns = _prepared(measurements, stack, say)
        for number in range(plan.rounds):
            began = time.perf_counter()
            for measurement, worker, index in turns:
                if measurement.error is None and number < measurement.row.rounds:
                    with _kept(measurement, say):
                        measurement.seconds.append(worker.run(index, plan.at_least))
            now = time.perf_counter()
            say(f"  round {number + 1} of {plan.rounds}: {now - began:.0f} s")
            if now - start + (now - began) > plan.seconds:
                break
    return measurements


def ratios(slower: Measurement, faster: Measurement) -> list[float]:
    """Return how many times as long the first takes, in each round that both had a turn in."""
    return [a / b for a, b in zip(slower.seconds, faster.seconds, strict=False)]


def _prepared(
    measurements: list[Measurement], stack: contextlib.ExitStack, say: Callable[[str], None]
) -> list[tuple[Measurement, Worker, int]]:
    workers: dict[tuple[str, str], Worker] = {}  # threads hold for a process, and may depend on the architecture
    turns = []
    for measurement in measurements:
        row = measurement.row
        key = row.library, row.task.architecture
        if key not in workers:
            workers[key] = Worker(row.library)
            stack.callback(workers[key].close)
        began = time.perf_counter()
        with _kept(measurement, say):
            turns.append((measurement, workers[key], workers[key].prepare(row.task)))
        say(f"  first step: {row.label}, {row.task.precision}: {time.perf_counter() - began:.0f} s")
    return turns


@contextlib.contextmanager
def _kept(measurement: Measurement, say: Callable[[str], None]) -> Iterator[None]:
    try:
        yield
    except DidNotRun as error:
        measurement.error = str(error)
        measurement.seconds.clear()
        say(f"  did not run: {error}")
