"""The search over alpha_train: its space, its objectives, its trials and what it writes."""

import contextlib
import csv
import dataclasses
import json
import math
import shlex
import shutil
from pathlib import Path
from unittest import mock

import keras
import keras_tuner as kt
import matplotlib.image
import numpy as np
import pytest

import tuning
import wmr_tf as wmr
from tests.marking import some
from tests.test_config import run_main, settings_of
from trainers.runs import run, warming
from trainers.runs.folder import read_history
from trainers.settings.config import Experiment
from tuning import results, space
from tuning.hypermodel import ExperimentHyperModel, best_epoch
from tuning.role import check_role, is_chief, is_worker
from tuning.search import Search
from tuning.searching import claim_folder, search
from tuning.tuner import BestEpoch, SearchTuner, combinations, make_oracle, run_unfinished_again
from wmr_tf import report
from wmr_tf.checks import InvalidInput
from wmr_tf.saving import NotWritten

# Few steps on purpose: what is tested here needs no strong attack.
pytestmark = pytest.mark.filterwarnings("ignore:attack. its steps reach")

FEW = {
    "epochs": 2,
    "train_examples": 96,
    "validation_examples": 48,
    "eval_examples": 32,
    "attack_steps": 1,
    "eval_attack_steps": 2,
    "eval_attack_step_size": 0.1,  # so that two steps are an attack, and stronger ones no surprise
    "alpha_test": (1.0,),
}


def searched(text: str, **given) -> space.Space:
    return space.Space({"dataset": "digits", **given}, space.parse(text))


def declared(trials: space.Space, **values) -> tuple[kt.HyperParameters, dict]:
    """The hyperparameters that a space declares, and the values it reads, once some are set."""
    hp = kt.HyperParameters()
    hp.values.update(values)
    return hp, trials.values(hp)


# --- the space


def test_a_search_is_parsed_into_what_keras_tuner_knows():
    trials = searched("alpha_train:0:4,learning_rate:0.01:0.1:log,batch_size:16:64:16,milestones:0.5+0.75/0.9")
    hp, values = declared(trials)
    alpha, rate, batch, milestones = hp.space
    assert (type(alpha).__name__, alpha.min_value, alpha.max_value, alpha.step) == ("Float", 0, 4, None)
    assert (rate.sampling, rate.min_value, rate.max_value) == ("log", 0.01, 0.1)
    assert list(batch.values) == [16, 32, 48, 64]
    assert milestones.values == ["0.5,0.75", "0.9"]
    assert values == {"alpha_train": 0.0, "learning_rate": 0.01, "batch_size": 16, "milestones": (0.5, 0.75)}
    assert trials.experiment(values) == Experiment.of("digits", **values)


def test_a_range_takes_fractions():
    (item,) = space.parse("epsilon:4/255:16/255:log")
    assert (item.low, item.high, item.is_log) == (4 / 255, 16 / 255, True)


def test_the_last_step_of_a_range_is_its_end():
    hp, _ = declared(searched("alpha_train:0:1:0.1"))
    assert list(hp.space[0].values) == pytest.approx(np.linspace(0, 1, 11))


def test_settings_that_depend_on_each_other_are_searched_together():
    norms = "norm:linf/l2,epsilon:0.1:1,attack_step_size:0.1/0.2"
    trials = searched(norms)
    assert trials.first == {"method": "trades", "norm": "linf", "epsilon": 0.1, "attack_step_size": 0.1}
    with pytest.raises(InvalidInput, match="^norm: got l2 without --epsilon, expected"):
        searched("norm:linf/l2")
    # Noise goes with one step only, whichever comes first.
    for text in ("attack_start:uniform/noise,attack_steps:10/1", "attack_steps:10/1,attack_start:noise/uniform"):
        trials = searched(text, method="pgd")
        assert trials.first == {"method": "pgd", "attack_start": "uniform", "attack_steps": 10}
    with pytest.raises(InvalidInput, match="^attack_steps: got 10, expected 1 with --attack_start=noise"):
        searched("attack_start:noise/uniform,attack_steps:10/5", method="pgd")
    # A search is checked as its first experiment, not as the recipe with what is given.
    assert Search.of("digits", norm="l2", search="epsilon:0.1:1,attack_step_size:0.1/0.2").epsilon == 0.1
    assert Search.of("digits", replays=2, search="method:free/pgd").rounds == 15


def test_a_search_begins_though_its_first_values_do_not_go_together(tmp_path):
    trials = searched("attack_steps:10/1,attack_start:noise/uniform,method:pgd/trades,beta:1:6")
    hypermodel = ExperimentHyperModel(trials, tuning.Objective("val_A_sa"), top_probability=0.9)
    known = tuner_of(hypermodel, tmp_path, "random").oracle.hyperparameters
    assert [hp.name for hp in known.space] == ["method", "attack_steps", "attack_start", "beta"]


def test_what_only_some_methods_take_is_searched_and_given_for_these_alone():
    trials = searched("alpha_train:0:4,beta:1:6:1,method:pgd/trades/natural", attack_steps=3)
    assert declared(trials, method="trades")[1] == {"method": "trades", "alpha_train": 0.0, "beta": 1.0}
    assert declared(trials, method="pgd")[1] == {"method": "pgd", "alpha_train": 0.0}
    assert declared(trials, method="natural")[1] == {"method": "natural"}
    for method in ("trades", "pgd", "natural"):
        experiment = trials.experiment(declared(trials, method=method)[1])
        recipe = Experiment.of("digits", method)
        # The rest is the recipe of its own method, not of the default's.
        assert (experiment.weight_decay, experiment.milestones) == (recipe.weight_decay, recipe.milestones)
        assert experiment.attack_steps == (None if method == "natural" else 3)


def test_a_given_setting_holds_for_every_method_even_if_one_recipe_has_it_anyway():
    settings = Search.of("digits", weight_decay=0.0, search="method:pgd/trades")
    assert (
        settings.space().experiment({"method": "pgd"}).weight_decay == 0 != Experiment.of("digits", "pgd").weight_decay
    )


# --- the command


@pytest.mark.parametrize("method", some(["trades", "pgd", "natural"], fast=["trades"]))
def test_the_printed_command_is_the_trials_experiment(method, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("a folder").mkdir()
    trials = searched(
        "alpha_train:0:4,beta:1:6,learning_rate:0.001:0.1:log,method:pgd/trades/natural,milestones:0.5+0.75/0.9",
        seed=3,
        alpha_test=(1.0, 2.5),
        data_dir="a folder",
        deterministic=True,
        output_dir="elsewhere",
    )
    _, values = declared(trials, method=method, alpha_train=1.2345670461654663, learning_rate=1e-3)
    python, dash_m, module, *arguments = shlex.split(results.command(trials, values))
    assert (python, dash_m, module) == ("python", "-m", "trainers.digits")
    again = settings_of(Experiment, *arguments, dataset="digits")
    assert dataclasses.replace(again, output_dir="elsewhere") == trials.experiment(values)
    assert again.output_dir is None  # a search's folder is no run's


# --- objectives


def test_an_objective_is_a_weighted_sum():
    logs = {"val_A_sa": 0.4, "val_A_nat": 0.8, "val_A_tr_1p5": 0.2}
    for text, value in [
        ("val_A_sa", 0.4),
        ("0.7*val_A_sa + 0.3*val_A_nat", 0.52),
        ("val_A_tr_1p5+2*val_A_nat", 1.8),
        (".5*val_A_sa+.5*val_A_sa", 0.4),
    ]:
        objective = tuning.Objective(text, (1.0, 1.5))
        assert objective.get_value(logs) == pytest.approx(value)
        assert objective.has_value(logs) and not objective.has_value({})
        assert objective.better_than(0.2, 0.1) and not objective.is_matched
    assert tuning.Objective("val_A_sa_matched").is_matched
    with pytest.raises(InvalidInput, match="^objective: got 'val_A_tr_1p5', expected one of"):
        tuning.Objective("val_A_tr_1p5", (1.0, 1.5), (1.0,))  # for which the evaluation makes no attack


@pytest.mark.parametrize(
    ("objective", "keys"), [("val_A_sa", ["val_A_tr_1"]), ("val_A_tr_2_matched", ["val_A_tr_1", "val_A_tr_2"])]
)
def test_a_search_attacks_for_the_a_tr_that_it_maximises(monkeypatch, objective, keys):
    trials = searched("learning_rate:0.01:0.1", alpha_test=(1.0, 1.5, 2.0))
    hypermodel = ExperimentHyperModel(trials, tuning.Objective(objective, (1.0, 1.5, 2.0)), top_probability=0.9)
    found = []
    monkeypatch.setattr(
        "trainers.runs.run.measuring_callbacks", lambda experiment, evaluation: found.append(evaluation) or []
    )

    class Stop(Exception):
        pass

    model = mock.Mock()
    model.fit.side_effect = Stop
    with pytest.raises(Stop):
        hypermodel.fit(declared(trials)[0], model)
    assert [key for key in found[0].keys if key.startswith("val_A_tr_")] == keys


def images_and_labels(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Images whose upper or lower half is brighter, and which."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 2, count).astype("int32")
    images = generator.uniform(0.2, 0.6, (count, 4, 4, 1)).astype("float32")
    images[labels == 1, :2] += 0.3
    images[labels == 0, 2:] += 0.3
    return images, labels


ATTACK = wmr.attacks.PGD(epsilon=0.1, step_size=0.05, steps=2)


def classifier() -> keras.Model:
    return keras.Sequential([keras.layers.Input((4, 4, 1)), keras.layers.Flatten(), keras.layers.Dense(2)])


@pytest.mark.slow
def test_the_matched_evaluation_is_that_of_the_model_at_the_temperature():
    validation = images_and_labels(60, seed=1)
    evaluation = wmr.callbacks.RobustEvaluation(validation, ATTACK, alpha_test=(1.5,), seed=4)
    matched = tuning.MatchedEvaluation(evaluation, top_probability=0.8)
    model = wmr.AdversarialModel(classifier(), wmr.methods.PGD(ATTACK))
    model.compile(optimizer="sgd")
    history = model.fit(*images_and_labels(64, seed=2), epochs=3, callbacks=[evaluation, matched], verbose=0).history

    # Independently, of the last epoch: the temperature, and a plain evaluation of the divided logits.
    logits = model.classifier.predict(validation[0], verbose=0)
    temperature = wmr.temperature.temperature_for(logits, 0.8)
    assert temperature != pytest.approx(1.0, rel=0.2)
    scaled = wmr.temperature.at_temperature(model.classifier, temperature)
    assert wmr.temperature.mean_top_probability(scaled.predict(validation[0], verbose=0)) == pytest.approx(
        0.8, abs=1e-5
    )
    result = wmr.evaluate_robustness(scaled, validation, ATTACK, alpha_test=1.5, seed=4, verbose=0)
    assert history["val_A_sa_matched"][-1] == pytest.approx(result.A_sa(1.5).value, abs=1e-5)
    assert history["val_A_tr_1p5_matched"][-1] == pytest.approx(result.A_tr(1.5).value, abs=1e-5)
    assert history["val_A_nat_matched"] == history["val_A_nat"]
    plain = wmr.evaluate_robustness(model.classifier, validation, ATTACK, alpha_test=1.5, seed=4, verbose=0)
    assert history["val_A_sa"][-1] == pytest.approx(plain.A_sa(1.5).value, abs=1e-6)
    assert abs(plain.A_sa(1.5).value - result.A_sa(1.5).value) > 1e-3


def test_a_matched_evaluation_is_nan_where_no_temperature_gives_the_confidence(monkeypatch):
    evaluation = wmr.callbacks.RobustEvaluation(images_and_labels(20, seed=1), ATTACK)
    model = wmr.AdversarialModel(classifier(), wmr.methods.PGD(ATTACK))
    model.compile(optimizer="sgd")
    matched = tuning.MatchedEvaluation(evaluation, top_probability=0.4)  # of two classes
    fit = {"epochs": 1, "verbose": 0, "callbacks": [evaluation, matched]}
    history = model.fit(*images_and_labels(32, seed=2), **fit)
    values = {name: value for name, (value,) in history.history.items() if name.startswith("val_")}
    assert len(values) == 14
    assert all(math.isnan(value) == name.endswith("_matched") for name, value in values.items())
    with pytest.raises(FloatingPointError, match="^training: got no val_A_sa_matched in any .* Change top_probability"):
        best_epoch(history, tuning.Objective("val_A_sa_matched"), 1000)


def test_a_matched_evaluation_has_its_keys_in_an_epoch_that_is_skipped(monkeypatch):
    evaluation = wmr.callbacks.RobustEvaluation(images_and_labels(20, seed=1), ATTACK, every=3)
    matched = tuning.MatchedEvaluation(evaluation, top_probability=0.9)
    model = wmr.AdversarialModel(classifier(), wmr.methods.PGD(ATTACK))
    model.compile(optimizer="sgd")
    found = []
    find = matched._found_temperature
    monkeypatch.setattr(matched, "_found_temperature", lambda: found.append(find()) or found[-1])
    history = model.fit(*images_and_labels(32, seed=2), epochs=3, callbacks=[evaluation, matched], verbose=0).history
    assert len(found) == 2
    assert [math.isnan(value) for value in history["val_A_sa_matched"]] == [False, True, False]


def history_of(**values: list[float]) -> keras.callbacks.History:
    history = keras.callbacks.History()
    history.history, history.epoch = values, list(range(len(values["loss"])))
    return history


def test_the_best_epoch_is_that_of_the_objective_whatever_is_skipped():
    nan = math.nan
    history = history_of(loss=[3.0, 2.0, 1.0, 0.5], val_A_sa=[nan, 0.2, 0.6, 0.4], val_A_nat=[nan, 0.9, 0.1, 0.95])
    assert best_epoch(history, tuning.Objective("val_A_sa"), 1000) == {"val_A_sa": 0.6, "val_A_nat": 0.1, "epoch": 3}
    mix = tuning.Objective("0.5*val_A_sa+0.5*val_A_nat")
    assert best_epoch(history, mix, 1000) == pytest.approx(
        {"val_A_sa": 0.4, "val_A_nat": 0.95, mix.name: 0.675, "epoch": 4}
    )
    for diverged, complaint in (
        (history_of(loss=[1.0], val_A_sa=[nan]), "got no val_A_sa in any epoch, and a loss of 1 after 1 epochs"),
        (history_of(loss=[1.0, nan], val_A_sa=[0.5, 0.5]), "got a loss of nan after 2 epochs"),
    ):
        with pytest.raises(FloatingPointError, match=f"{complaint}, expected finite.* Lower the learning rate.$"):
            best_epoch(diverged, tuning.Objective("val_A_sa"), 1000)


def test_the_best_epoch_does_without_what_keras_measured_less_often():
    history = history_of(loss=[3.0, 2.0, 1.0], val_A_sa=[0.2, 0.6, 0.4], val_loss=[0.5])  # validation_freq=2
    assert best_epoch(history, tuning.Objective("val_A_sa"), 1000) == {"val_A_sa": 0.6, "epoch": 2}


def test_a_masked_epoch_does_not_count_and_a_trial_of_such_epochs_fails():
    objective = tuning.Objective("val_A_sa")
    values = {"val_A_rob": [0.8, 0.92, 0.9], "val_A_strong": [0.75, 0.4, 0.3]}
    history = history_of(loss=[3.0, 2.0, 1.0], val_A_sa=[0.5, 0.7, 0.8], **values)
    assert best_epoch(history, objective, 1000)["epoch"] == 1
    values["val_A_strong"][0] = 0.1
    masked = history_of(loss=[3.0, 2.0, 1.0], val_A_sa=[0.5, 0.7, 0.8], **values)
    with pytest.raises(
        FloatingPointError, match="masked classifiers in every epoch .val_A_rob 90.00%, val_A_strong 30"
    ):
        best_epoch(masked, objective, 1000)


def test_chance_is_allowed_for_where_few_images_tell_of_masking():
    history = history_of(loss=[2.0, 1.0], val_A_sa=[0.5, 0.7], val_A_rob=[0.9, 0.9], val_A_strong=[0.85, 0.79])
    epochs = [best_epoch(history, tuning.Objective("val_A_sa"), images)["epoch"] for images in (1000, 10_000)]
    assert epochs == [2, 1]


def test_the_weights_of_a_trial_are_those_of_an_epoch_that_is_not_masked(tmp_path):
    model = wmr.AdversarialModel(classifier(), wmr.methods.PGD(ATTACK))
    model.build((None, 4, 4, 1))
    callback = BestEpoch(tuning.Objective("val_A_rob"), str(tmp_path / "best.weights.h5"), 1000)
    callback.set_model(model)
    written = []
    for epoch, (a_rob, a_strong) in enumerate([(0.5, 0.48), (0.8, 0.3), (0.6, 0.58)]):
        before = set(tmp_path.iterdir()) and (tmp_path / "best.weights.h5").stat().st_ino
        callback.on_epoch_end(epoch, {"loss": 1.0, "val_A_rob": a_rob, "val_A_strong": a_strong})
        written.append((tmp_path / "best.weights.h5").stat().st_ino != before)
    assert written == [True, False, True]


def test_matched_and_plain_evaluations_are_of_the_same_averaged_weights():
    evaluation = wmr.callbacks.RobustEvaluation(images_and_labels(60, seed=1), ATTACK, on_masked="roll_back")
    matched = tuning.MatchedEvaluation(evaluation, top_probability=0.8)
    assert matched.evaluation.on_masked == "warn"  # it must not put back weights too
    model = wmr.AdversarialModel(classifier(), wmr.methods.PGD(ATTACK))
    model.compile(optimizer=keras.optimizers.SGD(0.5, use_ema=True, ema_momentum=0.9))
    found = []
    temperature = matched._found_temperature
    matched._found_temperature = lambda: found.append(model.classifier.get_weights()) or temperature()
    keep = keras.callbacks.LambdaCallback(on_epoch_end=lambda *_: found.append(model.classifier.get_weights()))
    history = model.fit(*images_and_labels(64, seed=2), epochs=1, callbacks=[evaluation, matched, keep], verbose=0)
    (value,) = history.history["val_A_nat"]
    assert history.history["val_A_nat_matched"] == [value]  # a temperature changes no prediction
    averages, trained = found
    assert not np.array_equal(averages[0], trained[0])
    np.testing.assert_allclose(model.classifier.get_weights()[0], averages[0])  # where Keras ends


# --- the tuner


def test_the_grid_is_every_combination_once():
    hp, _ = declared(searched("alpha_train:0:1:0.5,beta:1:2:1,method:trades/pgd"))
    expected = [("trades", alpha, beta) for alpha in (0.0, 0.5, 1.0) for beta in (1.0, 2.0)]
    expected += [("pgd", alpha, None) for alpha in (0.0, 0.5, 1.0)]
    found = [(values["method"], values["alpha_train"], values.get("beta")) for values in combinations(hp)]
    assert sorted(found, key=str) == sorted(expected, key=str)


class Parabola(kt.HyperModel):
    """No network worth the name: the objective is a parabola in alpha_train, or an error."""

    def __init__(self, fails_at: tuple[float, ...] = (), dies_at: int | None = None) -> None:
        super().__init__()
        self.fails_at, self.dies_at, self.seen = fails_at, dies_at, []

    def declare_hyperparameters(self, hp):
        hp.Float("alpha_train", 0.0, 2.0, step=0.5)

    def build(self, hp):
        return classifier()

    def fit(self, hp, model, callbacks=(), **kwargs):
        alpha = hp.get("alpha_train")
        self.seen.append(alpha)
        if len(self.seen) == self.dies_at:
            raise KeyboardInterrupt
        if alpha in self.fails_at:
            raise InvalidInput(f"alpha_train: got {alpha}, expected another. Change it.")
        logs = {"val_A_sa": 1 - (alpha - 1.5) ** 2, "epoch": 1.0}
        for callback in callbacks:  # which save the weights that Hyperband goes on with
            callback.set_model(model)
            callback.on_epoch_end(0, logs)
        return logs


def tuner_of(hypermodel, folder, name="grid", max_trials=None) -> SearchTuner:
    oracle = make_oracle(name, tuning.Objective("val_A_sa"), max_trials=max_trials, epochs=3, seed=0)
    return SearchTuner(oracle, hypermodel, folder, images=1000)


def test_failed_trials_say_why_and_do_not_end_the_search(tmp_path, capsys):
    hypermodel = Parabola(fails_at=(0.0, 0.5, 1.0, 2.0))
    tuner = tuner_of(hypermodel, tmp_path)
    tuner.search()
    assert hypermodel.seen == [0.0, 0.5, 1.0, 1.5, 2.0]
    assert [trial.status for trial in tuner.oracle.trials.values()] == ["FAILED"] * 3 + ["COMPLETED", "FAILED"]
    rows = results.rows_of(tuner.oracle, searched("alpha_train:0:2:0.5"), tmp_path / "trials")
    assert [row["reason"] for row in rows[2:4]] == ["alpha_train: got 1.0, expected another. Change it.", ""]
    assert "Trial 2 failed: alpha_train: got 1.0, expected another. Change it." in capsys.readouterr().out
    assert results.best_trial(tuner.oracle).hyperparameters.get("alpha_train") == 1.5


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")  # of five points
@pytest.mark.parametrize(
    ("name", "dies_at"),
    [
        pytest.param(name, dies_at, marks=[] if (name, dies_at) == ("grid", 3) else pytest.mark.slow)
        for name in ("grid", "random", "bayesian", "hyperband")
        for dies_at in (1, 3, 4)  # Hyperband's fourth trial goes on with one of the first three
    ],
)
def test_a_search_that_died_goes_on_where_it_was(tmp_path, name, dies_at):
    first, second, whole = Parabola(dies_at=dies_at), Parabola(), Parabola()
    tuner_of(whole, tmp_path / "whole", name, max_trials=5).search()
    with pytest.raises(KeyboardInterrupt):
        tuner_of(first, tmp_path, name, max_trials=5).search()
    tuner = tuner_of(second, tmp_path, name, max_trials=5)
    tuner.search()
    # What was running runs again, and what was not asked for yet follows.
    assert second.seen[0] == first.seen[-1] and len(second.seen) == 5 - (dies_at - 1)
    if name != "bayesian":  # whose random state is not kept
        assert first.seen[:-1] + second.seen == whole.seen
    if name == "hyperband":
        assert whole.seen[3] == min(whole.seen[:3], key=lambda alpha: abs(alpha - 1.5))
        assert tuner.oracle.trials["3"].hyperparameters.values["tuner/initial_epoch"] == 1
    assert [int(name) for name in sorted(tuner.oracle.trials)] == list(range(5))
    assert {trial.status for trial in tuner.oracle.trials.values()} == {"COMPLETED"}
    third = Parabola()
    tuner_of(third, tmp_path, name, max_trials=5).search()
    assert third.seen == []


def test_a_file_that_cannot_be_written_ends_the_search_and_not_the_trial(tmp_path):
    class Full(Parabola):
        def fit(self, hp, model, **kwargs):
            if hp.get("alpha_train") == 0.5:
                raise NotWritten("best.h5", OSError(28, "No space left on device"))
            return super().fit(hp, model, **kwargs)

    with pytest.raises(OSError, match=r"could not write best\.h5"):
        tuner_of(Full(), tmp_path).search()
    again = Parabola()
    tuner_of(again, tmp_path).search()
    assert again.seen == [0.5, 1.0, 1.5, 2.0]


class Killed(BaseException):
    """What a killed process raises, as it were: nothing catches it."""


class Counting(keras.callbacks.Callback):
    """Note the batches of a search and the losses of its epochs, and kill it within one."""

    def __init__(self, seen, dies_after=None):
        super().__init__()
        self.seen, self.dies_after = seen, dies_after

    def on_train_batch_begin(self, batch, logs=None):
        if len(self.seen) == self.dies_after:
            raise Killed
        self.seen.append(batch)

    def on_epoch_end(self, epoch, logs=None):
        self.seen.append(logs["loss"])


@pytest.mark.parametrize(
    ("name", "max_trials", "dies_after"),
    # Of three batches an epoch: in the second epoch of a trial, and in one that Hyperband goes on with.
    [("grid", 1, 5), ("hyperband", None, 17)],
)
@pytest.mark.slow
def test_a_killed_trial_goes_on_from_its_checkpoint(name, max_trials, dies_after, tmp_path, monkeypatch):
    monkeypatch.setattr(run, "CHECKPOINT_MINUTES", 1e-9)
    for module in ("tuning.hypermodel", "tuning.tuner"):
        monkeypatch.setattr(f"{module}.is_masked", lambda *_: False)  # which two steps do not tell
    if name == "grid":
        monkeypatch.setattr(tuning.Objective, "get_value", lambda *_: 0.5)  # so that the first epoch stays the best
    measuring = run.measuring_callbacks
    few = {**FEW, "batch_size": 32, "epochs": 3 if name == "hyperband" else 2}
    objective = tuning.Objective("val_A_sa_matched")

    def searched_in(folder, dies_after=None):
        seen = []
        counting = Counting(seen, dies_after)
        monkeypatch.setattr(run, "measuring_callbacks", lambda *given: [*measuring(*given), counting])
        hypermodel = ExperimentHyperModel(searched("alpha_train:0:4:0.5", **few), objective, 0.3)
        oracle = make_oracle(name, objective, max_trials=max_trials, epochs=few["epochs"], seed=0)
        tuner = SearchTuner(oracle, hypermodel, tmp_path / folder, images=1000)
        with contextlib.nullcontext() if dies_after is None else pytest.raises(Killed):
            tuner.search()
        return tuner, seen

    whole, all_seen = searched_in("whole")
    _, before = searched_in("killed", dies_after)
    again, after = searched_in("killed")
    assert before + after == all_seen
    states = [[trial.get_state() for trial in tuner.oracle.trials.values()] for tuner in (again, whole)]
    assert states[0] == states[1]
    for one, other in zip(again.oracle.trials.values(), whole.oracle.trials.values(), strict=True):
        best = [tuner.load_model(trial).get_weights() for tuner, trial in ((again, one), (whole, other))]
        for weights in zip(*best, strict=True):
            np.testing.assert_array_equal(*weights)
    assert not list(tmp_path.rglob("checkpoints"))


@pytest.mark.slow
def test_trials_share_their_warm_start_and_end_as_they_would_alone(tmp_path, monkeypatch):
    for module in ("tuning.hypermodel", "tuning.tuner"):
        monkeypatch.setattr(f"{module}.is_masked", lambda *_: False)
    few = {**FEW, "method": "pgd", "batch_size": 32, "epochs": 1}
    objective = tuning.Objective("val_A_sa")
    seen = []
    counting = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: seen.append(batch))
    monkeypatch.setattr(warming, "LogProgress", lambda: counting)

    def searched_in(folder, text, **given):
        hypermodel = ExperimentHyperModel(searched(text, **few, **given), objective, 0.3)
        oracle = make_oracle("grid", objective, max_trials=None, epochs=1, seed=0)
        tuner = SearchTuner(oracle, hypermodel, tmp_path / folder, images=1000)
        tuner.search()
        batches = len(seen)
        seen.clear()
        return tuner, batches

    shared, batches = searched_in("shared", "alpha_train:0:2:2", warm_start=4)
    assert batches == 3  # one round of 4 replays, of 3 batches
    alone, batches = searched_in("alone", "alpha_train:2/3", warm_start=4)
    assert batches == 3
    trials = [list(tuner.oracle.trials.values())[place] for tuner, place in ((shared, 1), (alone, 0))]
    assert [float(trial.hyperparameters.values["alpha_train"]) for trial in trials] == [2.0, 2.0]
    assert trials[0].score == trials[1].score
    ends = [tuner.load_model(trial).get_weights() for tuner, trial in zip((shared, alone), trials, strict=True)]
    assert all(np.array_equal(*weights) for weights in zip(*ends, strict=True))
    _, batches = searched_in("two", "warm_start:4/8")
    assert batches == 3 + 6
    assert list(tmp_path.glob("*/trials/warm-starts/tuner0/*"))
    shared.forget_warm_starts()
    assert not list(tmp_path.glob("shared/trials/warm-starts"))


def test_neither_a_half_saved_nor_an_ended_trial_counts_twice(tmp_path):
    tuner_of(Parabola(), tmp_path, max_trials=3).search()
    trials = tmp_path / "trials"
    # Killed as trial 0 had been saved as ended but the list had not, and as trial 3 was saved but not listed.
    state = json.loads((trials / "oracle.json").read_text())
    state["ongoing_trials"] = {"tuner0": "0"}
    (trials / "oracle.json").write_text(json.dumps(state))
    orphan = json.loads((trials / "trial_2/trial.json").read_text()) | {"trial_id": "3", "status": "RUNNING"}
    (trials / "trial_3").mkdir()
    (trials / "trial_3/trial.json").write_text(json.dumps(orphan))
    hypermodel = Parabola()
    tuner = tuner_of(hypermodel, tmp_path, max_trials=5)
    assert sorted(tuner.oracle.trials) == ["0", "1", "2"]
    tuner.search()
    assert hypermodel.seen == [1.5, 2.0]


def test_a_search_goes_on_in_another_role(tmp_path, monkeypatch):
    def report(oracle, alpha: float) -> None:
        trial = oracle.create_trial("worker0")
        assert trial.hyperparameters.get("alpha_train") == alpha
        oracle.update_trial(trial.trial_id, {"val_A_sa": alpha, "epoch": 1.0})
        trial.status = "COMPLETED"
        oracle.end_trial(trial)

    def as_chief() -> SearchTuner:
        with monkeypatch.context() as patch:
            for name, value in {"TUNER_ID": "chief", "ORACLE_IP": "127.0.0.1", "ORACLE_PORT": "1"}.items():
                patch.setenv(f"KERASTUNER_{name}", value)
            tuner = tuner_of(Parabola(), tmp_path)
            report(tuner.oracle, 0.5 * len(tuner.oracle.trials))
            tuner.save()
        return tuner

    as_chief()
    alone = Parabola()
    tuner_of(alone, tmp_path, max_trials=3).search()
    assert alone.seen == [0.5, 1.0]
    assert list(as_chief().oracle.trials) == ["0000", "1", "2", "0003"]


@pytest.mark.parametrize(("name", "time"), [("trial.json", 4), ("trial.json", 5), ("oracle.json", 5), ("tuner", 2)])
def test_a_kill_in_the_middle_of_a_file_costs_nothing(tmp_path, monkeypatch, name, time):
    writes = []

    def write_half(path, text: str, encoding: str | None = None) -> int:
        writes.append(name in Path(path).name)
        is_killed = writes[-1] and sum(writes) == time
        with open(path, "w") as file:
            file.write(text[: len(text) // 2] if is_killed else text)
        if is_killed:
            raise KeyboardInterrupt
        return len(text)

    first, second = Parabola(), Parabola()
    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", write_half)
        patch.setattr("keras_tuner.src.utils.save_json", lambda path, state: write_half(path, json.dumps(state)))
        with pytest.raises(KeyboardInterrupt):
            tuner_of(first, tmp_path).search()
    assert 0 < len(first.seen) < 5
    tuner = tuner_of(second, tmp_path)
    tuner.search()
    assert list(dict.fromkeys(first.seen + second.seen)) == [0.0, 0.5, 1.0, 1.5, 2.0]
    assert {trial.status for trial in tuner.oracle.trials.values()} == {"COMPLETED"} and len(tuner.oracle.trials) == 5


def test_a_trial_that_runs_again_forgets_why_it_failed(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        tuner_of(Parabola(dies_at=2), tmp_path).search()
    (tmp_path / "trials/trial_0001/failure.txt").write_text("no memory\n")  # and killed before that was saved
    tuner = tuner_of(Parabola(), tmp_path)
    tuner.search()
    rows = results.rows_of(tuner.oracle, searched("alpha_train:0:2:0.5"), tmp_path / "trials")
    assert [(row["status"], row["reason"]) for row in rows] == [("completed", "")] * 5


def test_the_grid_is_expanded_once(tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr("tuning.tuner.combinations", lambda hp: calls.append(hp) or combinations(hp))
    tuner_of(Parabola(), tmp_path).search()
    assert len(calls) == 1


def test_an_unfinished_trial_forgets_what_it_had_reported(tmp_path):
    oracle = tuner_of(Parabola(), tmp_path, max_trials=4).oracle
    trial = oracle.create_trial("tuner0")
    oracle.update_trial(trial.trial_id, {"val_A_sa": 0.9})
    run_unfinished_again(oracle)
    assert not trial.metrics.exists("val_A_sa") and oracle._retry_queue == [trial.trial_id]


@pytest.mark.parametrize(
    ("environment", "complaint"),
    [
        ({"TUNER_ID": "chief"}, "^environment: got KERASTUNER_TUNER_ID, expected"),
        ({"TUNER_ID": "chief", "ORACLE_IP": "127.0.0.1"}, "^environment: got"),
        ({"TUNER_ID": "a", "ORACLE_IP": "127.0.0.1", "ORACLE_PORT": "http"}, "^KERASTUNER_ORACLE_PORT: got 'http'"),
    ],
)
def test_a_role_that_is_half_said_is_refused(monkeypatch, environment, complaint):
    check_role()
    for name, value in environment.items():
        monkeypatch.setenv(f"KERASTUNER_{name}", value)
    with pytest.raises(InvalidInput, match=complaint):
        check_role()


def test_the_chief_is_called_so(monkeypatch):
    assert not is_chief() and not is_worker()
    monkeypatch.setenv("KERASTUNER_ORACLE_IP", "127.0.0.1")
    for name, chief in (("chief", True), ("worker0", False)):
        monkeypatch.setenv("KERASTUNER_TUNER_ID", name)
        assert (is_chief(), is_worker()) == (chief, not chief)


# --- the whole


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """The folder of a search over two alphas, of which one method diverges, and its settings."""
    folder = tmp_path_factory.mktemp("search") / "of two"
    with open(folder.with_name("printed"), "w") as file, contextlib.redirect_stdout(file):
        search(settings := settings_of_two(folder))
    return folder, settings


def settings_of_two(folder: Path) -> Search:
    return Search.of(
        "digits",
        tuner="grid",
        search="alpha_train:0:2:2,learning_rate:0.05/1e30",
        objective="0.5*val_A_sa+0.5*val_A_nat",
        seed=4,
        averaging=0.5,  # so that the weights and their average differ
        output_dir=str(folder),
        **FEW,
    )


def test_a_search_writes_all_its_trials(found):
    folder, settings = found
    rows = json.loads((folder / "trials.json").read_text())
    assert [(row["alpha_train"], row["learning_rate"]) for row in rows] == [(0, 0.05), (0, 1e30), (2, 0.05), (2, 1e30)]
    assert [row["status"] for row in rows] == ["completed", "failed"] * 2
    for row in rows:
        if row["status"] == "failed":
            # At a rate of 1e30 the loss is no number, or only the accuracies are: that depends on the threads.
            assert row["reason"].startswith(("training: got no 0.5*val_A_sa", "training diverged in epoch "))
            assert row["A_rob"] is None
        else:
            assert row["objective"] == pytest.approx(0.5 * row["A_sa"] + 0.5 * row["A_nat"])
            assert row["epoch"] in (1, 2)
    with open(folder / "trials.csv", newline="") as file:
        assert [row["trial"] for row in csv.DictReader(file)] == ["0", "1", "2", "3"]
    lines = (folder / "trials.md").read_text().splitlines()
    assert len(lines) == 6 and "0.5*val_A_sa+0.5*val_A_nat (%)" in lines[0]
    pixels = matplotlib.image.imread(folder / "tradeoff.png")
    assert min(pixels.shape[:2]) > 400 and 0.01 < np.mean(pixels[..., :3].min(axis=-1) < 0.9) < 0.9
    assert not list(folder.rglob("events.out.tfevents*"))
    assert json.loads((folder / "search.json").read_text())["objective"] == settings.objective


@pytest.mark.slow
def test_a_trial_is_the_run_of_its_command(found, tmp_path):
    folder, settings = found
    printed = folder.with_name("printed").read_text()
    rows = [row for row in json.loads((folder / "trials.json").read_text()) if row["status"] == "completed"]
    commands = [
        results.command(settings.space(), {name: row[name] for name in ("alpha_train", "learning_rate")})
        for row in rows
    ]
    assert [line for line in printed.splitlines() if line in commands] == [
        max(zip(rows, commands, strict=True), key=lambda pair: pair[0]["objective"])[1]
    ]
    assert "A run of this command keeps the epoch of highest val_A_strong, not 0.5*val_A_sa+0.5*val_A_nat." in printed
    for row, command in zip(rows, commands, strict=True):
        again = settings_of(Experiment, *shlex.split(command)[3:], dataset="digits")
        history = read_history(run.train(dataclasses.replace(again, output_dir=str(tmp_path / str(row["trial"])))))
        for name in results.ACCURACIES:
            assert history[f"val_{name}"][row["epoch"] - 1] == pytest.approx(row[name], abs=1e-5)


def test_the_best_is_evaluated_on_test_images_once(found, capsys):
    folder, settings = found
    rows = [row for row in json.loads((folder / "trials.json").read_text()) if row["status"] == "completed"]
    best = max(rows, key=lambda row: row["objective"])
    metrics = json.loads((folder / "best/metrics.json").read_text())
    assert (metrics["split"], metrics["examples"], int(metrics["trial"])) == ("test", 32, best["trial"])
    assert metrics["alpha_train"] == best["alpha_train"]
    # It is the model whose validation accuracies the table has.
    experiment = settings.space().experiment({"alpha_train": best["alpha_train"], "learning_rate": 0.05})
    validation = run.load_data(experiment).validation
    result = wmr.evaluate_robustness(
        keras.models.load_model(folder / "best/best.keras"),
        validation,
        experiment.test_attack(),
        alpha_test=1.0,
        seed=4,
        attack_precision=experiment.precision,
        verbose=0,
    )
    assert result.A_sa(1.0).value == pytest.approx(best["A_sa"], abs=1e-5)
    before = (folder / "best/metrics.json").stat().st_mtime_ns
    capsys.readouterr()
    search(settings)
    assert (folder / "best/metrics.json").stat().st_mtime_ns == before
    assert "has been evaluated on test images before" in capsys.readouterr().out


def test_a_search_that_goes_on_and_finds_a_better_trial_evaluates_that(found, tmp_path):
    folder, settings = found
    shutil.copytree(folder, tmp_path / "search")
    best = tmp_path / "search/best"
    whole = json.loads((best / "metrics.json").read_text())
    (best / "metrics.json").write_text(json.dumps({**whole, "trial": "another"}))
    classifier = keras.models.load_model(best / "best.keras")
    classifier.set_weights([weight / 2 for weight in classifier.get_weights()])
    classifier.save(best / "best.keras")
    # As if evaluated with these weights, which the file of its outcomes names.
    auto_attack = wmr.evaluation.auto_attack
    test = run.load_data(settings).test.take(1)
    (best / "outcomes.npz").unlink()
    auto_attack(classifier, test, epsilon=settings.epsilon, version="short", outcomes=best / "outcomes.npz", verbose=0)
    search(dataclasses.replace(settings, output_dir=str(tmp_path / "search")))
    again = json.loads((best / "metrics.json").read_text())
    assert (again["trial"], again["A_rob"], again["suite"]) == (whole["trial"], whole["A_rob"], whole["suite"])


def test_a_folder_of_another_search_is_refused(found, tmp_path):
    folder, settings = found
    assert claim_folder(dataclasses.replace(settings, max_trials=7)) == folder
    for change, complaint in [
        ({"objective": "val_A_sa"}, "a search with objective '0.5"),
        ({"epochs": 3}, "a search with epochs 2, expected 3"),
        ({"tuner": "random"}, "a search with tuner 'grid', expected 'random'"),
    ]:
        with pytest.raises(InvalidInput, match=complaint):
            claim_folder(dataclasses.replace(settings, **change))
    with pytest.raises(InvalidInput, match="expected a new folder, or this search's"):
        claim_folder(dataclasses.replace(settings, output_dir=str(folder / "best")))


def test_chief_and_workers_that_start_together_share_a_folder(tmp_path, monkeypatch):
    settings = settings_of_two(tmp_path / "search")
    # Another one is about to write its record, and writes it just as this one looks into the folder.
    (tmp_path / "search").mkdir()
    (tmp_path / "search/.search.json.1234").touch()
    claim_folder(settings)
    record = (tmp_path / "search/search.json").read_text()
    (tmp_path / "search/search.json").unlink()
    look = Path.iterdir

    def written_meanwhile(folder):
        (tmp_path / "search/search.json").write_text(record)
        return look(folder)

    monkeypatch.setattr(Path, "iterdir", written_meanwhile)
    assert claim_folder(settings) == tmp_path / "search"


def test_a_difference_between_a_trial_and_the_run_of_its_command_is_said():
    plain, other = tuning.Objective("val_A_strong"), tuning.Objective("val_A_tr")
    assert results.difference_from_trial("grid", plain) == ""
    assert "from scratch" in results.difference_from_trial("hyperband", plain)
    assert results.difference_from_trial("grid", other).endswith(
        "keeps the epoch of highest val_A_strong, not val_A_tr."
    )


@pytest.mark.slow
def test_a_picture_that_fails_costs_nothing_and_a_tuple_is_a_word_in_it(tmp_path, monkeypatch):
    settings = Search.of(
        "digits", tuner="grid", search="milestones:0.5+0.75/0.9", output_dir=str(tmp_path), **{**FEW, "epochs": 1}
    )
    draw = report.plot_search
    monkeypatch.setattr(report, "plot_search", mock.Mock(side_effect=ValueError("no ink")))
    loads = []
    load = run.load_data
    monkeypatch.setattr(run, "load_data", lambda experiment: loads.append(experiment) or load(experiment))
    with pytest.raises(ValueError, match="no ink"):
        search(settings)
    assert (tmp_path / "best/metrics.json").exists()
    rows = json.loads((tmp_path / "trials.json").read_text())
    assert [row["milestones"] for row in rows] == ["0.5,0.75", "0.9"]
    assert len(loads) == 3  # one a trial, the first before all, and one for the test
    monkeypatch.setattr(report, "plot_search", draw)
    search(settings)
    assert (tmp_path / "tradeoff.png").exists()


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--tuner=gird"], "error: tuner: got 'gird', expected one of bayesian, random"),
        (["--max_trials=0"], "error: max_trials: got 0, expected a whole number >= 1"),
        (["--objective=val_A_sa_7"], "error: objective: got 'val_A_sa_7', expected one of"),
        (["--top_probability=1.5"], "error: top_probability: got 1.5"),
        (["--tuner=grid"], "error: search: got a range of alpha_train, expected a step, for the grid"),
        (
            ["--tuner=hyperband", "--search=epochs:1:5"],
            "error: search: got epochs, expected none: Hyperband sets how long",
        ),
        (["--tuner=hyperband", "--method=free", "--search=replays:1:4"], "error: search: got replays, expected none"),
        (["--tuner=hyperband", "--search=method:pgd/free"], "error: search: got method pgd/free, expected free alone"),
        (["--method=pgd", "--search=method:pgd/trades"], "error: method: got a value, expected none, as it is search"),
        (["--search=alpha_train:4:0"], "error: search: got 'alpha_train:4:0', expected low < high"),
        (["--search=architecture:resnet18/resnet"], "error: architecture: got 'resnet', expected one of"),
        (["--validation_examples=100000"], "error: validation_examples: got 100000"),
    ],
)
def test_mistakes_are_one_line_before_anything_is_written(tmp_path, capsys, monkeypatch, arguments, complaint):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        run_main(search, Search, "--dataset=digits", *arguments)
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(complaint)
    assert not list(tmp_path.iterdir())


def test_if_every_trial_fails_the_search_says_why(tmp_path):
    settings = Search.of("digits", tuner="random", max_trials=2, learning_rate=1e30, output_dir=str(tmp_path), **FEW)
    with pytest.raises(FloatingPointError, match="^search: all 2 trials failed: training diverged in "):
        search(settings)


@pytest.mark.slow
def test_hyperband_goes_on_with_the_better_half(tmp_path, monkeypatch):
    started = []
    build = run.build_model
    for module in ("tuning.hypermodel", "tuning.tuner"):
        monkeypatch.setattr(f"{module}.is_masked", lambda *_: False)  # which two steps do not tell
    monkeypatch.setattr(
        run, "build_model", lambda experiment, *count: started.append(experiment) or build(experiment, *count)
    )
    settings = Search.of("digits", tuner="hyperband", output_dir=str(tmp_path), **{**FEW, "epochs": 3})
    search(settings)
    trials = [json.loads(path.read_text()) for path in sorted(tmp_path.glob("trials/trial_*/trial.json"))]
    by_id = {trial["trial_id"]: trial for trial in trials}
    continued = [trial for trial in trials if "tuner/trial_id" in trial["hyperparameters"]["values"]]
    assert continued and {trial["status"] for trial in trials} == {"COMPLETED"}
    for trial in continued:
        values = trial["hyperparameters"]["values"]
        before = by_id[values["tuner/trial_id"]]["hyperparameters"]["values"]
        assert values["alpha_train"] == before["alpha_train"]
        assert values["tuner/initial_epoch"] == before["tuner/epochs"] < values["tuner/epochs"] == 3
        (epoch,) = (
            m["observations"][0]["value"][0] for name, m in trial["metrics"]["metrics"].items() if name == "epoch"
        )
        assert before["tuner/epochs"] < epoch <= 3
    # The milestones are fractions of the largest number of epochs in every trial.
    assert {experiment.epochs for experiment in started} == {3}


@pytest.mark.slow
def test_a_search_in_ones_own_code(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    attack, validation, train = ATTACK, images_and_labels(40, seed=1), images_and_labels(64, seed=2)
    my_classifier = classifier

    def build(hp):
        method = wmr.methods.TRADES(attack, beta=6.0, alpha=hp.Float("alpha_train", 0.0, 4.0))
        model = wmr.AdversarialModel(my_classifier(), method)
        model.compile(optimizer="sgd", metrics=["accuracy"])
        return model

    evaluation = wmr.callbacks.RobustEvaluation(validation, attack, alpha_test=(1.0, 2.0))
    hypermodel = tuning.RobustHyperModel(build, evaluation, objective="val_A_sa_2")
    tuner = kt.RandomSearch(hypermodel, hypermodel.objective, max_trials=3, directory="search", seed=1)
    tuner.search(*train, epochs=2, verbose=0)
    best = tuner.get_best_models()[0].classifier

    trials = tuner.oracle.get_best_trials(3)
    scores = [trial.score for trial in trials]
    assert len(scores) == 3 and scores == sorted(scores, reverse=True)
    result = wmr.evaluate_robustness(best, validation, attack, alpha_test=2.0, verbose=0)
    assert result.A_sa(2.0).value == pytest.approx(scores[0], abs=1e-5)
