"""Measure the time of a training step of each method, relative to PGD training with ten steps.

python -m studies.costs --output=results/costs.md     # two minutes

SmallCNN on a batch of 128 images that is in memory already. The methods take turns, so that what slows the machine for
a moment slows them all. Recipes are those of MNIST, except for the settings in the label.
"""

import dataclasses
import statistics
import time
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from studies.runs import made_by, publish
from studies.settings import Study
from trainers.cli import Command
from trainers.runs import run
from trainers.settings.base import setting
from trainers.settings.config import Experiment
from trainers.settings.network import PRECISIONS
from wmr_tf import report, use_all_cores
from wmr_tf.checks import at_least, one_of

IMAGES = 128
REFERENCE = "pgd, 10 steps"
K10 = {"attack_steps": 10}

# Label, method, settings; passes forward through the network and back for each batch; how often it trains on it.
ROWS: list[tuple[str, str, dict[str, int], str, int]] = [
    ("natural", "natural", {}, "1 + 1", 1),
    ("fast", "fast", {}, "2 + 2", 1),
    ("n_fgsm", "n_fgsm", {}, "2 + 2", 1),
    ("free, 8 replays", "free", {"replays": 8}, "8 + 8", 8),
    ("yopo-5-3", "yopo", {"passes": 5, "attack_steps": 3}, "5 + 5, first layer 20 + 15", 1),
    (REFERENCE, "pgd", K10, "11 + 11", 1),
    ("mixed, 10 steps", "mixed", K10, "12 + 12", 1),
    ("mart, 10 steps", "mart", K10, "12 + 12", 1),
    ("trades, 10 steps", "trades", K10, "13 + 12", 1),
    ("iaat, 10 steps, in its warm-up", "iaat", {**K10, "radius_warmup": 1}, "11 + 11", 1),
    ("iaat, 10 steps", "iaat", {**K10, "radius_warmup": 0}, "33 + 31", 1),
    ("pgd, 40 steps", "pgd", {"attack_steps": 40}, "41 + 41", 1),
]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Costs(Study):
    """How steps are timed."""

    precision: str = setting("Precision of the training.", "bfloat16", choices=PRECISIONS)
    rounds: int = setting("Turns of each method.", 9)
    output: str = setting("The table, as Markdown.", "results/costs.md")

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of("precision", self.precision, PRECISIONS)
        at_least("rounds", self.rounds, 1)

    def use_threads(self) -> None:
        """Give each core its own part of a batch; see `Settings.use_threads`."""
        use_all_cores()


def step_of(precision: str, method: str, settings: dict[str, int]) -> Callable[[], float]:
    """Return one call of the function that `fit` compiles."""
    experiment = Experiment.of("mnist", method, precision=precision, **settings)
    run.seed_everything(experiment)
    model = run.build_model(experiment, examples=IMAGES)
    random = np.random.default_rng(0)
    images = random.random((IMAGES, 28, 28, 1), np.float32)
    labels, index = random.integers(0, 10, IMAGES), np.arange(IMAGES, dtype=np.int32)
    data = tf.data.Dataset.from_tensors(({"image": images, "index": index}, labels))
    model.fit(data, verbose=0)  # as users start it: the method is built and the step is traced
    batches = iter(data.repeat())
    return lambda: float(model.train_function(batches)["loss"])


def timed(step: Callable[[], float]) -> float:
    """Return the seconds of a step, the mean of some where it is short."""
    start, steps = time.perf_counter(), 0
    while steps == 0 or time.perf_counter() - start < 0.2:
        step()
        steps += 1
    return (time.perf_counter() - start) / steps


def measure(study: Costs) -> None:
    """Measure and write the table."""
    steps = [step_of(study.precision, method, settings) for _, method, settings, *_ in ROWS]
    for step in steps:
        step()
    progress = keras.utils.Progbar(study.rounds, unit_name="round")
    seconds: list[list[float]] = [[] for _ in steps]
    for _ in range(study.rounds):
        for step, found in zip(steps, seconds, strict=True):
            found.append(timed(step))
        progress.add(1)
    reference = seconds[[row[0] for row in ROWS].index(REFERENCE)]
    rows = []
    for (label, _, _, passes, replays), found in zip(ROWS, seconds, strict=True):
        ratio = statistics.median(a / b for a, b in zip(found, reference, strict=True))
        per_update = ratio / replays
        milliseconds = f"{1000 * statistics.median(found):.0f} ({1000 * min(found):.0f} to {1000 * max(found):.0f})"
        rows.append([label, passes, milliseconds, f"{ratio:.2f}", f"{per_update:.2f}"])
    header = ["method", "passes (forward + back)", "ms a batch", "against PGD-10", "and for each time it is trained on"]
    sections = [
        "# The cost of a training step",
        f"{made_by('studies.costs')}. SmallCNN, {IMAGES} images, "
        f"{study.precision}, {study.rounds} rounds in turns: median, and range; ratios are medians of those within a "
        "round. Without BatchNorm, TRADES, MART and mixed train on clean and attacked images in one pass, counted as "
        "two here. Free trains on each batch as often as it replays it, and so needs as many fewer epochs.",
        report.format_table(header, rows, markdown=True),
    ]
    publish(sections, study.page)


if __name__ == "__main__":
    Command(Costs, measure)()
