"""A table beside the paper's figures: its cells, its page and its picture."""

import pytest

from reproduce import picture, rendering, rows
from reproduce.rows import Model, Row
from tests.test_reproducing import DIGITS, PGD, UNIFORM, metrics_of, settings


@pytest.fixture(autouse=True)
def _tables(monkeypatch):
    monkeypatch.setitem(rows.TABLES, 9, DIGITS)


def result(seed, share, masked=False, suite=0.5):
    metrics = metrics_of(seed, share, masked)
    return {
        "seed": seed, "metrics": metrics, "settings": {"train_examples": 1078},
        "suite": {"version": "quick", "examples": 400, "accuracy": suite},
        "architecture": "digits_cnn", "precision": "float32", "epochs": 3, "passes": 2_500_000, "seconds": 90.0,
        "minutes_by_calculation": 1.25, "date": "2026-11-29", "processor": "Made up", "cores": 2, "commit": "abc1234",
        "commands": ["python -m trainers.digits"],
    }  # fmt: skip


def test_the_table_by_hand():
    entries = [(DIGITS.rows[0], [result(0, 0.68), result(1, 0.72)]), (DIGITS.rows[1], [])]
    header, (pgd, trades) = rendering.comparison(entries)
    assert header[:5] == ["Defense", "alpha_train", "alpha_test", "A_nat here", "A_rob paper"]
    assert header[5:8] == ["A_rob here", "diff", "A_suite here"]
    # 0.68 and 0.72: mean 0.7, deviation 0.0283; A_sa is 0.1 below, A_tr 0.2.
    assert pgd == ["PGD", "-", "1.0", "70 ± 3", "70.00", "70 ± 3", "+0", "50 ± 0 of 400",
                   "50.00", "60 ± 3", "+10", "49.25", "50 ± 3", "+1", "2"]  # fmt: skip
    assert trades == ["TRADES+weights", "2.0", "1.0", "not yet run", "70.00", "not yet run", "-", "-",
                      "50.00", "not yet run", "-", "49.25", "not yet run", "-", "0"]  # fmt: skip
    header, (row,) = rendering.comparison([(UNIFORM.rows[0], [result(0, 0.61, masked=True)])])
    assert header == ["Defense", "1/lambda", "alpha_train", "A_nat paper", "A_nat here", "diff",
                      "A_rob paper", "A_rob here", "diff", "A_suite here", "seeds"]  # fmt: skip
    # The suite's standard error is sqrt(0.5 * 0.5 / 400) = 0.025; that of the metrics 0.02.
    assert row == ["TRADES MASKED", "3", "2.0", "90.00", "61 ± 2", "-29", "60.00", "61 ± 2", "+1", "50 ± 2 of 400", "1"]


def test_budgets_share_no_page():
    pages = [str(settings(budget=budget).page) for budget in ("quarter", "tenth")]
    assert pages == ["results/table9.md", "results/table9_tenth.md"]
    assert str(settings(budget="tenth", output="mine.md").page) == "mine.md"


def test_the_page_says_how_it_was_made_and_its_lines_are_short():
    entries = [(row, [result(0, 0.68)] if row.model == PGD else []) for row in DIGITS.rows]
    page = rendering.as_page(settings(seeds=(0, 1), budget="quarter"), entries)
    assert page.startswith(
        "# Table 9: the digits under non-uniform attacks, budget quarter\n\n`python -m reproduce.table9 "
    )
    # Of the rows and the seeds that are there, whatever this call ran.
    assert "--budget=quarter --seeds=0 --rows=pgd --eval_examples=100 --suite_examples=50`" in page.replace("\n", " ")
    whole = [(row, [result(seed, 0.68) for seed in (1, 2)]) for row in DIGITS.rows]
    shown = rendering.as_page(settings(budget="quarter"), whole).replace("\n", " ")
    assert "--budget=quarter --seeds=1,2 --eval_examples=100" in shown
    for told in (
        "15 minutes of training a model",
        "version quick",
        "trained on all 1,078 training images and evaluated on the first 100 test images; ",
        "the paper's name of +weights is +ours.",
        "Smaller logits alone raise",
        "Made up.",
        "(table9.png)",
    ):
        assert told in page.replace("\n", " ")
    shown = next(line for line in page.splitlines() if line.startswith("| pgd "))
    cells = [cell.strip() for cell in shown.strip("|").split("|")]
    assert cells == ["pgd", "digits_cnn", "float32", "3", "2.50", "1.2", "1.5", "0.0", "0"]
    assert all(len(line) <= 120 for line in page.splitlines() if not line.startswith("|"))
    nothing = rendering.as_page(settings(), [(row, []) for row in DIGITS.rows])
    assert "How they were made" not in nothing and nothing.count("not yet run") == 16


@pytest.mark.parametrize(("network", "minutes", "hours"), [
    ("small_cnn", 12.1, "9.2"),  # 242 million passes of the recipe, 5.3 million in 12.1 minutes
    ("small_cnn", None, "-"),
    ("resnet18", 12.1, "-"),
])  # fmt: skip
def test_the_papers_recipe_takes_as_long_for_each_pass(network, minutes, hours):
    seconds = None if minutes is None else 60 * minutes
    made = {**result(0, 0.68), "architecture": network, "passes": 5.3e6, "seconds": seconds}
    row = Row("TRADES+weights", Model("mnist", "trades", 2.0), {"A_rob": 95.20, "A_sa": 86.34, "A_tr": 85.94}, 1.0)
    page = rendering.as_page(settings(), [(row, [made])])
    cells = [cell.strip() for cell in next(line for line in page.splitlines() if "5.30" in line).strip("|").split("|")]
    assert cells[-2] == hours


def test_the_picture_has_the_paper_here_and_the_suite(tmp_path):
    entries = [(DIGITS.rows[0], [result(0, 0.68, suite=0.4)]), (DIGITS.rows[1], [])]
    figure = picture.draw(entries, tmp_path / "table.png", title="Made up")
    panels = figure.axes
    assert [axes.get_xlabel() for axes in panels] == [rf"$A_\mathrm{{{name}}}$ (%)" for name in ("rob", "sa", "tr")]
    drawn = [sorted(line.get_xdata()[0] for line in axes.lines if len(line.get_xdata()) == 1) for axes in panels]
    points = [{round(float(x), 2) for x in xs} for xs in drawn]
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend == ["paper", "here", "here, AutoAttack quick, first 400"]
    assert {70.0, 68.0, 40.0} <= points[0] and {50.0, 58.0} <= points[1] and {49.25, 48.0} <= points[2]
    assert [label.get_text() for label in panels[0].get_yticklabels()] == [
        r"PGD, $\alpha_\mathrm{test}$ 1", r"TRADES+weights, $\alpha_\mathrm{train}$ 2, $\alpha_\mathrm{test}$ 1",
    ]  # fmt: skip
    hidden = result(0, 0.68)
    hidden["metrics"]["masked"] = True
    masked = picture.draw([(DIGITS.rows[0], [hidden])], tmp_path / "masked.png", title="Made up")
    assert masked.axes[0].get_yticklabels()[0].get_text() == r"PGD MASKED, $\alpha_\mathrm{test}$ 1"
    figure.draw_without_rendering()
    told = figure.legends[0].get_title().get_text()
    assert told.startswith("Here: 100 test images, linf PGD-20, epsilon 0.15. Bars: one standard error over the images")
    frame = figure.bbox
    boxes = [axes.get_tightbbox() for axes in panels] + [figure.legends[0].get_window_extent()]
    assert all(frame.x0 < box.x0 and box.x1 < frame.x1 and frame.y0 < box.y0 and box.y1 < frame.y1 for box in boxes)
    assert not any(one.overlaps(other) for place, one in enumerate(boxes) for other in boxes[:place])
