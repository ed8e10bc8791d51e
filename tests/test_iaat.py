"""IAAT: its radii against those computed by hand on a linear classifier, and PGD training as its special case."""

import contextlib
import functools
import types

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.marking import some
from tests.test_methods import convnet
from wmr_tf import AdversarialModel, InvalidInput, attacks, data, methods

RNG = np.random.default_rng(0)
IMAGES, LABELS = RNG.random((16, 5, 5, 1), dtype="float32"), RNG.integers(0, 3, 16)
ATTACK = attacks.PGD(epsilon=0.2, step_size=0.07, steps=3)


def fitted(classifier, method, x, y, *, rate=0.5, eager=True, **kwargs):
    """Train without a graph, which takes long to make and gives the same: tests/test_methods.py."""
    model = AdversarialModel(classifier, method, seed=3)
    model.compile(optimizer=keras.optimizers.SGD(rate), run_eagerly=eager)
    return model, model.fit(x, y, verbose=0, shuffle=False, **{"batch_size": 8, **kwargs}).history


def indexed(images):
    """The images with their index, back to front, so that place and index differ."""
    return {"image": images, "index": np.arange(len(images))[::-1].astype("int32")}


@functools.cache
def trained_with_pgd(alpha):
    return fitted(convnet(), methods.PGD(ATTACK, alpha=alpha), IMAGES, LABELS, epochs=3)


@pytest.mark.parametrize("alpha", some([0.0, 1.5], fast=[1.5]))
@pytest.mark.parametrize("constant", [{"radius_growth": 0.0}, {"warmup_epochs": 3}, {"radius_smoothing": 0.0}], ids=str)
def test_with_a_constant_radius_it_is_pgd_training_bit_for_bit(constant, alpha):
    settings = {"examples": 16, "radius_growth": 0.1, "warmup_epochs": 0, "alpha": alpha} | constant
    iaat, history = fitted(convnet(), methods.IAAT(ATTACK, **settings), indexed(IMAGES), LABELS, epochs=3)
    pgd, expected = trained_with_pgd(alpha)
    assert history == expected
    for got, wanted in zip(iaat.classifier.get_weights(), pgd.classifier.get_weights(), strict=True):
        np.testing.assert_array_equal(got, wanted)
    np.testing.assert_array_equal(iaat.method.radii.numpy(), np.full(16, 0.2, "float32"))


# A linear classifier of two classes: one step to the edge of the ball is the worst attack, and its margin is known.

KERNEL = np.array([[1.0, -1.0], [-2.0, 1.0], [0.5, 1.5]])
POINTS = RNG.uniform(0.3, 0.7, [40, 3]).astype("float32")
CLASSES = (POINTS @ KERNEL).argmax(axis=1)
CLASSES[::7] = 1 - CLASSES[::7]  # which are misclassified clean, and shrink
TO_THE_EDGE = attacks.PGD(epsilon=0.05, step_size=1.0, steps=1, start="none")


def two_classes():
    classifier = keras.Sequential([keras.Input([3]), keras.layers.Dense(2, use_bias=False)])
    classifier.set_weights([KERNEL])
    return classifier


def withstands(radii):
    towards_y = np.where(CLASSES[:, np.newaxis] == 0, KERNEL[:, 0] - KERNEL[:, 1], KERNEL[:, 1] - KERNEL[:, 0])
    attacked = np.clip(POINTS - radii[:, np.newaxis] * np.sign(towards_y), 0, 1)
    return np.sum(attacked * towards_y, axis=1) > 0


def after(epochs, growth, smoothing, largest):
    radii = np.full(40, 0.05)
    for _ in range(epochs):
        aim = np.where(withstands(radii), radii, radii - growth)
        aim = np.where(withstands(radii + growth), radii + growth, aim)
        radii = np.clip((1 - smoothing) * radii + smoothing * aim, 0, largest)
    return radii


def iaat(**settings):
    defaults = {"examples": 40, "radius_growth": 0.02, "radius_smoothing": 0.3, "warmup_epochs": 0, "epsilon_max": 0.08}
    return methods.IAAT(TO_THE_EDGE, **defaults | settings)


@pytest.mark.parametrize(("epochs", "smoothing"), [(1, 0.3), (6, 0.3), (4, 1.0)])
def test_radii_grow_and_shrink_as_computed_by_hand(epochs, smoothing):
    method = iaat(radius_smoothing=smoothing)
    order = np.random.default_rng(1).permutation(40)
    x = {"image": POINTS[order], "index": order}
    fitted(two_classes(), method, x, CLASSES[order], rate=0.0, epochs=epochs)
    expected = after(epochs, 0.02, smoothing, largest=0.08)
    np.testing.assert_allclose(method.radii.numpy(), expected, atol=1e-6)
    assert expected.min() < 0.05 < expected.max()
    if epochs > 1:
        assert expected.min() == 0 or smoothing < 1
        assert expected.max() == 0.08


def test_radii_stay_during_the_warm_up_and_move_after_it():
    method = iaat(warmup_epochs=1.5)
    model, _ = fitted(two_classes(), method, {"image": POINTS, "index": np.arange(40)}, CLASSES, rate=0.0)
    np.testing.assert_array_equal(method.radii.numpy(), np.full(40, 0.05, "float32"))
    assert method.seen.numpy() == 40
    model.fit({"image": POINTS, "index": np.arange(40)}, CLASSES, batch_size=10, shuffle=False, verbose=0)
    moved = method.radii.numpy() != np.float32(0.05)
    assert not moved[:20].any() and moved[20:].any()


def test_images_are_attacked_within_their_own_radius():
    method = iaat()
    method.build(POINTS.shape)
    radii = np.linspace(0, 0.08, 40).astype("float32")
    method.radii.assign(radii)
    method.radius_growth = 0.0
    _, history = fitted(
        two_classes(), method, {"image": POINTS, "index": np.arange(40)}, CLASSES, rate=0.0, batch_size=40
    )
    towards_y = np.where(CLASSES[:, np.newaxis] == 0, KERNEL[:, 0] - KERNEL[:, 1], KERNEL[:, 1] - KERNEL[:, 0])
    margin = np.sum(towards_y * (POINTS - radii[:, np.newaxis] * np.sign(towards_y)), axis=1)
    assert history["loss"] == pytest.approx([np.mean(np.log1p(np.exp(-margin)))], rel=1e-5)


@pytest.mark.parametrize("save", ["model", "weights"])
def test_radii_are_saved(save, tmp_path):
    x = {"image": POINTS, "index": np.arange(40)}
    model, _ = fitted(two_classes(), iaat(), x, CLASSES, rate=0.1, epochs=2)
    if save == "model":
        model.save(tmp_path / "model.keras")
        other = keras.models.load_model(tmp_path / "model.keras")
    else:
        model.save_weights(tmp_path / "model.weights.h5")
        other = keras.models.clone_model(model)
        other.load_weights(tmp_path / "model.weights.h5")
        other.compile(optimizer=keras.optimizers.SGD(0.1))
    np.testing.assert_array_equal(other.method.radii.numpy(), model.method.radii.numpy())
    assert other.method.seen.numpy() == 80
    assert np.std(other.method.radii.numpy()) > 0
    for either in (model, other):
        either.fit(x, CLASSES, batch_size=8, shuffle=False, verbose=0)
    np.testing.assert_array_equal(other.method.radii.numpy(), model.method.radii.numpy())


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision_keeps_the_radii_in_float32(policy):
    keras.config.set_dtype_policy(policy)
    method, classifier = methods.IAAT(ATTACK, examples=16, warmup_epochs=0, alpha=1.0), convnet()
    before = classifier.get_weights()
    model, history = fitted(classifier, method, indexed(IMAGES), LABELS, epochs=2, eager=False)
    assert method.radii.dtype == "float32"
    assert np.isfinite(history["loss"]).all() and np.std(method.radii.numpy()) > 0
    assert model.optimizer.iterations.numpy() == 4
    for weight, start in zip(classifier.get_weights(), before, strict=True):
        assert np.isfinite(weight).all() and np.abs(weight - start).max() > 1e-3


def test_it_trains_on_what_load_gives():
    splits = data.load("digits", batch_size=32, train_examples=70, with_index=True)
    method = methods.IAAT(ATTACK, examples=splits.train_examples, warmup_epochs=0)
    classifier = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(10)])
    model = AdversarialModel(classifier, method)
    model.compile(optimizer="sgd")
    model.fit(splits.train, epochs=2, verbose=0, validation_data=splits.validation)
    assert method.radii.shape == (70,)
    assert method.seen.numpy() == 128


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (IMAGES, "^data: got images without an index, expected .*with_index=True"),
        ({"image": IMAGES, "index": np.arange(16) + 1}, r"^index: got values from 1 to 16, expected .*\[0, 16\)"),
        ({"image": IMAGES, "index": np.arange(16) - 1}, "^index: got values from -1 to 14"),
    ],
)
def test_an_index_that_is_missing_or_out_of_range_is_refused(x, message):
    with pytest.raises(InvalidInput, match=message):
        fitted(convnet(), methods.IAAT(ATTACK, examples=16), x, LABELS)


@pytest.mark.parametrize("place", [-1, 16])
def test_an_index_out_of_range_in_a_later_batch_ends_training(place):
    index = np.arange(16)
    index[12] = place
    batches = tf.data.Dataset.from_tensor_slices(({"image": IMAGES, "index": index}, LABELS)).batch(8)
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"place in the training set must be in \[0, 16\)"):
        fitted(convnet(), methods.IAAT(ATTACK, examples=16), batches, None, batch_size=None, eager=False)


def test_no_radii_are_made_before_training():
    method = methods.IAAT(ATTACK, examples=10**12)
    assert not method.variables


def test_a_batch_without_an_index_is_refused_outside_of_fit_too():
    model = AdversarialModel(convnet(), methods.IAAT(ATTACK, examples=16))
    model.compile(optimizer="sgd")
    with pytest.raises(InvalidInput, match="without an index"):
        model.train_on_batch(IMAGES, LABELS)


def test_several_replicas_are_refused(monkeypatch):
    two = types.SimpleNamespace(num_replicas_in_sync=2, scope=contextlib.nullcontext, cluster_resolver=None)
    monkeypatch.setattr(AdversarialModel, "distribute_strategy", two)
    with pytest.raises(InvalidInput, match="^method IAAT: got 2 replicas, expected one"):
        fitted(convnet(), methods.IAAT(ATTACK, examples=16), indexed(IMAGES), LABELS)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("examples", 0),
        ("radius_growth", -0.1),
        ("radius_smoothing", 1.1),
        ("radius_smoothing", -0.1),
        ("warmup_epochs", -1),
        ("epsilon_max", 0.1),
        ("alpha", -1.0),
    ],
)
def test_what_is_out_of_range_is_refused_by_name(name, value):
    with pytest.raises(InvalidInput, match=f"^{name}: got"):
        methods.IAAT(ATTACK, **{"examples": 16, name: value})
