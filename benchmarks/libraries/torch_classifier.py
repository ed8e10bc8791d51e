"""The two classifiers in PyTorch, as the public TRADES code has them, and its images."""

import torch
from torch import nn

from benchmarks.task import CLASSES, PARAMETERS, SEED, Task


def build(task: Task) -> nn.Module:
    """Return a new classifier; its last layer is random, since one of zeros would give a gradient of zeros."""
    torch.manual_seed(SEED)
    classifier = Classifier({"small_cnn": small_cnn, "resnet18": resnet18}[task.architecture]())
    parameters = sum(weight.numel() for weight in classifier.parameters())
    if parameters != PARAMETERS[task.architecture]:
        raise ValueError(f"{task.architecture} has {parameters} parameters, not {PARAMETERS[task.architecture]}")
    nn.init.normal_(classifier.layers[-1].weight, std=0.05)
    return classifier


def images_and_labels(task: Task) -> tuple[torch.Tensor, torch.Tensor]:
    """Return float32 `[size, channels, height, width]`, contiguous in that order, and int64 `[size]`."""
    images = torch.from_numpy(task.images()).permute(0, 3, 1, 2).contiguous()
    return images, torch.from_numpy(task.labels())


class Classifier(nn.Module):
    """A network as a module of its own: ART keeps the output of every layer of a bare `nn.Sequential`."""

    def __init__(self, layers: nn.Sequential) -> None:
        super().__init__()
        self.layers = layers

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return logits `[batch, classes]`."""
        return self.layers(images)


def small_cnn() -> nn.Sequential:
    """Return SmallCNN, that of `models/small_cnn.py` in https://github.com/yaodongyu/TRADES."""
    network = nn.Sequential(
        *(nn.Conv2d(1, 32, 3), nn.ReLU(inplace=True), nn.Conv2d(32, 32, 3), nn.ReLU(inplace=True), nn.MaxPool2d(2)),
        *(nn.Conv2d(32, 64, 3), nn.ReLU(inplace=True), nn.Conv2d(64, 64, 3), nn.ReLU(inplace=True), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(1024, 200), nn.ReLU(inplace=True), nn.Dropout(0.5)),
        *(nn.Linear(200, 200), nn.ReLU(inplace=True), nn.Linear(200, CLASSES)),
    )
    for layer in network:
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight)
            nn.init.zeros_(layer.bias)
    return network


def resnet18() -> nn.Sequential:
    """Return ResNet-18 of `models/resnet.py` there, which is that of https://github.com/kuangliu/pytorch-cifar."""
    blocks, channels = [], 64
    for stage, filters in enumerate((64, 128, 256, 512)):
        for stride in (1 if stage == 0 else 2, 1):
            blocks.append(Block(channels, filters, stride))
            channels = filters
    stem = (*conv_bn(3, 64, 3, 1), nn.ReLU())
    return nn.Sequential(*stem, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, CLASSES))


class Block(nn.Module):
    """Two 3x3 convolutions beside a shortcut, which is a 1x1 convolution where the shape changes."""

    def __init__(self, channels: int, filters: int, stride: int) -> None:
        super().__init__()
        first, second = conv_bn(channels, filters, 3, stride), conv_bn(filters, filters, 3, 1)
        self.residual = nn.Sequential(*first, nn.ReLU(), *second)
        changes_shape = stride != 1 or channels != filters
        self.shortcut = nn.Sequential(*conv_bn(channels, filters, 1, stride)) if changes_shape else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the block's output."""
        return torch.relu(self.residual(x) + self.shortcut(x))


def conv_bn(channels: int, filters: int, size: int, stride: int) -> tuple[nn.Module, nn.Module]:
    """Return a padded convolution without bias, and its BatchNorm."""
    return nn.Conv2d(channels, filters, size, stride, size // 2, bias=False), nn.BatchNorm2d(filters)
