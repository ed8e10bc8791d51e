"""
Writing a method
================

A method says how one batch updates the classifier. This guide writes one that the library does not have, adversarial
logit pairing, trains it, and tests it.
"""

import tempfile
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

import wmr_tf as wmr
from wmr_tf.methods import PairMethod, freeze, loss_of_pairs

# %%
# The idea
# --------
#
# Logit pairing (Kannan, Kurakin and Goodfellow 2018) trains on attacked images, as PGD training does, and besides pulls
# the logits of each attacked image towards those of the clean one:
#
# .. code-block:: text
#
#     s(x') * (CE(x', y) + strength * mean((z(x') - z(x))^2))
#
# It is a fair example and no recommendation: as published it was broken by stronger attacks soon after.
#
# The contract
# ------------
#
# - A method is a final class that derives from ``Method``; from ``AdversarialMethod`` if it has an attack and a
#   weighting; from ``PairMethod`` if its update sees each image twice, clean and attacked. It is registered with Keras.
# - What the constructor takes are attributes of the same names. That is how it is saved with the model.
# - ``train_batch(model, batch)`` updates the model and returns logits for the metrics. ``model`` is a classifier with
#   ``descend(batch, loss_fn)``, one optimiser step on the mean of a loss an image. ``batch`` has images, labels and a
#   seed.
# - It is traced into a graph: no Python on values.
# - ``freeze(classifier)`` is the classifier as an attack sees it, with constant weights. ``self.attacked`` attacks the
#   batch, with the weighting in the attack's loss.
# - Optional: ``build`` makes state that lasts from batch to batch (``add_weight``), ``check`` refuses classifiers,
#   ``needs_index`` asks for each image's place in the training set.
#
# The method
# ----------


@keras.saving.register_keras_serializable("guides")
class LogitPairing(PairMethod):
    """Train on attacked images, with their logits near those of the clean ones."""

    def __init__(self, attack, *, strength=0.5, alpha=0.0):
        super().__init__(attack, alpha)
        self.strength = strength

    def train_batch(self, model, batch):
        attacked = self.attacked(freeze(model.classifier), batch)

        def losses_of(clean, logits):
            distance = tf.reduce_mean(tf.square(logits - clean), axis=1)
            losses = wmr.losses.cross_entropy(logits, batch.labels) + self.strength * distance
            return self.weighting.weighted(losses, logits, batch.labels, attacked.withstood)

        return model.descend(batch, loss_of_pairs(model.classifier, batch, attacked.images, losses_of))


# %%
# That is all. The weighting, ``alpha``, comes with it, any attack will do, and so do ``fit``, callbacks, mixed
# precision, several devices and searches.

attack = wmr.attacks.PGD(epsilon=0.15, step_size=0.05, steps=5)


def trained(method, epochs):
    keras.utils.set_random_seed(0)
    train, _, _ = wmr.data.load("digits", batch_size=32)  # it goes on from epoch to epoch: each training has its own
    model = wmr.AdversarialModel(wmr.architectures.digits_cnn(), method)
    model.compile(keras.optimizers.Adam(1e-3), metrics=["accuracy"])
    model.fit(train, epochs=epochs, verbose=0)
    return model


_, validation, _ = wmr.data.load("digits")
for name, method in {"pgd": wmr.methods.PGD(attack), "logit pairing": LogitPairing(attack)}.items():
    model = trained(method, epochs=5)
    print(name)
    print(wmr.evaluate_robustness(model.classifier, validation, attack, suite="short", verbose=0))

# %%
# One seed, few epochs, and a little more than a hundred images: this shows that it trains, not which is better. Look at
# ``A_strong``, and at whether it falls further below ``A_rob`` than that of PGD training: that was what broke the
# method as published.
#
# Test it
# -------
#
# "Accuracy rose" is no test: a method with a wrong sign can train too. Look for a setting in which the result is known.
# Without the pairing it is PGD training, which exists already. After an epoch the weights have to agree up to rounding,
# and with the pairing they may not:


def weights_after_an_epoch(method):
    model = trained(method, epochs=1)
    return np.concatenate([weights.ravel() for weights in model.classifier.get_weights()])


pgd = weights_after_an_epoch(wmr.methods.PGD(attack, alpha=1.0))
for strength in (0.0, 0.5):
    found = weights_after_an_epoch(LogitPairing(attack, strength=strength, alpha=1.0))
    print(f"strength {strength:g}: as PGD training {np.allclose(found, pgd, atol=1e-4)}")

# %%
# And a model that is saved has to come back with its settings:

with tempfile.TemporaryDirectory() as folder:
    model = trained(LogitPairing(attack, strength=0.7, alpha=wmr.weights.KLBall(0.2)), epochs=1)
    model.save(Path(folder, "training.keras"))
    method = keras.models.load_model(Path(folder, "training.keras")).method
print(type(method).__name__, method.strength, method.alpha, method.attack, sep="\n")

# %%
# A method for the library itself gets a name on the command line, recipes and more tests: "How to add something" in
# :doc:`/ARCHITECTURE`. ``wmr_tf/methods/mart.py`` is a short one to read.
