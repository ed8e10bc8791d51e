"""A training that is stopped anywhere and gone on with ends as one that was left alone, bit by bit."""

import contextlib
import functools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

import wmr_tf
from tests.marking import some
from tests.test_methods import method_named
from trainers import resume
from trainers.runs import run
from trainers.runs.folder import is_unfinished, run_folder
from trainers.runs.scheduling import LearningRateByBatch, MethodByEpoch
from trainers.settings.config import Experiment
from wmr_tf import AdversarialModel, data, methods
from wmr_tf.callbacks import ExactResume, RobustEvaluation, SaveBestClassifier
from wmr_tf.checks import InvalidInput, one_line
from wmr_tf.data.pipeline import place_of, training
from wmr_tf.fit import checkpoints
from wmr_tf.fit.interrupts import Interrupts, stoppable
from wmr_tf.fit.optimizers import learning_rate_of
from wmr_tf.saving import NotWritten, load_classifier, taken

pytestmark = pytest.mark.filterwarnings("ignore:attack. its steps reach")

ROOT = Path(__file__).resolve().parents[1]
BATCHES, EPOCHS = 3, 2

# As few passes as will do.
SETTINGS = {"free": {"replays": 2}, "yopo": {"passes": 2}}


class Killed(BaseException):
    """What a killed process raises, as it were: nothing catches it."""


class Killer(keras.callbacks.Callback):
    """Raise after a batch of an epoch; a checkpoint is written some batches before it, or none at all."""

    def __init__(self, epoch, batch, kept_before=None):
        super().__init__()
        self.at, self.kept_before = (epoch, batch), kept_before

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        if self.kept_before is not None and (self.epoch, batch) == (self.at[0], self.at[1] - self.kept_before):
            signal.raise_signal(signal.SIGUSR1)
        elif (self.epoch, batch) == self.at:
            raise Killed


class Told(keras.callbacks.Callback):
    """Count the batches that it is told of, by epoch."""

    kept_state = ("told",)

    def on_train_begin(self, logs=None):
        self.told = []

    def on_train_batch_begin(self, batch, logs=None):
        self.told.append(batch)


def classifier():
    """With BatchNorm and dropout, which have a state each."""
    layers = keras.layers
    body = [layers.Conv2D(4, 3), layers.BatchNormalization(momentum=0.9), layers.ReLU(), layers.Flatten()]
    return keras.Sequential([keras.Input([8, 8, 1]), *body, layers.Dropout(0.3), layers.Dense(10)])


def splits(method="pgd"):
    with_index = methods.BY_NAME[method].needs_index
    return data.load("digits", batch_size=5, seed=1, train_examples=15, validation_examples=15, with_index=with_index)


def fit(*callbacks, method="pgd", train=None, eager=True, epochs=EPOCHS, averaging=None, **settings):
    """Train a new model, as a new process would; return its variables and its history."""
    keras.utils.set_random_seed(0)
    model = AdversarialModel(classifier(), method_named(method, **SETTINGS.get(method, {})), weight_decay=1e-3, seed=2)
    kept = {} if averaging is None else {"use_ema": True, "ema_momentum": averaging}
    optimizer = keras.optimizers.SGD(0.1, momentum=0.9, **kept)
    model.compile(optimizer=optimizer, metrics=["accuracy"], run_eagerly=eager)
    train = splits(method).train if train is None else train
    history = model.fit(train, epochs=epochs, callbacks=list(callbacks), verbose=0, **settings)
    variables = [*model.variables, *model.optimizer.variables]
    return [keras.ops.convert_to_numpy(variable).tobytes() for variable in variables], history.history


@functools.cache
def alone(method="pgd", validated=False, **settings):
    """The result of a training that nobody stops; under a folder of its own, since with addresses order is another."""
    with tempfile.TemporaryDirectory() as folder:
        validation = {"validation_data": splits().validation} if validated else {}
        return fit(ExactResume(folder), method=method, **validation, **settings)


def stopped(callbacks, killer, **settings):
    with pytest.raises(Killed):
        fit(*callbacks, killer, **settings)


# Every method


KINDS = ("natural", "trades", "free", "iaat")
"""The methods that keep nothing, use noise, keep a perturbation, and keep a radius for each image."""


@pytest.mark.parametrize("method", some(methods.BY_NAME, fast=KINDS))
def test_every_method_goes_on_from_the_middle_of_an_epoch_to_the_same_bits(method, tmp_path):
    rng = random.Random(method)
    epoch, batch = rng.randrange(EPOCHS), rng.randrange(1, BATCHES)
    kept_before = rng.randint(1, batch)
    stopped([ExactResume(tmp_path / "stopped")], Killer(epoch, batch, kept_before), method=method)
    assert os.listdir(tmp_path / "stopped") == [f"epoch-{epoch:06d}-batch-{batch - kept_before + 1:08d}"]
    assert fit(ExactResume(tmp_path / "stopped"), method=method) == alone(method)


def test_a_run_that_is_killed_at_every_batch_is_the_same(tmp_path):
    for epoch in range(EPOCHS):
        for batch in range(1, BATCHES):
            often = ExactResume(tmp_path / "stopped", minutes=1e-9)
            stopped([often], Killer(epoch, batch))
    assert fit(ExactResume(tmp_path / "stopped")) == alone()
    assert fit(ExactResume(tmp_path / "stopped"), Killer(1, 0)) == alone()  # it is over, and not trained again


def test_in_a_graph_it_is_the_same(tmp_path):
    stopped([ExactResume(tmp_path)], Killer(1, 2, kept_before=1), eager=False)
    assert fit(ExactResume(tmp_path), eager=False) == alone(eager=False)


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["mixed_float16", "mixed_bfloat16"])
def test_in_half_precision_with_its_loss_scale(precision, tmp_path):
    keras.config.set_dtype_policy(precision)
    expected = fit(ExactResume(tmp_path / "alone"))
    stopped([ExactResume(tmp_path / "stopped")], Killer(1, 2, kept_before=1))
    assert fit(ExactResume(tmp_path / "stopped")) == expected


def course(folder):
    """The callbacks of a training whose learning rate, attack and weights change, evaluated and kept averaged."""
    settings = {"schedule": "one_cycle", "epsilon_warmup": 0.5, "alpha_warmup": 0.5, "coarse": 0.5}
    training = Experiment.of("digits", "pgd", epochs=EPOCHS, attack_steps=4, attack_step_size=0.05, **settings)
    return [
        MethodByEpoch(training),
        LearningRateByBatch(training),
        RobustEvaluation(splits().validation, method_named("pgd").attack),
        SaveBestClassifier(folder / "best.keras", monitor="val_A_nat"),
        ExactResume(folder / "checkpoints"),
    ]


@pytest.mark.slow
def test_a_course_and_averaged_weights_go_on_to_the_same_bits(tmp_path):
    def ran(folder, *more):
        return fit(*course(folder), *more, averaging=0.5)

    def kept(folder):
        return [weight.tobytes() for weight in load_classifier(folder / "best.keras").get_weights()]

    expected = ran(tmp_path / "alone")
    for killer in (EndKiller(0), Killer(1, 1, kept_before=1)):  # where the averages are in the model, and where not
        with pytest.raises(Killed):
            ran(tmp_path / "stopped", killer)
    assert os.listdir(tmp_path / "stopped" / "checkpoints") == ["epoch-000001-batch-00000001"]
    assert ran(tmp_path / "stopped") == expected
    assert kept(tmp_path / "stopped") == kept(tmp_path / "alone")


# Callbacks and files


def all_callbacks(folder, last=()):
    """Callbacks with a state, in an order that makes sense, and `last` ones before `ExactResume`."""
    folder.mkdir(exist_ok=True)
    monitor = {"monitor": "val_A_rob", "mode": "max"}
    return [
        keras.callbacks.LearningRateScheduler(lambda epoch, rate: rate * 0.9),
        RobustEvaluation(splits().validation, method_named("pgd").attack),
        SaveBestClassifier(folder / "best.keras", monitor="val_A_rob"),
        keras.callbacks.ReduceLROnPlateau(factor=0.5, patience=1, **monitor),
        keras.callbacks.EarlyStopping(patience=2, restore_best_weights=True, **monitor),
        keras.callbacks.CSVLogger(folder / "history.csv"),
        keras.callbacks.TensorBoard(folder / "logs", write_graph=False),
        Told(),
        *last,
        ExactResume(folder / "checkpoints", minutes=1e-9),
    ]


class EndKiller(keras.callbacks.Callback):
    """Raise when an epoch ends, before or after its validation."""

    def __init__(self, epoch):
        super().__init__()
        self.epoch = epoch

    def on_epoch_end(self, epoch, logs=None):
        if epoch == self.epoch:
            raise Killed


@pytest.mark.slow
def test_callbacks_and_their_files_are_as_if_nothing_had_happened(tmp_path):
    epochs, alone = 4, all_callbacks(tmp_path / "alone")
    expected = fit(*alone, epochs=epochs, validation_data=splits().validation)
    for killer in (Killer(0, 2), EndKiller(1), Killer(2, 1)):
        callbacks = all_callbacks(tmp_path / "stopped", [killer])
        with contextlib.suppress(Killed):  # it may be stopped early
            fit(*callbacks, epochs=epochs, validation_data=splits().validation)
        callbacks[5].on_train_end()  # closes the file
    callbacks = all_callbacks(tmp_path / "stopped")
    assert fit(*callbacks, epochs=epochs, validation_data=splits().validation) == expected
    for name in ("history.csv", "checkpoints"):
        assert (tmp_path / "stopped" / name).exists()
    assert (tmp_path / "stopped/history.csv").read_text() == (tmp_path / "alone/history.csv").read_text()
    best = [keras.models.load_model(tmp_path / name / "best.keras").get_weights() for name in ("alone", "stopped")]
    assert [weight.tobytes() for weight in best[0]] == [weight.tobytes() for weight in best[1]]
    for one, other in zip(alone, callbacks, strict=True):
        for name in ("best", "best_epoch", "wait", "stopped_epoch", "_global_train_batch", "told"):
            assert getattr(one, name, None) == getattr(other, name, None), (type(one), name)


def test_each_callback_is_told_of_each_batch_once(tmp_path):
    told = Told()
    often = ExactResume(tmp_path, minutes=1e-9)
    stopped([told, often], Killer(1, 1))
    again = Told()
    fit(again, ExactResume(tmp_path))
    assert again.told == [*range(BATCHES)] * EPOCHS


# Data


def plain_order(seed, epoch, examples):
    """The images of an epoch, by the rule: shuffled by a key of seed, purpose -1 and epoch."""
    key = tf.constant([0, seed])
    for datum in (-1, epoch):
        key = tf.random.experimental.stateless_fold_in(key, datum)
    return tf.random.experimental.stateless_shuffle(tf.range(examples), key).numpy()


def ramp(examples, **settings):
    """A data set that says of each image where it stands."""
    images = np.zeros([examples, 8, 8, 1], np.uint8)
    return training(images, np.arange(examples), scale=1, **{"augment": "none", "batch_size": 4, "seed": 5, **settings})


def test_the_order_is_that_of_its_key_wherever_one_starts():
    expected = {epoch: plain_order(5, epoch, 23)[:20].reshape(5, 4) for epoch in range(4)}
    dataset = ramp(23)
    for epoch in range(4):  # read through
        np.testing.assert_array_equal(np.stack([labels for _, labels in dataset]), expected[epoch])
    for epoch, batch in [(3, 4), (0, 0), (2, 3), (1, 1)]:
        place_of(dataset).go_to(epoch, batch)
        found = np.stack([labels for _, labels in dataset])
        np.testing.assert_array_equal(found, np.roll(expected[epoch], -batch, axis=0))
        following = np.stack([labels for _, labels in dataset])
        np.testing.assert_array_equal(following, plain_order(5, epoch + 1, 23)[:20].reshape(5, 4))


def test_a_fit_begins_with_the_first_epoch_with_and_without_checkpoints(tmp_path):
    assert fit() == alone()  # although it looks at the first batch


def test_orders_differ_by_epoch_and_seed_and_hold_every_image():
    orders = {(seed, epoch): tuple(plain_order(seed, epoch, 23)) for seed in range(3) for epoch in range(3)}
    assert len(set(orders.values())) == 9
    dataset = ramp(24)
    assert sorted(np.concatenate([labels for _, labels in dataset])) == [*range(24)]


def test_crops_are_keyed_by_epoch_and_batch_wherever_one_starts():
    images = np.random.default_rng(0).integers(0, 255, [20, 8, 8, 1], dtype=np.uint8)
    dataset = training(images, np.zeros(20), scale=255, batch_size=4, seed=5, augment="crop_flip")
    through = [[batch.numpy() for batch, _ in dataset] for _ in range(3)]
    for epoch, batch in [(2, 3), (1, 4), (0, 1)]:
        place_of(dataset).go_to(epoch, batch)
        np.testing.assert_array_equal(next(iter(dataset))[0], through[epoch][batch])
    plain = training(images, np.zeros(20), scale=255, batch_size=4, seed=5, augment="none")
    assert not np.array_equal(next(iter(plain))[0], through[0][0])


def test_data_of_ones_own_in_one_order_are_read_up_to_the_batch(tmp_path):
    images = np.random.default_rng(0).random([20, 8, 8, 1], dtype="float32")

    def own():
        return tf.data.Dataset.from_tensor_slices((images, np.arange(20) % 10)).batch(5)

    expected = fit(ExactResume(tmp_path / "alone"), train=own())
    stopped([ExactResume(tmp_path / "stopped")], Killer(1, 3, kept_before=2), train=own())
    assert fit(ExactResume(tmp_path / "stopped"), train=own()) == expected


def test_data_derived_from_ones_with_addresses_go_on_to_the_same_bits(tmp_path):
    def derived():
        return splits().train.map(lambda image, label: (image / 2, label))

    kept = fit(ExactResume(tmp_path / "alone"), train=derived(), epochs=3)
    for killed in ((1, 1), (2, 1)):
        folder = tmp_path / f"stopped-{killed[0]}"
        stopped([ExactResume(folder, minutes=1e-9)], Killer(*killed), train=derived(), epochs=3)
        assert fit(ExactResume(folder), train=derived(), epochs=3) == kept


# Damage and mistakes


def test_another_learning_rate_is_refused_unless_callbacks_have_moved_it(tmp_path):
    def trained(rate, epochs, model=None):
        model = model or AdversarialModel(classifier(), methods.PGD(method_named("pgd").attack))
        if not model.compiled:
            model.compile(optimizer=keras.optimizers.SGD(rate))
        halved = keras.callbacks.LearningRateScheduler(lambda epoch, rate: rate / 2)
        model.fit(splits().train, epochs=epochs, callbacks=[halved, ExactResume(tmp_path / "kept")], verbose=0)
        return model

    model = trained(0.1, 1)
    with pytest.raises(InvalidInput, match=r"checkpoints: got those of a training with learning_rate 0.1 .now 0.01"):
        trained(0.01, 2)
    for epochs in (2, 3):  # in this process the rate is now that of the last epoch
        trained(None, epochs, model)
    assert learning_rate_of(trained(0.1, 4)) == pytest.approx(0.1 / 2**4)


def test_the_file_of_a_callback_is_known_by_the_callback_and_that_of_a_new_one_left_alone(tmp_path):
    def best(name):
        return [RobustEvaluation(splits().validation, method_named("pgd").attack), SaveBestClassifier(tmp_path / name)]

    fit(ExactResume(tmp_path / "kept"), epochs=1)
    (tmp_path / "mine.keras").write_text("saved by hand")
    fit(ExactResume(tmp_path / "kept"), *best("mine.keras"), epochs=1)
    assert (tmp_path / "mine.keras").read_text() == "saved by hand"
    fit(ExactResume(tmp_path / "other"), *best("first.keras"), epochs=1)
    fit(ExactResume(tmp_path / "other"), *best("second.keras"), epochs=1)
    assert (tmp_path / "second.keras").read_bytes() == (tmp_path / "first.keras").read_bytes()


def test_a_damaged_checkpoint_is_told_of_and_the_one_before_leads_to_the_same_bits(tmp_path, capsys):
    stopped([ExactResume(tmp_path / "stopped", minutes=1e-9)], Killer(1, 2))
    last = max((tmp_path / "stopped").iterdir())
    os.truncate(last / "arrays.npz", 1000)
    assert fit(ExactResume(tmp_path / "stopped")) == alone()
    told = [line for line in capsys.readouterr().err.splitlines() if "damaged" in line]
    assert len(told) == 1 and told[0].startswith(f"warning: checkpoint {last} is damaged")


def test_another_training_is_refused_with_what_differs(tmp_path):
    fit(ExactResume(tmp_path), epochs=1)
    for expected, settings in [
        ("method.class_name PGD \\(now TRADES\\)", {"method": "trades"}),
        ("data.batch_size 5 \\(now 4\\)", {"train": data.load("digits", batch_size=4, train_examples=15).train}),
    ]:
        with pytest.raises(InvalidInput, match=f"^checkpoints: got those in .*{expected}"):
            fit(ExactResume(tmp_path), **settings)


class Keeps(keras.callbacks.Callback):
    """Keep something from step to step."""

    kept_state = ("kept",)

    def __init__(self, kept):
        super().__init__()
        self.kept = kept


@pytest.mark.parametrize("kept", [{1, 2}, {1: 2.0}])
def test_what_no_checkpoint_can_hold_is_refused_before_the_first_step(kept, tmp_path):
    with pytest.raises(InvalidInput, match=r"^kept_state: got in Keeps what no checkpoint can hold \("):
        fit(ExactResume(tmp_path), Keeps(kept), Killer(0, 0))


def test_more_plain_values_than_are_read_again_are_not_written(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(checkpoints, "LARGEST_JSON", 50_000)
    fit(ExactResume(tmp_path), Keeps([0.5] * 20_000))
    assert "keep long lists as arrays" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_two_processes_do_not_write_into_one_folder(tmp_path):
    with taken(tmp_path), pytest.raises(InvalidInput, match="into which another process writes"):
        fit(ExactResume(tmp_path), Killer(0, 0))
    assert fit(ExactResume(tmp_path)) == alone()


def test_other_versions_are_told_of_and_do_not_stop_it(tmp_path, monkeypatch, capsys):
    stopped([ExactResume(tmp_path, minutes=1e-9)], Killer(1, 1))
    monkeypatch.setattr(wmr_tf, "__version__", "another")
    fit(ExactResume(tmp_path))
    assert ": the training goes on, but not to the same bits" in capsys.readouterr().err


def test_a_full_disk_on_the_way_back_is_no_damage(tmp_path, monkeypatch):
    best = SaveBestClassifier(tmp_path / "best.keras", monitor="accuracy")
    stopped([best, ExactResume(tmp_path / "kept", minutes=1e-9)], Killer(1, 1))

    def full(kept, path):
        raise NotWritten(path, OSError(28, "No space left on device"))

    monkeypatch.setattr(checkpoints, "put_back", full)
    with pytest.raises(NotWritten, match="No space left"):
        fit(best, ExactResume(tmp_path / "kept"))


@pytest.mark.parametrize("averaging", [None, 0.9])  # Keras ends a `fit` with the average in the place of the weights
def test_more_epochs_go_on(averaging, tmp_path):
    fit(ExactResume(tmp_path / "short"), epochs=1, averaging=averaging)
    assert fit(ExactResume(tmp_path / "short"), averaging=averaging) == alone(averaging=averaging)


def test_a_plain_keras_model_is_told_to_be_wrapped(tmp_path):
    model = classifier()
    model.compile("sgd", "mse")
    with pytest.raises(InvalidInput, match=r"^ExactResume: got the fit of a Sequential.*methods\.Natural"):
        model.fit(np.zeros([4, 8, 8, 1]), np.zeros([4, 10]), callbacks=[ExactResume(tmp_path)], verbose=0)


@pytest.mark.parametrize("settings", [{"minutes": 0}, {"minutes": "often"}, {"keep": 1}])
def test_settings_out_of_range_are_refused(settings, tmp_path):
    with pytest.raises(InvalidInput, match=f"^{next(iter(settings))}: got "):
        ExactResume(tmp_path, **settings)


def test_a_disk_that_is_full_does_not_end_the_training(tmp_path, monkeypatch, capsys):
    expected = alone(epochs=1)
    often = ExactResume(tmp_path / "full", minutes=1e-9)

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    assert fit(often, epochs=1) == expected
    assert "warning: no checkpoint could be written ([Errno 28] No space left" in capsys.readouterr().err
    assert os.listdir(tmp_path / "full") == []


# Signals


class Signal(keras.callbacks.Callback):
    """Raise a signal at a moment of an epoch."""

    def __init__(self, come, moment, epoch=1):
        super().__init__()
        self.come, self.epoch, self.seen = come, epoch, []
        setattr(self, moment, self.send)

    def on_epoch_begin(self, epoch, logs=None):
        self.now = epoch

    def send(self, number, logs=None):
        if self.now == self.epoch and not self.seen:
            self.seen.append(number)
            signal.raise_signal(self.come)


@pytest.mark.parametrize(
    "moment",
    some(
        ["on_train_batch_begin", "on_train_batch_end", "on_epoch_end", "on_test_batch_end"],
        fast=["on_train_batch_end", "on_test_batch_end"],
    ),
)
@pytest.mark.parametrize(("come", "end"), [(signal.SIGTERM, SystemExit), (signal.SIGINT, KeyboardInterrupt)])
def test_a_signal_keeps_the_training_says_how_to_go_on_and_ends(come, end, moment, tmp_path, capsys):
    handlers = [signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)]
    validation = {"validation_data": splits().validation}
    resume = ExactResume(tmp_path / "stopped")
    resume.command = "python train.py"
    with pytest.raises(end) as raised:
        fit(Signal(come, moment), resume, **validation)
    assert come is signal.SIGINT or raised.value.code == 143
    within = f"within epoch 2, after batch {1 if moment.startswith('on_train') else BATCHES} of {BATCHES}"
    expected = f"stopped by {come.name}: {tmp_path}/stopped keeps the training {within}. To go on: python train.py"
    assert [line for line in capsys.readouterr().err.splitlines() if line.startswith("stopped")] == [expected]
    assert [signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)] == handlers
    assert fit(ExactResume(tmp_path / "stopped"), **validation) == alone(validated=True)


def test_a_signal_that_comes_while_a_graph_is_made_keeps_the_training(tmp_path):
    @tf.function
    def graph():
        signal.raise_signal(signal.SIGTERM)
        one_line("")

    ends = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: graph())
    with pytest.raises(SystemExit) as end:
        fit(ends, ExactResume(tmp_path))
    assert end.value.code == 143
    assert os.listdir(tmp_path) == [f"epoch-000000-batch-{BATCHES:08d}"]


class Doomed:
    def __del__(self):
        signal.raise_signal(signal.SIGTERM)


def test_a_signal_that_comes_in_a_destructor_ends_all_the_same(capsys):
    deadline = time.monotonic() + 10
    with pytest.raises(SystemExit) as end, stoppable("this keeps it", "python again.py"):
        Doomed()
        while time.monotonic() < deadline:
            one_line("")
    assert end.value.code == 143 and time.monotonic() < deadline
    assert capsys.readouterr().err == "stopped by SIGTERM: this keeps it. To go on: python again.py\n"


def test_a_signal_that_comes_too_late_for_a_block_is_for_the_one_around_it(capsys):
    with pytest.raises(SystemExit), stoppable("this keeps it", "python again.py"):
        with Interrupts(lambda: None):
            signal.raise_signal(signal.SIGTERM)
        one_line("")
        raise AssertionError
    assert capsys.readouterr().err.startswith("stopped by SIGTERM: this keeps it")


LONG_BATCH = """
import sys
import tensorflow as tf, keras
from tests import test_resume
from wmr_tf.callbacks import ExactResume

@tf.function
def long(steps):
    return tf.while_loop(lambda k: k < steps, lambda k: [k + 1], [tf.constant(0)])

def inside(batch, logs):
    if test_resume.Told.begun:
        print("inside", flush=True)
        long(10**9)
    test_resume.Told.begun += 1

test_resume.Told.begun = 0
long(1)
within = keras.callbacks.LambdaCallback(on_train_batch_begin=inside)
test_resume.fit(within, ExactResume(sys.argv[1], minutes=1e-9))
"""


@pytest.mark.slow
def test_a_second_sigint_ends_at_once_though_tensorflow_is_busy_and_the_last_checkpoint_is_whole(tmp_path):
    command = [sys.executable, "-c", LONG_BATCH, str(tmp_path)]
    process = subprocess.Popen(
        command, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout.readline() == "inside\n"
        process.send_signal(signal.SIGINT)
        time.sleep(0.05)
        process.send_signal(signal.SIGINT)  # as if a forked process had heard it too
        while not (line := process.stderr.readline()).startswith("SIGINT"):
            assert line
        assert line == "SIGINT: stopping when the running batch has ended; again: at once\n"
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(timeout=0.5)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=2) == 130
    finally:
        process.kill()
    assert "Traceback" not in process.communicate()[1]
    assert os.listdir(tmp_path) == ["epoch-000000-batch-00000001"]
    assert fit(ExactResume(tmp_path)) == alone()


def test_sigusr1_keeps_the_training_and_goes_on(tmp_path):
    assert fit(Signal(signal.SIGUSR1, "on_train_batch_end"), ExactResume(tmp_path / "kept")) == alone()
    assert sorted(os.listdir(tmp_path / "kept"))[0] == "epoch-000001-batch-00000001"


# The trainers

FEW = {"epochs": 3, "train_examples": 96, "validation_examples": 20, "eval_examples": 20, "batch_size": 16}
FEW |= {"attack_steps": 1, "eval_attack_steps": 1, "suite": "short", "deterministic": True, "seed": 3}


def settings_of(folder, **changes):
    return Experiment.of("digits", **{**FEW, "deterministic": False, "output_dir": str(folder), **changes})


@pytest.mark.slow
def test_a_run_that_was_stopped_in_its_evaluation_is_not_trained_again(tmp_path, monkeypatch, capsys):
    folder = tmp_path / "run"
    with monkeypatch.context() as context:
        context.setattr(run, "evaluate", lambda *_: signal.raise_signal(signal.SIGTERM))
        with pytest.raises(SystemExit) as end:
            run.train(settings_of(folder))
    assert end.value.code == 143 and is_unfinished(folder)
    expected = f"stopped by SIGTERM: {folder} keeps the training and what the evaluation has found. To go on: "
    assert f"{expected}python -m trainers.resume {folder}" in capsys.readouterr().err
    history = (folder / "history.csv").read_text()
    monkeypatch.setattr(AdversarialModel, "train_step", None)
    resume.resume([str(folder)])
    printed = capsys.readouterr().out
    assert f"Going on in {folder}\n" in printed and "\nThe training is complete" in printed
    assert (folder / "metrics.json").exists() and not (folder / "checkpoints").exists()
    assert (folder / "history.csv").read_text() == history and len(history.splitlines()) == 1 + FEW["epochs"]


def unfinished(folder, **changes):
    """Write what a run that was killed leaves."""
    experiment = settings_of(folder, **changes)
    (folder / "checkpoints").mkdir(parents=True)
    run.write_config(folder, experiment, command="python -m trainers.digits")
    return experiment


def test_the_newest_unfinished_run_of_the_same_settings_goes_on(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for number, name in enumerate(["old", "new", "other"]):
        unfinished(Path("runs") / name, output_dir=None, seed=4 if name == "other" else 3)
        os.utime(Path("runs") / name / "config.json", (number, number))
    shutil.copytree("runs/new", "runs/finished")
    shutil.rmtree("runs/finished/checkpoints")
    experiment = settings_of("", output_dir=None)
    with run_folder(experiment, "digits") as first, run_folder(experiment, "digits") as second:
        assert (first, second) == (Path("runs/new"), Path("runs/old"))  # the first is in use
        with run_folder(experiment, "digits") as third:
            assert third.name.startswith("digits-seed3-")
    with run_folder(experiment, "digits") as again:
        assert again == Path("runs/new")


def test_a_folder_with_other_settings_or_in_use_is_refused(tmp_path):
    experiment = unfinished(tmp_path / "run")
    expected = r"^output_dir: got '.*/run', which holds an unfinished run with seed 3 \(now 4\), expected the settings"
    with pytest.raises(InvalidInput, match=expected), run_folder(settings_of(tmp_path / "run", seed=4), "digits"):
        pass
    expected = "^output_dir: got '.*/run', into which another process writes"
    with run_folder(experiment, "digits"), pytest.raises(InvalidInput, match=expected):
        run_folder(experiment, "digits").__enter__()


# A trainer that is sent a signal after the first batch of an epoch, as if from outside, but by no clock.
SIGNALLED = """
import sys
from tests.test_resume import Signal
from trainers import digits
from trainers.runs import run

come, epoch = int(sys.argv.pop(1)), int(sys.argv.pop(1))
usual = run.run_callbacks
run.run_callbacks = lambda *given: [*usual(*given), Signal(come, "on_train_batch_end", epoch - 1)]
digits.COMMAND()
"""


def ran(*arguments, cwd):
    """Run Python in a process of its own, and return its exit status and what it printed."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    output = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    ended = subprocess.run([sys.executable, *arguments], cwd=cwd, env=environment, timeout=200, **output)
    return ended.returncode, ended.stdout


def ended_within(epoch, come, *flags, cwd):
    return ran("-c", SIGNALLED, str(int(come)), str(epoch), *flags, cwd=cwd)


@pytest.mark.slow
def test_a_trainer_that_is_terminated_and_killed_ends_as_one_that_was_left_alone(tmp_path):
    flags = [f"--{name}={value}" for name, value in FEW.items()]
    assert ran("-m", "trainers.digits", *flags, "--output_dir=alone", cwd=tmp_path)[0] == 0
    status, log = ended_within(2, signal.SIGTERM, *flags, cwd=tmp_path)
    (folder,) = (tmp_path / "runs").iterdir()
    assert status == 143 and "Traceback" not in log and is_unfinished(folder)
    told = "/checkpoints keeps the training within epoch 2, after batch 1 of 6. To go on: "
    assert log.endswith(f"{told}python -m trainers.resume runs/{folder.name}\n")
    status, log = ended_within(3, signal.SIGKILL, *flags, cwd=tmp_path)
    assert status == -signal.SIGKILL
    assert f"Going on in runs/{folder.name}\n" in log and "\nGoing on within epoch 2, after batch 1 of 6 (" in log
    assert ran("-m", "trainers.resume", f"runs/{folder.name}", cwd=tmp_path)[0] == 0
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        path.name for path in (tmp_path / "alone").iterdir()
    )
    assert (folder / "history.csv").read_text() == (tmp_path / "alone/history.csv").read_text()
    ends = [json.loads((place / "metrics.json").read_text()) for place in (folder, tmp_path / "alone")]
    assert ends[0].pop("command") != ends[1].pop("command")
    assert ends[0] == ends[1]
    for name in ("best.keras", "classifier.keras"):
        one, other = (keras.models.load_model(place / name).get_weights() for place in (folder, tmp_path / "alone"))
        assert [weight.tobytes() for weight in one] == [weight.tobytes() for weight in other], name
