"""What TensorBoard is given: the event files of real fits are read back."""

import io

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar.layout_pb2 import Layout
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from tests.test_callbacks import ATTACK, adversarial, dataset, fit, make_classifier
from trainers.runs.naming import SHOWN_SETTINGS, shown_settings
from trainers.settings.config import Experiment
from wmr_tf.callbacks import RobustEvaluation, WriteEvents
from wmr_tf.checks import InvalidInput
from wmr_tf.events import HARDEST
from wmr_tf.report.images import sheet
from wmr_tf.report.tables import ACCURACIES

SETTINGS = {"alpha_train": 2.0, "method": "pgd", "seed": 0}


def evaluation_of(**settings) -> RobustEvaluation:
    return RobustEvaluation(dataset(30, 30), ATTACK, alpha_test=(1.5, 1.0), alpha_tr=[1.0], **settings)


def events(folder) -> EventAccumulator:
    return EventAccumulator(str(folder), size_guidance={"images": 0, "tensors": 0}).Reload()


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A fit of four epochs, evaluated after the first, the third and the last: its folder, history and evaluations."""
    folder = tmp_path_factory.mktemp("runs") / "first"
    evaluation = evaluation_of(every=3)
    found = []
    keep = keras.callbacks.LambdaCallback(on_epoch_end=lambda *_: found.append(evaluation.result))
    write = WriteEvents(folder, evaluation, settings=SETTINGS, write_graph=False)
    history = fit(adversarial(make_classifier()), evaluation, keep, write, epochs=4)
    assert evaluation.result is found[3] and found[1] is None
    return folder, history, found


def test_the_curves_are_those_of_the_history_without_what_was_skipped(written):
    folder, history, _ = written
    curves = events(folder / "validation")
    assert set(curves.Tags()["tensors"]) == {
        *(f"epoch_{name}" for name in ACCURACIES),
        *("epoch_A_sa_1p5", "epoch_A_sa_1", "epoch_A_tr_1p5", "epoch_A_tr_1"),
    }
    for tag in curves.Tags()["tensors"]:
        points = [(event.step, float(tf.make_ndarray(event.tensor_proto))) for event in curves.Tensors(tag)]
        values = history[f"val_{tag.removeprefix('epoch_')}"]
        assert points == [(step, pytest.approx(values[step])) for step in (0, 2, 3)]
    train = events(folder / "train")
    assert {"epoch_loss", "epoch_accuracy", "epoch_learning_rate"} <= set(train.Tags()["tensors"])
    assert [event.step for event in train.Tensors("epoch_loss")] == [0, 1, 2, 3]


def test_the_histograms_are_those_of_the_margins(written):
    folder, _, found = written
    for name, attribute in {"margin/clean": "clean_margins", "margin/attacked": "margins"}.items():
        shown = events(folder).Tensors(name)
        assert [event.step for event in shown] == [0, 2, 3]
        for event in shown:
            buckets = tf.make_ndarray(event.tensor_proto)  # left, right and count of each
            margins = getattr(found[event.step], attribute)
            assert buckets[:, 2].sum() == len(margins) == 30
            assert (buckets[0, 0], buckets[-1, 1]) == pytest.approx((margins.min(), margins.max()))


def test_the_hardest_images_are_a_picture_of_fixed_size(written):
    folder, _, found = written
    shown = events(folder).Tensors("hardest")
    assert [event.step for event in shown] == [0, 2, 3]
    for event in shown:
        width, height, encoded = tf.make_ndarray(event.tensor_proto)
        picture = np.asarray(Image.open(io.BytesIO(encoded)))
        assert picture.shape == (int(height), int(width), 3) == sheet([], HARDEST).shape
        # The first tile is the image of smallest margin among those that are correct as they are.
        outcomes, (row, number) = found[event.step].suite.outcomes, np.ogrid[:4, :4]
        own = outcomes.logits[np.arange(30), outcomes.labels]
        rivals = np.where(np.eye(3, dtype=bool)[outcomes.labels], -np.inf, outcomes.logits).max(axis=1)
        hardest = np.where(outcomes.robust_after(-1), own - rivals, np.inf).argmin()
        tile = picture[28 + 16 + 32 * row, 8 + 16 + 32 * number, 0]  # of 128 x 128, in the middle of each pixel
        np.testing.assert_array_equal(tile, np.rint(255 * outcomes.clean[hardest, ..., 0]))


def test_the_settings_stand_beside_the_accuracies(written):
    folder, _, _ = written
    content = {
        tag: HParamsPluginData.FromString(data) for tag, data in events(folder).PluginTagToContent("hparams").items()
    }
    start = content["_hparams_/session_start_info"].session_start_info
    assert {name: value.WhichOneof("kind") for name, value in start.hparams.items()} == {
        "alpha_train": "number_value",
        "method": "string_value",
        "seed": "number_value",
    }
    assert start.group_name == str(folder)  # a row of its own, whatever runs share its settings
    experiment = content["_hparams_/experiment"].experiment
    assert [info.name for info in experiment.hparam_infos] == list(SETTINGS)
    assert [info.display_name for info in experiment.metric_infos] == list(ACCURACIES)
    there = set(events(folder / "validation").Tags()["tensors"])
    for info in experiment.metric_infos:
        assert info.name.group == "validation" and info.name.tag in there


def test_curves_by_alpha_share_a_chart(written):
    folder, _, _ = written
    (event,) = events(folder).Tensors("custom_scalars__config__")
    layout = Layout.FromString(tf.make_ndarray(event.tensor_proto).item())
    (category,) = layout.category
    assert [chart.title for chart in category.chart] == [
        "A_nat, A_rob and A_strong",
        "A_sa by alpha_test",
        "A_tr by alpha_test",
    ]


def test_without_an_evaluation_it_is_keras_own(tmp_path):
    fit(adversarial(make_classifier()), WriteEvents(tmp_path / "logs", write_graph=False))
    assert events(tmp_path / "logs").Tags()["tensors"] == []
    assert "epoch_loss" in events(tmp_path / "logs/train").Tags()["tensors"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"evaluation": "mine"}, "evaluation: got 'mine', expected a RobustEvaluation"),
        ({"settings": {"alpha": [1, 2]}}, r"settings: got alpha=\[1, 2\], expected numbers and texts"),
    ],
)
def test_mistakes_are_told_at_once(tmp_path, given, message):
    with pytest.raises(InvalidInput, match=message):
        WriteEvents(tmp_path / "logs", **given)
    assert not (tmp_path / "logs").exists()


def test_a_trainer_shows_the_same_settings_of_every_run():
    for dataset_name, method in (("digits", "natural"), ("mnist", "trades")):
        shown = shown_settings(Experiment.of(dataset_name, method))
        assert tuple(shown) == SHOWN_SETTINGS
        WriteEvents("logs", settings=shown)
    assert (shown["dataset"], shown["method"], shown["epsilon"], shown["beta"]) == ("mnist", "trades", 0.3, 6.0)
