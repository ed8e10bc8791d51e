"""Hostile models: configurations that name code, archives and weights that are not what they say."""

import copy
import functools
import json
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tests.hostile import MARKER, Hostile, beside
from trainers.runs.classifiers import check_fits
from wmr_tf.saving import load_classifier, save_classifier

CONFIG, METADATA, WEIGHTS = "config.json", "metadata.json", "model.weights.h5"


@functools.cache
def honest() -> dict[str, bytes]:
    """Return the members of the file of a small classifier."""
    classifier = keras.Sequential([keras.Input((2, 2, 1)), keras.layers.Flatten(), keras.layers.Dense(3)])
    with tempfile.TemporaryDirectory() as folder:
        save_classifier(classifier, Path(folder, "a.keras"))
        with zipfile.ZipFile(Path(folder, "a.keras")) as archive:
            return {name: archive.read(name) for name in archive.namelist()}


def archive(folder: Path, members: dict[Any, bytes], name: str = "model.keras", **settings: Any) -> Path:
    """Write a .keras file with these members in place of the honest ones of the same name, None for none."""
    with zipfile.ZipFile(folder / name, "w", **settings) as file:
        for member, content in (honest() | members).items():
            if content is not None:
                file.writestr(member, content)
    return folder / name


# Configurations


def configured(change):
    """Return a builder of a file whose configuration, that of an honest model, is changed in place."""

    def build(folder: Path) -> Path:
        beside(folder)
        config = json.loads(honest()[CONFIG])
        change(config)
        return archive(folder, {CONFIG: json.dumps(config).encode()})

    return build


def with_layer(class_name: str, module: str | None = "keras.layers", registered_name: str | None = None, **settings):
    """Return a builder of a file with one more layer."""

    def change(config: dict[str, Any]) -> None:
        layer = {"class_name": class_name, "config": {"name": "more", **settings}, "registered_name": registered_name}
        config["config"]["layers"].insert(1, layer if module is None else {**layer, "module": module})

    return configured(change)


def function(name: str, module: str = "keras.utils") -> dict[str, Any]:
    return {"class_name": "function", "config": name, "module": module, "registered_name": name}


def of_dense(**settings: Any):
    """Return a builder of a file whose dense layer has other settings."""
    return configured(lambda config: config["config"]["layers"][-1]["config"].update(settings))


@functools.cache
def _marshalled() -> dict[str, Any]:
    layer = keras.layers.Lambda(lambda x: (open("code-of-the-file-ran", "w").close(), x)[1])
    return layer.get_config()["function"]


def lambda_layer(**changes: Any):
    return lambda folder: with_layer("Lambda", **{"function": _marshalled(), **changes})(folder)


def called_with(argument: Any, name: str, module: str):
    """Return a builder of a model that calls a function of Keras's with an argument as it is built."""

    def change(config: dict[str, Any]) -> None:
        inner = {"name": "more", "function": function(name, module), "arguments": {}}
        node = {"args": [], "kwargs": {"inputs": argument}}
        layer = {"class_name": "Lambda", "module": "keras.layers", "registered_name": None, "config": inner}
        layers = [{**layer, "name": "more", "inbound_nodes": [node]}]
        config.clear()
        config |= {"class_name": "Functional", "module": "keras.src.models.functional", "registered_name": "Functional"}
        config["config"] = {"name": "x", "layers": layers, "input_layers": [], "output_layers": [["more", 0, 0]]}

    return configured(change)


def repeated_constant(config: dict[str, Any]) -> None:
    """Have an operation on a constant, which is done as the model is built: 40 GB of it."""
    constant = {"class_name": "__tensor__", "config": {"value": [[1.0]], "dtype": "float32"}}
    layer = {"class_name": "RepeatVector", "module": "keras.layers", "registered_name": None}
    layer |= {"config": {"name": "more", "n": 10**10}, "name": "more"}
    config |= {"class_name": "Functional", "module": "keras.src.models.functional", "registered_name": "Functional"}
    layers = [{**layer, "inbound_nodes": [{"args": [constant], "kwargs": {}}]}]
    config["config"] = {"name": "x", "layers": layers, "input_layers": [], "output_layers": [["more", 0, 0]]}


def saved_model(folder: Path) -> Path:
    class Writes(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None, 2, 2, 1])])
        def serve(self, x):
            tf.io.write_file(MARKER, "")
            return x

    module = Writes()
    tf.saved_model.save(module, folder / "saved", signatures={"serve": module.serve})
    return with_layer("TFSMLayer", filepath="saved", call_endpoint="serve")(folder)


def with_reader_of_files(folder: Path) -> Path:
    (folder / "secret.txt").write_text("a\nb")
    return with_layer("StringLookup", vocabulary="secret.txt")(folder)


def nested(folder: Path) -> Path:
    return archive(folder, {CONFIG: b'{"a":' * 200_000 + b"1" + b"}" * 200_000})


def laughing(config: dict[str, Any]) -> None:
    """Nest ten models, each of which calls the one inside ten times."""
    kind = {"class_name": "Functional", "module": "keras.src.models.functional", "registered_name": "Functional"}
    start = {"class_name": "InputLayer", "module": "keras.layers", "registered_name": None, "name": "in"}
    start |= {"config": {"batch_shape": [None, 4], "name": "in"}, "inbound_nodes": []}
    inner = {"class_name": "ReLU", "module": "keras.layers", "registered_name": None, "config": {"name": "n0"}}
    for depth in range(10):
        name = inner["config"]["name"]
        calls = [[["in", 0, 0]], *([[name, call, 0]] for call in range(9))]
        tensors = [{"shape": [None, 4], "dtype": "float32", "keras_history": of} for (of,) in calls]
        nodes = [{"args": [{"class_name": "__keras_tensor__", "config": of}], "kwargs": {}} for of in tensors]
        layers = [start, {**inner, "name": name, "inbound_nodes": nodes}]
        ends = {"input_layers": [["in", 0, 0]], "output_layers": [[name, 9, 0]]}
        inner = {**kind, "config": {"name": f"n{depth + 1}", "layers": layers, **ends}}
    config.clear()
    config |= inner


def wide(config: dict[str, Any]) -> None:
    layers = config["config"]["layers"]
    for name in ("a", "b"):
        layer = copy.deepcopy(layers[-1])
        layer["config"] |= {"units": 50_000, "name": name}
        layers.insert(2, layer | {"build_config": None})


def many_layers(config: dict[str, Any]) -> None:
    layer = {"class_name": "ReLU", "module": "keras.layers", "config": {}, "registered_name": None}
    config["config"]["layers"][1:1] = [layer] * 20_000


def renamed(name: str, layer: str):
    """Return a builder of a file whose names, if they were printed as they are, would write over the terminal."""

    def build(folder: Path) -> Path:
        return with_layer(layer, module="keras.layers")(folder).rename(folder / name)

    return build


# Reading


def evaluated(path: Path) -> None:
    """Do what an evaluation does before its first attack."""
    images = tf.data.Dataset.from_tensor_slices((np.zeros([128, 2, 2, 1], np.float32), np.zeros([128], np.int32)))
    check_fits(load_classifier(path), images.batch(128), 3)


def absurd(config: dict[str, Any]) -> None:
    """Return 10^9 logits, of few weights."""
    padding = {"class_name": "ZeroPadding1D", "module": "keras.layers", "registered_name": None}
    reshape = {"class_name": "Reshape", "module": "keras.layers", "registered_name": None}
    config["config"]["layers"] += [
        {**reshape, "config": {"target_shape": [3, 1]}},
        {**padding, "config": {"padding": [0, 10**9]}},
        {**reshape, "config": {"target_shape": [10**9 + 3]}},
    ]


def edited(text: str, by: str):
    """Return a builder of a file in whose configuration a text is another one, which JSON may not be able to say."""
    return lambda folder: archive(folder, {CONFIG: honest()[CONFIG].replace(text.encode(), by.encode())})


HONEST_MODELS = {
    "a model": (lambda folder: archive(folder, {}), evaluated),
    "a model, its configuration written again": (configured(lambda config: None), load_classifier),
}

MODELS = {
    # Code
    "a Lambda layer with code": Hostile(lambda_layer(), load_classifier, r"code"),
    "a Lambda layer in the old form": Hostile(lambda_layer(module=None), load_classifier, r"code"),
    "a Lambda layer in the old form, under a name that is registered": Hostile(
        with_layer("Lambda", None, "wmr_tf.weights>Exponential", function=function("relu", "keras.ops")),
        load_classifier,
        "code",
    ),
    "a Lambda's output shape with code": Hostile(
        lambda f: with_layer("Lambda", function=function("relu", "keras.activations"), output_shape=_marshalled())(f),
        load_classifier,
        "code",
    ),
    "a Lambda of get_file": Hostile(
        called_with("http://localhost:1/x", "get_file", "keras.utils"), load_classifier, "code"
    ),
    "a Lambda that turns safe mode off": Hostile(
        called_with(None, "enable_unsafe_deserialization", "keras.config"), load_classifier, "code"
    ),
    "a Lambda that changes Keras's settings": Hostile(
        called_with("float16", "set_floatx", "keras.config"), load_classifier, "code"
    ),
    "a Lambda of load_data": Hostile(
        called_with("../../x.npz", "load_data", "keras.datasets.boston_housing"), load_classifier, "code"
    ),
    "a TFSMLayer": Hostile(saved_model, load_classifier, "code"),
    "a TorchModuleWrapper": Hostile(with_layer("TorchModuleWrapper", module_="x"), load_classifier, "code"),
    "os.system as activation": Hostile(of_dense(activation=function("system", "os")), load_classifier, "code"),
    "a function of subprocess": Hostile(of_dense(activation=function("run", "subprocess")), load_classifier, "code"),
    "a function of Keras that is no activation": Hostile(
        of_dense(activation=function("plot_model", "keras.utils")), load_classifier, "code"
    ),
    "a module beside it": Hostile(with_layer("Evil", "evil"), load_classifier, "code"),
    "a module beside it, registered": Hostile(with_layer("Evil", "evil", "evil>Evil"), load_classifier, "code"),
    "a name of Keras's in a module beside it": Hostile(with_layer("Dense", "evil", units=3), load_classifier, "code"),
    "a class of Keras's that is no layer": Hostile(
        with_layer("KerasFileEditor", "keras.saving", filepath="x"), load_classifier, "code"
    ),
    "a callback in place of a layer": Hostile(
        with_layer("CSVLogger", "keras.callbacks", filename="x.csv"), load_classifier, "code"
    ),
    "a vocabulary that is a file": Hostile(with_reader_of_files, load_classifier, "does not load"),
    # Sizes
    "10^9 units": Hostile(of_dense(units=10**9), load_classifier, "more weights than it holds"),
    "two layers with 10 GB between them": Hostile(configured(wide), load_classifier, "more weights than it holds"),
    "an operation on a constant": Hostile(configured(repeated_constant), load_classifier, "on a constant"),
    "10^9 classes": Hostile(configured(absurd), evaluated, "memory"),
    "a layer that is called 10^10 times": Hostile(configured(laughing), load_classifier, "layers"),
    "20,000 layers": Hostile(configured(many_layers), load_classifier, "parts|layers"),
    "a configuration 200,000 deep": Hostile(nested, load_classifier, "nested too deep"),
    "a number of 5,000 digits": Hostile(edited('"units": 3', f'"units": {"9" * 5000}'), load_classifier, "digits"),
    "a number of 400 digits": Hostile(
        edited('"units": 3', f'"units": {"9" * 400}'), load_classifier, "more weights than it holds"
    ),
    "NaN units": Hostile(edited('"units": 3', '"units": NaN'), load_classifier, "does not load"),
    "a name that writes over the terminal": Hostile(
        renamed("a\x1b[2J\x1b]0;b\x07\nok.keras", "Lambda"), load_classifier, "code"
    ),
    "a layer that writes over the terminal": Hostile(with_layer("Lambda\x1b[2J\nfine"), load_classifier, "code"),
}
