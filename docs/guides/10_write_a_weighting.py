"""
Writing a weighting
===================

A weighting says how much each attacked image counts. The paper's is ``exp(-alpha * margin)``. This guide writes another
one, after the focal loss, tests it by hand, trains with it, and asks what it is worth at equal confidence.
"""

import dataclasses

import keras
import numpy as np
import tensorflow as tf

import wmr_tf as wmr
from wmr_tf.evaluation import RobustnessEvaluator, weighted_accuracy
from wmr_tf.weights import Detached

# %%
# The idea
# --------
#
# The focal loss (Lin et al. 2017) multiplies the cross-entropy of an image by ``(1 - p[y])^power``: images that are
# right for sure count next to nothing. Here the attacked image's probability goes in, and the weights are divided by
# their mean over the batch, so that they do not change the size of the steps.
#
# The contract
# ------------
#
# - A weighting is a frozen dataclass that derives from ``Weighting``, or from ``Detached`` if its weights count as
#   constants: no gradient flows through them, and the attack maximises the loss without them. It is registered with
#   Keras.
# - ``__call__(logits, labels)`` returns the weight of each image, float32 ``[batch]``, not negative. The logits are
#   those of the images that the loss is of.
# - ``needs`` names what else it takes: ``"losses"``, or ``"withstood"``, the fraction of the attack's steps that an
#   image withstood. It then arrives by name.
# - Derived from ``Weighting`` itself, the weights are also in the attack, where no image may depend on another. If they
#   take anything over the batch, such as a mean, define ``of_each_image`` without it.
#
# The weighting
# -------------


@keras.saving.register_keras_serializable("guides")
@dataclasses.dataclass(frozen=True)
class Focal(Detached):
    """`s = (1 - p[y])^power` over its mean in the batch, a constant."""

    power: float = 1.0

    def __call__(self, logits, labels, **known):
        probabilities = tf.nn.softmax(tf.cast(logits, tf.float32))
        of_label = tf.gather(probabilities, labels, batch_dims=1)
        weights = tf.stop_gradient(tf.pow(1.0 - of_label, self.power))
        return tf.math.divide_no_nan(weights, tf.reduce_mean(weights))


# %%
# Test it
# -------
#
# By hand. Two classes with logits 0 and log 3 have probabilities 1/4 and 3/4. For the labels 0 and 1, with power 2, the
# weights before the mean are 9/16 and 1/16, and over their mean 9/5 and 1/5. Labels may also come one-hot from your
# data; the methods have made numbers of them by then.

logits, labels = tf.constant([[0.0, np.log(3.0)]] * 2), tf.constant([0, 1])
print("as by hand:", np.allclose(Focal(2.0)(logits, labels), [9 / 5, 1 / 5]))

# %%
# Power 0 weights all alike; no gradient flows; and a batch whose images are all certain gives no NaN:

print("power 0:", np.allclose(Focal(0.0)(logits, labels), 1))
with tf.GradientTape() as tape:
    tape.watch(logits)
    total = tf.reduce_sum(Focal(2.0)(logits, labels))
print("gradient:", tape.gradient(total, logits))
print("of a certain image:", Focal(2.0)(1e4 * logits[:1], labels[1:]).numpy())

# %%
# And it is saved with the model, since it is a registered dataclass:

config = keras.saving.serialize_keras_object(Focal(2.0))
print(keras.saving.deserialize_keras_object(config))

# %%
# Train with it
# -------------
#
# A weighting is what every adversarial method takes as ``alpha``.

train_attack = wmr.attacks.PGD(epsilon=0.15, step_size=0.05, steps=5)
test_attack = wmr.attacks.PGD(epsilon=0.15, step_size=0.03, steps=10)
WEIGHTINGS = {
    "none": wmr.weights.Uniform(),
    "exponential(2)": wmr.weights.Exponential(2.0, normalize=True),
    "focal(2)": Focal(2.0),
}

keras.utils.set_random_seed(0)
classifier = wmr.architectures.digits_cnn()
initial = classifier.get_weights()
evaluator = RobustnessEvaluator(classifier, test_attack, alpha_test=(), suite="short")

results = {}
for name, weighting in WEIGHTINGS.items():
    classifier.set_weights(initial)
    train, validation, _ = wmr.data.load("digits", batch_size=32)
    model = wmr.AdversarialModel(classifier, wmr.methods.PGD(train_attack, alpha=weighting))
    model.compile(keras.optimizers.Adam(2e-3))
    model.fit(train, epochs=6, verbose=0)
    results[name] = evaluator(validation, verbose=0)

# %%
# What is it worth?
# -----------------
#
# ``A_sa`` goes up when confidence goes down, whatever made it go down, and a weighting that forgets the certain images
# lets confidence go down. So compare at equal confidence too: divide each network's logits until it is as sure of clean
# images as the unweighted one (:doc:`03_which_alpha` explains it).

wanted = wmr.temperature.mean_top_probability(results["none"].logits.clean)
print(f"{'weighting':15} {'A_nat':>12} {'A_strong':>12} {'A_sa':>12} {'A_sa, equal':>12}")
for name, result in results.items():
    scale = 1 / wmr.temperature.temperature_for(result.logits.clean, wanted)
    margins = wmr.temperature.probability_margins(result.logits.attacked, result.logits.labels, scale)
    found = result.A_nat, result.A_strong, result.A_sa(2.0), weighted_accuracy(margins, 2.0)
    print(f"{name:15}", *(f"{accuracy!s:>12}" for accuracy in found))

# %%
# Look at ``A_strong`` first: a weighting has to earn its place there. Then look at what ``A_sa`` gains as trained, and
# what is left of that in the last column. One seed and a hundred-odd images decide nothing; what is left of the rival
# weightings of the literature over several seeds is in :doc:`/results/weightings`.
#
# With a line in ``BY_NAME`` it is ``--weighting=focal:power=2`` on the command line: "How to add something" in
# :doc:`/ARCHITECTURE`.
