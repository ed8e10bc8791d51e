"""Running a classifier with some layers computed another way, and the two uses of it: folded and fused BatchNorm."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from wmr_tf import AdversarialModel, attacks, methods
from wmr_tf.engine import graph
from wmr_tf.engine.frozen import freeze
from wmr_tf.engine.training import training_logits
from wmr_tf.evaluation import evaluate_robustness
from wmr_tf.losses import cross_entropy
from wmr_tf.weights import probability_margin

layers = keras.layers


def _randomise(model: keras.Model) -> keras.Model:
    """Give BatchNorm statistics and parameters that a folding error cannot hide behind."""
    rng = np.random.default_rng(0)
    for layer in model._flatten_layers():
        if isinstance(layer, layers.BatchNormalization):
            for weight in layer.weights:
                weight.assign(rng.uniform(0.5, 1.5, weight.shape))
    return model


def _conv_bn_net(activation="softplus", **norm) -> keras.Model:
    """Every case of folding: conv + BN, conv with an activation before BN, dense + BN, BN alone, a residual sum."""
    image = keras.Input((8, 8, 3))
    x = layers.ZeroPadding2D(1)(image)
    x = layers.Conv2D(8, 3, strides=2, use_bias=False)(x)
    x = layers.BatchNormalization(**norm)(x)
    shortcut = layers.Activation(activation)(x)
    x = layers.Conv2D(8, 3, padding="same", activation=activation)(shortcut)
    x = layers.BatchNormalization(**norm)(x)
    x = layers.Add()([x, shortcut])
    x = layers.BatchNormalization(**norm)(x)
    x = layers.Conv2D(8, 3, padding="same", groups=2, dilation_rate=2)(x)
    x = layers.BatchNormalization(scale=False, center=False, **norm)(x)
    x = layers.Flatten()(x)
    x = layers.Dropout(0.5)(x)
    x = layers.Dense(6)(x)
    x = layers.BatchNormalization(**norm)(x)
    return _randomise(keras.Model(image, layers.Dense(5, dtype="float32")(x)))


def _shared_and_read_twice() -> keras.Model:
    """What must not be folded: a convolution that is called twice, and one whose output is read twice."""
    image = keras.Input((8, 8, 3))
    shared, norm = layers.Conv2D(3, 3, padding="same"), layers.BatchNormalization()
    x = norm(shared(layers.Activation("softplus")(shared(image))))
    read_twice = layers.Conv2D(4, 3, padding="same")(x)
    x = layers.Concatenate()([layers.BatchNormalization()(read_twice), read_twice])
    return _randomise(keras.Model(image, layers.Dense(5)(layers.GlobalAveragePooling2D()(x))))


def _nested() -> keras.Model:
    return _randomise(keras.Sequential([keras.Input((8, 8, 3)), layers.Rescaling(2.0, offset=-1.0), _conv_bn_net()]))


class _Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.inner = _conv_bn_net()

    def call(self, x, training=None):
        return 2.0 * self.inner(x, training=training)


NETWORKS = {
    "functional": _conv_bn_net,
    "shared": _shared_and_read_twice,
    "nested": _nested,
    "subclassed": _Subclassed,
}


def _images(batch: int = 4) -> tf.Tensor:
    return tf.constant(np.random.default_rng(1).uniform(size=(batch, 8, 8, 3)), tf.float32)


def _logits_and_gradient(network, images, *wrt):
    with tf.GradientTape() as tape:
        tape.watch(images)
        logits = network(images)
        loss = tf.reduce_sum(logits * tf.range(1.0, 6.0) ** 2)
    return logits, tape.gradient(loss, [images, *wrt])


@pytest.mark.parametrize("build", NETWORKS.values(), ids=NETWORKS)
def test_frozen_equals_inference_in_outputs_and_gradients(build):
    model, images = build(), _images()
    model(images)
    expected, [expected_gradient] = _logits_and_gradient(lambda x: model(x, training=False), images)
    before = [weight.numpy() for weight in model.weights]
    got, [gradient] = _logits_and_gradient(freeze(model), images)
    np.testing.assert_allclose(got, expected, rtol=2e-5, atol=2e-5)
    np.testing.assert_allclose(gradient, expected_gradient, rtol=1e-4, atol=1e-4 * np.abs(expected_gradient).max())
    for weight, value in zip(model.weights, before, strict=True):
        np.testing.assert_array_equal(weight, value)


def test_foldable_batchnorms_leave_the_graph_and_others_become_a_scale_and_a_shift():
    model = _conv_bn_net()
    network = freeze(model)
    traced = tf.function(network, autograph=False).get_concrete_function(tf.TensorSpec([4, 8, 8, 3]))
    operations = [operation.type for operation in traced.graph.get_operations()]
    assert operations.count("Conv2D") == 2  # and the grouped one, which Keras hands to XLA
    # Of five BatchNorms one follows an activation and one a sum: two multiplications by a scale; none by rsqrt.
    assert operations.count("Mul") == 2
    assert "Rsqrt" not in operations


def test_frozen_reads_the_weights_when_it_is_made():
    model, images = _conv_bn_net(), _images()
    network = freeze(model)
    before = network(images)
    for weight in model.weights:
        weight.assign(weight * 1.5)
    np.testing.assert_array_equal(network(images), before)
    np.testing.assert_allclose(freeze(model)(images), model(images, training=False), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("build", [_conv_bn_net, _nested], ids=["functional", "nested"])
def test_fused_training_pass_equals_keras_in_outputs_gradients_and_statistics(build):
    ours, keras_own = build(), build()
    for layer in [*ours._flatten_layers(), *keras_own._flatten_layers()]:
        if isinstance(layer, layers.Dropout):
            layer.rate = 0.0
    keras_own.set_weights(ours.get_weights())
    images = _images(16)
    expected, expected_gradients = _logits_and_gradient(
        lambda x: keras_own(x, training=True), images, *keras_own.trainable_variables
    )
    got, gradients = _logits_and_gradient(lambda x: training_logits(ours, x), images, *ours.trainable_variables)
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4)
    scale = max(np.abs(gradient).max() for gradient in expected_gradients)
    for gradient, other in zip(gradients, expected_gradients, strict=True):
        np.testing.assert_allclose(gradient, other, rtol=1e-3, atol=1e-5 * scale)
    for weight, other in zip(ours.non_trainable_variables, keras_own.non_trainable_variables, strict=True):
        if weight.dtype == "float32":
            np.testing.assert_allclose(weight, other, rtol=1e-5, atol=1e-6, err_msg=weight.path)


def test_fused_batchnorm_is_one_kernel_and_frozen_layers_stay_put():
    model = _conv_bn_net()
    norms = [layer for layer in model.layers if isinstance(layer, layers.BatchNormalization)]
    norms[0].trainable = False
    before = [weight.numpy() for weight in norms[0].weights]

    @tf.function(autograph=False)
    def step(images):
        return training_logits(model, images)

    step(_images())
    operations = [operation.type for operation in step.get_concrete_function(_images()).graph.get_operations()]
    assert operations.count("FusedBatchNormV3") == 3  # five, less the frozen one and the one of a dense layer
    for weight, value in zip(norms[0].weights, before, strict=True):
        np.testing.assert_array_equal(weight, value)


def test_fused_batchnorm_works_in_bfloat16_and_keeps_float32_statistics():
    keras.config.set_dtype_policy("mixed_bfloat16")
    model = _conv_bn_net()
    seen = []
    original = tf.compat.v1.nn.fused_batch_norm
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tf.compat.v1.nn, "fused_batch_norm", lambda x, **kw: seen.append(x.dtype) or original(x, **kw))
        logits = training_logits(model, _images())
    assert set(seen) == {tf.bfloat16}
    assert logits.dtype == tf.float32
    assert {weight.dtype for weight in model.weights if "moving" in weight.path} == {"float32"}


def test_a_layer_of_layers_that_learns_of_training_from_its_surroundings_is_not_taken_apart():
    @keras.saving.register_keras_serializable("tests")
    class Block(layers.Layer):
        def __init__(self):
            super().__init__()
            self.dropout = layers.Dropout(0.9)

        def call(self, x):
            return self.dropout(x)

    image = keras.Input((8, 8, 3))
    x = layers.BatchNormalization()(layers.Conv2D(4, 3)(image))
    model = keras.Model(image, layers.Dense(5)(Block()(layers.Flatten()(x))))
    assert list(graph.layers_once(model)) == []
    assert not np.allclose(training_logits(model, _images()), training_logits(model, _images()))  # dropout is on
    np.testing.assert_array_equal(freeze(model)(_images()), freeze(model)(_images()))


def test_images_without_a_channel_axis_are_taken_as_keras_takes_them():
    model = keras.Sequential(
        [keras.Input((8, 8, 1)), layers.Conv2D(4, 3), layers.BatchNormalization(), layers.Flatten(), layers.Dense(5)]
    )
    _randomise(model)
    images = _images()[..., 0]
    np.testing.assert_allclose(freeze(model)(images), model(images, training=False), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(training_logits(model, images), model(images, training=True), rtol=1e-4, atol=1e-4)


def test_a_mode_that_is_set_in_the_graph_gives_way_to_training_as_in_keras():
    keras.utils.set_random_seed(0)
    image = keras.Input((6, 6, 3))
    x = keras.layers.BatchNormalization()(keras.layers.Conv2D(4, 3)(image), training=False)
    model = keras.Model(image, keras.layers.Dense(3)(keras.layers.Flatten()(x)))
    images = tf.random.stateless_uniform([5, 6, 6, 3], [0, 1])
    expected = model(images, training=True)
    np.testing.assert_allclose(training_logits(model, images), expected, rtol=1e-4, atol=1e-5)
    assert np.abs(expected - model(images, training=False)).max() > 0.05


# Models that compute something else than their graph


def _stack(kind=keras.Sequential, middle=(), **kwargs):
    parts = [layers.Conv2D(4, 3), layers.BatchNormalization(), *middle, layers.Flatten(), layers.Dense(5)]
    return _randomise(kind([keras.Input((8, 8, 3)), *parts], **kwargs))


class Doubles(keras.Sequential):
    def call(self, x, training=None, mask=None):
        return 2.0 * super().call(x, training=training)


class ClipsInCall(keras.Sequential):
    def call(self, x):
        return super().call(keras.ops.clip(x, 0.2, 0.5))


class ClipsBefore(keras.Sequential):
    def __call__(self, x, **kwargs):
        return super().__call__(keras.ops.clip(x, 0.2, 0.5), **kwargs)


class FunctionalThatDoubles(keras.Model):
    def __init__(self):
        image = keras.Input((8, 8, 3))
        x = layers.BatchNormalization()(layers.Conv2D(4, 3)(image))
        super().__init__(image, layers.Dense(5)(layers.Flatten()(x)))

    def call(self, x, training=None, mask=None):
        return 2.0 * super().call(x, training=training)


def _patched_model():
    model = _stack()
    own_call = model.call
    model.call = lambda x, training=None, mask=None: 2.0 * own_call(x, training=training)
    return model


def _patched_layer():
    model = _stack()
    dense = model.layers[-1]
    own_call = dense.call
    dense.call = lambda x, training=None: 2.0 * own_call(x)
    return model


class LayerThatDoublesFirst(layers.Dense):
    def __call__(self, x, **kwargs):
        return super().__call__(2.0 * x, **kwargs)


def _own_call_of_a_layer():
    image = keras.Input((8, 8, 3))
    x = layers.Flatten()(layers.BatchNormalization()(layers.Conv2D(4, 3)(image)))
    return _randomise(keras.Sequential([keras.Model(image, x), LayerThatDoublesFirst(5)]))


@keras.saving.register_keras_serializable("tests")
class CountsBrightPixels(layers.Layer):
    """Sets a mask, which BatchNorm reads: the other pixels do not count in its statistics."""

    supports_masking = True

    def compute_mask(self, x, mask=None):
        return x[..., 0] > 0.5

    def call(self, x):
        return 1.0 * x


@keras.saving.register_keras_serializable("tests")
class ForgetsMask(layers.Layer):
    supports_masking = True

    def compute_mask(self, x, mask=None):
        return None

    def call(self, x):
        return 1.0 * x


def _masked():
    stack = [CountsBrightPixels(), layers.BatchNormalization(), ForgetsMask(), layers.Flatten(), layers.Dense(5)]
    return _randomise(keras.Sequential([keras.Input((8, 8, 3)), *stack]))


def _quantised(mode):
    model = _stack(middle=[layers.Flatten(), layers.Dense(16, activation="relu")])
    for layer in model.layers:
        if isinstance(layer, layers.Dense):
            layer.quantize(mode)
    return model


def _with_lora():
    model = _stack()
    model.layers[-1].enable_lora(2)
    model.layers[-1].lora_kernel_b.assign(keras.ops.ones_like(model.layers[-1].lora_kernel_b))
    return model


def _inside(make):
    return lambda: keras.Sequential([keras.Input((8, 8, 3)), layers.Rescaling(0.5), make()])


MORE_THAN_A_GRAPH = {
    "call of a Sequential": lambda: _stack(Doubles),
    "call of a Sequential, inside": _inside(lambda: _stack(Doubles)),
    "call without training": lambda: _stack(ClipsInCall),
    "call without training, inside": _inside(lambda: _stack(ClipsInCall)),
    "__call__ of a Sequential": lambda: _stack(ClipsBefore),
    "__call__ of a Sequential, inside": _inside(lambda: _stack(ClipsBefore)),
    "call of a Functional": lambda: _randomise(FunctionalThatDoubles()),
    "call of a Functional, inside": _inside(lambda: _randomise(FunctionalThatDoubles())),
    "call replaced on the model": _patched_model,
    "call replaced on a layer": _patched_layer,
    "__call__ of a layer": _own_call_of_a_layer,
    "a mask": _masked,
    "LoRA": _with_lora,
}
QUANTISED = {mode: lambda mode=mode: _quantised(mode) for mode in ("int8", "int4")}


@pytest.mark.parametrize("make", (MORE_THAN_A_GRAPH | QUANTISED).values(), ids=MORE_THAN_A_GRAPH | QUANTISED)
def test_what_is_more_than_its_graph_runs_as_it_is(make):
    model, images = make(), _images()
    expected, [expected_gradient] = _logits_and_gradient(lambda x: model(x, training=False), images)
    assert np.abs(expected).max() > 0.1 and np.abs(expected_gradient).max() > 0
    got, [gradient] = _logits_and_gradient(freeze(model), images)
    np.testing.assert_allclose(got, expected, rtol=2e-5, atol=2e-5)
    np.testing.assert_allclose(gradient, expected_gradient, rtol=1e-4, atol=1e-4 * np.abs(expected_gradient).max())
    np.testing.assert_allclose(training_logits(model, images), model(images, training=True), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["call of a Sequential", "call without training, inside", "call replaced on a layer"])
def test_what_is_more_than_its_graph_is_evaluated_and_trained_as_it_is(name):
    model, images, labels = MORE_THAN_A_GRAPH[name](), _images(), np.array([0, 1, 2, 3])
    attack = attacks.PGD(epsilon=0.1, step_size=0.1, steps=1, start="none")
    result = evaluate_robustness(model, (images, labels), attack, verbose=0)
    np.testing.assert_allclose(result.clean_margins, probability_margin(model(images), labels), rtol=1e-4, atol=1e-5)

    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(cross_entropy(model(images, training=True), labels))
    gradients = tape.gradient(loss, model.trainable_variables)
    expected = [w - 0.01 * g for w, g in zip(model.trainable_variables, gradients, strict=True)]
    trained = AdversarialModel(model, methods.Natural())
    trained.compile(keras.optimizers.SGD(0.01))
    trained.fit(images, labels, verbose=0)
    for weight, value in zip(model.trainable_variables, expected, strict=True):
        np.testing.assert_allclose(weight, value, rtol=1e-4, atol=1e-5)
