"""A training on data of one's own goes on in them where it was."""

import os
import signal
from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.marking import some
from tests.test_resume import Killed, Killer, Signal, fit
from wmr_tf import AdversarialModel
from wmr_tf.callbacks import ExactResume
from wmr_tf.checks import InvalidInput
from wmr_tf.fit.reading import Reading

pytestmark = [
    pytest.mark.filterwarnings("ignore:attack. its steps reach"),
    pytest.mark.filterwarnings("ignore:Your input ran out of data"),  # Keras's word for an epoch of unknown length
]

EPOCHS = 3
IMAGES = np.random.default_rng(0).random([20, 8, 8, 1], dtype="float32")
LABELS = np.arange(20) % 10


def slices():
    return tf.data.Dataset.from_tensor_slices((IMAGES, LABELS))


def same(image):
    image = tf.numpy_function(lambda given: given, [image], tf.float32)
    return tf.ensure_shape(image, IMAGES.shape[1:])


READ_AGAIN = {
    "seeded": lambda: slices().shuffle(7, seed=3).batch(5),
    "without a seed but the global one": lambda: slices().shuffle(20).batch(5).prefetch(2),
    "cached": lambda: slices().cache().shuffle(7, seed=3).batch(5).prefetch(2),
    "of unknown length": lambda: slices().filter(lambda image, label: label < 9).shuffle(7, seed=3).batch(5),
    "with random numbers": lambda: slices().map(lambda image, label: (image * tf.random.uniform([]), label)).batch(5),
    "with Python": lambda: slices().map(lambda image, label: (same(image), label)).shuffle(7, seed=3).batch(5),
}
KEPT = {
    "seeded": READ_AGAIN["seeded"],
    "of unknown length": READ_AGAIN["of unknown length"],
    "prefetched": lambda: (
        slices().shuffle(7, seed=3).batch(5).map(lambda *given: given, num_parallel_calls=2).prefetch(2)
    ),
    "repeated": lambda: slices().take(10).shuffle(7, seed=3).repeat(2).batch(5),
}


def stopped_and_gone_on_with(folder, moments, data, *, keep_iterator=False, **settings):
    """Return the result of a training that nobody stops, and of one that is killed after each of some batches."""

    def trained(name, *killers):
        resume = ExactResume(folder / name, minutes=1e-9, keep_iterator=keep_iterator)
        given = {"train": data()} if callable(data) else {}
        return fit(*killers, resume, epochs=EPOCHS, **given, **settings)

    alone = trained("alone")
    for moment in moments:
        with pytest.raises(Killed):
            trained("stopped", Killer(*moment))
    return alone, trained("stopped")


@pytest.mark.parametrize("data", some(READ_AGAIN, fast=("seeded",)))
def test_data_are_read_again_up_to_the_batch_in_the_order_of_their_epoch(data, tmp_path):
    alone, gone_on = stopped_and_gone_on_with(tmp_path, [(1, 2)], READ_AGAIN[data])
    assert gone_on == alone


@pytest.mark.parametrize("keep_iterator", [False, True])
@pytest.mark.parametrize("data", ["seeded", "of unknown length"])
def test_a_signal_at_the_end_of_an_epoch_costs_no_iterator(data, keep_iterator, tmp_path):
    """Keras makes one more as soon as data of known length have run out, before it says that the epoch has ended."""

    def trained(name, *callbacks):
        resume = ExactResume(tmp_path / name, keep_iterator=keep_iterator)
        return fit(*callbacks, resume, train=READ_AGAIN[data](), epochs=EPOCHS)

    alone = trained("alone")
    with pytest.raises(SystemExit):
        trained("stopped", Signal(signal.SIGTERM, "on_epoch_end", epoch=0))
    assert trained("stopped") == alone


def test_the_iterators_made_before_a_rollback_count():
    epochs = SimpleNamespace(_get_iterator=slices, steps_per_epoch=None)
    reading = Reading(slices(), keeps_iterator=False, replicas=1, made=3)
    reading.expect(epochs)
    reading.begin({"iterators": 2, "iterator": None})
    reading.read_from(iter(epochs._get_iterator()))
    assert reading.state(1) == {"iterators": 5, "iterator": None}
    assert reading.made == 6


@pytest.mark.slow
@pytest.mark.parametrize("data", KEPT)
def test_a_kept_iterator_goes_on_where_it_was(data, tmp_path):
    # With the last batch but one all images are in some buffer; what a shuffle draws next is then not in the state.
    moments = [(0, 3), (1, 2)]
    alone, gone_on = stopped_and_gone_on_with(tmp_path, moments, KEPT[data], keep_iterator=True)
    assert gone_on == alone


def test_a_kept_iterator_serves_all_epochs_of_so_many_steps(tmp_path):
    def endless():
        return slices().shuffle(7, seed=3).repeat().batch(5)

    steps = {"steps_per_epoch": 3, "keep_iterator": True}
    alone, gone_on = stopped_and_gone_on_with(tmp_path, [(0, 1), (1, 0), (2, 2)], endless, **steps)
    assert gone_on == alone


@pytest.mark.slow
@pytest.mark.parametrize("shuffle", [True, False])
def test_arrays_are_read_again_in_the_order_of_their_epoch(shuffle, tmp_path, monkeypatch):
    fit_one = AdversarialModel.fit
    monkeypatch.setattr(
        AdversarialModel,
        "fit",
        lambda model, data, **settings: fit_one(model, IMAGES, LABELS, batch_size=5, shuffle=shuffle, **settings),
    )
    alone, gone_on = stopped_and_gone_on_with(tmp_path, [(1, 2)], None)
    assert gone_on == alone


def test_a_shuffle_without_a_seed_goes_on_with_the_images_that_are_left(tmp_path, monkeypatch):
    seen, train_step = [], AdversarialModel.train_step

    def seeing(model, data):
        seen.extend(data[1].numpy().tolist())
        return train_step(model, data)

    monkeypatch.setattr(AdversarialModel, "train_step", seeing)

    def in_a_process_of(seed, *killers):
        monkeypatch.setattr(keras.utils, "set_random_seed", lambda _: tf.random.set_seed(seed))
        data = tf.data.Dataset.from_tensor_slices((IMAGES[:10], np.arange(10))).shuffle(10).batch(2)
        fit(*killers, ExactResume(tmp_path, minutes=1e-9, keep_iterator=True), train=data, epochs=1)

    with pytest.raises(Killed):
        in_a_process_of(1, Killer(0, 2))
    del seen[4:]  # a third batch, after the last checkpoint
    in_a_process_of(2)
    assert sorted(seen) == [*range(10)]


@pytest.mark.parametrize(
    ("data", "got"),
    [
        (READ_AGAIN["with Python"], "a tf.data.Dataset that TensorFlow cannot save"),
        (READ_AGAIN["with random numbers"], "a tf.data.Dataset that TensorFlow cannot save"),
        (lambda: ((IMAGES, LABELS) for _ in range(EPOCHS)), "a generator on 1 replicas"),
    ],
)
def test_an_iterator_that_cannot_be_kept_is_refused_before_the_first_step(data, got, tmp_path):
    with pytest.raises(InvalidInput, match=f"^keep_iterator=True: got {got}.*Leave keep_iterator out"):
        fit(Killer(0, 0), ExactResume(tmp_path, keep_iterator=True), train=data())


def test_the_state_of_other_data_is_refused(tmp_path):
    for data in (KEPT["seeded"], KEPT["repeated"]):
        with pytest.raises((Killed, InvalidInput)) as end:
            fit(Killer(0, 2), ExactResume(tmp_path, minutes=1e-9, keep_iterator=True), train=data())
    assert str(end.value).startswith("checkpoints: got data that do not fit")
    assert os.listdir(tmp_path)
