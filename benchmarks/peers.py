"""Train SmallCNN on MNIST by another library for a given time: the child's side of `studies.time_to_robust`.

.venv-bench/bin/python -m benchmarks.peers trades --images=mnist.npz --seconds=180 --output=weights.npz

The learning rate is the published one, its course fitted to the time: what happens at 55 of 100 epochs happens at 55 %
of the seconds.
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

DROPS = (0.55, 0.75, 0.90)
"""Where TRADES's learning rate drops, ten times each. Its released code only reaches the first."""


def milestones(passed: float) -> float:
    """Return TRADES's learning rate when this part of the time is over: 0.01, less at epochs 55, 75 and 90 of 100."""
    return 0.01 * 0.1 ** sum(passed >= drop for drop in DROPS)


def cyclic(passed: float) -> float:
    """Return the learning rate of fast adversarial training: up to 0.005 at two fifths, then down to 0."""
    return float(np.interp(passed, [0.0, 0.4, 1.0], [0.0, 5e-3, 0.0]))


COURSES: dict[str, Callable[[float], float]] = {"trades": milestones, "fast": cyclic, "art": milestones}
BATCHES = {"trades": 128, "fast": 100, "art": 128}


def train_for(
    seconds: float,
    library: str,
    step: Callable[[np.ndarray, np.ndarray, float], None],
    images: np.ndarray,
    labels: np.ndarray,
    *,
    seed: int,
    clock: Callable[[], float] = time.perf_counter,
) -> int:
    """Make steps on shuffled batches, epoch after epoch, until the time is over; return the number of images."""
    shuffled, size, seen = np.random.default_rng(seed), BATCHES[library], 0
    start = clock()
    while True:
        order = shuffled.permutation(len(labels))
        for places in (order[first : first + size] for first in range(0, len(order), size)):
            passed = (clock() - start) / seconds
            if passed >= 1:
                return seen
            step(images[places].astype(np.float32) / 255, labels[places], COURSES[library](passed))
            seen += len(places)


def main() -> None:
    """Train, and write the weights in Keras's layout beside what is known of the training."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("library", choices=COURSES)
    parser.add_argument("--images", type=Path, required=True, help="uint8 images, and int64 labels (.npz)")
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, required=True, help="the file to write (.npz)")
    arguments = parser.parse_args()
    from benchmarks.libraries import recipes_torch  # here, so that courses are known without PyTorch

    with np.load(arguments.images) as file:
        images, labels = file["images"], file["labels"]
    network, step = recipes_torch.prepare(arguments.library, arguments.seed)
    start = time.perf_counter()
    seen = train_for(arguments.seconds, arguments.library, step, images, labels, seed=arguments.seed)
    facts = {"seconds": time.perf_counter() - start, "images": seen}
    found = recipes_torch.keras_weights(network)
    weights: dict[str, Any] = {f"weight{place}": weight for place, weight in enumerate(found)}
    np.savez(arguments.output, facts=json.dumps(facts), **weights)


if __name__ == "__main__":
    main()
