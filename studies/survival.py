"""Make the table of what runs survive: each row from the study, or the tests, that count it.

python -m studies.survival --output=results/survival.md

What has been counted is kept in a folder beside the table. Only what is not there is counted, and what is named, such
as `--parts=memory,hostile`. A soak that was stopped goes on by the same command.
"""

import dataclasses
import datetime
import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from studies import memory, soak
from studies.runs import made_by, publish
from studies.settings import Study
from trainers.cli import Command
from trainers.settings.base import setting
from wmr_tf.checks import one_of
from wmr_tf.saving import read_json, write_json

Row = tuple[str, Any, Any]
"""What is counted, how often it was so, and of how many."""


@dataclasses.dataclass(frozen=True)
class Part:
    """What is counted together.

    Attributes:
        arguments: After `python -m`.
        rows: What there is to say of its record.
    """

    arguments: tuple[str, ...]
    rows: Callable[[dict[str, Any]], Iterable[Row]]


def cases_of(what: str, file: str, *tests: str) -> Part:
    """Return the part that is parametrised tests of a file, of which each case counts."""
    arguments = ("pytest", "-q", "-m", "", *(f"{file}::{test}" for test in tests))
    return Part(arguments, lambda record: [(what, record["passed"], record["cases"])])


PARTS = {
    "soak": Part(("studies.soak", "--kills=200", "--terms=50", "--runs=50"), soak.rows),
    "memory": Part(("studies.memory", "--steps=2000"), memory.rows),
    "checkpoints": cases_of(
        "corrupted checkpoints found",
        "tests/test_checkpoints.py",
        "test_harm_to_any_file_is_found_and_the_checkpoint_before_is_used",
    ),
    "writes": cases_of(
        "faults at writes of a run, the last good state intact",
        "tests/test_writes.py",
        "test_a_fault_that_a_run_can_do_without",
        "test_a_fault_that_ends_a_run",
        "test_a_disk_that_is_full_and_then_larger",
    ),
    "hostile": cases_of(
        "hostile files that do nothing, in a process that is watched",
        "tests/test_hostile.py",
        "test_a_hostile_file_takes_less_than_a_gigabyte_and_ten_seconds",
    ),
    "mistakes": cases_of(
        "wrong inputs that are one line: commands as processes of their own, and calls",
        "tests/test_mistakes.py",
        "test_a_wrong_command_for_real",
        "test_a_wrong_call_is_one_line",
    ),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Survival(Study):
    """What is counted again, and where the table goes."""

    parts: tuple[str, ...] = setting("Count these again, with commas.", (), choices=PARTS)
    output: str = setting("The table, as Markdown.", "results/survival.md")

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in self.parts:
            one_of("parts", name, PARTS)


def count(part: Part, kept: Path) -> None:
    """Run a part, which writes its record or has it written here."""
    command = [sys.executable, "-m", *part.arguments]
    if part.arguments[0] != "pytest":
        subprocess.run([*command, f"--output={kept}"], check=False)
    else:
        with tempfile.TemporaryDirectory() as folder:
            result = Path(folder) / "result.xml"
            environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2"}  # as the Makefile has it
            subprocess.run([*command, f"--junitxml={result}"], check=False, env=environment)
            cases = list(ElementTree.parse(result).iter("testcase"))
        if not cases:
            sys.exit(f"error: {shlex.join(command)} has run no case")
        write_json(kept, {"cases": len(cases), "passed": sum(len(case) == 0 for case in cases)})
    record = read_json(kept, "record", fix="Run the same command again.")
    if not record.get("is_finished", True):
        sys.exit(f"error: {shlex.join(command)} has stopped before its end. The same command goes on")
    write_json(kept, {**record, "date": datetime.date.today().isoformat()})


def is_counted(kept: Path) -> bool:
    """Return whether a part has come to its end."""
    return kept.exists() and "date" in read_json(kept, "record", fix="Delete it.")


def tabulate(study: Survival) -> None:
    """Count what is missing, and write the table."""
    output = study.page
    folder = output.with_suffix("")
    folder.mkdir(parents=True, exist_ok=True)
    rows = ["| what is counted | reached | of | command | seed | date |", "|---" * 6 + "|"]
    for name, part in PARTS.items():
        kept = folder / f"{name}.json"
        if name in study.parts and is_counted(kept):
            kept.unlink()
        if not is_counted(kept):
            count(part, kept)
        record = read_json(kept, "record", fix="Delete it.")
        command = f"`{shlex.join(['python', '-m', *part.arguments])}`"
        for row in part.rows(record):
            cells = [*row, command, record.get("seed", "the test's"), record["date"]]
            rows.append(f"| {' | '.join(map(str, cells))} |")
    publish(["# What runs survive", made_by("studies.survival"), "\n".join(rows)], output)


if __name__ == "__main__":
    Command(Survival, tabulate)()
