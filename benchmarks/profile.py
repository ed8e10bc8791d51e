"""Measure where the time of one step goes, kernel by kernel, with TensorFlow's profiler.

.venv-bench/bin/python -m benchmarks.profile --kind=trades --architecture=small_cnn --precision=bfloat16
.venv-bench/bin/python -m benchmarks.profile --write     # results/profile.md, with the floor; 7 minutes

Kernels run beside each other on several threads, so the shares are of the time that all of them took together. A
profiled step is slower than one that is not: the wall-clock time beside it is of steps without the profiler. `--write`
keeps what stands in the file before its first section, since that is written by hand.
"""

import argparse
import glob
import importlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from trainers.quiet import import_tensorflow

import_tensorflow()

import tensorflow as tf  # noqa: E402
from tensorflow.tsl.profiler.protobuf import xplane_pb2  # noqa: E402

from benchmarks import floor, machine  # noqa: E402
from benchmarks.rounds import Plan, Row, alternate  # noqa: E402
from benchmarks.task import Task  # noqa: E402
from benchmarks.text import table  # noqa: E402
from benchmarks.worker import ENVIRONMENT, ROOT  # noqa: E402

SETTINGS: dict[str, dict[str, Any]] = {
    "small_cnn": {"epsilon": 0.3, "step_size": 0.01, "steps": 40},
    "resnet18": {"epsilon": 0.031, "step_size": 0.007, "steps": 10},
}
LIBRARIES = ("plain_keras", "wmr_tf")
FLOOR = Plan(rounds=3, seconds=150, at_least=0.1)
# What waits for other kernels, and the runtime's own brackets around them.
WAITING = {"While", "StatelessWhile", "PartitionedCall", "StatefulPartitionedCall", "IteratorGetNext", "Process", "Run"}


def main() -> None:
    """Print the table of one task, or write those of all."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--library", default="wmr_tf", choices=LIBRARIES)
    parser.add_argument("--kind", default="trades", choices=["trades", "pgd", "attack"])
    parser.add_argument("--architecture", default="small_cnn", choices=sorted(SETTINGS))
    parser.add_argument("--precision", default="bfloat16", choices=["float32", "bfloat16"])
    parser.add_argument("--images", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=3, help="steps that are timed, and as many that are profiled")
    parser.add_argument("--write", action="store_true", help="all libraries, architectures and floors, to --output")
    parser.add_argument("--output", type=Path, default=Path("results/profile.md"))
    parser.add_argument("--busy", action="store_true", help="write at once, whatever else the machine does")
    arguments = parser.parse_args()
    if arguments.write:
        write(arguments)
    else:
        print(kernels_section(arguments.library, task_of(arguments, arguments.architecture), arguments.rounds))


def task_of(arguments: argparse.Namespace, architecture: str) -> Task:
    """Return the task of a profile."""
    return Task(arguments.kind, arguments.precision, arguments.images, architecture, **SETTINGS[architecture])


def write(arguments: argparse.Namespace) -> None:
    """Profile every library on every architecture, each in a process of its own, measure the floors, and write it."""
    load = machine.wait_until_quiet(arguments.busy, say)
    command = " ".join(["python -m benchmarks.profile", *sys.argv[1:]])
    facts = [f"- {name}: {value}" for name, value in machine.facts(load).items()]
    sections = [f"## Measured by `{command}`\n\n" + "\n".join(facts)]
    for architecture in SETTINGS:
        task = task_of(arguments, architecture)
        sections.append(floor_section(task))
        sections += [apart(library, architecture) for library in LIBRARIES]
    by_hand = arguments.output.read_text().partition("\n## ")[0] if arguments.output.exists() else "# Profile\n"
    arguments.output.write_text("\n".join([by_hand, *[section + "\n" for section in sections]]))


def apart(library: str, architecture: str) -> str:
    """Return what this command prints about one library, run as a process of its own with the same arguments."""
    given = [argument for argument in sys.argv[1:] if argument not in ("--write", "--busy")]
    command = ["-m", "benchmarks.profile", *given, f"--library={library}", f"--architecture={architecture}"]
    say(" ".join(["python", *command]))
    environment = {**os.environ, **ENVIRONMENT}
    done = subprocess.run([sys.executable, *command], cwd=ROOT, env=environment, check=True, stdout=subprocess.PIPE)
    return done.stdout.decode().strip()


def floor_section(task: Task) -> str:
    """Return the floor of a task and our step, measured in turns."""
    say(f"Floor of {task.kind}, {task.architecture}")
    step, *kernels = alternate([Row("step", "wmr_tf", task), *floor.kernel_rows(task)], FLOOR, say)
    return floor.section(task, floor.best_seconds(task, kernels), step)


def kernels_section(library: str, task: Task, rounds: int) -> str:
    """Return the time of a step and its most expensive kernels."""
    step = importlib.import_module(f"benchmarks.libraries.{library}").prepare(task)
    for _ in range(2):
        step()
    milliseconds = [1000 * seconds(step) for _ in range(rounds)]
    spent = profiled(step, rounds)
    total = sum(spent.values())
    rows = [[name, f"{1000 * each:.1f}", f"{each / total:.1%}"] for name, each in spent.most_common(16)]
    rows.append(["all", f"{1000 * total:.1f}", "100 %"])
    title = (
        f"## Kernels: {library}, {task.kind}, {task.architecture}, {task.steps} steps, {task.size} images, "
        f"{task.precision}"
    )
    times = f"{statistics.median(milliseconds):.0f} ms a step (median of {rounds}); kernels, on all threads:"
    return "\n\n".join([title, times, table(["kernel", "ms a step", "share"], rows)])


def say(line: str) -> None:
    """Print a line at once, aside."""
    print(line, file=sys.stderr, flush=True)


def seconds(step: Callable[[], Any]) -> float:
    """Return the seconds of one step."""
    start = time.perf_counter()
    step()
    return time.perf_counter() - start


def profiled(step: Callable[[], Any], rounds: int) -> Counter[str]:
    """Return seconds a step of each kind of kernel."""
    with tempfile.TemporaryDirectory() as folder:
        tf.profiler.experimental.start(folder)
        for _ in range(rounds):
            step()
        tf.profiler.experimental.stop()
        (file,) = glob.glob(f"{folder}/**/*.xplane.pb", recursive=True)
        with open(file, "rb") as content:
            space = xplane_pb2.XSpace.FromString(content.read())
    spent: Counter[str] = Counter()
    for plane in space.planes:
        for line in plane.lines:
            for event in line.events:
                name = plane.event_metadata[event.metadata_id].name
                kernel = name.rpartition(":")[2]
                if ":" in name and kernel.isidentifier() and kernel not in WAITING:
                    spent[kernel] += event.duration_ps / 1e12 / rounds
    return spent


if __name__ == "__main__":
    main()
