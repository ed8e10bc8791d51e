"""What the benchmarks compute of their measurements, and that the peers do the same work."""

import argparse
import dataclasses
import random
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

import wmr_tf
from benchmarks import floor, flops, machine, plot, profile, report, rounds, summary, tables
from benchmarks.findings import Comparison, Findings, Growth
from benchmarks.libraries import kernels, plain_keras
from benchmarks.libraries import wmr_tf as library_of_wmr_tf
from benchmarks.rounds import Measurement, Plan, Row
from benchmarks.task import Task

ROOT = Path(__file__).resolve().parents[1]
CNN = Task("trades", "bfloat16", 128, "small_cnn", epsilon=0.3, step_size=0.01, steps=40)
RESNET = Task("pgd", "bfloat16", 128, "resnet18", epsilon=0.031, step_size=0.007, steps=10)


@pytest.fixture(autouse=True)
def _policy():
    yield
    keras.config.set_dtype_policy("float32")


def test_operations_are_those_of_the_formulas():
    for task in (CNN, RESNET):
        layers = flops.multiply_adds(task.architecture)
        f, first, k = sum(layers.values()), next(iter(layers.values())), task.steps
        formulas = {"attack": 2 * k * f, "pgd": (2 * k + 3) * f - first, "trades": (2 * k + 7) * f - 2 * first}
        for kind, adds in formulas.items():
            assert flops.operations(dataclasses.replace(task, kind=kind)) == 2 * 128 * adds
    assert sum(flops.multiply_adds("small_cnn").values()) == 9_952_400


# Waiting for a quiet machine.


def _loads(monkeypatch, *values):
    loads = iter(values)
    monkeypatch.setattr(machine.os, "getloadavg", lambda: (next(loads), 0.0, 0.0))


def test_the_machine_is_waited_for(monkeypatch):
    said, slept = [], []
    _loads(monkeypatch, 1.5, 0.31, 0.1)
    assert machine.wait_until_quiet(False, said.append, slept.append) == "0.10 over a minute, below 0.3 as required"
    assert slept == [60, 60] and len(said) == 2 and said[0].startswith("Load 1.50")


def test_a_busy_machine_is_refused_in_one_line(monkeypatch, capsys):
    slept = []
    _loads(monkeypatch, *[2.0] * 11)
    with pytest.raises(SystemExit) as refused:
        machine.wait_until_quiet(False, lambda line: None, slept.append)
    assert refused.value.code == 2 and len(slept) == machine.PATIENCE
    assert capsys.readouterr().err == (
        "load: got 2.00 over a minute after 10 minutes, expected below 0.3. "
        "Stop what else runs, or measure all the same with --busy.\n"
    )


def test_a_busy_machine_is_measured_when_told(monkeypatch):
    _loads(monkeypatch, 2.0)
    assert "2.00" in machine.facts(machine.wait_until_quiet(True, pytest.fail, pytest.fail))["Load at the start"]


# Rounds, tables and what is made of them.


class _Worker:
    made: list = []

    def __init__(self, library):
        self.made.append(library)
        self.turns = []

    def prepare(self, task):
        return task.steps

    def run(self, index, at_least):
        self.turns.append(index)
        return len(self.turns) * float(index)

    def close(self):
        pass


def test_rows_take_turns_up_to_their_rounds_with_a_process_for_each_architecture(monkeypatch):
    monkeypatch.setattr(rounds, "Worker", _Worker)
    monkeypatch.setattr(_Worker, "made", [])
    slow = Row("slow", "a", RESNET, rounds=1)
    rows = [Row("fast", "a", CNN), slow, Row("other", "b", CNN)]
    fast, slow, other = rounds.alternate(rows, Plan(3, 100, 0.0), lambda line: None)
    assert _Worker.made == ["a", "a", "b"]
    assert fast.seconds == [40, 80, 120] and slow.seconds == [10]
    assert rounds.ratios(slow, fast) == [0.25]


def test_thread_settings_are_those_of_the_architecture(monkeypatch):
    called = []
    monkeypatch.setattr(wmr_tf, "use_all_cores", lambda **settings: called.append(settings))
    monkeypatch.setattr(library_of_wmr_tf, "attack_alone", lambda task: called.append(task.architecture))
    library_of_wmr_tf.use_all_cores.cache_clear()
    library_of_wmr_tf.prepare(Task("matmul", "float32", 2))
    for task in (CNN, CNN, RESNET):
        library_of_wmr_tf.prepare(dataclasses.replace(task, kind="attack"))
    library_of_wmr_tf.use_all_cores.cache_clear()
    cnn, resnet = {"batch_norm": False}, {"batch_norm": True}
    assert called == [cnn, "small_cnn", "small_cnn", resnet, "resnet18"]


def test_no_table_mixes_architectures():
    for table in tables.speed_tables(tables.FULL):
        assert len({row.task.architecture for row in table.rows}) == 1
        assert table.rows[0].label == tables.WMR_TF
        slow = [row for row in table.rows if row.task == dataclasses.replace(row.task, precision="float32")]
        if "ResNet" in table.title:
            assert {(row.label, row.rounds) for row in slow} == {(tables.WMR_TF, 1), (tables.TUNED, 1)}


def _findings() -> Findings:
    """Return made-up measurements: plain Keras takes 1.5 times as long as wmr_tf, in float32 twice as long."""
    numbers = random.Random(0)

    def measured(row):
        of_precision = {"float32": 3.0, "bfloat16": 1.0}[row.task.precision]
        times = {"plain_keras": {"bfloat16": 1.5, "float32": 2.0}[row.task.precision], "foolbox_tf": 5.25}
        seconds = of_precision * times.get(row.library, 1.0)
        return Measurement(row, [seconds, seconds, seconds * numbers.uniform(1.0, 1.1)])

    comparisons = [Comparison(t.title, [measured(row) for row in t.rows]) for t in tables.speed_tables(tables.FULL)]
    growths = [
        Growth(
            c.title,
            [Measurement(row, [0.5 * point]) for row, point in zip(c.rows, c.points, strict=True)],
            c.unit,
            c.points,
        )
        for c in tables.curves(tables.FULL)
    ]
    comparisons[1].measured[2] = Measurement(comparisons[1].measured[2].row, error="broken")
    return Findings(
        "make bench",
        {"Date": "today"},
        [measured(row) for row in tables.matmul_rows(tables.FULL)],
        comparisons,
        growths,
    )


def test_findings_are_read_as_written(tmp_path):
    found = _findings()
    found.write(tmp_path / "speed.json")
    assert Findings.read(tmp_path / "speed.json") == found


def test_the_summary_has_ratios_within_a_precision():
    first, second, third = summary.table_of(_findings().comparisons).splitlines()[2:5]
    cells = [cell.strip() for cell in first.strip("|").split("|")]
    assert cells[1:3] == ["42.7 / 128", "2.0x / 1.50x"]
    assert "| - / 1.50x |" in second  # float32 did not run
    assert third.endswith("| CleverHans 1.00x, torchattacks 1.00x, Foolbox 5.2x |")


def test_text_and_picture_are_made(tmp_path):
    found = _findings()
    text = report.document(found)
    assert "plain Keras, float32, did not run: broken" in text and "500 ms x steps" in text
    plot.draw(found.comparisons, tmp_path / "speed.png")
    assert (tmp_path / "speed.png").stat().st_size > 10_000


@pytest.mark.skipif(not (ROOT / "results" / "speed.json").exists(), reason="no measurements")
def test_text_and_measurements_agree():
    found = Findings.read(ROOT / "results" / "speed.json")
    assert report.document(found) == (ROOT / "results" / "speed.md").read_text()


# The floor.


def test_the_floor_sums_the_best_time_of_every_kernel_of_the_step():
    task = dataclasses.replace(CNN, kind="pgd", steps=3)
    measured = []
    for row in floor.kernel_rows(task):
        seconds = 2.0 if row.label == "all threads" else 3.0
        if row.task.kind == "conv2: forward" and row.label == "in parts":
            seconds = 1.0
        if row.task.kind == f"conv1: {floor.PLANES}":
            seconds = 0.5
        measured.append(Measurement(row, [9.0 * row.task.steps, seconds * row.task.steps]))
    best = floor.best_seconds(task, measured)
    assert best["conv2", "forward"] == (1.0, "in parts") and best["conv3", "forward"] == (2.0, "all threads")
    # Of 7 layers: 4 forward, 4 gradients of inputs and 3 of the first one's, 1 of weights.
    assert floor.floor(task, best) == 6 * 2 * (4 + 4 + 1) + 2 * (4 + 1) + 0.5 * 3 - 4 * 1
    text = floor.section(task, best, Measurement(Row("step", "wmr_tf", task), [240.0, 231.0]))
    assert "the step takes 2.04 times its floor" in text and "| 1000 p |" in text
    measured[0].error = "broken"
    with pytest.raises(ValueError, match="conv1: forward, all threads: broken"):
        floor.best_seconds(task, measured)


def test_layers_of_equal_shape_share_their_kernels():
    rows = floor.kernel_rows(RESNET)
    assert {"stage1_block1_conv1: forward"} == {
        r.task.kind for r in rows if "stage1" in r.task.kind and "forward" in r.task.kind
    }
    assert not any(floor.PLANES in row.task.kind for row in rows)
    best = floor.best_seconds(RESNET, [Measurement(row, [float(row.task.steps)]) for row in rows])
    times = [sum(passes) for passes in flops.passes(RESNET).values()]
    assert len(times) == 21 and floor.floor(RESNET, best) == sum(times)


@pytest.mark.parametrize("kind", [*flops.PASSES, floor.PLANES])
def test_a_kernel_runs_as_often_as_asked(monkeypatch, kind):
    calls = []
    monkeypatch.setattr(kernels, "random_of", lambda precision, shape: tf.ones(shape, precision))
    each = kernels.kernel(CNN, flops.layers("small_cnn")["conv1"], kind, 2)

    def counted():
        tf.py_function(lambda: calls.append(1), [], [])
        return each()

    monkeypatch.setattr(kernels, "kernel", lambda *_: counted)
    used = kernels.prepare(dataclasses.replace(CNN, kind=f"conv1: {kind}", size=2, steps=3))()
    assert used == [3 * each()[0, 0, 0, 0].numpy()] and len(calls) == 3


def test_gradients_by_planes_are_the_kernels(monkeypatch):
    monkeypatch.setattr(kernels, "random_of", lambda _, shape: tf.random.stateless_normal(shape, [0, 1]))
    layer = flops.layers("small_cnn")["conv1"]
    by_kernel, by_planes = (kernels.kernel(CNN, layer, kind, 2)() for kind in ("input gradient", floor.PLANES))
    np.testing.assert_allclose(by_kernel, by_planes, atol=1e-4)


def test_a_profile_keeps_what_was_written_by_hand(tmp_path, monkeypatch):
    path = tmp_path / "profile.md"
    path.write_text("# Title\n\nBy hand.\n\n## Old\n\n1\n\n## Older\n\n2\n")
    monkeypatch.setattr(profile, "floor_section", lambda task: f"## Floor of {task.architecture}")
    monkeypatch.setattr(profile, "apart", lambda library, architecture: f"## {library} {architecture}")
    arguments = argparse.Namespace(kind="trades", precision="bfloat16", images=128, busy=True, output=path)
    for _ in range(2):
        profile.write(arguments)
        text = path.read_text()
        assert text.startswith("# Title\n\nBy hand.\n\n## Measured by") and "Old" not in text
        assert text.endswith("## Floor of resnet18\n\n## plain_keras resnet18\n\n## wmr_tf resnet18\n")


# The peers do the same work.


def _small(task):
    keras.utils.set_random_seed(1)
    layers = [keras.layers.Conv2D(4, 3, activation="relu"), keras.layers.BatchNormalization(), keras.layers.Flatten()]
    return keras.Sequential([keras.Input((28, 28, 1)), *layers, keras.layers.Dense(10)])


def _losses(monkeypatch, task):
    """Return the losses of two steps, wmr_tf and plain Keras's, from the same starts of the attack."""
    noise = np.random.default_rng(0).normal(size=task.images().shape).astype(np.float32)
    monkeypatch.setattr(
        plain_keras.tf.random, "uniform", lambda shape, low, high: high * tf.clip_by_value(noise, -1, 1)
    )
    monkeypatch.setattr(plain_keras.tf.random, "normal", lambda shape: noise)
    starts = {"uniform": task.epsilon * np.clip(noise, -1, 1), "gaussian": 0.001 * noise}
    for name, moved in starts.items():
        monkeypatch.setitem(wmr_tf.attacks.STARTS, name, lambda ball, seed, moved=moved: ball.clean + moved)
    monkeypatch.setattr(library_of_wmr_tf, "use_all_cores", lambda **_: None)
    found = []
    for library in (library_of_wmr_tf, plain_keras):
        monkeypatch.setattr(library, "build", _small)
        step = library.prepare(task)
        found.append([step(), step()])
    mine, plain = found
    return [mine[0], 2 * mine[1] - mine[0]], plain  # `fit` tells the mean loss of its steps so far


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["pgd", "trades"])
def test_plain_keras_makes_the_same_training_step(monkeypatch, kind):
    task = Task(kind, "float32", 8, "small_cnn", epsilon=0.3, step_size=0.1, steps=4)
    mine, plain = _losses(monkeypatch, task)
    assert mine[0] == pytest.approx(plain[0], rel=1e-4)
    assert mine[1] == pytest.approx(plain[1], rel=1e-2)  # a step of training has magnified the rounding
    one_step, _ = _losses(monkeypatch, dataclasses.replace(task, step_size=0.3, steps=1))
    assert abs(mine[0] / one_step[0] - 1) > 0.02  # the attack counts


def test_plain_keras_attacks_the_mobilenet_within_ball_and_box():
    from benchmarks.worker import prepared

    prepared("plain_keras", Task("attack", "bfloat16", 2, "mobilenet_v3_small", epsilon=0.03, step_size=0.01, steps=2))
