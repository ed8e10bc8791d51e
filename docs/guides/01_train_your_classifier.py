"""
Robust training of your own classifier
======================================

You have a Keras classifier, perhaps with softmax at its end, and it does well on images that nobody attacks. This guide
trains it on with an attacker, from the weights that it has, and saves a plain Keras model.
"""

import tempfile
from pathlib import Path

import keras
import matplotlib.pyplot as plt
import numpy as np

import wmr_tf as wmr

keras.utils.set_random_seed(0)
folder = tempfile.TemporaryDirectory()

# %%
# Data
# ----
#
# ``fit`` takes what Keras takes: a ``tf.data.Dataset`` of batches, or arrays. Images are float32 in [0, 1], labels
# class numbers. ``wmr.data.load`` has some data sets by name, and takes a folder or an ``.npz`` file of yours as well,
# see :doc:`/docs/your-own-data`. Validation images choose the epoch; test images choose nothing.

train, validation, test = wmr.data.load("digits", batch_size=32)

# %%
# Your classifier
# ---------------
#
# A small network stands for it here, trained as most are: with softmax, and without an attacker.

mine = keras.Sequential(
    [
        keras.Input([8, 8, 1]),
        keras.layers.Conv2D(32, 3, padding="same", activation="relu"),
        keras.layers.MaxPooling2D(),
        keras.layers.Conv2D(64, 3, padding="same", activation="relu"),
        keras.layers.Flatten(),
        keras.layers.Dense(10, activation="softmax"),
    ]
)
mine.compile("adam", "sparse_categorical_crossentropy")
_ = mine.fit(train, epochs=10, shuffle=False, verbose=0)  # the data set shuffles itself

# %%
# Attacks need logits, and say so:

attack = wmr.attacks.PGD(epsilon=0.15, step_size=0.0375, steps=7)
try:
    wmr.AdversarialModel(mine, wmr.methods.PGD(attack))
except wmr.InvalidInput as mistake:
    print(mistake)

# %%
# ``wmr.without_softmax`` returns the same network up to its logits. The two share their weights: whatever trains the
# one trains the other. If you want to keep the old model, clone it first. If yours expects images in [0, 255] or [-1,
# 1], wrap it in ``wmr.with_input_range`` too.

classifier = wmr.without_softmax(mine)
print(wmr.evaluate_robustness(classifier, test, attack, alpha_test=1.0, verbose=0))

# %%
# ``A_nat`` is the accuracy without an attacker, ``A_strong`` what is left of it under the strongest attacks that were
# tried. A network that never saw an attack has a high ``A_nat`` and next to nothing else.
#
# Train it on
# -----------
#
# A *method* says how one batch updates the classifier, and ``AdversarialModel`` runs it in Keras's own ``fit``.
# ``wmr.methods.PGD`` trains on attacked images and has nothing to tune; ``wmr.methods.TRADES`` weighs accuracy on clean
# images against robustness by ``beta``. ``compile`` takes an optimizer and metrics, and no loss: the method has its
# own.
#
# The first attacked batches fool a network that knows no attacker, and the loss is large. If it explodes, take a
# smaller learning rate. If you weight fragile images (``alpha``), take the normalised form for the same reason,
# ``wmr.weights.Exponential(2.0, normalize=True)``.

model = wmr.AdversarialModel(classifier, wmr.methods.PGD(attack))
model.compile("adam", metrics=["accuracy"])

# %%
# Three callbacks. ``RobustEvaluation`` attacks validation images after an epoch and puts ``val_A_nat``, ``val_A_rob``,
# ``val_A_strong`` and more into the logs; it comes first, since the others read them. ``SaveBestClassifier`` keeps the
# classifier of the best epoch. Keras's own work as ever.

best = Path(folder.name, "best.keras")
history = model.fit(
    train,
    epochs=10,
    verbose=0,
    callbacks=[
        wmr.callbacks.RobustEvaluation(validation, attack, examples=100, every=2),
        wmr.callbacks.SaveBestClassifier(best),
        keras.callbacks.CSVLogger(Path(folder.name, "history.csv")),
    ],
)

# %%
# ``loss`` and ``accuracy`` are of the attacked images that the updates saw; epochs that were not evaluated are NaN.

figure, axes = plt.subplots(figsize=(6, 3.5), layout="constrained")
for key in ("accuracy", "val_A_nat", "val_A_rob", "val_A_strong"):
    values = np.array(history.history[key])
    is_there = ~np.isnan(values)
    axes.plot(1 + np.flatnonzero(is_there), values[is_there], marker="o", label=key)
axes.set(xlabel="epoch", ylabel="accuracy", ylim=(0, 1.02))
axes.legend()
plt.show()

# %%
# ``val_A_strong`` rises, and ``val_A_nat`` may give a little for it. If ``val_A_rob`` rises and ``val_A_strong`` does
# not, the classifier hides from the test attack, and you are warned.
#
# Use it
# ------
#
# The file is a plain Keras model of logits. It loads without this package. It remembers no optimizer and no method.

loaded = keras.models.load_model(best)
print(wmr.evaluate_robustness(loaded, test, attack, alpha_test=1.0, verbose=0))

# %%
# And since the weights are shared, ``mine`` is the hardened network of the last epoch, with its softmax. To give it
# those of the best one, set them:

mine.set_weights(loaded.get_weights())
images, labels = next(iter(test))
print("the same predictions:", np.array_equal(np.argmax(mine(images), axis=1), np.argmax(loaded(images), axis=1)))

# %%
# From the command line it is ``wmr train custom --data=FOLDER --classifier=logits.keras --epsilon=8/255``, with the
# classifier that ``without_softmax`` returned above, saved by ``save("logits.keras")``. In a program of your own
# call ``wmr.use_all_cores()`` right after the imports: on a processor it is faster. How far to trust the figures is the
# next guide's subject: :doc:`02_how_robust`.

folder.cleanup()
