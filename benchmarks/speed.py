"""Measure wmr_tf against its peers, and write results/speed.md and results/speed.png.

make bench                                        # all of it, about 25 minutes on a quiet machine with 2 cores
.venv-bench/bin/python -m benchmarks.speed --quick --output_dir=/tmp/speed     # the mechanics only, 2 minutes
"""

import argparse
import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from benchmarks import machine, plot, report
from benchmarks.rounds import Measurement, alternate
from benchmarks.tables import FULL, QUICK, Curve, Scale, Table, curves, matmul_rows, speed_tables

Titled = TypeVar("Titled", Table, Curve)


def main() -> None:
    """Measure everything, print it, and write it."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="next to no work: tests the mechanics, measures nothing")
    parser.add_argument("--libraries", help="only the rows of these, with commas, in the tables that have several")
    parser.add_argument("--output_dir", type=Path, default=Path("results"), help="where speed.md and speed.png go")
    arguments = parser.parse_args()
    scale = QUICK if arguments.quick else FULL
    command = " ".join(["python -m benchmarks.speed", *sys.argv[1:]]) if sys.argv[1:] else "make bench"

    facts = machine.facts()
    say("Matrix products")
    before = alternate(matmul_rows(scale), scale.curve, say)
    speeds = measured(tables_of(scale, arguments.libraries))
    lines = measured([] if arguments.libraries else curves(scale))
    say("Matrix products again")
    products = joined(before, alternate(matmul_rows(scale), scale.curve, say))
    peak = report.peaks(products)

    sections = [
        report.header(facts, peak, command),
        *(report.speed_section(table, found, peak) for table, found in speeds),
        *(report.curve_section(curve, found) for curve, found in lines),
        report.flops_section(table for table, _ in speeds),
        report.products_section(products),
    ]
    text = "\n\n".join(sections) + "\n"
    arguments.output_dir.mkdir(parents=True, exist_ok=True)
    (arguments.output_dir / "speed.md").write_text(text)
    plot.draw(speeds, lines, arguments.output_dir / "speed.png")
    print(text)


def tables_of(scale: Scale, libraries: str | None) -> list[Table]:
    """Return the tables, each with the rows of some libraries."""
    tables = speed_tables(scale)
    if libraries is None:
        return tables
    names = libraries.split(",")
    fewer = [dataclasses.replace(table, rows=[row for row in table.rows if row.library in names]) for table in tables]
    return [table for table in fewer if len({row.library for row in table.rows}) > 1]


def measured(titled: Sequence[Titled]) -> list[tuple[Titled, list[Measurement]]]:
    """Measure table after table."""
    found = []
    for each in titled:
        say(each.title)
        found.append((each, alternate(each.rows, each.plan, say)))
    return found


def joined(before: list[Measurement], after: list[Measurement]) -> list[Measurement]:
    """Return the rounds of both as one."""
    pairs = zip(before, after, strict=True)
    return [Measurement(b.row, b.seconds + a.seconds, None if b.seconds or a.seconds else b.error) for b, a in pairs]


def say(line: str) -> None:
    """Print a line at once."""
    print(line, flush=True)


if __name__ == "__main__":
    main()
