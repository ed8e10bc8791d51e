"""The directive `file-schema`: what is in a file of a run, read from one that a small run has just written.

    .. file-schema:: metrics.json

       A_nat: accuracy on clean images
       *_stderr: the standard error of what is named

A key without a meaning and a meaning without a key are warnings, and so end `make docs`; "?" before a key says that not
every run has it.
"""

import csv
import fnmatch
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

from docs.extensions.reading import parsed, table
from docs.extensions.shell import RUN, digest_of_sources, output_of, sources

FLAGS = (
    "--epochs=2",
    "--train_examples=256",
    "--eval_examples=240",
    "--suite=short",
    "--rho_test=0.1",
    "--eval_wasserstein_p=2",
)
"""Those of the small run: a minute, and every part of metrics.json."""


def small_run() -> Path:
    """Return the folder of a small run on the digits, made once for each state of the sources."""
    folder = RUN / f"files-{digest_of_sources()[:16]}"
    if not (folder / "run" / "report.html").exists():
        for other in RUN.glob("files-*"):
            shutil.rmtree(other)
        folder.mkdir(parents=True)
        output_of(["wmr", "train", "digits", *FLAGS, "--output_dir=run"], folder)
    return folder / "run"


def content_of(path: Path) -> Iterator[tuple[str, str, str]]:
    """Yield the name, the type and a value of all that is in a file of a run."""
    if path.suffix == ".json":
        yield from _leaves(json.loads(path.read_text(encoding="utf-8")))
    elif path.suffix == ".csv":
        with open(path, newline="", encoding="utf-8") as file:
            yield from ((name, "number", f"{float(value):.4g}") for name, value in next(csv.DictReader(file)).items())
    else:
        with np.load(path, allow_pickle=False) as arrays:
            yield from ((name, *_array(array)) for name, array in arrays.items())


def _array(array: np.ndarray) -> tuple[str, str]:
    kind = "text" if array.dtype.kind == "U" else str(array.dtype)
    return kind, "" if kind == "text" else str(list(array.shape) if array.ndim else array.item())


def _leaves(value: Any, name: str = "") -> Iterator[tuple[str, str, str]]:
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from _leaves(inner, f"{name}.{key}" if name else key)
    elif isinstance(value, list) and value and isinstance(value[0], dict):
        yield from _leaves(value[0], f"{name}[]")
    else:
        kinds = {bool: "true or false", int: "integer", float: "number", str: "text", list: "list", type(None): "null"}
        yield name, kinds.get(type(value), type(value).__name__), _short(value)


def _short(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_short, value))}]"
    if isinstance(value, float):
        return f"{value:.4g}"
    text = "" if value is None else json.dumps(value)
    return text if len(text) <= 32 else f'{text[:28]}..."'


class FileSchema(SphinxDirective):
    """A table of what is in a file."""

    required_arguments = 1
    has_content = True

    def run(self) -> list[nodes.Node]:
        """Return the table."""
        for path in sources():
            self.env.note_dependency(str(path))
        name = self.arguments[0]
        said = dict(line.split(": ", 1) for line in self.content if line.strip())
        meanings = {key.lstrip("?"): meaning for key, meaning in said.items()}
        rows, used = [], set()
        for key, kind, value in content_of(small_run() / name):
            pattern = next((each for each in meanings if fnmatch.fnmatchcase(key, each.replace("[]", "[[]]"))), None)
            if pattern is None:
                self._warn(f"{name} has {key}, which is not said")
                continue
            used.add(pattern)
            rows.append([f"`{key}`", kind, f"`{value}`" if value else "\\ ", meanings[pattern].replace("{name}", key)])
        for pattern in meanings.keys() - used - {key.lstrip("?") for key in said if key.startswith("?")}:
            self._warn(f"{name} has no {pattern}, which is said")
        rows += [
            [f"`{key[1:]}`", "\\ ", "\\ ", said[key]] for key in said if key.startswith("?") and key[1:] not in used
        ]
        return parsed(self, table(["Name", "Type", "In a small run", "What it is"], rows))

    def _warn(self, message: str) -> None:
        logging.getLogger(__name__).warning(message, location=self.get_location())


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directive."""
    app.add_directive("file-schema", FileSchema)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
