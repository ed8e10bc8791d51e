"""Runs side by side: one row a defence, seeds together, differences on the same images, and who cannot be compared."""

import json
import os
import re
import subprocess
import sys
import textwrap
import zipfile
from pathlib import Path

import numpy as np
import pytest

from tests.test_config import run_main
from tests.test_trainers import refusal
from trainers.compare import Comparison
from trainers.comparison import comparing, grouping
from wmr_tf import report
from wmr_tf.checks import InvalidInput
from wmr_tf.evaluation import Robustness, weighted_accuracy
from wmr_tf.evaluation.statistics import paired, paired_weighted, welch
from wmr_tf.evaluation.temperature import mean_top_probability

ROOT = Path(__file__).parents[1]
IMAGES, ALPHAS = 400, (1.0, 2.0)
ATTACK = {
    "name": "PGD",
    "norm": "linf",
    "epsilon": 0.3,
    "step_size": 0.01,
    "steps": 40,
    "restarts": 1,
    "start": "uniform",
    "seed": 0,
}


def margins_of(logits, labels):
    """The probability margins, image by image."""
    exponents = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares = exponents / exponents.sum(axis=1, keepdims=True)
    return np.array([share[label] - np.delete(share, label).max() for share, label in zip(shares, labels, strict=True)])


def arrays_of(*, strength, scale=1.0, seed=0):
    """What images.npz holds of a model: one that is better the larger `strength` is and surer the larger `scale`."""
    rng = np.random.default_rng(5)
    labels = rng.integers(0, 3, IMAGES).astype(np.int32)
    truth = np.eye(3)[labels]
    noise = rng.normal(size=[IMAGES, 3]) + 0.3 * np.random.default_rng(seed).normal(size=[IMAGES, 3])
    clean, attacked, weighted, strong = (
        (scale * (noise + gain * strength * truth)).astype(np.float32) for gain in (3, 1.6, 1.5, 1.4)
    )
    is_robust = (margins_of(attacked, labels) > 0) & (margins_of(strong, labels) > 0)
    return {
        "labels": labels,
        "clean_logits": clean,
        "logits": attacked,
        "losses": np.zeros(IMAGES, np.float32),
        "alphas": np.array(ALPHAS),
        "weighted_logits": np.stack([weighted] * len(ALPHAS)),
        "zero_gradients": np.array(0),
        "strong_logits": strong,
        "is_robust": is_robust,
    }


def metrics_of(arrays, **facts):
    labels = arrays["labels"]
    margins = margins_of(arrays["logits"], labels)
    weighted = {
        alpha: margins_of(logits, labels) for alpha, logits in zip(ALPHAS, arrays["weighted_logits"], strict=True)
    }
    result = Robustness(margins_of(arrays["clean_logits"], labels), margins, weighted, -margins)
    strong = weighted_accuracy(np.where(arrays["is_robust"], 1.0, -1.0), 0.0)
    return {
        "dataset": "mnist",
        "split": "test",
        "checkpoint": "best.keras",
        "method": "trades",
        "alpha_train": 0.0,
        "seed": 0,
        "attack": ATTACK,
        **result.metrics(),
        "A_strong": strong.value,
        "A_strong_stderr": strong.stderr,
        **facts,
    }


def write_run(folder, arrays, *, config=None, images=True, identity=None, **facts):
    """Write the folder of an evaluation."""
    folder.mkdir(parents=True)
    hashes = {"weights": folder.name, "data": "d" * 64}
    metrics = metrics_of(arrays, **({"hashes": hashes} if images else {}), **facts)
    (folder / "metrics.json").write_text(json.dumps(metrics))
    if config is not None:
        (folder / "config.json").write_text(json.dumps(config))
    if images:
        np.savez_compressed(folder / "images.npz", identity=json.dumps(identity or hashes), **arrays)
    return metrics


@pytest.fixture
def compared(tmp_path, capsys, monkeypatch):
    """Returns a function that compares folders and gives what was printed and what the report was told."""
    monkeypatch.chdir(tmp_path)
    told = []

    def write_report(path, results, *, pictures=(), tables=(), title=""):
        told.append({"path": str(path), "results": list(results), "tables": list(tables), "title": title})

    monkeypatch.setattr(report, "write_report", write_report, raising=False)

    def run(*arguments):
        run_main(comparing.compare, Comparison, *arguments)
        return capsys.readouterr().out, told[-1]

    return run


def rows_of(printed, header):
    """The cells of the table with this second column."""
    tables = [part.splitlines() for part in printed.split("\n\n")]
    (found,) = (lines for lines in tables if re.split(r"\s{2,}", lines[0])[1:2] == [header])
    return [re.split(r"\s{2,}", line) for line in found[2:]]


def in_points(difference):
    """A difference and its interval as they are printed, with a decimal where the interval is shorter than 7 points."""
    value, low, high = (100 * number for number in difference)
    digits = int(high - low < 7.2)
    ends = np.floor(low * 10**digits) / 10**digits, np.ceil(high * 10**digits) / 10**digits
    return f"{value:+.{digits}f}", "{:+.{n}f} to {:+.{n}f}".format(*ends, n=digits)


def read(folder):
    return json.loads((folder / "metrics.json").read_text())


WEAK, STRONG = arrays_of(strength=1.0), arrays_of(strength=1.3)


def test_single_runs_are_paired_by_image_against_the_first(tmp_path, compared):
    write_run(tmp_path / "a", WEAK)
    write_run(tmp_path / "b", STRONG, alpha_train=2.0)
    printed, told = compared("a", "b")
    rows = {row[1]: row for row in rows_of(printed, "accuracy")}
    assert list(rows)[:7] == ["A_nat", "A_rob", "A_strong", "A_sa(1)", "A_tr(1)", "A_sa(2)", "A_tr(2)"]
    assert {row[0] for row in rows.values()} == {"TRADES+weights"}
    first, second = (margins_of(arrays["logits"], arrays["labels"]) for arrays in (WEAK, STRONG))
    found = paired(first > 0, second > 0)
    _, _, value, interval, p_value = rows["A_rob"]
    assert found.difference.value == pytest.approx(np.mean(second > 0) - np.mean(first > 0))
    assert (value, interval) == in_points(found.difference)
    assert p_value == "< 0.001" and found.p_value < 0.001
    strong = paired(WEAK["is_robust"], STRONG["is_robust"])
    assert rows["A_strong"][2] == in_points(strong.difference)[0]
    weighted = paired_weighted(first, second, 2.0)
    assert rows["A_sa(2)"][2:] == [*in_points(weighted), "-"]
    (caption, _, cells), (_, header, ours) = told["tables"]
    assert "Differences to TRADES on the same images" in caption and cells == list(rows.values())
    assert header == ["Defense", "seed", "what differs", "folder"]
    assert ours == [["TRADES", "0", "-", "a"], ["TRADES+weights", "0", "-", "b"]]
    assert printed.startswith("400 test images of mnist. Test attack: linf PGD, epsilon 0.3, 40 steps of 0.01.")
    assert printed.splitlines()[-2:] == ["Picture: comparison.png", "Report: comparison.html"]
    assert told["path"] == "comparison.html"
    assert told["results"] == [("TRADES", read(tmp_path / "a")), ("TRADES+weights", read(tmp_path / "b"))]


def test_runs_are_compared_without_tensorflow(tmp_path):
    write_run(tmp_path / "weak", WEAK)
    write_run(tmp_path / "strong", STRONG)
    script = """
        import runpy, sys
        sys.modules["tensorflow"] = sys.modules["keras"] = None  # importing them fails
        runpy.run_module("trainers.compare", run_name="__main__", alter_sys=True)
    """
    ended = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), "weak", "strong"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ended.returncode == 0, ended.stderr
    assert "Differences to" in ended.stdout and (tmp_path / "comparison.html").stat().st_size > 0


def test_a_copy_that_is_surer_differs_in_weighted_accuracies_but_not_at_equal_confidence(tmp_path, compared):
    # The same predictions with the logits halved: A_sa rises, and nobody is more robust.
    write_run(tmp_path / "a", WEAK)
    write_run(tmp_path / "b", arrays_of(strength=1.0, scale=0.5), beta=3.0)
    rows = {row[1]: row[2:] for row in rows_of(compared("a", "b")[0], "accuracy")}
    for name in ("A_nat", "A_rob", "A_strong"):
        assert rows[name][0] == "+0.0" and rows[name][2] == "1.000"
    assert float(rows["A_sa(2)"][0]) > 5 and not rows["A_sa(2)"][1].startswith("-")
    for alpha in ("1", "2"):
        assert rows[f"A_sa({alpha}) at equal confidence"] == ["+0.00", "+0.00 to +0.00", "-"]
        assert float(rows[f"A_sa({alpha}) under all attacks"][0]) > 1


def test_all_attacks_and_equal_confidence_take_the_smallest_margin_of_both_attacks(tmp_path, compared):
    write_run(tmp_path / "a", WEAK)
    other = arrays_of(strength=1.3, scale=2.0)
    other["strong_logits"][:40] = other["clean_logits"][:40]  # where the suite was the weaker one
    write_run(tmp_path / "b", other, alpha_train=2.0)
    rows = {row[1]: row[2:] for row in rows_of(compared("a", "b")[0], "accuracy")}
    # The suite's verdict counts, not the margins of its points.
    verdict = paired(WEAK["is_robust"], other["is_robust"]).difference
    assert rows["A_strong"][:2] == [*in_points(verdict)]
    # By hand: a grid of scales in place of the bisection.
    top = mean_top_probability(WEAK["clean_logits"])
    grid = np.linspace(0.1, 1.0, 9001)
    coarse = np.argmin([abs(mean_top_probability(other["clean_logits"], 1 / scale) - top) for scale in grid[::100]])
    near = grid[max(0, 100 * coarse - 100) : 100 * coarse + 101]
    scale = near[np.argmin([abs(mean_top_probability(other["clean_logits"], 1 / each) - top) for each in near])]
    for name, times in (("under all attacks", 1.0), ("at equal confidence", scale)):
        here, there = (
            np.minimum(*(margins_of(by * arrays[of], arrays["labels"]) for of in ("logits", "strong_logits")))
            for arrays, by in ((WEAK, 1.0), (other, times))
        )
        value = weighted_accuracy(there, 2.0).value - weighted_accuracy(here, 2.0).value
        assert float(rows[f"A_sa(2) {name}"][0]) == pytest.approx(100 * value, abs=0.51)


def test_seeds_are_one_row_with_mean_deviation_and_number(tmp_path, compared):
    metrics = {}
    for name, strength, facts in (("a", 1.0, {}), ("b", 1.3, {"alpha_train": 2.0})):
        for seed in range(3):
            arrays = arrays_of(strength=strength, seed=seed)
            folder = f"{name}-{seed}"
            # Evaluations take the run's own seed.
            metrics[folder] = write_run(
                tmp_path / folder, arrays, seed=seed, attack={**ATTACK, "seed": seed}, config={"epochs": 5}, **facts
            )
    names = list(metrics)
    printed, told = compared(*names)
    rows = rows_of(printed, "alpha_train")
    assert [row[0] for row in rows] == ["TRADES, 3 seeds", "TRADES+weights, 3 seeds"] * 2
    values = [100 * metrics[name]["A_rob"] for name in names[:3]]
    mean, deviation = np.mean(values), np.std(values, ddof=1)
    digits = int(deviation <= 1.8)
    assert rows[0][4] == f"{mean:.{digits}f} ± {deviation:.{digits}f}"
    assert f"\n\n{report.SEEDS}\n\n" in printed
    differences = {row[1]: row for row in rows_of(printed, "accuracy")}
    found = welch(*([metrics[name]["A_rob"] for name in group] for group in (names[:3], names[3:])))
    _, _, shown, interval, p_value = differences["A_rob"]
    assert (shown, interval, p_value) == (*in_points(found), "-")
    assert "A_sa(2) at equal confidence" in differences
    assert [label for label, _ in told["results"]][:2] == ["TRADES, 3 seeds, seed 0", "TRADES, 3 seeds, seed 1"]
    assert [metrics for _, metrics in told["results"]] == list(metrics.values())
    assert [header[1] for _, header, _ in told["tables"]] == ["alpha_train", "accuracy", "seed"]


def test_the_metrics_of_a_group_are_means_without_the_intervals_of_single_runs(tmp_path):
    for seed in range(2):
        arrays = arrays_of(strength=1.0, seed=seed)
        facts = {"A_rob_interval": [0.5, 0.6], "masked": seed == 1, "flags": [{"message": str(seed)}]}
        write_run(tmp_path / str(seed), arrays, seed=seed, **facts)
    runs = [grouping.Run.read(str(tmp_path / str(seed))) for seed in range(2)]
    found = grouping.mean_of(runs)
    assert "A_rob_interval" not in found
    assert (found["masked"], found["seeds"], found["seed"], found["examples"]) == (True, 2, None, IMAGES)
    assert [flag["message"] for flag in found["flags"]] == ["0", "1"]
    values = [run.metrics["non_uniform"][1]["A_tr"] for run in runs]
    entry = found["non_uniform"][1]
    assert (entry["alpha_test"], entry["A_tr"]) == (2.0, pytest.approx(np.mean(values)))
    assert entry["A_tr_stderr"] == pytest.approx(np.std(values, ddof=1))
    assert grouping.mean_of(runs[:1]) == runs[0].metrics


def test_a_group_and_a_single_run_have_no_interval_and_it_is_said(tmp_path, compared):
    for seed in range(2):
        write_run(tmp_path / f"a-{seed}", arrays_of(strength=1.0, seed=seed), seed=seed)
    write_run(tmp_path / "b", STRONG, alpha_train=2.0)
    printed, told = compared("a-0", "a-1", "b")
    said = "No differences between TRADES+weights and TRADES, 2 seeds: one of them is a single seed"
    assert said in printed and "McNemar" not in printed
    assert [caption for caption, *_ in told["tables"]] == [report.SEEDS, "The runs"]
    assert [row[1:] for row in rows_of(printed, "seed")] == [["0", "-", "a-0"], ["1", "-", "a-1"], ["0", "-", "b"]]


def test_older_runs_without_images_have_a_table_and_a_line(tmp_path, compared):
    write_run(tmp_path / "a", WEAK)
    write_run(tmp_path / "old", STRONG, images=False, alpha_train=2.0)
    printed, told = compared("a", "old")
    assert "No differences between TRADES+weights and TRADES: old has no images.npz, evaluate it again." in printed
    assert len(rows_of(printed, "alpha_train")) == 4
    assert [caption for caption, *_ in told["tables"]] == ["The runs"]


def told_apart(*folders):
    """What each run is called, what differs, and its folder."""
    groups = grouping.grouped([grouping.Run.read(str(folder)) for folder in folders])
    labels = grouping.labels_of(groups)
    _, _, rows = grouping.runs_table(labels, groups)
    return labels, [(differs, folder) for _, _, differs, folder in rows]


def test_runs_of_the_same_name_are_told_apart_by_what_differs(tmp_path):
    for name, config in (
        ("a", {"epochs": 5, "learning_rate": 0.1, "output_dir": "a"}),
        ("b", {"epochs": 10, "learning_rate": 0.1, "output_dir": "b"}),
        ("c", {"epochs": 10, "learning_rate": 0.01, "output_dir": "c"}),
    ):
        write_run(tmp_path / name, WEAK, config=config)
    a, b, c = (tmp_path / name for name in "abc")
    assert told_apart(a, b) == (["TRADES [1]", "TRADES [2]"], [("epochs 5", str(a)), ("epochs 10", str(b))])
    assert told_apart(a, b, c) == (
        ["TRADES [1]", "TRADES [2]", "TRADES [3]"],
        [
            ("epochs 5, learning_rate 0.1", str(a)),
            ("epochs 10, learning_rate 0.1", str(b)),
            ("epochs 10, learning_rate 0.01", str(c)),
        ],
    )
    assert told_apart(a) == (["TRADES"], [("-", str(a))])


def test_what_no_setting_tells_apart_has_its_folder(tmp_path):
    write_run(tmp_path / "a", WEAK)
    write_run(tmp_path / "b", WEAK, masked=True)  # the same seed: no group
    a, b = tmp_path / "a", tmp_path / "b"
    assert told_apart(a, b) == (["TRADES [1]", "TRADES [2] MASKED"], [("-", str(a)), ("-", str(b))])
    for name in "cd":
        write_run(tmp_path / name, WEAK, method=None, alpha_train=None, seed=None)
    c, d = tmp_path / "c", tmp_path / "d"
    assert told_apart(c, d) == (["best.keras [1]", "best.keras [2]"], [("-", str(c)), ("-", str(d))])


def test_the_settings_of_an_evaluated_checkpoint_are_beside_it(tmp_path):
    for name, epochs in (("a", 5), ("b", 10)):
        write_run(tmp_path / "runs" / name, WEAK, config={"epochs": epochs})
        write_run(tmp_path / "evaluations" / name, WEAK, checkpoint=str(tmp_path / "runs" / name / "best.keras"))
    folders = [tmp_path / "evaluations" / name for name in "ab"]
    told = [("epochs 5", str(folders[0])), ("epochs 10", str(folders[1]))]
    assert told_apart(*folders) == (["TRADES [1]", "TRADES [2]"], told)


def test_seeds_of_other_settings_are_groups_of_their_own(tmp_path):
    for name, epochs, seed in (("a", 5, 0), ("b", 5, 1), ("c", 10, 0), ("d", 10, 1)):
        write_run(tmp_path / name, WEAK, config={"epochs": epochs, "seed": seed}, seed=seed)
    labels, rows = told_apart(*(tmp_path / name for name in "acbd"))
    assert labels == ["TRADES [1], 2 seeds", "TRADES [2], 2 seeds"]
    assert rows == [
        (f"epochs {epochs}", str(tmp_path / name)) for epochs, name in ((5, "a"), (5, "b"), (10, "c"), (10, "d"))
    ]


def at_radius(epsilon, **changed):
    return {**ATTACK, "epsilon": epsilon, "step_size": epsilon / 30, **changed}


@pytest.fixture
def curves(tmp_path):
    """Two defences, each at three radii, of which the first has two seeds at the largest."""
    for epsilon in (0.3, 0.1, 0.2):
        for name, alpha, gain in (("weak", 0.0, 1.0), ("strong", 2.0, 1.3)):
            arrays = arrays_of(strength=gain - epsilon)
            write_run(tmp_path / f"{name}-{epsilon}", arrays, alpha_train=alpha, attack=at_radius(epsilon))
    write_run(tmp_path / "weak-0.3-again", arrays_of(strength=0.6, seed=1), attack=at_radius(0.3), seed=1)
    return [path.name for path in sorted(tmp_path.iterdir(), key=lambda path: path.name[0], reverse=True)]


def test_runs_that_differ_in_the_radius_alone_are_curves(tmp_path, compared, curves, monkeypatch):
    drawn = []
    monkeypatch.setattr(report, "plot_epsilon", lambda found, path, title: drawn.append((found, str(path), title)))
    printed, told = compared(*curves)
    rows = rows_of(printed, "epsilon")
    weak = ["TRADES"] * 3
    assert [(row[0], row[1]) for row in rows] == [*zip(weak, ("0.1", "0.2", "0.3"), strict=True)] + [
        ("TRADES+weights", "0.1"),
        ("TRADES+weights", "0.2"),
        ("TRADES+weights", "0.3"),
    ]
    means = [np.mean([read(tmp_path / name)["A_rob"] for name in names]) for names in (
        ["weak-0.1"], ["weak-0.2"], ["weak-0.3", "weak-0.3-again"], ["strong-0.1"], ["strong-0.2"], ["strong-0.3"],
    )]  # fmt: skip
    assert [float(row[3].split(" ± ")[0]) for row in rows] == pytest.approx([100 * mean for mean in means], abs=0.5)
    assert printed.startswith("mnist, 400 test images, linf PGD-40, steps of 0.03333 epsilon\n")
    assert sorted(row[-1] for row in rows_of(printed, "seed")) == sorted(curves)
    ((found, path, title),) = drawn
    assert (path, title) == ("comparison.png", "mnist, 400 test images, linf PGD-40")
    assert [(label, [round(each["attack"]["epsilon"], 1) for each in metrics]) for label, metrics in found] == [
        ("TRADES", [0.1, 0.2, 0.3]),
        ("TRADES+weights", [0.1, 0.2, 0.3]),
    ]
    labels = [label for label, _ in told["results"]]
    assert labels[0] == "TRADES, epsilon 0.1" and len(set(labels)) == 6
    assert printed.splitlines()[-2:] == ["Picture: comparison.png", "Report: comparison.html"]


def test_the_curve_is_drawn_from_the_clean_accuracy_on(tmp_path):
    found = [{"attack": {"epsilon": epsilon}, "A_nat": 0.9, "A_rob": 0.9 - epsilon} for epsilon in (0.1, 0.2)]
    figure = report.plot_epsilon(
        [("a", found), ("b", [{**each, "A_strong": 0.5} for each in found])], tmp_path / "x.png"
    )
    lines = [line.get_xydata().tolist() for line in figure.axes[0].get_lines() if line.get_marker() in ("s", "D")]
    robust, strong = [[0.0, 0.9], [0.1, 0.8], [0.2, 0.7]], [[0.0, 0.9], [0.1, 0.5], [0.2, 0.5]]
    for line, expected in zip(lines, (robust, robust, strong), strict=True):  # side by side, so that bars are seen
        assert np.array(line) == pytest.approx(np.array(expected), abs=0.01)
    assert (tmp_path / "x.png").stat().st_size > 0


@pytest.mark.parametrize(
    ("attack", "message"),
    [
        (at_radius(0.1, step_size=0.01), "got attack step_size 0.03333 epsilon in 'a' and 0.1 epsilon in 'b'"),
        (at_radius(0.1, steps=20), "got attack steps 40 in 'a' and 20 in 'b'"),
        (at_radius(0.3), "runs: got a and b at epsilon 0.3, not told apart by their seeds"),
    ],
)
def test_other_differences_beside_the_radius_are_refused(tmp_path, compared, capsys, attack, message):
    write_run(tmp_path / "a", WEAK, attack=at_radius(0.3))
    write_run(tmp_path / "b", WEAK, attack=attack)
    write_run(tmp_path / "c", WEAK, attack=at_radius(0.2))
    with pytest.raises(SystemExit) as exit_:
        compared("a", "b", "c")
    assert exit_.value.code == 2
    assert message in refusal(capsys)
    assert not (tmp_path / "comparison.png").exists()


def break_data(path):
    path.write_bytes(path.read_bytes()[:300])


def with_pickle(path):
    np.savez(path, identity=np.array(["x", None], object))


def with_other_arrays(path):
    np.savez(path, identity=json.dumps({"weights": path.parent.name, "data": "d" * 64}), labels=np.zeros(3))


def with_labels_out_of_range(path):
    identity = json.dumps({"weights": path.parent.name, "data": "d" * 64})
    np.savez(path, identity=identity, **{**WEAK, "labels": WEAK["labels"] + 1})


def with_damaged_bytes(path):
    with zipfile.ZipFile(path) as archive:
        start = archive.getinfo("logits.npy").header_offset
    content = bytearray(path.read_bytes())
    content[start + 100 : start + 200] = bytes(100)
    path.write_bytes(content)


@pytest.mark.parametrize(
    "damage", [break_data, with_pickle, with_other_arrays, with_labels_out_of_range, with_damaged_bytes]
)
def test_broken_images_are_refused(tmp_path, compared, capsys, damage):
    write_run(tmp_path / "a", WEAK)
    write_run(tmp_path / "b", STRONG, alpha_train=2.0)
    damage(tmp_path / "b" / "images.npz")
    with pytest.raises(SystemExit) as exit_:
        compared("a", "b")
    assert exit_.value.code == 2
    assert "images.npz: got 'b/images.npz'" in refusal(capsys)
    assert not (tmp_path / "comparison.png").exists()


def test_ones_own_images_are_known_by_their_hash_whatever_path_named_them(tmp_path):
    hashes = {"weights": "a", "data": "d" * 64}
    write_run(tmp_path / "a", WEAK, dataset="photos/", hashes=hashes, images=False)
    write_run(tmp_path / "b", STRONG, dataset="/data/photos/", hashes=hashes, images=False)
    write_run(tmp_path / "c", STRONG, dataset="/data/photos/", images=False)
    a, b, c = (grouping.Run.read(str(tmp_path / name)) for name in "abc")
    grouping.check_alike([a, b])
    with pytest.raises(InvalidInput, match="runs: got dataset photos/ in '.*a' and /data/photos/ in '.*c'"):
        grouping.check_alike([a, c])


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({"identity": {"weights": "x", "data": "d" * 64}}, "images.npz: got 'b/images.npz', which is of other weights"),
        ({"identity": {"weights": "b", "data": "x"}}, "images.npz: got 'b/images.npz', which is of other data"),
        ({"examples": 399}, "runs: got examples 400 in 'a' and 399 in 'b'"),
        ({"attack": {**ATTACK, "steps": 20}}, "runs: got attack steps 40 in 'a' and 20 in 'b'"),
        ({"attack": {**ATTACK, "decay": 0.5}}, "runs: got attack decay None in 'a' and 0.5 in 'b'"),
        ({"suite": {"version": "plus"}}, "runs: got suite version standard in 'a' and plus in 'b'"),
        ({"hashes": {"data": "e" * 64}}, f"runs: got hash of the data {'d' * 12} in 'a' and {'e' * 12} in 'b'"),
    ],
)
def test_runs_that_cannot_be_compared_are_refused_with_what_differs(tmp_path, compared, capsys, facts, message):
    suite = {"version": "standard", "norm": "linf", "epsilon": 0.3, "examples": 400, "clean_accuracy": 0.9}
    suite["accuracy_after"] = {"apgd-ce": 0.8}
    facts = {**facts, "suite": {**suite, **facts.get("suite", {})}}
    write_run(tmp_path / "a", WEAK, suite=suite, hashes={"weights": "a", "data": "d" * 64}, images=False)
    has_images = "identity" in facts
    write_run(tmp_path / "b", STRONG, images=has_images, **facts)
    with pytest.raises(SystemExit) as exit_:
        compared("a", "b")
    assert exit_.value.code == 2
    assert message in refusal(capsys)
    assert not (tmp_path / "comparison.png").exists()


def test_a_classifier_without_confidence_is_compared_as_it_is(tmp_path, compared):
    write_run(tmp_path / "a", WEAK)
    constant = {**STRONG, **{name: np.zeros_like(STRONG[name]) for name in ("clean_logits", "logits", "strong_logits")}}
    write_run(tmp_path / "b", constant, alpha_train=2.0)
    names = [row[1] for row in rows_of(compared("a", "b")[0], "accuracy")]
    assert "A_sa(2)" in names and not any("equal confidence" in name for name in names)
