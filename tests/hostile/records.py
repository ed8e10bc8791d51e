"""Hostile records of runs: JSON, arrays, checkpoints, whole folders, and a search's trials."""

import hashlib
import io
import json
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from tests.hostile import Hostile, Payload
from tests.hostile.weights import directory, endless, fifo, text
from trainers.compare import Comparison
from trainers.comparison.comparing import compare
from wmr_tf.evaluation.outcomes import load_outcomes
from wmr_tf.evaluation.records import load_images
from wmr_tf.fit import checkpoints
from wmr_tf.saving import read_json

NESTED = '{"a":' * 200_000 + "1" + "}" * 200_000
METRICS, OUTCOMES, IMAGES = "metrics.json", "outcomes.npz", "images.npz"


# JSON

EVALUATION: dict[str, Any] = {
    "dataset": "digits",
    "split": "test",
    "examples": 10,
    "checkpoint": "best.keras",
    "method": None,
    "seed": 0,
    "attack": {"name": "PGD", "norm": "linf", "epsilon": 0.1, "steps": 1, "step_size": 0.1, "restarts": 1, "seed": 0},
    "A_nat": 0.5,
    "A_nat_stderr": 0.1,
    "A_rob": 0.5,
    "A_rob_stderr": 0.1,
    "non_uniform": [],
}


def metrics(**changes: Any):
    return text(METRICS, json.dumps(EVALUATION | changes))


def sparse(name: str, size: int):
    """Return a builder of a file of zeros that is not on the disk."""

    def build(folder: Path) -> Path:
        with open(folder / name, "wb") as file:
            file.truncate(size)
        return folder / name

    return build


def as_json(path: Path) -> Any:
    return read_json(path, "run", fix="Look again.")


def as_run(path: Path) -> None:
    """Compare a run, as `python -m trainers.compare` does."""
    settings = Comparison(runs=(str(path.parent),))
    settings.check_place()
    compare(settings)


# Arrays


def header(shape: tuple[int, ...], descr: str = "<f4") -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": descr, "fortran_order": False, "shape": shape})
    return file.getvalue()


def npz(name: str, members: dict[str, bytes], **settings: Any):
    def build(folder: Path) -> Path:
        with zipfile.ZipFile(folder / name, "w", **settings) as file:
            for member, content in members.items():
                file.writestr(member, content)
        return folder / name

    return build


def pickled(name: str):
    def build(folder: Path) -> Path:
        np.savez(folder / name, identity=np.array([Payload()], object))
        return folder / name

    return build


def pickled_to_size(name: str):
    """Return a builder of a file with a pickled array that has as many bytes as its header says."""
    content = pickle.dumps(Payload())
    content += bytes(-len(content) % 8)
    return npz(name, {"identity.npy": header((len(content) // 8,), "|O") + content})


def identity(content: str):
    def build(folder: Path) -> Path:
        np.savez_compressed(folder / OUTCOMES, identity=content)
        return folder / OUTCOMES

    return build


def zeros(name: str, size: int):
    """Return a builder of a file with one array of zeros, compressed."""

    def build(folder: Path) -> Path:
        file = zipfile.ZipFile(folder / name, "w", zipfile.ZIP_DEFLATED, compresslevel=1)
        with file, file.open("labels.npy", "w", force_zip64=True) as out:
            out.write(header((size,), "|u1"))
            for _ in range(size >> 20):
                out.write(bytes(1 << 20))
        return folder / name

    return build


def cut(name: str):
    def build(folder: Path) -> Path:
        np.savez(folder / name, identity="{}", labels=np.arange(1000))
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[: len(content) // 2])
        return folder / name

    return build


# Checkpoints: a hostile one has a manifest that is right, since that holds no secret


def signed(folder: Path) -> Path:
    """Write the manifest of the one checkpoint in a folder for its files as they are now."""
    (path,) = folder.iterdir()
    content = json.loads((path / "manifest.json").read_text())["content"]
    content["files"] = {
        each.name: {"bytes": each.stat().st_size, "sha256": hashlib.sha256(each.read_bytes()).hexdigest()}
        for each in path.iterdir()
        if each.name != "manifest.json" and each.is_file() and each.resolve().is_relative_to(folder.resolve())
    }
    sha256 = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    (path / "manifest.json").write_text(json.dumps({"sha256": sha256, "content": content}, indent=1) + "\n")
    return folder


def checkpoint(change):
    """Return a builder of a folder with one checkpoint, changed and signed again."""

    def build(folder: Path) -> Path:
        path = checkpoints.write(folder / "of", "epoch-000001-batch-00000000", {"x": np.ones(3)}, config={})
        change(path)
        return signed(folder / "of")

    return build


def manifest(**changes: Any):
    """Return a builder of a folder with one checkpoint, whose manifest tells something else; None leaves it out."""

    def build(folder: Path) -> Path:
        found = checkpoint(lambda path: None)(folder)
        (path,) = found.glob("*/manifest.json")
        content = json.loads(path.read_text())["content"] | changes
        content = {name: value for name, value in content.items() if value is not None}
        path.write_text(checkpoints._manifest(content))
        return found

    return build


def over(name: str, build):
    """Return a change that puts another file in the place of one."""

    def change(path: Path) -> None:
        (path / name).unlink()
        build(path).rename(path / name)

    return change


def newest(folder: Path) -> Any:
    return checkpoints.newest(folder, config={}, tell=lambda line: None)


HONEST_RECORDS = {
    "JSON": (metrics(), as_json),
    "metrics": (metrics(), as_run),
    "arrays": (identity("{}"), load_outcomes),
    "a checkpoint": (checkpoint(lambda path: None), newest),
}

RECORDS = {
    "JSON 200,000 deep": Hostile(text(METRICS, NESTED), as_json, "nested too deep"),
    "JSON of 10 GB": Hostile(sparse(METRICS, 10 << 30), as_json, "more than 16 MB"),
    "JSON that is a pipe": Hostile(fifo(METRICS), as_json, "no plain file"),
    "JSON that is a folder": Hostile(directory(METRICS), as_json, "no plain file"),
    "JSON without an end": Hostile(endless(METRICS), as_json, "no plain file"),
    "JSON of many empty lists": Hostile(
        text(METRICS, '{"a": [' + "[]," * 20_000_000 + "[]]}"), as_json, "more than 16 MB", True
    ),
    "metrics with a number of 400 digits": Hostile(metrics(A_rob=10**400), as_run, "run"),
    "metrics with texts for numbers": Hostile(metrics(A_rob="\x1b[2J"), as_run, "run"),
    "metrics with lists for dictionaries": Hostile(metrics(attack=[[]]), as_run, "run"),
    "a pickled array": Hostile(pickled(OUTCOMES), load_outcomes, "only pickle reads"),
    "a pickled array in images.npz": Hostile(pickled(IMAGES), load_images, "only pickle reads"),
    "a pickled array of the right size": Hostile(pickled_to_size(OUTCOMES), load_outcomes, "only pickle reads"),
    "an array of 10 GB in no bytes": Hostile(
        npz(OUTCOMES, {"labels.npy": header((50_000, 50_000))}), load_outcomes, "not of the size"
    ),
    "an array of 10^18 numbers": Hostile(
        npz(IMAGES, {"labels.npy": header((10**9, 10**9))}), load_images, "not of the size"
    ),
    "an array of negative shape": Hostile(npz(IMAGES, {"labels.npy": header((-1, 4))}), load_images, "not of the size"),
    "a header that is code": Hostile(
        npz(
            IMAGES,
            {"labels.npy": b"\x93NUMPY\x01\x00\x40\x00" + b"__import__('os').system('touch code')".ljust(63) + b"\n"},
        ),
        load_images,
        "images",
    ),
    "an array of 3 GB of zeros": Hostile(zeros(OUTCOMES, 3 << 30), load_outcomes, "plausible", is_costly=True),
    "half of an array": Hostile(cut(OUTCOMES), load_outcomes, "no whole zip"),
    "an array file that is a pipe": Hostile(fifo(OUTCOMES), load_outcomes, "no plain file"),
    "an array file without an end": Hostile(endless(IMAGES), load_images, "no plain file"),
    "an identity 200,000 deep": Hostile(identity(NESTED), load_outcomes, "nested too deep"),
    "a pickled array in a checkpoint": Hostile(
        checkpoint(over("arrays.npz", pickled("new.npz"))), newest, "checkpoints"
    ),
    "an array of 10 GB in a checkpoint": Hostile(
        checkpoint(over("arrays.npz", npz("new.npz", {"0.npy": header((50_000, 50_000))}))), newest, "checkpoints"
    ),
    "a pipe in a checkpoint": Hostile(checkpoint(over("arrays.npz", fifo("new"))), newest, "checkpoints"),
    "a pipe beside a checkpoint's files": Hostile(checkpoint(lambda path: os.mkfifo(path / "more")), newest, "checkp"),
    "a device in a checkpoint": Hostile(checkpoint(over("arrays.npz", endless("new"))), newest, "checkpoints"),
    "a checkpoint's state 200,000 deep": Hostile(
        checkpoint(over("state.json", text("new", NESTED))), newest, "checkpoints"
    ),
    "a checkpoint's state of no arrays": Hostile(
        checkpoint(over("state.json", text("new", '{"x": {"__array__": []}}'))), newest, "checkpoints"
    ),
    "a manifest without a configuration": Hostile(manifest(config=None), newest, "checkpoints"),
    "a manifest with a list of files": Hostile(manifest(files=["arrays.npz"]), newest, "checkpoints"),
    "a manifest of files elsewhere": Hostile(
        manifest(files={"../../of/arrays.npz": {"bytes": 1, "sha256": ""}}), newest, "checkpoints"
    ),
    "a manifest 200,000 deep": Hostile(
        lambda f: (
            checkpoint(lambda p: None)(f) and text("of/epoch-000001-batch-00000000/manifest.json", NESTED)(f).parents[1]
        ),
        newest,
        "checkpoints",
    ),
}
