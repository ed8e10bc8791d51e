"""What a run says when it goes wrong: an exploding loss, a constant classifier, a file that cannot be written."""

import math
import sys

import keras
import numpy as np
import pytest

from wmr_tf import AdversarialModel, InvalidInput, attacks, callbacks, methods
from wmr_tf.alarms import EXPLOSION, LossAlarm, MaskingAlarm, is_at_chance
from wmr_tf.engine import progress
from wmr_tf.evaluation.flags import constant_flags

RNG = np.random.default_rng(0)
IMAGES, LABELS = RNG.random([24, 4], np.float32), np.arange(24, dtype=np.int32) % 3
ATTACK = attacks.PGD(epsilon=0.1, step_size=0.05, steps=2)


def model(learning_rate, kernel=0.0, method=None):
    classifier = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    classifier.set_weights([kernel * np.eye(4, 3), np.zeros(3)])
    trained = AdversarialModel(classifier, method or methods.PGD(ATTACK))
    trained.compile(optimizer=keras.optimizers.SGD(learning_rate), metrics=["accuracy"])
    return trained


def losses_seen(losses, epochs_of=100):
    """Return what the alarm says after each batch of one image."""
    alarm = LossAlarm(classes=10)
    return [
        alarm.see(sum(losses[step - step % epochs_of : step + 1]), step % epochs_of + 1) for step in range(len(losses))
    ]


def test_the_loss_alarm_speaks_once_and_only_beyond_its_limit():
    limit = EXPLOSION * math.log(10)
    assert losses_seen([2.3, limit - 0.1, 1.0]) == [None] * 3
    said = losses_seen([2.3, 2.0, limit + 0.1])
    assert said[:2] == [None, None]
    assert said[2].startswith("the loss is exploding: 9.31 in step 3, 2.3 in the first, 2.3 by guessing.")
    assert "normalize=True" in said[2]
    # A classifier that was confident to begin with has a large first loss: that alone is no explosion.
    assert losses_seen([30.0, 60.0, 119.0]) == [None] * 3
    assert losses_seen([30.0, 60.0, 121.0])[2] is not None
    assert losses_seen([1.0, math.nan])[1] is not None
    # But one that stays there is.
    assert losses_seen([30.0] * 19) == [None] * 19
    assert "30 in the mean of the first 20 steps" in losses_seen([30.0] * 20)[-1]
    # Means start anew with each epoch.
    assert losses_seen([2.3, 2.0, 2.5, 2.0], epochs_of=2) == [None] * 4


@pytest.mark.parametrize(("learning_rate", "is_told"), [(0.1, False), (1e4, True)])
def test_fit_says_that_the_loss_explodes(capsys, learning_rate, is_told):
    model(learning_rate).fit(IMAGES, LABELS, batch_size=4, epochs=2, verbose=0)
    assert capsys.readouterr().err.count("warning: the loss is exploding") == is_told


def test_a_prediction_is_constant_only_where_it_is_wrong_somewhere():
    one, two = np.array([1, 1]), np.array([1, 0])
    (flag,) = constant_flags(one, np.array([False, True]))
    assert flag["value"] == 1 and "predicts class 1 for every image" in flag["message"]
    assert constant_flags(two, np.array([False, True])) == []
    assert constant_flags(one, np.array([True, True])) == []


def test_the_alarm_of_masking_speaks_once_for_each_time_that_a_gap_opens():
    alarm = MaskingAlarm()
    gaps = enumerate((0.85, 0.6, 0.5, 0.85, 0.3))
    seen = [alarm.see(strong < 0.7, epoch, 0.9, strong, 0.95) for epoch, strong in gaps]
    assert [text is not None for text in seen] == [False, True, False, False, True]
    assert "epoch 2 leaves a masked classifier (A_rob 90.00 %, in training 95.00 %, A_strong 60.00 %)" in seen[1]


def test_chance_is_the_share_of_the_most_frequent_class():
    labels = np.repeat([0, 1], [900, 100])
    assert is_at_chance(0.9, labels) and is_at_chance(0.918, labels) and not is_at_chance(0.92, labels)
    assert not is_at_chance(1.0, np.zeros(10))


def test_a_constant_classifier_is_told_in_its_epoch_and_at_the_end(capsys):
    evaluation = callbacks.RobustEvaluation((IMAGES, LABELS), ATTACK)
    model(0.0).fit(IMAGES, LABELS, epochs=2, verbose=0, callbacks=[evaluation])
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition(" that predicts class 0")[0] for line in lines] == [
        "warning: epoch 1 leaves a classifier",
        "warning: training ended with a classifier",
    ]
    assert all(". If it has made few steps, train longer. Lower the learning rate" in line for line in lines)


def test_a_classifier_at_chance_is_told_after_three_epochs(capsys):
    always_wrong = (IMAGES[:, :3].argmax(axis=1) + 1) % 3
    evaluation = callbacks.RobustEvaluation((IMAGES, always_wrong), ATTACK)
    model(0.0, kernel=5.0).fit(IMAGES, LABELS, epochs=3, verbose=0, callbacks=[evaluation])
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("warning: epoch 3 leaves a classifier at chance (A_nat 0.00%)")
    assert lines[1].startswith("warning: training ended with a classifier at chance")


def test_a_useful_classifier_is_told_nothing_of(capsys):
    labels = IMAGES[:, :3].argmax(axis=1).astype(np.int32)
    evaluation = callbacks.RobustEvaluation((IMAGES, labels), ATTACK)
    model(0.01, kernel=20.0).fit(IMAGES, labels, epochs=4, verbose=0, callbacks=[evaluation])
    assert capsys.readouterr() == ("", "")


# Where the best classifier goes


def fit_with(best, *others):
    model(0.1).fit(IMAGES, LABELS, epochs=1, verbose=0, callbacks=[*others, best])


def evaluation():
    return callbacks.RobustEvaluation((IMAGES, LABELS), ATTACK)


def test_the_folder_of_the_best_classifier_is_created(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    fit_with(callbacks.SaveBestClassifier("~/new/folder/best.keras"), evaluation())
    assert (tmp_path / "new" / "folder" / "best.keras").is_file()


def test_a_folder_that_cannot_be_made_is_refused_before_the_first_step(tmp_path):
    (tmp_path / "file").touch()
    trained = model(0.1)
    with pytest.raises(InvalidInput, match="path: got .*best.keras'.*folder that can be written"):
        best = callbacks.SaveBestClassifier(tmp_path / "file" / "best.keras")
        trained.fit(IMAGES, LABELS, verbose=0, callbacks=[best])
    assert trained.optimizer.iterations == 0


def test_a_key_of_the_fit_before_is_not_known_any_more(tmp_path):
    trained, best = model(0.1), callbacks.SaveBestClassifier(tmp_path / "best.keras")
    trained.fit(IMAGES, LABELS, verbose=0, callbacks=[evaluation(), best])
    with pytest.raises(InvalidInput, match="monitor: got 'val_A_strong', expected one of"):
        trained.fit(IMAGES, LABELS, verbose=0, callbacks=[best])


@pytest.mark.parametrize("monitor", ["val_A_sa_3", "val_robust", "val_A_rbo"])
def test_a_key_that_nobody_announces_is_refused_after_the_first_batch(tmp_path, monitor):
    trained = model(0.1)
    best = callbacks.SaveBestClassifier(tmp_path / "best.keras", monitor)
    with pytest.raises(InvalidInput, match=f"monitor: got '{monitor}', expected one of .*val_A_sa"):
        trained.fit(IMAGES, LABELS, batch_size=4, verbose=0, callbacks=[evaluation(), best])
    assert trained.optimizer.iterations == 1


class Score(keras.callbacks.Callback):
    def on_train_begin(self, logs=None):
        callbacks.announce(self.model, ["val_score"])

    def on_epoch_end(self, epoch, logs=None):
        logs["val_score"] = 1.0


@pytest.mark.parametrize("monitor", ["accuracy", "val_score"])
def test_keys_of_keras_and_of_other_callbacks_are_known(tmp_path, monitor):
    best = callbacks.SaveBestClassifier(tmp_path / "best.keras", monitor)
    fit_with(best, Score())
    assert best.best_epoch == 0


# Lines in a log


@pytest.fixture
def clock(monkeypatch):
    """A clock that moves by 25 seconds whenever somebody looks at it."""
    seconds = iter(range(0, 100_000, 25))
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(seconds))


def test_a_log_gets_a_line_every_minute(clock, capsys):
    progress_lines = callbacks.LogProgress()
    model(0.1).fit(IMAGES, LABELS, batch_size=4, epochs=1, verbose=2, callbacks=[progress_lines])
    lines = [line for line in capsys.readouterr().out.splitlines() if " left" in line]
    assert len(lines) == 1  # after 75 s; the last step, at 150 s, is Keras's to tell
    assert lines[0].startswith("epoch 1/1: step 3/6, 25 s each, 75 s left, loss ")


def test_an_epoch_that_is_gone_on_with_counts_from_there(clock, capsys):
    lines = progress.Lines(400, unit="step", before=200)
    for _ in range(3):
        lines.add(1)
    assert capsys.readouterr().out == "step 203/400, 25 s each, 82 min left\n"


@pytest.mark.parametrize("is_terminal", [False, True])
def test_progress_shows_lines_a_bar_or_nothing(clock, capsys, monkeypatch, is_terminal):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: is_terminal)
    shown = {}
    for verbose in (0, 1, 2):
        told = progress.Progress(6, unit="attack", verbose=verbose)
        for _ in range(6):
            told.add(1, told=", loss 2")
        shown[verbose] = capsys.readouterr().out
    assert shown[0] == ""
    assert shown[2] == "attack 3/6, 25 s each, 75 s left, loss 2\n"
    if not is_terminal:
        assert shown[1] == shown[2]
        return
    first, *_, last, nothing, after = shown[1].removeprefix("\r").split("\r")
    assert first == f"{'attack 1/6 ━━━───────────────── 2 min left, loss 2':59}"
    assert last == f"{'attack 5/6 ━━━━━━━━━━━━━━━━──── 25 s left, loss 2':59}"
    assert (nothing, after) == (" " * 59, "")


def test_a_bar_is_gone_where_the_work_ends_early_and_counts_where_its_length_is_not_known(clock, capsys, monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    told = progress.Progress(None, unit="step", verbose=1)
    told.add(2)
    assert capsys.readouterr().out.strip() == "step 2"
    told.expect(0)
    assert capsys.readouterr().out.split("\r")[1:] == [" " * 79, ""]


def test_lengths_of_time_are_written_as_people_do():
    assert [progress.shown_time(seconds) for seconds in (0.4, 89, 120, 5000, 8100)] == [
        "0 s", "89 s", "2 min", "83 min", "2 h 15 min",
    ]  # fmt: skip
