"""Tables and pictures of robustness, from plain values: dictionaries in the form of metrics.json and history.csv."""

from typing import TYPE_CHECKING

from wmr_tf.lazy import lazily
from wmr_tf.report.rounding import percent
from wmr_tf.report.tables import (
    ERRORS,
    SEEDS,
    SUITES,
    WORST_CASES,
    choosers_table,
    comparison_table,
    difference_table,
    epsilon_table,
    format_table,
    suite_table,
    tables,
    worst_case_table,
)

if TYPE_CHECKING:
    from wmr_tf.report.figures import plot_alpha, plot_epsilon, plot_search, plot_training
    from wmr_tf.report.html import write_report

__all__ = [
    "ERRORS",
    "SEEDS",
    "SUITES",
    "WORST_CASES",
    "choosers_table",
    "comparison_table",
    "difference_table",
    "epsilon_table",
    "format_table",
    "percent",
    "plot_alpha",
    "plot_epsilon",
    "plot_search",
    "plot_training",
    "suite_table",
    "tables",
    "worst_case_table",
    "write_report",
]

_PICTURES = ("plot_alpha", "plot_epsilon", "plot_search", "plot_training")
__getattr__, __dir__ = lazily(
    __name__,
    {**dict.fromkeys(_PICTURES, "wmr_tf.report.figures"), "write_report": "wmr_tf.report.html"},
    extra="report",
)
