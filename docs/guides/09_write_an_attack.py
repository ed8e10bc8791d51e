"""
Writing an attack
=================

An attack moves images so that a loss rises. This guide writes one that the library does not have, the Frank-Wolfe
attack, tests it against a closed form, and uses it to measure and to train.
"""

import dataclasses

import keras
import numpy as np
import tensorflow as tf

import wmr_tf as wmr
from wmr_tf.attacks import NORMS, Attack, input_gradient

# %%
# The idea
# --------
#
# PGD makes steps and projects them back into the ball. The Frank-Wolfe attack (Chen, Zhou, Yi and Gu 2020) never leaves
# it: each step goes part of the way towards the point of the ball where the *linearised* loss is largest, ``x <- x + 2
# / (t + 2) * (v - x)`` with ``v = clean + epsilon * direction(gradient)``, cut with [0, 1].
#
# The contract
# ------------
#
# - An attack is a frozen dataclass that derives from ``Attack``, registered with Keras. Its settings are all that it
#   has.
# - It is called as ``attack(loss_fn, x, seed=..., score_fn=..., epsilon=...)``. ``loss_fn`` maps images to the loss of
#   each, ``[batch]``, and is all that it knows: neither model nor labels.
# - It returns images in the ball around ``x`` and in [0, 1], through which no gradient flows (``tf.stop_gradient``).
# - An image's result may not depend on the other images of the batch. ``input_gradient`` is each image's own gradient;
#   random numbers come from ``seed``, one for the batch or one an image.
# - ``epsilon``, if given, is a radius for each image.
# - ``norm`` and ``starts_clean`` say what it is. ``NORMS`` has the ball of each norm, with ``direction`` and
#   ``project``.
#
# The attack
# ----------


@keras.saving.register_keras_serializable("guides")
@dataclasses.dataclass(frozen=True, kw_only=True)
class FrankWolfe(Attack):
    """Go part of the way to the best point of the linearised loss, `steps` times, from the clean image."""

    steps: int
    norm: str = "linf"
    starts_clean = True

    def __call__(self, loss_fn, x, *, seed, score_fn=None, epsilon=None):
        radius = self.epsilon if epsilon is None else tf.reshape(epsilon, [-1] + [1] * (x.shape.rank - 1))
        ball = NORMS[self.norm](x, radius)

        def step(t, attacked):
            gradient = input_gradient(loss_fn, attacked)
            corner = ball.project(x + radius * ball.direction(attacked, gradient))
            rate = 2.0 / (tf.cast(t, tf.float32) + 2.0)
            return t + 1, attacked + rate * (corner - attacked)

        _, attacked = tf.while_loop(lambda t, _: t < self.steps, step, (0, x))
        return tf.stop_gradient(ball.project(attacked))  # it is inside, but for rounding


attack = FrankWolfe(epsilon=0.15, steps=20)
print(attack)

# %%
# Test it
# -------
#
# On a linear loss the best attacked image is known: in linf, every pixel moves by epsilon in the direction of its
# weight, as far as [0, 1] lets it. One step has to find it exactly.

random = np.random.default_rng(0)
images = tf.constant(random.random([16, 8, 8, 1]), tf.float32)
weights = tf.constant(random.normal(size=[8, 8, 1]), tf.float32)


def linear(x):
    return tf.reduce_sum(weights * x, axis=[1, 2, 3])


seed = tf.constant([0, 0])
found = FrankWolfe(epsilon=0.1, steps=1)(linear, images, seed=seed)
best = tf.clip_by_value(images + 0.1 * tf.sign(weights), 0.0, 1.0)
print("closed form:", np.allclose(found, best, atol=1e-6))

# %%
# On any loss it has to stay in the ball and in the box, in every norm, with a radius for each image too; and a batch
# must not matter:

classifier = wmr.zoo.load("digits-trades")
_, validation, test = wmr.data.load("digits", batch_size=64)
digits, labels = next(iter(test))
radii = tf.linspace(0.0, 1.0, len(digits))
LENGTHS = {"linf": lambda change: abs(change).max(axis=1), "l2": lambda change: np.linalg.norm(change, axis=1)}


def loss(x):
    return wmr.losses.cross_entropy(classifier(x), labels)


for norm, length in LENGTHS.items():
    moved = FrankWolfe(epsilon=0.5, steps=5, norm=norm)(loss, digits, seed=seed, epsilon=radii).numpy()
    change = (moved - digits.numpy()).reshape(len(digits), -1)
    in_ball = bool((length(change) <= radii.numpy() + 1e-6).all())
    in_box = bool(moved.min() >= 0 and moved.max() <= 1)
    print(f"{norm}: in the ball {in_ball}, in the box {in_box}, moved {bool(abs(change).max() > 0.01)}")


def loss_of_first(x):
    return wmr.losses.cross_entropy(classifier(x), labels[:1])


alone, together = attack(loss_of_first, digits[:1], seed=seed), attack(loss, digits, seed=seed)[:1]
print("alone as in the batch:", np.allclose(alone, together, atol=1e-4))

# %%
# Measure with it
# ---------------
#
# Wherever an attack is taken, this one is. Compare it with PGD of as many gradients. ``A_strong``, which does not go by
# the test attack alone, tells how good either is: the nearer ``A_rob`` comes to it, the better the attack.

pgd = wmr.attacks.PGD(epsilon=0.15, step_size=0.015, steps=20)
for test_attack in (attack, FrankWolfe(epsilon=0.15, steps=1), pgd):
    print(wmr.evaluate_robustness(classifier, test.take(3), test_attack, suite="short", verbose=0), end="\n\n")

# %%
# One step of it is a weaker attack, and so ``A_rob`` is higher. If it were *much* higher than ``A_strong`` you would
# read MASKED, with the classifier to blame. An attack that is too weak looks just the same: test it first.
#
# Train with it
# -------------
#
# Fewer steps will do. Weighting, saving and several devices come with it.

keras.utils.set_random_seed(0)
train, _, _ = wmr.data.load("digits", batch_size=32)
model = wmr.AdversarialModel(
    wmr.architectures.digits_cnn(), wmr.methods.PGD(FrankWolfe(epsilon=0.15, steps=5), alpha=1.0)
)
model.compile(keras.optimizers.Adam(1e-3))
model.fit(train, epochs=5, verbose=0)
print(wmr.evaluate_robustness(model.classifier, validation, pgd, suite="short", verbose=0))

# %%
# An attack for the library itself: "How to add something" in :doc:`/ARCHITECTURE`.
