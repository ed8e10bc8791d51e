"""The race to robustness: courses fitted to the time, weights that survive the export, and the page of its rows."""

import json
import subprocess
from pathlib import Path

import keras
import numpy as np
import pytest

from benchmarks.peers import BATCHES, COURSES, train_for
from reproduce.budgets import BUDGETS
from reproduce.rows import Model
from studies import time_to_robust
from studies.time_to_robust import LIBRARIES, Race, draw, row, save_exported, sections
from wmr_tf import data
from wmr_tf.checks import InvalidInput

ROOT = Path(__file__).resolve().parents[1]
BENCH = ROOT / ".venv-bench/bin/python"


@pytest.mark.parametrize("library", ["trades", "art"])
def test_the_drops_of_trades_come_at_their_part_of_the_time(library):
    rates = [COURSES[library](passed) for passed in (0, 0.549, 0.55, 0.749, 0.75, 0.899, 0.9, 1)]
    np.testing.assert_allclose(rates, [1e-2, 1e-2, 1e-3, 1e-3, 1e-4, 1e-4, 1e-5, 1e-5])


def test_the_course_of_fast_training_rises_for_two_fifths_and_falls_to_zero():
    rates = [COURSES["fast"](passed) for passed in (0, 0.2, 0.4, 0.7, 1)]
    np.testing.assert_allclose(rates, [0, 2.5e-3, 5e-3, 2.5e-3, 0])


@pytest.mark.parametrize("library", COURSES)
def test_a_training_ends_with_the_time_and_its_learning_rate_goes_by_it(library):
    count, now, steps = 250, [0.0], []
    images, labels = np.arange(count, dtype=np.uint8).reshape(-1, 1, 1, 1), np.arange(count)

    def step(images, labels, learning_rate):
        np.testing.assert_array_equal(np.round(images.ravel() * 255), labels)
        steps.append((labels, learning_rate))
        now[0] += 1.0

    seen = train_for(20.0, library, step, images, labels, seed=0, clock=lambda: now[0])
    assert len(steps) == 20
    assert seen == sum(len(labels) for labels, _ in steps)
    np.testing.assert_allclose([rate for _, rate in steps], [COURSES[library](step / 20) for step in range(20)])
    an_epoch = -(-count // BATCHES[library])
    for first in range(0, 20 - an_epoch, an_epoch):
        of_epoch = np.concatenate([labels for labels, _ in steps[first : first + an_epoch]])
        assert sorted(of_epoch) == list(range(count))
    assert list(steps[0][0]) != list(steps[an_epoch][0])


@pytest.mark.skipif(not BENCH.exists(), reason="no environment of make bench")
def test_exported_weights_return_the_same_logits(tmp_path):
    code = """
import json, sys
import numpy as np, torch
from benchmarks.libraries.recipes_torch import keras_weights, prepare
network, step = prepare("fast", 0)
torch.nn.init.normal_(network.layers[-1].weight, std=0.1)
images = np.random.default_rng(0).random((4, 28, 28, 1), np.float32)
step(images, np.arange(4), 0.01)
logits = network.eval()(torch.from_numpy(images).permute(0, 3, 1, 2)).detach().numpy()
weights = {f"weight{place}": weight for place, weight in enumerate(keras_weights(network))}
np.savez("weights.npz", facts=json.dumps({"images": 4}), **weights)
np.save("logits.npy", logits)
"""
    subprocess.run([BENCH, "-c", code], cwd=tmp_path, env={"PYTHONPATH": str(ROOT)}, check=True)
    assert save_exported(tmp_path / "weights.npz", tmp_path / "model.keras") == {"images": 4}
    images = np.random.default_rng(0).random((4, 28, 28, 1), np.float32)
    got, expected = keras.models.load_model(tmp_path / "model.keras")(images), np.load(tmp_path / "logits.npy")
    assert np.ptp(expected) > 0.1
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4)


def rows():
    """Finished rows whose figures differ by library and minutes."""
    return [
        {
            "library": library,
            "minutes": minutes,
            "seconds": 60 * minutes - place,
            "epochs": minutes / 4,
            **{"A_nat": 0.98, "A_nat_interval": [0.97, 0.99], "A_rob": 0.6 + minutes / 50 + place / 100},
            **{"A_rob_interval": [0.5, 0.9], "A_strong": 0.5, "A_strong_interval": [0.4, 0.6], "masked": place == 2},
            **{"A_sa": 0.3, "A_sa_interval": [0.2, 0.4]},
        }
        for minutes in (3.0, 10.0)
        for place, library in enumerate(LIBRARIES)
    ]


def test_the_page_has_a_line_a_row(monkeypatch):
    monkeypatch.setattr("sys.argv", ["time_to_robust", "--minutes=3,10"])
    head, made_by, table, picture = sections(rows(), Race(), "race.png")
    assert head == "# Robust within minutes"
    assert made_by.startswith("`python -m studies.time_to_robust --minutes=3,10`, 20")
    assert "First 1,000 test images" in made_by and "suite standard" in made_by
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]
    assert lines[0] == ["minutes", "library", "seconds", "epochs", "A_nat (%)", "A_rob (%)", "A_strong (%)", "A_sa (%)"]
    assert lines[2][:4] == ["3", "wmr_tf, --recipe=fast", "180", "0.75"]
    assert lines[4][:5] == ["3", "fast AT, public recipe MASKED", "178", "0.75", "98.0 [97.0, 99.0]"]
    assert [line[0] for line in lines[2:]] == ["3"] * 4 + ["10"] * 4
    assert "(race.png)" in picture


MNIST = data.Splits(None, None, None, train_examples=55_000)


@pytest.mark.parametrize(("passes", "epochs", "images"), [(2.7e6, 2, 55_000), (0.54e6, 1, 18_000)])
def test_a_slow_machine_trains_on_fewer_images_for_the_same_minutes(tmp_path, monkeypatch, passes, epochs, images):
    given = {}

    def trained(settings, folder, flags):
        given.update(flags)
        (folder / "best.keras").parent.mkdir()
        (folder / "best.keras").touch()
        return "  1/1   1.69  90.00  80.00     70.00  60.00  50.00     90.0     1.5"

    monkeypatch.setattr(time_to_robust, "passes_within", lambda settings, minutes: passes)
    monkeypatch.setattr(time_to_robust, "train_by_command", trained)
    known = time_to_robust.train_wmr_tf(Race(), MNIST, "wmr_tf", 3.0, tmp_path / "model.keras")
    # TRADES-10 takes 30 passes an image with the warm start, 14 more for a second epoch.
    assert (given["epochs"], given["train_examples"], given["eval_every"]) == (epochs, images, epochs)
    assert known == {"seconds": 90.0, "epochs": pytest.approx(epochs * images / 55_000)}


def test_the_picture_has_three_lines_a_library(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(time_to_robust.Figure, "savefig", lambda self, path, **_: drawn.append(self) or path.touch())
    draw(rows()[::-1], tmp_path / "race.png", title="Made up")
    draw([each for each in rows() if each["library"] == "wmr_tf"], tmp_path / "curve.png", title="Made up")
    assert [bars.get_label()[:7] for bars in drawn.pop().axes[0].containers] == ["wmr_tf,"] * 3
    lines = {bars.get_label(): bars.lines[0].get_xydata() for bars in drawn[0].axes[0].containers}
    assert len(lines) == 3 * len(LIBRARIES)
    for name, values in {"A_rob": [67, 81], "A_strong": [50, 50], "A_sa": [30, 30]}.items():
        line = lines[f"TRADES, public recipe: {name}"]
        np.testing.assert_allclose(line[:, 0], [179 / 60, 599 / 60], atol=0.3)
        np.testing.assert_allclose(line[:, 1], values)
    starts = sorted(line[0, 0] for line in lines.values())
    assert min(np.diff(starts)) > 0.04  # no bar hides another


def test_a_finished_row_is_kept_and_one_of_other_images_is_scored_again(tmp_path, monkeypatch):
    digits = data.load("digits")
    network = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(10)])
    trained = []

    def train(settings, splits, library, minutes, model):
        trained.append((library, minutes))
        network.save(model)
        return {"images": 100, "epochs": 0.5}

    monkeypatch.setattr(time_to_robust, "train_peer", train)
    settings = {"runs": str(tmp_path), "suite": "short"}
    first = row(Race(examples=20, **settings), digits, "fast", 3.0)
    assert {"library": "fast", "minutes": 3.0, "suite": "short", "examples": 20, "epochs": 0.5}.items() <= first.items()
    monkeypatch.setattr(time_to_robust, "first_images", None)  # not scored
    assert row(Race(examples=20, **settings), digits, "fast", 3.0) == first
    monkeypatch.undo()
    monkeypatch.setattr(time_to_robust, "train_peer", train)
    second = row(Race(examples=10, **settings), digits, "fast", 3.0)
    assert second["examples"] == 10
    assert trained == [("fast", 3.0)]
    assert json.loads((tmp_path / "fast-3-seed0.json").read_text()) == second


def test_wmr_tf_trains_for_as_many_epochs_as_fit_by_the_speed_of_two_short_trainings(tmp_path, monkeypatch):
    ran = []

    def run(command, log):
        ran.append(dict(flag.removeprefix("--").split("=") for flag in command[1:]))
        folder = Path(ran[-1]["output_dir"])
        folder.mkdir()
        (folder / "best.keras").write_bytes(b"weights")
        # 30 passes an image, 7,500 a second, half of the reference machine's, after 20 s in which it traces.
        seconds = 20 + 30 * int(ran[-1]["train_examples"]) / 7_500
        log.write_text(f"The warm start took 15.0 s\n  1/1   1.69   1.00     {seconds - 15:.3f}     1.0\n")

    monkeypatch.setattr(time_to_robust, "run", run)
    # A quarter of an hour there, and the 20 s; a minute less pays for an epoch less.
    race = Race(runs=str(tmp_path))
    facts = time_to_robust.train_wmr_tf(race, MNIST, "wmr_tf", 30 + 21 / 60, tmp_path / "model.keras")
    *pilots, main = ran
    assert [(each["recipe"], each["epochs"], each["train_examples"]) for each in pilots] == [
        ("fast", "1", "1280"),
        ("fast", "1", "10240"),
    ]
    quarter = BUDGETS["quarter"].settings_of(Model("mnist", "trades", 2.0))
    assert (main["recipe"], main["epochs"], main["alpha_train"]) == ("fast", str(quarter["epochs"]), "2.0")
    assert facts == {"seconds": 240.0, "epochs": quarter["epochs"]}
    ran.clear()
    time_to_robust.train_wmr_tf(race, MNIST, "wmr_tf", 1.0, tmp_path / "short.keras")
    (short,) = ran  # the pilots are kept
    assert int(short["train_examples"]) == pytest.approx(10_000, rel=0.01)  # 40 of 60 s
    assert (tmp_path / "model.keras").read_bytes() == b"weights"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"libraries": ("keras",)}, "libraries: got 'keras', expected one of"),
        ({"minutes": ()}, "minutes: got nothing, expected numbers"),
        ({"minutes": (3.0, 0.0)}, "minutes: got 0.0, expected a finite number > 0"),
        ({"suite": "best"}, "suite: got 'best', expected one of"),
        ({"examples": 0}, "examples: got 0, expected a whole number >= 1"),
        ({"seed": -1}, "seed: got -1"),
        ({"output": "page.html"}, "output: got page.html, expected a .md file"),
    ],
)
def test_mistakes_are_told(given, message):
    with pytest.raises(InvalidInput, match=message):
        Race(**given)


def test_a_missing_environment_is_told(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InvalidInput, match="environment: got no torch, art, expected .* Run make .venv-bench"):
        Race().check_place()
    Race(libraries=("wmr_tf",)).check_place()
