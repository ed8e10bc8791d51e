"""Do the tests notice a wrong attack? Faults planted one by one in the attacks and in the suite, and which test fails.

python -m studies.faults --output=results/faults.md

Each fault is one edit of one file, made in a copy of the repository, in which the tests named beside it then run until
the first one fails. A fault that no test notices is printed as such, and the exit status is 1.
"""

import concurrent.futures
import dataclasses
import os
import queue
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from studies.planted import FAULTS, Fault
from studies.runs import made_by, publish
from studies.settings import Study
from trainers.cli import Command
from trainers.settings.base import setting
from wmr_tf.checks import at_least
from wmr_tf.engine.progress import Progress

ROOT = Path(__file__).parents[1]
COPIED = ("wmr_tf", "trainers", "tuning", "tests", "pyproject.toml")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Faults(Study):
    """How many copies of the repository are tested at a time."""

    processes: int = setting("How many faults to test at a time, a thread each.", 2)
    output: str = setting("The table, as Markdown.", "results/faults.md")

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least("processes", self.processes, 1)


class Verdict(NamedTuple):
    """What became of a fault: the first test that failed, or None."""

    fault: Fault
    test: str | None


def copy_of_repository(folder: Path) -> Path:
    """Return a folder with a copy of the library and its tests."""
    for name in COPIED:
        source = ROOT / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, folder / name)
    return folder


def plant(fault: Fault, root: Path) -> None:
    """Make the edit in a copy.

    Raises:
        ValueError: If the place is not there, or there twice: the code has moved on, and the list must follow.
    """
    path = root / fault.file
    text = path.read_text()
    if text.count(fault.old) != 1:
        raise ValueError(f"{fault.file} has {text.count(fault.old)} places that read {fault.old!r}, expected one.")
    path.write_text(text.replace(fault.old, fault.new))


def first_failure(root: Path, tests: str) -> str | None:
    """Return the name of the first test that fails in a copy, None if all pass.

    Raises:
        RuntimeError: If pytest could not run them.
    """
    one_thread = dict.fromkeys(("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS"), "1")
    command = [sys.executable, "-m", "pytest", "-x", "-q", "--tb=no", "-p", "no:cacheprovider", *tests.split()]
    environment = {**os.environ, **one_thread, "PYTHONPATH": str(root), "TF_CPP_MIN_LOG_LEVEL": "3"}
    ended = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)
    if ended.returncode not in (0, 1, 2):
        raise RuntimeError(f"pytest ended with {ended.returncode}:\n{ended.stdout[-2000:]}{ended.stderr[-2000:]}")
    named = re.search(r"^(?:FAILED|ERROR) (\S+)", ended.stdout, re.MULTILINE)
    return named[1] if named else None


def judged(fault: Fault, roots: "queue.Queue[Path]") -> Verdict:
    """Return what the tests say of a fault, in a copy that is free."""
    root = roots.get()
    text = (root / fault.file).read_text()
    try:
        plant(fault, root)
        return Verdict(fault, first_failure(root, fault.tests))
    finally:
        (root / fault.file).write_text(text)
        roots.put(root)


def all_judged(processes: int) -> list[Verdict]:
    """Return the verdicts on all faults, in their order. The tests must pass before anything is planted.

    Raises:
        RuntimeError: If they do not.
    """
    with tempfile.TemporaryDirectory() as folder, concurrent.futures.ThreadPoolExecutor(processes) as pool:
        roots: queue.Queue[Path] = queue.Queue()
        for number in range(processes):
            roots.put(copy_of_repository(Path(folder, str(number))))
        root = roots.get()
        if broken := first_failure(root, " ".join(sorted({test for fault in FAULTS for test in fault.tests.split()}))):
            raise RuntimeError(f"{broken} fails without any fault.")
        roots.put(root)
        progress = Progress(len(FAULTS), unit="fault", verbose=1)
        verdicts = []
        for verdict in pool.map(lambda fault: judged(fault, roots), FAULTS):
            verdicts.append(verdict)
            progress.add(1)
        return verdicts


def table(verdicts: list[Verdict]) -> str:
    """Return the verdicts as a Markdown table."""
    lines = ["| file | fault | noticed first by |", "| --- | --- | --- |"]
    for fault, test in verdicts:
        name = f"`{test.split('::')[-1]}`" if test else "**nothing**"
        lines.append(f"| {fault.file.removeprefix('wmr_tf/')} | {fault.what} | {name} |")
    return "\n".join(lines)


def plant_all(study: Faults) -> None:
    """Plant every fault and write the table."""
    verdicts = all_judged(study.processes)
    noticed = sum(test is not None for _, test in verdicts)
    head = f"# Faults planted in attacks, suite and statistics\n\n{made_by('studies.faults')}."
    summary = f"{noticed} of {len(verdicts)} faults fail a test. Each is one edit, listed in `studies/planted.py`."
    publish([head, summary, table(verdicts)], study.page)
    sys.exit(noticed < len(verdicts))


if __name__ == "__main__":
    Command(Faults, plant_all)()
