"""Each method's passes through the network, counted as convolutions in the traced training step.

For each convolution, a pass forward is one `Conv2D`, a pass back to the images one `Conv2DBackpropInput`, and a pass
back to the weights one of these and one `Conv2DBackpropFilter`, but for the first convolution, whose input needs no
gradient. TensorFlow writes down more and drops what nobody reads before it runs; the count drops it too.
"""

from collections import Counter

import keras
import pytest
import tensorflow as tf

from wmr_tf import attacks, methods
from wmr_tf.evaluation import RobustnessEvaluator
from wmr_tf.model import AdversarialModel

CONVOLUTIONS = 3
ATTACK = attacks.PGD(epsilon=0.1, step_size=0.05, steps=7)


def _classifier() -> keras.Model:
    layers = [keras.layers.Conv2D(4, 3, activation="relu", padding="same") for _ in range(CONVOLUTIONS)]
    norms = [keras.layers.BatchNormalization() for _ in layers]
    body = [layer for pair in zip(layers, norms, strict=True) for layer in pair]
    return keras.Sequential([keras.Input((8, 8, 1)), *body, keras.layers.Flatten(), keras.layers.Dense(10)])


def _convolutions(concrete) -> tuple[Counter, Counter]:
    """Returns how often each kind of convolution runs outside the attack's loop and in one turn of it."""
    graph = concrete.graph.as_graph_def()
    read = [tensor.op.name for tensor in concrete.graph.outputs]
    read += [operation.name for operation in concrete.graph.get_operations() if operation.op_def.is_stateful]
    outside = _needed(graph.node, read)
    functions = {function.signature.name: function for function in graph.library.function}
    bodies = [functions[node.attr["body"].func.name] for node in outside if "While" in node.op]
    inside = [node for body in bodies for node in _needed(body.node_def, body.ret.values())]
    return tuple(Counter(node.op for node in nodes if node.op.startswith("Conv2D")) for nodes in (outside, inside))


def _needed(nodes, read) -> list:
    """Returns the nodes that those named in `read` depend on, and these."""
    by_name, needed, names = {node.name: node for node in nodes}, {}, list(read)
    while names:
        name = names.pop().removeprefix("^").partition(":")[0]
        if name in by_name and name not in needed:
            needed[name] = by_name[name]
            names.extend(by_name[name].input)
    return list(needed.values())


def _passes(forward: int, to_images: int = 0, to_weights: int = 0) -> Counter:
    counts = {
        "Conv2D": forward * CONVOLUTIONS,
        "Conv2DBackpropInput": to_images * CONVOLUTIONS + to_weights * (CONVOLUTIONS - 1),
        "Conv2DBackpropFilter": to_weights * CONVOLUTIONS,
    }
    return Counter({name: count for name, count in counts.items() if count})


@pytest.mark.parametrize(
    ("method", "outside", "each_attack_step"),
    [
        (methods.Natural(), _passes(forward=1, to_weights=1), Counter()),
        (methods.PGD(ATTACK, alpha=0.5), _passes(forward=1, to_weights=1), _passes(forward=1, to_images=1)),
        (methods.TRADES(ATTACK, alpha=2.0), _passes(forward=3, to_weights=2), _passes(forward=1, to_images=1)),
    ],
    ids=["natural", "pgd", "trades"],
)
def test_passes_of_a_training_step(method, outside, each_attack_step):
    model = AdversarialModel(_classifier(), method)
    model.compile(optimizer="sgd")
    model.optimizer.build(model.trainable_variables)
    step = tf.function(model.train_step, autograph=False)
    batch = tf.TensorSpec([4, 8, 8, 1]), tf.TensorSpec([4], tf.int32)
    assert _convolutions(step.get_concrete_function(batch)) == (outside, each_attack_step)


def test_passes_of_an_evaluation():
    evaluator = RobustnessEvaluator(_classifier(), ATTACK)
    specs = tf.TensorSpec([None, 8, 8, 1]), *[tf.TensorSpec([None], tf.int32)] * 2, tf.TensorSpec([])
    concrete = evaluator._attacked_margins.get_concrete_function(*specs)
    outside, each_attack_step = _convolutions(concrete)
    assert outside == _passes(forward=1)
    assert each_attack_step == _passes(forward=1, to_images=1)
