"""The paper's weighting against its rivals, and what is left of each once confidence is taken out.

python -m studies.weightings --seeds=5 --output=results/weightings.md

Trains TRADES and PGD with each weighting, seed by seed, and evaluates the weights of the last epoch; a finished run is
kept. Smaller logits alone raise A_sa and A_tr. What no temperature moves stands beside them: A_strong, the accuracy on
the images of smallest clean logit margin, the mean radius of the worst images, the worst class, and A_sa at the
confidence of the unweighted model. The row "tuned" is the unweighted model, its logits divided so that it is as
confident as the paper's: a defence that costs nothing.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import keras
from absl import app, flags

from studies.paired import draw, table
from studies.rivals import ROWS, TUNED, UNWEIGHTED, WEIGHTS, Row, WarmUp
from studies.runs import made_by, publish
from trainers.comparison.images import Images
from trainers.comparison.matching import confidence, with_confidence
from trainers.runs import run
from trainers.runs.folder import IMAGES, METRICS
from trainers.runs.naming import shown_attack
from trainers.runs.testing import first_images
from trainers.settings.config import Experiment
from wmr_tf.checks import one_of
from wmr_tf.evaluation import evaluate_robustness
from wmr_tf.evaluation.records import save_images
from wmr_tf.evaluation.weighted import weighted_accuracy
from wmr_tf.saving import load_classifier, read_json, save_classifier, write_json

ALPHA_TEST = 2.0
SHORT: dict[str, dict[str, Any]] = {
    "digits": {"epochs": 12},
    "mnist": {"epochs": 4, "attack_steps": 10, "attack_step_size": 0.05, "learning_rate": 0.02, "precision": "auto"},
}
"""What is changed of the recipes, so that a run takes a minute, or five on MNIST."""

SHOWN = ("A_nat", "A_sa", "A_tr", "A_strong", "A_sa matched", "budget 50 %", "radius worst 5 %")
"""What the picture shows: A_nat, what confidence moves, and what it does not."""

CLASSIFIER = "classifier.keras"
_FIX = "Delete the folder: the run is made again."

_DATASET = flags.DEFINE_enum("dataset", "digits", list(SHORT), "Data set.")
_SEEDS = flags.DEFINE_integer("seeds", 5, "How many seeds, from 0.", lower_bound=2)
_METHODS = flags.DEFINE_list("methods", ["trades", "pgd"], "Training methods.")
_ROWS = flags.DEFINE_list("rows", None, "Rivals beside the unweighted model and the paper's; all if not given.")
_RADII = flags.DEFINE_enum("radii", "fab", ["fab", "fab+apgd"], "How radii are measured.")
_EXAMPLES = flags.DEFINE_integer("eval_examples", None, "How many test images, the first ones; all if not given.")
_DATA = flags.DEFINE_string("data_dir", None, "Where tensorflow-datasets keeps prepared data.")
_RUNS = flags.DEFINE_string("runs", "runs/weightings", "Folder of the runs.")
_OUTPUT = flags.DEFINE_string("output", "results/weightings.md", "The tables, as Markdown; the picture goes beside it.")


def rows(method: str) -> dict[str, Row]:
    """Return what a method is trained with."""
    return {
        name: row
        for name, row in ROWS[method].items()
        if name in (UNWEIGHTED, WEIGHTS) or _ROWS.value is None or name in _ROWS.value
    }


def experiment_of(method: str, seed: int) -> Experiment:
    """Return the recipe of a run, shortened."""
    given: dict[str, Any] = {**SHORT[_DATASET.value], "seed": seed, "data_dir": _DATA.value}
    return Experiment.of(_DATASET.value, method, eval_examples=_EXAMPLES.value, **given)


def trained(experiment: Experiment, row: Row) -> keras.Model:
    """Return a classifier after the last epoch."""
    run.seed_everything(experiment)
    splits = run.load_data(experiment)
    model = run.build_model(experiment, splits.train_examples)
    weighting = row.weighting(experiment.alpha_train)
    rate = keras.callbacks.LearningRateScheduler(lambda epoch, _: experiment.learning_rate_at(epoch))
    warm_up = WarmUp(weighting, round(row.warmup * experiment.rounds))
    model.fit(splits.train, epochs=experiment.rounds, callbacks=[rate, warm_up], verbose=0)
    return model.classifier


def measured(name: str, experiment: Experiment, make: Callable[[], keras.Model], wanted: Mapping[str, Any]) -> Path:
    """Return the folder with the evaluation of a model, which is made unless it is there with what is wanted of it."""
    folder = Path(_RUNS.value) / f"{experiment.dataset}-{experiment.method}-{name}-{experiment.seed}".replace(" ", "_")
    file = folder / METRICS
    known = {**wanted, "experiment": dataclasses.asdict(experiment), "radii": _RADII.value}
    known = {key: repr(value) for key, value in known.items()}
    if file.exists() and read_json(file, "run", fix=_FIX)["wanted"] == known:
        return folder
    print(f"{experiment.dataset}, {experiment.method}, seed {experiment.seed}: {name}", flush=True)
    classifier = make()
    folder.mkdir(parents=True, exist_ok=True)
    save_classifier(classifier, folder / CLASSIFIER)
    splits = run.load_data(experiment)
    found = evaluate_robustness(
        classifier,
        first_images(splits.test, experiment.eval_examples),
        experiment.test_attack(),
        alpha_test=ALPHA_TEST,
        seed=experiment.seed,
        verbose=0,
        radii=_RADII.value,
    )
    save_images(found, folder / IMAGES)
    write_json(file, {"wanted": known, "top": confidence(classifier, splits), **found.metrics()})  # last: it is done
    return folder


def rows_of(method: str, seed: int) -> dict[str, dict[str, float]]:
    """Return the numbers of every row of a method with one seed."""
    experiment = experiment_of(method, seed)
    folders = {}
    for name, row in rows(method).items():
        settings = {"weighting": row.weighting(experiment.alpha_train), "warmup": row.warmup}
        folders[name] = measured(name, experiment, functools.partial(trained, experiment, row), settings)
    top = read_json(folders[WEIGHTS] / METRICS, "run", fix=_FIX)["top"]

    def tuned() -> keras.Model:
        return with_confidence(load_classifier(folders[UNWEIGHTED] / CLASSIFIER), run.load_data(experiment), top)

    folders[TUNED] = measured(TUNED, experiment, tuned, {"top": top})
    metrics = {name: read_json(folder / METRICS, "run", fix=_FIX) for name, folder in folders.items()}
    confident = metrics[UNWEIGHTED]["confidence"]["top_probability"]
    return {name: numbers(metrics[name], folder, confident) for name, folder in folders.items()}


def numbers(metrics: dict[str, Any], folder: Path, top_probability: float) -> dict[str, float]:
    """Return what the tables say of a model, A_sa also at a mean top probability on clean images."""
    of_images = Images.read(folder, metrics)
    assert of_images is not None  # `measured` writes it before the metrics
    weighted = metrics["non_uniform"][0]
    picked = next(of["points"] for of in metrics["budget"] if of["chooser"] == "clean_margin")
    share = {round(point["images"] / metrics["examples"], 2): point["accuracy"] for point in picked}
    radius = {worst["fraction"]: worst["radius"] for worst in metrics["threat"]["worst"]}
    return {
        "A_nat": metrics["A_nat"],
        "A_rob": metrics["A_rob"],
        "A_sa": weighted["A_sa"],
        "A_tr": weighted["A_tr"],
        "top probability": metrics["confidence"]["top_probability"],
        "A_strong": metrics["A_strong"],
        "A_sa matched": weighted_accuracy(of_images.smallest_margins(top_probability), ALPHA_TEST).value,
        "worst class": min(of["A_strong"] for of in metrics["classes"]),
        "budget 5 %": share[0.05],
        "budget 20 %": share[0.2],
        "budget 50 %": share[0.5],
        "radius worst 5 %": radius[0.05],
    }


def head(picture: Path) -> str:
    """Return the title, what was measured how, and the picture."""
    changed = ", ".join(f"{name} {value}" for name, value in SHORT[_DATASET.value].items())
    alphas = ", ".join(f"{experiment_of(method, 0).alpha_train:g} in {method.upper()}" for method in _METHODS.value)
    return (
        f"# Weightings\n\n{made_by('studies.weightings')}, seeds 0 to {_SEEDS.value - 1}. {_DATASET.value}, the "
        f"recipes with {changed}; the paper's alpha {alphas}; the last epoch. alpha_test {ALPHA_TEST:g}; "
        f"{experiment_of('pgd', 0).test_attack()} and the suite strong, radii by {_RADII.value}. Radii are in "
        "percent of the images' range, the rest in percent. Mean ± standard deviation over seeds.\n\n"
        f"![Differences to the unweighted model]({picture.name})"
    )


def title() -> str:
    """Return on which images the models were measured, and by which attack."""
    experiment = experiment_of("pgd", 0)
    images = "all" if experiment.eval_examples is None else f"{experiment.eval_examples:,}"
    attack = shown_attack(experiment.test_attack().describe())
    return f"{experiment.dataset}, {images} test images, {attack}, alpha_test {ALPHA_TEST:g}"


def main(argv: list[str]) -> None:
    """Train, evaluate and write the tables and the picture."""
    del argv
    for name in _METHODS.value:
        one_of("methods", name, ROWS)
    for name in _ROWS.value or ():
        one_of("rows", name, ROWS["trades"])
    found: dict[str, list[dict[str, dict[str, float]]]] = {method: [] for method in _METHODS.value}
    for seed in range(_SEEDS.value):
        for method in found:
            found[method].append(rows_of(method, seed))
    output = Path(_OUTPUT.value)
    picture = output.with_suffix(".png")
    draw({method.upper(): of for method, of in found.items()}, UNWEIGHTED, SHOWN, picture, title=title())
    sections = [f"## {method.upper()}\n\n{table(of, UNWEIGHTED)}" for method, of in found.items()]
    publish([head(picture), *sections], output)


if __name__ == "__main__":
    app.run(main)
