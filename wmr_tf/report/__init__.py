"""Tables and pictures of robustness, from plain values: dictionaries in the form of metrics.json and history.csv."""

from wmr_tf.report.figures import plot_alpha, plot_search, plot_training
from wmr_tf.report.tables import (
    SUITES,
    WORST_CASES,
    comparison_table,
    format_table,
    suite_table,
    tables,
    worst_case_table,
)

__all__ = [
    "SUITES",
    "WORST_CASES",
    "comparison_table",
    "format_table",
    "plot_alpha",
    "plot_search",
    "plot_training",
    "suite_table",
    "tables",
    "worst_case_table",
]
