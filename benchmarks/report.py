"""Write the measurements as text, results/speed.md."""

from collections.abc import Iterable

import numpy as np

from benchmarks import flops, summary
from benchmarks.findings import Comparison, Findings, Growth
from benchmarks.rounds import Measurement, ratios
from benchmarks.tables import DROPPED, PRECISIONS, WHAT, WMR_TF
from benchmarks.task import Task
from benchmarks.text import number, spread, table


def document(findings: Findings) -> str:
    """Return results/speed.md."""
    peak = peaks(findings.products)
    sections = [
        header(findings, peak),
        summary_section(findings.comparisons),
        *(speed_section(comparison, peak) for comparison in findings.comparisons),
        *(growth_section(growth) for growth in findings.growths),
        flops_section(m.row.task for comparison in findings.comparisons for m in comparison.measured),
        products_section(findings.products),
    ]
    return "\n\n".join(sections) + "\n"


def peaks(products: list[Measurement]) -> dict[str, float]:
    """Return the best operations a second of each precision, over libraries, sizes and rounds."""
    best = dict.fromkeys(PRECISIONS, 0.0)
    for product in products:
        rates = [flops.operations(product.row.task) / seconds for seconds in product.seconds]
        best[product.row.task.precision] = max([best[product.row.task.precision], *rates])
    return best


def header(findings: Findings, peak: dict[str, float]) -> str:
    """Return the lines above the tables."""
    lines = ["# Speed", "", f"Written by `{findings.command}`; the measurements are in `speed.json`.", ""]
    lines += [f"- {name}: {value}" for name, value in findings.facts.items()]
    found = ", ".join(f"{rate / 1e12:.2f} {precision}" for precision, rate in peak.items())
    lines += [
        f"- Matrix-product peak, TFLOP/s, best of TensorFlow and PyTorch before and after all else: {found}",
        "",
        "Every row of a table does the same work on the same random images with the same architecture, each library in",
        "a process of its own; a round gives every row one turn. A cell is the median over rounds, in brackets the",
        "smallest and the largest. *x wmr_tf* is how many times as long the row takes as wmr_tf in that precision,",
        "compared round by round. *Of peak* is the work that the method cannot do without (see Operations), over the",
        "median time and the peak of the row's precision. Where one takes long, float32 has fewer rounds.",
        "",
        *(f"- **{label}**: {what}" for label, what in WHAT.items()),
        "",
        DROPPED,
    ]
    return "\n".join(lines)


def summary_section(comparisons: Iterable[Comparison]) -> str:
    """Return all comparisons in one table, and the picture."""
    lines = [
        "## In short",
        "",
        "![Time of the same step, as a multiple of wmr_tf's](speed.png)",
        "",
        "Images a second of wmr_tf, and how many times as long the others take in the same precision,",
        "float32 / bfloat16:",
        "",
        summary.table_of(comparisons),
    ]
    return "\n".join(lines)


def speed_section(comparison: Comparison, peak: dict[str, float]) -> str:
    """Return one comparison with the peers."""
    measured = comparison.measured
    own = {m.row.task.precision: m for m in measured if m.row.label == WMR_TF}
    columns = ["", "precision", "images/s", "ms a step", *(f"x {WMR_TF} {p}" for p in PRECISIONS), "of peak"]
    rows = [_speed_row(m, own, peak) for m in measured]
    rounds = max(len(m.seconds) for m in measured)
    title = f"## {comparison.title}\n\nBatch {measured[0].row.task.size}, rounds: {rounds}."
    errors = [f"- {m.row.label}, {m.row.task.precision}, did not run: {m.error}" for m in measured if m.error]
    return "\n\n".join([title, table(columns, rows), *(["\n".join(errors)] if errors else [])])


def growth_section(growth: Growth) -> str:
    """Return how close time is to a straight line."""
    ran = [(point, m) for point, m in zip(growth.points, growth.measured, strict=True) if not m.error]
    title = f"## {growth.title}"
    if len(ran) < 2:
        return f"{title}\n\nDid not run: {growth.measured[0].error}"
    intercept, slope = line([point for point, _ in ran], [m.median for _, m in ran])
    rows = []
    for point, m in ran:
        fitted = intercept + slope * point
        rows.append([str(point), spread(m.seconds, 1e3), number(1e3 * fitted), f"{m.median / fitted - 1:+.1%}"])
    law = f"Least squares: {1e3 * intercept:.3g} ms + {1e3 * slope:.3g} ms x {growth.unit}."
    return "\n\n".join([title, table([growth.unit, "ms", "ms on the line", "off the line"], rows), law])


def line(points: list[int], seconds: list[float]) -> tuple[float, float]:
    """Return intercept and slope of the line of least squares."""
    slope, intercept = np.polyfit(points, seconds, 1)
    return float(intercept), float(slope)


def flops_section(tasks: Iterable[Task]) -> str:
    """Return the count of operations: layers, passes, and the sum for every task."""
    parts = ["## Operations", flops.__doc__.split("\n", 2)[2].strip()]
    kinds = {(task.architecture, task.kind): task for task in tasks}
    for architecture in dict.fromkeys(name for name, _ in kinds):
        adds = flops.multiply_adds(architecture)
        listed = ", ".join(f"{name} {count / 1e6:.3g}" for name, count in adds.items())
        parts.append(f"{architecture}: F = {sum(adds.values()) / 1e6:.4g} million multiply-adds an image ({listed}).")
    rows = [
        [task.architecture, task.kind, str(task.steps), str(task.size), f"{flops.operations(task) / 1e9:.4g}"]
        for task in kinds.values()
    ]
    parts.append(table(["architecture", "task", "k", "batch", "GFLOP a step"], rows))
    return "\n\n".join(parts)


def products_section(products: list[Measurement]) -> str:
    """Return the matrix products behind the peak."""
    rows = []
    for product in products:
        task = product.row.task
        rate = spread([1 / s for s in product.seconds], flops.operations(task) / 1e12) if product.seconds else "-"
        rows.append([product.row.label, task.precision, str(task.size), rate])
    return "## Matrix products\n\n" + table(["", "precision", "rows and columns", "TFLOP/s"], rows)


def _speed_row(m: Measurement, own: dict[str, Measurement], peak: dict[str, float]) -> list[str]:
    task = m.row.task
    if m.error:
        return [m.row.label, task.precision, *["-"] * (3 + len(own))]
    rates = [task.size / seconds for seconds in m.seconds]
    compared = ["-" if base.error else spread(ratios(m, base)) for base in own.values()]
    of_peak = flops.operations(task) / m.median / peak[task.precision] if peak[task.precision] else float("nan")
    return [m.row.label, task.precision, spread(rates), spread(m.seconds, 1e3), *compared, f"{of_peak:.1%}"]
