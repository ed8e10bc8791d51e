"""PyTorch as the public TRADES code does it: clean logits anew at every step of the attack, default memory format.

Source: the order of operations of `trades_loss` in `trades.py` of https://github.com/yaodongyu/TRADES.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from benchmarks.libraries.torch_classifier import build, images_and_labels
from benchmarks.task import BETA, Task

EAGER = True


def prepare(task: Task) -> Callable[[], Any]:
    """Return one step of TRADES."""
    classifier = build(task)
    images, labels = images_and_labels(task)
    optimizer = torch.optim.SGD(classifier.parameters(), lr=0.01, momentum=0.9)

    def step() -> float:
        with torch.autocast("cpu", torch.bfloat16, enabled=task.precision == "bfloat16"):
            attacked = attack(task, classifier, images)
            optimizer.zero_grad()
            loss = F.cross_entropy(classifier(images), labels)
            loss = loss + BETA / task.size * divergence(classifier, images, attacked)
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def attack(task: Task, classifier: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """Attack the divergence by PGD; the classifier is in training mode again afterwards."""
    classifier.eval()
    attacked = images + 0.001 * torch.randn(images.shape)
    for _ in range(task.steps):
        attacked.requires_grad_()
        (gradient,) = torch.autograd.grad(divergence(classifier, images, attacked), [attacked])
        attacked = attacked.detach() + task.step_size * torch.sign(gradient)
        attacked = torch.min(torch.max(attacked, images - task.epsilon), images + task.epsilon)
        attacked = torch.clamp(attacked, 0.0, 1.0)
    classifier.train()
    return attacked


def divergence(classifier: nn.Module, images: torch.Tensor, attacked: torch.Tensor) -> torch.Tensor:
    """Return the summed KL divergence of attacked from clean probabilities, both computed here."""
    log_q = F.log_softmax(classifier(attacked), dim=1)
    return F.kl_div(log_q, F.softmax(classifier(images), dim=1), reduction="sum")
