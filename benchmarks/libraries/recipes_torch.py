"""SmallCNN trained on MNIST as others publish it, in PyTorch: one step, given images, labels and a learning rate.

- `trades`: the public code of TRADES. SGD with momentum 0.9, batch 128, beta 1, 40 steps of 0.01.
- `fast`: the public code of fast adversarial training, its MNIST part. Adam, batch 100, one step of 0.375 from a
  uniform start. Its network has no dropout; SmallCNN's is off in the attack.
- `art`: the TRADES trainer of the Adversarial Robustness Toolbox with PGD on the cross-entropy, as in its example,
  which is on CIFAR-10: radius, steps, beta, optimizer and batch are those of `trades`.

Sources: `train_trades_mnist.py` in https://github.com/yaodongyu/TRADES, `MNIST/train_mnist.py` in
https://github.com/locuslab/fast_adversarial (Wong, Rice and Kolter, "Fast is better than free", ICLR 2020), and
`examples/adversarial_training_trades.py` in https://github.com/Trusted-AI/adversarial-robustness-toolbox.
"""

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from benchmarks.libraries import torch_trades
from benchmarks.libraries.art_torch import trades_trainer
from benchmarks.libraries.torch_classifier import Classifier, small_cnn
from benchmarks.libraries.torch_competent import frozen
from benchmarks.task import Task

BETA = 1.0
TASK = Task("trades", "float32", 128, "small_cnn", epsilon=0.3, step_size=0.01, steps=40)
FAST_STEP = 0.375

Update = Callable[[torch.Tensor, torch.Tensor], None]
Step = Callable[[np.ndarray, np.ndarray, float], None]


def prepare(library: str, seed: int) -> tuple[nn.Module, Step]:
    """Return a new network, and the function that makes one step on float32 `[batch, height, width, 1]` and labels."""
    torch.manual_seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - ART shuffles by it
    network = Classifier(small_cnn())
    for weight in network.layers[-1].parameters():
        nn.init.zeros_(weight)  # as in the public code
    optimizer, update = RECIPES[library](network)

    def step(images: np.ndarray, labels: np.ndarray, learning_rate: float) -> None:
        for group in optimizer.param_groups:
            group["lr"] = learning_rate
        update(torch.from_numpy(images).permute(0, 3, 1, 2).contiguous(), torch.from_numpy(labels))

    return network, step


def trades(network: nn.Module) -> tuple[torch.optim.Optimizer, Update]:
    """Return the optimizer and the update of TRADES."""
    optimizer = sgd(network)

    def update(images: torch.Tensor, labels: torch.Tensor) -> None:
        attacked = torch_trades.attack(TASK, network, images)
        optimizer.zero_grad()
        divergence = torch_trades.divergence(network, images, attacked) / len(images)
        (F.cross_entropy(network(images), labels) + BETA * divergence).backward()
        optimizer.step()

    return optimizer, update


def fast(network: nn.Module) -> tuple[torch.optim.Optimizer, Update]:
    """Return the optimizer and the update of fast adversarial training."""
    optimizer = torch.optim.Adam(network.parameters())

    def update(images: torch.Tensor, labels: torch.Tensor) -> None:
        noise = torch.empty_like(images).uniform_(-TASK.epsilon, TASK.epsilon).requires_grad_()
        with frozen(network):
            (gradient,) = torch.autograd.grad(F.cross_entropy(network(images + noise), labels), noise)
        moved = (noise.detach() + FAST_STEP * gradient.sign()).clamp(-TASK.epsilon, TASK.epsilon)
        optimizer.zero_grad()
        F.cross_entropy(network((images + moved).clamp(0, 1)), labels).backward()
        optimizer.step()

    return optimizer, update


def art(network: nn.Module) -> tuple[torch.optim.Optimizer, Update]:
    """Return the optimizer and the update of ART's TRADES trainer, which is given one batch at a time."""
    optimizer = sgd(network)
    trainer = trades_trainer(TASK, network, optimizer, beta=BETA)

    def update(images: torch.Tensor, labels: torch.Tensor) -> None:
        trainer.fit(images.numpy(), labels.numpy(), batch_size=len(images), nb_epochs=1)

    return optimizer, update


RECIPES = {"trades": trades, "fast": fast, "art": art}


def sgd(network: nn.Module) -> torch.optim.Optimizer:
    """Return the optimizer of TRADES; the learning rate is set before each step."""
    return torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9)


def keras_weights(network: nn.Module) -> list[np.ndarray]:
    """Return the weights of a SmallCNN in the order and layout of `wmr_tf.architectures.small_cnn`.

    Keras has kernels `[height, width, in, out]` and flattens `[height, width, channels]`; PyTorch has
    `[out, in, height, width]` and flattens `[channels, height, width]`.
    """
    weights = []
    channels = 0  # of the last convolution, until a dense layer has seen its pixels
    for layer in network.layers:
        if isinstance(layer, nn.Conv2d):
            channels = layer.out_channels
            weights += [layer.weight.permute(2, 3, 1, 0), layer.bias]
        elif isinstance(layer, nn.Linear):
            kernel = layer.weight
            if channels:
                side = int((layer.in_features // channels) ** 0.5)
                kernel = kernel.reshape(-1, channels, side, side).permute(0, 2, 3, 1).reshape(kernel.shape)
                channels = 0
            weights += [kernel.T, layer.bias]
    return [weight.detach().numpy() for weight in weights]
