"""Several replicas train and evaluate as one device does; several workers end together, and clearly.

TensorFlow's devices and cluster are settled once in a process, so what runs on replicas runs in processes of its own:
a function of this file, named to `on_two_devices` or `on_two_workers`, that saves arrays.
"""

import contextlib
import csv
import dataclasses
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from tests.marking import some
from trainers.runs.strategy import make_strategy
from trainers.settings.cluster import checked_tf_config
from wmr_tf import AdversarialModel, attacks, callbacks, methods
from wmr_tf.checks import InvalidInput
from wmr_tf.engine import distribution, seeds
from wmr_tf.evaluation import evaluate_robustness
from wmr_tf.weights import CVaR

ROOT = Path(__file__).resolve().parents[1]
ONE = contextlib.nullcontext()
FROM_CLEAN = attacks.PGD(epsilon=0.1, step_size=0.05, steps=2, start="none")  # draws nothing
TEST_ATTACK = attacks.PGD(epsilon=0.1, step_size=0.05, steps=2, restarts=2)

# Layers after the first convolution, method, images (batches of 8: 29 leave one of 5) and settings of the model.
TRAININGS = {
    "natural": ([], methods.Natural(), 32, {}),
    "unequal shares": ([], methods.Natural(), 29, {"weight_decay": 0.01}),
    "mart": ([layers.BatchNormalization], methods.MART(FROM_CLEAN, alpha=1.0), 32, {"weight_decay": 1e-3}),
    "batchnorm": ([layers.BatchNormalization], methods.PGD(FROM_CLEAN, alpha=1.0), 29, {}),
}


def data(examples: int = 32) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.uniform(size=(examples, 8, 8, 1)).astype(np.float32), rng.integers(0, 5, examples)


def batches(examples: int = 32, size: int = 8) -> tf.data.Dataset:
    return tf.data.Dataset.from_tensor_slices(data(32)).take(examples).shuffle(32, seed=1).batch(size)


def make(scope, after=(), method=None, **settings) -> AdversarialModel:
    keras.utils.set_random_seed(0)
    with scope:
        middle = [make_layer() for make_layer in after]
        stack = [layers.Conv2D(4, 3), *middle, layers.ReLU(), layers.Flatten(), layers.Dense(5)]
        model = AdversarialModel(
            keras.Sequential([keras.Input((8, 8, 1)), *stack]), method or methods.Natural(), **settings
        )
        model.compile(keras.optimizers.SGD(0.05, momentum=0.9), metrics=["accuracy"])
    return model


def trained(scope, after, method, examples, settings) -> dict[str, np.ndarray]:
    """Weights and history after two epochs; the images of a data set come in one order wherever they are trained on."""
    model = make(scope, after, method, **settings)
    history = model.fit(batches(examples), epochs=2, verbose=0, validation_data=batches(21)).history
    return {**{str(k): w for k, w in enumerate(model.get_weights())}, **{k: np.array(v) for k, v in history.items()}}


def evaluated(scope) -> dict[str, np.ndarray]:
    """Margins of 13 images in batches of 5, so that neither batches nor shares come out even."""
    result = evaluate_robustness(
        make(scope).classifier, data(13), TEST_ATTACK, alpha_test=(2.0,), batch_size=5, verbose=0
    )
    return {
        "clean": result.clean_margins,
        "rob": result.margins,
        "tr": result.weighted_margins[2.0],
        "loss": result.losses,
        "broken by": result.suite.outcomes.broken_by,
        "strongest": result.suite.outcomes.margins,
    }


def reported(scope, folder: Path) -> dict[str, np.ndarray]:
    """What callbacks see and save in two epochs."""
    best = callbacks.SaveBestClassifier(folder / "best.keras", "val_A_nat")
    robustness = callbacks.RobustEvaluation(data(13), TEST_ATTACK, alpha_test=(2.0,))
    model = make(scope, [layers.BatchNormalization])
    history = model.fit(batches(), epochs=2, verbose=0, callbacks=[robustness, best]).history
    return {name: np.array(history[name]) for name in ("val_A_nat", "val_A_rob", "val_A_sa", "val_A_tr")}


# What runs on replicas: functions of the strategy and a folder that return arrays


def training(strategy, folder, names=("batchnorm",)):
    runs = {name: trained(strategy.scope(), *TRAININGS[name]) for name in names}
    return {f"{name}/{key}": value for name, values in runs.items() for key, value in values.items()}


def trainings(strategy, folder):
    return training(strategy, folder, TRAININGS)


def batch_weights(strategy, folder):
    """Two epochs with weights that are taken over what a replica has of each batch."""
    return trained(strategy.scope(), [], methods.PGD(FROM_CLEAN, alpha=CVaR(0.5)), 32, {})


def evaluation(strategy, folder):
    return evaluated(strategy.scope())


def noise(strategy, folder):
    """Train with noise and dropout, of which each device draws its own, and on images that are wrong."""
    noisy = methods.TRADES(attacks.PGD(epsilon=0.1, step_size=0.05, steps=2), alpha=1.0)
    model = make(strategy.scope(), [layers.BatchNormalization, lambda: layers.Dropout(0.5)], noisy)
    logs = model.fit(*data(), batch_size=16, epochs=2, verbose=0, validation_data=data()).history
    try:
        model.fit(batches().concatenate(batches().map(lambda x, y: (2 * x, y))), verbose=0)
    except InvalidInput as error:
        message = str(error)
    return {"replicas": strategy.num_replicas_in_sync, "logs": [*logs.values()], "message": message}


def reports(strategy, folder):
    return reported(strategy.scope(), folder)


def batch_seeds(strategy, folder):
    model = make(strategy.scope(), seed=3)
    drawn = strategy.run(tf.function(lambda: model._batch_seed()[None]))
    return {"seeds": strategy.gather(drawn, axis=0).numpy()}


def shares(strategy, folder):
    distributed = strategy.experimental_distribute_dataset(distribution.splittable_by_keras(batches(21), strategy))
    return {
        str(k): np.concatenate([part.numpy() for part in strategy.experimental_local_results(labels)])
        for k, (_, labels) in enumerate(distributed)
    }


def distributed_data(strategy, folder):
    model = make(strategy.scope())
    model.fit(strategy.experimental_distribute_dataset(batches()), epochs=2, verbose=0)
    return {str(k): w for k, w in enumerate(model.get_weights())}


def refusals(strategy, folder):
    def message(run) -> str:
        try:
            run()
        except (InvalidInput, tf.errors.InvalidArgumentError) as error:
            return str(error)
        return ""

    yopo = make(strategy.scope(), [layers.BatchNormalization], methods.YOPO(FROM_CLEAN, passes=2))
    return {
        "yopo": message(lambda: yopo.fit(batches(), verbose=0)),
        "free": message(lambda: make(strategy.scope(), (), methods.Free(attacks.FGSM(0.1))).fit(batches(), verbose=0)),
        "one image": message(lambda: make(strategy.scope()).fit(batches(25), verbose=0)),
    }


def resumed(strategy, folder):
    """Losses and weights of three epochs that nobody stops, and of three that are stopped within the second."""

    def train(name: str, *others: keras.callbacks.Callback) -> list[np.ndarray]:
        model = make(strategy.scope(), [layers.BatchNormalization, lambda: layers.Dropout(0.5)])
        in_order = tf.data.Dataset.from_tensor_slices(data()).batch(8)
        resume = callbacks.ExactResume(folder / name, minutes=1e-9)
        history = model.fit(in_order, epochs=3, verbose=0, callbacks=[*others, resume]).history
        return [np.concatenate([np.ravel(part) for part in (*history.values(), *model.get_weights())])]

    def stop(batch: int, logs: dict[str, float]) -> None:
        stop.batches += 1
        if stop.batches == 7:
            raise KeyboardInterrupt

    stop.batches = 0
    with contextlib.suppress(KeyboardInterrupt):
        train("stopped", keras.callbacks.LambdaCallback(on_train_batch_end=stop))
    return {"kept": sorted(os.listdir(folder / "stopped")), "resumed": train("stopped"), "alone": train("alone")}


def overflow(strategy, folder):
    """A step in float16 whose gradient overflows on the second device and is 0 on the first."""
    keras.config.set_dtype_policy("mixed_float16")
    with strategy.scope():
        classifier = keras.Sequential([keras.Input([4]), layers.Dense(3)])
        model = AdversarialModel(classifier, methods.Natural())
        model.compile(keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.1), initial_scale=2.0**30))
    before = model.get_weights()
    in_order = {"batch_size": 2, "shuffle": False, "sample_weight": np.array([0.0, 1.0]), "verbose": 0}
    model.fit(np.ones([2, 4], np.float32), np.array([0, 1]), **in_order)
    scale = keras.ops.convert_to_numpy(model.optimizer.dynamic_scale)
    return {"before": np.concatenate(before, None), "after": np.concatenate(model.get_weights(), None), "scale": scale}


def rolled_back(strategy, folder):
    """The learning rate of a training that goes back once."""
    model = make(strategy.scope())
    doomed = iter([False, True])

    def spoil(batch, logs):
        if next(doomed, False):
            weights = model.trainable_variables[0]
            weights.assign(weights * np.nan)

    spoiler = keras.callbacks.LambdaCallback(on_train_batch_begin=spoil)
    kept = callbacks.ExactResume(folder / "kept", minutes=1e-9, on_divergence="rollback")
    model.fit(batches(), verbose=0, callbacks=[spoiler, kept])
    return {
        "rates": [entry["learning_rate"] for entry in kept.rollbacks],
        "finite": np.isfinite(model.get_weights()[0]),
    }


def refused_arrays(strategy, folder):
    try:
        make(strategy.scope()).fit(*data(), verbose=0)
    except InvalidInput as error:
        return {"message": str(error)}
    return {}


# How it gets there


def in_process(devices: int, names: str, folder: str) -> None:
    """Make the strategy and save what the functions return; called in a process of its own."""
    (cpu,) = tf.config.list_physical_devices("CPU")
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * devices)
    keras.utils.set_random_seed(0)  # which tf.data mixes into its own
    strategy = make_strategy("multi_worker" if "TF_CONFIG" in os.environ else "mirrored")
    arrays = [globals()[name](strategy, Path(folder)) for name in names.split()]
    np.savez(f"{folder}/arrays.npz", **dict(item for each in arrays for item in each.items()))


def start(devices: int, name: str, folder: Path, **environment: str) -> subprocess.Popen:
    folder.mkdir(exist_ok=True)
    code = f"from tests.test_strategy import in_process; in_process({devices}, {name!r}, {str(folder)!r})"
    return launch(["-c", code], folder / "log", **environment)


def launch(arguments: list[str], log: Path, **environment: str) -> subprocess.Popen:
    with open(log, "w") as file:
        return subprocess.Popen(
            [sys.executable, *arguments], stdout=file, stderr=file, cwd=ROOT, env={**os.environ, **environment}
        )


def finished(process: subprocess.Popen, folder: Path) -> dict[str, np.ndarray]:
    assert process.wait(timeout=300) == 0, (folder / "log").read_text()
    return dict(np.load(folder / "arrays.npz"))


def on_two_devices(name: str, folder: Path) -> dict[str, np.ndarray]:
    return finished(start(2, name, folder), folder)


def cluster() -> list[str]:
    """TF_CONFIG of each of two workers on free ports of this machine."""
    with socket.socket() as first, socket.socket() as second:
        for probe in (first, second):
            probe.bind(("127.0.0.1", 0))
        addresses = [f"127.0.0.1:{probe.getsockname()[1]}" for probe in (first, second)]
    return [
        json.dumps({"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}) for index in (0, 1)
    ]


def on_two_workers(name: str, folder: Path) -> list[dict[str, np.ndarray]]:
    folders = [folder / "worker0", folder / "worker1"]
    processes = [start(1, name, each, TF_CONFIG=task) for each, task in zip(folders, cluster(), strict=True)]
    try:
        return [finished(process, each) for process, each in zip(processes, folders, strict=True)]
    finally:
        end(processes)


def end(processes: list[subprocess.Popen]) -> None:
    for process in processes:
        process.kill()
        process.wait()


def on_replicas(place: str, name: str, folder: Path) -> list[dict[str, np.ndarray]]:
    return [on_two_devices(name, folder)] if place == "mirrored" else on_two_workers(name, folder)


@pytest.fixture(scope="module")
def mirrored(tmp_path_factory) -> dict[str, np.ndarray]:
    """What the fast tests look at, all from one process: each takes seconds to start."""
    return on_two_devices("training evaluation", tmp_path_factory.mktemp("mirrored"))


@pytest.fixture(params=some(["mirrored", "multi_worker"], fast=["mirrored"]))
def evaluations(request, tmp_path):
    """Return the arrays of each process that runs `evaluation`."""
    if request.param == "multi_worker":
        return on_two_workers("evaluation", tmp_path)
    return [request.getfixturevalue("mirrored")]


# Training and evaluation


def assert_trained_as_alone(found, name):
    alone, before = trained(ONE, *TRAININGS[name]), make(ONE, TRAININGS[name][0]).get_weights()
    assert np.abs(alone["0"] - before[0]).max() > 1e-3
    for key, value in alone.items():
        np.testing.assert_allclose(found[f"{name}/{key}"], value, rtol=2e-5, atol=2e-5, err_msg=f"{name} {key}")


def test_a_training_equals_that_of_one_device_with_the_same_global_batch(mirrored):
    assert_trained_as_alone(mirrored, "batchnorm")


@pytest.mark.slow
@pytest.mark.parametrize("place", ["mirrored", "multi_worker"])
def test_every_training_equals_that_of_one_device_with_the_same_global_batch(place, tmp_path):
    found = on_replicas(place, "trainings", tmp_path)
    for name in TRAININGS:
        for arrays in found:
            assert_trained_as_alone(arrays, name)


def test_evaluation_equals_that_of_one_process_image_by_image(evaluations):
    alone = evaluated(ONE)
    for arrays in evaluations:
        for name, values in alone.items():
            np.testing.assert_allclose(arrays[name], values, rtol=0, atol=1e-5, err_msg=name)


@dataclasses.dataclass(frozen=True)
class CVaROfHalves(CVaR):
    """What `CVaR` makes of each half of a batch by itself."""

    def __call__(self, logits, labels, **known):
        of_half = super().__call__
        parts = [of_half(logits, labels, losses=losses) for losses in tf.split(known["losses"], 2)]
        return tf.concat(parts, axis=0)


@pytest.mark.slow
def test_weights_over_a_batch_are_those_of_each_replicas_share(tmp_path):
    found = on_two_devices("batch_weights", tmp_path)
    settings = ([], methods.PGD(FROM_CLEAN, alpha=CVaROfHalves(0.5)), 32, {})
    for key, value in trained(ONE, *settings).items():
        np.testing.assert_allclose(found[key], value, rtol=0, atol=2e-5, err_msg=key)
    whole = trained(ONE, [], methods.PGD(FROM_CLEAN, alpha=CVaR(0.5)), 32, {})
    assert np.abs(whole["0"] - found["0"]).max() > 1e-4


def test_a_step_that_overflows_on_one_device_is_left_out_by_all(tmp_path):
    found = on_two_devices("overflow", tmp_path)
    np.testing.assert_array_equal(found["after"], found["before"])
    assert found["scale"] == 2.0**29


def test_a_training_on_two_devices_goes_back_with_half_the_learning_rate(tmp_path):
    found = on_two_devices("rolled_back", tmp_path)
    assert found["rates"] == [pytest.approx(0.025)] and found["finite"].all()


@pytest.mark.slow
def test_noise_on_two_devices_stays_finite_and_wrong_images_are_refused(tmp_path):
    found = on_two_devices("noise", tmp_path)
    assert found["replicas"] == 2
    assert np.isfinite(found["logs"]).all() and found["logs"].shape[1] == 2
    assert str(found["message"]).startswith("images: got 32 wi")


@pytest.mark.slow
def test_a_training_on_two_devices_goes_on_to_the_same_bits(tmp_path):
    found = on_two_devices("resumed", tmp_path)
    assert list(found["kept"]) == [f"epoch-000001-batch-0000000{batch}" for batch in range(3)]  # one from before it
    np.testing.assert_array_equal(found["resumed"], found["alone"])


@pytest.mark.slow
@pytest.mark.parametrize("place", ["mirrored", "multi_worker"])
def test_callbacks_report_and_save_what_they_do_on_one_device(place, tmp_path):
    alone = reported(ONE, tmp_path)
    weights = keras.models.load_model(tmp_path / "best.keras").get_weights()
    folders = [tmp_path / "mirrored"] if place == "mirrored" else [tmp_path / "worker0", tmp_path / "worker1"]
    for arrays, folder in zip(
        on_replicas(place, "reports", folders[0] if place == "mirrored" else tmp_path), folders, strict=True
    ):
        for name, values in alone.items():
            np.testing.assert_allclose(arrays[name], values, rtol=0, atol=1e-4, err_msg=name)
        saved = keras.models.load_model(folder / "best.keras")
        assert [layer["config"].get("synchronized") for layer in saved.get_config()["layers"]].count(False) == 1
        for mine, other in zip(saved.get_weights(), weights, strict=True):
            np.testing.assert_allclose(mine, other, rtol=0, atol=2e-5)


@pytest.mark.slow
@pytest.mark.parametrize("place", ["mirrored", "multi_worker"])
def test_each_replica_draws_perturbations_of_its_own(place, tmp_path):
    expected = [seeds.fold_in(3, 0, replica).numpy().tolist() for replica in range(2)]
    assert expected[0] != expected[1]
    for arrays in on_replicas(place, "batch_seeds", tmp_path):
        assert arrays["seeds"].tolist() == expected


@pytest.mark.slow
def test_workers_share_each_batch_in_order(tmp_path):
    alone = [labels.numpy().tolist() for _, labels in batches(21)]
    first, second = on_two_workers("shares", tmp_path)
    assert [[*first[str(k)], *second[str(k)]] for k in range(3)] == alone


@pytest.mark.slow
def test_a_data_set_that_is_shared_out_already_trains_the_same(tmp_path):
    model = make(ONE)
    model.fit(batches(), epochs=2, verbose=0)
    for key, value in on_two_devices("distributed_data", tmp_path).items():
        np.testing.assert_allclose(value, model.get_weights()[int(key)], rtol=0, atol=2e-5)


@pytest.mark.slow
def test_what_replicas_cannot_do_is_said(tmp_path):
    got = {name: str(message) for name, message in on_two_devices("refusals", tmp_path).items()}
    assert "a loop over passes in which the replicas would have to meet" in got["yopo"]
    assert got["free"].startswith("method Free: got 2 replicas, expected one")
    assert "got a batch with fewer images than the 2 replicas" in got["one image"]


@pytest.mark.slow
def test_arrays_which_each_worker_would_shuffle_by_itself_are_refused(tmp_path):
    for arrays in on_two_workers("refused_arrays", tmp_path):
        assert str(arrays["message"]).startswith("data: got ndarray with 2 workers, expected a tf.data.Dataset")


# TF_CONFIG

WORKERS = {"worker": ["10.0.0.1:1", "10.0.0.2:1"]}


@pytest.mark.parametrize(
    ("config", "got"),
    [
        ("", "nothing"),
        ("{", "'{'"),
        ("[]", "'\\[\\]'"),
        ({"cluster": WORKERS}, '\'{"cluster"'),
        ({"cluster": {"ps": ["10.0.0.1:1"]}, "task": {"type": "ps", "index": 0}}, 'the cluster {"ps"'),
        ({"cluster": {"worker": ["10.0.0.1"]}, "task": {"type": "worker", "index": 0}}, "the cluster"),
        ({"cluster": {"worker": []}, "task": {"type": "worker", "index": 0}}, "the cluster"),
        ({"cluster": WORKERS, "task": {"type": "worker", "index": 2}}, "the task"),
        ({"cluster": WORKERS, "task": {"type": "worker"}}, "the task"),
        ({"cluster": WORKERS, "task": {"type": "chief", "index": 0}}, "the task"),
    ],
)
def test_a_wrong_tf_config_is_refused(config, got):
    with pytest.raises(InvalidInput, match=f"^TF_CONFIG: got {got}.*Set it on each worker"):
        checked_tf_config(config if isinstance(config, str) else json.dumps(config))


def test_a_right_tf_config_is_taken():
    config = {"cluster": {"chief": ["a.example:1"], **WORKERS}, "task": {"type": "chief", "index": 0}}
    assert checked_tf_config(json.dumps(config)) == config


# The trainers

FLAGS = [
    "--method=natural",
    "--train_examples=256",
    "--validation_examples=40",
    "--eval_examples=64",
    "--eval_attack_steps=2",
    "--alpha_test=1",
]


def trainer(log: Path, *flags: str, **environment: str) -> subprocess.Popen:
    return launch(["-u", "-m", "trainers.digits", *FLAGS, *flags], log, **environment)


def last_line(log: Path) -> str:
    return log.read_text().strip().splitlines()[-1]


def test_a_missing_tf_config_ends_a_trainer_with_status_2(tmp_path):
    process = trainer(tmp_path / "log", "--strategy=multi_worker", f"--output_dir={tmp_path / 'run'}", TF_CONFIG="")
    assert process.wait(timeout=120) == 2
    assert last_line(tmp_path / "log").startswith("error: TF_CONFIG: got nothing, expected JSON")
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_worker_whose_others_never_come_ends(tmp_path):
    code = "from trainers.runs import strategy; strategy.WAIT_MINUTES = 0.1; strategy.make_strategy('multi_worker')"
    process = launch(["-c", code], tmp_path / "log", TF_CONFIG=cluster()[1])
    try:
        assert process.wait(timeout=120) == 1
    finally:
        end([process])
    assert "worker 1: waiting up to 0.1 minutes for all of 127.0.0.1:" in (tmp_path / "log").read_text()


def history(folder: Path) -> dict[str, np.ndarray]:
    with open(folder / "history.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    return {name: np.array([float(row[name]) for row in rows]) for name in rows[0]}


@pytest.mark.slow
def test_the_run_of_two_workers_is_that_of_one_process_and_only_the_chief_writes(tmp_path):
    exact = "--precision=float32", "--epochs=2"
    flags = [*exact, "--strategy=multi_worker"]
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    processes = [
        trainer(
            tmp_path / f"log{k}", *flags, f"--output_dir={tmp_path / f'run{k}'}", TF_CONFIG=task, TMPDIR=str(scratch)
        )
        for k, task in enumerate(cluster())
    ]
    try:
        for k, process in enumerate(processes):
            assert process.wait(timeout=300) == 0, (tmp_path / f"log{k}").read_text()
    finally:
        end(processes)
    alone = trainer(tmp_path / "log", *exact, f"--output_dir={tmp_path / 'alone'}")
    assert alone.wait(timeout=300) == 0, (tmp_path / "log").read_text()
    files = [sorted(p.name for p in (tmp_path / name).iterdir()) for name in ("alone", "run0")]
    assert files[0] == files[1]
    assert not (tmp_path / "run1").exists()
    assert not list(scratch.iterdir())
    noise = ("warning: ", "retracing")  # of attacks that are weak on purpose, and TensorFlow's own
    lines = (tmp_path / "log1").read_text().splitlines()
    said = [line for line in lines if line and not any(word in line for word in noise)]
    assert said[-1] == "worker 1: taking part; the chief reports and writes"
    for name, values in history(tmp_path / "alone").items():
        np.testing.assert_allclose(history(tmp_path / "run0")[name], values, rtol=1e-3, atol=1e-4, err_msg=name)
    metrics = [json.loads((tmp_path / name / "metrics.json").read_text()) for name in ("alone", "run0")]
    for name in ("A_nat", "A_rob", "A_nat_stderr"):
        assert metrics[0][name] == pytest.approx(metrics[1][name], abs=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("killed", [0, 1])
def test_when_a_worker_is_killed_the_other_ends_clearly_and_the_run_can_go_on(killed, tmp_path):
    folder, logs = tmp_path / "run", [tmp_path / "log0", tmp_path / "log1"]
    flags = ["--epochs=2000", "--strategy=multi_worker", f"--output_dir={folder}"]
    processes = [trainer(log, *flags, TF_CONFIG=task) for log, task in zip(logs, cluster(), strict=True)]
    try:
        deadline = time.monotonic() + 240
        while not (folder / "best.keras").exists():
            assert time.monotonic() < deadline
            time.sleep(0.1)
        processes[killed].send_signal(signal.SIGKILL)
        assert processes[1 - killed].wait(timeout=60) == 1
    finally:
        end(processes)
    message = last_line(logs[1 - killed])
    assert message.startswith(f"error: training: lost worker {killed} (")
    assert f"by the same command, with --output_dir={'FOLDER' if killed == 0 else folder}" in message


# A trainer that writes a checkpoint at the end of every epoch.
OFTEN = ["-c", "import runpy; from trainers.runs import run; run.CHECKPOINT_MINUTES = 1e-9; "]
OFTEN[1] += "runpy.run_module('trainers.digits', run_name='__main__')"


@pytest.mark.slow
def test_two_workers_that_were_killed_go_on_as_if_nothing_had_happened(tmp_path):
    def run(name: str, killed_after: int | None = None) -> None:
        flags = [*FLAGS, "--epochs=4", "--deterministic", "--strategy=multi_worker", f"--output_dir={tmp_path / name}"]
        logs = [tmp_path / f"{name}{k}" for k in range(2)]
        processes = [launch([*OFTEN, *flags], log, TF_CONFIG=task) for log, task in zip(logs, cluster(), strict=True)]
        try:
            kept = tmp_path / name / f"checkpoints/epoch-{killed_after or 0:06d}-batch-00000000"
            deadline = time.monotonic() + 240
            while killed_after and not kept.exists():
                assert time.monotonic() < deadline
                time.sleep(0.02)
            for process, log in zip(processes, logs, strict=True):
                process.kill() if killed_after else None
                assert process.wait(timeout=300) == (-signal.SIGKILL if killed_after else 0), log.read_text()
        finally:
            end(processes)

    run("alone")
    run("killed", killed_after=2)
    run("killed")
    assert "Going on after epoch " in (tmp_path / "killed0").read_text()
    assert (tmp_path / "killed/history.csv").read_text() == (tmp_path / "alone/history.csv").read_text()
    best = [keras.models.load_model(tmp_path / name / "best.keras").get_weights() for name in ("alone", "killed")]
    for one, other in zip(*best, strict=True):
        np.testing.assert_array_equal(one, other)
