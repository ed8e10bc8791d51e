"""Does alpha change the size of the steps? The paper's weights and normalised ones, from a new and a trained network.

python -m studies.weighting --part=forms --output=results/weighting.md
python -m studies.weighting --part=recipes --output=results/weighting_recipes.md

The update descends on `mean(s * loss)`. With the paper's `s = exp(-alpha * margin)` a batch on which the classifier is
fooled, early in training or when a network trained naturally is hardened, makes a step of up to `exp(alpha)` times the
size. `Exponential(alpha, normalize=True)` divides s by its mean over the batch. Both are trained here as the README
does it, TRADES with beta 6 and plain SGD at 0.01, each from the same weights: the part `forms`. The part `recipes`
trains free and n_fgsm, which the paper's weights drive to a constant classifier, by their recipes.
"""

import dataclasses
import itertools
import statistics
from collections.abc import Callable, Iterable
from typing import Any

import keras

from studies.runs import made_by, publish
from studies.settings import DataStudy
from trainers.cli import Command
from trainers.runs import run
from trainers.runs.testing import first_images
from trainers.settings.base import setting
from trainers.settings.config import Experiment
from wmr_tf import AdversarialModel, architectures, attacks, data, methods, report
from wmr_tf.checks import at_least, nonnegative, one_of
from wmr_tf.evaluation import evaluate_robustness
from wmr_tf.weights import Exponential

ALPHA_TEST = 2.0


@dataclasses.dataclass(frozen=True)
class Case:
    """What is trained on a data set.

    Attributes:
        network: Makes a new network.
        attack: Of training.
        test_attack: What the accuracies are measured with.
        images: How many training images the part `forms` uses; None takes all.
        epochs: Of TRADES, and of the natural training before it where there is one.
        schedule: What the part `recipes` changes of the recipe.
    """

    network: Callable[[], keras.Model]
    attack: attacks.PGD
    test_attack: attacks.PGD
    images: int | None
    epochs: int
    schedule: dict[str, Any]


CASES = {
    "digits": Case(
        architectures.digits_cnn,
        attacks.PGD(epsilon=0.15, step_size=0.03, steps=10, start="gaussian"),
        attacks.PGD(epsilon=0.15, step_size=0.015, steps=20),
        images=None,
        epochs=8,
        schedule={},
    ),
    "mnist": Case(
        architectures.small_cnn,
        attacks.PGD(epsilon=0.3, step_size=0.05, steps=10, start="gaussian"),
        attacks.PGD(epsilon=0.3, step_size=0.02, steps=40),
        images=6400,
        epochs=2,
        schedule={
            "epochs": 8,
            "train_examples": 20_000,
            "precision": "auto",
            "eval_attack_steps": 20,  # fewer and larger
            "eval_attack_step_size": 0.02,
        },
    ),
}
NATURAL_RATE = 0.05

PARTS = ("forms", "recipes")
METHODS = ("free", "n_fgsm")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Weights(DataStudy):
    """What is measured, with which powers and seeds."""

    part: str = setting("What is measured.", "forms", choices=PARTS)
    datasets: tuple[str, ...] = setting("Data sets, with commas.", tuple(CASES), choices=CASES)
    methods: tuple[str, ...] = setting("What the part recipes trains, with commas.", METHODS, choices=METHODS)
    alphas: tuple[float, ...] = setting("alpha_train of each row, with commas.", (0.0, 1.0, 2.0, 3.0))
    seeds: int = setting("How many seeds, from 0.", 3)
    eval_examples: int = setting("How many test images are attacked, the first ones.", 500)
    output: str = setting("The table, as Markdown.", "results/weighting.md")

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of("part", self.part, PARTS)
        for name in self.datasets:
            one_of("datasets", name, CASES)
        for name in self.methods:
            one_of("methods", name, METHODS)
        for alpha in self.alphas:
            nonnegative("alphas", alpha)
        at_least("seeds", self.seeds, 1)
        at_least("eval_examples", self.eval_examples, 1)

    def splits(self, dataset: str, seed: int) -> data.Splits:
        """Return the data of a run of the part `forms`."""
        images = CASES[dataset].images
        return data.load(dataset, batch_size=64, seed=seed, data_dir=self.data_dir, train_examples=images)


def starts(study: Weights, dataset: str, seed: int) -> dict[str, keras.Model]:
    """Return a new network and one that has been trained naturally."""
    case = CASES[dataset]
    keras.utils.set_random_seed(seed)
    new, trained = case.network(), case.network()
    model = AdversarialModel(trained, methods.Natural())
    model.compile(optimizer=keras.optimizers.SGD(NATURAL_RATE, momentum=0.9))
    model.fit(study.splits(dataset, seed).train, epochs=case.epochs, verbose=0)
    return {"new": new, "trained naturally": trained}


def measure(study: Weights, dataset: str, start: keras.Model, weighting: Exponential, seed: int) -> dict[str, float]:
    """Train from the weights of `start`; return the first epoch's loss over that of its baseline, and accuracies."""
    case = CASES[dataset]
    classifier = keras.models.clone_model(start)
    classifier.set_weights(start.get_weights())
    model = AdversarialModel(classifier, methods.TRADES(case.attack, beta=6.0, alpha=weighting), seed=seed)
    model.compile(optimizer=keras.optimizers.SGD(0.01))
    loaded = study.splits(dataset, seed)
    history = model.fit(loaded.train, epochs=case.epochs, verbose=0).history
    test = first_images(loaded.test, study.eval_examples)
    found = evaluate_robustness(classifier, test, case.test_attack, alpha_test=ALPHA_TEST, seed=seed, verbose=0)
    return {
        "first loss": history["loss"][0],
        "A_nat": found.A_nat.value,
        "A_rob": found.A_rob.value,
        "A_sa": found.A_sa(ALPHA_TEST).value,
    }


def recipes(study: Weights, dataset: str) -> str:
    """Return the table of methods by their recipes, with every alpha and seed."""
    header = ["method", "alpha", "seed", "loss, first and last epoch", "A_nat (%)", "A_rob (%)"]
    rows = []
    for method, alpha, seed in itertools.product(study.methods, study.alphas, range(study.seeds)):
        experiment = Experiment.of(
            dataset,
            method,
            alpha_train=alpha,
            seed=seed,
            data_dir=study.data_dir,
            eval_examples=study.eval_examples,
            **CASES[dataset].schedule,
        )
        run.seed_everything(experiment)
        loaded = run.load_data(experiment)
        model = run.build_model(experiment, loaded.train_examples)
        losses = model.fit(loaded.train, epochs=experiment.rounds, verbose=0).history["loss"]
        attack = experiment.test_attack()
        test = first_images(loaded.test, study.eval_examples)
        found = evaluate_robustness(model.classifier, test, attack, alpha_test=(), seed=seed, verbose=0)
        accuracies = (f"{100 * each.value:.1f}" for each in (found.A_nat, found.A_rob))
        rows.append([method, f"{alpha:g}", str(seed), f"{losses[0]:.2f} to {losses[-1]:.2f}", *accuracies])
        print(dataset, *rows[-1], flush=True)
    changed = ", ".join(f"{name} {value}" for name, value in CASES[dataset].schedule.items())
    table = report.format_table(header, rows, markdown=True)
    return f"## {dataset}\n\nThe recipe{changed and f' with {changed}'}.\n\n{table}"


def forms(study: Weights, dataset: str) -> str:
    """Return the table of a data set."""
    networks = {seed: starts(study, dataset, seed) for seed in range(study.seeds)}
    rows = []
    for start in ("new", "trained naturally"):
        for alpha in study.alphas:
            for normalize in (False, True)[: 1 if alpha == 0 else 2]:
                weighting = Exponential(alpha, normalize=normalize)
                measured = [measure(study, dataset, of[start], weighting, seed) for seed, of in networks.items()]
                form = "-" if alpha == 0 else "normalised" if normalize else "the paper's"
                rows.append([start, f"{alpha:g}", form, *_cells(measured)])
                print(dataset, *rows[-1], flush=True)
    header = ["start", "alpha", "weights", "loss, first epoch", "A_nat (%)", "A_rob (%)", f"A_sa({ALPHA_TEST:g}) (%)"]
    case = CASES[dataset]
    images = "all training images" if case.images is None else f"the first {case.images} training images"
    described = f"{case.epochs} epochs on {images}, attacked by {case.attack}; tested by {case.test_attack}."
    return f"## {dataset}\n\n{described}\n\n{report.format_table(header, rows, markdown=True)}"


def _cells(measured: Iterable[dict[str, float]]) -> list[str]:
    """Return mean and range over seeds of each number."""
    cells = []
    for name in ("first loss", "A_nat", "A_rob", "A_sa"):
        scale, digits = (1, 2) if name == "first loss" else (100, 1)
        values = [scale * of[name] for of in measured]
        span = f" ({min(values):.{digits}f} to {max(values):.{digits}f})" if len(values) > 1 else ""
        cells.append(f"{statistics.mean(values):.{digits}f}{span}")
    return cells


def compare(study: Weights) -> None:
    """Measure and write the tables."""
    is_recipes = study.part == "recipes"
    title = "Free and N-FGSM with every alpha" if is_recipes else "Weights and the size of the steps"
    setup = "The trainers' recipes" if is_recipes else "TRADES with beta 6, SGD at 0.01 without momentum, batch 64"
    shown = "the last epoch, one row a seed" if is_recipes else "mean and range over seeds"
    head = (
        f"# {title}\n\n{made_by('studies.weighting')}, seeds 0 to {study.seeds - 1}. {setup}; the first "
        f"{study.eval_examples} test images; {shown}."
    )
    sections = [(recipes if is_recipes else forms)(study, dataset) for dataset in study.datasets]
    publish([head, *sections], study.page)


if __name__ == "__main__":
    Command(Weights, compare)()
