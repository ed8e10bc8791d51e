"""Runs a Keras classifier with some of its layers replaced by other functions; the classifier itself is unchanged."""

import inspect
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import keras
import tensorflow as tf
from keras.src.models.functional import Functional

Compute = Callable[[tf.Tensor], tf.Tensor]

# What is private to Keras and used here, since it offers no public way to walk a model's graph: the class `Functional`,
# its `_nodes_by_depth` (with each node's operation, input_tensors and outputs), `_standardize_inputs` and
# `_run_through_graph`; `Sequential._functional`; `Layer._layers` and `_inbound_nodes`; and a tensor's `_keras_mask` and
# `_keras_history`.

_COMPUTING = ("__call__", "call", "_functional", "_standardize_inputs", "_run_through_graph")
"""What calling a model runs."""
_SET_BY_KERAS = {"build", "quantize", "loss"}
"""Methods that Keras itself replaces on each layer or model."""


def run(model: keras.Model, images: tf.Tensor, *, training: bool, instead: Mapping[int, Compute]) -> tf.Tensor:
    """Return `model(images, training=training)` with some layers replaced by other functions.

    Args:
        model: A Keras model with one input. Nothing is replaced in a model that is more than a graph of layers, such as
            a subclassed one.
        images: The input.
        training: Training or inference mode.
        instead: Maps the `id` of a layer to the function to call in its place.
    """
    graph = _graph_of(model)
    if graph is None or not instead:
        return model(images, training=training)

    def operation_fn(operation: Any) -> Callable[..., Any]:
        if id(operation) in instead:
            return instead[id(operation)]
        if _graph_of(operation) is not None:
            return lambda x, **_: run(operation, x, training=training, instead=instead)
        return in_mode(operation, training)

    outputs = graph._run_through_graph(graph._standardize_inputs(images), operation_fn=operation_fn)
    return outputs[0] if isinstance(outputs, list | tuple) else outputs


def layers_once(model: keras.Model) -> Iterator[tuple[Any, Any]]:
    """Yield each layer that the graph calls exactly once, with the layer before it if nothing else reads its output.

    Yields:
        `(layer, before)`, those of nested models too; `before` is None if other layers read it or it is an input.
    """
    yield from _layers_once(model, Counter(_calls(model)))


def _calls(model: keras.Model) -> Iterator[int]:
    """Yield the id of a layer for every call of it, in nested models too."""
    graph = _graph_of(model)
    for node in _nodes_of(graph) if graph else ():
        yield id(node.operation)
        yield from _calls(node.operation)


def _layers_once(model: keras.Model, calls: Mapping[int, int]) -> Iterator[tuple[Any, Any]]:
    graph = _graph_of(model)
    if graph is None:
        return
    nodes = _nodes_of(graph)
    readers = Counter(id(tensor) for node in nodes for tensor in node.input_tensors)
    readers.update(id(tensor) for tensor in graph.outputs)
    maker = {id(tensor): node.operation for node in nodes for tensor in node.outputs}
    for node in nodes:
        if calls[id(node.operation)] > 1:
            continue
        yield from _layers_once(node.operation, calls)
        source = node.input_tensors[0]
        before = maker.get(id(source))
        alone = len(node.input_tensors) == 1 and readers[id(source)] == 1 and before and calls[id(before)] == 1
        yield node.operation, before if alone else None


def layers_in_order(model: keras.Model) -> Iterator[tuple[Any, bool]]:
    """Yield each layer, and whether every path from the input to the output leads through it; nested models opened.

    Yields:
        `(layer, is_only_way)`; False for a layer that the graph calls several times.
    """
    graph = _graph_of(model)
    if graph is None:
        return
    nodes = _nodes_of(graph)
    calls = Counter(id(node.operation) for node in nodes)
    # A path that leads around a node has a tensor that is made before it and read after it.
    last_read = {id(tensor): place for place, node in enumerate(nodes) for tensor in node.input_tensors}
    last_read |= {id(tensor): len(nodes) for tensor in graph.outputs}
    reach = last_read.get(id(graph.inputs[0]), 0)
    for place, node in enumerate(nodes):
        is_only_way = reach <= place and calls[id(node.operation)] == 1
        if _graph_of(node.operation) is None:
            yield node.operation, is_only_way
        for layer, is_only_way_inside in layers_in_order(node.operation):
            yield layer, is_only_way and is_only_way_inside
        reach = max([reach, *(last_read.get(id(tensor), 0) for tensor in node.outputs)])


def output_of(layer: Any, model: keras.Model, images: tf.Tensor) -> tf.Tensor:
    """Return the output of a layer of the graph in inference mode; what follows is traced and pruned."""
    outputs = []

    def compute(*args: Any, **kwargs: Any) -> tf.Tensor:
        outputs.append(in_mode(layer, False)(*args, **kwargs))
        return outputs[-1]

    run(model, images, training=False, instead={id(layer): compute})
    return outputs[0]


def in_mode(layer: Any, training: bool) -> Callable[..., Any]:
    """Return the layer as a function in training or inference mode, regardless of the mode of the call around it."""
    if _takes_training(layer):
        return lambda *args, **kwargs: layer(*args, **{**kwargs, "training": training})
    return layer


def last_call(model: keras.Model) -> tuple[Any, list[Any]]:
    """Return the layer or operation that gives the output of a model that is a graph, and the tensors it is given."""
    operation, node, _ = model.outputs[0]._keras_history
    return operation, operation._inbound_nodes[node].input_tensors


def _nodes_of(graph: Any) -> list[Any]:
    """Return the calls of layers in topological order."""
    nodes = [node for depth in sorted(graph._nodes_by_depth, reverse=True) for node in graph._nodes_by_depth[depth]]
    return [node for node in nodes if not node.is_input]


def operations(model: keras.Model) -> list[Any]:
    """Return all operations of the graph, those of nested models too; an empty list if the model is no graph."""
    graph = _graph_of(model)
    if graph is None:
        return []
    return [inner for each in graph.operations for inner in operations(each) or [each]]


def is_plain(layer: Any, *classes: type) -> bool:
    """Return whether a layer computes what one of these Keras classes does, so that its weights say all about it.

    A subclass may compute something else, and so may a method that was replaced on the layer, a layer that Keras
    quantised, whose kernel holds integers, and one with LoRA.
    """
    return (
        type(layer) in classes
        and not _is_patched(layer)
        and layer.quantization_mode is None
        and not getattr(layer, "lora_enabled", False)
    )


def _graph_of(model: Any) -> Any:
    """Return the graph of layers of a Sequential or Functional model; None if calling the model may do anything else.

    When in doubt it is None, and the model runs as it is.
    """
    if not runs_its_graph(model):
        return None
    graph = model._functional if isinstance(model, keras.Sequential) else model
    if graph is None or len(graph.inputs) != 1 or not all(map(_runs_alone, graph.operations)):
        return None
    has_masks = any(getattr(tensor, "_keras_mask", None) is not None for tensor in _tensors_of(graph))
    return None if has_masks else graph  # what stands in for a layer would not hand them on


def runs_its_graph(model: Any) -> bool:
    """Return whether calling the model does no more than run its graph: look at its own class, not at what it holds."""
    own = keras.Sequential if isinstance(model, keras.Sequential) else Functional
    return (
        isinstance(model, own)
        and all(getattr(type(model), name, None) is getattr(own, name, None) for name in _COMPUTING)
        and not _is_patched(model)
        and model.quantization_mode is None
        and model.activity_regularizer is None
    )


def _runs_alone(operation: Any) -> bool:
    """Return whether a call of the operation by itself computes what it does within the model."""
    # A layer made of layers learns of training mode from the call around it, unless it takes an argument.
    nested = getattr(operation, "_layers", None)
    alone = not nested or _takes_training(operation) or _graph_of(operation) is not None
    return alone and not _is_patched(operation)


def _is_patched(operation: Any) -> bool:
    """Return whether a method of the class has been replaced on the object."""
    names = vars(operation).keys() - _SET_BY_KERAS
    return any(callable(getattr(type(operation), name, None)) for name in names)


def _tensors_of(graph: Any) -> Iterator[Any]:
    for node in _nodes_of(graph):
        yield from node.outputs


def _takes_training(operation: Any) -> bool:
    return "training" in inspect.signature(operation.call).parameters
