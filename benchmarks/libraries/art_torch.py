"""Adversarial Robustness Toolbox on PyTorch: its TRADES trainer.

The trainer takes any attack, and the one of its documentation is PGD on the cross-entropy: no clean logits are needed
in the attack, which makes a step of it cheaper than one on the divergence.
"""

from collections.abc import Callable
from typing import Any

import torch
from art.defences.trainer import AdversarialTrainerTRADESPyTorch
from art.estimators.classification import PyTorchClassifier

from benchmarks.libraries.art_attack import pgd
from benchmarks.libraries.torch_classifier import build, images_and_labels
from benchmarks.task import BETA, CLASSES, Task

EAGER = True


def prepare(task: Task) -> Callable[[], Any]:
    """Return one step of TRADES."""
    model = build(task)
    images, labels = (tensor.numpy() for tensor in images_and_labels(task))
    classifier = PyTorchClassifier(
        model,
        loss=torch.nn.CrossEntropyLoss(),
        optimizer=torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9),
        input_shape=images.shape[1:],
        nb_classes=CLASSES,
        clip_values=(0.0, 1.0),
        device_type="cpu",
    )
    attack = pgd(task, classifier)
    trainer = AdversarialTrainerTRADESPyTorch(classifier, attack, beta=BETA)
    return lambda: trainer.fit(images, labels, batch_size=task.size, nb_epochs=1)
