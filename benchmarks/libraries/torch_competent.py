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

Batch = tuple[torch.Tensor, torch.Tensor]
Logits = Callable[[torch.Tensor], torch.Tensor]
Loss = Callable[[Logits, torch.Tensor, Batch], torch.Tensor]


def prepare(
    task: Task, compiled: Callable[[nn.Module], nn.Module] = lambda classifier: classifier
) -> Callable[[], Any]:
    """Return one step of a task, with the classifier as `compiled` returns it."""
    if task.kind == "matmul":
        return matmul(task)
    classifier, batch = classifier_and_batch(task)
    logits = logits_of(task, compiled(classifier))
    if task.kind == "attack":
        classifier.eval().requires_grad_(False)
        return lambda: attack(task, logits, batch)
    optimizer = torch.optim.SGD(classifier.parameters(), lr=0.01, momentum=0.9)

    def step() -> float:
        with frozen(classifier):
            attacked = attack(task, logits, batch)
        optimizer.zero_grad()
        value = LOSSES[task.kind](logits, attacked, batch)
        value.backward()
        optimizer.step()
        return value.item()

    return step


def classifier_and_batch(task: Task) -> tuple[nn.Module, Batch]:
    """Return a new classifier, its images and labels, all channels last."""
    images, labels = images_and_labels(task)
    layout = {"memory_format": torch.channels_last}
    return build(task).to(**layout), (images.to(**layout), labels)


def logits_of(task: Task, classifier: nn.Module) -> Logits:
    """Return the classifier as a function in the precision of the task."""

    def logits(x: torch.Tensor) -> torch.Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=task.precision == "bfloat16"):
            return classifier(x).float()

    return logits


def attack(task: Task, logits: Logits, batch: Batch) -> torch.Tensor:
    """Return attacked images: for TRADES on the divergence from the clean probabilities, which are computed once."""
    images, labels = batch
    if task.kind == "trades":
        with torch.no_grad():
            clean = F.softmax(logits(images), dim=1)
        start = images + 0.001 * torch.randn_like(images)
        return pgd(task, lambda x: F.kl_div(F.log_softmax(logits(x), dim=1), clean, reduction="sum"), images, start)
    start = images + torch.empty_like(images).uniform_(-task.epsilon, task.epsilon)
    return pgd(task, lambda x: F.cross_entropy(logits(x), labels, reduction="sum"), images, start)


def pgd(task: Task, loss: Callable[[torch.Tensor], torch.Tensor], images: torch.Tensor, start: torch.Tensor):
    """Ascend on the loss; ball and box together are one box."""
    low, high = (images - task.epsilon).clamp(min=0), (images + task.epsilon).clamp(max=1)
    attacked = torch.clamp(start, low, high)
    for _ in range(task.steps):
        attacked.requires_grad_()
        (gradient,) = torch.autograd.grad(loss(attacked), attacked)
        attacked = torch.clamp(attacked.detach() + task.step_size * gradient.sign(), low, high)
    return attacked


def trades_loss(logits: Logits, attacked: torch.Tensor, batch: Batch) -> torch.Tensor:
    """Return the mean loss of TRADES."""
    images, labels = batch
    clean = logits(images)
    divergence = F.kl_div(F.log_softmax(logits(attacked), dim=1), F.softmax(clean, dim=1), reduction="batchmean")
    return F.cross_entropy(clean, labels) + BETA * divergence


def pgd_loss(logits: Logits, attacked: torch.Tensor, batch: Batch) -> torch.Tensor:
    """Return the mean cross-entropy of attacked images."""
    return F.cross_entropy(logits(attacked), batch[1])


LOSSES: dict[str, Loss] = {"trades": trades_loss, "pgd": pgd_loss}


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
