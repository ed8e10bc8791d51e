"""How robust is SmallCNN after minutes of training on MNIST, by this library and by its peers on the same machine?

make .venv-bench/.installed
.venv-bench/bin/python -m studies.time_to_robust --minutes=3,10 --data_dir=FOLDER

Trains `trainers.mnist --recipe=fast`, for as many epochs as fit by the speed of two short trainings before it, and
in PyTorch the public recipes of TRADES, of fast adversarial training and of ART's TRADES trainer
(`benchmarks/libraries/recipes_torch.py`), each for the same minutes of a quiet machine, its learning rate fitted to
them. All weights become Keras files and are scored by the same attack and suite. What is finished is kept in --runs,
and a study that was stopped goes on there. With --libraries=wmr_tf it is the curve of this library alone, and runs in
any environment.
"""

import dataclasses
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from reproduce.budgets import Minutes
from reproduce.passes import DATA, passes_of
from reproduce.processes import run
from reproduce.results import trained_seconds
from reproduce.rows import Model
from studies.runs import made_by, publish
from studies.settings import DataStudy
from trainers.cli import Command, as_flag
from trainers.runs.folder import BEST
from trainers.runs.naming import shown_attack
from trainers.runs.testing import first_images
from trainers.settings.base import setting
from trainers.settings.config import Experiment
from trainers.settings.recipes import FAST
from wmr_tf import architectures, data, report
from wmr_tf.checks import at_least, one_of, positive, require
from wmr_tf.checks import seed as checked_seed
from wmr_tf.engine import machine
from wmr_tf.evaluation import evaluate_robustness
from wmr_tf.names import SUITES
from wmr_tf.report.figures import COLOURS, write_figure
from wmr_tf.report.rounding import with_interval
from wmr_tf.report.words import MASKED
from wmr_tf.saving import load_classifier, read_json, save_classifier, write_json, written_whole

WMR_TF = "wmr_tf"
PEERS = {"trades": "TRADES, public recipe", "fast": "fast AT, public recipe", "art": "ART's TRADES trainer"}
LIBRARIES = {WMR_TF: "wmr_tf, --recipe=fast", **PEERS}
FIGURES = ("A_nat", "A_rob", "A_strong", "A_sa")
ALPHA = 2.0
"""alpha_train of wmr_tf, and alpha_test."""

PILOTS = (1_280, 10_240)
"""How many images the short trainings have by which the speed of this library is measured."""

_APART = 0.006
"""Between two lines of the picture, as a part of its width, so that their bars stand side by side."""

ROOT = Path(__file__).resolve().parents[1]

_FIX = "Delete the file: the row is made again."


@dataclasses.dataclass(frozen=True, kw_only=True)
class Race(DataStudy):
    """What is trained for how long, and how it is scored."""

    libraries: tuple[str, ...] = setting("Who trains, with commas.", tuple(LIBRARIES), choices=LIBRARIES)
    minutes: tuple[float, ...] = setting("Minutes of training, with commas.", (3.0, 10.0))
    suite: str = setting("Version of AutoAttack.", "standard", choices=SUITES)
    examples: int = setting("How many test images to score, the first ones.", 1000)
    seed: int = setting("Seed of all trainings and attacks.", 0)
    runs: str = setting("Folder of the trained models, finished ones are kept.", "runs/time_to_robust")
    output: str = setting("The table, as Markdown; the picture goes beside it.", "results/time_to_robust.md")

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in self.libraries:
            one_of("libraries", name, LIBRARIES)
        fix = "Write --minutes=3,10."
        require(bool(self.minutes), "minutes", got="nothing", expected="numbers with commas between them", fix=fix)
        for each in self.minutes:
            positive("minutes", each)
        one_of("suite", self.suite, SUITES)
        at_least("examples", self.examples, 1)
        checked_seed(self.seed)

    def check_place(self) -> None:
        """Check also that the peers are installed; see `DataStudy.check_place`."""
        super().check_place()
        needed = ("torch", "art") if set(self.libraries) & set(PEERS) else ()
        missing = [name for name in needed if importlib.util.find_spec(name) is None]
        fix = "Run make .venv-bench/.installed, then .venv-bench/bin/python -m studies.time_to_robust."
        require(not missing, "environment", got=f"no {', '.join(missing)}", expected="the one of make bench", fix=fix)


def race(settings: Race) -> None:
    """Train and score what is missing, and write table and picture."""
    splits = data.load("mnist", data_dir=settings.data_dir)
    cases = [(name, minutes) for minutes in settings.minutes for name in settings.libraries]
    for case in cases:  # first all that is timed: scoring may share the machine
        train(settings, splits, *case)
    rows = [row(settings, splits, *case) for case in cases]
    output = Path(settings.output)
    publish(sections(rows, settings, output.with_suffix(".png").name), output)
    attack = shown_attack(Experiment.of("mnist").test_attack().describe())
    strong = f"A_strong: suite {settings.suite} too; alpha_test {ALPHA:g}"
    title = f"mnist, {settings.examples:,} test images, {attack}; {strong}"
    draw(rows, output.with_suffix(".png"), title=title)


def train(settings: Race, splits: data.Splits, library: str, minutes: float) -> tuple[Path, dict[str, Any]]:
    """Return the model file of a library after so many minutes, and what is known of it, trained unless it is there."""
    stem = Path(settings.runs) / f"{library}-{minutes:g}-seed{settings.seed}"
    model, trained = stem.with_name(f"{stem.name}.keras"), stem.with_name(f"{stem.name}.training.json")
    stem.parent.mkdir(parents=True, exist_ok=True)
    if not trained.exists():
        print(f"{LIBRARIES[library]}: {minutes:g} minutes", flush=True)
        by = train_wmr_tf if library == WMR_TF else train_peer
        write_json(trained, by(settings, splits, library, minutes, model))  # last: it says that the model is there
    return model, read_json(trained, "row", fix=_FIX)


def row(settings: Race, splits: data.Splits, library: str, minutes: float) -> dict[str, Any]:
    """Return what a library reaches in so many minutes, training and scoring it unless that has been done."""
    model, known = train(settings, splits, library, minutes)
    scored = model.with_suffix(".json")
    wanted = {"library": library, "minutes": minutes, "suite": settings.suite, "examples": settings.examples}
    if scored.exists():
        found = read_json(scored, "row", fix=_FIX)
        if {name: found.get(name) for name in wanted} == wanted:
            return found
    print(f"{LIBRARIES[library]}: scoring", flush=True)
    result = evaluate_robustness(
        load_classifier(model),
        first_images(splits.test, settings.examples),
        Experiment.of("mnist").test_attack(),
        alpha_test=[ALPHA],
        seed=settings.seed,
        suite=settings.suite,
        radii=None,
    )
    metrics = result.metrics()
    metrics |= metrics["non_uniform"][0]
    shown = {name: metrics[name] for figure in FIGURES for name in (figure, f"{figure}_interval")}
    found = {**wanted, **known, **shown, "masked": metrics["masked"]}
    write_json(scored, found)
    return found


def train_wmr_tf(settings: Race, splits: data.Splits, library: str, minutes: float, model: Path) -> dict[str, Any]:
    """Train by this library into a model file, for as many epochs as fit, and return what is known of it.

    The weights are those of the last epoch: none but it and the first is evaluated.
    """
    del library
    paid = passes_within(settings, minutes) / 60 / DATA["mnist"].first[1]  # in minutes of the reference machine
    made = Minutes("race", paid).settings_of(Model("mnist", "trades", ALPHA))
    flags = {**made, "eval_every": made["epochs"], "alpha_train": ALPHA}
    log = train_by_command(settings, model.with_suffix(""), flags)
    with written_whole(model) as unfinished:
        shutil.copyfile(model.with_suffix("") / BEST, unfinished)
    assert splits.train_examples is not None  # which `data.load` sets
    epochs = made["epochs"] * made["train_examples"] / splits.train_examples
    return {"seconds": trained_seconds(log), "epochs": epochs}


def passes_within(settings: Race, minutes: float) -> float:
    """Return how many passes this machine makes in so many minutes of training, tracing and compiling among them.

    By two short trainings of the same recipe, made once: what a training takes to begin, and its passes a second.
    """
    file = Path(settings.runs) / "pilots.json"
    if not file.exists():
        write_json(file, {"pilots": [pilot(settings, images) for images in PILOTS]})
    (few, short), (many, long) = read_json(file, "pilots", fix=_FIX)["pilots"]
    rate = (many - few) / (long - short)
    begin = short - few / rate
    return max(0.0, 60 * minutes - begin) * rate


def pilot(settings: Race, images: int) -> tuple[int, float]:
    """Return the passes and the seconds of a training by the recipe, once through so few images."""
    flags = {"recipe": FAST, "epochs": 1, "train_examples": images, "validation_examples": 100}
    log = train_by_command(settings, Path(settings.runs) / f"pilot-{images}", flags)
    seconds = trained_seconds(log)
    assert seconds is not None  # it has an epoch
    return passes_of(Experiment.of("mnist", "trades", **flags)), seconds


def train_by_command(settings: Race, folder: Path, flags: Mapping[str, Any]) -> str:
    """Train on MNIST by the trainer, which goes on where it was stopped, and return what it printed, all times."""
    few = {"suite": "short", "radii": "none", "eval_examples": 100}  # what counts is measured here, the same for all
    place = {} if settings.data_dir is None else {"data_dir": settings.data_dir}
    given = {**flags, **few, **place, "seed": settings.seed, "output_dir": folder}
    log = folder.with_suffix(".log")
    run(["trainers.mnist", *(as_flag(*pair) for pair in given.items())], log)
    return log.read_text(errors="replace")


def train_peer(settings: Race, splits: data.Splits, library: str, minutes: float, model: Path) -> dict[str, Any]:
    """Train by PyTorch, in a process of its own, into a Keras file, and return what is known of it."""
    images = model.parent / "mnist.npz"
    if not images.exists():
        with written_whole(images) as unfinished, open(unfinished, "wb") as file:
            np.savez(file, **training_images(splits))
    weights = model.with_suffix(".npz")
    files = [f"--images={images.resolve()}", f"--output={weights.resolve()}"]
    command = [
        sys.executable,
        "-m",
        "benchmarks.peers",
        library,
        f"--seconds={60 * minutes}",
        f"--seed={settings.seed}",
    ]
    no_bars = {**os.environ, "TQDM_DISABLE": "1"}  # ART would draw one a batch
    subprocess.run([*command, *files], cwd=ROOT, check=True, env=no_bars)
    facts = save_exported(weights, model)
    weights.unlink()
    assert splits.train_examples is not None  # which `data.load` sets
    return {**facts, "epochs": facts["images"] / splits.train_examples}


def training_images(splits: data.Splits) -> dict[str, Any]:
    """Return the training images as uint8, which they were, and their labels as int64: those that wmr_tf has too."""
    batches = [(np.asarray(images), np.asarray(labels)) for images, labels in splits.train]
    images, labels = (np.concatenate(parts) for parts in zip(*batches, strict=True))
    return {"images": np.round(images * 255).astype(np.uint8), "labels": labels.astype(np.int64)}


def save_exported(weights: Path, model: Path) -> dict[str, Any]:
    """Make a Keras file of the weights that a peer has written, and return what it says of its training."""
    with np.load(weights) as file:
        classifier = architectures.small_cnn()
        classifier.set_weights([file[f"weight{place}"] for place in range(len(classifier.weights))])
        facts = json.loads(str(file["facts"]))
    save_classifier(classifier, model)
    return facts


def sections(rows: Sequence[Mapping[str, Any]], settings: Race, picture: str) -> list[str]:
    """Return the parts of the page."""
    header = ["minutes", "library", "seconds", "epochs", *(f"{figure} (%)" for figure in FIGURES)]
    cells = [
        [
            f"{each['minutes']:g}",
            LIBRARIES[each["library"]] + MASKED * bool(each["masked"]),
            f"{each['seconds']:.0f}",
            f"{each['epochs']:.2f}",
            *(with_interval(each, figure) for figure in FIGURES),
        ]
        for each in rows
    ]
    return [
        "# Robust within minutes",
        f"{made_by('studies.time_to_robust')}, seed {settings.seed}. SmallCNN, the same training images, one training "
        f"a row. First {settings.examples:,} test images, {Experiment.of('mnist').test_attack()}; A_strong also under "
        f"the suite {settings.suite}; A_sa at alpha_test {ALPHA:g}. In brackets 95 % intervals. "
        f"{machine.processor_facts().get('model name', 'Unknown processor')}, {os.cpu_count()} cores; wmr_tf trained "
        f"in {Experiment.of('mnist').precision}, its peers in float32. Seconds are of training, tracing too; the "
        "weights are those of the last step, of wmr_tf those of the last epoch, or of the first if that is better on "
        "validation images.",
        report.format_table(header, cells, markdown=True),
        f"![A_rob, A_strong and A_sa against minutes of training]({picture})",
    ]


def draw(rows: Sequence[Mapping[str, Any]], path: Path, *, title: str) -> None:
    """Draw A_rob, A_strong and A_sa against the minutes of training, a colour a library; bars are 95 % intervals."""
    figure = Figure(figsize=(7, 5), dpi=110, layout="constrained")
    axes = figure.subplots()
    styles: dict[str, dict[str, Any]] = {
        "A_rob": {"linestyle": "--", "marker": "o", "mfc": "none"},
        "A_strong": {"marker": "s"},
        "A_sa": {"linestyle": ":", "marker": "^", "mfc": "none"},
    }
    libraries = [library for library in LIBRARIES if library in {each["library"] for each in rows}]
    lines = [(library, name) for library in libraries for name in styles]
    apart = _APART * max(each["seconds"] / 60 for each in rows)
    for number, (library, name) in enumerate(lines):
        of_library = sorted((each for each in rows if each["library"] == library), key=lambda each: each["minutes"])
        shift = apart * (number - (len(lines) - 1) / 2)
        minutes = [each["seconds"] / 60 + shift for each in of_library]
        values = [100 * each[name] for each in of_library]
        ends = [[100 * end for end in each[f"{name}_interval"]] for each in of_library]
        bars = [[value - low, high - value] for value, (low, high) in zip(values, ends, strict=True)]
        style = {**styles[name], "color": COLOURS[list(LIBRARIES).index(library)], "capsize": 2, "elinewidth": 1}
        axes.errorbar(minutes, values, list(zip(*bars, strict=True)), label=f"{LIBRARIES[library]}: {name}", **style)
    axes.set(xlabel="minutes of training", ylabel="accuracy (%)", ylim=(-3, 105))
    axes.set_title(title, fontsize="medium")
    axes.grid(alpha=0.25)
    legend: dict[str, Any] = {"loc": "outside lower center", "ncols": 2, "frameon": False, "fontsize": "small"}
    figure.legend(*axes.get_legend_handles_labels(), title="Bars: 95 % intervals, over the images.", **legend)
    write_figure(figure, path)


if __name__ == "__main__":
    Command(Race, race)()
