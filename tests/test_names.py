"""The names that commands know without TensorFlow are those of the registries, and no mistake has to wait for it."""

import dataclasses
import json
import os
import runpy
import subprocess
import sys
import textwrap
import types
from pathlib import Path

import keras
import pytest

import tuning
import wmr_tf
from trainers.settings.config import Experiment
from trainers.settings.method import METHOD_SETTINGS
from trainers.settings.recipes import recipe
from tuning.search import TUNERS
from tuning.tuner import ORACLES
from wmr_tf import architectures, attacks, data, methods, names, weights
from wmr_tf.checks import InvalidInput
from wmr_tf.engine.precision import COMPUTE
from wmr_tf.evaluation.radii import MEASURES
from wmr_tf.evaluation.versions import VERSIONS

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize(
    ("known", "registry"),
    [
        (names.DATASETS, data.SOURCES),
        (names.ARCHITECTURES, architectures.__all__),
        (names.APPLICATIONS, [name for name in dir(keras.applications) if name[0].isupper()]),
        (names.NORMS, attacks.NORMS),
        (names.STARTS, attacks.STARTS),
        (names.PRECISIONS_OF_ATTACKS, COMPUTE),
        (names.SUITES, VERSIONS),
        (names.RADII, MEASURES),
        (names.METHODS, methods.BY_NAME),
        (names.WEIGHTINGS, weights.BY_NAME),
        (TUNERS, ORACLES),
    ],
    ids=[
        "data",
        "networks",
        "applications",
        "norms",
        "starts",
        "precisions",
        "suites",
        "radii",
        "methods",
        "weightings",
        "tuners",
    ],
)
def test_names_are_those_of_the_registry(known, registry):
    assert sorted(known) == sorted(registry)


@pytest.mark.parametrize("name", names.ARCHITECTURES)
def test_networks_have_batchnorm_where_the_names_say(name):
    layers = getattr(architectures, name)().layers
    has_norm = any(isinstance(layer, keras.layers.BatchNormalization) for layer in layers)
    assert has_norm == (name in names.WITH_BATCH_NORM)


@pytest.mark.parametrize("name", names.METHODS)
def test_methods_take_what_the_names_say(name):
    assert list(names.METHODS[name].settings) == methods.BY_NAME[name].settings()
    assert set(names.METHODS[name].settings) <= {*METHOD_SETTINGS.values(), "examples"}
    assert names.METHODS[name].descends == methods.BY_NAME[name].descends


@pytest.mark.parametrize("name", names.WEIGHTINGS)
def test_weightings_have_the_settings_that_the_names_say(name):
    defaults = {field.name: field.default for field in dataclasses.fields(weights.BY_NAME[name])}
    known = {key: dataclasses.MISSING if value is None else value for key, value in names.WEIGHTINGS[name].items()}
    assert defaults == known


def attack_of(start, steps):
    settings = {"epsilon": 0.1, "step_size": 0.05}
    return attacks.NFGSM(**settings) if start == "noise" else attacks.PGD(**settings, start=start, steps=steps)


def is_allowed(make):
    try:
        return make() is not None
    except InvalidInput:
        return False


@pytest.mark.filterwarnings("ignore:attack. its steps reach")
@pytest.mark.parametrize("start", [*names.STARTS, names.NOISE])
@pytest.mark.parametrize("method", [name for name in names.METHODS if name != "natural"])
def test_the_settings_allow_the_attacks_that_the_method_takes(method, start):
    usual = recipe("digits", method)
    others = {name: usual[name] for name in ("beta", "replays", "passes") if name in usual}
    others |= {"examples": 1} if method == "iaat" else {}
    for steps in (1,) if start == "noise" else (1, 2):
        settings = {"attack_start": start, "attack_steps": steps}
        on_command_line = is_allowed(lambda settings=settings: Experiment.of("digits", method, **settings))
        attack = attack_of(start, steps)
        in_method = is_allowed(lambda attack=attack: methods.BY_NAME[method](attack, **others))
        assert on_command_line == in_method, steps


@pytest.mark.parametrize(
    ("other", "folder", "imported"),
    [
        ("", "", ["wmr_tf.model"]),
        ("trainers", ROOT / "trainers", []),
        ("tuning", ROOT / "tuning", []),
        ("trainers", "/mine/trainers", ["wmr_tf.model"]),  # another package of this name
    ],
)
def test_the_library_alone_registers_its_classes_with_keras_and_a_command_waits(other, folder, imported, monkeypatch):
    for name in ("trainers", "tuning"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    if other:
        monkeypatch.setitem(sys.modules, other, types.SimpleNamespace(__path__=[str(folder)]))
    found = []
    monkeypatch.setattr("importlib.import_module", found.append)
    runpy.run_path(wmr_tf.__file__)
    assert found == imported


@pytest.mark.parametrize("package", [wmr_tf, tuning])
def test_public_names_are_there_and_known(package):
    assert set(package.__all__) <= set(dir(package))
    assert all(getattr(package, name) is not None for name in package.__all__)
    with pytest.raises(AttributeError, match=f"^module '{package.__name__}' has no attribute 'nothing'$"):
        package.nothing  # noqa: B018  It is what is tested.


# Each command with mistakes of all kinds that are found before TensorFlow is needed.
COMMANDS = {
    "trainers.digits": [
        ["--epoch=3"],
        ["--epochs=x"],
        ["--epsilon=8"],
        ["--method=free", "--attack_steps=3"],
        ["--surrogate=x"],
    ],
    "trainers.mnist": [["--weighting=exponential:normalise=true"], ["--method=iaat", "--radius_smoothing=2"]],
    "trainers.cifar10": [["--alpha_train=61"], ["--strategy=multi_worker"]],
    "trainers.tiny_imagenet": [["--data_dir=nowhere"], ["--initialize_from=nowhere"]],
    "trainers.custom": [[], ["--data=nowhere"], ["--data=nowhere.npz"], ["--data=."]],
    "trainers.evaluate": [["--model=nowhere", "--dataset=digits"], ["--dataset=digits"], ["--diagnosis"]],
    "trainers.compare": [[], ["nowhere"], ["nowhere", "--mark"], ["nowhere", "--output=page.html"]],
    "trainers.matched": [[], ["a.keras", "b.keras"], ["a.keras", "b.keras", "--eval_examples=0"]],
    "trainers.resume": [[], ["nowhere"], ["nowhere", "--epochs=3"]],
    "reproduce.table1": [["--budget=day"], ["--rows=madry"], ["--data_dir=nowhere"]],
    "reproduce.table5": [["--seeds=0,0"], ["--suite_examples=20000"]],
    "tuning.search": [
        ["--dataset=digits", "--search=alpha_train:4:0"],
        ["--dataset=digits", "--search=alpha_train:-1:4"],
        ["--dataset=digits", "--objective=val_loss"],
        ["--dataset=digits", "--tuner=x"],
        ["--dataset=digits", "--trials=x"],
    ],
}
HEAVY = ["tensorflow", "keras", "keras_tuner", "matplotlib", "sklearn", "tensorflow_datasets"]
SCRIPT = """
import json, os, runpy, sys
import trainers.cli, reproduce.settings, tuning.space  # so that not every child imports them
calls, heavy = map(json.loads, sys.argv[1:])
for module, arguments in calls:
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        continue
    sys.argv = [module, *arguments]
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as end:
        print(json.dumps([end.code, [name for name in heavy if name in sys.modules]]), flush=True)
    os._exit(0)
"""


@pytest.mark.slow
def test_the_garbage_collector_passes_over_what_imports_make():
    script = """
        import gc
        from trainers.quiet import import_tensorflow
        import_tensorflow()
        print(gc.isenabled(), gc.get_freeze_count() > 100_000)
        before = gc.get_freeze_count()
        import_tensorflow()  # not again: by then there may be garbage
        print(gc.get_freeze_count() == before)
    """
    command, environment = [sys.executable, "-c", textwrap.dedent(script)], {**os.environ, "PYTHONPATH": str(ROOT)}
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert ended.stdout.split() == ["True"] * 3, ended.stderr


def test_neither_mistakes_nor_help_import_tensorflow(tmp_path):
    calls = [(module, arguments) for module, several in COMMANDS.items() for arguments in [["--help"], *several]]
    environment = {name: value for name, value in os.environ.items() if name != "TF_CONFIG"}
    ended = subprocess.run(
        [sys.executable, "-c", SCRIPT, json.dumps(calls), json.dumps(HEAVY)],
        cwd=tmp_path,
        env={**environment, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    told = [json.loads(line) for line in ended.stdout.splitlines() if line.startswith("[")]
    assert [(call, *each) for call, each in zip(calls, told, strict=True)] == [
        (call, 0 if call[1] == ["--help"] else 2, []) for call in calls
    ]
    mistakes = ended.stderr.splitlines()
    assert len(mistakes) == sum(map(len, COMMANDS.values())) and all(line.startswith("error: ") for line in mistakes)
    assert list(tmp_path.iterdir()) == []
