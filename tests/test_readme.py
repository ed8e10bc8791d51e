"""The README's code runs word for word; only the data behind `wmr.data.load` are few and made up."""

import re
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

import wmr_tf
from wmr_tf.evaluation.versions import VERSIONS

README = Path(__file__).resolve().parents[1] / "README.md"


def _few_images(name: str) -> wmr_tf.data.Splits:
    assert name == "mnist"
    rng = np.random.default_rng(0)
    images, labels = rng.uniform(size=(8, 28, 28, 1)).astype(np.float32), rng.integers(0, 10, 8).astype(np.int32)
    return wmr_tf.data.Splits(*[tf.data.Dataset.from_tensor_slices((images, labels)).batch(8)] * 3)


def numbers_in(line: str) -> list[float]:
    return [float(number) for number in re.findall(r"\d+(?:\.\d+)?", line)]


def shown(*accuracies) -> list[float]:
    """Return value and standard error of each in percent, as they are printed."""
    return [number for accuracy in accuracies for number in numbers_in(str(accuracy))]


def test_the_code_of_the_readme_runs(tmp_path, monkeypatch, capsys):
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(), flags=re.DOTALL)
    assert len(blocks) == 2
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(wmr_tf.data, "load", _few_images)
    monkeypatch.setitem(VERSIONS, "standard", VERSIONS["short"])  # it makes thousands of passes
    names: dict = {}
    for block in blocks:
        exec(compile(block, "README.md", "exec"), names)
    history = names["model"].history.history
    assert len(history["val_A_sa_2"]) == 10
    lines, result = capsys.readouterr().out.splitlines(), names["result"]
    place = lines.index(f"8 images, {names['attack']}")
    plain, *by_alpha = lines[place + 1 : place + 4]
    assert numbers_in(plain) == shown(result.A_nat, result.A_rob, result.A_strong)
    assert lines[-4] == "8 images, linf, epsilon 0.3, version standard, seed 0"
    assert lines[-1].startswith("after apgd-t") and str(names["found"].accuracy) in lines[-1]
    for line, alpha in zip(by_alpha, (1.0, 2.0), strict=True):
        assert numbers_in(line) == [alpha, *shown(result.A_sa(alpha), result.A_tr(alpha))]
    images = next(iter(names["test"]))[0]
    np.testing.assert_array_equal(keras.models.load_model("robust.keras")(images), names["classifier"](images))
