"""YOPO (you only propagate once), weighted or not."""

from typing import Any

import keras
import tensorflow as tf

from wmr_tf import attacks
from wmr_tf.attacks.base import input_gradient
from wmr_tf.checks import at_least, require
from wmr_tf.engine import graph
from wmr_tf.engine.streams import in_parts
from wmr_tf.methods.base import AdversarialMethod, Batch, Learner, unit_gradient, zero_logits
from wmr_tf.weights import Weighting

_CONVOLUTIONS = (keras.layers.Conv1D, keras.layers.Conv2D, keras.layers.Conv3D)


@keras.saving.register_keras_serializable("wmr_tf.methods")
class YOPO(AdversarialMethod):
    """YOPO-m-n: m full passes for each batch, and after each n steps on the images through the first layer only.

    With f0 the network up to its first convolution, included, and p the gradient of `s * CE` by its output,
    `s = exp(-alpha * margin)`, a full pass at x' gives p and the gradient for the weights behind f0; n steps of the
    attack then maximise `<p, f0(x')>`, p held fixed, and the gradient of that at the moved x' is the one for the
    weights of f0. The update descends on the mean of the m gradients for the weights.

    Args:
        attack: Start, steps (n) and step size of the images.
        passes: Full passes for each batch (m), >= 1.
        split: The name of the layer that f0 ends with; None takes the first convolution.
        alpha: Power of the attacker trained against, or a `Weighting`; 0 is the method of Zhang et al.

    Raises:
        InvalidInput: If a number is out of range, the attack is no PGD or restarts; in `AdversarialModel`, if the
            classifier cannot be split there (in `fit`, if it is not built before that).

    Example:
        >>> attack = wmr_tf.attacks.PGD(epsilon=0.031, step_size=0.008, steps=3)
        >>> model = wmr_tf.AdversarialModel(classifier, YOPO(attack, passes=5))

    Cost: m passes forward and back to the first layer's output and the weights behind it at once; the first layer
        m n times forward and back to the images, m times forward and back to its weights.

    Source: Zhang et al. 2019a, Algorithm 1; alpha as in Zeng et al. 2021, Algorithm 1.

    Note: The m gradients are averaged. The paper adds them up and its code divides the learning rate by m; the weight
        decay is that of one step here. As in their code all n steps come after the full pass, and the other weights
        never see the images after the last ones. A convolution with an activation of its own is split off with it.
        p is taken with BatchNorm and dropout in training mode. In the n steps, and for the gradient of its own
        weights, f0 is in inference mode.
    """

    attack: attacks.PGD
    descends = False
    knows = ("losses",)  # there is no attack that goes its way before the update

    def __init__(
        self,
        attack: attacks.PGD,
        *,
        passes: int = 5,
        split: str | None = None,
        alpha: float | Weighting = 0.0,
    ) -> None:
        require(
            isinstance(attack, attacks.PGD) and attack.restarts == 1,
            "attack",
            got=attack,
            expected="a wmr_tf.attacks.PGD without restarts, which would need full passes",
            fix="Pass for instance wmr_tf.attacks.PGD(epsilon=0.031, step_size=0.008, steps=3).",
        )
        passes = at_least("passes", passes, 1)
        super().__init__(attack, alpha, runs=passes)
        fix = "Pass the layer's name, or None for the first convolution."
        require(split is None or isinstance(split, str), "split", got=repr(split), expected="a layer's name", fix=fix)
        self.passes = passes
        self.split = split

    def check(self, classifier: keras.Model) -> None:
        """Look for the layer to split the classifier behind; see `Method.check`."""
        first_layer(classifier, self.split)

    def train_batch(self, model: Learner, batch: Batch) -> tf.Tensor:
        """Pass m times, move the images after each pass, and descend once; see `Method.train_batch`."""
        layer = first_layer(model.classifier, self.split)

        def first(images: tf.Tensor) -> tf.Tensor:
            output = in_parts(lambda part: graph.output_of(layer, model.classifier, part), images)
            return tf.cast(output, tf.float32)

        def full_pass(
            k: tf.Tensor, attacked: tf.Tensor, sums: list[tf.Tensor], _: tf.Tensor
        ) -> tuple[tf.Tensor, tf.Tensor, list[tf.Tensor], tf.Tensor]:
            zero = tf.zeros([tf.shape(attacked)[0], *first(attacked).shape[1:]])
            loss = self.loss_of(model.classifier, attacked, batch, cut=(layer, zero))
            # The gradient by what is added to the first layer's output is that by the output.
            logits, behind, p = model.differentiate(batch, loss, at=zero)
            attacked = moved(attacked, unit_gradient(p))
            with tf.GradientTape() as tape:
                product = tf.reduce_sum(p * first(attacked))
            before = tape.gradient(product, model.classifier.trainable_variables)
            sums = [sum(part for part in parts if part is not None) for parts in zip(sums, behind, before, strict=True)]
            return k + 1, attacked, sums, tf.cast(logits, tf.float32)

        def moved(attacked: tf.Tensor, p: tf.Tensor) -> tf.Tensor:
            def step(k: tf.Tensor, x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
                ascent = input_gradient(lambda x: p * first(x), x)
                return k + 1, self.attack.step(x, ascent, clean=batch.images)

            return tf.while_loop(lambda k, _: k < self.attack.steps, step, (0, attacked))[1]

        start = self.attack.start_near(batch.images, seed=batch.seed)
        nothing_yet = [tf.zeros_like(weight) for weight in model.classifier.trainable_variables]
        loop = (0, start, nothing_yet, zero_logits(model.classifier, start))
        _, _, sums, logits = tf.while_loop(lambda k, *_: k < self.passes, full_pass, loop)
        model.update([total / self.passes for total in sums])
        return logits


def first_layer(classifier: keras.Model, name: str | None = None) -> Any:
    """Return the layer that YOPO splits off together with what comes before it.

    Args:
        classifier: A Functional or Sequential model; nested models are searched too.
        name: The layer's name; None takes the first convolution.

    Raises:
        InvalidInput: If there is none, or not everything goes through it once.
    """
    layers = list(graph.layers_in_order(classifier))
    found = [
        (layer, is_only_way)
        for layer, is_only_way in layers
        if (isinstance(layer, _CONVOLUTIONS) if name is None else layer.name == name)
    ]
    wanted = "a convolution" if name is None else f"a layer named {name!r}"
    require(
        bool(found),
        f"classifier {classifier.name!r}",
        got=f"{len(layers)} layers in a graph, none of them {wanted}",
        expected="a Functional or Sequential model to split behind its first convolution, or behind a named layer",
        fix='Name the layer with split="...", or choose another method.',
    )
    layer, is_only_way = found[0]
    require(
        is_only_way,
        f"layer {layer.name!r}",
        got="a way around it, or several calls",
        expected="a layer that everything goes through once",
        fix='Name another one with split="...", or choose another method.',
    )
    return layer
