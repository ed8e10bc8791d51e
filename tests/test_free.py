"""Adversarial training for free against its steps by hand, in NumPy, on a linear classifier."""

import contextlib
import types

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.test_methods import cross_entropy_by_hand, linear
from wmr_tf import AdversarialModel, InvalidInput, attacks, methods

RATE, EPSILON = 0.5, 0.2
RNG = np.random.default_rng(0)
X, Y = RNG.random((14, 4), dtype="float32"), RNG.integers(0, 3, 14)


def trained(method, classifier, *, epochs=1, batch_size=5, **kwargs):
    """Train with plain SGD, in order: batches of 5, 5 and 4."""
    model = AdversarialModel(classifier, method, **kwargs)
    model.compile(optimizer=keras.optimizers.SGD(RATE))
    model.fit(X, Y, batch_size=batch_size, epochs=epochs, shuffle=False, verbose=0)
    return model


def by_hand(weights, replays, alpha):
    """Return weights and perturbation after one epoch."""
    kernel, bias = (weight.astype("float64") for weight in weights)
    perturbation = np.zeros([5, 4])
    for start in (0, 5, 10):
        x, y = X[start : start + 5].astype("float64"), Y[start : start + 5]
        n = len(x)
        attacked = np.clip(x + perturbation[:n], 0, 1)
        for _ in range(replays):
            _, slope = cross_entropy_by_hand(attacked @ kernel + bias, y, alpha)
            ascent = slope @ kernel.T
            kernel, bias = kernel - RATE * attacked.T @ slope / n, bias - RATE * slope.mean(axis=0)
            ascended = attacked + EPSILON * np.sign(ascent)
            attacked = np.clip(np.clip(ascended, x - EPSILON, x + EPSILON), 0, 1)
        perturbation[:n] = attacked - x
    return kernel, bias, perturbation


@pytest.mark.parametrize(("replays", "alpha"), [(1, 0.0), (1, 2.0), (3, 0.0), (3, 2.0)])
def test_an_epoch_is_that_computed_by_hand(replays, alpha):
    classifier = linear()
    before = classifier.get_weights()
    method = methods.Free(attacks.FGSM(EPSILON), replays=replays, alpha=alpha)
    model = trained(method, classifier)
    for got, expected in zip(
        [*classifier.get_weights(), method.perturbation.numpy()], by_hand(before, replays, alpha), strict=True
    ):
        np.testing.assert_allclose(got, expected, atol=2e-5)
    assert model.optimizer.iterations.numpy() == 3 * replays
    assert np.abs(method.perturbation.numpy()).max() > EPSILON / 2


@pytest.mark.parametrize("norm", attacks.NORMS)
def test_the_perturbation_stays_in_the_ball_of_every_norm(norm):
    attack = attacks.PGD(epsilon=EPSILON, step_size=EPSILON, steps=1, start="none", norm=norm)
    method = methods.Free(attack, replays=4)
    trained(method, linear(), epochs=3)
    order = {"linf": np.inf, "l2": 2, "l1": 1}[norm]
    sizes = np.linalg.norm(method.perturbation.numpy(), ord=order, axis=1)
    assert sizes.max() <= EPSILON + 1e-5
    assert sizes.max() > EPSILON / 2


@pytest.mark.parametrize("save", ["model", "weights"])
def test_the_perturbation_is_saved(save, tmp_path):
    model = trained(methods.Free(attacks.FGSM(EPSILON), replays=2), linear())
    kept = model.method.perturbation.numpy()
    if save == "model":
        model.save(tmp_path / "model.keras")
        other = keras.models.load_model(tmp_path / "model.keras")
    else:
        model.save_weights(tmp_path / "model.weights.h5")
        other = keras.models.clone_model(model)
        other.load_weights(tmp_path / "model.weights.h5")
        other.compile(optimizer=keras.optimizers.SGD(RATE))
        other.optimizer.iterations.assign(model.optimizer.iterations)
    np.testing.assert_array_equal(other.method.perturbation.numpy(), kept)
    for either in (model, other):
        either.fit(X, Y, batch_size=5, shuffle=False, verbose=0)
    for got, expected in zip(other.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision_keeps_the_perturbation_finite(policy):
    """In float16 the first gradients overflow by design, until the scale of the loss is found; then steps are made."""
    keras.config.set_dtype_policy(policy)
    method = methods.Free(attacks.FGSM(EPSILON), replays=2, alpha=1.0)
    model = AdversarialModel(linear(), method)
    before = model.get_weights()
    optimizer = keras.optimizers.SGD(RATE)
    if policy == "mixed_float16":
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer, initial_scale=2.0**24)
    model.compile(optimizer=optimizer)
    model.fit(X, Y, batch_size=5, epochs=6, shuffle=False, verbose=0)
    assert method.perturbation.dtype == "float32"
    assert np.isfinite(method.perturbation.numpy()).all()
    assert np.abs(method.perturbation.numpy()).max() > EPSILON / 2
    steps = optimizer.iterations.numpy()
    assert 0 < steps < 36 if policy == "mixed_float16" else steps == 36
    for weight, start in zip(model.classifier.get_weights(), before[: len(model.classifier.weights)], strict=True):
        assert np.isfinite(weight).all() and np.abs(weight - start).max() > 1e-2


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.inner = linear()

    def call(self, images):
        return self.inner(images)


def test_a_subclassed_classifier_is_trained_as_its_layers_are():
    classifier, expected = Subclassed(), linear()
    for model in (classifier, expected):
        trained(methods.Free(attacks.FGSM(EPSILON), replays=2, alpha=1.0), model)
    for got, wanted in zip(classifier.get_weights(), expected.get_weights(), strict=True):
        np.testing.assert_allclose(got, wanted, atol=1e-6)


def test_batches_larger_than_the_first_one_are_refused_before_training(tmp_path):
    model = trained(methods.Free(attacks.FGSM(EPSILON), replays=2), linear())
    model.save(tmp_path / "model.keras")
    for either in (model, keras.models.load_model(tmp_path / "model.keras")):
        steps = either.optimizer.iterations.numpy()
        with pytest.raises(InvalidInput, match="^batch: got 6 images, expected at most 5 images, as in the first"):
            either.fit(X, Y, batch_size=6, verbose=0)
        with pytest.raises(InvalidInput, match="^batch: got 7 images"):
            either.fit(tf.data.Dataset.from_tensor_slices((X, Y)).batch(7), verbose=0)
        assert either.optimizer.iterations.numpy() == steps
        either.fit(X, Y, batch_size=4, verbose=0)


def test_the_perturbation_is_made_for_one_batch_even_where_the_data_are_arrays():
    method = methods.Free(attacks.FGSM(EPSILON))
    trained(method, linear(), batch_size=4)
    assert method.perturbation.shape == (4, 4)
    method = methods.Free(attacks.FGSM(EPSILON))
    model = AdversarialModel(linear(), method)
    model.compile(optimizer="sgd")
    model.fit(tf.data.Dataset.from_tensor_slices((X, Y)).batch(7), verbose=0)
    assert method.perturbation.shape == (7, 4)


@pytest.mark.parametrize(
    "attack",
    [
        attacks.PGD(epsilon=0.1, step_size=0.1, steps=2, start="none"),
        attacks.PGD(epsilon=0.1, step_size=0.1, steps=1, start="uniform"),
        attacks.PGD(epsilon=0.1, step_size=0.1, steps=1, start="none", restarts=2),
        "fgsm",
    ],
)
def test_an_attack_that_is_not_one_plain_step_is_refused(attack):
    with pytest.raises(InvalidInput, match="^attack: got .*expected one step from where.*FGSM"):
        methods.Free(attack)


@pytest.mark.parametrize("replays", [0, 1.5, None])
def test_replays_that_are_no_number_of_replays_are_refused(replays):
    with pytest.raises(InvalidInput, match="^replays: got"):
        methods.Free(attacks.FGSM(0.1), replays=replays)


def test_several_replicas_are_refused(monkeypatch):
    two = types.SimpleNamespace(num_replicas_in_sync=2, scope=contextlib.nullcontext, cluster_resolver=None)
    monkeypatch.setattr(AdversarialModel, "distribute_strategy", two)
    with pytest.raises(InvalidInput, match="^method Free: got 2 replicas, expected one"):
        trained(methods.Free(attacks.FGSM(0.1)), linear())


def test_a_single_batch_without_fit_needs_a_shape_first():
    model = AdversarialModel(linear(), methods.Free(attacks.FGSM(0.1)))
    model.compile(optimizer="sgd")
    with pytest.raises(InvalidInput, match="call method.build"):
        model.train_on_batch(X, Y)
    model.method.build(X.shape)
    assert np.isfinite(model.train_on_batch(X, Y)).all()
