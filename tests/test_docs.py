"""The code of the pages in docs/ runs word for word, and prints what they say that it prints."""

import functools
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import keras
import pytest
import tensorflow as tf
from tensorflow.python.eager.polymorphic_function import polymorphic_function

import wmr_tf
from docs.extensions.public import flags_of
from tests.test_html import Page
from trainers.command import modules
from wmr_tf.evaluation.versions import VERSIONS

DOCS = Path(__file__).resolve().parents[1] / "docs"
EXPLANATIONS = sorted(path.relative_to(DOCS).as_posix() for path in (DOCS / "explanation").glob("*.md"))
WITH_CODE = [page for page in EXPLANATIONS if "```python" in (DOCS / page).read_text(encoding="utf-8")]
BLOCKS = re.compile(r"^```(\w*)\n(.*?)^```$", flags=re.DOTALL | re.MULTILINE)
NUMBER = re.compile(r"[+-]?\d+(?:\.\d+)?(?:e-\d+)?")
FIGURE = re.compile(r"(?<![\w.])\d+(?:,\d{3})*(?:\.\d+)?")
WITH_ERROR = re.compile(rf"{FIGURE.pattern} ± \d+(?:\.\d+)?")
NO_FIGURES = re.compile(r"^```.*?^```$|`[^`]*`|\$\$.*?\$\$|\$[^$]*\$", flags=re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\]\(([^)]*)\)")


WITH_COMMANDS = sorted([*DOCS.rglob("*.md"), *DOCS.glob("guides/*.py"), *DOCS.parent.glob("*.md")])
COMMAND = re.compile(r"\b(?:wmr|python -m) ([a-z_][\w.]*)( [a-z]\w*)?((?: \\?\s*[^\s`|>#]+)*)")


def unknown_flags(text: str) -> list[str]:
    """Return the flags in the commands of a text that these do not have."""
    known = modules()
    wrong = []
    for first, second, rest in COMMAND.findall(text):
        module = known.get(f"train{second}" if first == "train" else first, first)
        flags = {name for flag in flags_of(module) for name in flag.names} if module in known.values() else set()
        if flags:  # of `resume` they are those of the run
            given = re.findall(r"--(\w+)", f"{second}{rest}")
            flags |= {"help", "helpfull"}
            wrong += [f"{module} --{name}" for name in given if not {name, name.removeprefix("no")} & flags]
    return wrong


@pytest.mark.parametrize("page", WITH_COMMANDS, ids=lambda path: path.relative_to(DOCS.parent).as_posix())
def test_commands_on_pages_have_the_flags_that_are_written(page):
    assert unknown_flags(page.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("wmr evaluate --model=a.keras --epsilon=1", ["trainers.evaluate --epsilon"]),
        ("`wmr train mnist --alpha_train=1 \\\n    --nope`", ["trainers.mnist --nope"]),
        ("python -m trainers.compare runs/a --nomarkdown | head --lines=3", []),
        ("wmr compare runs/a runs/b --output=x.png and --this", []),
    ],
)
def test_the_check_of_flags_tells_them_apart(text, wrong):
    assert unknown_flags(text) == wrong


def code_and_output(page: str) -> Iterator[tuple[str, str]]:
    """Yield each block of Python of a page, and the block without a language that follows it, if there is one."""
    blocks = BLOCKS.findall((DOCS / page).read_text(encoding="utf-8"))
    for (language, code), (following, output) in zip(blocks, [*blocks[1:], ("end", "")], strict=True):
        if language == "python":
            yield code, "" if following else output


def shape_of(output: str) -> list[str]:
    """Return what is printed without its numbers, and without what depends on them or on the version of the suite."""
    lines = [line for line in output.splitlines() if not line.startswith(("Warning", "after "))]
    return [" ".join(NUMBER.sub("#", line).split()) for line in lines]


def a_strong(output: str) -> float:
    return float(re.search(r"A_strong ([\d.]+)", output)[1]) / 100


def figures_of(text: str) -> set[str]:
    """Return the numbers of a text without signs, alone and with errors; none of a word or of a link's address."""
    text = " ".join(LINK.sub("]", text).split())
    return {figure.replace(",", "") for figure in FIGURE.findall(text) + WITH_ERROR.findall(text)}


def cited(page: str) -> Iterator[tuple[str, list[Path]]]:
    """Yield each paragraph or row of a table that links to results, without code and formulas, and these files.

    What is said with a link before a colon holds for the table below it.
    """
    text = re.sub(r":\n\n\|", ":\n|", NO_FIGURES.sub(" ", (DOCS / page).read_text(encoding="utf-8")))
    for paragraph in text.split("\n\n"):
        head = paragraph.split("\n|")[0]
        parts = [paragraph] if "results/" in head and not head.startswith("|") else paragraph.splitlines()
        for part in parts:
            links = [(DOCS / page).parent / link for link in LINK.findall(part) if "results/" in link]
            if links:
                yield part, links


@pytest.mark.parametrize("page", WITH_CODE)
def test_a_page_of_explanation_prints_what_it_says(page, capsys):
    names: dict = {}
    for code, output in code_and_output(page):
        exec(compile(code, page, "exec"), names)
        assert capsys.readouterr().out == output


@pytest.mark.parametrize("page", EXPLANATIONS)
def test_a_page_of_explanation_links_to_files_and_names_what_is_there(page):
    text = (DOCS / page).read_text(encoding="utf-8")
    for link in LINK.findall(text):
        if not link.startswith("http"):
            assert ((DOCS / page).parent / link.split("#")[0]).is_file() or link.startswith("#"), link
    for name in re.findall(r"`wmr_tf\.([\w.]+)", text):
        functools.reduce(getattr, name.split("."), wmr_tf)


@pytest.mark.parametrize("page", EXPLANATIONS)
def test_the_figures_of_a_page_are_those_of_the_results_that_it_links_to(page):
    for part, links in cited(page):
        found = set().union(*(figures_of(path.read_text(encoding="utf-8")) for path in links))
        assert figures_of(part) <= found, part


def test_the_costs_of_methods_are_those_that_were_measured():
    def rows(path, cells):
        lines = [line.split("|") for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("|")]
        return {line[1].strip(" `"): line[cells].split()[0] for line in lines if NUMBER.match(line[cells].strip())}

    measured = rows(DOCS.parent / "results/costs.md", 5)
    shown = rows(DOCS / "explanation/methods.md", 3)
    assert len(shown) == 10 and float(shown.pop("pgd")) == float(measured["pgd, 10 steps"]) == 1
    names = {"free": "free, 8 replays", "yopo": "yopo-5-3"}
    for name, cost in shown.items():
        assert cost == measured.get(names.get(name, name), measured.get(f"{name}, 10 steps")), name


def test_the_figures_of_the_explanation_are_looked_at():
    assert sum(len(figures_of(part)) for page in EXPLANATIONS for part, _ in cited(page)) > 100


@pytest.mark.slow
def test_who_follows_the_page_on_ones_own_classifier_gets_its_figures_and_reports(
    tmp_path, monkeypatch, capsys, caplog
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(VERSIONS, "standard", VERSIONS["short"])  # it makes thousands of passes
    monkeypatch.setattr(tf.get_logger(), "propagate", True)
    # TensorFlow warns of many tracings of one function, and counts those of the tests before this one, in this process.
    counters = polymorphic_function._frequent_tracing_detector_manager
    monkeypatch.setattr(polymorphic_function, "_frequent_tracing_detector_manager", type(counters)())
    page = list(code_and_output("how-robust-is-my-classifier.md"))
    names: dict = {}
    for code, output in page:
        exec(compile(code, "how-robust-is-my-classifier.md", "exec"), names)
        assert shape_of(capsys.readouterr().out) == shape_of(output)
    assert not caplog.records
    said = next(output for _, output in page if "A_strong" in output)
    # Another processor rounds differently, and the page's suite is the standard one.
    assert names["result"].A_strong.value == pytest.approx(a_strong(said), abs=0.05)
    assert names["found"].difference.low > 0.1 and names["found"].p_value < 1e-3
    report, comparison = (
        Page((tmp_path / name).read_text(encoding="utf-8")) for name in ("report.html", "comparison.html")
    )
    assert "599 test images of scikit-learn's digits. Test attack: linf PGD, epsilon 0.1, 20 steps" in report.text
    assert comparison.tables["Accuracies in percent, with 95 % intervals"][0] == ["Figure", "my classifier", "hardened"]
    assert keras.models.load_model("logits.keras").layers[-1].activation is keras.activations.linear


@pytest.mark.slow
def test_who_follows_the_page_on_ones_own_data_trains_and_evaluates(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    text = (DOCS / "your-own-data.md").read_text(encoding="utf-8")
    for language, code in BLOCKS.findall(text):
        if language == "python":
            exec(compile(code, "your-own-data.md", "exec"), names)
        if language == "sh":
            words = shlex.split(code.replace("\\\n", " "))[1:]
            environment = {**os.environ, "PYTHONPATH": str(DOCS.parent)}
            command = [sys.executable, "-m", "trainers", *words]
            subprocess.run(command, env=environment, check=True, capture_output=True)
    (_, code), (_, output) = BLOCKS.findall(text)[-2:]
    assert capsys.readouterr().out == output and "source.num_classes" in code
    metrics = json.loads((tmp_path / "runs/mine/metrics.json").read_text())
    assert metrics["examples"] == 359 and "359 test images" in text
    said = [float(re.search(rf"{name} of ([\d.]+) %", text)[1]) for name in ("A_nat", "A_rob", "A_strong")]
    found = [100 * metrics[name] for name in ("A_nat", "A_rob", "A_strong")]
    assert found == pytest.approx(said, abs=6)  # another processor rounds differently
    evaluations, trainings = (list((tmp_path / "runs").glob(f"{name}-*")) for name in ("evaluation-photos", "photos"))
    assert len(evaluations) == len(trainings) == 1
