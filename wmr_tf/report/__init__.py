"""Tables and pictures of robustness, from plain values: dictionaries in the form of metrics.json and history.csv."""

from wmr_tf.report.figures import plot_alpha, plot_epsilon, plot_search, plot_training
from wmr_tf.report.html import write_report
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
