"""Measure where the time of one step goes, kernel by kernel, with TensorFlow's profiler.

.venv-bench/bin/python -m benchmarks.profile --kind=trades --architecture=small_cnn --precision=bfloat16 --steps=40

Kernels run beside each other on several threads, so the shares are of the time that all of them took together. A
profiled step is slower than one that is not: the wall-clock time beside it is of steps without the profiler.
"""

import argparse
import glob
import importlib
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from trainers.quiet import import_tensorflow

import_tensorflow()

import tensorflow as tf  # noqa: E402
from tensorflow.tsl.profiler.protobuf import xplane_pb2  # noqa: E402

from benchmarks.task import Task  # noqa: E402

SETTINGS = {"small_cnn": {"epsilon": 0.3, "step_size": 0.01}, "resnet18": {"epsilon": 0.031, "step_size": 0.007}}
# What waits for other kernels, and the runtime's own brackets around them.
WAITING = {"While", "StatelessWhile", "PartitionedCall", "StatefulPartitionedCall", "IteratorGetNext", "Process", "Run"}


def main() -> None:
    """Print the table of one task."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--library", default="ours", choices=["ours", "plain_keras"])
    parser.add_argument("--kind", default="trades", choices=["trades", "pgd", "attack"])
    parser.add_argument("--architecture", default="small_cnn", choices=sorted(SETTINGS))
    parser.add_argument("--precision", default="bfloat16", choices=["float32", "bfloat16"])
    parser.add_argument("--images", type=int, default=128)
    parser.add_argument("--steps", type=int, default=40, help="of the attack")
    parser.add_argument("--rounds", type=int, default=5, help="steps that are timed, and as many that are profiled")
    arguments = parser.parse_args()
    settings = SETTINGS[arguments.architecture]
    task = Task(
        arguments.kind,
        arguments.precision,
        arguments.images,
        arguments.architecture,
        steps=arguments.steps,
        **settings,
    )
    step = importlib.import_module(f"benchmarks.libraries.{arguments.library}").prepare(task)
    for _ in range(3):
        step()
    milliseconds = [1000 * seconds(step) for _ in range(arguments.rounds)]
    kernels = profiled(step, arguments.rounds)
    total = sum(kernels.values())
    print(
        f"{arguments.library}: {task.kind}, {task.architecture}, {task.steps} steps, {task.size} images, "
        f"{task.precision}"
    )
    print(f"{statistics.median(milliseconds):.0f} ms a step (median of {arguments.rounds}); kernels, on all threads:\n")
    print("| kernel | ms a step | share |\n|---|---:|---:|")
    for name, spent in kernels.most_common(16):
        print(f"| {name} | {1000 * spent:.1f} | {spent / total:.1%} |")
    print(f"| all | {1000 * total:.1f} | 100 % |")


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
