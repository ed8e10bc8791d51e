"""A training run from its settings to its folder."""

import csv
import dataclasses
import datetime
import importlib.metadata
import json
import math
import os
import platform
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

import wmr_tf
from trainers.config import PRECISIONS, Evaluation, Experiment, settings_of_method
from trainers.recipes import ARCHITECTURES, recipe
from trainers.strategy import chief_writes, losses_named, make_strategy
from trainers.weighting import make_weighting
from wmr_tf import data, report
from wmr_tf.callbacks import RobustEvaluation, SaveBestClassifier, save_classifier
from wmr_tf.checks import InvalidInput, at_least, require
from wmr_tf.evaluation import evaluate_robustness
from wmr_tf.evaluation.wasserstein import evaluate_wasserstein
from wmr_tf.inputs.batches import check_first_batch
from wmr_tf.methods import BY_NAME

BEST, LAST = "best.keras", "classifier.keras"
EVALUATION_BATCH = 256


def train(experiment: Experiment) -> Path:
    """Train, evaluate the best epoch on test images, and write all of it into the run's own folder.

    Args:
        experiment: All settings.

    Returns:
        The folder: config.json, history.csv, metrics.json, classifier.keras (last), best.keras (highest val_A_sa),
        training.png, robustness.png and TensorBoard's logs.

    Raises:
        InvalidInput: If data, files or settings are not what they should be; nothing is written then.
        FloatingPointError: If training diverged; the folder has its history and the best epoch before, if any.
        LostWorker: If one of several workers is gone; the chief's folder has its history and the best epoch before.
    """
    strategy = make_strategy(experiment.strategy)
    replicas, size = strategy.num_replicas_in_sync, experiment.batch_size
    fix = "The batch is the global one, shared out among the replicas: raise --batch_size."
    require(size >= replicas, "batch_size", got=size, expected=f"at least {replicas}, one image a replica", fix=fix)
    seed_everything(experiment)
    splits = load_data(experiment)
    with strategy.scope():
        model = build_model(experiment, splits.train_examples)
    with chief_writes(strategy) as elsewhere:
        settings = dataclasses.replace(experiment, output_dir=elsewhere or experiment.output_dir)
        folder = make_folder(settings, f"{experiment.dataset}-{experiment.method}-alpha{experiment.alpha_train:g}")
        with losses_named(strategy, folder / BEST):
            fit_and_evaluate(experiment, splits, model, folder)
    return folder


def fit_and_evaluate(experiment: Experiment, splits: data.Splits, model: wmr_tf.AdversarialModel, folder: Path) -> None:
    """Train a model and evaluate its best epoch on test images; see `train`, of which this is the long part."""
    write_json(folder / "config.json", {**dataclasses.asdict(experiment), "command": command(), "versions": versions()})
    print(f"{describe(experiment)}\nWriting into {folder}", flush=True)

    best = SaveBestClassifier(folder / BEST)
    history = model.fit(
        splits.train,
        epochs=experiment.rounds,
        callbacks=callbacks(experiment, splits, folder, best),
        verbose=1 if sys.stdout.isatty() else 2,
    )
    epoch = best_epoch(best, history.history)
    save_classifier(model.classifier, folder / LAST)
    report.plot_training(read_history(folder), folder / "training.png", title=describe(experiment))

    print(f"Evaluating epoch {epoch} ({BEST}) on test images", flush=True)
    facts = {"checkpoint": BEST, **training_facts(dataclasses.asdict(experiment))}
    with model.distribute_strategy.scope():
        classifier = load_classifier(folder / BEST)
    evaluate(experiment, splits.test, classifier, folder, facts)
    print(f"Everything is in {folder}")


def evaluate(
    settings: Evaluation, test: tf.data.Dataset, classifier: keras.Model, folder: Path, facts: dict[str, Any]
) -> dict[str, Any]:
    """Evaluate a classifier on the given images; print the table and write metrics.json and robustness.png."""
    attack = settings.test_attack()
    shown = int(sys.stdout.isatty())
    result = evaluate_robustness(
        classifier,
        test,
        attack,
        alpha_test=settings.alpha_test,
        seed=settings.seed,
        attack_precision=settings.eval_attack_precision,
        verbose=shown,
    )
    described = {**attack.describe(), "seed": settings.seed, "precision": settings.eval_attack_precision}
    metrics = {"dataset": settings.dataset, "split": "test", **facts, "attack": described, **result.metrics()}
    if settings.rho_test:
        metrics["kl_balls"] = [result.ball(rho) for rho in settings.rho_test]
    wasserstein = settings.wasserstein_attack()
    if wasserstein is not None:
        metrics["wasserstein"] = evaluate_wasserstein(classifier, test, wasserstein, verbose=shown).metrics()
    write_json(folder / "metrics.json", metrics)
    results = [(defence(metrics), metrics)]
    print(report.tables(results))
    report.plot_alpha(results, folder / "robustness.png", title=title(metrics))
    return metrics


def defence(metrics: dict[str, Any]) -> str:
    """Return how the paper's tables name a defence, such as "TRADES" or "TRADES+ours"; else the model file's name.

    Settings of the method that are not the recipe's follow in brackets, such as "TRADES+ours (beta 3)".
    """
    method = metrics["method"]
    if method is None:
        return Path(metrics["checkpoint"]).name
    name = method if method == "natural" else method.upper()
    # Metrics of before there were other weightings name none.
    kind, *options = shown_weighting(metrics.get("weighting") or {"name": "Exponential"})
    changed = ", ".join([*options, *changed_settings(metrics)])
    is_weighted = metrics["alpha_train"] or kind != "ours"
    return f"{name}{f'+{kind}' if is_weighted else ''}{f' ({changed})' if changed else ''}"


def shown_weighting(weighting: dict[str, Any]) -> Iterator[str]:
    """Yield what a defence's name says of a weighting: its name, "ours" for the paper's, and the options it has."""
    yield "ours" if weighting["name"] == "Exponential" else weighting["name"]
    for name, value in weighting.items():
        if name not in ("name", "alpha") and value is not False:
            yield name if value is True else f"{name} {value:g}"


def changed_settings(metrics: dict[str, Any]) -> Iterator[str]:
    """Yield the settings of a run's method that are not the recipe's, but alpha, which the tables name anyway.

    Of a setting that old metrics do not name, nothing is said.
    """
    names = settings_of_method(metrics["method"])
    given = {name: metrics.get(name) for name in names if name not in ("alpha_train", "weighting")}
    if all(value is None for value in given.values()):
        return
    dataset, method = metrics["dataset"], metrics["method"]
    radius = {} if given["epsilon"] is None else {"epsilon": given["epsilon"]}  # which some lengths are multiples of
    usual = {
        **dataclasses.asdict(Experiment.of(dataset, method, **radius)),
        "epsilon": recipe(dataset, method)["epsilon"],
    }
    for name, value in given.items():
        if value is not None and (value or None) != (usual[name] or None):
            yield name if value is True else f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}"


def title(metrics: dict[str, Any]) -> str:
    """Return what was evaluated by which attack, in one line."""
    attack = metrics["attack"]
    precision = attack.get("precision", "float32")
    faster = "" if precision == "float32" else f", attacked in {precision}"
    name = f"{attack['norm']} {attack['name']}-{attack['steps']}"
    return f"{metrics['dataset']}, {name}, epsilon {attack['epsilon']:g}{faster}"


def seed_everything(experiment: Experiment) -> None:
    """Seed Keras, NumPy and Python, sets the precision, and makes TensorFlow deterministic if that is asked for."""
    keras.utils.set_random_seed(experiment.seed)
    if experiment.deterministic:
        tf.config.experimental.enable_op_determinism()
    keras.config.set_dtype_policy(PRECISIONS[experiment.precision])


def load_data(experiment: Experiment) -> data.Splits:
    """Return the training, validation and test batches of an experiment.

    Raises:
        InvalidInput: If the data cannot be had, or more images are asked for than there are.
    """
    splits = data.load(
        experiment.dataset,
        batch_size=experiment.batch_size,
        seed=experiment.seed,
        data_dir=experiment.data_dir,
        train_examples=experiment.train_examples,
        validation_examples=experiment.validation_examples,
        with_index=BY_NAME[experiment.method].needs_index,
    )
    return dataclasses.replace(splits, test=first_images(splits.test, experiment.eval_examples))


def first_images(test: tf.data.Dataset, count: int | None) -> tf.data.Dataset:
    """Return batches of the first `count` test images, of all if it is None.

    Raises:
        InvalidInput: If there are not so many.
    """
    if count is not None:
        found = sum(len(labels) for _, labels in test)
        fix = "Lower --eval_examples, or leave it out to evaluate all."
        require(count <= found, "eval_examples", got=count, expected=f"at most {found}", fix=fix)
    return test.unbatch().take(-1 if count is None else at_least("eval_examples", count, 1)).batch(EVALUATION_BATCH)


def build_model(experiment: Experiment, examples: int | None = None) -> wmr_tf.AdversarialModel:
    """Return the compiled training model, with the weights of `initialize_from` if that is given.

    Args:
        experiment: All settings.
        examples: The number of training images, which a method needs that keeps something for each of them.

    Raises:
        InvalidInput: If the method needs the number of images and it is not given, or cannot train the classifier.
    """
    source = data.info(experiment.dataset)
    build = ARCHITECTURES[experiment.architecture]
    classifier = build(num_classes=source.num_classes, input_shape=source.image_shape)
    if experiment.initialize_from is not None:
        copy_weights(load_classifier(Path(experiment.initialize_from)), classifier)
    model = wmr_tf.AdversarialModel(
        classifier, experiment.make_method(examples), weight_decay=experiment.weight_decay, seed=experiment.seed
    )
    optimizer = keras.optimizers.SGD(experiment.learning_rate, momentum=0.9)
    model.compile(optimizer=optimizer, metrics=["accuracy"])
    return model


def callbacks(
    experiment: Experiment, splits: data.Splits, folder: Path, best: SaveBestClassifier
) -> list[keras.callbacks.Callback]:
    """Return the callbacks of a run; the evaluation comes before those that read its numbers."""
    return [
        *schedule_and_measure(experiment, validation_of(experiment, splits)),
        best,
        keras.callbacks.CSVLogger(folder / "history.csv"),
        keras.callbacks.TensorBoard(folder / "logs", write_graph=False),
    ]


def schedule_and_measure(experiment: Experiment, evaluation: RobustEvaluation) -> list[keras.callbacks.Callback]:
    """Return the callbacks that a run needs whatever is made of its numbers; they write nothing."""
    return [
        keras.callbacks.TerminateOnNaN(),
        keras.callbacks.LearningRateScheduler(lambda epoch, _: experiment.learning_rate_at(epoch)),
        keras.callbacks.ProgbarLogger(),  # its line ends here, and the validation gets one of its own
        evaluation,
        keras.callbacks.LambdaCallback(on_epoch_end=lambda _, logs: print_validation(logs, experiment.alpha_test[0])),
    ]


def validation_of(experiment: Experiment, splits: data.Splits) -> RobustEvaluation:
    """Return the callback that measures robustness on the validation images."""
    return RobustEvaluation(
        splits.validation,
        experiment.test_attack(),
        alpha_test=experiment.alpha_test,
        examples=None,
        every=experiment.eval_every,
        seed=experiment.seed,
    )


def print_validation(logs: dict[str, float], alpha: float) -> None:
    """Print the four accuracies of an epoch, if it was evaluated; history.csv has the others."""
    if not math.isnan(logs["val_A_nat"]):
        accuracies = (f"{name} {logs[f'val_{name}']:.2%}" for name in ("A_nat", "A_rob", "A_sa", "A_tr"))
        print(f"validation, alpha_test {alpha:g}: {', '.join(accuracies)}", flush=True)


def best_epoch(best: SaveBestClassifier, history: dict[str, list[float]]) -> int:
    """Return the epoch of the best classifier, counted from 1.

    Raises:
        FloatingPointError: If training did not end with finite numbers.
    """
    loss, accuracy = history["loss"][-1], history["val_A_sa"][-1]
    if best.best_epoch is None or not math.isfinite(loss + accuracy):
        kept = "" if best.best_epoch is None else f" {best.path} is of epoch {best.best_epoch + 1}."
        raise FloatingPointError(
            f"training: got a loss of {loss:g} and an A_sa of {accuracy:g} after epoch {len(history['loss'])}, "
            f"expected finite numbers. Lower --learning_rate.{kept}"
        )
    return best.best_epoch + 1


def load_classifier(path: Path) -> keras.Model:
    """Load a classifier.

    Raises:
        InvalidInput: If there is no such file, or it is no Keras model.
    """
    path, fix = path.expanduser(), "Name a .keras file that a run wrote, such as runs/NAME/best.keras."
    require(path.is_file(), "model", got=repr(str(path)), expected="an existing .keras file", fix=fix)
    try:
        model = keras.models.load_model(path, compile=False)
    except Exception as error:  # what Keras raises for a broken file depends on where it is broken
        message = f"model: got {str(path)!r}, which does not load ({reason(error)}), expected a Keras model. {fix}"
        raise InvalidInput(message) from error
    return model.classifier if isinstance(model, wmr_tf.AdversarialModel) else model


def check_fits(classifier: keras.Model, test: tf.data.Dataset) -> None:
    """Check that a classifier takes the images of a data set and return logits for its classes.

    Raises:
        InvalidInput: If it was made for images of another shape, for fewer classes, or returns no logits.
    """
    expected, got = tuple(test.element_spec[0].shape[1:]), input_shape(classifier)
    fix = "Choose the --dataset that it was trained on."
    require(
        got is None or len(got) == len(expected) and all(a in (None, b) for a, b in zip(got, expected, strict=True)),
        "model",
        got=f"a classifier of images of shape {got}",
        expected=f"images of shape {expected}",
        fix=fix,
    )
    batch = next(iter(test))
    try:
        check_first_batch(classifier, batch)
    except InvalidInput:
        raise
    except Exception as error:  # what Keras or TensorFlow raises depends on which layer does not fit
        message = f"model: got a failure on a batch of images ({reason(error)}), expected logits for shape {expected}."
        raise InvalidInput(f"{message} {fix}") from error


def input_shape(classifier: keras.Model) -> tuple[int | None, ...] | None:
    """Return the shape of the images that a classifier takes, None if it does not say, as a subclassed model."""
    try:
        shape = classifier.input_shape
    except (AttributeError, ValueError, RuntimeError):
        return None
    return shape[1:] if isinstance(shape, tuple) else None


def reason(error: Exception) -> str:
    """Return what another library's error says, in one line that is not too long."""
    return " ".join(str(error).split())[:200] or type(error).__name__


def copy_weights(source: keras.Model, target: keras.Model) -> None:
    """Copy all weights from a classifier of the same architecture."""
    shapes = [[tuple(weight.shape) for weight in model.weights] for model in (source, target)]
    require(
        shapes[0] == shapes[1],
        "initialize_from",
        got=f"a model with {len(shapes[0])} weights of other shapes",
        expected=f"the {len(shapes[1])} weights of {target.name}",
        fix="Name a classifier of the same architecture and data set.",
    )
    target.set_weights(source.get_weights())


def make_folder(settings: Evaluation, name: str) -> Path:
    """Create the run's own folder; one that holds a run already is refused.

    Raises:
        InvalidInput: If it cannot be written, or holds a run.
    """
    stamp = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
    folder = Path(settings.output_dir or f"runs/{name}-seed{settings.seed}-{stamp}").expanduser()
    fix = "Name another folder with --output_dir."
    taken = (folder / "metrics.json").exists() or (folder / "config.json").exists()
    require(not taken, "output_dir", got=f"{str(folder)!r}, which holds a run", expected="a new folder", fix=fix)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        writable = os.access(folder, os.W_OK)
    except OSError:
        writable = False
    require(writable, "output_dir", got=repr(str(folder)), expected="a folder that can be written", fix=fix)
    return folder


def describe(experiment: Experiment) -> str:
    """Return one line that says what is trained on what."""
    beta = "" if experiment.beta is None else f", beta {experiment.beta:g}"
    return (
        f"{experiment.dataset}: {experiment.method}{beta}, alpha_train {experiment.alpha_train:g}, "
        f"{experiment.architecture}, {experiment.precision}, {experiment.epochs} epochs, seed {experiment.seed}"
    )


def training_facts(config: dict[str, Any]) -> dict[str, Any]:
    """Return what metrics.json says of a training, given its settings; None for what is not known."""
    names = ["method", "alpha_train", "beta", "seed", "precision", *settings_of_method(config.get("method"))]
    facts: dict[str, Any] = {name: config.get(name) for name in names}
    if facts.get("weighting"):
        facts["weighting"] = make_weighting(facts["weighting"], facts["alpha_train"]).describe()
    return facts


def is_finished(experiment: Experiment, folder: Path) -> bool:
    """Return whether a folder holds a finished run with the settings of an experiment, wherever it was written.

    A setting that the run does not name did not exist by then, and had its default.
    """
    if not all((folder / name).is_file() for name in ("config.json", "metrics.json", BEST)):
        return False
    settings = json.loads(json.dumps({**dataclasses.asdict(experiment), "output_dir": None}))  # tuples become lists
    defaults = {field.name: field.default for field in dataclasses.fields(experiment)}
    try:
        config = read_json(folder / "config.json", "config.json", fix="")
    except InvalidInput:
        return False
    return {name: config.get(name, defaults[name]) for name in settings} | {"output_dir": None} == settings


def versions() -> dict[str, str]:
    """Return the versions of what a result depends on."""
    packages = ("tensorflow", "keras", "numpy", "tensorflow-datasets")
    found = {package: importlib.metadata.version(package) for package in packages}
    return {"wmr_tf": wmr_tf.__version__, **found, "python": platform.python_version()}


def command() -> str:
    """Return the command line of this process."""
    return shlex.join(["python", *sys.orig_argv[1:]])


def read_history(folder: Path) -> dict[str, list[float]]:
    """Return history.csv as lists by epoch."""
    with open(folder / "history.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    return {name: [float(row[name] or math.nan) for row in rows] for name in rows[0]}


def read_json(path: Path, what: str, *, fix: str) -> dict[str, Any]:
    """Return the JSON object in a file.

    Raises:
        InvalidInput: If it holds anything else.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # which JSONDecodeError and UnicodeDecodeError are
        content = None
    require(isinstance(content, dict), what, got=repr(str(path)), expected="a file with a JSON object", fix=fix)
    return content


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a dictionary as readable JSON."""
    path.write_text(json.dumps(content, indent=2) + "\n")
