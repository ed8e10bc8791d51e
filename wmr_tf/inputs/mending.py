"""Makes a classifier one that can be attacked: without the softmax at its end, and of images in [0, 1]."""

import math
from typing import Any

import keras

from wmr_tf.checks import number_of, refuse, require
from wmr_tf.engine import graph
from wmr_tf.inputs.classifier import activation_of, check_model


def without_softmax(model: keras.Model) -> keras.Model:
    """Return the same model up to its logits, sharing weights: training one changes the other.

    `softmax(without_softmax(model)(x)) = model(x)`. Of a single unit with sigmoid it makes the logits `[0, z]`, whose
    softmax is `[1 - sigmoid(z), sigmoid(z)]`. The model itself stays as it is.

    Args:
        model: A Sequential or Functional Keras model with one output that ends in softmax, or in the sigmoid of one
            unit: the activation of its last `Dense` layer, or a layer of its own; nested models too.

    Returns:
        A plain Keras model that is not compiled. Saved, it loads without this package.

    Raises:
        InvalidInput: If the end of the model cannot be seen, such as that of a subclassed one, or is another one.

    Example:
        >>> model = keras.Sequential([keras.Input([4]), keras.layers.Dense(3, activation="softmax")])
        >>> logits = without_softmax(model)(np.ones([2, 4]))
        >>> np.allclose(keras.ops.softmax(logits), model(np.ones([2, 4])))
        True
    """
    check_model(model)
    _check_end_is_seen(model)
    if not isinstance(model, keras.Sequential):
        last, inputs = graph.last_call(model)
        output = inputs[0]
        for layer in _in_place_of(last, model):
            output = layer(output)
        image = model.inputs[0] if len(model.inputs) == 1 else model.inputs
        return keras.Model(image, output, name=model.name)
    *others, last = model.layers
    image = keras.Input(batch_shape=model.inputs[0].shape, dtype=model.inputs[0].dtype, name=model.inputs[0].name)
    return keras.Sequential([image, *others, *_in_place_of(last, model)], name=model.name)


def _in_place_of(last: Any, model: keras.Model) -> list[keras.layers.Layer]:
    """Return what takes the place of a model's last layer or operation."""
    if isinstance(last, keras.Model):
        return [without_softmax(last)]
    activation, units = activation_of(last), model.outputs[0].shape[-1]
    is_plain = type(last) is not keras.layers.Dense or graph.is_plain(last, keras.layers.Dense)
    is_known = type(last).__module__.startswith("keras.") and getattr(last, "axis", -1) in (-1, 1) and is_plain
    require(
        is_known
        and len(model.outputs[0].shape) == 2
        and (activation == "softmax" or (activation, units) == ("sigmoid", 1)),
        f"model {model.name!r}",
        got=f"a last layer ({last.name!r}, a {type(last).__name__}) with {activation} on {units} units",
        expected="softmax over all classes, or the sigmoid of one unit",
        fix="Pass the model as it is if it returns logits. Several sigmoids answer a question each and are no classes.",
    )
    logits = [_without_activation(last)] if type(last) is keras.layers.Dense else []
    return [*logits, _two_logits()] if activation == "sigmoid" else logits


def _without_activation(dense: keras.layers.Dense) -> keras.layers.Dense:
    """Return a layer with the same variables, not copies of them, and no activation."""
    plain = keras.layers.Dense.from_config({**dense.get_config(), "activation": "linear"})
    for name in ("_kernel", "bias", "input_spec"):  # what its `build` sets; the first is private to Keras
        setattr(plain, name, getattr(dense, name))
    plain.built = True
    return plain


def _two_logits() -> keras.Model:
    """Return a model that puts a 0 before the one number that it gets."""
    layers = keras.layers.Reshape([1, 1]), keras.layers.ZeroPadding1D((1, 0)), keras.layers.Reshape([2])
    return keras.Sequential([keras.Input([1]), *layers], name="two_logits")


def _check_end_is_seen(model: keras.Model) -> None:
    require(
        graph.runs_its_graph(model),
        f"model {model.name!r}",
        got=f"a {type(model).__name__} with a call of its own, or quantised, whose end cannot be seen",
        expected="a Sequential or Functional model that ends in softmax",
        fix="Let its call return what comes before the softmax.",
    )
    outputs = getattr(model, "outputs", None) or []
    got = f"{len(outputs)} outputs" if outputs else "a model that has not been built"
    fix = "Make a model of the one that is the classes." if outputs else "Call it on a batch of images first."
    require(len(outputs) == 1, f"model {model.name!r}", got=got, expected="one output", fix=fix)


def with_input_range(model: keras.Model, low: float, high: float) -> keras.Model:
    """Return a model of images in [0, 1] that gives another one its images in [low, high], sharing weights.

    `with_input_range(model, low, high)(x) = model(low + (high - low) * x)`. The model itself stays as it is.

    Args:
        model: A Keras model with one input, images in [low, high]: [0, 255], as the MobileNetV3 and EfficientNet of
            `keras.applications` take them, or [-1, 1].
        low: What a black pixel is for the model.
        high: What a white pixel is, larger than `low`.

    Returns:
        A plain Keras model, the layers of the other one behind a `keras.layers.Rescaling`; a subclassed model stays one
        layer. It is not compiled. Saved, it loads without this package.

    Raises:
        InvalidInput: If the range is none, or the model has several inputs or takes whole numbers.

    Example:
        >>> model = keras.Sequential([keras.Input([4]), keras.layers.Dense(3)])
        >>> images = np.random.default_rng(0).random([2, 4])
        >>> np.allclose(with_input_range(model, 0, 255)(images), model(255 * images), rtol=1e-3)
        True
    """
    check_model(model)
    low, high = _checked_range(low, high)
    rescaling = keras.layers.Rescaling(high - low, low, dtype="float32", name="input_range")
    inputs = getattr(model, "inputs", None) or []
    if not (inputs and graph.runs_its_graph(model)):
        return keras.Sequential([rescaling, model])
    require(
        len(inputs) == 1 and "float" in str(inputs[0].dtype),
        f"model {model.name!r}",
        got=", ".join(f"an input of {each.dtype}" for each in inputs),
        expected="one input of floating point numbers, the images",
        fix="Make a model of such an input: rounding has no gradient, so no attack could move an image.",
    )
    image = keras.Input(batch_shape=inputs[0].shape)
    # The layers rather than the model, which Keras would save with its compile settings.
    return keras.Model(image, model.call(rescaling(image)), name=model.name)


def _checked_range(low: Any, high: Any) -> tuple[float, float]:
    fix = "Pass for instance with_input_range(model, 0, 255)."
    try:
        found = number_of(low), number_of(high)
    except (TypeError, ValueError) as error:
        refuse("range", got=f"{low!r} and {high!r}", expected="two numbers", fix=fix, cause=error)
    is_range = all(map(math.isfinite, found)) and found[0] < found[1]
    require(is_range, "range", got=f"{low!r} to {high!r}", expected="low < high, both finite", fix=fix)
    return found
