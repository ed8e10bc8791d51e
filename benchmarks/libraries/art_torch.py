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
from benchmarks.task import BETA, CLASSES, IMAGE_SHAPES, Task

EAGER = True


def prepare(task: Task) -> Callable[[], Any]:
    """Return one step of TRADES."""
    model = build(task)
    images, labels = (tensor.numpy() for tensor in images_and_labels(task))
    trainer = trades_trainer(task, model, torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9), beta=BETA)
    return lambda: trainer.fit(images, labels, batch_size=task.size, nb_epochs=1)


def trades_trainer(
    task: Task, model: torch.nn.Module, optimizer: torch.optim.Optimizer, *, beta: float
) -> AdversarialTrainerTRADESPyTorch:
    """Return the trainer of a model by the attack of a task."""
    height, width, channels = IMAGE_SHAPES[task.architecture]
    classifier = PyTorchClassifier(
        model,
        loss=torch.nn.CrossEntropyLoss(),
        optimizer=optimizer,
        input_shape=(channels, height, width),
        nb_classes=CLASSES,
        clip_values=(0.0, 1.0),
        device_type="cpu",
    )
    return AdversarialTrainerTRADESPyTorch(classifier, pgd(task, classifier), beta=beta)
