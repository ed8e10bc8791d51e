"""The callbacks in real fits of a network small enough to look at, and what other callbacks make of their numbers."""

import copy
import csv
import dataclasses
import math
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from wmr_tf import AdversarialModel, callbacks
from wmr_tf.attacks import FAB, NFGSM, PGD, Square
from wmr_tf.callbacks import RobustEvaluation, SaveBestClassifier
from wmr_tf.checks import InvalidInput
from wmr_tf.divergence import Diverged
from wmr_tf.evaluation import evaluate_robustness, weighted_accuracy
from wmr_tf.methods import PGD as PGDTraining
from wmr_tf.methods import TRADES, Natural
from wmr_tf.weights import probability_margin

ATTACK = PGD(epsilon=0.15, step_size=0.05, steps=3)
ALPHAS = (1.5, 1.0, 2.0)
# The keys of a callback in ARCHITECTURE.md, for these alphas.
KEYS = ["val_A_nat", "val_A_rob", "val_A_strong", "val_A_sa", "val_A_tr"]
KEYS += ["val_A_sa_1p5", "val_A_tr_1p5", "val_A_sa_1", "val_A_sa_2", "val_A_tr_2"]


def images_and_labels(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return 4x4 images of three classes, told apart by which row is bright, with much noise."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, 3, count).astype(np.int32)
    images = random.uniform(0.0, 0.7, [count, 4, 4, 1])
    images[np.arange(count), labels] += 0.3
    return images.astype(np.float32), labels


def dataset(count: int, batch_size: int, seed: int = 0) -> tf.data.Dataset:
    return tf.data.Dataset.from_tensor_slices(images_and_labels(count, seed)).batch(batch_size)


TRAIN = dataset(48, 16, seed=1)


def make_classifier(seed: int = 0) -> keras.Model:
    keras.utils.set_random_seed(seed)
    layers = [keras.Input([4, 4, 1]), keras.layers.Flatten(), keras.layers.Dense(16, "relu")]
    return keras.Sequential([*layers, keras.layers.Dense(3, dtype="float32")])


def adversarial(classifier: keras.Model, learning_rate: float = 0.1) -> AdversarialModel:
    model = AdversarialModel(classifier, PGDTraining(ATTACK, alpha=1.0))
    # Eagerly: what is tested is the evaluation after the epoch, and a graph of the step takes long to make.
    model.compile(optimizer=keras.optimizers.SGD(learning_rate), metrics=["accuracy"], run_eagerly=True)
    return model


def plain(classifier: keras.Model) -> keras.Model:
    classifier.compile(optimizer="sgd", loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return classifier


def fit(model: keras.Model, *used: keras.callbacks.Callback, epochs: int = 1) -> dict[str, list[float]]:
    return model.fit(TRAIN, epochs=epochs, verbose=0, shuffle=False, callbacks=list(used)).history


def last(history: dict[str, list[float]]) -> dict[str, float]:
    return {key: history[key][-1] for key in KEYS}


def expected(classifier: keras.Model, data, *, seed: int = 0, **settings) -> dict[str, float]:
    """Return what the callback should have logged, from `evaluate_robustness` and keys spelt out by hand."""
    settings |= {"alpha_test": ALPHAS, "seed": seed, "suite": "short"}
    result = evaluate_robustness(classifier, data, ATTACK, **settings)
    values = [result.A_nat, result.A_rob, result.A_strong, *[result.A_sa(1.5), result.A_tr(1.5)] * 2]
    values += [result.A_sa(1.0), result.A_sa(2.0), result.A_tr(2.0)]
    return dict(zip(KEYS, [accuracy.value for accuracy in values], strict=True))


def test_every_key_is_there_in_every_epoch_and_nan_where_it_is_skipped():
    model = adversarial(make_classifier())
    history = fit(model, RobustEvaluation(dataset(30, 7), ATTACK, alpha_test=ALPHAS, alpha_tr=[2.0], every=2), epochs=5)
    assert {key for key in history if key.startswith("val_")} == set(KEYS)
    for key in KEYS:
        # Epochs 2 and 4 are due; so are 1, the first, and 5, the last.
        assert [math.isnan(value) for value in history[key]] == [False, False, True, False, False], key


def test_kerass_own_callbacks_find_the_best_epoch_among_those_that_are_evaluated(tmp_path):
    class Measured(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            if not math.isnan(logs["val_A_strong"]):
                logs["val_A_strong"] = (0.1, None, 0.3, None, 0.2)[epoch] or 0.25  # the third is the best

    best = keras.callbacks.EarlyStopping("val_A_strong", mode="max", patience=9, restore_best_weights=True)
    saved = tmp_path / "{epoch}.weights.h5"
    checkpoint = keras.callbacks.ModelCheckpoint(
        saved, "val_A_strong", mode="max", save_best_only=True, save_weights_only=True
    )
    evaluation = RobustEvaluation(dataset(30, 7), ATTACK, every=3)
    fit(adversarial(make_classifier()), evaluation, Measured(), best, checkpoint, epochs=5)
    assert best.best_epoch == 2 and best.best == 0.3
    assert sorted(path.name[0] for path in tmp_path.iterdir()) == ["1", "3"]


@pytest.mark.parametrize(
    "keeping",
    [
        keras.callbacks.EarlyStopping("val_A_strong", mode="max", restore_best_weights=True),
        keras.callbacks.ModelCheckpoint("best.keras", "val_A_strong", mode="max", save_best_only=True),
    ],
)
def test_what_keeps_the_weights_is_refused_where_their_average_is_evaluated(keeping):
    model = AdversarialModel(make_classifier(), PGDTraining(ATTACK))
    model.compile(optimizer=keras.optimizers.SGD(0.1, use_ema=True))
    with pytest.raises(InvalidInput, match=r"callbacks: got (EarlyStop|ModelCheck).*use_ema=True\), .*SaveBestClassif"):
        fit(model, keeping)
    fit(model, keras.callbacks.EarlyStopping("loss"))


@pytest.mark.parametrize(
    ("attack", "message"),
    [
        (Square(epsilon=0.1), "attack: got Square.*needs a margin"),
        (FAB(epsilon=0.1), "attack: got FAB.*needs a margin"),
        (NFGSM(epsilon=0.1), "attack: got NFGSM.*stay in the ball"),
    ],
)
def test_attacks_that_would_measure_nothing_are_refused(attack, message):
    with pytest.raises(InvalidInput, match=message):
        RobustEvaluation(dataset(7, 7), attack)
    with pytest.raises(InvalidInput, match=message):
        evaluate_robustness(make_classifier(), images_and_labels(7), attack, verbose=0)
    if not attack.takes_any_loss:
        with pytest.raises(InvalidInput, match=message):
            PGDTraining(attack)


@pytest.mark.parametrize(
    ("wrap", "batch_size"),
    [
        (adversarial, 7),
        (plain, 64),
        *(pytest.param(*each, marks=pytest.mark.slow) for each in [(adversarial, 64), (plain, 7)]),
    ],
)
def test_the_numbers_are_those_of_evaluate_robustness(monkeypatch, wrap, batch_size):
    monkeypatch.setattr(callbacks, "AT_MOST", 16)  # so that there are several batches, the last one smaller
    classifier = make_classifier()
    history = fit(
        wrap(classifier), RobustEvaluation(dataset(40, 9), ATTACK, alpha_test=ALPHAS, alpha_tr=[2.0]), epochs=2
    )
    numbers = expected(classifier, images_and_labels(40), batch_size=batch_size)
    assert last(history) == pytest.approx(numbers, abs=1e-6)
    assert len(set(numbers.values())) > 4  # the attack bites, so that agreement means something


def test_a_tr_of_the_first_alpha_is_measured_and_of_others_if_asked_for():
    first = RobustEvaluation(dataset(7, 7), ATTACK, alpha_test=ALPHAS)
    assert set(KEYS) - set(first.keys) == {"val_A_tr_2"}
    assert set(RobustEvaluation(dataset(7, 7), ATTACK, alpha_test=ALPHAS, alpha_tr=[2.0, 1.5]).keys) == set(KEYS)
    with pytest.raises(InvalidInput, match="alpha_tr: got 3.0, expected one of 1.5, 1.0, 2.0"):
        RobustEvaluation(dataset(7, 7), ATTACK, alpha_test=ALPHAS, alpha_tr=[3.0])


def test_it_knows_how_long_an_epoch_and_its_validation_took():
    evaluation = RobustEvaluation(dataset(7, 7), ATTACK)
    fit(adversarial(make_classifier()), evaluation)
    validation, epoch = evaluation.seconds
    assert 0 < validation < epoch


def test_examples_caps_and_seed_counts():
    classifier = make_classifier()
    images, labels = images_and_labels(60)
    evaluation = RobustEvaluation((images, labels), ATTACK, alpha_test=ALPHAS, alpha_tr=[2.0], examples=40, seed=7)
    logged = last(fit(adversarial(classifier), evaluation))
    first_ones = (images[:40], labels[:40])
    assert logged == pytest.approx(expected(classifier, first_ones, seed=7), abs=1e-6)
    assert logged != pytest.approx(expected(classifier, first_ones, seed=0), abs=1e-6)
    assert logged != pytest.approx(expected(classifier, (images, labels), seed=7), abs=1e-6)


def test_a_plain_model_may_have_a_part_named_classifier():
    class Net(keras.Model):
        def __init__(self):
            super().__init__()
            self.features = keras.layers.Flatten()
            self.classifier = keras.layers.Dense(3)

        def call(self, images, training=None):
            return self.classifier(self.features(images))

    model = plain(Net())
    logged = last(fit(model, RobustEvaluation(dataset(30, 30), ATTACK, alpha_test=ALPHAS, alpha_tr=[2.0])))
    assert logged == pytest.approx(expected(model, images_and_labels(30)), abs=1e-6)


def test_keras_own_callbacks_read_the_numbers_in_the_same_epoch(tmp_path):
    history = fit(
        adversarial(make_classifier()),
        RobustEvaluation(dataset(30, 30), ATTACK, alpha_test=ALPHAS, alpha_tr=[2.0]),
        keras.callbacks.ModelCheckpoint(tmp_path / "{epoch}_{val_A_sa_1p5:.3f}.keras", monitor="val_A_sa", mode="max"),
        keras.callbacks.EarlyStopping("val_A_sa", mode="max", min_delta=1.0, patience=2),
        keras.callbacks.CSVLogger(tmp_path / "history.csv"),
        keras.callbacks.TensorBoard(tmp_path, write_graph=False),
        epochs=9,
    )
    assert len(history["val_A_sa"]) == 3  # nothing improves by 1, so patience ends it
    names = {f"{epoch}_{value:.3f}.keras" for epoch, value in enumerate(history["val_A_sa_1p5"], 1)}
    assert names == {path.name for path in tmp_path.glob("*.keras")}
    with open(tmp_path / "history.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    events = EventAccumulator(str(tmp_path / "validation")).Reload()
    for key in KEYS:
        assert [float(row[key]) for row in rows] == history[key]
        logged = [float(tf.make_ndarray(event.tensor_proto)) for event in events.Tensors(key.replace("val", "epoch"))]
        assert logged == pytest.approx(history[key])


@pytest.mark.slow
def test_a_deep_copy_and_a_second_fit_evaluate_the_model_that_they_are_in():
    evaluation = RobustEvaluation(dataset(30, 30), ATTACK, alpha_test=ALPHAS, alpha_tr=[2.0])
    copied = copy.deepcopy(evaluation)  # as Keras Tuner does before each trial
    seen = []
    for seed, callback in enumerate([evaluation, copied, evaluation, copied]):
        classifier = make_classifier(seed)
        seen.append(last(fit(adversarial(classifier), callback)))
        assert seen[-1] == pytest.approx(expected(classifier, images_and_labels(30)), abs=1e-6)
    assert len({numbers["val_A_sa"] for numbers in seen}) == 4


@pytest.mark.slow
def test_mixed_precision_is_attacked_in_bfloat16_scored_in_float32_and_left_as_it_was():
    def float32_weights():
        classifier = make_classifier()
        fit(adversarial(classifier), epochs=2)
        return [weight.tobytes() for weight in classifier.get_weights()]

    before = float32_weights()
    keras.config.set_dtype_policy("mixed_bfloat16")
    mixed = make_classifier()
    logged = last(
        fit(adversarial(mixed), RobustEvaluation(dataset(30, 30), ATTACK, alpha_test=ALPHAS, alpha_tr=[2.0]), epochs=2)
    )
    assert mixed.layers[1].compute_dtype == "bfloat16"
    keras.config.set_dtype_policy("float32")

    same_in_float32 = make_classifier()
    same_in_float32.set_weights(mixed.get_weights())
    images, labels = images_and_labels(30)
    attacked_alike = expected(same_in_float32, (images, labels), attack_precision="bfloat16")
    assert logged == pytest.approx(attacked_alike, abs=1e-6)
    assert logged != pytest.approx(expected(same_in_float32, (images, labels)), abs=1e-6)
    by_precision = [
        weighted_accuracy(probability_margin(classifier(images), labels).numpy(), 2.0).value
        for classifier in (mixed, same_in_float32)
    ]
    assert by_precision[0] != pytest.approx(by_precision[1], abs=1e-5)  # so the comparison above can tell them apart
    assert float32_weights() == before


def test_evaluation_retraces_neither_the_training_step_nor_itself():
    class CountedNatural(Natural):
        traces = 0

        def train_batch(self, model, batch):
            CountedNatural.traces += 1
            return super().train_batch(model, batch)

    class CountedPGD(PGD):
        traces = 0

        def __call__(self, *args, **kwargs):
            CountedPGD.traces += 1
            return super().__call__(*args, **kwargs)

    def training_traces(*used):
        CountedNatural.traces = 0
        model = AdversarialModel(make_classifier(), CountedNatural())
        model.compile(optimizer="sgd")
        fit(model, *used, epochs=4)
        return CountedNatural.traces

    keras.config.set_dtype_policy("mixed_bfloat16")
    attack = CountedPGD(epsilon=0.05, step_size=0.05, steps=1)
    evaluation = RobustEvaluation(dataset(30, 30), attack, alpha_test=ALPHAS, alpha_tr=[2.0])
    assert training_traces(evaluation) == training_traces()
    assert CountedPGD.traces == 1  # for the unweighted attack and all alphas, in all epochs


def test_an_epoch_whose_classifier_gives_nan_is_nan_and_the_next_one_ends_the_fit():
    model = adversarial(make_classifier())

    def ruin(epoch, logs):
        if epoch == 1:
            model.classifier.set_weights([np.full_like(weight, np.nan) for weight in model.classifier.get_weights()])

    evaluation = RobustEvaluation(dataset(30, 30), ATTACK, alpha_test=ALPHAS, alpha_tr=[2.0])
    with pytest.raises(Diverged, match="^training diverged in epoch 3, batch 1: loss nan, "):
        fit(model, keras.callbacks.LambdaCallback(on_epoch_end=ruin), evaluation, epochs=3)
    for key in KEYS:
        assert [math.isnan(value) for value in model.history.history[key]] == [False, True], key


@pytest.mark.slow
def test_progress_shows_unless_the_fit_is_told_otherwise(bars, capsys):
    def printed(**verbosity):
        evaluation = RobustEvaluation(dataset(30, 30), ATTACK)
        adversarial(make_classifier()).fit(TRAIN, shuffle=False, callbacks=[evaluation], **verbosity)
        return capsys.readouterr().out

    assert "1/2 ━" in printed()  # one batch, attacked for A_rob and for one alpha
    assert "━" not in printed(verbose=2)
    assert printed(verbose=0) == ""


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"alpha_test": ()}, "alpha_test"),
        ({"alpha_test": (1.0, -1.0)}, "alpha_test"),
        ({"alpha_test": (math.nan,)}, "alpha_test"),
        ({"every": 0}, "every"),
        ({"examples": 0}, "examples"),
    ],
)
def test_bad_settings_are_named(settings, named):
    with pytest.raises(InvalidInput, match=f"{named}: got .* expected .*"):
        RobustEvaluation(dataset(4, 4), ATTACK, **settings)


def test_bad_validation_data_are_refused_before_the_first_step():
    images, labels = images_and_labels(30)
    for data, message in [((images * 255, labels), "0..255"), ((images[:0], labels[:0]), "data: got nothing")]:
        model = adversarial(make_classifier())
        with pytest.raises(InvalidInput, match=message):
            fit(model, RobustEvaluation(tf.data.Dataset.from_tensor_slices(data).batch(8), ATTACK))
        assert int(model.optimizer.iterations) == 0


def test_the_best_epoch_is_kept_and_nan_passed_over(tmp_path):
    classifier = make_classifier()
    best = SaveBestClassifier(tmp_path / "best.keras")
    best.set_model(adversarial(classifier))
    for epoch, value in enumerate([math.nan, 0.3, 0.5, math.nan, 0.4, 0.5]):
        classifier.layers[-1].bias.assign([epoch, epoch, epoch])
        best.on_epoch_end(epoch, {"val_A_strong": value})
    assert (best.best, best.best_epoch) == (0.5, 2)
    assert [path.name for path in tmp_path.iterdir()] == ["best.keras"]
    kept = keras.models.load_model(tmp_path / "best.keras")
    np.testing.assert_array_equal(kept.layers[-1].bias, [2, 2, 2])


def test_a_save_that_fails_leaves_the_file_of_before(tmp_path, monkeypatch):
    classifier = make_classifier()
    best = SaveBestClassifier(tmp_path / "best.keras")
    best.set_model(classifier)
    best.on_epoch_end(0, {"val_A_strong": 0.3})
    whole = (tmp_path / "best.keras").read_bytes()

    def save_half(path):
        path.write_bytes(whole[: len(whole) // 2])
        raise OSError("disk full")

    monkeypatch.setattr(classifier, "save", save_half)
    with pytest.raises(OSError, match="disk full"):
        best.on_epoch_end(1, {"val_A_strong": 0.5})
    assert (tmp_path / "best.keras").read_bytes() == whole


def test_a_weak_attack_is_warned_of_before_training():
    with pytest.warns(UserWarning, match="^attack: its steps reach 0.1 in all and epsilon is 0.3, so it cannot"):
        RobustEvaluation(dataset(7, 7), PGD(epsilon=0.3, step_size=0.1, steps=1))


def test_a_missing_key_says_what_to_do(tmp_path):
    message = "monitor: got 'val_A_strong', expected one of accuracy, loss, .* Add RobustEvaluation to the callbacks"
    with pytest.raises(InvalidInput, match=message):
        fit(adversarial(make_classifier()), SaveBestClassifier(tmp_path / "best.keras"))
    assert not list(tmp_path.iterdir())


def test_an_evaluation_that_comes_too_late_says_what_to_do(tmp_path):
    late = [SaveBestClassifier(tmp_path / "best.keras"), RobustEvaluation(dataset(30, 30), ATTACK)]
    with pytest.raises(
        InvalidInput, match="no 'val_A_strong' after epoch 1.* Put RobustEvaluation before this callback."
    ):
        fit(adversarial(make_classifier()), *late)


@pytest.mark.slow
def test_the_best_classifier_opens_with_keras_alone(tmp_path):
    keras.config.set_dtype_policy("mixed_bfloat16")
    classifier = make_classifier()
    attack = PGD(epsilon=0.05, step_size=0.05, steps=1, start="gaussian")
    model = AdversarialModel(classifier, TRADES(attack, alpha=1.0))
    model.compile(optimizer="sgd")
    fit(model, RobustEvaluation(dataset(30, 30), attack), SaveBestClassifier(tmp_path / "best.keras"))
    images, _ = images_and_labels(30)
    np.save(tmp_path / "images.npy", images)
    program = """if True:
        import keras, numpy, sys
        model = keras.models.load_model("best.keras")
        assert not [module for module in sys.modules if module.startswith("wmr_tf")]
        assert {layer.dtype_policy.name for layer in model.layers} == {"float32"}
        numpy.save("logits.npy", model(numpy.load("images.npy")))
    """
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=True)

    keras.config.set_dtype_policy("float32")
    same_in_float32 = make_classifier()
    same_in_float32.set_weights(classifier.get_weights())
    np.testing.assert_allclose(np.load(tmp_path / "logits.npy"), same_in_float32(images), atol=1e-6)


def masked_from(epoch, evaluation):
    """Let an evaluation find A_strong far below A_rob from an epoch on, whatever the classifier is."""
    original = evaluation._evaluate

    def evaluate(classifier):
        evaluate.calls += 1
        result = original(classifier)
        broken = np.full(len(result.margins), evaluate.calls <= epoch)
        outcomes = dataclasses.replace(result.suite.outcomes, broken_by=np.where(broken, -1, 0))
        margins = np.ones_like(result.margins)
        return dataclasses.replace(result, margins=margins, suite=dataclasses.replace(result.suite, outcomes=outcomes))

    evaluate.calls = 0
    evaluation._evaluate = evaluate
    return evaluation


@pytest.mark.parametrize(("on_masked", "epochs"), [("warn", 4), ("stop", 3), ("roll_back", 3)])
def test_a_gap_between_attacks_is_told_in_its_epoch_and_acted_on(capsys, on_masked, epochs):
    evaluation = masked_from(2, RobustEvaluation(dataset(30, 30), ATTACK, on_masked=on_masked))
    model, weights = adversarial(make_classifier()), []
    keep = keras.callbacks.LambdaCallback(on_epoch_end=lambda *_: weights.append(model.classifier.get_weights()))
    history = fit(model, keep, evaluation, epochs=4)
    assert len(history["loss"]) == epochs
    # Of weights that are gone nothing is said: a callback that comes later would take those that are back for theirs.
    assert history["val_A_strong"][:2] == [1.0, 1.0]
    assert np.array_equal(history["val_A_strong"][2], math.nan if on_masked == "roll_back" else 0.0, equal_nan=True)
    assert math.isnan(history["val_A_rob"][2]) == (on_masked == "roll_back")
    told = capsys.readouterr().err
    assert told.count("epoch 3 leaves a masked classifier (A_rob 100.00 %, in training ") == 1
    assert told.count("training ended with a masked classifier") == (on_masked != "roll_back")
    kept = weights[1] if on_masked == "roll_back" else weights[-1]
    for now, then in zip(model.classifier.get_weights(), kept, strict=True):
        np.testing.assert_array_equal(now, then)


def test_what_to_do_with_a_masked_classifier_is_checked():
    for wrong in ({"on_masked": "pray"}, {"suite": "strongest"}):
        with pytest.raises(InvalidInput, match=f"^{next(iter(wrong))}: got"):
            RobustEvaluation(dataset(30, 30), ATTACK, **wrong)
