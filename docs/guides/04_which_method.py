"""
Which method under which budget of time?
========================================

Nearly all the time of adversarial training goes into passes through the network: forward and back, once for each step
of the attack and once for the update. Methods differ in how many they spend on a batch, so they differ in how many
batches they see in the same time. This guide gives five methods the same number of passes and looks at what each makes
of them.
"""

import keras
import matplotlib.pyplot as plt
import numpy as np

import wmr_tf as wmr

EPSILON, STEPS = 0.15, 7
test_attack = wmr.attacks.PGD(epsilon=EPSILON, step_size=0.03, steps=10)

# %%
# What a batch costs
# ------------------
#
# A pass here is one forward and one back. With k steps of attack, PGD training makes k + 1. TRADES has the clean images
# besides, which is about one and a half more. One step and an update is 2. ``Free`` uses the same gradient for weights
# and images, one pass for each of its replays of a batch. Every method's docstring has its cost, and
# ``results/costs.md`` what it takes on a clock.

several = wmr.attacks.PGD(epsilon=EPSILON, step_size=0.0375, steps=STEPS)
one_step = wmr.attacks.PGD(epsilon=EPSILON, step_size=1.25 * EPSILON, steps=1)
REPLAYS = 4

# The method, passes an epoch (each image once), and how often an epoch trains on each image.
METHODS = {
    "natural": (lambda: wmr.methods.Natural(), 1),
    "free": (lambda: wmr.methods.Free(wmr.attacks.FGSM(EPSILON), replays=REPLAYS), REPLAYS),
    "fast": (lambda: wmr.methods.Fast(one_step), 2),
    "pgd": (lambda: wmr.methods.PGD(several), STEPS + 1),
    "trades": (lambda: wmr.methods.TRADES(several, beta=3.0), STEPS + 2.5),
}
BUDGET = 80  # passes an image
LOOKS = 4

# %%
# The race
# --------
#
# ``RobustEvaluation`` with ``every`` measures ``val_A_strong`` a few times on the way. What it costs is not counted: it
# is the same for all. A budget in seconds instead is ``keras.callbacks.Callback`` with a clock, or, from the command
# line, ``python -m reproduce.table1 --budget=quarter``.

curves = {}
for name, (make, passes) in METHODS.items():
    keras.utils.set_random_seed(0)
    train, validation, _ = wmr.data.load("digits", batch_size=32)
    model = wmr.AdversarialModel(wmr.architectures.digits_cnn(), make())
    model.compile(keras.optimizers.Adam(1e-3))
    epochs = round(BUDGET / passes)
    every = max(1, epochs // LOOKS)
    evaluation = wmr.callbacks.RobustEvaluation(validation, test_attack, examples=96, every=every)
    logs = model.fit(train, epochs=epochs, callbacks=[evaluation], verbose=0).history
    measured = np.flatnonzero(~np.isnan(logs["val_A_strong"]))
    curves[name] = passes * (measured + 1), np.array(logs["val_A_strong"])[measured]
    print(f"{name:8} {epochs:3} epochs, A_nat {logs['val_A_nat'][-1]:.2f}, A_strong {logs['val_A_strong'][-1]:.2f}")

# %%
# The plot has an error too: of 96 images, an accuracy near one half is known to five points or so, and another seed
# moves it further.

figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
for name, (passes, accuracies) in curves.items():
    axes.plot(passes, accuracies, marker="o", label=name)
axes.set(xlabel="passes through the network, an image", ylabel="A_strong on validation images", ylim=(0, 1))
axes.legend()
plt.show()

# %%
# What to look for
# ----------------
#
# - **Where the curves start.** With few passes, ``pgd`` and ``trades`` have seen few batches, and may be behind methods
#   that are weaker in the end. That is where ``free`` and ``fast`` are worth their place.
# - **Where they end.** With a large budget the methods of many steps keep rising, when the cheap ones have levelled
#   off.
# - **Natural training** stays low, however long it lasts. It is the line that every other has to beat.
# - **A curve that drops to 0** is ``fast`` in catastrophic overfitting: the one step no longer finds what several
#   would. Watch ``val_A_strong``, and never trust the accuracy under the attack of the training.
#
# On larger images, passes become dearer and everything else does not: the order under a budget of *passes* is what
# carries over, and not even that without a look. MNIST under a budget of seconds is in ``results/methods.md``.
