"""
Machines that vanish
====================

Cheap machines are taken away without notice. With one callback, ``wmr.callbacks.ExactResume``, a training that was
killed at any moment goes on when it is started again, and ends with the weights of one that was never stopped. This
guide kills a training in the midst of an epoch, on purpose, and compares.
"""

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

# %%
# A training that may be killed
# -----------------------------
#
# The callback is the only line that a training needs. ``minutes`` is how often a checkpoint is written at most, five by
# default; here it is a fraction of a second, since the training takes only a few. ``enable_op_determinism`` makes two
# runs equal to the last bit; without it they are equal as far as TensorFlow's kernels are.
#
# The rest of the program is for this guide: asked to, it kills itself after some batches, with the signal that no
# program can catch.

PROGRAM = """
import os
import signal
import sys

import keras
import numpy as np
import tensorflow as tf

import wmr_tf as wmr

keras.utils.set_random_seed(0)
tf.config.experimental.enable_op_determinism()


class Vanish(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        if self.model.optimizer.iterations == last_batch:
            os.kill(os.getpid(), signal.SIGKILL)


checkpoints, last_batch = sys.argv[1], int(sys.argv[2])
train, _, _ = wmr.data.load("digits", batch_size=32)
classifier = wmr.architectures.digits_cnn()
attack = wmr.attacks.PGD(epsilon=0.15, step_size=0.05, steps=5)
model = wmr.AdversarialModel(classifier, wmr.methods.PGD(attack, alpha=1.0))
model.compile(keras.optimizers.Adam(1e-3), metrics=["accuracy"])
callbacks = [wmr.callbacks.ExactResume(checkpoints, minutes=0.005), Vanish()]
history = model.fit(train, epochs=3, callbacks=callbacks, verbose=0).history

print("loss by epoch:", *(f"{loss:.6f}" for loss in history["loss"]))
np.savez(f"{checkpoints}.npz", *model.get_weights(), *(v.numpy() for v in model.optimizer.variables))
"""

folder = tempfile.TemporaryDirectory()
Path(folder.name, "training.py").write_text(PROGRAM)


def train(checkpoints, last_batch=-1, check=True):
    how = {"cwd": folder.name, "env": {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2"}, "stdout": subprocess.PIPE}
    command = [sys.executable, "training.py", checkpoints, str(last_batch)]
    return subprocess.run(command, **how, text=True, check=check)


# %%
# Kill it
# -------
#
# An epoch has some thirty batches, so batch 50 is in the midst of the second.

killed = train("stopped", last_batch=50, check=False)
print("killed:", killed.returncode == -signal.SIGKILL)
print("kept:", *sorted(path.name for path in Path(folder.name, "stopped").iterdir()))

# %%
# Go on
# -----
#
# The same command again. It goes on from the newest checkpoint and trains to the end; unless ``verbose=0``, it says
# where from. The history is that of the whole training.

print(train("stopped").stdout)

# %%
# Compare
# -------
#
# Once more from the beginning, without an accident:

print(train("whole").stdout)

with np.load(Path(folder.name, "stopped.npz")) as one, np.load(Path(folder.name, "whole.npz")) as other:
    same = [np.array_equal(one[name], other[name]) for name in other.files]
    print(f"{sum(same)} of {len(same)} arrays of weights and optimizer are equal to the bit")

# %%
# What to know
# ------------
#
# - Data of ``wmr.data.load`` are gone on with exactly. With your own ``tf.data.Dataset`` give every ``shuffle`` a seed.
# - SIGTERM, which most machines send shortly before they vanish, and Ctrl-C write a checkpoint first.
# - A training that has ended is not repeated: ``fit`` returns its history. Another training needs another folder, and
#   is told so.
# - ``on_divergence="rollback"`` also goes back when the loss becomes NaN, with half the learning rate.
# - State of your own callbacks is kept if you name it: ``kept_state = ("best", "wait")``.
#
# The commands do all of this by themselves: start ``wmr train`` again as it was, or ``wmr resume FOLDER``. Put the
# folder on a disk that outlives the machine. :doc:`/BUILD` has the details.

folder.cleanup()
