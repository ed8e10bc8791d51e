"""What the studies share: a run is made once for its settings, and a study ends in one file."""

import dataclasses
import json
import os
import subprocess
import sys

import numpy as np
import pytest

from studies import (
    ablation,
    alphas,
    faults,
    judged,
    methods,
    paired,
    precision,
    rivals,
    runs,
    survival,
    weighting,
    weightings,
)
from studies.memory import STEPS_AN_EPOCH, Growth
from studies.planted import FAULTS
from studies.soak import Soak, soak
from studies.survival import Survival
from trainers.runs import run
from trainers.settings.config import Experiment
from wmr_tf import architectures
from wmr_tf.checks import InvalidInput
from wmr_tf.evaluation import evaluate_robustness
from wmr_tf.saving import save_classifier


def test_a_run_is_made_once_for_its_settings(tmp_path, monkeypatch):
    made = []

    def train(experiment):
        made.append(experiment)
        folder = tmp_path / "run"
        folder.mkdir()
        (folder / "config.json").write_text(json.dumps({**vars(experiment)}))
        (folder / "metrics.json").write_text(json.dumps({"A_rob": len(made) / 10}))
        (folder / run.BEST).touch()

    monkeypatch.setattr(run, "train", train)
    experiment = Experiment.of("digits", "pgd", seed=1)
    first = runs.trained(experiment, tmp_path / "run")
    assert first["A_rob"] == 0.1 and first["seconds"] >= 0
    assert runs.trained(experiment, tmp_path / "run") == first
    assert [each.output_dir for each in made] == [str(tmp_path / "run")]
    assert runs.trained(Experiment.of("digits", "pgd", seed=2), tmp_path / "run")["A_rob"] == 0.2


@pytest.fixture
def evaluated(monkeypatch):
    """Have the studies remember on how many images they evaluate."""
    numbers = []

    def remembered(*args, **kwargs):
        found = evaluate_robustness(*args, **{**kwargs, "suite": "short"})
        numbers.append(len(found.margins))
        return found

    for study in (methods, precision, weighting):
        monkeypatch.setattr(study, "evaluate_robustness", remembered)
    return numbers


def test_precision_is_judged_on_as_many_images_as_it_says(tmp_path, evaluated):
    study = precision.Precision(runs=str(tmp_path))
    made = precision.experiment("digits", "float32", 0, eval_examples=20)
    study.folder_of(made).mkdir()
    save_classifier(architectures.digits_cnn(), study.folder_of(made) / run.BEST)
    assert set(precision.attacked(study, made)) == {"float32", "bfloat16"}
    assert evaluated == [20, 20]


def test_recipes_are_judged_on_as_many_images_as_their_page_says(monkeypatch, evaluated):
    short = dataclasses.replace(weighting.CASES["digits"], schedule={"epochs": 1, "train_examples": 64})
    monkeypatch.setitem(weighting.CASES, "digits", short)
    page = weighting.recipes(weighting.Weights(methods=("n_fgsm",), alphas=(0.0,), seeds=1, eval_examples=20), "digits")
    assert evaluated == [20] and "| n_fgsm | " in page


@pytest.mark.slow
def test_methods_are_judged_on_as_many_images_as_their_page_says(tmp_path, tfds_dir, evaluated):
    study = methods.Methods(seconds=1e-9, eval_examples=20, data_dir=tfds_dir, runs=str(tmp_path))
    assert methods.on_mnist(study, "natural", 0.0)["epochs"] == methods.BATCH / 55_000
    assert evaluated == [20]


def test_publish_writes_and_prints_the_sections(tmp_path, capsys):
    runs.publish(["# Title", "text"], tmp_path / "new" / "file.md")
    assert (tmp_path / "new" / "file.md").read_text() == "# Title\n\ntext\n"
    assert capsys.readouterr().out == "# Title\n\ntext\n\n"


OF_SEEDS = [
    {"plain": {"A_nat": 0.9, "A_sa": 0.5}, "weighted": {"A_nat": 0.9 + noise, "A_sa": 0.6 + noise}}
    for noise in (-0.02, 0.0, 0.02)
]


def test_differences_are_taken_seed_by_seed():
    moved = [
        {name: {key: value + seed / 10 for key, value in of.items()} for name, of in one.items()}
        for seed, one in enumerate(OF_SEEDS)
    ]
    for measured in (OF_SEEDS, moved):  # what all models of a seed share does not count
        mean, error = paired.difference(measured, "weighted", "plain", "A_sa")
        np.testing.assert_allclose([mean, error], [0.1, 0.02 / np.sqrt(3)])
    table = paired.table(OF_SEEDS, "plain")
    assert "**+10.0 ± 1.2**" in table and "+0.0 ± 1.2" in table and "**+0.0" not in table
    assert "60.0 ± 2.0" in table


def test_few_seeds_ask_for_more_than_two_errors():
    assert paired.reach(0.01, 5) == pytest.approx(0.0277645, rel=1e-4)  # tables of Student's t
    assert paired.reach(0.01, 2) == pytest.approx(0.127062, rel=1e-4)
    gains = (0.09, 0.12, 0.03)  # 0.08 in the mean, with an error of 0.0265: 3.0 errors, where three seeds ask for 4.3
    measured = [{"plain": {"A_sa": 0.5}, "weighted": {"A_sa": 0.5 + gain}} for gain in gains]
    assert "+8.0 ± 2.6" in paired.table(measured, "plain") and "**" not in paired.table(measured, "plain")


def test_differences_are_drawn(tmp_path):
    paired.draw({"TRADES": OF_SEEDS}, "plain", ["A_sa"], tmp_path / "picture.png", title="Made up")
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")


def test_weights_of_logit_margins_do_not_see_confidence():
    logits = np.random.default_rng(0).standard_normal([20, 5]).astype(np.float32)
    labels = np.arange(20) % 5
    weights = [rivals.LogitBall(0.3)(scale * logits, labels).numpy() for scale in (0.5, 1.0, 8.0)]
    np.testing.assert_allclose(weights, [weights[1]] * 3, rtol=1e-3)
    assert weights[1].max() > 2


def test_a_constant_weight_knows_no_image():
    weights = rivals.Constant(0.35)(np.float32([[0, 9], [9, 0]]), np.int32([0, 0]))
    np.testing.assert_allclose(weights, [0.35, 0.35])


@pytest.mark.parametrize(
    ("study", "page"),
    [
        (weightings.Weightings(), "results/weightings.md"),
        (weightings.Weightings(dataset="mnist"), "results/weightings_mnist.md"),
        (alphas.Alphas(dataset="mnist"), "results/alphas_mnist.md"),
        (ablation.Ablation(dataset="tiny_imagenet"), "results/ablation_tiny_imagenet.md"),
        (alphas.Alphas(dataset="mnist", output="mine.md"), "mine.md"),
    ],
)
def test_no_data_set_takes_the_page_of_another(study, page):
    assert str(study.page) == page


def test_models_of_mnist_are_judged_on_fewer_images_unless_told_otherwise():
    of_digits, of_mnist = weightings.Weightings(), weightings.Weightings(dataset="mnist")
    assert (list(of_digits.all_seeds), of_digits.images) == ([0, 1, 2, 3, 4], None)
    assert (list(of_mnist.all_seeds), of_mnist.images) == ([0, 1], 2000)
    told = weightings.Weightings(dataset="mnist", seeds=3, eval_examples=50)
    assert (list(told.all_seeds), told.experiment("pgd", 0).eval_examples) == ([0, 1, 2], 50)


@pytest.mark.parametrize(("flag", "value"), [("alphas", (2.0, 1.0)), ("alphas", ()), ("seeds", 1), ("method", "mart")])
def test_a_study_of_alphas_refuses(flag, value):
    with pytest.raises(InvalidInput, match=flag):
        alphas.Alphas(**{flag: value})


@pytest.mark.slow
def test_both_studies_of_weights_share_their_models(tmp_path, monkeypatch):
    monkeypatch.setitem(judged.SHORT, "digits", judged.Short({"epochs": 1, "train_examples": 128}, seeds=2))
    shared = {"seeds": 2, "eval_examples": 400, "runs": str(tmp_path / "runs")}
    weightings.compare(
        weightings.Weightings(**shared, methods=("trades",), rows=("MAIL",), output=str(tmp_path / "weightings.md"))
    )
    made = {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").rglob("*.keras")}
    assert len(made) == 2 * 4  # unweighted, weights, MAIL, tuned
    alphas.compare(alphas.Alphas(**shared, alphas=(1.0, 2.0), output=str(tmp_path / "alphas.md")))
    now = {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").rglob("*.keras")}
    assert len(now) == len(made) + 2 * 2 and made.items() <= now.items()  # alpha 1 and its tuned one are new
    table = (tmp_path / "alphas.md").read_text()
    assert all(f"| {name} " in table for name in ("unweighted", "alpha 1", "tuned to alpha 2"))
    assert (tmp_path / "alphas.png").stat().st_size > 10_000


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.what)
def test_each_fault_has_its_place(fault, tmp_path):
    for name in fault.tests.split():
        assert (faults.ROOT / name).is_file()
    copy = tmp_path / fault.file
    copy.parent.mkdir(parents=True)
    copy.write_text((faults.ROOT / fault.file).read_text())
    faults.plant(fault, tmp_path)
    assert copy.read_text() != (faults.ROOT / fault.file).read_text()


def test_a_fault_without_its_place_is_an_error(tmp_path):
    (tmp_path / "file.py").write_text("x = 1\n")
    with pytest.raises(ValueError, match="has 0 places that read 'y = 1'"):
        faults.plant(FAULTS[0]._replace(file="file.py", old="y = 1"), tmp_path)


def test_a_soak_that_was_stopped_counts_as_nothing(tmp_path, monkeypatch):
    kept = tmp_path / "soak.json"
    record = {"seed": 0, "runs": [], "is_finished": False}
    monkeypatch.setattr(survival.subprocess, "run", lambda *_, **__: kept.write_text(json.dumps(record)))
    with pytest.raises(SystemExit, match="studies.soak .* has stopped before its end"):
        survival.count(survival.PARTS["soak"], kept)
    assert not survival.is_counted(kept)
    record["is_finished"] = True
    survival.count(survival.PARTS["soak"], kept)
    assert survival.is_counted(kept)


def test_the_first_failure_is_named(tmp_path):
    (tmp_path / "test_it.py").write_text("def test_a(): pass\ndef test_b(): assert 0\ndef test_c(): assert 0\n")
    assert faults.first_failure(tmp_path, "test_it.py") == "test_it.py::test_b"
    (tmp_path / "test_it.py").write_text("def test_a(): pass\n")
    assert faults.first_failure(tmp_path, "test_it.py") is None
    with pytest.raises(RuntimeError, match="pytest ended with 4"):
        faults.first_failure(tmp_path, "test_other.py")


@pytest.mark.parametrize(
    ("study", "flag", "value"),
    [
        (Soak, "kills", -1),
        (Soak, "methods", ()),
        (Soak, "methods", ("sgd",)),
        (Growth, "steps", STEPS_AN_EPOCH - 1),
        (Survival, "parts", ("everything",)),
        (faults.Faults, "processes", 0),
    ],
)
def test_studies_of_what_is_survived_and_noticed_refuse(study, flag, value):
    with pytest.raises(InvalidInput, match=f"^{flag}: got "):
        study(**{flag: value})


def test_a_soak_of_another_seed_is_not_gone_on_with(tmp_path):
    output = tmp_path / "soak.json"
    output.write_text('{"seed": 1, "runs": []}')
    with pytest.raises(InvalidInput, match="^seed: got 0, expected 1, that of .*soak.json"):
        soak(Soak(output=str(output)))


@pytest.mark.slow
def test_a_soak_finds_stops_within_the_training(tmp_path):
    flags = ["--kills=0", "--terms=1", "--runs=1", "--methods=natural", "--output=soak.json"]
    command = [sys.executable, "-m", "studies.soak", *flags]
    subprocess.run(command, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(faults.ROOT)}, timeout=500, check=True)
    made = json.loads((tmp_path / "soak.json").read_text())["runs"]
    assert sum(each.get("terminated", 0) for each in made) == sum(each.get("kept", 0) for each in made) > 0
    assert all(each["differing"] == [] for each in made)


def test_the_ablation_takes_out_what_the_recipe_has_and_puts_in_what_it_has_not():
    fast, plain = (Experiment.of("mnist", "trades", recipe=name) for name in ("fast", "paper"))
    found = ablation.rows(fast, plain)
    assert found["recipe fast"] == {}
    assert found["- averaging"] == {"averaging": None} and found["- warm_start"] == {"warm_start": 0}
    assert found["- one_cycle"] == {"schedule": "milestones"}
    assert found["cosine instead of one_cycle"] == {"schedule": "cosine"}
    assert found["- few steps"] == {"attack_steps": 40, "attack_step_size": 0.01}
    assert found["+ clip_norm"] == {"clip_norm": 1.0}
    assert found["+ twice the learning rate"] == {"learning_rate": 0.04}
    of_digits = ablation.rows(*(Experiment.of("digits", "trades", recipe=name) for name in ("fast", "paper")))
    assert "- few steps" not in of_digits and of_digits["+ warm_start"] == {"warm_start": 8}


def test_a_finished_row_of_the_ablation_is_not_trained_again(tmp_path, monkeypatch):
    study = ablation.Ablation(epochs=1, seeds=2, runs=str(tmp_path))
    experiment = study.experiment(train_examples=40, batch_size=20, validation_examples=20)
    found = ablation.measure(experiment, tmp_path / "row", tmp_path / "warm")
    assert 0 <= found["A_strong"] <= found["A_rob"] <= found["A_nat"] <= 1
    monkeypatch.setattr(ablation, "warm_up", None)  # not trained
    assert ablation.measure(experiment, tmp_path / "row", tmp_path / "warm") == found
    with pytest.raises(TypeError):
        ablation.measure(study.experiment(seed=1), tmp_path / "row", tmp_path / "warm")
