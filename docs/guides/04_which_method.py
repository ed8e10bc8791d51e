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

import wmr_tf as wmr
from wmr_tf.evaluation import RobustnessEvaluator

EPSILON, STEPS = 0.15, 5
test_attack = wmr.attacks.PGD(epsilon=EPSILON, step_size=0.03, steps=10)

# %%
# What a batch costs
# ------------------
#
# A pass here is one forward and one back. With k steps of attack, PGD training makes k + 1. TRADES has the clean images
# besides, which is about one and a half more. One step and an update is 2. ``Free`` uses the same gradient for weights
# and images, one pass for each of its replays of a batch. Every method's docstring has its cost, and
# :doc:`/results/costs` what it takes on a clock.

several = wmr.attacks.PGD(epsilon=EPSILON, step_size=0.05, steps=STEPS)
one_step = wmr.attacks.PGD(epsilon=EPSILON, step_size=1.25 * EPSILON, steps=1)
REPLAYS = 4

# The method, passes an epoch (each image once), and how often an epoch trains on each image.
METHODS = {
    "natural": (wmr.methods.Natural, 1),
    "free": (lambda: wmr.methods.Free(wmr.attacks.FGSM(EPSILON), replays=REPLAYS), REPLAYS),
    "fast": (lambda: wmr.methods.Fast(one_step), 2),
    "pgd": (lambda: wmr.methods.PGD(several), STEPS + 1),
    "trades": (lambda: wmr.methods.TRADES(several, beta=3.0), STEPS + 2.5),
}
BUDGET = 36  # passes an image
LOOKS = 3

# %%
# The race
# --------
#
# Each training is stopped a few times on the way for a measurement on validation images, which is not counted: it is
# the same for all. All start from the same weights. ``RobustnessEvaluator`` is an ``evaluate_robustness`` that may be
# called again without tracing its attacks anew.

keras.utils.set_random_seed(0)
classifier = wmr.architectures.digits_cnn()
initial = classifier.get_weights()
evaluator = RobustnessEvaluator(classifier, test_attack, alpha_test=(), suite="short")

curves = {}
for name, (make, passes) in METHODS.items():
    classifier.set_weights(initial)
    train, validation, _ = wmr.data.load("digits", batch_size=32)
    model = wmr.AdversarialModel(classifier, make())
    model.compile(keras.optimizers.Adam(1e-3))
    epochs, done, curves[name] = round(BUDGET / passes), 0, []
    for look in range(1, LOOKS + 1):
        until = round(epochs * look / LOOKS)
        model.fit(train, initial_epoch=done, epochs=until, verbose=0)
        result, done = evaluator(validation, verbose=0), until
        curves[name].append((passes * done, result.A_strong.value))
    print(f"{name:8} {epochs:3} epochs: A_nat {result.A_nat}, A_strong {result.A_strong}")

# %%
# ± is one standard error over the images; another seed moves a result further than that. A budget in seconds is
# ``python -m reproduce.table1 --budget=quarter`` on the command line.

figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
for name, points in curves.items():
    axes.plot(*zip(*points, strict=True), marker="o", label=name)
axes.set(xlabel="passes through the network, an image", ylabel="A_strong on validation images", ylim=(0, 1))
figure.legend(loc="outside right upper")
plt.show()

# %%
# What to look for
# ----------------
#
# - **Where the curves start.** With few passes, ``pgd`` and ``trades`` have seen few batches, and may be behind methods
#   that are weaker in the end. That is where ``free`` and ``fast`` are worth their place.
# - **Where they end.** With a larger budget than this one, methods of many steps usually go on rising when the cheap
#   ones have levelled off. Where lines still rise at the right edge, the race is not over, and its order may change.
# - **Natural training** stays low, however long it lasts. It is the line that every other has to beat.
# - **A curve that drops to 0** is ``fast`` in catastrophic overfitting: the one step no longer finds what several
#   would. Watch ``val_A_strong``, and never trust the accuracy under the attack of the training.
#
# On larger images, passes become dearer and everything else does not: the order under a budget of *passes* is what
# carries over, and not even that without a look. MNIST under a budget of seconds is in :doc:`/results/methods`.
