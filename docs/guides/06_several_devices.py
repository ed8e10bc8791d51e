"""
Several devices and machines
============================

A ``tf.distribute`` strategy splits each batch over devices. Make classifier, model and optimizer in its scope;
``fit``, the callbacks and ``evaluate_robustness`` do the rest. This guide does it on two virtual devices of one
processor, which is no faster than one device, and shows that nothing else changes.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

# %%
# A program for two devices
# -------------------------
#
# Devices are settled before TensorFlow does anything, so the program runs in a process of its own. On GPUs leave out
# the two lines that make virtual devices: ``MirroredStrategy()`` takes all GPUs that it sees.

PROGRAM = """
import contextlib
import sys

import keras
import tensorflow as tf

import wmr_tf as wmr

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)

strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]) if sys.argv[1] == "two" else None
keras.utils.set_random_seed(0)
train, _, test = wmr.data.load("digits", batch_size=32)     # 32 images a step, on all devices together
attack = wmr.attacks.PGD(epsilon=0.15, step_size=0.05, steps=5, start="none")

with strategy.scope() if strategy else contextlib.nullcontext():
    classifier = wmr.architectures.digits_cnn()
    model = wmr.AdversarialModel(classifier, wmr.methods.PGD(attack))
    model.compile(keras.optimizers.SGD(0.05), metrics=["accuracy"])

losses = model.fit(train, epochs=2, verbose=0).history["loss"]
result = wmr.evaluate_robustness(classifier, test.take(4), attack, suite="short", verbose=0)
print("devices:", strategy.num_replicas_in_sync if strategy else 1)
print("loss by epoch:", *(f"{loss:.3f}" for loss in losses))
print(f"A_nat {result.A_nat}, A_strong {result.A_strong}")
"""

folder = tempfile.TemporaryDirectory()
Path(folder.name, "devices.py").write_text(PROGRAM)


def run(devices):
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2"}
    how = {"cwd": folder.name, "env": environment, "stdout": subprocess.PIPE, "text": True, "check": True}
    print(subprocess.run([sys.executable, "devices.py", devices], **how).stdout)


run("one")
run("two")

# %%
# The two trainings see the same batches. This attack starts on the clean image and so draws no random numbers: the
# losses agree up to rounding, which grows as training goes on, and an image or two of the evaluation may come out
# differently. With a random start each replica draws its own numbers, and the training is another sample of the same
# kind.
#
# - The batch size is that of all devices together, and the learning rate is not scaled: scale it for a larger batch.
# - BatchNorm takes its statistics over the global batch.
# - Methods that keep state between batches, ``Free`` and ``IAAT``, need one device, and say so.
# - ``Exponential(..., normalize=True)`` takes the mean of the weights over each replica's share.
#
# From the command line
# ---------------------
#
# All GPUs of a machine; ``CUDA_VISIBLE_DEVICES`` chooses among them:
#
# .. code-block:: sh
#
#     wmr train cifar10 --method=pgd --strategy=mirrored --batch_size=512
#
# Several machines: the same command on each, with the same seed and data, and in ``TF_CONFIG`` the addresses of all and
# the machine's own index. Every address has to be reachable from every machine.
#
# .. code-block:: sh
#
#     export TF_CONFIG='{"cluster": {"worker": ["10.0.0.1:12345", "10.0.0.2:12345"]},
#                        "task": {"type": "worker", "index": 0}}'
#     wmr train cifar10 --method=pgd --strategy=multi_worker --output_dir=runs/two_machines
#
# In a program of your own, that is ``tf.distribute.MultiWorkerMirroredStrategy()`` in place of the strategy above, and
# a ``tf.data.Dataset`` shuffled with a seed, so that all workers see the same batches. Worker 0 writes. When a worker
# dies the others end with a line that names it; start all again by the same command. What memory and time to expect,
# and what has been tested and what has not (no GPU was there), is in :doc:`/BUILD`. The next guide is about machines
# that vanish: :doc:`07_machines_that_vanish`.

folder.cleanup()
