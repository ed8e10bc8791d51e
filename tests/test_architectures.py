"""The architectures against published parameter counts, the initialisation of the public code and networks in NumPy."""

import collections
import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from wmr_tf import architectures
from wmr_tf.architectures import _layers
from wmr_tf.checks import InvalidInput
from wmr_tf.engine.frozen import freeze
from wmr_tf.engine.training import training_logits

NAMES = ["digits_cnn", "small_cnn", "thin_resnet", "resnet20", "resnet18", "wide_resnet_34_10"]
RESNETS = ["thin_resnet", "resnet20", "resnet18", "wide_resnet_34_10"]
PREACTIVATION = ["thin_resnet", "wide_resnet_34_10"]


def build(name, num_classes=10, size=8):
    """A new model; the ResNets on small images, which changes nothing in their weights."""
    make = getattr(architectures, name)
    return make(num_classes, (size, size, 3)) if name in RESNETS else make()


@pytest.fixture(scope="module")
def fresh():
    """One freshly initialised model of each architecture; the tests that share it do not change it."""
    keras.utils.set_random_seed(0)
    return {name: build(name) for name in NAMES}


@pytest.fixture(scope="module")
def scrambled():
    """The same with every weight random, BatchNorm statistics too, so that nothing hides behind a zero or a one."""
    keras.utils.set_random_seed(1)
    models = {name: build(name) for name in NAMES}
    for model in models.values():
        scramble(model)
    return models


def scramble(model):
    rng = np.random.default_rng(0)
    for weight in model.weights:
        if weight.name in ("gamma", "moving_variance"):
            weight.assign(rng.uniform(0.5, 1.5, weight.shape))
        elif weight.name != "kernel" or not np.any(weight):
            weight.assign(rng.normal(0, 0.3, weight.shape))


def images(model, count=2):
    return np.random.default_rng(0).random((count, *model.input_shape[1:]), dtype="float32")


def of_type(model, kind):
    return [layer for layer in model.layers if isinstance(layer, kind)]


def count(weights):
    return sum(int(np.prod(weight.shape)) for weight in weights)


# Sizes


@pytest.mark.parametrize(
    ("name", "trainable", "moving_statistics"),
    [
        ("digits_cnn", 38_314, 0),
        ("small_cnn", 312_202, 0),
        ("thin_resnet", 691_258, 1440),
        ("resnet20", 272_474, 1568),
        ("resnet18", 11_173_962, 9_600),
        ("wide_resnet_34_10", 46_160_474, 22_432),
    ],
)
def test_parameter_counts(fresh, name, trainable, moving_statistics):
    assert count(fresh[name].trainable_weights) == trainable
    assert count(fresh[name].non_trainable_weights) == moving_statistics


def test_parameter_counts_of_small_cnn_layer_by_layer(fresh):
    counts = {layer.name: layer.count_params() for layer in fresh["small_cnn"].layers if layer.weights}
    assert counts == {
        "conv1": 9 * 1 * 32 + 32,
        "conv2": 9 * 32 * 32 + 32,
        "conv3": 9 * 32 * 64 + 64,
        "conv4": 9 * 64 * 64 + 64,
        "dense1": 1024 * 200 + 200,
        "dense2": 200 * 200 + 200,
        "logits": 200 * 10 + 10,
    }


@pytest.mark.parametrize(
    ("name", "last_block", "shape"),
    [
        ("thin_resnet", "stage3_block1_add", (None, 4, 4, 192)),
        ("resnet20", "stage3_block3_add", (None, 16, 16, 64)),
        ("resnet18", "stage4_block2_add", (None, 8, 8, 512)),
        ("wide_resnet_34_10", "stage3_block5_add", (None, 16, 16, 640)),
    ],
)
def test_tiny_imagenet_size(fresh, name, last_block, shape):
    model = build(name, num_classes=200, size=64)
    assert model.output_shape == (None, 200)
    assert model.get_layer(last_block).output.shape == shape
    wider_stem = (5**2 - 3**2) * 3 * 48 if name == "thin_resnet" else 0
    assert count(model.trainable_weights) == count(fresh[name].trainable_weights) + 190 * (shape[-1] + 1) + wider_stem


@pytest.mark.parametrize("name", RESNETS)
def test_default_sizes(name):
    assert getattr(architectures, name)().input_shape == (None, 32, 32, 3)


def multiply_adds(model):
    """Of the convolutions and dense layers for one image; a dense layer's output is one pixel."""
    kernels = [(layer.output.shape[1:-1], layer.kernel) for layer in of_type(model, (layers.Conv2D, layers.Dense))]
    return sum(int(np.prod(pixels) * np.prod(kernel.shape)) for pixels, kernel in kernels)


@pytest.mark.parametrize(
    ("size", "classes", "stem", "total"), [(32, 10, 9 * 3 * 48, 27_465_600), (64, 200, 25 * 3 * 48, 28_091_904)]
)
def test_multiply_adds_of_thin_resnet(size, classes, stem, total):
    stages = 2 * 9 * 48 * 48 * 16**2 + (9 * 48 + 9 * 96 + 48) * 96 * 8**2 + (9 * 96 + 9 * 192 + 96) * 192 * 4**2
    model = build("thin_resnet", classes, size)
    assert multiply_adds(model) == stem * 16**2 + stages + 192 * classes == total
    documented = architectures.thin_resnet.__doc__
    assert f"{total / 1e6:.1f} M multiply-adds" in documented
    others = {32: architectures.resnet18(), 64: architectures.resnet18(200, (64, 64, 3))}
    assert f"{multiply_adds(others[size]) / 1e6:,.{1 if size == 32 else 0}f} M" in documented


# Initialisation


@pytest.mark.parametrize("name", ["digits_cnn", "small_cnn", *PREACTIVATION])
def test_convolutions_start_normal_and_not_truncated(fresh, name):
    for layer in of_type(fresh[name], layers.Conv2D):
        kernel = layer.kernel.numpy()
        rows, columns, fan_in, filters = kernel.shape
        fan = rows * columns * (filters if name in PREACTIVATION else fan_in)
        std = np.sqrt(2 / fan)
        assert kernel.std() == pytest.approx(std, rel=5 / np.sqrt(2 * kernel.size)), layer.name
        assert abs(kernel.mean()) < 5 * std / np.sqrt(kernel.size), layer.name
        beyond = np.mean(np.abs(kernel) > 2.3 * std)  # 0.0214 of a normal; none of Keras's own, truncated he_normal
        assert beyond == pytest.approx(0.0214, abs=5 * np.sqrt(0.0214 / kernel.size)), layer.name
        assert beyond > 0, layer.name
        assert layer.bias is None or not np.any(layer.bias), layer.name


def assert_torch_uniform(values, fan_in, name):
    bound = 1 / np.sqrt(fan_in)
    assert np.abs(values).max() <= bound * (1 + 1e-6), name
    assert values.std() == pytest.approx(bound / np.sqrt(3), rel=min(0.5, 4 / np.sqrt(values.size))), name


def test_resnet18_starts_as_pytorch_by_default(fresh):
    for layer in of_type(fresh["resnet18"], (layers.Conv2D, layers.Dense)):
        kernel = layer.kernel.numpy()
        assert_torch_uniform(kernel, np.prod(kernel.shape[:-1]), layer.name)
    assert_torch_uniform(fresh["resnet18"].get_layer("logits").bias.numpy(), 512, "bias")


def test_small_cnn_dense_layers_start_as_in_trades(fresh):
    for name, fan_in in [("dense1", 1024), ("dense2", 200)]:
        layer = fresh["small_cnn"].get_layer(name)
        assert_torch_uniform(layer.kernel.numpy(), fan_in, name)
        assert_torch_uniform(layer.bias.numpy(), fan_in, name)
    last = fresh["small_cnn"].get_layer("logits")
    assert not np.any(last.kernel)
    assert not np.any(last.bias)


@pytest.mark.parametrize(("name", "features"), [("thin_resnet", 192), ("wide_resnet_34_10", 640)])
def test_last_layer_of_preactivation_resnets_starts_as_in_trades(fresh, name, features):
    last = fresh[name].get_layer("logits")
    assert_torch_uniform(last.kernel.numpy(), features, "kernel")
    assert not np.any(last.bias)


@pytest.mark.parametrize("name", NAMES)
def test_no_two_kernels_start_with_the_same_numbers(fresh, name):
    # An initialiser of Keras that two layers share gives both the same numbers, up to the scale if the shapes differ.
    kernels = [layer.kernel for layer in of_type(fresh[name], (layers.Conv2D, layers.Dense)) if np.any(layer.kernel)]
    ratios = [tuple(np.round(np.ravel(kernel)[1:4] / np.ravel(kernel)[0], 4)) for kernel in kernels]
    assert len(set(ratios)) == len(kernels)


def test_seed_decides_the_initialisation():
    first, again, other = (seeded_kernel(seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first, again)
    assert np.any(first != other)


def seeded_kernel(seed):
    keras.utils.set_random_seed(seed)
    return build("digits_cnn").get_layer("conv2").kernel.numpy()


# Structure


@pytest.mark.parametrize("name", NAMES)
def test_only_stock_layers(fresh, name):
    def modules(config):
        if isinstance(config, dict):
            yield from [config["module"]] if "module" in config else []
            config = list(config.values())
        for value in config if isinstance(config, list) else []:
            yield from modules(value)

    description = json.loads(fresh[name].to_json())
    assert description["class_name"] == "Functional"
    assert {module.split(".")[0] for module in modules(description)} == {"keras"}
    assert all(type(layer).__module__.startswith("keras.src.layers.") for layer in fresh[name].layers)
    assert not of_type(fresh[name], layers.Lambda)


@pytest.mark.parametrize(
    ("name", "norms"),
    [
        ("digits_cnn", 0),
        ("small_cnn", 0),
        ("thin_resnet", 7),
        ("resnet20", 21),
        ("resnet18", 20),
        ("wide_resnet_34_10", 31),
    ],
)
def test_batch_norm_is_pytorchs(fresh, name, norms):
    found = of_type(fresh[name], layers.BatchNormalization)
    assert len(found) == norms
    assert all((norm.momentum, norm.epsilon) == (0.9, 1e-5) for norm in found)
    assert all(norm.center and norm.scale for norm in found)


def test_dropout_is_in_small_cnn_after_the_first_dense_layer_only(fresh):
    assert [len(of_type(fresh[name], layers.Dropout)) for name in NAMES] == [0, 1, 0, 0, 0, 0]
    model = fresh["small_cnn"]
    dropout = model.get_layer("dropout")
    assert dropout.rate == 0.5
    assert dropout.input is model.get_layer("dense1").output
    assert model.get_layer("dense2").input is dropout.output


@pytest.mark.parametrize(
    ("name", "followed"), [("thin_resnet", 3), ("resnet20", 21), ("resnet18", 20), ("wide_resnet_34_10", 15)]
)
def test_batch_norm_directly_follows_its_convolution(fresh, name, followed):
    outputs = {id(layer.output) for layer in of_type(fresh[name], layers.Conv2D)}
    norms = of_type(fresh[name], layers.BatchNormalization)
    named = [norm for norm in norms if norm.name.removesuffix("_bn") in {layer.name for layer in fresh[name].layers}]
    assert len(named) == followed
    assert all(id(norm.input) in outputs for norm in named)
    assert all(layer.activation is keras.activations.linear for layer in of_type(fresh[name], layers.Conv2D))


# What they compute, against NumPy


def np_conv(x, kernel, stride=1, padding=None):
    """PyTorch's convolution: `padding` zeros on all four sides, half the kernel by default."""
    size = kernel.shape[0]
    padding = size // 2 if padding is None else padding
    x = np.pad(x, [(0, 0), (padding, padding), (padding, padding), (0, 0)])
    height, width = ((length - size) // stride + 1 for length in x.shape[1:3])
    out = 0.0
    for i, j in np.ndindex(size, size):
        out = (
            out
            + x[:, i : i + stride * height : stride, j : j + stride * width : stride][:, :height, :width] @ kernel[i, j]
        )
    return out


def np_pool(x):
    batch, height, width, channels = x.shape
    return x.reshape(batch, height // 2, 2, width // 2, 2, channels).max((2, 4))


def relu(x):
    return np.maximum(x, 0)


class Reference:
    """A network in NumPy that reads its weights, by layer name, from a Keras model."""

    def __init__(self, model):
        self.weights = {layer.name: [np.float64(weight) for weight in layer.weights] for layer in model.layers}

    def conv(self, x, name, stride=1, padding=None):
        kernel, *bias = self.weights[name]
        return np_conv(x, kernel, stride, padding) + sum(bias)

    def dense(self, x, name):
        kernel, bias = self.weights[name]
        return x @ kernel + bias

    def norm(self, x, name):
        gamma, beta, mean, variance = self.weights[f"{name}_bn"]
        return gamma * (x - mean) / np.sqrt(variance + 1e-5) + beta

    def conv_bn(self, x, name, stride=1):
        return self.norm(self.conv(x, name, stride), name)

    def digits_cnn(self, x):
        x = relu(self.conv(relu(self.conv(x, "conv1")), "conv2"))
        x = relu(self.conv(np_pool(x), "conv3"))
        return self.dense(x.reshape(len(x), -1), "logits")

    def small_cnn(self, x):
        for first, second in [("conv1", "conv2"), ("conv3", "conv4")]:
            x = relu(self.conv(x, first, padding=0))
            x = np_pool(relu(self.conv(x, second, padding=0)))
        x = relu(self.dense(x.reshape(len(x), -1), "dense1"))
        return self.dense(relu(self.dense(x, "dense2")), "logits")

    def resnet18(self, x):
        return self.resnet(x, stages=4, blocks=2)

    def resnet20(self, x):
        return self.resnet(x, stages=3, blocks=3)

    def resnet(self, x, stages, blocks):
        x = relu(self.conv_bn(x, "stem"))
        for stage in range(1, stages + 1):
            for block in range(1, blocks + 1):
                name, downsamples = f"stage{stage}_block{block}", stage > 1 and block == 1
                stride = 2 if downsamples else 1
                residual = self.conv_bn(relu(self.conv_bn(x, f"{name}_conv1", stride)), f"{name}_conv2")
                x = relu(residual + (self.conv_bn(x, f"{name}_shortcut", stride) if downsamples else x))
        return self.dense(x.mean((1, 2)), "logits")

    def preactivation(self, x, blocks):
        for stage in (1, 2, 3):
            for block in range(1, blocks + 1):
                name, stride = f"stage{stage}_block{block}", 2 if stage > 1 and block == 1 else 1
                activated = relu(self.norm(x, f"{name}_input"))
                residual = self.conv(relu(self.conv_bn(activated, f"{name}_conv1", stride)), f"{name}_conv2")
                is_wider = f"{name}_shortcut" in self.weights
                x = residual + (self.conv(activated, f"{name}_shortcut", stride) if is_wider else x)
        return self.dense(relu(self.norm(x, "final")).mean((1, 2)), "logits")

    def thin_resnet(self, x):
        return self.preactivation(self.conv(x, "stem", x.shape[1] // 16 or 1), blocks=1)

    def wide_resnet_34_10(self, x):
        return self.preactivation(self.conv(x, "stem"), blocks=5)


@pytest.mark.parametrize("name", NAMES)
def test_same_logits_as_numpy(scrambled, name):
    model = scrambled[name]
    x = images(model, count=1)
    expected = getattr(Reference(model), name)(np.float64(x))
    np.testing.assert_allclose(model(x), expected, rtol=0, atol=1e-4 * np.abs(expected).max())


def test_thin_resnet_is_attacked_with_folded_and_trained_with_fused_batch_norm(scrambled):
    model = scrambled["thin_resnet"]
    x = tf.constant(images(model, count=4))
    np.testing.assert_allclose(freeze(model)(x), model(x), rtol=1e-4, atol=1e-4)
    kernels = {"attack": tf.function(freeze(model)), "update": tf.function(lambda x: training_logits(model, x))}
    operations = {name: kernel.get_concrete_function(x).graph.get_operations() for name, kernel in kernels.items()}
    counts = {name: collections.Counter(each.type for each in found) for name, found in operations.items()}
    assert counts["attack"]["Conv2D"] == counts["update"]["Conv2D"] == 9
    assert counts["attack"]["FusedBatchNormV3"] == 0
    assert counts["update"]["FusedBatchNormV3"] == 7


@pytest.mark.parametrize(("size", "kernel"), [(8, 3), (32, 3), (33, 3), (48, 3), (64, 5)])
def test_stem_of_thin_resnet_brings_images_to_16x16(size, kernel):
    model = build("thin_resnet", size=size)
    scramble(model)
    assert model.get_layer("stem").kernel.shape[0] == kernel
    assert model.get_layer("stem").output.shape[1] == (8 if size < 16 else 17 if size == 33 else 16)
    x = images(model, count=1)
    expected = Reference(model).thin_resnet(np.float64(x))
    np.testing.assert_allclose(model(x), expected, rtol=0, atol=1e-4 * np.abs(expected).max())


def test_small_cnn_starts_with_zero_logits(fresh):
    assert not np.any(fresh["small_cnn"](images(fresh["small_cnn"])))


@pytest.mark.parametrize(("size", "stride"), [(3, 1), (3, 2), (1, 2)])
@pytest.mark.parametrize("shape", [(8, 8), (7, 10)])
def test_convolution_pads_as_pytorch(shape, size, stride):
    image = keras.Input((*shape, 2))
    model = keras.Model(image, _layers.conv(image, 3, size, stride=stride, initializer=_layers.he_normal, name="conv"))
    x = images(model)
    expected = np_conv(x, model.get_layer("conv").kernel.numpy(), stride)
    np.testing.assert_allclose(model(x), expected, atol=1e-5)


def test_convolution_at_stride_2_is_centred_on_even_pixels():
    image = keras.Input((4, 4, 1))
    model = keras.Model(image, _layers.conv(image, 1, 3, stride=2, initializer=keras.initializers.Zeros, name="conv"))
    centre = np.zeros((3, 3, 1, 1))
    centre[1, 1] = 1
    model.get_layer("conv").kernel.assign(centre)
    x = np.arange(16.0).reshape(1, 4, 4, 1)
    np.testing.assert_array_equal(np.squeeze(model(x)), [[0, 2], [8, 10]])  # padding="same" alone: [[5, 7], [13, 15]]


# Precision and files


@pytest.fixture
def policy(request):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(request.param)
    yield request.param
    keras.config.set_dtype_policy(before)


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16", "mixed_float16"], indirect=True)
@pytest.mark.parametrize("name", NAMES)
def test_logits_are_float32_and_the_rest_follows_the_policy(policy, name):
    model = build(name)
    logits = model(images(model, count=1))
    assert logits.shape == (1, 10)
    assert logits.dtype == model.output.dtype == "float32"
    assert np.all(np.isfinite(logits))
    inner = [layer for layer in model.layers if layer.name != "logits" and not isinstance(layer, layers.InputLayer)]
    assert {layer.dtype_policy.name for layer in inner} == {policy}
    assert model.get_layer("logits").compute_dtype == "float32"
    assert {weight.dtype for weight in model.weights} == {"float32"}


@pytest.mark.filterwarnings("ignore:__array__ implementation")  # Keras's own, when it saves under NumPy 2
@pytest.mark.parametrize("name", ["digits_cnn", "small_cnn", "thin_resnet", "resnet20", "resnet18"])
def test_saved_model_returns_the_same_logits(scrambled, name, tmp_path):
    model = scrambled[name]
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    x = images(model)
    assert np.ptp(model(x)) > 0
    np.testing.assert_array_equal(loaded(x), model(x))


def test_multiply_adds_of_resnet20():
    model = build("resnet20", 10, 32)
    assert multiply_adds(model) == 40_813_184 and "40.8 M multiply-adds" in architectures.resnet20.__doc__


# Mistakes


@pytest.mark.parametrize("name", RESNETS)
@pytest.mark.parametrize("shape", [(32, 32), (3, 32, 32), (4, 8, 3), (32, 32, 0), (32, None, 3), 32])
def test_what_is_no_image_shape_is_named(name, shape):
    with pytest.raises(InvalidInput, match=r"input_shape: got .*, expected \(height, width, channels\)"):
        getattr(architectures, name)(10, shape)


def test_fewer_than_two_classes_are_refused():
    with pytest.raises(InvalidInput, match="num_classes: got 1, expected a whole number >= 2"):
        architectures.resnet18(num_classes=1, input_shape=(8, 8, 3))
