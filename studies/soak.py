"""Stop trainings at random moments, again and again, and compare each with one that was left alone.

python -m studies.soak --kills=200 --output=results/soak.json

A run trains a method on the digits as `trainers.digits --deterministic` does, in a process that is sent SIGKILL or
SIGTERM, or whose disk is full from then on, at a random moment: while it trains, evaluates or writes. It is started
again until it comes to its end. Then history.csv, metrics.json and the weights of the last and the best epoch must be
those of the run that was left alone; after a SIGTERM within the training there must be a valid checkpoint, one line
with the command that goes on, and status 143. All methods take their turns.

What is counted is written after each run: the same command goes on where it was stopped.
"""

import collections
import dataclasses
import fcntl
import hashlib
import itertools
import json
import multiprocessing
import os
import random
import re
import resource
import signal
import sys
import tempfile
import threading
import time
import zipfile
from pathlib import Path
from typing import Any

from trainers.cli import Command, ends_reported
from trainers.runs import run
from trainers.runs.folder import BEST, CHECKPOINTS, CONFIG, HISTORY, LAST, METRICS
from trainers.settings.base import Settings, setting
from trainers.settings.config import Experiment
from wmr_tf.checks import at_least, one_of, require
from wmr_tf.methods import BY_NAME
from wmr_tf.saving import read_json, write_json

# Tiny runs, in which all moments come about equally often: 18 steps, three validations, an evaluation.
FEW: dict[str, Any] = {
    "epochs": 3,
    "train_examples": 96,
    "validation_examples": 20,
    "eval_examples": 20,
    "batch_size": 16,
}
FEW |= {"eval_attack_steps": 1, "suite": "short", "deterministic": True}
FEWER_PASSES: dict[str, int] = {"attack_steps": 1, "replays": 1, "passes": 1}
SECONDS_BETWEEN_CHECKPOINTS = 0.05

KILL, TERMINATE, FULL = "SIGKILL", "SIGTERM", "full disk"
STOPS = (KILL,) * 4 + (TERMINATE,) * 2 + (FULL,)
"""What happens to a run, in random order, before it is left alone."""

LARGEST_FILE = 150_000
"""Bytes, of what a full disk may still take; a run's classifiers are larger."""


TRAINS = re.compile(r"^ *epoch +loss ", re.MULTILINE)
"""The head of the table of epochs, which is printed as the first epoch begins."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Soak(Settings):
    """How often trainings are stopped, and of which methods."""

    kills: int = setting("By SIGKILL, over all methods.", 200)
    terms: int = setting("By SIGTERM within the training, over all methods.", 50)
    runs: int = setting("Completed ones, at least.", 50)
    methods: tuple[str, ...] = setting("Which, with commas.", tuple(BY_NAME), choices=BY_NAME)
    seed: int = setting("Of the moments.", 0)
    output: str = setting("A JSON file for what is counted; one that is there goes on.", "results/survival/soak.json")

    def __post_init__(self) -> None:
        for name in ("kills", "terms", "runs"):
            at_least(name, getattr(self, name), 0)
        require(len(self.methods) > 0, "methods", got="none", expected="one or more", fix="Name one.")
        for name in self.methods:
            one_of("methods", name, BY_NAME)


class Unexpected(Exception):
    """A run ended otherwise than it was asked to."""


@dataclasses.dataclass(frozen=True)
class Stop:
    """What happens to a life of a run.

    Attributes:
        kind: One of `STOPS`.
        after: The second in which it happens, if the life has not ended.
        is_within: Whether that is counted from the beginning of the training, or of what comes after it.
        limit: Bytes a file, on a full disk.
    """

    kind: str
    after: float
    is_within: bool
    limit: int


def live(experiment: Experiment, stop: Stop | None = None) -> tuple[int, str]:
    """Train in a process of its own, to which something may happen; return its status and what it printed.

    Raises:
        Unexpected: If it ended otherwise than it was asked to.
    """
    read, write = os.pipe()
    fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, 1 << 20)  # all that it prints, so that it never waits
    # Forked before TensorFlow has begun to work, so that a life costs no import.
    process = multiprocessing.get_context("fork").Process(target=_train, args=(experiment, write, stop))
    process.start()
    os.close(write)
    with open(read, encoding="utf-8") as file:
        log = ""
        if stop and stop.kind in (KILL, TERMINATE):
            while stop.is_within and (line := file.readline()):
                log += line
                if TRAINS.match(line) or line.startswith("Evaluating"):
                    break
            process.join(stop.after)
            process.kill() if stop.kind == KILL else process.terminate()  # nothing happens to one that has ended
        process.join()
        log += file.read()
    kind = stop.kind if stop else None
    # Before the training begins, and after it, SIGTERM is the system's.
    allowed = {None: (), KILL: (-signal.SIGKILL,), TERMINATE: (128 + signal.SIGTERM, -signal.SIGTERM), FULL: (1,)}[kind]
    if process.exitcode not in (0, *allowed) or "Traceback" in log:
        told = log[max(log.find("Traceback"), 0) :]
        raise Unexpected(f"got status {process.exitcode} after {kind}: {told[:2000]} ... {told[-2000:]}")
    return process.exitcode or 0, log


def _train(experiment: Experiment, output: int, stop: Stop | None) -> None:
    run.CHECKPOINT_MINUTES = SECONDS_BETWEEN_CHECKPOINTS / 60
    os.dup2(output, 1)
    os.dup2(output, 2)
    if stop and stop.kind == FULL:
        limits = resource.RLIMIT_FSIZE, (stop.limit, stop.limit)
        timer = threading.Timer(stop.after, resource.setrlimit, limits)
        timer.daemon = True
        timer.start()
    with ends_reported():
        run.train(experiment)


def settings(method: str, folder: Path) -> Experiment:
    """Return a method's tiny run in a folder."""
    taken = {name: value for name, value in FEWER_PASSES.items() if getattr(Experiment.of("digits", method), name)}
    return Experiment.of("digits", method, **FEW, **taken, output_dir=str(folder))


class Alone:
    """A method's run that nothing happens to."""

    def __init__(self, method: str, folder: Path) -> None:
        start = time.time()
        live(settings(method, folder))
        self.seconds = time.time() - start
        self.seconds_of_training = (folder / LAST).stat().st_mtime - (folder / CONFIG).stat().st_mtime
        self.digests = digests(folder)


def digests(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of what two runs must have in common, to the last bit."""
    metrics = read_json(folder / METRICS, "run", fix="")
    timeless = {name: value for name, value in metrics.items() if name not in ("command", "date")}
    contents = {HISTORY: (folder / HISTORY).read_bytes(), METRICS: json.dumps(timeless).encode()}
    for name in (BEST, LAST):
        with zipfile.ZipFile(folder / name) as archive:  # whose other members hold the time
            contents[name] = archive.read("model.weights.h5")
    return {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}


def survived(method: str, folder: Path, alone: Alone, rng: random.Random) -> dict[str, Any]:
    """Stop a run again and again, then leave it alone; return what happened, and what differs at its end."""
    start, counts = time.monotonic(), collections.Counter[str]()
    differing = []
    try:
        for kind in [*rng.sample(STOPS, len(STOPS)), None]:
            is_within = rng.random() < 2 / 3
            after = rng.uniform(0, alone.seconds_of_training if is_within else alone.seconds)
            stop = Stop(kind, after, is_within, rng.randrange(LARGEST_FILE)) if kind else None
            status, log = live(settings(method, folder), stop)
            if kind and status:
                counts[kind] += 1
            if kind == TERMINATE and TRAINS.search(log) and "Evaluating epoch" not in log:
                counts["terminated"] += 1
                if is_kept(folder, status, log):
                    counts["kept"] += 1
                else:
                    print(f"got status {status} and no valid checkpoint: {log}")
            if _is_complete(folder):
                break
        found = digests(folder)
        differing = [name for name in found if found[name] != alone.digests[name]]
    except (Unexpected, OSError) as failure:
        differing = [str(failure)]
    return {"method": method, **counts, "differing": differing, "seconds": round(time.monotonic() - start, 1)}


def is_kept(folder: Path, status: int, log: str) -> bool:
    """Return whether a SIGTERM within the training ended as it should: said in one line, with a whole checkpoint."""
    lines = [line for line in log.splitlines() if line.startswith("stopped by SIGTERM")]
    told = re.fullmatch(
        r"stopped by SIGTERM: \S+ keeps the training (?:(?:within|after) epoch (\d+)(?:, after batch (\d+) of \d+)?"
        rf"|(and what the evaluation has found))\. To go on: python -m trainers\.resume {re.escape(str(folder))}",
        lines[0] if len(lines) == 1 else "",
    )
    newest = max((folder / CHECKPOINTS).glob("epoch-*"), default=None)
    if status != 128 + signal.SIGTERM or told is None or newest is None:
        return False
    is_over = told[3] is not None  # it came while the last classifier was written
    epoch, batch = (FEW["epochs"], 0) if is_over else (int(told[1]) - (told[2] is not None), int(told[2] or 0))
    return newest.name == f"epoch-{epoch:06d}-batch-{batch:08d}" and _is_valid(newest)


def _is_valid(checkpoint: Path) -> bool:
    files = json.loads((checkpoint / "manifest.json").read_text())["content"]["files"]
    sha256 = {name: hashlib.sha256((checkpoint / name).read_bytes()).hexdigest() for name in files}
    return bool(files) and all(files[name]["sha256"] == sha256[name] for name in files)


def _is_complete(folder: Path) -> bool:
    return (folder / METRICS).exists() and not (folder / CHECKPOINTS).exists()


def total(runs: list[dict[str, Any]], name: str) -> int:
    """Return how often something happened in all runs."""
    return sum(each.get(name, 0) for each in runs)


def rows(record: dict[str, Any]) -> list[tuple[str, Any, Any]]:
    """Return what there is to say of a record: what is counted, how often it was so, and of how many."""
    runs = record["runs"]
    equal = [each for each in runs if not each["differing"]]
    methods_told = f"{len({each['method'] for each in runs})} methods"
    return [
        ("SIGKILL at random moments, survived", total(equal, KILL), total(runs, KILL)),
        ("disk full from a random moment on, survived", total(equal, FULL), total(runs, FULL)),
        (f"stopped runs of {methods_told} that end as one left alone, bit by bit", len(equal), len(runs)),
        ("SIGTERM within a training leaves a valid checkpoint", total(runs, "kept"), total(runs, "terminated")),
    ]


def soak(study: Soak) -> None:
    """Go through the methods in turn until there have been enough stops."""
    output = Path(study.output)
    output.parent.mkdir(parents=True, exist_ok=True)
    alone: dict[str, Alone] = {}
    runs: list[dict[str, Any]] = []
    if output.exists():
        record = read_json(output, "output", fix="Delete it.")
        expected = f"{record['seed']}, that of {output}"
        require(record["seed"] == study.seed, "seed", got=study.seed, expected=expected, fix="Name another output.")
        runs = record["runs"]
    with tempfile.TemporaryDirectory() as temporary:
        tempfile.tempdir = temporary  # for what TensorFlow in killed processes leaves
        for number in itertools.count(len(runs)):
            enough = {KILL: study.kills, "terminated": study.terms}
            if number >= study.runs and all(total(runs, name) >= count for name, count in enough.items()):
                break
            method, place = study.methods[number % len(study.methods)], Path(temporary)
            if method not in alone:
                alone[method] = Alone(method, place / method)
            rng = random.Random(f"{study.seed} {method} {number}")
            runs.append(survived(method, place / f"{method}-{number}", alone[method], rng))
            write_json(output, {"seed": study.seed, "runs": runs, "is_finished": False})
            print(json.dumps(runs[-1]), flush=True)
    write_json(output, {"seed": study.seed, "runs": runs, "is_finished": True})
    for what, reached, of in rows({"runs": runs}):
        print(f"{what}: {reached} of {of}")
    sys.exit(any(each["differing"] for each in runs))


if __name__ == "__main__":
    Command(Soak, soak)()
