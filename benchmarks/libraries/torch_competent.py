"""PyTorch as a competent user writes it: channels last, autocast, and no gradient or pass that is not needed."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from benchmarks.libraries.torch_classifier import build, images_and_labels
from benchmarks.task import BETA, Task

EAGER = True


def prepare(task: Task) -> Callable[[], Any]:
    """Return one step of a task."""
    if task.kind == "matmul":
        return matmul(task)
    classifier = build(task).to(memory_format=torch.channels_last)
    images, labels = images_and_labels(task)
    images = images.to(memory_format=torch.channels_last)

    def logits(x: torch.Tensor) -> torch.Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=task.precision == "bfloat16"):
            return classifier(x).float()

    if task.kind == "attack":
        classifier.eval().requires_grad_(False)
        return lambda: attack_cross_entropy(task, logits, images, labels)
    loss = {"trades": trades_loss, "pgd": pgd_loss}[task.kind]
    optimizer = torch.optim.SGD(classifier.parameters(), lr=0.01, momentum=0.9)

    def step() -> float:
        optimizer.zero_grad()
        value = loss(task, classifier, logits, images, labels)
        value.backward()
        optimizer.step()
        return value.item()

    return step


def trades_loss(task: Task, classifier: nn.Module, logits, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return the loss of TRADES; the clean probabilities of its attack are computed once."""
    with frozen(classifier):
        clean = F.softmax(logits(images), dim=1)
        start = images + 0.001 * torch.randn_like(images)
        attacked = pgd(task, lambda x: F.kl_div(F.log_softmax(logits(x), dim=1), clean, reduction="sum"), images, start)
    clean_logits = logits(images)
    divergence = F.kl_div(F.log_softmax(logits(attacked), dim=1), F.softmax(clean_logits, dim=1), reduction="batchmean")
    return F.cross_entropy(clean_logits, labels) + BETA * divergence


def pgd_loss(task: Task, classifier: nn.Module, logits, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return the cross-entropy of attacked images."""
    with frozen(classifier):
        attacked = attack_cross_entropy(task, logits, images, labels)
    return F.cross_entropy(logits(attacked), labels)


def attack_cross_entropy(task: Task, logits, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Attack the cross-entropy by PGD from a uniform start."""
    start = images + torch.empty_like(images).uniform_(-task.epsilon, task.epsilon)
    return pgd(task, lambda x: F.cross_entropy(logits(x), labels, reduction="sum"), images, start)


def pgd(task: Task, loss, images: torch.Tensor, start: torch.Tensor) -> torch.Tensor:
    """Ascend on the loss; ball and box together are one box."""
    low, high = (images - task.epsilon).clamp(min=0), (images + task.epsilon).clamp(max=1)
    attacked = torch.clamp(start, low, high)
    for _ in range(task.steps):
        attacked.requires_grad_()
        (gradient,) = torch.autograd.grad(loss(attacked), attacked)
        attacked = torch.clamp(attacked.detach() + task.step_size * gradient.sign(), low, high)
    return attacked


@contextlib.contextmanager
def frozen(classifier: nn.Module) -> Iterator[None]:
    """Put the classifier in inference mode, without gradients of its weights, while it is attacked."""
    classifier.eval().requires_grad_(False)
    yield
    classifier.train().requires_grad_(True)


def matmul(task: Task) -> Callable[[], Any]:
    """Return the product of two square matrices."""
    a, b = (torch.randn(task.size, task.size).to(getattr(torch, task.precision)) for _ in range(2))
    return lambda: (a @ b)[0, 0].item()
