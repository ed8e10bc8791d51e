"""What is measured: one step of a piece of work, the same images and settings for every library."""

import dataclasses

import numpy as np

SEED = 0
CLASSES = 10
BETA = 6.0
IMAGE_SHAPES = {
    "digits_cnn": (8, 8, 1),
    "small_cnn": (28, 28, 1),
    "resnet18": (32, 32, 3),
    "mobilenet_v3_small": (64, 64, 3),
}
PARAMETERS = {"digits_cnn": 38_314, "small_cnn": 312_202, "resnet18": 11_173_962, "mobilenet_v3_small": 1_528_106}


@dataclasses.dataclass(frozen=True)
class Task:
    """One step of `kind`, and all that it depends on.

    Attributes:
        kind: "trades" or "pgd" (one training step), "attack" (one batch), "evaluation" (a set), "matmul" (one product),
            or a kernel of one layer, as `floor.kernel_rows` names them.
        precision: "float32" or "bfloat16", which is mixed precision: weights, images and losses stay float32.
        size: Images; of "matmul" the rows and columns of its matrices.
        architecture: One of `IMAGE_SHAPES`; none for "matmul".
        epsilon: Radius of the l-infinity ball.
        step_size: Length of a step of the attack.
        steps: Steps of the attack.
    """

    kind: str
    precision: str
    size: int
    architecture: str = ""
    epsilon: float = 0.0
    step_size: float = 0.0
    steps: int = 0

    def images(self) -> np.ndarray:
        """Return float32 `[size, height, width, channels]`, uniform in [0, 1]."""
        shape = (self.size, *IMAGE_SHAPES[self.architecture])
        return np.random.default_rng(SEED).random(shape, np.float32)

    def labels(self) -> np.ndarray:
        """Return int64 `[size]`."""
        return np.random.default_rng(SEED + 1).integers(0, CLASSES, self.size)


def check_attacked(task: Task, attacked: np.ndarray) -> None:
    """Check that attacked images, channels last or first, differ from the clean ones and stay in ball and box."""
    clean = task.images()
    if attacked.shape != clean.shape:
        attacked = np.moveaxis(attacked, 1, -1)
    moved = np.abs(attacked - clean).max()
    if not (0 < moved <= task.epsilon + 1e-5 and attacked.min() >= 0 and attacked.max() <= 1):
        raise ValueError(f"attacked images leave the ball or the box: moved by {moved:.4f}, epsilon {task.epsilon}")
