"""All comparisons with the peers in one table: images a second, and how many times as long the others take."""

import statistics
from collections.abc import Iterable

from benchmarks.findings import Comparison
from benchmarks.rounds import Measurement, ratios
from benchmarks.tables import COMPILED, PLAIN, PRECISIONS, PUBLIC, STREAMS, TUNED, WMR_TF
from benchmarks.text import number, table

COLUMNS = {
    PLAIN: PLAIN,
    TUNED: "PyTorch tuned by hand",
    STREAMS: "the same in streams",
    COMPILED: "the same, `torch.compile`",
    PUBLIC: PUBLIC,
}


def table_of(comparisons: Iterable[Comparison]) -> str:
    """Return images a second of wmr_tf, and how many times as long the others take in the same precision."""
    columns = ["work", "wmr_tf, images/s", *COLUMNS.values(), "libraries, float32"]
    return table(columns, [_row(comparison) for comparison in comparisons])


def relative(comparison: Comparison) -> dict[tuple[str, str], float]:
    """Return how many times as long each row takes as wmr_tf in its precision, by label and precision.

    It is the median over rounds. Rows that did not run, or that wmr_tf did not run for, are missing.
    """
    rows = {(m.row.label, m.row.task.precision): m for m in comparison.measured if m.seconds}
    return {
        (label, precision): statistics.median(ratios(m, rows[WMR_TF, precision]))
        for (label, precision), m in rows.items()
        if (WMR_TF, precision) in rows
    }


def _row(comparison: Comparison) -> list[str]:
    times = relative(comparison)
    own = [m for m in comparison.measured if m.row.label == WMR_TF]
    others = [(label, value) for (label, _), value in times.items() if label not in {WMR_TF, *COLUMNS}]
    return [
        comparison.title,
        " / ".join(map(_rate, own)),
        *(_pair(times, label) for label in COLUMNS),
        ", ".join(f"{label.split(',')[0]} {_times(value)}" for label, value in others),
    ]


def _rate(m: Measurement) -> str:
    return number(m.row.task.size / m.median) if m.seconds else "-"


def _pair(times: dict[tuple[str, str], float], label: str) -> str:
    cells = [_times(times[label, precision]) if (label, precision) in times else "-" for precision in PRECISIONS]
    return "" if set(cells) == {"-"} else " / ".join(cells)


def _times(value: float) -> str:
    return f"{value:.2f}x" if value < 2 else f"{value:.1f}x"
