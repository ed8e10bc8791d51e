"""One report of robustness as one HTML file: what a manager and a reviewer both read."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from os import PathLike
from typing import Any

import jinja2

from wmr_tf.report import rounding, words
from wmr_tf.report.charts import Results
from wmr_tf.report.images import Tile, tiles
from wmr_tf.report.sections import Table, sections
from wmr_tf.saving import write_text

Metrics = Mapping[str, Any]

# What the settings leave out, since it is a result; of a suite they show what it was.
_RESULTS = {
    "A_nat", "A_rob", "A_strong", "masked", "non_uniform", "cvar", "kl_balls", "wasserstein", "zero_gradients", "flags",
    "diagnosis", "budget", "classes", "worst_class", "threat", "confidence",
}  # fmt: skip
_OF_A_SUITE = ("version", "norm", "epsilon", "seed", "deviations")


def write_report(
    path: str | PathLike[str],
    results: Results,
    *,
    pictures: Sequence[Sequence[Mapping[str, Any]]] = (),
    tables: Iterable[Table] = (),
    title: str = "",
) -> None:
    """Write the report of one or several evaluations, a page that needs no other file and no network.

    Args:
        path: The HTML file, in an existing folder; it is replaced in one move.
        results: For each model its label and its metrics in the form of metrics.json; older ones will do.
        pictures: For each model the images to show: dictionaries with "why" ("hardest" or "first_broken"), "position",
            "label", "prediction", "clean" and "adversarial" (floats `[height, width, channels]` in [0, 1]), "radius",
            "margin" and "broken_by".
        tables: Further tables: caption, header and rows, as `format_table` takes the last two.
        title: The page's heading.

    Example:
        >>> metrics = {"A_rob": 0.9559, "non_uniform": [{"alpha_test": 2.0, "A_sa": 0.5215, "A_tr": 0.5152}]}
        >>> write_report("report.html", [("TRADES", metrics)])
    """
    results = [(label, {"non_uniform": [], **metrics}) for label, metrics in results]
    page = (
        _environment()
        .get_template("report.html")
        .render(
            title=title or "Robustness report",
            is_masked=not all(map(_holds, results)),
            verdicts=words.said(sorted(results, key=_holds), words.verdict),
            conditions=words.said(results, words.conditions),
            table=main_table(results),
            tables=list(tables),
            alarms=words.alarms(results),
            sections=list(sections(results)),
            galleries=list(_galleries(results, pictures)),
            settings=settings_table(results),
        )
    )
    write_text(path, page)


def _holds(result: tuple[str, Metrics]) -> bool:
    return not result[1].get("masked")


def main_table(results: Results) -> Table:
    """Return the accuracies in percent with their 95 % intervals: a row for each figure, a column for each model."""
    alphas = sorted({entry["alpha_test"] for _, metrics in results for entry in metrics["non_uniform"]})
    rows = [
        [f"{name}: {meaning}", *(rounding.with_interval(metrics, name) for _, metrics in results)]
        for name, meaning in (
            ("A_nat", "not attacked"),
            ("A_rob", "under the test attack"),
            ("A_strong", "under stronger attacks too"),
        )
    ]
    for alpha in alphas:
        found: list[Metrics] = [
            next((entry for entry in metrics["non_uniform"] if entry["alpha_test"] == alpha), {})
            for _, metrics in results
        ]
        for name, meaning in (
            ("A_sa", "plain attack, fragile images picked more often"),
            ("A_tr", "the same, and the attack is weighted too"),
        ):
            title = f"{name}({alpha:g}): {meaning}"
            rows.append([title, *(rounding.with_interval(entry, name) for entry in found)])
    return "Accuracies in percent, with 95 % intervals", ["Figure", *(label for label, _ in results)], rows


def settings_table(results: Results) -> Table:
    """Return what was evaluated and how: a row for each setting, a column for each model."""
    found = [dict(_settings(metrics)) for _, metrics in results]
    names = dict.fromkeys(name for settings in found for name in settings)
    rows = [[name, *(settings.get(name, "-") for settings in found)] for name in names]
    return "Settings, seeds, versions and hashes", ["Setting", *(label for label, _ in results)], rows


def _settings(metrics: Metrics, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield names and values, those of dictionaries inside after a dot."""
    for name, value in metrics.items():
        if name.removesuffix("_stderr").removesuffix("_interval") in _RESULTS and not prefix:
            continue
        if name == "suite":
            value = {key: value[key] for key in _OF_A_SUITE if key in value}
        if isinstance(value, Mapping):
            yield from _settings(value, f"{prefix}{name}.")
        elif value is not None and value != []:
            yield f"{prefix}{name}", " ".join(map(str, value)) if isinstance(value, list) else str(value)


def _galleries(
    results: Results, pictures: Sequence[Sequence[Mapping[str, Any]]]
) -> Iterator[tuple[str, str, list[Tile]]]:
    """Yield label, heading and images, first those that are hardest, then those that were broken first."""
    for (label, _), shown in zip(results, pictures, strict=False):
        for why, heading in (("hardest", "Hardest images"), ("first_broken", "Images broken first")):
            if chosen := [picture for picture in shown if picture["why"] == why]:
                yield label if len(results) > 1 else "", heading, tiles(chosen)


def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.PackageLoader("wmr_tf.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
