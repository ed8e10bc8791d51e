"""The report of results in hand: it says what was attacked and how, and compares like with like only."""

import dataclasses

import numpy as np
import pytest

from tests.test_choosers import EPSILON, IMAGES, evaluated, problem
from tests.test_html import Page
from wmr_tf.attacks import PGD
from wmr_tf.checks import InvalidInput
from wmr_tf.evaluation import Robustness, save_report
from wmr_tf.evaluation.diagnostics import Check, Diagnosis
from wmr_tf.evaluation.records import pictures

pytestmark = pytest.mark.filterwarnings("ignore:attack. its steps reach")

RAISED = Check("restarts", 0.2, 0.1, "restarts: they find more. Make more steps.")
PASSED = Check("epsilon_0", 0.0, 0.1, "epsilon_0: it moves.")
DIAGNOSIS = Diagnosis((PASSED, RAISED), {"examples": 4, "norm": "linf", "epsilon": EPSILON, "seed": 0})


def read(path):
    return Page(path.read_text(encoding="utf-8"))


def test_a_report_says_what_was_attacked_how_and_by_whom_it_is_doubted(tmp_path):
    result = evaluated()
    facts = {"dataset": "my images", "split": "test"}
    save_report({"mine": result}, tmp_path / "report.html", diagnoses={"mine": DIAGNOSIS}, facts=facts)
    page = read(tmp_path / "report.html")
    broken = round(100 * (1 - result.A_strong.value))
    assert f"Of 100 images, at least {broken} (95 % interval" in page.text
    assert f"change each pixel value by up to {EPSILON:g} of the range from 0 to 1" in page.text
    assert f"{IMAGES} test images of my images. Test attack: linf PGD, epsilon 0.04, 10 steps of 0.01." in page.text
    assert "Restarts: they find more." in page.text and "epsilon_0" not in page.text
    (settings,) = [dict(rows) for caption, rows in page.tables.items() if caption.startswith("Settings")]
    expected = {"attack.seed": "0", "attack.precision": "float32", "suite.version": "strong", "dataset": "my images"}
    assert expected.items() <= settings.items() and "date" in settings
    assert settings["hashes.weights"] == result.hashes["weights"]
    assert sum(caption.startswith("Worst cases") for caption in page.tables) == 1
    assert len([tag for tag, _ in page.tags if tag == "img"]) == 3 * len(pictures(result))


def test_a_data_set_without_a_name_is_not_spoken_of(tmp_path):
    save_report({"mine": evaluated()}, tmp_path / "report.html")
    assert f" {IMAGES} images. Test attack" in read(tmp_path / "report.html").text


def test_the_report_of_two_has_a_column_for_each_and_says_who_is_masked(tmp_path):
    result = evaluated()
    hides = dataclasses.replace(result, margins=np.ones(IMAGES))
    assert hides.is_masked and not result.is_masked
    save_report({"one": result, "other": hides}, tmp_path / "report.html")
    header, *_ = read(tmp_path / "report.html").tables["Accuracies in percent, with 95 % intervals"]
    assert header == ["Figure", "one", "other MASKED"]


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"hashes": {"weights": "a", "data": "b"}}, "set of images"),
        ({"attack": PGD(epsilon=0.1, step_size=0.01, steps=10)}, "test attack"),
        ({"settings": {"seed": 1, "precision": "float32"}}, "test attack"),
        ({"suite": None}, "suite"),
    ],
)
def test_what_was_not_attacked_alike_is_not_put_side_by_side(tmp_path, change, what):
    other = dataclasses.replace(evaluated(), **change)
    message = f"^results: got 'b' with another {what}, expected the {what} of 'a'"
    with pytest.raises(InvalidInput, match=message):
        save_report({"a": evaluated(), "b": other}, tmp_path / "report.html")
    assert not list(tmp_path.iterdir())


def test_nothing_to_report_and_a_diagnosis_of_nobody_are_refused(tmp_path):
    with pytest.raises(InvalidInput, match=r"^results: got none"):
        save_report({}, tmp_path / "report.html")
    with pytest.raises(InvalidInput, match=r"^diagnosis: got 'mine', expected one of a"):
        save_report({"a": evaluated()}, tmp_path / "report.html", diagnoses={"mine": DIAGNOSIS})
    assert not list(tmp_path.iterdir())


def test_what_is_no_image_is_not_shown_and_a_report_needs_no_alpha(tmp_path):
    result = evaluated()
    flat = dataclasses.replace(result.suite.outcomes, clean=problem().clean)
    assert pictures(dataclasses.replace(result, suite=dataclasses.replace(result.suite, outcomes=flat))) == []
    plain = Robustness(result.clean_margins, result.margins, {}, result.losses)
    save_report({"mine": plain}, tmp_path / "report.html")
    page = read(tmp_path / "report.html")
    assert "img" not in {tag for tag, _ in page.tags} and "Only one attack was tried" in page.text
    assert not [caption for caption in page.tables if caption.startswith("Worst cases")]
