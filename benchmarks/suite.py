"""Measure AutoAttack here against PyTorch's: the same SmallCNN, images and settings, and compare image by image.

.venv-bench/bin/python -m benchmarks.suite --model=runs/NAME/best.keras --data_dir=FOLDER --examples=500

The other sides are the authors' package `autoattack`, if it can be imported (it is not in the package index), and
torchattacks' attacks with the standard's settings; its own AutoAttack takes other ones. `pgd` is this library's PGD, 40
steps of 0.01 with 10 restarts, as a measure of cost; its one accuracy stands last. Each side has a process of its own,
with a thread a core, one after the other. Seconds are those of the whole evaluation, with traces and clean pass.
"""

import argparse
import importlib.util
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import machine
from benchmarks.worker import ENVIRONMENT, ROOT

SIDES = ("wmr_tf", "pgd", "autoattack", "torchattacks")
ATTACKS = ("apgd-ce", "apgd-t", "fab-t", "square")
SEED = 0


def main() -> None:
    """Run each side, print the table and write it."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", required=True, help="a SmallCNN for MNIST, .keras")
    parser.add_argument("--data_dir", help="where tensorflow-datasets keeps MNIST")
    parser.add_argument("--examples", type=int, default=500, help="the first test images")
    parser.add_argument("--epsilon", type=float, default=0.3)
    parser.add_argument("--attacks", default=",".join(ATTACKS), help="which of the standard's, with commas")
    parser.add_argument("--sides", default=",".join(SIDES), help="which, with commas; wmr_tf comes first")
    parser.add_argument("--output", type=Path, default=Path("results/suite_speed.md"))
    parser.add_argument("--busy", action="store_true", help="measure at once, whatever else the machine does")
    parser.add_argument("--side", help=argparse.SUPPRESS)
    parser.add_argument("--exchange", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.side:
        answer(arguments)
        return
    load = machine.wait_until_quiet(arguments.busy, print)
    with tempfile.TemporaryDirectory() as folder:
        arguments.exchange = Path(folder)
        there = [
            name for name in arguments.sides.split(",") if name not in ATTACKS_OF or importlib.util.find_spec(name)
        ]
        found = {name: measured(name, arguments) for name in there}
    text = table(found, arguments, load)
    arguments.output.write_text(text)
    print(text)


def measured(side: str, arguments: argparse.Namespace) -> dict[str, np.ndarray]:
    """Return what a side found, in a process of its own."""
    print(side, flush=True)
    command = [sys.executable, "-m", "benchmarks.suite", *sys.argv[1:], f"--side={side}"]
    command.append(f"--exchange={arguments.exchange}")
    subprocess.run(command, cwd=ROOT, env={**os.environ, **ENVIRONMENT}, check=True)
    return dict(np.load(arguments.exchange / f"{side}.npz"))


def answer(arguments: argparse.Namespace) -> None:
    """Run one side and write its seconds and which images are robust after each attack `[attacks, images]`."""
    given, names = arguments.exchange / "given.npz", arguments.attacks.split(",")
    if arguments.side == "wmr_tf":
        seconds, robust = of_wmr_tf(arguments, names, given)
    elif arguments.side == "pgd":
        seconds, robust = of_pgd(arguments, given)
    else:
        seconds, robust = of_torch(arguments.side, arguments.epsilon, names, given)
    np.savez(arguments.exchange / f"{arguments.side}.npz", seconds=seconds, robust=robust)


def of_wmr_tf(arguments: argparse.Namespace, names: list[str], given: Path) -> tuple[float, np.ndarray]:
    """Run this library, and write weights, images, labels and logits for the others."""
    import wmr_tf
    from wmr_tf import data
    from wmr_tf.evaluation import auto_attack
    from wmr_tf.saving import load_classifier

    wmr_tf.use_all_cores()
    classifier = load_classifier(arguments.model)
    test = data.load("mnist", data_dir=arguments.data_dir).test.unbatch().batch(arguments.examples)
    images, labels = (part.numpy() for part in next(iter(test)))
    weights = {f"weight{place:02d}": weight for place, weight in enumerate(classifier.get_weights())}
    np.savez(given, images=images, labels=labels, logits=classifier.predict(images, verbose=0), **weights)
    start = time.perf_counter()
    result = auto_attack(classifier, (images, labels), epsilon=arguments.epsilon, version=names, seed=SEED, verbose=0)
    seconds = time.perf_counter() - start
    last = {name: run for run, name in enumerate(result.stages)}
    return seconds, np.stack([result.outcomes.robust_after(last[name]) for name in names])


def of_pgd(arguments: argparse.Namespace, given: Path) -> tuple[float, np.ndarray]:
    """Run this library's PGD with restarts."""
    import wmr_tf
    from wmr_tf.attacks import PGD
    from wmr_tf.evaluation import evaluate_robustness
    from wmr_tf.saving import load_classifier

    wmr_tf.use_all_cores()
    classifier, stored = load_classifier(arguments.model), np.load(given)
    attack = PGD(epsilon=arguments.epsilon, step_size=0.01, steps=40, restarts=10)
    start = time.perf_counter()
    result = evaluate_robustness(
        classifier, (stored["images"], stored["labels"]), attack, alpha_test=(), seed=SEED, suite=None, verbose=0
    )
    return time.perf_counter() - start, result.margins[np.newaxis] > 0


def of_torch(library: str, epsilon: float, names: list[str], given: Path) -> tuple[float, np.ndarray]:
    """Run a PyTorch library, attack after attack on those that are still robust."""
    import torch

    from benchmarks.libraries.torch_classifier import small_cnn

    stored = dict(np.load(given))
    network = small_cnn()
    weights = [stored[name] for name in sorted(stored) if name.startswith("weight")]
    with_weights(network, weights)
    images = torch.from_numpy(stored["images"]).permute(0, 3, 1, 2).contiguous()
    labels = torch.from_numpy(stored["labels"]).long()
    with torch.no_grad():
        gap = np.abs(network(images).numpy() - stored["logits"]).max()
    if gap > 1e-3:
        raise ValueError(f"the two networks differ by {gap:.2g} in a logit")
    robust, after = network(images).argmax(1) == labels, []
    start = time.perf_counter()
    for name in names:
        attack = ATTACKS_OF[library](network, epsilon, name)
        attacked = attack(images[robust], labels[robust])
        with torch.no_grad():
            robust[robust.clone()] = network(attacked).argmax(1) == labels[robust]
        after.append(robust.numpy().copy())
    return time.perf_counter() - start, np.stack(after)


def with_weights(network: Any, weights: list[np.ndarray]) -> None:
    """Put Keras's weights into the network of PyTorch, and take it out of training."""
    import torch

    layers = [layer for layer in network if hasattr(layer, "weight")]
    with torch.no_grad():
        for layer, kernel, bias in zip(layers, weights[::2], weights[1::2], strict=True):
            if kernel.ndim == 4:
                kernel = kernel.transpose(3, 2, 0, 1)
            elif kernel.shape[0] == 1024:  # flattened with the channels last there, first here
                kernel = kernel.reshape(4, 4, 64, -1).transpose(2, 0, 1, 3).reshape(1024, -1).T
            else:
                kernel = kernel.T
            layer.weight.copy_(torch.from_numpy(np.ascontiguousarray(kernel)))
            layer.bias.copy_(torch.from_numpy(bias))
    network.eval().requires_grad_(False)


def from_autoattack(network: Any, epsilon: float, name: str) -> Callable[[Any, Any], Any]:
    """Return an attack of the authors' package, of its standard version."""
    from autoattack import AutoAttack

    adversary = AutoAttack(
        network, norm="Linf", eps=epsilon, version="standard", device="cpu", seed=SEED, verbose=False
    )
    adversary.attacks_to_run = [name]
    return lambda images, labels: adversary.run_standard_evaluation(images, labels, bs=250)


def from_torchattacks(network: Any, epsilon: float, name: str) -> Callable[[Any, Any], Any]:
    """Return an attack of torchattacks with the settings of the standard."""
    import torchattacks

    common = {"norm": "Linf", "eps": epsilon, "n_restarts": 1, "seed": SEED}
    return {
        "apgd-ce": lambda: torchattacks.APGD(network, steps=100, loss="ce", **common),
        "apgd-t": lambda: torchattacks.APGDT(network, steps=100, n_classes=10, **common),
        "fab-t": lambda: torchattacks.FAB(network, steps=100, multi_targeted=True, n_classes=10, **common),
        "square": lambda: torchattacks.Square(network, n_queries=5000, **common),
    }[name]()


ATTACKS_OF: dict[str, Callable[..., Any]] = {"autoattack": from_autoattack, "torchattacks": from_torchattacks}


def table(found: dict[str, dict[str, np.ndarray]], arguments: argparse.Namespace, load: str) -> str:
    """Return the Markdown of seconds, accuracies and agreement."""
    names, own = arguments.attacks.split(","), found["wmr_tf"]
    header = ["library", "seconds", "times as long", *(f"after {name} (%)" for name in names), "images that agree (%)"]
    rows = [header, ["---", *["---:"] * (len(header) - 1)]]
    for library, result in found.items():
        accuracies = [f"{100 * robust.mean():.1f}" for robust in result["robust"]]
        accuracies = ["-"] * (len(names) - len(accuracies)) + accuracies
        agree = 100 * np.mean(result["robust"][-1] == own["robust"][-1])
        ratio = result["seconds"] / own["seconds"]
        rows.append([library, f"{result['seconds']:.0f}", f"{ratio:.2f}", *accuracies, f"{agree:.1f}"])
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    facts = [f"- {name}: {value}" for name, value in machine.facts(load).items()]
    command = " ".join(["python -m benchmarks.suite", *sys.argv[1:]])
    head = (
        f"# AutoAttack: speed and agreement\n\n`{command}`: SmallCNN, float32, "
        f"{arguments.examples} test images of MNIST, l-infinity, epsilon {arguments.epsilon:g}, seed {SEED}. "
        "Each attack runs on the images that those before it left.\n"
    )
    return "\n".join([head, *lines, "", *facts]) + "\n"


if __name__ == "__main__":
    main()
