import math
import re

import matplotlib.image
import numpy as np
import pytest

from trainers.runs import naming
from trainers.settings.config import Experiment
from wmr_tf import report
from wmr_tf.report.words import conditions
from wmr_tf.saving import picture_files

NAN = math.nan


def metrics(*, alpha_train, a_rob, entries):
    """Metrics in the form of metrics.json; each entry is alpha_test, A_sa and A_tr."""
    return {
        "alpha_train": alpha_train,
        "A_nat": 0.98765,
        "A_nat_stderr": 0.001,
        "A_rob": a_rob,
        "A_rob_stderr": 0.02,
        "non_uniform": [
            {"alpha_test": alpha, "A_sa": a_sa, "A_sa_stderr": 0.008, "A_tr": a_tr, "A_tr_stderr": 0.009}
            for alpha, a_sa, a_tr in entries
        ],
    }


TRADES = metrics(alpha_train=0.0, a_rob=0.9559, entries=[(1.5, 0.5215, 0.5152), (1, 0.80, 0.79)])
WEIGHTED = metrics(alpha_train=2.0, a_rob=0.95, entries=[(1.0, 0.85, 0.84), (1.5, 0.66714, 0.6561)])
RESULTS = [("TRADES", TRADES), ("TRADES+weights", WEIGHTED)]


def test_table_is_aligned():
    text = report.format_table(["Defense", "A"], [["PGD", "9.5"], ["TRADES+weights", "53.38"]])
    assert text.split("\n") == [
        "Defense             A",
        "--------------  -----",
        "PGD               9.5",
        "TRADES+weights  53.38",
    ]


def test_markdown_table():
    text = report.format_table(["Defense", "A (%)"], [["PGD", "9.5"]], markdown=True)
    assert text.split("\n") == ["| Defense | A (%) |", "| ------- | ----: |", "| PGD     |   9.5 |"]


def test_table_refuses_a_row_of_another_length():
    with pytest.raises(ValueError, match="shorter"):
        report.format_table(["Defense", "A"], [["PGD"]])


def test_comparison_lists_all_defences_at_one_alpha_then_the_next():
    header, rows = report.comparison_table(RESULTS)
    accuracies = [f"{name} (%)" for name in ("A_nat", "A_rob", "A_strong", "A_sa", "A_tr")]
    assert header == ["Defense", "alpha_train", "alpha_test", *accuracies]
    assert [row[:3] for row in rows] == [
        ["TRADES", "-", "1.0"],
        ["TRADES+weights", "2.0", "1.0"],
        ["TRADES", "-", "1.5"],
        ["TRADES+weights", "2.0", "1.5"],
    ]
    assert rows[3][3:] == ["98.77 ± 0.10", "95 ± 2", "-", "66.7 ± 0.8", "65.6 ± 0.9"]


def test_comparison_quotes_rows_that_have_no_standard_error():
    quoted = {"A_rob": 0.4929, "non_uniform": [{"alpha_test": 1.5, "A_sa": 0.1733}]}
    assert report.comparison_table([("PGD", quoted)])[1] == [["PGD", "-", "1.5", "-", "49.29", "-", "17.33", "-"]]


def with_worst_cases(metrics, losses):
    entries = [entry | {"rho": 0.1234, "A_worst": 0.4} for entry in metrics["non_uniform"]]
    return {**metrics, "non_uniform": entries, "cvar": [{"level": level, "loss": loss} for level, loss in losses]}


def test_worst_cases_go_by_alpha_and_leave_out_metrics_that_have_none():
    new = ("TRADES", with_worst_cases(TRADES, [(1.0, 0.5), (0.1, 2.34567)]))
    other = ("other", with_worst_cases(WEIGHTED, [(1.0, 0.6)]))
    header, rows = report.worst_case_table([new, ("old", WEIGHTED), other])
    assert header == ["Defense", "alpha_test", "rho", "A_sa (%)", "A_worst (%)", "CVaR 100%", "CVaR 10%"]
    assert rows == [
        [label, alpha, "0.123", f"{a_sa} ± 0.8", "40.00", *losses]
        for alpha, *pair in (("1.0", "80.0", "85.0"), ("1.5", "52.1", "66.7"))
        for label, a_sa, losses in zip(("TRADES", "other"), pair, (["0.500", "2.346"], ["0.600", "-"]), strict=True)
    ]


def test_worst_cases_have_their_errors_and_radii_come_last_by_radius():
    metrics = with_worst_cases(TRADES, [])
    metrics["cvar"] = [{"level": 0.1, "loss": 2.0, "loss_stderr": 0.25}]
    metrics["non_uniform"] = [metrics["non_uniform"][0] | {"rho_stderr": 0.01, "A_worst_stderr": 0.02}]
    balls = [
        {"rho": rho, "alpha_test": alpha, "A_sa": 0.5, "A_worst": 0.1} for rho, alpha in ((9.0, "inf"), (1, 2.718))
    ]
    rows = report.worst_case_table([("a", metrics), ("b", {"non_uniform": [], "kl_balls": balls})])[1]
    assert rows == [
        ["a", "1.5", "0.123 ± 0.010", "52.1 ± 0.8", "40 ± 2", "2.0 ± 0.2"],
        ["b", "2.72", "1.000", "50.00", "10.00", "-"],
        ["b", "inf", "9.000", "50.00", "10.00", "-"],
    ]


def test_all_tables_of_old_and_new_metrics():
    assert report.tables(RESULTS) == "\n\n".join(
        [report.format_table(*report.comparison_table(RESULTS)), report.ERRORS]
    )
    quoted = [("PGD", {"A_rob": 0.4929, "non_uniform": []})]
    assert report.tables(quoted) == report.format_table(*report.comparison_table(quoted))
    new = with_worst_cases(TRADES, [(0.1, 2.0)])
    wasserstein = {"norm": "linf", "p": "inf", "epsilon": 0.3, "steps": 40, "step_size": 0.01, "accuracy": 0.5}
    new["wasserstein"] = {**wasserstein, "accuracy_stderr": 0.01, "mean_size": 0.29, "largest_size": 0.31}
    plain, markdown = (report.tables([("TRADES", new)], markdown=markdown) for markdown in (False, True))
    first, errors, legend, second, budget = plain.split("\n\n")
    assert errors == report.ERRORS
    assert first == report.format_table(*report.comparison_table([("TRADES", new)]))
    assert legend == report.WORST_CASES
    assert second == report.format_table(*report.worst_case_table([("TRADES", new)]))
    assert "Warning" not in budget
    short = report.tables([("TRADES", {**new, "wasserstein": {**new["wasserstein"], "largest_size": 0.399999}})])
    assert short.endswith(
        "\nWarning: it could move no image further than 0.4, steps * step_size, and more may do more harm."
    )
    for part in ("p inf, epsilon 0.3, 40 steps of 0.01", "accuracy 50.0 ± 1.0 %", "0.290 of", "perturbation 0.310"):
        assert part in budget
    assert markdown.count("| Defense") == 2


@pytest.mark.parametrize(("restarts", "told"), [(1, ""), (10, ", 10 restarts")])
def test_the_restarts_of_an_attack_are_told_where_there_are_several(restarts, told):
    attack = {"name": "PGD", "norm": "linf", "epsilon": 0.3, "step_size": 0.01, "steps": 40, "restarts": restarts}
    metrics = {"examples": 1000, "split": "test", "dataset": "mnist", "attack": attack}
    assert conditions(metrics) == (
        f"1,000 test images of mnist. Test attack: linf PGD, epsilon 0.3, 40 steps of 0.01{told}. No stronger attacks."
    )
    assert naming.title(metrics) == f"mnist, 1,000 test images, linf PGD-40{told}, epsilon 0.3"
    experiment = Experiment.of("mnist", "trades", eval_restarts=restarts)
    assert naming.describe_validation(experiment, 50) == (
        f"50 validation images, linf PGD-40{told}, epsilon 0.3, alpha_test 1"
    )


HISTORY = {
    "loss": [2.0, 1.0, 0.5, 0.4],
    "accuracy": [0.2, 0.5, 0.6, 0.65],
    "val_A_nat": [NAN, 0.9, NAN, 0.95],
    "val_A_rob": [NAN, 0.5, NAN, 0.6],
    "val_A_sa": [NAN, 0.3, NAN, 0.4],
    "val_A_tr": [NAN, 0.25, NAN, 0.35],
    "learning_rate": [0.1, 0.1, 0.01, 0.01],
}


@pytest.mark.parametrize(
    ("error", "shown"),
    [
        (0.0001, "92.35 ± 0.01"),
        (0.001, "92.35 ± 0.10"),
        (0.0084, "92.3 ± 0.8"),
        (0.0179, "92.3 ± 1.8"),
        (0.0181, "92 ± 2"),
        (0.12, "92 ± 12"),
        (0.0, "92 ± 0"),
        (None, "92.35"),
    ],
)
def test_an_accuracy_has_the_decimals_that_its_error_allows(error, shown):
    known = {} if error is None else {"A_rob_stderr": error}
    metrics = {"A_rob": 0.92346, **known, "non_uniform": [{"alpha_test": 1.0}]}
    assert report.comparison_table([("PGD", metrics)])[1][0][4] == shown


def test_differences_have_the_decimals_of_their_interval_whose_ends_hide_no_0():
    def row(value, low, high, **more):
        return report.difference_table(
            [{"label": "a", "accuracy": "A_rob", "value": value, "low": low, "high": high, **more}]
        )[1][0]

    assert row(0.07, -0.001, 0.14)[2:] == ["+7", "-1 to +14", "-"]
    assert row(-0.0123, -0.0219, -0.0041, p_value=0.0004)[2:] == ["-1.2", "-2.2 to -0.4", "< 0.001"]
    assert row(-0.0001, -0.029, 0.029, p_value=1.0)[2:] == ["+0.0", "-2.9 to +2.9", "1.000"]
    assert row(0.0, 0.0, 0.0)[2:] == ["+0", "+0 to +0", "-"]
    assert row(0.4, 0.3, 0.5)[2:] == ["+40", "+30 to +50", "-"]


def test_the_legend_says_what_the_errors_of_seeds_are():
    of_seeds = [("TRADES, 3 seeds", {**TRADES, "seeds": 3}), RESULTS[1]]
    assert report.tables(of_seeds).split("\n\n")[1] == report.SEEDS


def test_warnings_name_their_defences_unless_they_are_of_all():
    def warned(*messages):
        return {"non_uniform": [], "flags": [{"message": message} for message in messages]}

    results = [
        ("a MASKED", warned("weak.", "masked.", "weak.")),
        ("b", warned("weak.")),
        ("c", warned("weak.", "masked.")),
    ]
    assert report.tables(results).split("\n\n")[1:] == ["Warning: weak.", "Warning: a, c: masked."]
    assert report.tables(results[:1]).split("\n\n")[1:] == ["Warning: weak.", "Warning: masked."]


def test_the_attacks_of_suites_are_columns_in_the_order_in_which_they_were_made():
    def attacked(version, **after):
        suite = {"version": version, "examples": 300, "clean_accuracy": 0.99, "accuracy_after": after}
        return {"non_uniform": [], "suite": suite}

    results = [("a", attacked("x", first=0.9, second=0.8)), ("b", {"non_uniform": []}), ("c", attacked("y", third=0.5))]
    header, rows = report.suite_table(results)
    assert header == ["Defense", "suite", "images", "clean (%)", "first (%)", "second (%)", "third (%)"]
    assert rows == [["a", "x", "300", "99.0", "90.0", "80", "-"], ["c", "y", "300", "99.0", "-", "-", "50"]]
    assert report.tables(results).split("\n\n")[1:] == [report.SUITES, report.format_table(header, rows)]


def test_training_picture_joins_the_evaluated_epochs(tmp_path):
    figure = report.plot_training(HISTORY, tmp_path / "training.png", title="digits")
    accuracy, loss = figure.axes
    lines = {line.get_label().partition(":")[0]: line.get_xydata().tolist() for line in accuracy.lines}
    assert lines == {
        r"$A_\mathrm{nat}$": [[2, 0.9], [4, 0.95]],
        r"$A_\mathrm{rob}$": [[2, 0.5], [4, 0.6]],
        r"$A_\mathrm{sa}$": [[2, 0.3], [4, 0.4]],
        r"$A_\mathrm{tr}$": [[2, 0.25], [4, 0.35]],
        "training images, as the update saw them": [[1, 0.2], [2, 0.5], [3, 0.6], [4, 0.65]],
    }
    assert loss.lines[0].get_xydata().tolist() == [[1, 2.0], [2, 1.0], [3, 0.5], [4, 0.4]]
    assert accuracy.get_title() == "digits"


def test_training_picture_marks_where_the_learning_rate_was_cut(tmp_path):
    figure = report.plot_training(HISTORY, tmp_path / "training.png")
    for axes in figure.axes:
        (uprights,) = axes.collections
        assert [segment[0][0] for segment in uprights.get_segments()] == [2.5]
    steady = {**HISTORY, "learning_rate": [0.1] * 4}
    assert all(not axes.collections for axes in report.plot_training(steady, tmp_path / "training.png").axes)


def test_training_picture_leaves_out_what_was_never_evaluated(tmp_path):
    never = {**HISTORY, "val_A_tr": [NAN] * 4}
    (legend,) = report.plot_training(never, tmp_path / "training.png").legends
    assert [text.get_text().partition(":")[0] for text in legend.get_texts()] == [
        r"$A_\mathrm{nat}$",
        r"$A_\mathrm{rob}$",
        r"$A_\mathrm{sa}$",
        "training images, as the update saw them",
        "learning rate cut",
    ]


def test_alpha_picture_starts_at_a_rob_and_goes_by_alpha(tmp_path):
    figure = report.plot_alpha(RESULTS, tmp_path / "alpha.png")
    (axes,) = figure.axes
    lines = trades_sa, trades_tr, weights_sa, weights_tr = [container.lines[0] for container in axes.containers]
    assert trades_sa.get_ydata().tolist() == [0.9559, 0.80, 0.5215]
    assert trades_tr.get_ydata().tolist() == [0.9559, 0.79, 0.5152]
    assert weights_sa.get_ydata().tolist() == [0.95, 0.85, 0.66714]
    assert [line.get_linestyle() for line in lines] == ["-", "--", "-", "--"]
    assert trades_sa.get_color() == trades_tr.get_color() != weights_sa.get_color() == weights_tr.get_color()
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()][:2] == ["TRADES", "TRADES+weights"]
    assert legend.get_title().get_text().startswith("Bars: one standard error over the images")
    assert axes.get_xticks().tolist() == [0, 1, 1.5]


@pytest.mark.parametrize("models", [1, 2, 7])
def test_bars_of_the_alpha_picture_stand_side_by_side(models, tmp_path):
    (axes,) = report.plot_alpha(models * RESULTS[:1], tmp_path / "alpha.png").axes
    places = np.array([container.lines[0].get_xdata() for container in axes.containers], float)
    assert places.shape == (2 * models, 3)
    assert (np.diff(places, axis=0) > 0.01).all()  # no bar hides another
    assert (np.abs(places - [0, 1, 1.5]) < 0.25).all()  # and each is nearest to its own alpha
    np.testing.assert_allclose(places.mean(axis=0), [0, 1, 1.5], atol=1e-9)


def test_the_two_samplings_are_told_apart_in_words(tmp_path):
    (legend,) = report.plot_alpha(RESULTS, tmp_path / "alpha.png").legends
    said = [text.get_text().partition(": ")[2] for text in legend.get_texts()][2:]
    assert said == ["plain attack, fragile images picked more often", "the same, and the attack is weighted too"]


def test_the_search_picture_has_no_key_of_what_was_not_measured(tmp_path):
    trial = {"x": 1.0, "objective": 0.5, "A_nat": 0.9, "A_rob": 0.8, "A_sa": 0.7, "A_tr": 0.6}
    for strong, count in ((None, 4), (0.75, 5)):
        figure = report.plot_search([{**trial, "A_strong": strong}], tmp_path / "it.png", x="x", objective="A_sa")
        assert len(figure.legends[0].get_texts()) == count


def test_alpha_picture_has_bars_of_one_standard_error(tmp_path):
    (axes,) = report.plot_alpha([("TRADES", TRADES)], tmp_path / "alpha.png").axes
    (bars,) = axes.containers[0].lines[2]
    ends = np.array([segment[:, 1] for segment in bars.get_segments()])
    np.testing.assert_allclose(ends, [[0.9359, 0.9759], [0.792, 0.808], [0.5135, 0.5295]])


def test_alpha_picture_of_quoted_rows_without_errors(tmp_path):
    quoted = {"A_rob": 0.4929, "non_uniform": [{"alpha_test": 1.5, "A_sa": 0.1733, "A_tr": 0.151}]}
    (axes,) = report.plot_alpha([("PGD", quoted)], tmp_path / "alpha.png").axes
    assert axes.containers[1].lines[0].get_ydata().tolist() == [0.4929, 0.151]


@pytest.mark.parametrize(("plot", "values"), [(report.plot_training, HISTORY), (report.plot_alpha, RESULTS)])
def test_pictures_are_in_colour_and_the_same_each_time(plot, values, tmp_path):
    first, second = tmp_path / "first.png", tmp_path / "second.png"
    figure = plot(values, first, title="On digits")
    plot(values, second, title="On digits")
    for one, other in zip(picture_files(first), picture_files(second), strict=True):
        assert one.read_bytes() == other.read_bytes()
        assert not re.search(rb"CreationDate|Producer|20\d\d-\d\d-\d\d", one.read_bytes())
    pdf, svg = picture_files(first)[1].read_bytes(), picture_files(first)[2].read_text()
    assert pdf.startswith(b"%PDF") and b"/CIDFontType2" in pdf and b"/Type3" not in pdf  # TrueType: text can be edited
    assert ">On digits</text>" in svg  # text, not its outline
    pixels = matplotlib.image.imread(first)[..., :3]
    assert pixels.shape[:2] == tuple(int(150 * inches) for inches in figure.get_size_inches()[::-1])
    for colour in ("#0072B2", "#D55E00"):
        assert (np.abs(pixels - matplotlib.colors.to_rgb(colour)).max(axis=-1) < 0.01).sum() > 500


def test_a_weak_attack_is_said_once_below_the_table():
    message = "attack: its steps reach 0.01 in all and epsilon is 0.3."
    flagged = {**TRADES, "flags": [{"name": "attack_cannot_reach", "message": message}]}
    for markdown in (False, True):
        lines = report.tables([("TRADES", flagged), ("TRADES again", flagged)], markdown=markdown).splitlines()
        assert lines.count(f"Warning: {message}") == 1
    sound = {**TRADES, "flags": []}
    assert report.tables([("TRADES", sound)]) == report.tables([("TRADES", TRADES)])
    assert "Warning" not in report.tables([("TRADES", sound)])


def test_who_is_masked_is_the_first_line():
    masked = {**TRADES, "A_strong": 0.067, "masked": True}
    first, *_ = report.tables([("TRADES", TRADES), ("TRADES+weights MASKED", masked)]).splitlines()
    assert first == "MASKED: TRADES+weights"
    assert not report.tables([("TRADES", {**masked, "masked": False})]).startswith("MASKED")
    assert report.comparison_table([("TRADES", masked)])[1][0][5] == "6.70"
