"""
A sweep of alpha
================

``alpha_train`` is the power of the attacker that is trained against: each attacked image counts by
``exp(-alpha * margin)``, so that fragile images count more. How much of that is good? This guide trains one network for
each of some values and looks at the result twice: as trained, and at equal confidence.
"""

import keras
import matplotlib.pyplot as plt
import numpy as np

import wmr_tf as wmr
from wmr_tf.evaluation import RobustnessEvaluator, weighted_accuracy

ALPHAS = (0.0, 1.0, 2.0, 4.0)
ALPHA_TEST = 2.0

_, validation, _ = wmr.data.load("digits")
train_attack = wmr.attacks.PGD(epsilon=0.15, step_size=0.05, steps=5)
test_attack = wmr.attacks.PGD(epsilon=0.15, step_size=0.03, steps=10)

# %%
# The sweep
# ---------
#
# All networks start from the same weights and see the same batches: a training data set goes on from epoch to epoch, so
# each training loads its own. There is one network, whose weights are put back, and one evaluator: an
# ``evaluate_robustness`` that may be called again, without tracing its attacks anew. ``normalize=True`` divides the
# weights by their mean over the batch: otherwise a larger alpha would also mean longer steps, and a sweep would compare
# learning rates.
#
# Choose on validation images. Test images are for the one that you have chosen.


keras.utils.set_random_seed(0)
classifier = wmr.architectures.digits_cnn()
initial = classifier.get_weights()
evaluator = RobustnessEvaluator(classifier, test_attack, alpha_test=(), suite="short")


def result_of(alpha):
    classifier.set_weights(initial)
    train, _, _ = wmr.data.load("digits", batch_size=32)
    method = wmr.methods.PGD(train_attack, alpha=wmr.weights.Exponential(alpha, normalize=True))
    model = wmr.AdversarialModel(classifier, method)
    model.compile(keras.optimizers.Adam(2e-3))
    model.fit(train, epochs=6, verbose=0)
    return evaluator(validation, verbose=0)


results = {alpha: result_of(alpha) for alpha in ALPHAS}

# %%
# Equal confidence
# ----------------
#
# ``A_sa`` is the accuracy on attacked images, picked with a probability that depends on the margin, a difference of
# *probabilities*. A network that is less sure of everything has smaller margins in size, the attacker has less to
# choose by, and ``A_sa`` rises. Dividing the logits by a number, a temperature, does that and changes no prediction.
#
# So divide the logits of each network until its mean top probability on clean images is that of the baseline, alpha 0,
# and compute ``A_sa`` again. Predictions, ``A_nat`` and ``A_strong`` stay what they are.

wanted = wmr.temperature.mean_top_probability(results[0.0].logits.clean)


def at_equal_confidence(result):
    logits = result.logits
    scale = 1 / wmr.temperature.temperature_for(logits.clean, wanted)
    margins = wmr.temperature.probability_margins(logits.attacked, logits.labels, scale)
    return weighted_accuracy(margins, ALPHA_TEST)


print(f"{'alpha_train':>11} {'confidence':>11} {'A_nat':>12} {'A_strong':>12} {'A_sa':>12} {'A_sa, equal':>12}")
for alpha, result in results.items():
    confidence = f"{100 * wmr.temperature.mean_top_probability(result.logits.clean):.1f} %"
    found = (result.A_nat, result.A_strong, result.A_sa(ALPHA_TEST), at_equal_confidence(result))
    print(f"{alpha:>11g} {confidence:>11}", *(f"{accuracy!s:>12}" for accuracy in found))

# %%
# ± is one standard error over the images. It says nothing about another seed.

lines = {
    "A_nat": [result.A_nat for result in results.values()],
    "A_strong": [result.A_strong for result in results.values()],
    "A_sa as trained": [result.A_sa(ALPHA_TEST) for result in results.values()],
    "A_sa at equal confidence": [at_equal_confidence(result) for result in results.values()],
}
figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
for number, (name, accuracies) in enumerate(lines.items()):
    values, errors = zip(*((accuracy.value, accuracy.stderr) for accuracy in accuracies), strict=True)
    shifted = np.array(ALPHAS) + 0.04 * number  # so that bars do not hide one another
    axes.errorbar(shifted, values, errors, marker="o", capsize=3, label=name)
axes.set(xlabel="alpha_train", ylabel=f"accuracy, alpha_test {ALPHA_TEST:g}", ylim=(0, 1.02))
figure.legend(loc="outside upper center", ncols=2)
plt.show()

# %%
# What to look for
# ----------------
#
# - **Does A_strong fall with alpha?** What the weights take from the images that are safe, those may miss. If it falls,
#   that is the price, and no ``A_sa`` pays for it by itself.
# - **How much of the rise of A_sa is left at equal confidence?** What is gone there was lower confidence, which a
#   temperature gives you for nothing, without training. What is left is the weights' own.
# - **Does confidence fall with alpha?** On the digits it usually does: that is what the weights do first of all.
#
# On the digits nothing was left of the gain at equal confidence when it was measured over five seeds with longer
# trainings (:doc:`/results/digits`). Expect no more of this plot, which is of one seed, a few epochs and 120 validation
# images: differences within two standard errors mean nothing. What is known elsewhere, and what to choose, is in
# :doc:`/docs/explanation/which-alpha`.
#
# To decide for your data, train each alpha with several seeds and let ``wmr compare`` print differences on the same
# images with intervals, also at equal confidence:
#
# .. code-block:: sh
#
#     for seed in 0 1 2; do for alpha in 0 2; do wmr train digits --alpha_train=$alpha --seed=$seed; done; done
#     wmr compare runs/digits-*
#
# :doc:`05_searching` searches alpha by itself, if you like by ``val_A_sa_matched``, which is ``A_sa`` at a confidence
# that you name.
