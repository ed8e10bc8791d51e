"""
Searching settings
==================

Keras Tuner searches, this library says how good a setting is: ``tuning.RobustHyperModel`` in your own code, or one
command. Either way the search maximises an accuracy on *validation* images, and a setting that only hides from attacks
does not count.
"""

import os
import subprocess
import sys
import tempfile

import keras
import keras_tuner

import tuning
import wmr_tf as wmr

keras.utils.set_random_seed(0)
folder = tempfile.TemporaryDirectory()

train, validation, test = wmr.data.load("digits", batch_size=32)
attack = wmr.attacks.PGD(epsilon=0.15, step_size=0.05, steps=5)
test_attack = wmr.attacks.PGD(epsilon=0.15, step_size=0.03, steps=10)

# %%
# In your own code
# ----------------
#
# ``build`` maps hyperparameters to a compiled model, as for any search with Keras Tuner. What is searched is up to you:
# numbers of the method, the method itself, the optimizer, layers of the network.


def build(hp):
    alpha = wmr.weights.Exponential(hp.Float("alpha_train", 0.0, 2.0), normalize=True)
    model = wmr.AdversarialModel(wmr.architectures.digits_cnn(), wmr.methods.PGD(attack, alpha=alpha))
    model.compile(keras.optimizers.Adam(hp.Float("learning_rate", 1e-3, 3e-3, sampling="log")), metrics=["accuracy"])
    return model


# %%
# ``RobustHyperModel`` adds the evaluation to each trial's ``fit`` and returns the values of the best epoch. The
# objective is a key of the logs, ``val_A_strong`` by default, or a sum such as ``"0.7*val_A_strong+0.3*val_A_nat"``.
# Choose ``val_A_sa`` only with care: it rises as confidence falls, and ``val_A_sa_matched`` does not.

evaluation = wmr.callbacks.RobustEvaluation(validation, test_attack, every=3)
hypermodel = tuning.RobustHyperModel(build, evaluation, objective="0.7*val_A_strong+0.3*val_A_nat")
tuner = keras_tuner.RandomSearch(
    hypermodel, hypermodel.objective, max_trials=2, seed=1, directory=folder.name, project_name="mine"
)
tuner.search(train, epochs=6, verbose=0)

for trial in tuner.oracle.get_best_trials(2):
    values = ", ".join(f"{name} {value:.4g}" for name, value in trial.hyperparameters.values.items())
    print(values, "->", trial.message.splitlines()[-1] if trial.score is None else f"{trial.score:.3f}")

# %%
# A trial that diverged, or whose classifier hid from the test attack in every epoch, has a message instead of a score
# and stands last.
#
# A trial is a training with one seed, so the first of two may be the first by luck. Look at the distance between the
# scores, and at how many images they are of, before you read anything into the order.
#
# The best model is the one of its best epoch:

classifier = tuner.get_best_models()[0].classifier
print(wmr.evaluate_robustness(classifier, test.take(8), test_attack, suite="short", verbose=0))

# %%
# Test images had no part in the choice, so this figure may be quoted. The validation score of the best trial may not:
# it is the best of some.
#
# From the command line
# ---------------------
#
# ``wmr search``, the same as ``python -m tuning.search``, searches any flags of the trainers, with random, Bayesian or
# Hyperband search. ``--search`` takes a range or a choice for each. It ends with a table, a picture of the trade-off,
# the best settings as a command, and one evaluation on test images. Started again, it goes on where it was stopped.
# Here is the end of what it prints:

command = [
    *("tuning.search", "--dataset=digits", "--method=pgd", "--tuner=random", "--max_trials=2", "--epochs=4"),
    *("--search=alpha_train:0:3,learning_rate:0.02/0.05", "--attack_steps=5", "--attack_step_size=0.05"),
    *("--eval_examples=128", "--suite=short", "--radii=none", "--output_dir=search"),
]
environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2"}
how = {"cwd": folder.name, "env": environment, "stdout": subprocess.PIPE, "text": True, "check": True}
run = subprocess.run([sys.executable, "-m", *command], **how)
print("$ python -m", *command)
print(run.stdout[run.stdout.index("| trial") :])

# %%
# Several processes or machines can share a search, and one that dies is replaced; see "A search in several processes"
# in :doc:`/BUILD`.

folder.cleanup()
