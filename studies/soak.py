"""Kill trainings at random moments, again and again, and compare each with one that was left alone.

python -m studies.soak --kills=200 --output=results/soak.md

Each method trains on the digits as `trainers.digits --deterministic` does, in a process that is sent SIGKILL or SIGTERM
at a random moment, while it trains, evaluates or writes, and is started again until it comes to its end. Then
history.csv, metrics.json and the weights of the last and the best epoch must be those of the run that was left alone.
"""

import argparse
import collections
import hashlib
import multiprocessing
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras

from studies.runs import made_by, publish
from trainers import run
from trainers.config import Experiment
from trainers.folder import BEST, HISTORY, LAST, METRICS
from wmr_tf import methods

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


def live(experiment: Experiment, come: signal.Signals | None = None, after: float | None = None) -> int:
    """Train in a process of its own, which is sent a signal after so many seconds if it has not ended; its status.

    Raises:
        RuntimeError: If it ended otherwise than it was asked to.
    """
    # Forked before TensorFlow has begun to work, so that a life costs no import.
    process = multiprocessing.get_context("fork").Process(target=_train, args=(experiment,))
    process.start()
    process.join(after)
    if come and process.is_alive():
        os.kill(process.pid or 0, come)
    process.join()
    # Before the training begins, and after it, SIGTERM is the system's.
    allowed = {None: (), signal.SIGKILL: (-9,), signal.SIGTERM: (128 + 15, -15)}[come]
    if process.exitcode not in (0, *allowed):
        log = Path(f"{experiment.output_dir}.log").read_text()
        raise RuntimeError(f"{experiment.output_dir}: got status {process.exitcode} after {come}:\n{log[-3000:]}")
    return process.exitcode or 0


def settings(method: str, folder: Path) -> Experiment:
    """Return a method's tiny run in a folder."""
    taken = {name: value for name, value in FEWER_PASSES.items() if getattr(Experiment.of("digits", method), name)}
    return Experiment.of("digits", method, **FEW, **taken, output_dir=str(folder))


def survived(method: str, place: Path, kills: int, rng: random.Random) -> tuple[collections.Counter[str], list[str]]:
    """Kill runs of a method so many times; return how often by which signal, and what differed at the end of any."""
    start = time.monotonic()
    live(settings(method, place / "alone"))
    seconds = time.monotonic() - start
    expected = _in_a_process(_digests, place / "alone")
    counts, differing = collections.Counter[str](), []
    while counts["SIGKILL"] + counts["SIGTERM"] < kills:
        counts["runs"] += 1
        folder = place / f"run-{counts['runs']}"
        while not _is_complete(folder):
            come = rng.choice((signal.SIGKILL, signal.SIGTERM))
            is_left_alone = counts["SIGKILL"] + counts["SIGTERM"] == kills
            if live(settings(method, folder), *(() if is_left_alone else (come, rng.uniform(0, seconds)))):
                counts[come.name] += 1
        found = _in_a_process(_digests, folder)
        differing += [f"{method}, run {counts['runs']}: {name}" for name in expected if found[name] != expected[name]]
    return counts, differing


def _train(experiment: Experiment) -> None:
    run.CHECKPOINT_MINUTES = SECONDS_BETWEEN_CHECKPOINTS / 60
    log = os.open(f"{experiment.output_dir}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    run.train(experiment)


def _is_complete(folder: Path) -> bool:
    return (folder / METRICS).exists() and not (folder / run.CHECKPOINTS).exists()


def _digests(folder: Path) -> dict[str, str]:
    contents: dict[str, list[Any]] = {name: [(folder / name).read_bytes()] for name in (HISTORY, METRICS)}
    contents |= {name: keras.models.load_model(folder / name).get_weights() for name in (BEST, LAST)}
    return {name: hashlib.sha256(b"".join(map(bytes, parts))).hexdigest() for name, parts in contents.items()}


def _in_a_process(function: Callable[[Path], Any], argument: Path) -> Any:
    """Return what a function returns in a process of its own, so that TensorFlow does not begin to work in this one."""
    with multiprocessing.get_context("fork").Pool(1) as pool:
        return pool.apply(function, (argument,))


def main() -> None:
    """Soak the methods in turn, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200, help="How many, over all methods.")
    parser.add_argument("--methods", default=",".join(methods.BY_NAME), help="Which, with commas.")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="Begin no other method after so long.")
    parser.add_argument("--seed", type=int, default=0, help="Of the moments.")
    parser.add_argument("--output", type=Path, help="A Markdown file for the table.")
    given = parser.parse_args()
    names, start, rng = given.methods.split(","), time.monotonic(), random.Random(given.seed)
    rows, differing = ["| method | SIGKILL | SIGTERM | runs | differences | seconds a kill |", "|---" * 6 + "|"], []
    with tempfile.TemporaryDirectory() as place:
        for number, method in enumerate(names):
            if time.monotonic() - start > given.seconds:
                break
            kills, began = given.kills // len(names) + (number < given.kills % len(names)), time.monotonic()
            (Path(place) / method).mkdir()
            counts, found = survived(method, Path(place) / method, kills, rng)
            differing += found
            cells = [method, counts["SIGKILL"], counts["SIGTERM"], counts["runs"], len(found)]
            rows.append(f"| {' | '.join(map(str, cells))} | {(time.monotonic() - began) / max(kills, 1):.1f} |")
            print(rows[-1], *found, sep="\n", flush=True)
    if given.output:
        publish(["# Trainings that were killed", made_by("studies.soak"), "\n".join(rows), *differing], given.output)
    sys.exit(bool(differing))


if __name__ == "__main__":
    main()
