"""PyTorch as a competent user writes it, each core with a thread and a share of the batch of its own.

Kernels run in one thread each. Without BatchNorm the update is made of the shares too, whose gradients are summed; with
it the update needs the batch as a whole, and all threads work on each kernel, as in `torch_competent`.
"""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from benchmarks.libraries.torch_competent import LOSSES, Batch, Logits, attack, classifier_and_batch, frozen, logits_of
from benchmarks.task import Task
from benchmarks.worker import CORES

EAGER = True


def prepare(task: Task) -> Callable[[], Any]:
    """Return one step of a task."""
    classifier, batch = classifier_and_batch(task)
    logits = logits_of(task, classifier)
    shares = list(zip(*(tensor.chunk(CORES) for tensor in batch), strict=True))
    pool = ThreadPoolExecutor(CORES, initializer=torch.set_num_threads, initargs=(1,))

    def attacked_shares() -> list[torch.Tensor]:
        return list(pool.map(lambda share: attack(task, logits, share), shares))

    classifier.eval()  # without dropout, whose masks would differ
    check_equal([input_gradient(logits, batch)], [torch.cat([*pool.map(lambda x: input_gradient(logits, x), shares)])])
    if task.kind == "attack":
        classifier.requires_grad_(False)
        return lambda: torch.cat(attacked_shares())
    has_norm = any(isinstance(module, nn.BatchNorm2d) for module in classifier.modules())
    check_update(task, classifier, logits, batch, shares, pool)
    optimizer = torch.optim.SGD(classifier.parameters(), lr=0.01, momentum=0.9)

    def step() -> float:
        with frozen(classifier):
            attacked = attacked_shares()
        if has_norm:
            value = set_gradients(task, classifier, logits, [(torch.cat(attacked), batch)], map)
        else:
            value = set_gradients(task, classifier, logits, zip(attacked, shares, strict=True), pool.map)
        optimizer.step()
        return value

    return step


def set_gradients(
    task: Task,
    classifier: nn.Module,
    logits: Logits,
    parts: Iterable[tuple[torch.Tensor, Batch]],
    apply: Callable[..., Iterable[Any]],
) -> float:
    """Set the gradients of the mean loss over all parts, and return it."""
    parameters = list(classifier.parameters())

    def loss_and_gradients(part: tuple[torch.Tensor, Batch]) -> tuple[float, tuple[torch.Tensor, ...]]:
        attacked, share = part
        loss = LOSSES[task.kind](logits, attacked, share) * (len(attacked) / task.size)
        return loss.item(), torch.autograd.grad(loss, parameters)

    losses, gradients = zip(*apply(loss_and_gradients, parts), strict=True)
    for parameter, *of_parts in zip(parameters, *gradients, strict=True):
        parameter.grad = sum(of_parts[1:], start=of_parts[0])
    return sum(losses)


def input_gradient(logits: Logits, batch: Batch) -> torch.Tensor:
    """Return the gradient of the summed cross-entropy."""
    images = batch[0].clone().requires_grad_()
    return torch.autograd.grad(F.cross_entropy(logits(images), batch[1], reduction="sum"), images)[0]


def check_update(
    task: Task, classifier: nn.Module, logits: Logits, batch: Batch, shares: list[Batch], pool: ThreadPoolExecutor
) -> None:
    """Check that the gradients of the shares sum to that of the whole batch."""
    gradients = []
    for parts, apply in (([batch], map), (shares, pool.map)):
        noisy = [(images.roll(1, -1), (images, labels)) for images, labels in parts]
        set_gradients(task, classifier, logits, noisy, apply)
        gradients.append([parameter.grad for parameter in classifier.parameters()])
    check_equal(*gradients)


def check_equal(whole: list[torch.Tensor], shared: list[torch.Tensor]) -> None:
    """Check that tensors are equal to rounding, to that of bfloat16 at worst."""
    difference = sum((a - b).square().sum() for a, b in zip(whole, shared, strict=True)).sqrt()
    size = sum(a.square().sum() for a in whole).sqrt()
    if not difference <= 0.02 * size:
        raise ValueError(
            f"gradients of the shares differ by {difference:.3g} from the whole batch's, of size {size:.3g}"
        )
