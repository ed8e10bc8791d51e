"""Faults of the disk: which call of a run on which of its files fails how, and processes in which it does."""

import dataclasses
import errno
import functools
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Self

ROOT = Path(__file__).resolve().parents[2]
CALLS = ("open", "write", "fsync", "close", "rename", "mkdir", "link", "unlink")


@dataclasses.dataclass(frozen=True)
class Fault:
    """A call that fails.

    Attributes:
        name: A part of the file's path, below the folder.
        call: One of `CALLS`; "short" is a write of half of what there is, "deletion" a write before which somebody
            moves the folder away.
        error: The name of its errno.
        nth: Which of these calls it is.
        lasting: Whether all calls that change anything fail after it.
    """

    name: str
    call: str
    error: str = "ENOSPC"
    nth: int = 1
    lasting: bool = False

    def __str__(self) -> str:
        return f"{self.call} {self.name} {self.nth} {self.error}{' lasting' * self.lasting}"

    def arguments(self) -> list[Any]:
        """Return what the shim's `fault` takes after the folder."""
        is_short, is_deletion = self.call == "short", self.call == "deletion"
        call = CALLS.index("write" if is_short or is_deletion else self.call)
        is_lasting = self.lasting or is_short
        return [self.name.encode(), call, self.nth, getattr(errno, self.error), is_lasting, is_short, is_deletion]


@functools.cache
def shim() -> Path | None:
    """Return the library that makes calls fail, compiled; None where there is no compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        return None
    library = Path(tempfile.mkdtemp(prefix="wmr_tf-")) / "shim.so"
    command = [compiler, "-shared", "-fPIC", "-O1", "-o", str(library), str(Path(__file__).with_name("shim.c")), "-ldl"]
    return library if subprocess.run(command, capture_output=True).returncode == 0 else None


class Lives:
    """A process that forks others, each of which runs a command, perhaps with a fault; TensorFlow is imported once."""

    def __enter__(self) -> Self:
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        if shim() is not None:
            environment["LD_PRELOAD"] = str(shim())
        command = [sys.executable, "-m", "tests.faults"]
        self._server = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        return self

    def __exit__(self, *raised: Any) -> None:
        with self._server:  # closes stdin, upon which it ends
            pass

    def live(self, command: str, settings: dict[str, Any], log: Path, folder: Path, fault: Fault | None = None) -> int:
        """Run a command, write what it prints into a file, and return its exit status.

        Args:
            command: One of those of `tests/faults/__main__.py`.
            settings: What it takes.
            log: The file.
            folder: Where the fault happens.
            fault: None lets it be.
        """
        job = {"command": command, "settings": settings, "log": str(log), "folder": str(folder)}
        job["fault"] = None if fault is None else dataclasses.asdict(fault)
        print(json.dumps(job), file=self._server.stdin, flush=True)
        return int(self._server.stdout.readline())
