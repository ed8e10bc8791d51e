"""
Measuring how robust a classifier is
====================================

Four questions, a call for each: how accurate is it under attack, what does the standard suite of attacks say, can the
figures be believed, and how do I show them? What your model and your images have to be, how to choose norm and epsilon,
and what to publish, stands in :doc:`/docs/how-robust-is-my-classifier`.
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
# Two classifiers that come with the package stand for yours. They are the same network, trained without an attacker and
# with one. For the sake of time this guide attacks the first 64 test images; take all of yours.

_, _, test = wmr.data.load("digits", batch_size=64)
test = test.take(1)
plain, hardened = wmr.zoo.load("digits-natural"), wmr.zoo.load("digits-trades")
attack = wmr.attacks.PGD(epsilon=0.15, step_size=0.015, steps=20)

# %%
# How accurate is it under attack?
# --------------------------------
#
# ``evaluate_robustness`` runs the test attack that you name, and then stronger ones on the same images. ``A_strong`` is
# the share of images that none of them breaks: the figure to quote. ± is one standard error. ``radii="fab"`` also
# looks for the smallest change that breaks each image.

results = {
    name: wmr.evaluate_robustness(model, test, attack, alpha_test=(1.0, 2.0), radii="fab", verbose=0)
    for name, model in {"plain": plain, "hardened": hardened}.items()
}
for name, result in results.items():
    print(name, result, result.radii, sep="\n", end="\n\n")

# %%
# Read ``A_nat`` first, then ``A_strong``. A warning that ``A_rob`` is above ``A_strong`` is no fault of the classifier:
# the test attack is only one attack. MASKED would be one. ``A_sa`` and ``A_tr`` are accuracies under an attacker who
# picks fragile images; they move with confidence alone, so compare none before you have read
# :doc:`/docs/explanation/what-a-sa-says`.
#
# The accuracies with an ``alpha`` rest on the few images that this attacker picks, and of 64 images that is next to
# nothing, as the warning says.
#
# A single epsilon says little about another. The radii say what each would have shown:

figure, axes = plt.subplots(figsize=(6, 3.5), layout="constrained")
for name, result in results.items():
    radii = np.sort(result.radii.values)
    axes.step(np.r_[0, radii], np.r_[1, 1 - np.arange(1, len(radii) + 1) / len(radii)], where="post", label=name)
axes.axvline(attack.epsilon, color="grey", linestyle=":", label="epsilon of the test")
axes.set(xlabel="radius (linf)", ylabel="accuracy", xlim=(0, 0.4), ylim=(0, 1.02))
axes.legend()
plt.show()

# %%
# The step at epsilon is what the other attacks broke there. Each curve starts at ``A_nat`` and falls; where it is
# higher, the classifier is more robust *at that radius*. Curves may cross.
#
# What does AutoAttack say?
# -------------------------
#
# AutoAttack is what the field reports. Its random search makes up to 5,000 queries an image, which is most of the time;
# here 32 images will do. The table shows what is left after each attack in turn, with 95 % intervals.

print(wmr.auto_attack(hardened, test, epsilon=attack.epsilon, examples=32, verbose=0))

# %%
# Can it be believed?
# -------------------
#
# A classifier can fool attacks without withstanding them: by random layers, by gradients that vanish, by huge logits.
# ``diagnose`` looks for the known signs. A flag says where to look; the absence of flags proves nothing.

print(wmr.diagnose(hardened, test, epsilon=attack.epsilon, examples=32, verbose=0))

# %%
# And what does it look like when something is wrong? Here the images are rounded before the network sees them. It is no
# more robust, but no gradient comes through:


@keras.saving.register_keras_serializable("guides")
class Rounded(keras.layers.Layer):
    def call(self, images):
        return keras.ops.round(16 * images) / 16


hiding = keras.Sequential([keras.Input([8, 8, 1]), Rounded(), plain])
for flag in wmr.diagnose(hiding, test, epsilon=attack.epsilon, examples=32, verbose=0).flags:
    print(flag["message"])

# %%
# How do I show it?
# -----------------
#
# ``save_report`` writes one page that needs no network: verdict, intervals, curves, classes, the hardest images, all
# settings. Several classifiers stand side by side.

report = Path(folder.name, "report.html")
wmr.save_report(results, report, facts={"dataset": "scikit-learn's digits", "split": "test, the first 64"})
print(f"{report.name}: {report.stat().st_size // 1024} kB")

# %%
# The hardest images are those that break at the smallest radius; above each stands its class and that radius. They tell
# whether the attacker's change is one that you would not notice, which no number does:

images, labels = (np.concatenate(parts) for parts in zip(*test, strict=True))
hardest = np.argsort(results["hardened"].radii.values)[:8]
figure, axes = plt.subplots(1, 8, figsize=(8, 1.5), layout="constrained")
for place, panel in zip(hardest, axes, strict=True):
    panel.imshow(images[place, ..., 0], cmap="gray", vmin=0, vmax=1)
    panel.set_title(f"{labels[place]}: {results['hardened'].radii.values[place]:.2f}", fontsize=9)
    panel.axis("off")
plt.show()

# %%
# From the command line all of this is
# ``wmr evaluate --model=logits.keras --data=FOLDER --suite=standard --diagnose --eval_epsilon=8/255``.

folder.cleanup()
