"""Runs commands, one a line on stdin, each in a process forked from this one; prints the exit status of each."""

import ctypes
import json
import os
import sys

from trainers.quiet import import_tensorflow

import_tensorflow()

from tests.faults import Fault  # noqa: E402
from trainers.cli import ends_reported  # noqa: E402
from trainers.compare import Comparison  # noqa: E402
from trainers.comparison.comparing import compare  # noqa: E402
from trainers.runs import run  # noqa: E402
from trainers.runs.evaluating import evaluate  # noqa: E402
from trainers.settings.config import Experiment, ModelEvaluation  # noqa: E402
from tuning.search import Search  # noqa: E402
from tuning.searching import search  # noqa: E402

COMMANDS = {
    "train": lambda **settings: run.train(Experiment.of("digits", **settings)),
    "evaluate": lambda **settings: evaluate(ModelEvaluation.of("digits", **settings)),
    "compare": lambda **settings: compare(Comparison.of(**settings)),
    "search": lambda **settings: search(Search.of("digits", **settings)),
}


def live(job):
    """Run a command in this process, and exit."""
    log = os.open(job["log"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(log, 1)
    os.dup2(log, 2)
    run.CHECKPOINT_MINUTES = 1e-9  # one after each batch
    if job["fault"] is not None:
        ctypes.CDLL(None).fault(os.path.realpath(job["folder"]).encode(), *Fault(**job["fault"]).arguments())
    with ends_reported():
        COMMANDS[job["command"]](**job["settings"])
    sys.exit(0)


def main():
    """Fork for each line."""
    for line in iter(sys.stdin.readline, ""):
        child = os.fork()
        if not child:
            live(json.loads(line))
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


if __name__ == "__main__":
    main()
