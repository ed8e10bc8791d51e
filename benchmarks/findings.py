"""What was measured, as it is kept in results/speed.json: text and picture can be made of it again."""

import dataclasses
import json
from pathlib import Path
from typing import Any

from benchmarks.rounds import Measurement, Row
from benchmarks.task import Task


@dataclasses.dataclass
class Comparison:
    """The rows of one table."""

    title: str
    measured: list[Measurement]


@dataclasses.dataclass
class Growth:
    """Measurements whose tasks differ in one number, which time should be linear in."""

    title: str
    measured: list[Measurement]
    unit: str
    points: list[int]


@dataclasses.dataclass
class Findings:
    """All of one run."""

    command: str
    facts: dict[str, str]
    products: list[Measurement]
    comparisons: list[Comparison]
    growths: list[Growth]

    def write(self, path: Path) -> None:
        """Write it as JSON."""
        path.write_text(json.dumps(dataclasses.asdict(self), indent=1) + "\n")

    @classmethod
    def read(cls, path: Path) -> "Findings":
        """Return what `write` wrote."""
        kept = json.loads(path.read_text())
        return cls(
            kept["command"],
            kept["facts"],
            _measurements(kept["products"]),
            [Comparison(**{**each, "measured": _measurements(each["measured"])}) for each in kept["comparisons"]],
            [Growth(**{**each, "measured": _measurements(each["measured"])}) for each in kept["growths"]],
        )


def _measurements(kept: list[dict[str, Any]]) -> list[Measurement]:
    return [Measurement(Row(**{**m["row"], "task": Task(**m["row"]["task"])}), m["seconds"], m["error"]) for m in kept]
