"""wmr_tf without what makes it fast: Keras's layers as they come, nothing folded, fused, joined or set apart."""

import tensorflow as tf

from benchmarks.libraries.ours import POLICIES, prepare
from wmr_tf.attacks import pgd
from wmr_tf.engine import frozen

__all__ = ["EAGER", "POLICIES", "prepare"]
EAGER = False


def input_gradient(loss_fn, x):
    """Return the gradient of the summed losses, inlined into the attack's loop."""
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(x)
        loss = tf.reduce_sum(loss_fn(x))
    return tape.gradient(loss, x)


frozen._fold = lambda classifier: {}
fused._is_fusable = fused._treats_images_alone = lambda layer: False
pgd.input_gradient = input_gradient
