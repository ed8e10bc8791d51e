"""The floor of a step: what its convolutions and dense layers take by themselves, one kernel at a time.

Each layer's kernels (forward, the gradient of its input and that of its weights) run alone, in the step's precision
and batch, twice: with all threads on the whole batch, and on parts of the batch side by side, each with one thread. The
best time of either, times how often the step needs that kernel, is its part of the floor. Activations, pooling,
BatchNorm, the losses and the steps of the attack come on top.
"""

import dataclasses
from collections.abc import Iterable

from benchmarks import flops
from benchmarks.rounds import Measurement, Row
from benchmarks.task import Task
from benchmarks.text import number, table

WAYS = {"all threads": "kernels", "in parts": "kernels_in_parts"}
PLANES = "input gradient, by planes"
OPERATIONS = 2e10
"""How many operations a turn repeats a kernel for, so that calling the graph does not count."""
MOST = 500
"""Repetitions of the smallest kernels."""


def kernel_rows(task: Task) -> list[Row]:
    """Return a row for each kernel that the step needs and each way to run it; layers of equal shape share theirs."""
    rows = []
    for layer, kind in _distinct(task):
        once = 2 * task.size * flops.multiply_adds(task.architecture)[layer]
        repeated = dataclasses.replace(task, kind=f"{layer}: {kind}", steps=max(1, min(MOST, int(OPERATIONS / once))))
        rows += [Row(way, library, repeated) for way, library in WAYS.items()]
    return rows


def best_seconds(task: Task, measured: Iterable[Measurement]) -> dict[tuple[str, str], tuple[float, str]]:
    """Return the best time of each kernel of the network and the way that reached it, by layer and pass.

    Raises:
        ValueError: If a kernel did not run.
    """
    found: dict[str, tuple[float, str]] = {}
    for m in measured:
        if m.error:
            raise ValueError(f"{m.row.task.kind}, {m.row.label}: {m.error}")
        kind = m.row.task.kind.replace(PLANES, "input gradient")
        found[kind] = min(found.get(kind, (float("inf"), "")), (min(m.seconds) / m.row.task.steps, m.row.label))
    like = _like(task.architecture)
    return {
        (layer, kind): found[f"{like[layer]}: {kind}"]
        for layer, times in flops.passes(task).items()
        for kind, count in zip(flops.PASSES, times, strict=True)
        if count
    }


def floor(task: Task, best: dict[tuple[str, str], tuple[float, str]]) -> float:
    """Return the seconds of a step that its kernels alone take."""
    return sum(part for parts in _parts(task, best).values() for part in parts)


def section(task: Task, best: dict[tuple[str, str], tuple[float, str]], step: Measurement) -> str:
    """Return the floor layer by layer, beside the time of the step."""
    seconds, whole = floor(task, best), min(step.seconds)
    rows = []
    for layer, parts in _parts(task, best).items():
        cells = [_cell(best.get((layer, kind))) for kind in flops.PASSES]
        times = " + ".join(map(str, flops.passes(task)[layer]))
        rows.append([layer, *cells, times, number(1e3 * sum(parts)), f"{sum(parts) / seconds:.1%}"])
    rows.append(["all", "", "", "", "", number(1e3 * seconds), "100 %"])
    title = f"## Floor: {task.kind}, {task.architecture}, {task.steps} steps, {task.size} images, {task.precision}"
    result = (
        f"Floor {1e3 * seconds:.0f} ms, the step {1e3 * step.median:.0f} ms (best {1e3 * whole:.0f}), measured in "
        f"turns: the step takes {step.median / seconds:.2f} times its floor (best {whole / seconds:.2f})."
    )
    columns = ["layer", *(f"{kind}, ms" for kind in flops.PASSES), "times a step", "ms a step", "share"]
    legend = "p: in parts side by side, one thread a kernel, was the faster way; elsewhere all threads on the batch."
    return "\n\n".join([title, result, table(columns, rows), legend])


def _distinct(task: Task) -> Iterable[tuple[str, str]]:
    """Yield layer and pass for each kernel of another shape than those before it."""
    for layer, like in _like(task.architecture).items():
        for kind, count in zip(flops.PASSES, flops.passes(task)[layer], strict=True):
            if layer == like and count:
                yield layer, kind
                if kind == "input gradient" and flops.layers(task.architecture)[layer].input.shape[-1] == 1:
                    yield layer, PLANES


def _like(architecture: str) -> dict[str, str]:
    """Return for each layer the first one that has the same kernels."""
    first: dict[tuple, str] = {}
    shapes = {
        name: (type(layer), layer.input.shape, layer.output.shape, layer.kernel.shape)
        for name, layer in flops.layers(architecture).items()
    }
    return {name: first.setdefault(shape, name) for name, shape in shapes.items()}


def _parts(task: Task, best: dict[tuple[str, str], tuple[float, str]]) -> dict[str, list[float]]:
    return {
        layer: [count * best[layer, kind][0] for kind, count in zip(flops.PASSES, times, strict=True) if count]
        for layer, times in flops.passes(task).items()
    }


def _cell(found: tuple[float, str] | None) -> str:
    return "-" if found is None else f"{number(1e3 * found[0])}{' p' if found[1] == 'in parts' else ''}"
