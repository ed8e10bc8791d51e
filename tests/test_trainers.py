"""The trainers as people run them: in a process of their own on a few images, and their mistakes mostly in this one."""

import concurrent.futures
import contextlib
import csv
import dataclasses
import datetime
import importlib.metadata
import json
import math
import os
import re
import shutil
import subprocess
import sys
import types
from pathlib import Path
from unittest.mock import ANY

import keras
import matplotlib.image
import numpy as np
import pytest
import tensorflow as tf

from tests.test_config import run_main
from trainers.compare import Comparison
from trainers.comparison import comparing, matching
from trainers.runs import classifiers, evaluating, naming, run
from trainers.runs.folder import is_finished, make_folder
from trainers.settings.config import Experiment, ModelEvaluation
from wmr_tf import data, report
from wmr_tf.callbacks import RobustEvaluation
from wmr_tf.checks import InvalidInput
from wmr_tf.evaluation import WeightedAccuracy, evaluate_robustness
from wmr_tf.evaluation.records import load_images
from wmr_tf.weights import Exponential

# Few steps on purpose: what is tested here needs no strong attack.
pytestmark = pytest.mark.filterwarnings("ignore:attack. its steps reach")

ROOT = Path(__file__).resolve().parents[1]
FEW = {
    "epochs": 2,
    "train_examples": 128,
    "validation_examples": 32,
    "eval_examples": 64,
    "attack_steps": 2,
    "eval_attack_steps": 2,
}
FEW_FLAGS = [f"--{name}={value}" for name, value in FEW.items()]
ALPHAS = ["1", "1p5"]
HISTORY = [
    "epoch",
    "accuracy",
    "learning_rate",
    "loss",
    "val_A_nat",
    "val_A_rob",
    "val_A_sa",
    "val_A_strong",
    "val_A_tr",
]
HISTORY += [f"val_A_sa_{alpha}" for alpha in ALPHAS] + ["val_A_tr_1"]  # one attack for A_tr in an epoch, the first


def start(module: str, *arguments: str, cwd: Path) -> subprocess.CompletedProcess:
    """Run `python -m module` in a process of its own."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", module, *arguments]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)


def read_history(folder: Path) -> list[dict[str, str]]:
    with open(folder / "history.csv", newline="") as file:
        return list(csv.DictReader(file))


def read_json(path: Path) -> dict:
    return json.loads(path.read_text())


def bytes_of(path: Path) -> list[bytes]:
    return [weight.tobytes() for weight in keras.models.load_model(path).get_weights()]


def snapshot(folder: Path) -> dict[str, tuple[int, int]]:
    """Return size and time of change of all that is in a folder."""
    return {str(path): (path.stat().st_size, path.stat().st_mtime_ns) for path in folder.rglob("*")}


DIGITS_FLAGS = [*FEW_FLAGS, "--seed=3", "--deterministic", "--alpha_test=1,1.5"]


@pytest.fixture(scope="module")
def digits(tmp_path_factory) -> tuple[Path, str]:
    """The folder of a run on the digits, and what the run printed."""
    place = tmp_path_factory.mktemp("digits")
    ended = start("trainers.digits", *DIGITS_FLAGS, "--output_dir=new/run", cwd=place)
    assert ended.returncode == 0, ended.stderr
    assert "Traceback" not in ended.stderr and "Warning" not in ended.stderr
    # One line for the attack that trains and one for the one that tests, here with too few steps; else nothing but that
    # stronger attacks find out.
    warned = [line for line in ended.stderr.splitlines() if line.startswith("warning: ")]
    masked = [line for line in warned if "a masked classifier" in line]
    assert masked[-1].startswith("warning: training ended with a masked classifier")
    others = {line.partition(" in all")[0] for line in warned if line not in masked}
    assert others == {f"warning: attack: its steps reach {reach}" for reach in (0.06, 0.03)}
    return place / "new/run", ended.stdout


def with_its_error(value: float, error: float) -> str:
    """Return both with the decimals of the error's first digit; below 0.95 that is one, as no error here is tiny."""
    decimals = 1 if error < 0.95 and error else 0
    return f"{value:.{decimals}f} ± {error:.{decimals}f}"


def test_a_run_says_where_it_writes_and_what_came_out(digits):
    folder, printed = digits
    lines = printed.splitlines()
    assert lines[:2] == [
        f"digits: trades, beta {Experiment.of('digits').beta:g}, alpha_train 2, digits_cnn, "
        f"{Experiment.of('digits').precision}, 2 epochs, seed 3",
        "Writing into new/run",
    ]
    assert lines[-4] == "Everything is in new/run; look at"
    assert [line.split()[0] for line in lines[-3:]] == ["report.html", "metrics.json", "best.keras"]
    assert all((folder / line.split()[0]).is_file() for line in lines[-3:])
    assert "MASKED: TRADES+weights (attack_steps 2)" in lines
    metrics = read_json(folder / "metrics.json")
    head = next(place for place, line in enumerate(lines) if line.startswith("Defense"))
    assert [re.split(r"\s{2,}", line) for line in lines[head + 2 : head + 4]] == [
        [
            "TRADES+weights (attack_steps 2) MASKED",
            "2.0",
            str(row["alpha_test"]),
            *(
                with_its_error(100 * values[name], 100 * values[f"{name}_stderr"])
                for name in ("A_nat", "A_rob", "A_strong", "A_sa", "A_tr")
                for values in (row if name in row else metrics,)
            ),
        ]
        for row in metrics["non_uniform"]
    ]
    head = lines.index("  epoch     loss  A_nat  A_rob  A_strong   A_sa   A_tr train s  eval s")
    for number, row in enumerate(read_history(folder), 1):
        accuracies = [
            f"{100 * float(row[f'val_{name}']):.2f}" for name in ("A_nat", "A_rob", "A_strong", "A_sa", "A_tr")
        ]
        cells = lines[head + number].removesuffix("  masked").split()
        assert cells[:-2] == [f"{number}/2", f"{float(row['loss']):.3g}", *accuracies]
        assert all(float(took) >= 0 for took in cells[-2:])
    assert "val_A_sa_1" not in printed  # what no one reads on a screen is in history.csv


def test_a_run_writes_its_settings(digits):
    config = read_json(digits[0] / "config.json")
    versions, command = config.pop("versions"), config.pop("command")
    experiment = Experiment.of("digits", seed=3, deterministic=True, alpha_test=(1.0, 1.5), output_dir="new/run", **FEW)
    assert config == json.loads(json.dumps(dataclasses.asdict(experiment)))
    for package in ("tensorflow", "keras", "numpy", "tensorflow-datasets"):
        assert versions[package] == importlib.metadata.version(package)
    assert versions["python"] == sys.version.split()[0]
    assert command.startswith("python -m trainers.digits") and command.endswith(
        " ".join([*DIGITS_FLAGS, "--output_dir=new/run"])
    )


def test_a_run_writes_its_history_logs_and_pictures(digits):
    folder, _ = digits
    expected = {"config.json", "history.csv", "metrics.json", "best.keras", "classifier.keras", "logs"}
    expected |= {"outcomes.npz", "outcomes-fab.npz", "images.npz", "report.html"}
    assert {path.name for path in folder.iterdir()} == expected | {
        f"{name}.{ending}" for name in ("training", "robustness") for ending in ("png", "pdf", "svg")
    }
    rows = read_history(folder)
    assert sorted(rows[0]) == sorted(HISTORY)
    assert [row["epoch"] for row in rows] == ["0", "1"]
    assert all(math.isfinite(float(value)) for row in rows for value in row.values())
    for split in ("train", "validation"):
        assert list((folder / "logs" / split).glob("events.out.tfevents.*"))
    for name in ("training.png", "robustness.png"):
        pixels = matplotlib.image.imread(folder / name)
        assert min(pixels.shape[:2]) > 400 and 0.01 < np.mean(pixels[..., :3].min(axis=-1) < 0.9) < 0.9, name


def test_metrics_have_the_keys_of_the_design_and_are_fractions(digits):
    metrics = read_json(digits[0] / "metrics.json")
    keys = "dataset split examples checkpoint method alpha_train beta seed precision attack A_nat A_nat_stderr A_rob"
    keys += " weighting norm epsilon attack_steps attack_step_size attack_start A_strong A_strong_stderr masked suite"
    keys += " zero_gradients A_nat_interval A_rob_interval A_strong_interval budget threat confidence hashes"
    keys += " command versions date recipe validation_images"
    assert set(metrics) == {*keys.split(), "A_rob_stderr", "non_uniform", "cvar", "flags"}
    flag = next(flag for flag in metrics["flags"] if flag["name"] == "attack_cannot_reach")
    assert flag == {"name": "attack_cannot_reach", "reach": 0.03, "epsilon": 0.15, "message": ANY}
    assert digits[1].splitlines().count(f"Warning: {flag['message']}") == 1
    expected = {"dataset": "digits", "split": "test", "examples": 64, "checkpoint": "best.keras", "method": "trades"}
    recipe = Experiment.of("digits")
    expected |= {"alpha_train": 2.0, "beta": recipe.beta, "seed": 3, "precision": recipe.precision}
    expected |= {"norm": "linf", "epsilon": 0.15, "attack_steps": 2, "attack_start": "gaussian"}
    attack = {"name": "PGD", "norm": "linf", "epsilon": 0.15, "step_size": 0.015, "steps": 2, "restarts": 1}
    assert metrics.items() >= expected.items()
    assert metrics["attack"] == {**attack, "start": "uniform", "seed": 3, "precision": "float32"}
    assert [row["alpha_test"] for row in metrics["non_uniform"]] == [1.0, 1.5]
    for row in metrics["non_uniform"]:
        of_both = [
            f"{name}{suffix}"
            for name in ("A_sa", "A_tr")
            for suffix in ("", "_stderr", "_effective_sample_size", "_interval")
        ]
        worst = {f"{name}{suffix}" for name in ("rho", "A_worst") for suffix in ("", "_stderr")}
        assert set(row) == {"alpha_test", *of_both, *worst}
        assert row["rho"] > 0 and 0 <= row["A_worst"] <= row["A_sa"]
        # The bounds in ARCHITECTURE.md.
        rob, fragile = metrics["A_rob"], math.exp(2 * row["alpha_test"])
        assert rob / (rob + (1 - rob) * fragile) <= row["A_sa"] <= rob
        assert 0 <= row["A_tr"] <= 1 and 1 <= row["A_tr_effective_sample_size"] <= 64
    assert 0 < metrics["A_rob"] <= metrics["A_nat"] < 1


def test_the_best_classifier_is_that_of_the_best_epoch(digits):
    folder, printed = digits
    by_epoch = [float(row["val_A_strong"]) for row in read_history(folder)]
    best = int(np.argmax(by_epoch))
    assert f"Evaluating epoch {best + 1} (best.keras) on test images" in printed
    attack = Experiment.of("digits", **FEW).test_attack()
    validation = data.load("digits", validation_examples=32).validation
    for name, epoch in (("best.keras", best), ("classifier.keras", -1)):
        classifier = keras.models.load_model(folder / name)
        result = evaluate_robustness(classifier, validation, attack, alpha_test=[1.0], seed=3, suite="short")
        assert result.A_strong.value == pytest.approx(by_epoch[epoch], abs=1e-6)


def test_evaluate_reproduces_the_metrics_of_the_run(digits, tmp_path):
    folder, _ = digits
    settings = ["--eval_examples=64", "--eval_attack_steps=2", "--seed=3", "--alpha_test=1,1.5"]
    model = str(folder / "best.keras")
    arguments = [f"--model={model}", "--dataset=digits", *settings, "--output_dir=evaluation"]
    ended = start("trainers.evaluate", *arguments, cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    again = read_json(tmp_path / "evaluation/metrics.json")
    before = read_json(folder / "metrics.json")
    del before["validation_images"]  # an evaluation has none
    losses = [{name: pytest.approx(value, rel=1e-5) for name, value in entry.items()} for entry in before["cvar"]]
    of_run = {"checkpoint": model, "cvar": losses, "command": ANY}
    assert again == {**before, **of_run}
    assert "trainers.evaluate" in again["command"]
    (hashes, of_images), (_, of_images_before) = (
        load_images(where / "images.npz") for where in (tmp_path / "evaluation", folder)
    )
    assert hashes == again["hashes"] and np.array_equal(of_images["radii"], of_images_before["radii"])
    more = ["--eval_wasserstein_p=2", "--eval_attack_precision=bfloat16", "--rho_test=0.1,9"]
    run_main(evaluating.evaluate, ModelEvaluation, *arguments[:-1], f"--output_dir={tmp_path / 'more'}", *more)
    more = read_json(tmp_path / "more/metrics.json")
    assert more["attack"] == {**again["attack"], "precision": "bfloat16"} and again["attack"]["precision"] == "float32"
    assert (
        more["wasserstein"]["p"] == 2.0 and 0 < more["wasserstein"]["mean_size"] <= 1.000001 * more["attack"]["epsilon"]
    )
    assert [(ball["rho"], ball["alpha_test"]) for ball in more["kl_balls"]] == [(0.1, ANY), (9.0, "inf")]
    assert "TRADES+weights" in ended.stdout and "\nEverything is in evaluation; look at\n" in ended.stdout
    assert [line.split()[0] for line in ended.stdout.splitlines()[-2:]] == ["report.html", "metrics.json"]
    assert (tmp_path / "evaluation/robustness.png").stat().st_size > 10_000


@pytest.mark.slow
def test_the_same_seed_gives_the_same_bytes(tmp_path):
    # Neither how often it is evaluated nor the attack that it is evaluated with may touch the training.
    for changed in ([], ["--eval_every=3", "--eval_attack_steps=1"]):
        (tmp_path / str(len(changed))).mkdir()
        ended = start("trainers.digits", *DIGITS_FLAGS, "--epochs=3", *changed, cwd=tmp_path / str(len(changed)))
        assert ended.returncode == 0, ended.stderr
    (first,), (second,) = ((tmp_path / name / "runs").iterdir() for name in "02")  # named by the run, as none is given
    assert re.fullmatch(r"digits-trades-alpha2-seed3-\d{8}-\d{6}", second.name)
    assert bytes_of(second / "classifier.keras") == bytes_of(first / "classifier.keras")
    rows = read_history(second)
    assert [row["loss"] for row in rows] == [row["loss"] for row in read_history(first)]
    skipped = [[name for name in row if math.isnan(float(row[name]))] for row in rows]
    assert skipped == [[], [name for name in rows[0] if name.startswith("val_")], []]


@pytest.mark.parametrize(("method", "precision"), [("pgd", "bfloat16"), ("natural", "float16")])
@pytest.mark.slow
def test_half_precision_trains_and_leaves_float32_classifiers(tmp_path, capsys, monkeypatch, method, precision):
    titles = []
    monkeypatch.setattr(report, "plot_training", lambda *_, title: titles.append(title))
    few = {name: value for name, value in FEW.items() if method == "pgd" or name != "attack_steps"}
    folder = run.train(Experiment.of("digits", method, precision=precision, output_dir=str(tmp_path / "run"), **few))
    assert keras.config.dtype_policy().name == f"mixed_{precision}"
    keras.config.set_dtype_policy("float32")
    assert float(read_history(folder)[-1]["loss"]) < 2.4  # ln 10 is the loss of a guess
    metrics = read_json(folder / "metrics.json")
    assert (metrics["method"], metrics["precision"], metrics["beta"]) == (method, precision, None)
    assert [title.startswith("MASKED: ") for title in titles] == [metrics["masked"]]
    for name in ("classifier.keras", "best.keras"):
        classifier = keras.models.load_model(folder / name)
        assert {layer.dtype_policy.name for layer in classifier.layers} == {"float32"}
    test = data.load("digits").test.unbatch().take(64).batch(64)
    attack = Experiment.of("digits", **FEW).test_attack()
    in_float32 = evaluate_robustness(classifier, test, attack, alpha_test=[1.0])
    assert metrics["non_uniform"][0]["A_tr"] == pytest.approx(in_float32.A_tr(1.0).value, abs=1e-6)
    assert {"pgd": "PGD+weights (attack_steps 2) ", "natural": "natural "}[method] in capsys.readouterr().out


def test_the_training_model_is_as_the_design_says(digits):
    best = str(digits[0] / "best.keras")
    experiment = Experiment.of("digits", "pgd", seed=5, initialize_from=best, learning_rate=0.07)
    run.seed_everything(experiment)
    model = run.build_model(experiment)
    assert [weight.tobytes() for weight in model.classifier.get_weights()] == bytes_of(digits[0] / "best.keras")
    assert type(model.optimizer) is keras.optimizers.SGD
    assert (float(model.optimizer.learning_rate), model.optimizer.momentum) == (pytest.approx(0.07), 0.9)
    assert model.optimizer.weight_decay is None  # it would be Keras's decoupled one
    assert (model.weight_decay, model.seed, model.method.weighting) == (5e-4, 5, Exponential(0.5))


def test_every_validation_image_is_attacked(tmp_path):
    # `load` has cut them already; the callback's own limit of 1,000 must not cut them again.
    count = 1100
    batches = tf.data.Dataset.from_tensors((np.zeros([count, 8, 8, 1], np.float32), np.zeros([count], np.int32)))
    used = run.run_callbacks(Experiment.of("digits"), data.Splits(batches, batches, batches), tmp_path, None, None)
    (evaluation,) = (callback for callback in used if isinstance(callback, RobustEvaluation))
    assert sum(len(images) for images, _ in evaluation.batches) == count


def test_compare_prints_the_table_and_draws_the_picture(digits, tmp_path, capsys, monkeypatch):
    metrics = read_json(digits[0] / "metrics.json")
    baseline = {**metrics, "alpha_train": 0.0, "A_rob": 0.125, "A_rob_stderr": 0.002}
    foreign = {**metrics, "method": None, "alpha_train": None, "checkpoint": "mine.keras"}
    contents = {
        "baseline": baseline,
        "foreign": {**foreign, "attack": {**metrics["attack"], "seed": 8, "precision": "float32"}},
    }
    for name, content in contents.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "metrics.json").write_text(json.dumps(content))
    monkeypatch.chdir(tmp_path)
    written = []
    monkeypatch.setattr(report, "write_report", lambda path, *_, **__: written.append(str(path)), raising=False)

    def compared(*arguments):
        run_main(comparing.compare, Comparison, *arguments)
        assert written.pop() == "all.html"
        return capsys.readouterr().out

    printed = compared("baseline", str(digits[0]), "foreign", "--output=all.png")
    rows = [line.split() for line in printed.splitlines()]
    first = next(number for number, row in enumerate(rows) if row[:1] == ["Defense"]) + 2  # and a rule
    assert [row[0] for row in rows[first : first + 6]] == ["TRADES", "TRADES+weights", "mine.keras"] * 2
    assert "1.0" in rows[first] and "1.5" in rows[first + 3] and "12.5" in rows[first]
    assert rows[-2:] == [["Picture:", "all.png"], ["Report:", "all.html"]]
    assert matplotlib.image.imread("all.png").std() > 0
    assert printed.startswith(
        "MASKED: TRADES (attack_steps 2), TRADES+weights (attack_steps 2), mine.keras\n"
    )  # its attack of two steps is nothing to rely on
    assert "\n\n| Defense" in compared("baseline", "--markdown", "--output=all.png")


@pytest.mark.parametrize(
    ("method", "changes", "label"),
    [
        ("natural", {}, "natural"),
        ("trades", {}, "TRADES+weights"),
        ("trades", {"alpha_train": 0.0, "beta": 6.0}, "TRADES (beta 6)"),
        ("pgd", {"weighting": "exponential:normalize=true"}, "PGD+weights (normalize)"),
        ("pgd", {"weighting": "exponential", "epsilon": 0.15}, "PGD+weights"),
        (
            "mixed",
            {"adversarial_weight": 0.0, "attack_steps": 5},
            "MIXED+weights (adversarial_weight 0, attack_steps 5)",
        ),
        ("fast", {"epsilon": 0.1}, "FAST+weights (epsilon 0.1)"),  # whose step size follows
        ("pgd", {"norm": "l1", "epsilon": 5.0}, "PGD+weights (norm l1, epsilon 5)"),
        ("iaat", {"epsilon": 0.1, "radius_growth": 0.5}, "IAAT+weights (epsilon 0.1, radius_growth 0.5)"),
        (
            "pgd",
            {"norm": "l2", "epsilon": 2.0, "attack_step_size": 0.2},
            "PGD+weights (norm l2, epsilon 2, attack_step_size 0.2)",
        ),
    ],
)
def test_a_defence_is_named_with_what_is_not_the_recipes(method, changes, label):
    config = dataclasses.asdict(Experiment.of("digits", method, **changes))
    facts = json.loads(json.dumps({"dataset": "digits", **naming.training_facts(config)}))
    assert naming.defence(facts) == label
    # Files of a time before settings were written.
    old = {name: facts[name] for name in ("dataset", "method", "alpha_train", "beta", "seed", "precision")}
    assert naming.defence(old) == (label if "beta" in changes else label.split(" (")[0])


def refusal(capsys, *, trained: bool = False) -> str:
    """Return the one line on stderr, the only one unless it came after training."""
    printed = capsys.readouterr()
    assert printed.err.startswith("error: ") and printed.err.count("\n") == 1
    assert trained or printed.out == ""
    return printed.err


def save_classifier(path: Path, *, shape=(8, 8, 1), classes: int = 10, activation: str | None = None) -> str:
    layers = [keras.Input(shape), keras.layers.Flatten(), keras.layers.Dense(classes, activation)]
    keras.Sequential(layers).save(path)
    return str(path)


def test_divergence_is_one_line_and_status_1(tmp_path, capsys):
    folder = tmp_path / "run"
    with pytest.raises(SystemExit) as exit_:
        arguments = [*FEW_FLAGS, "--batch_size=32", "--learning_rate=1e6", f"--output_dir={folder}"]
        run_main(run.train, Experiment, *arguments, dataset="digits")
    assert exit_.value.code == 1
    warning, error = filter(None, capsys.readouterr().err.splitlines())
    assert warning.startswith("warning: the loss is exploding: ")
    assert re.match(r"error: training diverged in epoch 1, batch \d: .*, largest finite gradient norm so far ", error)
    assert json.loads((folder / "diverged.json").read_text())["epoch"] == 1
    assert not (folder / "metrics.json").exists()


def of_any_size(channels: int) -> keras.Model:
    average = [keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(10)]
    return keras.Sequential([keras.Input((None, None, channels)), *average])


class Subclassed(keras.Model):
    """A model that does not know its input_shape, of images of any or of other shapes than the digits."""

    def __init__(self, kernel_height: int) -> None:
        super().__init__()
        self.stack = [keras.layers.Conv2D(2, kernel_height), keras.layers.Flatten(), keras.layers.Dense(10)]

    def call(self, x, training=False):
        for layer in self.stack:
            x = layer(x)
        return x


def test_a_model_may_leave_open_what_it_takes():
    test = data.load("digits").test
    classifiers.check_fits(of_any_size(1), test, 10)
    classifiers.check_fits(Subclassed(3), test, 10)
    with pytest.raises(InvalidInput, match=r"of shape \(None, None, 3\), expected images of shape \(8, 8, 1\)"):
        classifiers.check_fits(of_any_size(3), test, 10)
    with pytest.raises(InvalidInput, match=r"^model: got a failure .+, expected logits for shape \(8, 8, 1\)\. Choose"):
        classifiers.check_fits(Subclassed(9), test, 10)


@pytest.mark.parametrize("config", [b"{broken", b"[1, 2]", b"\xff\xfe"])
def test_a_broken_config_beside_the_model_stops_the_evaluation_before_it_writes(tmp_path, capsys, monkeypatch, config):
    monkeypatch.chdir(tmp_path)
    save_classifier(Path("model.keras"))
    Path("config.json").write_bytes(config)
    with pytest.raises(SystemExit) as exit_:
        run_main(evaluating.evaluate, ModelEvaluation, "--model=model.keras", "--dataset=digits")
    assert exit_.value.code == 2
    assert re.search(
        r"config\.json: got 'config\.json'( \(.+\))?, expected a file with a JSON object\.", refusal(capsys)
    )
    assert {path.name for path in tmp_path.iterdir()} == {"model.keras", "config.json"}


def test_runs_of_the_same_second_get_a_folder_each(tmp_path, monkeypatch):
    class Clock(datetime.datetime):
        @classmethod
        def now(cls):
            return cls(2026, 11, 22, 10, 30, 59)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("trainers.runs.folder.datetime.datetime", Clock)
    experiment = Experiment.of("digits", seed=3)
    with concurrent.futures.ThreadPoolExecutor(8) as threads:
        found = sorted(threads.map(lambda _: str(make_folder(experiment, "digits")), range(8)))
    first = "runs/digits-seed3-20261122-103059"
    assert found == sorted([first, *(f"{first}-{number}" for number in range(2, 9))])
    assert all(Path(folder).is_dir() for folder in found)


def test_a_folder_of_runs_that_cannot_be_written_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("runs").write_text("a file")
    with pytest.raises(InvalidInput, match="^output_dir: got 'runs/digits-.*', expected a folder that can be written"):
        make_folder(Experiment.of("digits"), "digits")


def test_a_finished_run_is_known_by_its_settings(digits, tmp_path):
    settings = {**FEW, "seed": 3, "deterministic": True, "alpha_test": (1.0, 1.5)}
    experiment = Experiment.of("digits", **settings, output_dir="elsewhere")
    assert is_finished(experiment, digits[0])
    assert not is_finished(dataclasses.replace(experiment, beta=2.5), digits[0])
    assert not is_finished(experiment, tmp_path)
    copy = tmp_path / "copy"
    shutil.copytree(digits[0], copy)
    assert is_finished(experiment, copy)
    (copy / "config.json").write_text("[]")
    assert not is_finished(experiment, copy)
    shutil.copy(digits[0] / "config.json", copy)
    (copy / "metrics.json").unlink()
    assert not is_finished(experiment, copy)


def test_a_worker_goes_on_from_what_the_chiefs_suite_has_found(tmp_path, monkeypatch):
    """It writes elsewhere, and the attacks of all have to be the same."""

    class Enough(Exception):
        pass

    def evaluate(experiment, test, classifier, folder, facts, outcomes):
        assert (folder.parent.name, outcomes) == ("elsewhere", tmp_path / "run" / "outcomes.npz")
        raise Enough

    monkeypatch.setattr(
        run, "only_the_chief_writes", lambda strategy: contextlib.nullcontext(tmp_path / "elsewhere/own")
    )
    monkeypatch.setattr(run, "evaluate", evaluate)
    few = {"epochs": 1, "train_examples": 64, "validation_examples": 20, "eval_examples": 20, "attack_steps": 2}
    with pytest.raises(Enough):
        run.train(Experiment.of("digits", "pgd", suite="short", output_dir=str(tmp_path / "run"), **few))


def test_the_matched_table_says_who_is_masked():
    accuracy = WeightedAccuracy(0.5, 0.01, 100.0)
    plain = {"weighted_margins": {1.0: None}, "A_sa": lambda alpha: accuracy, "A_tr": lambda alpha: accuracy}
    holds = types.SimpleNamespace(**plain, A_rob=accuracy, A_strong=None, is_masked=False)
    hides = types.SimpleNamespace(**plain, A_rob=accuracy, A_strong=accuracy, is_masked=True)
    _, _, first, second = matching.table([("baseline", 0.8, holds), ("other", 0.9, hides)]).splitlines()
    assert [cell.strip() for cell in first.split("|")[1:6]] == ["baseline", "80.00", "1", "50.0 ± 1.0", "-"]
    assert [cell.strip() for cell in second.split("|")[1:6]] == ["other MASKED", "90.00", "1", *["50.0 ± 1.0"] * 2]


@pytest.mark.slow
def test_two_models_are_compared_at_equal_confidence(digits, tmp_path):
    best, last = (str(digits[0] / name) for name in ("best.keras", "classifier.keras"))
    ended = start("trainers.matched", best, last, "--dataset=digits", "--eval_examples=40", cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    header, _, *rows = (
        [cell.strip() for cell in row.split("|")[1:-1]] for row in ended.stdout.splitlines() if row[:1] == "|"
    )
    assert header[3:5] == ["A_rob (%)", "A_strong (%)"]
    top = {row[0].removesuffix(" MASKED"): row[1] for row in rows}
    assert len(rows) == 9 and top["other, confidence of the baseline"] == top["baseline"]


def test_help_lists_our_flags(tmp_path):
    ended = start("trainers.mnist", "--help", cwd=tmp_path)
    assert ended.returncode == 0 and ended.stderr == ""
    for field in dataclasses.fields(Experiment):
        is_listed = re.search(rf"^  (--\S+, )?--(\[no\])?{field.name}\b", ended.stdout, flags=re.MULTILINE)
        assert bool(is_listed) == (field.name != "dataset"), field.name


def short_run(dataset: str, tfds_dir: Path, tmp_path: Path, *arguments: str) -> dict:
    before = snapshot(tfds_dir)
    given = [f"--data_dir={tfds_dir}", "--output_dir=run", "--epochs=1", "--alpha_test=2", *arguments]
    ended = start(f"trainers.{dataset}", *given, cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert snapshot(tfds_dir) == before  # what is read from is never written to
    return read_json(tmp_path / "run/metrics.json")


@pytest.mark.slow
def test_mnist(tfds_dir, tmp_path):
    few = ["--train_examples=128", "--validation_examples=16", "--eval_examples=16"]
    metrics = short_run("mnist", tfds_dir, tmp_path, *few, "--attack_steps=1", "--eval_attack_steps=1")
    assert (metrics["dataset"], metrics["examples"], metrics["attack"]["epsilon"]) == ("mnist", 16, 0.3)
    assert keras.models.load_model(tmp_path / "run/best.keras").input_shape == (None, 28, 28, 1)


@pytest.mark.slow
def test_cifar10(tfds_dir, tmp_path):
    few = ["--train_examples=16", "--validation_examples=8", "--eval_examples=8", "--method=pgd"]
    metrics = short_run("cifar10", tfds_dir, tmp_path, *few, "--attack_steps=1", "--eval_attack_steps=1")
    assert (metrics["dataset"], metrics["examples"], metrics["attack"]["epsilon"]) == ("cifar10", 8, 0.031)
    assert keras.models.load_model(tmp_path / "run/best.keras").name == "resnet18"
