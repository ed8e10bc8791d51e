"""Measure wmr_tf against its peers, and write results/speed.md, speed.json and speed.png.

make bench                                        # all of it, half an hour on a quiet machine with 2 cores
.venv-bench/bin/python -m benchmarks.speed --quick --output_dir=/tmp/speed     # the mechanics only, 4 minutes
.venv-bench/bin/python -m benchmarks.speed --redraw     # text and picture again from speed.json, nothing is measured
"""

import argparse
import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks import machine, plot, report
from benchmarks.findings import Comparison, Findings, Growth
from benchmarks.rounds import Measurement, alternate
from benchmarks.tables import FULL, QUICK, Scale, Table, curves, matmul_rows, speed_tables


def main() -> None:
    """Measure everything, or read it, print it, and write it."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="next to no work: tests the mechanics, measures nothing")
    parser.add_argument("--busy", action="store_true", help="measure at once, whatever else the machine does")
    parser.add_argument("--redraw", action="store_true", help="measure nothing: write speed.md and speed.png again")
    parser.add_argument("--libraries", help="only the rows of these, with commas, in the tables that have several")
    parser.add_argument("--output_dir", type=Path, default=Path("results"), help="where the three files go")
    arguments = parser.parse_args()
    kept = arguments.output_dir / "speed.json"
    if not arguments.redraw:
        found = measured(arguments)
        arguments.output_dir.mkdir(parents=True, exist_ok=True)
        found.write(kept)
    findings = Findings.read(kept)
    text = report.document(findings)
    (arguments.output_dir / "speed.md").write_text(text)
    plot.draw(findings.comparisons, arguments.output_dir / "speed.png")
    print(text)


def measured(arguments: argparse.Namespace) -> Findings:
    """Measure everything."""
    scale = QUICK if arguments.quick else FULL
    load = machine.wait_until_quiet(arguments.busy or arguments.quick, say)
    say("Matrix products")
    before = alternate(matmul_rows(scale), scale.curve, say)
    comparisons = []
    for table in tables_of(scale, arguments.libraries):
        say(table.title)
        comparisons.append(Comparison(table.title, alternate(table.rows, table.plan, say)))
    growths = []
    for curve in [] if arguments.libraries else curves(scale):
        say(curve.title)
        growths.append(Growth(curve.title, alternate(curve.rows, curve.plan, say), curve.unit, curve.points))
    say("Matrix products again")
    products = joined(before, alternate(matmul_rows(scale), scale.curve, say))
    command = " ".join(["python -m benchmarks.speed", *sys.argv[1:]]) if sys.argv[1:] else "make bench"
    return Findings(command, machine.facts(load), products, comparisons, growths)


def tables_of(scale: Scale, libraries: str | None) -> Sequence[Table]:
    """Return the tables, each with the rows of some libraries."""
    tables = speed_tables(scale)
    if libraries is None:
        return tables
    names = libraries.split(",")
    fewer = [dataclasses.replace(table, rows=[row for row in table.rows if row.library in names]) for table in tables]
    return [table for table in fewer if len({row.library for row in table.rows}) > 1]


def joined(before: list[Measurement], after: list[Measurement]) -> list[Measurement]:
    """Return the rounds of both as one."""
    pairs = zip(before, after, strict=True)
    return [Measurement(b.row, b.seconds + a.seconds, None if b.seconds or a.seconds else b.error) for b, a in pairs]


def say(line: str) -> None:
    """Print a line at once."""
    print(line, flush=True)


if __name__ == "__main__":
    main()
