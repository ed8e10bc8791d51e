"""From evaluations through a comparison to the page that a browser shows: its numbers are those of metrics.json."""

import dataclasses
import json

import keras
import pytest
from keras import layers

from tests.test_config import run_main
from trainers.compare import Comparison
from trainers.comparison import comparing
from trainers.runs import evaluating
from trainers.settings.config import Experiment, ModelEvaluation
from wmr_tf import data

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:attack. its steps reach")]

RUNS = {"natural-0": ("natural", 0), "natural-1": ("natural", 1), "pgd-0": ("pgd", 0)}


def evaluated(folder, method, seed):
    """Train a linear model on the digits, evaluate it as of a run, and return its metrics."""
    keras.utils.set_random_seed(seed)
    classifier = keras.Sequential([keras.Input([8, 8, 1]), layers.Flatten(), layers.Dense(10)])
    classifier.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    classifier.fit(
        data.load("digits", seed=seed).train, epochs=20 if method == "natural" else 5, shuffle=False, verbose=0
    )
    of_run = folder.with_name(f"run-{folder.name}")
    of_run.mkdir()
    classifier.save(of_run / "best.keras")
    config = dataclasses.asdict(Experiment.of("digits", method, alpha_train=0.0, seed=seed))
    (of_run / "config.json").write_text(json.dumps(config))
    settings = ["--dataset=digits", "--eval_examples=200", "--alpha_test=2", "--eval_epsilon=0.05", f"--seed={seed}"]
    settings += ["--eval_attack_steps=3", "--eval_attack_step_size=0.05", f"--output_dir={folder}"]
    run_main(evaluating.evaluate, ModelEvaluation, f"--model={of_run / 'best.keras'}", *settings)
    return json.loads((folder / "metrics.json").read_text())


def test_the_page_of_a_comparison_shows_the_numbers_of_the_metrics(tmp_path, monkeypatch, capsys, browser):
    monkeypatch.chdir(tmp_path)
    metrics = {name: evaluated(tmp_path / name, *run) for name, run in RUNS.items()}
    capsys.readouterr()
    comparing.compare(Comparison(runs=tuple(RUNS), output="all.png"))
    printed = capsys.readouterr().out
    assert "natural, 2 seeds" in printed and "No differences between PGD and natural, 2 seeds" in printed
    browser.get((tmp_path / "all.html").as_uri())
    table = browser.find_element("css selector", "#accuracies table")
    cells_of = "return [...arguments[0].rows].map(row => [...row.cells].map(cell => cell.innerText))"
    header, *rows = browser.execute_script(cells_of, table)
    labels = ["natural, 2 seeds, seed 0", "natural, 2 seeds, seed 1", "PGD"]
    assert [name.removesuffix(" MASKED") for name in header[1:]] == labels
    figures = {row[0].partition(":")[0]: [cell.split("[")[0] for cell in row[1:]] for row in rows}
    assert list(figures) == ["A_nat", "A_rob", "A_strong", "A_sa(2)", "A_tr(2)"]
    for name, cells in figures.items():
        for cell, found in zip(cells, metrics.values(), strict=True):
            value = found[name] if name in found else found["non_uniform"][0][name.removesuffix("(2)")]
            decimals = len(cell.strip().partition(".")[2])
            assert float(cell) == pytest.approx(100 * value, abs=0.51 * 10**-decimals)
    assert len(browser.find_elements("css selector", ".tile")) == 3 * 12
    assert browser.get_log("browser") == []
