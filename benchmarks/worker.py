"""One process for each library and architecture, which keeps models and images in memory and times steps on request.

Parent and child talk in lines of JSON: `{"prepare": task}` builds a task and runs its first step, `{"run": index}`
times a prepared one. The answer is `{"result": ...}` or `{"error": one line}`.
"""

import contextlib
import dataclasses
import importlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.task import Task, check_attacked

ROOT = Path(__file__).resolve().parents[1]
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
# As many threads as cores: what TensorFlow takes by itself, and what PyTorch takes where no core counts twice.
ENVIRONMENT = {"OMP_NUM_THREADS": str(CORES), "TF_CPP_MIN_LOG_LEVEL": "2"}


class DidNotRun(Exception):
    """A library that is not installed, fails, or ends its process; the message is one line."""


class Worker:
    """The parent's side of one library's process."""

    def __init__(self, library: str) -> None:
        self._stderr = tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115 - `close` closes it
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.worker", library],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            text=True,
            cwd=ROOT,
            env={**os.environ, **ENVIRONMENT},
        )
        assert self._process.stdin and self._process.stdout  # which they are by PIPE
        self._requests, self._answers = self._process.stdin, self._process.stdout

    def prepare(self, task: Task) -> int:
        """Build a task and run its first step; return the index to `run` it by.

        Raises:
            DidNotRun: If the library cannot do it.
        """
        return self._ask({"prepare": dataclasses.asdict(task)})

    def run(self, index: int, at_least: float) -> float:
        """Run a prepared task again and again for `at_least` seconds, once or more; return seconds a step.

        Raises:
            DidNotRun: If it fails.
        """
        return self._ask({"run": index, "at_least": at_least})

    def close(self) -> None:
        """End the process and wait until it and its memory are gone."""
        with contextlib.suppress(BrokenPipeError):  # it may have ended by itself
            self._requests.close()
        self._process.wait()
        self._stderr.close()

    def _ask(self, request: dict[str, Any]) -> Any:
        try:
            self._requests.write(json.dumps(request) + "\n")
            self._requests.flush()
            answer = json.loads(self._answers.readline())
        except (BrokenPipeError, json.JSONDecodeError):
            raise DidNotRun(f"its process ended with status {self._process.wait()}: {self._last_words()}") from None
        if "error" in answer:
            raise DidNotRun(answer["error"])
        return answer["result"]

    def _last_words(self) -> str:
        self._stderr.seek(0)
        lines = [line.strip() for line in self._stderr if line.strip()]
        return lines[-1][:200] if lines else "nothing on stderr"


def serve(library: str) -> None:
    """Answer requests until stdin ends: the child's side."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what a library prints goes to stderr, not between the answers
    steps: list[Callable[[], Any]] = []
    answer: dict[str, Any]
    for line in sys.stdin:
        request = json.loads(line)
        try:
            if "prepare" in request:
                steps.append(prepared(library, Task(**request["prepare"])))
                answer = {"result": len(steps) - 1}
            else:
                answer = {"result": seconds_per_step(steps[request["run"]], request["at_least"])}
        except Exception as error:  # whatever it is, it becomes a row of the table
            answer = {"error": " ".join(f"{type(error).__name__}: {error}".split())[:200]}
        print(json.dumps(answer), file=answers)


def prepared(library: str, task: Task) -> Callable[[], Any]:
    """Return the library's step for a task after a first one, in which graphs are traced and kernels chosen.

    A library that is EAGER traces nothing: for it, an attack of one step will do.
    """
    module = importlib.import_module(f"benchmarks.libraries.{library}")
    step = module.prepare(task)
    first = module.prepare(dataclasses.replace(task, steps=1)) if module.EAGER else step
    result = first()
    if task.kind == "attack":
        check_attacked(task, np.asarray(result))
    return step


def seconds_per_step(step: Callable[[], Any], at_least: float) -> float:
    """Return the mean time of a step over `at_least` seconds."""
    start, steps = time.perf_counter(), 0
    while steps == 0 or time.perf_counter() - start < at_least:
        step()
        steps += 1
    return (time.perf_counter() - start) / steps


if __name__ == "__main__":
    serve(sys.argv[1])
