"""The directive `shell`: commands that run when the site is built, each after the one before, and what they print.

    ```{shell}
    :tail: 20
    wmr train digits
    ```

`:language: python` runs Python. `:head:` and `:tail:` say how many lines of the output to show. What a page's commands
write is in docs/_build/run/PAGE. As the guides, they run again when one of them has changed, or after `make clean`.
"""

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

ROOT = Path(__file__).resolve().parents[2]
RUN = ROOT / "docs" / "_build" / "run"


def sources() -> list[Path]:
    """Return the files that decide what a command does."""
    return sorted(path for package in ("wmr_tf", "trainers", "tuning") for path in (ROOT / package).rglob("*.py"))


def digest_of_sources() -> str:
    """Return one digest of them all."""
    digest = hashlib.sha256()
    for path in sources():
        digest.update(path.read_bytes())
    return digest.hexdigest()


def output_of(command: list[str], folder: Path) -> str:
    """Return what a command prints in a folder, where `wmr` is that of this environment and of these sources.

    Raises:
        RuntimeError: If it fails.
    """
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT), "COLUMNS": "88"}
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, env=environment)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}: {done.stderr[-2000:]}")
    return done.stdout


class Shell(SphinxDirective):
    """Commands, and what they print."""

    has_content = True
    option_spec = {
        "language": directives.unchanged,
        "head": directives.nonnegative_int,
        "tail": directives.nonnegative_int,
        "silent": directives.flag,
    }

    def run(self) -> list[nodes.Node]:
        """Return a block of code, and one of its output if there is any to show."""
        language, code = self.options.get("language", "sh"), "\n".join(self.content)
        output = "\n".join(self._shown(self._output(language, code)))
        blocks = [(language, code), *([("text", output)] if output and "silent" not in self.options else [])]
        return [nodes.literal_block(text, text, language=kind, classes=[kind]) for kind, text in blocks]

    def _output(self, language: str, code: str) -> str:
        folder = RUN / Path(self.env.docname).name
        before = self.env.temp_data.get("shell", "")
        digest = hashlib.sha256(f"{before}{code}".encode()).hexdigest()
        kept = folder / f".{digest}"
        if not kept.exists():
            if "shell" not in self.env.temp_data:
                shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True, exist_ok=True)
            command = [sys.executable, "-c", code] if language == "python" else ["bash", "-ec", code]
            kept.write_text(output_of(command, folder), encoding="utf-8")
        self.env.temp_data["shell"] = digest
        return kept.read_text(encoding="utf-8")

    def _shown(self, output: str) -> Iterator[str]:
        lines = output.rstrip().splitlines()
        head, tail = self.options.get("head", 0), self.options.get("tail", 0)
        if head + tail == 0 or len(lines) <= head + tail:
            yield from lines
        else:
            yield from [*lines[:head], "...", *lines[len(lines) - tail :]]


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directive."""
    app.add_directive("shell", Shell)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
