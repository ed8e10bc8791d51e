import math

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from wmr_tf.checks import InvalidInput
from wmr_tf.weights import class_indices, importance_weights, probability_margin


def margin_by_hand(logits, label):
    """The margin of one image from its definition, in float64 and without softmax: `1 / sum_j exp(z_j - z_k)` each."""
    logits = [float(z) for z in logits]

    def probability(k):
        # Beyond e^700 a float64 overflows, where the probability is 0 anyway.
        return 1.0 / sum(math.exp(min(z - logits[k], 700.0)) for z in logits)

    return probability(label) - max(probability(k) for k in range(len(logits)) if k != label)


@st.composite
def batches(draw):
    """Logits and labels of 1 to 20 images in 2 to 20 classes, at scales of the logits from 0.01 to 100."""
    count, classes = draw(st.integers(1, 20)), draw(st.integers(2, 20))
    scale = draw(st.sampled_from(np.geomspace(0.01, 100, 10)))
    logits = draw(arrays(np.float64, (count, classes), elements=st.floats(-3, 3)))
    return (scale * logits).astype(np.float32), draw(arrays(np.int64, count, elements=st.integers(0, classes - 1)))


def by_hand(logits, labels):
    return np.array([margin_by_hand(*pair) for pair in zip(logits, labels, strict=True)])


@given(batches())
def test_margin_is_its_definition(batch):
    logits, labels = batch
    margin = probability_margin(logits, labels)
    assert margin.dtype == tf.float32
    np.testing.assert_allclose(margin, by_hand(logits, labels), rtol=0, atol=2e-6)


@given(batches())
def test_margin_is_positive_exactly_where_the_label_is_the_top_class(batch):
    logits, labels = batch
    margin = probability_margin(logits, labels).numpy()
    clear = np.abs(margin) > 1e-6
    assert ((margin > 0) == (logits.argmax(axis=1) == labels))[clear].all()
    assert (np.abs(margin) <= 1).all()


@pytest.mark.parametrize("dtype", [tf.bfloat16, tf.float16])
@given(batch=batches())
def test_margin_of_half_precision_logits_is_computed_in_float32(dtype, batch):
    logits, labels = batch[0].astype(dtype.as_numpy_dtype), batch[1]
    margin = probability_margin(tf.constant(logits), labels)
    assert margin.dtype == tf.float32
    np.testing.assert_allclose(margin, by_hand(logits, labels), rtol=0, atol=2e-6)


@pytest.mark.parametrize("classes", [2, 3, 20])
def test_a_tie_at_the_top_has_margin_zero_and_so_is_wrong(classes):
    rng = np.random.default_rng(classes)
    logits = rng.standard_normal([200, classes]).astype(np.float32)
    label, rival = rng.permuted(np.tile(np.arange(classes), [200, 1]), axis=1)[:, :2].T
    top = logits.max(axis=1) + rng.random(200, np.float32)
    logits[np.arange(200), label] = logits[np.arange(200), rival] = top
    assert (probability_margin(logits, label).numpy() == 0).all()


def test_equal_logits_have_margin_zero():
    for value in (0.0, -3.0, 1e4):
        assert probability_margin(np.full([1, 5], value, np.float32), [2]).numpy() == 0


def test_margin_of_extreme_logits_is_finite():
    logits = tf.constant([[1e30, -1e30, 0.0]] * 2)
    assert probability_margin(logits, [0, 1]).numpy().tolist() == [1.0, -1.0]


@pytest.mark.parametrize("dtype", [np.int64, np.uint8, np.float32])
@given(batch=batches())
def test_labels_may_be_integers_a_column_or_one_hot(dtype, batch):
    logits, labels = batch
    classes = logits.shape[1]
    expected = probability_margin(logits, labels).numpy()
    for form in (labels, labels[:, np.newaxis], np.eye(classes)[labels]):
        assert class_indices(form.astype(dtype)).dtype == tf.int32
        assert class_indices(form.astype(dtype), classes).numpy().tolist() == labels.tolist()
        assert np.array_equal(probability_margin(logits, form.astype(dtype)), expected)


def test_margin_in_a_graph_whose_batch_size_is_unknown():
    traced = tf.function(probability_margin).get_concrete_function(
        tf.TensorSpec([None, 4]), tf.TensorSpec([None], tf.int64)
    )
    logits = tf.random.stateless_normal([9, 4], [0, 1])
    labels = tf.range(9, dtype=tf.int64) % 4
    np.testing.assert_allclose(traced(logits, labels), by_hand(logits.numpy(), labels.numpy()), rtol=0, atol=2e-6)


@given(arrays(np.float32, st.integers(1, 100), elements=st.floats(-1, 1, width=32)), st.floats(0, 5, width=32))
def test_weights_are_the_exponential_of_the_margin(margins, alpha):
    expected = [math.exp(-alpha * float(margin)) for margin in margins]
    for same in (alpha, tf.constant(alpha)):
        np.testing.assert_allclose(importance_weights(tf.constant(margins), same), expected, rtol=2e-6)


def test_alpha_zero_weighs_all_alike():
    assert (importance_weights(tf.linspace(-1.0, 1.0, 101), 0.0).numpy() == 1).all()


@pytest.mark.parametrize("shape", [(3, 1), (3,), (3, 2, 2)])
def test_logits_of_another_shape_are_refused(shape):
    with pytest.raises(InvalidInput) as error:
        probability_margin(tf.zeros(shape), [0, 0, 0])
    assert str(error.value) == (
        f"logits: got shape {shape}, expected shape [batch, classes] with at least two classes. "
        "Let the classifier return one logit a class; wmr_tf.without_softmax(model) makes two of a sigmoid."
    )


@pytest.mark.parametrize("shape", [(3, 4), (3, 2), (), (3, 5, 1)])
def test_labels_of_another_shape_are_refused(shape):
    with pytest.raises(InvalidInput) as error:
        probability_margin(tf.zeros([3, 5]), tf.zeros(shape))
    assert str(error.value) == (
        f"labels: got shape {shape}, expected shape [batch], or one-hot [batch, 5]. Give one class an image."
    )
