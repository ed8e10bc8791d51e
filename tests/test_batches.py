"""Data in every form that evaluations take, looked at once, and the words with which others are refused."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from wmr_tf import AdversarialModel, attacks, methods
from wmr_tf.callbacks import RobustEvaluation
from wmr_tf.checks import InvalidInput
from wmr_tf.evaluation import evaluate_robustness
from wmr_tf.inputs import batches
from wmr_tf.inputs.batches import batches_of, checked_batches

SHAPE = (4, 4, 1)
ATTACK = attacks.PGD(epsilon=0.1, step_size=0.1, steps=1)
RNG = np.random.default_rng(0)
IMAGES, LABELS = RNG.random((13, *SHAPE), np.float32), RNG.integers(0, 3, 13)


def small_classifier():
    return keras.Sequential([keras.Input(SHAPE), layers.Flatten(), layers.Dense(3)])


class PyBatches(keras.utils.PyDataset):
    def __init__(self, batches):
        super().__init__()
        self.batches = batches

    def __len__(self):
        return len(self.batches)

    def __getitem__(self, number):
        return self.batches[number]


LISTED = [(IMAGES[:6], LABELS[:6]), (IMAGES[6:], LABELS[6:])]
FORMS = {
    "list": LISTED,
    "list of lists": [list(batch) for batch in LISTED],
    "one batch": [(IMAGES, LABELS)],
    "PyDataset": PyBatches(LISTED),
    "data set": tf.data.Dataset.from_tensor_slices((IMAGES, LABELS)).batch(6),
    "with weights": (IMAGES, LABELS, np.ones(13)),
    "with index": ({"image": IMAGES, "index": np.arange(13)}, LABELS),
    "batches with index": [({"image": images, "index": np.arange(len(images))}, labels) for images, labels in LISTED],
    "nested lists": (IMAGES.tolist(), LABELS.tolist()),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_data_becomes_the_same_batches(form):
    expected = checked_batches(small_classifier(), batches_of((IMAGES, LABELS), 4, examples=9))
    assert [len(labels) for _, labels in expected] == [4, 4, 1]
    got = checked_batches(small_classifier(), batches_of(FORMS[form], 4, examples=9))
    for pair, other in zip(got, expected, strict=True):
        np.testing.assert_array_equal(pair[0], other[0])
        np.testing.assert_array_equal(pair[1], other[1])


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ((batch for batch in LISTED), "^data: got a generator, expected a tf.data.Dataset.*list.itertools.islice"),
        (iter(LISTED), "^data: got a list_iterator, expected"),
        (IMAGES, "^data: got a ndarray, expected"),
        ([], "^data: got nothing, expected batches"),
        ([(IMAGES[:6], LABELS[:6]), (IMAGES[6:, :2], LABELS[6:])], r"^data: got images of shapes .*expected one shape"),
        ((IMAGES, LABELS.astype(float)), "^labels: got dtype float64.* Cast class numbers to int32"),
    ],
    ids=["generator", "iterator", "images alone", "empty", "two shapes", "float labels"],
)
@pytest.mark.parametrize("ask", ["evaluate_robustness", "RobustEvaluation"])
def test_other_forms_are_refused_with_what_to_do(ask, data, message):
    with pytest.raises(InvalidInput, match=message):
        if ask == "evaluate_robustness":
            evaluate_robustness(small_classifier(), data, ATTACK, verbose=0)
        else:
            checked_batches(small_classifier(), RobustEvaluation(data, ATTACK).batches)


@pytest.mark.parametrize(
    ("classifier", "attack", "message"),
    [
        (None, ATTACK, "^classifier: got NoneType, expected a keras.Model"),
        (small_classifier, "pgd", "^attack: got 'pgd', expected a wmr_tf.attacks.Attack"),
    ],
)
def test_what_is_no_classifier_and_no_attack_is_refused(classifier, attack, message):
    with pytest.raises(InvalidInput, match=message):
        evaluate_robustness(classifier and classifier(), (IMAGES, LABELS), attack, verbose=0)


def test_float8_which_cannot_be_attacked_is_refused():
    classifier = small_classifier()
    classifier.layers[-1].quantize("float8")
    with pytest.raises(InvalidInput, match="classifier .*got layers in float8 .dense.*Quantise to int8"):
        evaluate_robustness(classifier, (IMAGES, LABELS), ATTACK, verbose=0)


def test_each_validation_image_is_looked_at_once_however_many_epochs_there_are(monkeypatch):
    looked_at = []
    original = batches.check_images_and_labels
    monkeypatch.setattr(
        batches, "check_images_and_labels", lambda x, *rest: looked_at.append(len(x)) or original(x, *rest)
    )
    monkeypatch.setattr("wmr_tf.callbacks.AT_MOST", 5)
    evaluation = RobustEvaluation((IMAGES, LABELS), ATTACK, examples=None)
    assert not looked_at
    model = AdversarialModel(small_classifier(), methods.Natural())
    model.compile("sgd")
    model.fit(IMAGES[:4], LABELS[:4], epochs=3, callbacks=[evaluation], verbose=0)
    # Each time what the classifier is tried on first, and then all there is: 4 to train on, then 5, 5 and 3.
    assert looked_at == [4, 4, 5, 5, 5, 3]
