"""Each method's passes through the network, counted as convolutions in the traced training step.

For each convolution, a pass forward is one `Conv2D`, a pass back to the images one `Conv2DBackpropInput`, and a pass
back to the weights one of these and one `Conv2DBackpropFilter`, but for the first convolution, whose input needs no
gradient. TensorFlow writes down more and drops what nobody reads before it runs; the count drops it too.
"""

from collections import Counter

import keras
import numpy as np
import pytest
import tensorflow as tf

from wmr_tf import architectures, attacks, methods
from wmr_tf.evaluation import RobustnessEvaluator
from wmr_tf.model import AdversarialModel

CONVOLUTIONS = 3
ATTACK = attacks.PGD(epsilon=0.1, step_size=0.05, steps=7)
ONE_STEP = attacks.PGD(epsilon=0.1, step_size=0.125, steps=1)
N_FGSM = attacks.NFGSM(epsilon=0.1)


def _classifier(*, norms: bool = True) -> keras.Model:
    layers = [keras.layers.Conv2D(4, 3, activation="relu", padding="same") for _ in range(CONVOLUTIONS)]
    body = [layer for conv in layers for layer in ([conv, keras.layers.BatchNormalization()] if norms else [conv])]
    return keras.Sequential([keras.Input((8, 8, 3)), *body, keras.layers.Flatten(), keras.layers.Dense(10)])


def _convolutions(concrete, kinds: str | tuple[str, ...] = "Conv2D") -> tuple[Counter, ...]:
    """Return how often each kind of convolution runs outside the loops, in one turn of them, and of those inside."""
    graph = concrete.graph.as_graph_def()
    read = [tensor.op.name for tensor in concrete.graph.outputs]
    read += [operation.name for operation in concrete.graph.get_operations() if operation.op_def.is_stateful]
    functions = {function.signature.name: function for function in graph.library.function}
    outside = _opened(_needed(graph.node, read), functions)
    levels = [outside, _inside(outside, functions)]
    while deeper := _inside(levels[-1], functions):
        levels.append(deeper)
    counts = [Counter(node.op for node in nodes if node.op.startswith(kinds)) for nodes in levels]
    while len(counts) > 2 and not counts[-1]:  # loops without convolutions, such as those of an attack in l1
        counts.pop()
    return tuple(counts)


def _inside(nodes, functions) -> list:
    """Return the nodes in the bodies of the loops among `nodes`, and in the first branch of the conditions."""
    names = [node.attr[kind].func.name for node in nodes for kind in ("body", "then_branch") if kind in node.attr]
    bodies = [functions[name] for name in names]
    read = [[*body.ret.values(), *body.control_ret.values()] for body in bodies]
    return [
        node
        for body, names in zip(bodies, read, strict=True)
        for node in _opened(_needed(body.node_def, names), functions)
    ]


def _opened(nodes, functions) -> list:
    """Return the nodes and those of the functions that they call."""
    called = [functions[node.attr["f"].func.name] for node in nodes if "PartitionedCall" in node.op]
    inside = [_opened(_needed(each.node_def, each.ret.values()), functions) for each in called]
    return [*nodes, *(node for each in inside for node in each)]


def _needed(nodes, read) -> list:
    """Return the nodes that those named in `read` depend on, and these."""
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
        (methods.MART(ATTACK, alpha=2.0), _passes(forward=2, to_weights=2), _passes(forward=1, to_images=1)),
        (methods.Mixed(ATTACK, alpha=0.5), _passes(forward=2, to_weights=2), _passes(forward=1, to_images=1)),
        (methods.Fast(ONE_STEP, alpha=0.5), _passes(forward=1, to_weights=1), _passes(forward=1, to_images=1)),
        (methods.Fast(N_FGSM, alpha=0.5), _passes(forward=2, to_images=1, to_weights=1), Counter()),
    ],
    ids=["natural", "pgd", "trades", "mart", "mixed", "fast", "n_fgsm"],
)
def test_passes_of_a_training_step(method, outside, each_attack_step):
    assert _of_a_training_step(_classifier(), method) == (outside, each_attack_step)


@pytest.mark.parametrize(
    ("method", "outside"),
    [
        (methods.TRADES(ATTACK), _passes(forward=2, to_weights=1)),
        (methods.MART(ATTACK), _passes(forward=1, to_weights=1)),
        (methods.Mixed(ATTACK), _passes(forward=1, to_weights=1)),
    ],
    ids=["trades", "mart", "mixed"],
)
def test_without_batch_norm_clean_and_attacked_images_make_one_pass(method, outside):
    assert _of_a_training_step(_classifier(norms=False), method) == (outside, _passes(forward=1, to_images=1))


def _of_a_training_step(classifier, method, kinds: str | tuple[str, ...] = "Conv2D") -> tuple[Counter, ...]:
    model = AdversarialModel(classifier, method)
    model.compile(optimizer="sgd")
    model.optimizer.build(model.trainable_variables)
    step = tf.function(model.train_step, autograph=False)
    batch = tf.TensorSpec([4, 8, 8, 3]), tf.TensorSpec([4], tf.int32)
    return _convolutions(step.get_concrete_function(batch), kinds)


FIRST = Counter({"Conv2D": 1, "Conv2DBackpropInput": 1})
ATTACK_STEP = _passes(forward=1, to_images=1)


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        # Nothing but replays; each goes back to the weights and, through the first convolution too, to the images.
        (
            methods.Free(attacks.FGSM(0.1), replays=4),
            (Counter(), _passes(forward=1, to_weights=1) + Counter({"Conv2DBackpropInput": 1})),
        ),
        # In a full pass nothing goes back to the images, and the first convolution learns from the moved images, for
        # which it runs again; in the loop inside it is alone.
        (methods.YOPO(ATTACK, passes=4), (Counter(), _passes(forward=1, to_weights=1) + Counter({"Conv2D": 1}), FIRST)),
        # The attack's loop, and the two margins of those that adapt the radii; inside, the loops of these two.
        (
            methods.IAAT(ATTACK, examples=10),
            (_passes(forward=1, to_weights=1), ATTACK_STEP + _passes(forward=2), ATTACK_STEP + ATTACK_STEP),
        ),
    ],
    ids=["free", "yopo", "iaat"],
)
def test_passes_of_methods_with_loops_of_their_own(method, expected):
    method.build((4, 8, 8, 3))
    model = AdversarialModel(_classifier(), method)
    model.compile(optimizer="sgd")
    model.optimizer.build(model.trainable_variables)
    step = tf.function(model.train_step, autograph=False)
    images = {"image": tf.TensorSpec([4, 8, 8, 3]), "index": tf.TensorSpec([4], tf.int32)}
    assert _convolutions(step.get_concrete_function((images, tf.TensorSpec([4], tf.int32)))) == expected


def _attacked_logits(classifier):
    specs = (
        tf.TensorSpec([None, *classifier.input_shape[1:]]),
        *[tf.TensorSpec([None], tf.int32)] * 2,
        tf.TensorSpec([]),
    )
    return RobustnessEvaluator(classifier, ATTACK)._attacked_logits.get_concrete_function(*specs)


def test_passes_of_an_evaluation():
    outside, each_attack_step = _convolutions(_attacked_logits(_classifier()))
    assert outside == _passes(forward=1)
    assert each_attack_step == _passes(forward=1, to_images=1)


def test_passes_of_small_cnn():
    """Four convolutions, two pools, six rectifiers and three dense layers, each once forward and once back."""
    concrete = _attacked_logits(architectures.small_cnn())
    each = {"Conv2D": 4, "MatMul": 3, "MaxPool": 2, "Relu": 6}
    outside, attack_step = _convolutions(concrete, kinds=("Conv2D", "MatMul", "MaxPool", "Relu"))
    assert outside == each
    # Back through the first convolution, of one channel, goes a matrix product (wmr_tf/greyscale.py).
    back = {"Conv2DBackpropInput": 3, "MaxPoolGrad": 2, "ReluGrad": 6}
    assert attack_step == {**each, "MatMul": 3 + 3 + 1, **back}
    # Of a convolution before a pool the pooled pixels are rectified, a quarter of them.
    graph = concrete.graph.as_graph_def()
    bodies = [graph.node, *(function.node_def for function in graph.library.function)]
    makers = [{node.name: node.op for node in body} for body in bodies]
    read = Counter(
        ops[node.input[0].partition(":")[0]]
        for body, ops in zip(bodies, makers, strict=True)
        for node in body
        if node.op == "Relu"
    )
    assert read == {"BiasAdd": 2 * 4, "MaxPool": 2 * 2}  # in the attack and in the scoring


class PassCounter(keras.Layer):
    """Counts how often it runs, rather than how often it is traced."""

    passes = 0

    def _count(self):
        self.passes += 1
        return np.int32(0)

    def call(self, x):
        with tf.control_dependencies([tf.numpy_function(self._count, [], tf.int32)]):
            return tf.identity(x)


def test_the_loop_turns_as_often_as_the_attack_has_steps():
    counter = PassCounter()
    classifier = keras.Sequential([keras.Input((4, 4, 1)), counter, keras.layers.Flatten(), keras.layers.Dense(3)])
    images, labels, positions = tf.fill([2, 4, 4, 1], 0.5), tf.constant([0, 1]), tf.constant([0, 1])
    counter.passes = 0
    RobustnessEvaluator(classifier, ATTACK)._attacked_logits(images, labels, positions, tf.constant(0.0))
    assert counter.passes == ATTACK.steps + 1
    model = AdversarialModel(classifier, methods.PGD(ATTACK))
    model.compile(optimizer="sgd")
    counter.passes = 0
    tf.function(model.train_step, autograph=False)((images, labels))
    assert counter.passes == ATTACK.steps + 1


def test_an_attack_step_reads_no_weight_and_norms_are_fused():
    kinds = ("FusedBatchNorm", "Rsqrt", "ReadVariableOp")
    outside, attack_step = _of_a_training_step(_classifier(), methods.TRADES(ATTACK, alpha=2.0), kinds)
    assert any(name.startswith("FusedBatchNorm") for name in outside) and outside["ReadVariableOp"] > 0
    assert attack_step["Rsqrt"] == attack_step["ReadVariableOp"] == 0
