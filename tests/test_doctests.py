"""Every example in a docstring runs, with small objects under the names that the examples use."""

import ast
import doctest
import importlib
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

import wmr_tf

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ["wmr_tf", "trainers", "tuning", "reproduce"]

# They read the archive of Tiny ImageNet, 237 MB; tests/test_tiny_imagenet.py does the same with a small one.
NEED_AN_ARCHIVE = {"wmr_tf.data.tiny_imagenet.archive.Archive", "wmr_tf.data.tiny_imagenet.builder.TinyImagenet"}


def documented_examples():
    """Return the full names of what has an example in its docstring, read from the sources."""
    for path in sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py")):
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        yield from names_with_example(ast.parse(path.read_text(encoding="utf-8")), module)


def names_with_example(node, name):
    if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ">>>" in (ast.get_docstring(node) or ""):
        yield name
    for child in ast.iter_child_nodes(node):
        inside = isinstance(child, ast.ClassDef | ast.FunctionDef)
        yield from names_with_example(child, f"{name}.{child.name}" if inside else name)


def lookup(name):
    """Return the module that defines `name`, and what it names there."""
    parts = name.split(".")
    for end in range(len(parts), 0, -1):
        try:
            module = importlib.import_module(".".join(parts[:end]))
        except ModuleNotFoundError:
            continue
        documented = module
        for part in parts[end:]:
            documented = getattr(documented, part)
        return module, documented
    raise LookupError(name)


def example_of(name, names):
    """Return the example in the docstring of `name`; it sees its module, and besides `names`."""
    module, documented = lookup(name)
    return doctest.DocTestParser().get_doctest(
        documented.__doc__, {**names, **vars(module)}, name, filename=module.__file__, lineno=0
    )


@pytest.fixture
def small_objects():
    """What a user has at hand who reads an example: images with labels, a classifier, an attack, a compiled model."""
    rng = np.random.default_rng(0)
    images, labels = rng.random([4, 8, 8, 1], dtype="float32"), rng.integers(0, 10, 4)

    def my_classifier():
        layers = [keras.layers.Conv2D(4, 3, activation="relu"), keras.layers.Flatten(), keras.layers.Dense(10)]
        return keras.Sequential([keras.Input([8, 8, 1]), *layers])

    classifier, attack = my_classifier(), wmr_tf.attacks.PGD(epsilon=0.1, step_size=0.05, steps=3)
    model = wmr_tf.AdversarialModel(my_classifier(), wmr_tf.methods.PGD(attack))
    model.compile(optimizer="sgd")
    dataset = tf.data.Dataset.from_tensor_slices((images, labels)).batch(2)
    libraries = {"wmr_tf": wmr_tf, "keras": keras, "np": np, "tf": tf}
    data = {"images": tf.constant(images), "labels": tf.constant(labels)}
    splits = dict.fromkeys(["train", "validation", "test"], dataset)
    models = {"my_classifier": my_classifier, "classifier": classifier, "attack": attack, "model": model}
    return libraries | data | splits | models


@pytest.mark.parametrize("name", list(documented_examples()))
def test_example_runs(name, small_objects, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # some save a model or a figure
    example = example_of(name, small_objects)
    skipped = [step for step in example.examples if step.options.get(doctest.SKIP)]
    assert bool(skipped) == (name in NEED_AN_ARCHIVE)
    report = []
    outcome = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(example, out=report.append)
    assert outcome == doctest.TestResults(0, len(example.examples) - len(skipped)), "".join(report)
