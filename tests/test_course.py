"""What changes in the course of a training: learning rate, attack and weighting by hand, and in a `fit`."""

import math

import keras
import numpy as np
import pytest

import wmr_tf
from trainers.runs import warming
from trainers.runs.folder import metrics_of, read_history
from trainers.runs.run import build_model, train
from trainers.runs.scheduling import LearningRateByBatch, MethodByEpoch
from trainers.settings.config import Experiment
from wmr_tf import data
from wmr_tf.callbacks import ExactResume, RobustEvaluation, SaveBestClassifier
from wmr_tf.checks import InvalidInput
from wmr_tf.divergence import Diverged
from wmr_tf.fit.averaging import averaged
from wmr_tf.saving import load_classifier

pytestmark = pytest.mark.filterwarnings("ignore:attack. its steps reach")


def training(method="trades", **settings):
    return Experiment.of("digits", method, **{"epochs": 4, "attack_steps": 4, **settings})


def splits():
    return data.load("digits", batch_size=20, train_examples=60, validation_examples=30)


def test_cosine_falls_from_the_learning_rate_to_0():
    rates = [training(schedule="cosine", learning_rate=0.2).learning_rate_at(time) for time in (0, 1, 2, 3, 4)]
    half = math.sqrt(0.5)
    assert rates == pytest.approx([0.2, 0.1 * (1 + half), 0.1, 0.1 * (1 - half), 0.0])


def test_one_cycle_rises_in_the_first_quarter():
    rates = [training(schedule="one_cycle", learning_rate=0.2).learning_rate_at(time) for time in (0, 0.5, 1, 2.5, 4)]
    assert rates == pytest.approx([0.0, 0.1, 0.2, 0.1, 0.0])


def test_the_radius_rises_in_equal_steps_and_the_step_size_with_it():
    attacks = list(map(training(epsilon=0.3, attack_step_size=0.1, epsilon_warmup=0.5).attack_at, range(4)))
    assert [attack.epsilon for attack in attacks] == pytest.approx([0.1, 0.2, 0.3, 0.3])
    assert [attack.step_size for attack in attacks] == pytest.approx([1 / 30, 2 / 30, 0.1, 0.1])
    assert {attack.steps for attack in attacks} == {4}


def test_coarse_epochs_make_a_quarter_of_the_steps_four_times_as_long():
    attacks = list(map(training(attack_steps=40, attack_step_size=0.01, coarse=0.6).attack_at, range(4)))
    assert [attack.steps for attack in attacks] == [10, 10, 40, 40]
    assert [attack.step_size for attack in attacks] == pytest.approx([0.04, 0.04, 0.01, 0.01])
    assert training(coarse=1.0, attack_step_size=0.5).attack_at(0).step_size == 1.0  # which crosses the box in linf
    long = training("pgd", norm="l1", epsilon=12.0, attack_step_size=3.0, coarse=1.0, eval_norm="l1", eval_epsilon=12.0)
    assert long.attack_at(0).step_size == 12.0


def test_alpha_rises_and_a_weighting_without_it_weighs_all_alike_until_then():
    warm = training(alpha_train=3.0, alpha_warmup=0.5, weighting="exponential:normalize=true")
    weightings = list(map(warm.weighting_at, range(4)))
    assert [weighting.alpha for weighting in weightings] == pytest.approx([1.0, 2.0, 3.0, 3.0])
    assert all(weighting.normalize for weighting in weightings)


@pytest.mark.parametrize("method", wmr_tf.methods.BY_NAME)
def test_without_a_course_it_is_the_method_that_is_made(method):
    settings = Experiment.of("digits", method, epochs=3)
    made = settings.make_method(examples=9)
    for epoch in range(3):
        assert not settings.takes("attack") or settings.attack_at(epoch) == made.attack
        assert not settings.takes("alpha") or settings.weighting_at(epoch) == made.weighting


class Seen(keras.callbacks.Callback):
    """Note what each batch is trained with."""

    def __init__(self):
        super().__init__()
        self.rates, self.attacks, self.alphas = [], [], []

    def on_train_batch_begin(self, batch, logs=None):
        method = self.model.method
        self.rates.append(float(self.model.optimizer.learning_rate.value))
        self.attacks.append(method.attack)
        self.alphas.append(method.weighting.alpha)


def test_a_fit_trains_with_what_the_settings_say_of_each_batch():
    settings = training(schedule="one_cycle", epsilon_warmup=0.5, alpha_warmup=0.25, coarse=0.5, clip_norm=0.5)
    model, seen = build_model(settings), Seen()
    model.run_eagerly = True
    history = model.fit(
        splits().train, epochs=4, verbose=0, callbacks=[MethodByEpoch(settings), LearningRateByBatch(settings), seen]
    ).history
    times = [epoch + batch / 3 for epoch in range(4) for batch in range(3)]
    assert seen.rates == pytest.approx([settings.learning_rate_at(time) for time in times])
    assert history["learning_rate"] == pytest.approx(seen.rates[2::3])
    assert seen.attacks == [settings.attack_at(int(time)) for time in times]
    assert seen.alphas == pytest.approx([1.0] * 3 + [2.0] * 9)
    assert model.optimizer.global_clipnorm == 0.5


class KilledOnce(keras.callbacks.Callback):
    """Raise after the second batch that it is told of; there is a checkpoint of the first."""

    seen = 0

    def on_train_batch_end(self, batch, logs=None):
        self.seen += 1
        if self.seen == 2:
            raise Killed


def test_a_second_fit_of_the_same_model_as_after_a_rollback_takes_the_checkpoints_of_the_first(tmp_path):
    settings, killer = training(epsilon_warmup=0.5, alpha_warmup=0.5, epochs=2), KilledOnce()
    model = build_model(settings)
    model.run_eagerly = True

    def fit():
        resume = ExactResume(tmp_path, minutes=1e-9)
        callbacks = [MethodByEpoch(settings), LearningRateByBatch(settings), resume, killer]
        return model.fit(splits().train, epochs=2, verbose=0, callbacks=callbacks).history

    with pytest.raises(Killed):
        fit()  # in the first epoch, whose radius is not the last one's
    assert list(tmp_path.iterdir())
    assert model.method.attack == settings.attack_at(0) != settings.attack_at(1)
    assert len(fit()["loss"]) == 2


def fitted(*callbacks, decay=0.5, epochs=2):
    """Train with an average; return the model, and the weights after each step as NumPy has them."""
    keras.utils.set_random_seed(1)
    model = build_model(training(averaging=decay, learning_rate=0.1))
    model.run_eagerly = True
    steps = []
    note = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: steps.append(model.classifier.get_weights())
    )
    model.fit(splits().train, epochs=epochs, verbose=0, callbacks=[note, *callbacks])
    return model, steps


def average(steps, decay=0.5):
    """The moving average, which begins with the weights after the first step."""
    mean = steps[0]
    for weights in steps[1:]:
        mean = [decay * old + (1 - decay) * new for old, new in zip(mean, weights, strict=True)]
    return mean


def assert_close(weights, expected):
    for one, other in zip(weights, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


def test_the_average_is_evaluated_and_kept_and_training_goes_on_with_the_weights(tmp_path):
    seen = []
    evaluation = RobustEvaluation(splits().validation, training().test_attack(), suite="short")
    evaluate = evaluation._evaluate
    evaluation._evaluate = lambda classifier: seen.append(classifier.get_weights()) or evaluate(classifier)
    best = SaveBestClassifier(tmp_path / "best.keras", monitor="val_A_nat")
    model, steps = fitted(evaluation, best)
    assert len(steps) == 6
    for weights, until in zip(seen, (3, 6), strict=True):
        assert_close(weights, average(steps[:until]))
        assert not np.allclose(weights[0], steps[until - 1][0], rtol=1e-4)
    assert_close(load_classifier(tmp_path / "best.keras").get_weights(), seen[best.best_epoch])
    assert_close(model.classifier.get_weights(), average(steps))  # Keras has put it there


def test_weights_set_in_the_block_are_the_average_from_then_on():
    model, _ = fitted(epochs=1)
    trained = model.classifier.get_weights()
    chosen = [weight + 1 for weight in trained]
    with averaged(model):
        model.classifier.set_weights(chosen)
    assert_close(model.classifier.get_weights(), trained)
    with averaged(model):
        assert_close(model.classifier.get_weights(), chosen)


def test_without_an_average_nothing_is_exchanged():
    model = build_model(training())
    model.fit(splits().train, epochs=1, verbose=0)
    before = model.classifier.get_weights()
    with averaged(model):
        assert_close(model.classifier.get_weights(), before)


def test_kerass_own_exchange_is_refused():
    model = build_model(training(averaging=0.9))
    with pytest.raises(InvalidInput, match=r"SwapEMAWeights\(swap_on_epoch=True\), expected none"):
        model.fit(splits().train, verbose=0, callbacks=[keras.callbacks.SwapEMAWeights(swap_on_epoch=True)])


@pytest.mark.parametrize("dataset", ["digits", "mnist", "cifar10", "tiny_imagenet"])
@pytest.mark.parametrize("method", wmr_tf.methods.BY_NAME)
def test_every_method_has_the_fast_recipe(dataset, method):
    fast, paper = (Experiment.of(dataset, method, recipe=name) for name in ("fast", "paper"))
    assert fast.averaging is not None and paper.averaging is None
    assert fast.epsilon == paper.epsilon and fast.test_attack() == paper.test_attack()
    assert Experiment.of(dataset, method) == paper
    if dataset == "digits" or method not in ("trades", "pgd", "mart", "mixed", "iaat"):
        assert (fast.attack_steps, fast.attack_step_size) == (paper.attack_steps, paper.attack_step_size)
    else:  # fewer and longer steps, which can still reach the edge, with IAAT that of the largest ball
        assert fast.attack_steps < paper.attack_steps
        assert fast.attack_steps * fast.attack_step_size >= (fast.epsilon_max or fast.epsilon) > 0


# The warm start


class Killed(BaseException):
    """What a killed process raises, as it were: nothing catches it."""


def warmed(folder, monkeypatch=None, kill_after=None, **settings):
    """Warm up a new classifier, as a new process would; return its weights and how many batches it trained on."""
    keras.utils.set_random_seed(0)
    experiment = training(warm_start=8, batch_size=20, train_examples=60, **settings)
    model, seen = build_model(experiment), []

    def end_batch(self, batch, logs=None):
        seen.append(batch)
        if len(seen) == kill_after:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(warming.LogProgress, "on_train_batch_end", end_batch)
        warming.warm_up(experiment, splits(), model.classifier, folder, ExactResume(folder / "of", minutes=1e-9))
    return model.classifier.get_weights(), len(seen)


def test_a_warm_start_goes_on_where_it_was_and_is_not_made_twice(tmp_path, monkeypatch):
    expected, batches = warmed(tmp_path / "alone", monkeypatch)
    assert batches == 2 * 3  # 8 epochs are two rounds of 4 replays, of 3 batches each
    with pytest.raises(Killed):
        warmed(tmp_path / "stopped", monkeypatch, kill_after=4)
    weights, batches = warmed(tmp_path / "stopped", monkeypatch)
    assert batches == 3  # the fourth was not kept yet
    assert all(np.array_equal(one, other) for one, other in zip(weights, expected, strict=True))
    again, batches = warmed(tmp_path / "stopped", monkeypatch)
    assert batches == 0
    assert all(np.array_equal(one, other) for one, other in zip(again, expected, strict=True))


def test_a_warm_start_is_free_with_the_radius_of_the_training_and_without_weights():
    made = training("pgd", warm_start=12, epsilon=0.1, alpha_train=1.5, seed=3).warming()
    assert (made.method, made.rounds, made.epsilon, made.attack_step_size) == ("free", 3, 0.1, 0.1)
    assert (made.alpha_train, made.seed, made.warm_start, made.learning_rate) == (0, 3, 0, 0.005)
    assert [made.learning_rate_at(time) for time in (0, 0.75, 3)] == [0, 0.005, 0]  # one_cycle


def test_a_warm_start_that_diverges_says_what_helps(tmp_path, monkeypatch):
    def diverging(*given):
        raise Diverged(keras.Model(), epoch=1, batch=2, loss=math.nan)

    monkeypatch.setattr("trainers.runs.run.warm_up", diverging)
    few = {"train_examples": 60, "validation_examples": 20, "eval_examples": 20, "output_dir": str(tmp_path / "run")}
    with pytest.raises(Diverged) as ended:
        train(training(warm_start=4, **few))
    (note,) = ended.value.__notes__
    helps = "without --warm_start (its learning rate is that of its own recipe) or --on_divergence=rollback"
    assert note == f"Train into another folder, {helps}."


@pytest.mark.slow
def test_a_run_by_the_fast_recipe_with_all_parts_ends_with_its_files(tmp_path, capsys):
    parts = {"warm_start": 4, "epsilon_warmup": 0.5, "alpha_warmup": 0.5, "coarse": 0.5, "clip_norm": 1.0}
    few = {"train_examples": 60, "validation_examples": 20, "eval_examples": 20, "suite": "short", "radii": "none"}
    folder = train(training(recipe="fast", epochs=2, batch_size=20, output_dir=str(tmp_path / "run"), **parts, **few))
    said = capsys.readouterr().out
    assert "Warm start: free, 4 epochs of 4 replays a batch" in said and "The warm start took " in said
    history = read_history(folder)
    assert len(history["learning_rate"]) == len(history["val_A_strong"]) == 2
    assert not [path for path in folder.iterdir() if "checkpoints" in path.name]
    assert metrics_of(str(folder))["recipe"] == "fast"
