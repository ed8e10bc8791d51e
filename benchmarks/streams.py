"""Measure what streams bring, network by network, and write results/streams.md.

.venv-bench/bin/python -m benchmarks.streams     # ten minutes on a quiet machine with 2 cores

The rule of `wmr_tf.use_all_cores` is to be the fastest row of each network: kernels of one thread, or of all where a
classifier with BatchNorm and wide layers is trained.
"""

import argparse
import dataclasses
import os
import statistics
from pathlib import Path

from benchmarks import machine
from benchmarks.rounds import Measurement, Plan, Row, alternate, ratios
from benchmarks.speed import say
from benchmarks.task import Task
from benchmarks.text import number, spread, table

WAYS = {
    "TensorFlow's threads": "wmr_tf_threads",
    "streams, a thread a kernel": "wmr_tf_streams",
    "streams, all threads a kernel": "wmr_tf_streams_wide",
}
CHOSEN = "streams, a thread a kernel"
CHOSEN_IF_WIDE = "streams, all threads a kernel"
IMAGES = 128
# Network, precision, steps of the attack, kinds of work.
NETWORKS = [
    ("digits_cnn", "bfloat16", 10, ("attack", "pgd")),
    ("small_cnn", "bfloat16", 10, ("attack", "pgd")),
    ("small_cnn", "float32", 10, ("attack", "pgd")),
    ("mobilenet_v3_small", "float32", 10, ("attack", "pgd")),
    ("resnet18", "bfloat16", 5, ("attack", "pgd")),
]
ON_ONE_CORE = NETWORKS[:2]
PLAN = Plan(rounds=5, seconds=75, at_least=0.5)
NO_WORK = Plan(rounds=1, seconds=1, at_least=0.0)


def main() -> None:
    """Measure, print and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="next to no work: tests the mechanics, measures nothing")
    parser.add_argument("--busy", action="store_true", help="measure at once, whatever else the machine does")
    parser.add_argument("--output", type=Path, default=Path("results/streams.md"), help="the file to write")
    arguments = parser.parse_args()
    plan = NO_WORK if arguments.quick else PLAN
    load = machine.wait_until_quiet(arguments.busy or arguments.quick, say)
    sections = [header(machine.facts(load)), *(section(*network, plan) for network in NETWORKS)]
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})  # holds for the processes that are started from here on
    sections += ["# Bound to one core", *(section(*network, plan) for network in ON_ONE_CORE)]
    os.sched_setaffinity(0, cores)
    text = "\n\n".join(sections) + "\n"
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(text)
    print(text)


def header(facts: dict[str, str]) -> str:
    """Return the lines above the tables."""
    return "\n".join(
        [
            "# What streams bring",
            "",
            "Written by `python -m benchmarks.streams`.",
            "",
            *(f"- {name}: {value}" for name, value in facts.items()),
            "",
            "Each way has a process of its own; a round gives each one turn. A cell is the median over rounds, in",
            "brackets the smallest and largest; *speed-up* is against TensorFlow's threads, round by round. In bold",
            "what `wmr_tf.use_all_cores` does, with `batch_norm=True` where ResNet-18 is trained. MobileNetV3 has",
            "BatchNorm too, and small layers: there it is better left out.",
        ]
    )


def section(architecture: str, precision: str, steps: int, kinds: tuple[str, ...], plan: Plan) -> str:
    """Return the tables of one network."""
    say(f"{architecture}, {precision}")
    task = Task("", precision, IMAGES, architecture, epsilon=0.3, step_size=0.01, steps=steps)
    rows = [Row(way, library, dataclasses.replace(task, kind=kind)) for kind in kinds for way, library in WAYS.items()]
    measured = alternate(rows, plan, say)
    cells = []
    for start in range(0, len(measured), len(WAYS)):
        of_kind = measured[start : start + len(WAYS)]
        cells += [row_of(each, of_kind[0]) for each in of_kind]
    title = f"## {architecture}, {precision}, PGD-{steps}, batch {task.size}"
    return f"{title}\n\n{table(['work', 'way', 'images/s', 'speed-up'], cells)}"


def row_of(measured: Measurement, reference: Measurement) -> list[str]:
    """Return one line of a table."""
    task, way = measured.row.task, measured.row.label
    work = {"attack": "attack alone", "pgd": "PGD training step"}[task.kind]
    if measured.error:
        return [work, way, measured.error, ""]
    is_wide = task.kind == "pgd" and task.architecture == "resnet18"
    chosen = way == (CHOSEN_IF_WIDE if is_wide else CHOSEN)
    speed = spread([task.size / seconds for seconds in measured.seconds])
    gain = statistics.median(ratios(reference, measured))
    return [work, f"**{way}**" if chosen else way, speed, number(gain)]


if __name__ == "__main__":
    main()
