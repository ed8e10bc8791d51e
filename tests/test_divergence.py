"""A training that diverges ends in one line, or goes back with half the learning rate to where it was sound."""

import json
import math
import re
import signal
from types import SimpleNamespace

import keras
import numpy as np
import pytest

from studies.soak import FEW
from tests.marking import some
from tests.test_resume import Killed, Killer, ran
from trainers import resume
from trainers.runs.folder import is_unfinished, make_folder, metrics_of, read_history, run_folder
from trainers.settings.config import Experiment
from wmr_tf import AdversarialModel, InvalidInput, attacks, data, methods
from wmr_tf.alarms import ConstantAlarm
from wmr_tf.callbacks import ExactResume, RobustEvaluation
from wmr_tf.divergence import Diverged, StopOnDivergence
from wmr_tf.fit import checkpoints, resumable, rollback

BATCHES, EPOCHS = 6, 3
DIVERGES = 2e36  # a learning rate at which the loss is infinite after some batches; at half of it it is not


def model(rate=0.1, *, eager=False, method=None, **settings):
    keras.utils.set_random_seed(0)
    classifier = keras.Sequential([keras.Input([8, 8, 1]), keras.layers.Flatten(), keras.layers.Dense(10)])
    trained = AdversarialModel(classifier, method or methods.Natural(), seed=1, **settings)
    trained.compile(optimizer=keras.optimizers.SGD(rate, momentum=0.9), metrics=["accuracy"], run_eagerly=eager)
    return trained


def splits():
    return data.load("digits", batch_size=5, seed=1, train_examples=5 * BATCHES, validation_examples=15)


def fit(*callbacks, trained=None, epochs=EPOCHS, **settings):
    """Train a new model, as a new process would; return its variables and its history."""
    trained = trained or model(**settings)
    history = trained.fit(splits().train, epochs=epochs, callbacks=list(callbacks), verbose=0)

    values = [keras.ops.convert_to_numpy(each).tobytes() for each in (*trained.variables, *trained.optimizer.variables)]
    return values, history.history


class At(keras.callbacks.Callback):
    """Do something before a batch, so often at most."""

    def __init__(self, epoch, batch, action, times=math.inf):
        super().__init__()
        self.at, self.action, self.times = (epoch, batch), action, times

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_begin(self, batch, logs=None):
        if (self.epoch, batch) == self.at and self.times > 0:
            self.times -= 1
            self.action(self.model)


def spoil(trained):
    """Have the next batch give NaN."""
    trained.classifier.layers[-1].bias.assign([math.nan] * 10)


def told(place, found, norm=r"[\d.e+]+"):
    return f"training diverged in {place}: {found}, largest finite gradient norm so far {norm}"


# What stops it


@pytest.mark.parametrize("eager", some([True, False], fast=[False]))
def test_a_loss_that_is_not_finite_ends_a_fit_with_epoch_batch_loss_and_gradient_norm(eager):
    with pytest.raises(Diverged) as nan:
        fit(At(1, 3, spoil), eager=eager)
    assert re.fullmatch(told("epoch 2, batch 4", "loss nan") + r"\. Lower the learning rate\.", str(nan.value))
    assert (nan.value.epoch, nan.value.batch) == (2, 4) and math.isnan(nan.value.loss)
    assert nan.value.facts() == {"epoch": 2, "batch": 4, "loss": None, "gradient_norm": nan.value.gradient_norm}
    with pytest.raises(FloatingPointError, match=told("epoch 2, batch 6", "loss inf", "4.04")):
        fit(rate=DIVERGES, eager=eager)


def test_weights_that_are_not_finite_end_a_fit_with_the_epoch():
    class Spoil(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if batch == BATCHES - 1:
                spoil(self.model)

    with pytest.raises(Diverged, match=told("epoch 1, batch 6", r"weights that are not finite, loss 2\.\d+")):
        fit(Spoil())


def test_several_workers_look_at_the_weights_alone_at_the_end_of_an_epoch():
    guard, trained = StopOnDivergence(classes=10, is_alone=False), model()
    guard.set_model(trained)
    guard.on_epoch_begin(0)
    guard.on_train_batch_end(0, {"loss": math.nan})
    guard.on_epoch_end(0)
    trained.classifier.layers[-1].bias.assign([math.inf] * 10)
    with pytest.raises(Diverged, match="^training diverged in epoch 1, batch 1: weights that are not finite, loss nan"):
        guard.on_epoch_end(0)


def gradient_norms(weight_decay):
    """Return by NumPy the norm of the gradient of each batch of an epoch of a linear classifier, and its weights."""
    trained = model(rate=0.0)
    kernel, bias = trained.classifier.get_weights()
    for images, labels in splits().train:
        x = images.numpy().reshape(len(labels), -1).astype(np.float64)
        logits = x @ kernel + bias
        p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        error = (p - np.eye(10)[labels]) / len(labels)
        parts = (x.T @ error + weight_decay * kernel, error.sum(axis=0) + weight_decay * bias)
        yield math.sqrt(sum((part**2).sum() for part in parts))


@pytest.mark.parametrize("weight_decay", [0.0, 0.3])
def test_the_gradient_norm_is_the_largest_of_all_steps(weight_decay):
    trained = model(rate=0.0, weight_decay=weight_decay)
    fit(trained=trained, epochs=1)
    assert trained.watch.gradient_norm == pytest.approx(max(gradient_norms(weight_decay)), rel=1e-5)


@pytest.mark.parametrize(("scale", "epochs"), [(2.0**15, 1), (2.0**30, 6)])
def test_in_float16_the_norm_is_unscaled_and_a_step_that_is_skipped_is_no_divergence(scale, epochs):
    keras.config.set_dtype_policy("mixed_float16")
    trained = model()
    scaled = keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.0), initial_scale=scale)
    trained.compile(scaled)
    fit(trained=trained, epochs=epochs)
    skipped = epochs * BATCHES - int(scaled.inner_optimizer.iterations)
    assert 8 < skipped < 24 if scale > 2**20 else skipped == 0  # until it is small enough
    assert trained.watch.gradient_norm == pytest.approx(max(gradient_norms(0.0)), rel=0.01 if epochs == 1 else 0.2)


def test_a_replayed_batch_counts_all_its_steps():
    trained = model(rate=0.0, method=methods.Free(attacks.FGSM(0.1), replays=3))
    fit(trained=trained, epochs=1)
    assert trained.watch.gradient_norm > max(gradient_norms(0.0))  # of attacked images


# A classifier that has become constant


def of_class(classes):
    return np.eye(4)[np.asarray(classes)] + np.random.default_rng(0).random([len(classes), 4]) / 10


LABELS = np.arange(40) % 4
RIGHT, CONSTANT, DEAD = of_class(LABELS), of_class([2] * 40), np.tile([0.1, 0.0, 3.0, 1.0], [40, 1])


@pytest.mark.parametrize(
    ("logits", "training", "expected"),
    [
        ([RIGHT, CONSTANT, CONSTANT, CONSTANT], None, [0, 0, 0, 1]),
        ([RIGHT, CONSTANT, CONSTANT, RIGHT, CONSTANT, CONSTANT, CONSTANT], None, [0, 0, 0, 0, 0, 0, 1]),
        ([CONSTANT] * 5, None, [0] * 5),  # it has hardly begun to learn
        ([DEAD] * 3, None, [0, 0, 1]),
        ([DEAD] * 3, 0.25, [0, 0, 1]),
        ([DEAD] * 5, 0.9, [0] * 5),  # in training it is not constant
    ],
)
def test_a_classifier_is_constant_for_good_at_the_third_time(logits, training, expected):
    alarm = ConstantAlarm()
    assert [alarm.see(each, LABELS, training) for each in logits] == [bool(each) for each in expected]


def test_a_constant_classifier_ends_a_fit_at_its_third_evaluation():
    class Kill(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            self.model.classifier.set_weights([np.zeros([64, 10]), np.arange(10.0)])

    evaluation = RobustEvaluation(splits().validation, attacks.FGSM(0.1))
    found = "a classifier that predicts class 9 for every image, for the third time, loss [\\d.]+"
    with pytest.raises(Diverged, match=told("epoch 3, batch 6", found)):
        fit(Kill(), evaluation, rate=1e-9, epochs=4)


# Going back


class HalveAt(At):
    """What a rollback does to the learning rate, done by hand; from then on if there is no schedule."""

    def __init__(self, epoch, batch):
        super().__init__(epoch, batch, rollback.halve_learning_rate, times=1)


def kept(folder, **settings):
    return ExactResume(folder, minutes=1e-9, on_divergence="rollback", **settings)


@pytest.mark.parametrize("eager", some([True, False], fast=[False]))
def test_it_goes_on_from_the_checkpoint_before_with_half_the_learning_rate(tmp_path, capsys, eager):
    going_back = kept(tmp_path)
    values, history = fit(At(1, 3, spoil, times=1), going_back, eager=eager)
    expected, plain = fit(HalveAt(1, 3), ExactResume(tmp_path / "plain"), eager=eager)
    assert values == expected
    assert history.pop("rollbacks") == [0, 1, 1] and history == plain
    (facts,) = going_back.rollbacks
    assert facts == {"epoch": 2, "batch": 4, "loss": None, "gradient_norm": facts["gradient_norm"]} | {
        "learning_rate": pytest.approx(0.05)
    }
    (line,) = re.findall("warning: .*", capsys.readouterr().err)
    expected = told("epoch 2, batch 4", "loss nan")
    expected += r"\. Going back to the checkpoint within epoch 2, after batch 3 of 6, with a learning rate of 0.05 "
    assert re.fullmatch(rf"warning: {expected}\(rollback 1 of 3\)\.", line)


def test_it_goes_back_though_a_callback_has_changed_the_method_since(tmp_path):
    class Rising(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            self.model.method.alpha = float(epoch)

    going_back = kept(tmp_path)
    trained = model(method=methods.PGD(attacks.FGSM(0.1), alpha=0.0))
    _, history = fit(Rising(), At(2, 3, spoil, times=1), going_back, trained=trained)
    assert history["rollbacks"] == [0, 0, 1] and trained.method.alpha == 2.0


@pytest.mark.parametrize(
    "schedule", [lambda epoch: (0.1, 0.08, 0.02)[epoch], lambda epoch, rate: rate * (0.9 if epoch else 1.0)]
)
def test_a_schedule_is_halved_from_there_on(tmp_path, schedule):
    scheduler = keras.callbacks.LearningRateScheduler(schedule)
    _, history = fit(scheduler, At(1, 3, spoil, times=2), kept(tmp_path), epochs=3)
    _, plain = fit(keras.callbacks.LearningRateScheduler(schedule), epochs=3)
    assert history["rollbacks"] == [0, 2, 2]
    expected = [rate / 2**count for rate, count in zip(plain["learning_rate"], (0, 2, 2), strict=True)]
    assert history["learning_rate"] == expected


def test_a_learning_rate_that_is_too_high_is_lowered_until_it_is_not(tmp_path, capsys):
    with pytest.raises(Diverged):
        fit(rate=3 * DIVERGES)
    capsys.readouterr()
    going_back = ExactResume(tmp_path, on_divergence="rollback")  # no checkpoint but that of the beginning
    _, history = fit(going_back, rate=3 * DIVERGES)
    assert all(map(math.isfinite, history["loss"])) and history["rollbacks"] == [2] * EPOCHS
    rates = [facts["learning_rate"] for facts in going_back.rollbacks]
    assert rates == pytest.approx([1.5 * DIVERGES, 0.75 * DIVERGES])
    lines = re.findall("warning: training diverged.*", capsys.readouterr().err)
    assert len(lines) == 2 and all("Going back to the checkpoint at the beginning, with" in line for line in lines)


def test_after_three_rollbacks_it_ends(tmp_path, capsys):
    going_back = kept(tmp_path)
    with pytest.raises(Diverged, match=told("epoch 2, batch 4", "loss nan")):
        fit(At(1, 3, spoil), going_back)
    rates = [facts["learning_rate"] for facts in going_back.rollbacks]
    assert rates == pytest.approx([0.05, 0.025, 0.0125])
    lines = re.findall("warning: .*", capsys.readouterr().err)
    assert [line[-18:] for line in lines] == [f"(rollback {number} of 3)." for number in (1, 2, 3)]
    # The same call ends in the same words: it is not tried for ever.
    with pytest.raises(Diverged, match=told("epoch 2, batch 4", "loss nan")):
        fit(At(1, 3, spoil), kept(tmp_path))
    assert not capsys.readouterr().err


def test_if_it_diverges_again_at_once_it_goes_back_further(tmp_path, capsys):
    class Spoil(keras.callbacks.Callback):
        """Spoils what comes after the first batch, until the learning rate is small enough."""

        def on_train_batch_begin(self, batch, logs=None):
            if batch >= 1 and len(going_back.rollbacks) < 3:
                spoil(self.model)

    going_back = kept(tmp_path)
    values, history = fit(Spoil(), going_back)
    assert history["rollbacks"] == [3] * EPOCHS
    lines = re.findall("Going back to the checkpoint (.*), with", capsys.readouterr().err)
    after_one = "within epoch 1, after batch 1 of 6"
    assert lines == [after_one, "at the beginning", after_one]
    expected, _ = fit(HalveAt(0, 1), rate=0.1 / 4)
    assert values == expected


class DivergesAtTheEnd(keras.callbacks.Callback):
    """Find an epoch's classifier of no use, once."""

    is_done = False

    def on_epoch_end(self, epoch, logs=None):
        if epoch == 1 and not self.is_done:
            self.is_done = True
            raise Diverged(self.model, epoch=2, batch=None, loss=1.0, found="a callback that says so")


def test_from_an_epochs_end_it_goes_back_to_before_that_epoch_though_a_signal_comes_meanwhile(tmp_path, monkeypatch):
    halve = rollback.halve_learning_rate

    def interrupted(*arguments):
        signal.raise_signal(signal.SIGUSR1)
        return halve(*arguments)

    monkeypatch.setattr(resumable, "halve_learning_rate", interrupted)
    resume = ExactResume(tmp_path, minutes=1e-9, on_divergence="rollback")
    trained = model()
    fit(DivergesAtTheEnd(), resume, trained=trained)
    assert len(resume.rollbacks) == 1
    assert trained.optimizer.learning_rate == np.float32(0.05)
    assert all(name.startswith("rollback-1-epoch-000003") or "000002" in name for name in checkpoints.names(tmp_path))
    assert int(trained.optimizer.iterations) == EPOCHS * BATCHES


def test_what_is_not_finite_is_never_kept(tmp_path):
    class Spoil(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if batch == 4:
                spoil(self.model)

    with pytest.raises(Diverged, match=told("epoch 1, batch 5", "weights that are not finite, loss .*")):
        fit(Spoil(), ExactResume(tmp_path, minutes=1e-9))
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["epoch-000000-batch-00000003", "epoch-000000-batch-00000004"]
    for name in names:
        with np.load(tmp_path / name / "arrays.npz") as arrays:
            assert all(np.isfinite(arrays[each]).all() for each in arrays)


def test_a_training_that_diverged_goes_on_if_it_may_go_back(tmp_path):
    with pytest.raises(Diverged):
        fit(At(1, 3, spoil), ExactResume(tmp_path, minutes=1e-9))
    _, history = fit(At(1, 3, spoil, times=1), kept(tmp_path))
    assert history["loss"][-1] < history["loss"][0]


@pytest.mark.parametrize("killed_at", some([(1, 3), (1, 4), (2, 1)], fast=[(1, 3)]))
def test_a_run_that_is_killed_after_a_rollback_is_as_one_that_was_not(tmp_path, killed_at):
    schedule = keras.callbacks.LearningRateScheduler(lambda epoch: (0.1, 0.08, 0.02)[epoch])
    expected = fit(schedule, At(1, 3, spoil, times=1), kept(tmp_path / "alone"))

    class KillerAfter(Killer):  # the batches before are those of the first time
        def on_train_batch_end(self, batch, logs=None):
            if resumed.rollbacks:
                super().on_train_batch_end(batch, logs)

    # The checkpoint that it goes back to is the last one that is written before it is killed.
    resumed = ExactResume(tmp_path / "killed", minutes=1e-9, on_divergence="rollback")
    with pytest.raises(Killed):
        fit(schedule, At(1, 3, spoil, times=1), KillerAfter(*killed_at), resumed)
    again = kept(tmp_path / "killed")
    assert fit(schedule, again) == expected
    assert again.rollbacks == resumed.rollbacks and len(again.rollbacks) == 1


class Doubt(keras.callbacks.Callback):
    """Find a classifier of no use after some epochs, and say so after one more."""

    is_in_doubt, times = False, 1

    def __init__(self, since, until):
        super().__init__()
        self.since, self.until = since, until

    def on_epoch_end(self, epoch, logs=None):
        self.is_in_doubt = self.times > 0 and epoch >= self.since
        if self.is_in_doubt and epoch == self.until:
            self.times -= 1
            raise Diverged(self.model, epoch=epoch + 1, batch=None, loss=1.0, found="no use")


def test_it_goes_back_to_before_the_classifier_was_in_doubt(tmp_path, capsys):
    _, history = fit(Doubt(2, 4), kept(tmp_path), epochs=6)
    (line,) = re.findall("warning: .*", capsys.readouterr().err)
    assert line.startswith("warning: training diverged in epoch 5: no use, loss 1, ")
    assert "Going back to the checkpoint after epoch 2, with" in line
    assert history["rollbacks"] == [0, 0, 1, 1, 1, 1]
    # Of those after the one that it went back to none is left to come before it.
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names[-1] == "rollback-1-epoch-000006-batch-00000000" and all(name.startswith("roll") for name in names)


def test_checkpoints_from_before_a_name_stay_and_are_found(tmp_path):
    for step in range(1, 7):
        checkpoints.write(tmp_path, f"step-{step}", {"step": step}, config={}, keep=2, before="step-3")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-3", "step-5", "step-6"]
    found = checkpoints.newest(tmp_path, config={}, tell=pytest.fail, before="step-4")
    assert found.state == {"step": 3}


def test_who_cannot_go_back_is_refused_before_the_first_step(tmp_path, monkeypatch):
    scheduled = model()
    optimizer = keras.optimizers.SGD(keras.optimizers.schedules.ExponentialDecay(0.1, 10, 0.9))
    scheduled.compile(optimizer=optimizer)
    with pytest.raises(InvalidInput, match="^on_divergence='rollback': got an optimizer with a schedule of its own"):
        fit(kept(tmp_path), trained=scheduled)
    assert optimizer.iterations == 0
    monkeypatch.setattr(rollback.distribution, "workers", lambda strategy: 2)
    with pytest.raises(InvalidInput, match="^on_divergence='rollback': got 2 workers, expected one"):
        rollback.check_can_roll_back(SimpleNamespace(distribute_strategy=None))


# The trainers


def diverged(folder):
    """Make what a run that has diverged leaves."""
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    assert is_unfinished(folder)
    (folder / "diverged.json").write_text(json.dumps({"told": "training diverged in epoch 2"}))
    return Experiment.of("digits", output_dir=str(folder))


def test_the_folder_of_a_run_that_diverged_is_not_gone_on_with(tmp_path):
    folder = tmp_path / "run"
    experiment = diverged(folder)
    assert not is_unfinished(folder)
    expected = "got '.*/run': training diverged in epoch 2, expected the folder of a run that did not diverge. Train"
    with pytest.raises(InvalidInput, match=f"^folder: {expected}"):
        resume.resume([str(folder)])
    with pytest.raises(InvalidInput, match=f"^output_dir: {expected}"), run_folder(experiment, "digits"):
        pass
    with pytest.raises(InvalidInput, match=f"^output_dir: {expected}"):
        make_folder(experiment, "digits")
    with pytest.raises(InvalidInput, match=f"^run: {expected}"):
        metrics_of(str(folder))


FLAGS = {**FEW, "epochs": 2, "method": "natural", "learning_rate": 400.0, "radii": "none"}


def ended(module, *arguments, cwd):
    """Run a command and return its status, and the lines that tell of a divergence or an error."""
    status, printed = ran("-m", module, *arguments, cwd=cwd)
    lines = printed.splitlines()
    assert "Traceback" not in "".join(lines)
    return status, [line for line in lines if re.match("error: |warning: training diverged", line)]


@pytest.mark.slow
def test_a_trainer_stops_or_goes_back(tmp_path):
    flags = [f"--{name}={value}" for name, value in FLAGS.items()]
    status, (line,) = ended("trainers.digits", *flags, "--output_dir=stopped", cwd=tmp_path)
    expected = told(r"epoch 2, batch \d", "loss (nan|inf)") + r"\. Lower the learning rate\. stopped keeps best\.keras "
    expected += r"of epoch 1\. Train into another folder, with a lower --learning_rate or --on_divergence=rollback\."
    assert status == 1 and re.fullmatch(f"error: {expected}", line)
    assert len(read_history(tmp_path / "stopped")["loss"]) == 1
    assert (tmp_path / "stopped/best.keras").exists() and not (tmp_path / "stopped/metrics.json").exists()
    status, (line,) = ended("trainers.resume", "stopped", cwd=tmp_path)
    assert status == 2 and line.startswith("error: folder: got 'stopped': training diverged in epoch 2, batch ")
    status, (line,) = ended("trainers.digits", *flags, "--on_divergence=rollback", "--output_dir=back", cwd=tmp_path)
    assert status == 0 and "Going back to the checkpoint at the beginning, with a learning rate of 200 (" in line
    assert read_history(tmp_path / "back")["rollbacks"] == [1.0, 1.0]
    assert read_history(tmp_path / "back")["learning_rate"] == [200.0, 40.0]  # the milestone too
    (facts,) = json.loads((tmp_path / "back/metrics.json").read_text())["rollbacks"]
    assert list(facts) == ["epoch", "batch", "loss", "gradient_norm", "learning_rate"]
    assert facts["learning_rate"] == 200.0 and facts["loss"] is None
