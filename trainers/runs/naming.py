"""How runs and evaluations are called in tables, titles and metrics."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from trainers.settings.config import Experiment
from trainers.settings.method import settings_of_method
from trainers.settings.recipes import PAPER, recipe
from trainers.settings.settling import settled
from trainers.settings.weighting import checked_weighting, make_weighting
from wmr_tf.data.own import short_name
from wmr_tf.report.words import MASKED, restarts_of

SHOWN_SETTINGS = (
    *("dataset", "architecture", "method", "alpha_train", "weighting", "beta", "norm", "epsilon", "attack_steps"),
    *("epochs", "learning_rate", "seed"),
)


def defence(metrics: dict[str, Any]) -> str:
    """Return how the paper's tables name a defence, such as "TRADES" or "TRADES+weights"; else the model file's name.

    Settings of the method that are not the recipe's follow in brackets, such as "TRADES+weights (beta 3)", and a
    classifier that hides from attacks is called "MASKED".
    """
    return _trained(metrics) + MASKED * bool(metrics.get("masked"))


def _trained(metrics: dict[str, Any]) -> str:
    method = metrics["method"]
    if method is None:
        return Path(metrics["checkpoint"]).name
    name = method if method == "natural" else method.upper()
    # Older metrics do not name a weighting.
    kind, *options = shown_weighting(metrics.get("weighting") or {"name": "Exponential"})
    is_weighted = bool(metrics["alpha_train"]) if kind == "weights" else kind != "Uniform"
    changed = ", ".join([*(options if is_weighted else ()), *changed_settings(metrics)])
    return f"{name}{f'+{kind}' if is_weighted else ''}{f' ({changed})' if changed else ''}"


def shown_weighting(weighting: dict[str, Any]) -> Iterator[str]:
    """Yield what a defence's name says of a weighting: its name, "weights" for the paper's, and the options it has."""
    yield "weights" if weighting["name"] == "Exponential" else weighting["name"]
    for name, value in weighting.items():
        if name not in ("name", "alpha") and value is not False:
            yield name if value is True else f"{name} {value:g}"


def changed_settings(metrics: dict[str, Any]) -> Iterator[str]:
    """Yield the settings of a run's method that are not the recipe's, but alpha, which the tables name anyway.

    Settings missing from older metrics are skipped.
    """
    names = settings_of_method(metrics["method"])
    given = {name: metrics.get(name) for name in names if name not in ("alpha_train", "weighting")}
    if all(value is None for value in given.values()):
        return
    dataset, method, chosen = metrics["dataset"], metrics["method"], metrics.get("recipe") or PAPER
    # Some lengths are multiples of the radius, and what a radius may be depends on the norm.
    ball = {name: given[name] for name in ("epsilon", "norm") if given.get(name) is not None}
    defaults = {field.name: field.default for field in dataclasses.fields(Experiment)}
    usual = {
        **defaults,
        **settled(dataset, {"method": method, "recipe": chosen, **ball}),
        "epsilon": recipe(dataset, method, chosen)["epsilon"],
        "norm": defaults["norm"],
    }
    for setting, value in given.items():
        if value is not None and (value or None) != (usual[setting] or None):
            yield (
                setting
                if value is True
                else f"{setting} {value:g}"
                if isinstance(value, float)
                else f"{setting} {value}"
            )


def title(metrics: dict[str, Any], *, radius: bool = True) -> str:
    """Return on which images which attack was evaluated, in one line.

    Args:
        metrics: What metrics.json says.
        radius: Whether epsilon is said.
    """
    attack = metrics["attack"]
    precision = attack.get("precision", "float32")
    faster = "" if precision == "float32" else f", attacked in {precision}"
    images = f"{metrics['examples']:,} {metrics['split']} images"
    return f"{short_name(metrics['dataset'])}, {images}, {shown_attack(attack, radius=radius)}{faster}"


def shown_attack(attack: dict[str, Any], *, radius: bool = True) -> str:
    """Return the norm, name, steps, restarts and perhaps radius of an attack that is described as in metrics.json."""
    epsilon = f", epsilon {attack['epsilon']:g}" if radius else ""
    return f"{attack['norm']} {attack['name']}-{attack['steps']}{restarts_of(attack)}{epsilon}"


def describe(experiment: Experiment) -> str:
    """Return one line that says what is trained on what."""
    beta = "" if experiment.beta is None else f", beta {experiment.beta:g}"
    _, weighting = checked_weighting(experiment.weighting, experiment.alpha_train)
    weights = f"alpha_train {weighting['alpha']:g}" if "alpha" in weighting else experiment.weighting
    epochs = "1 epoch" if experiment.epochs == 1 else f"{experiment.epochs} epochs"
    return (
        f"{short_name(experiment.dataset)}: {experiment.method}{beta}, {weights}, "
        f"{experiment.architecture}, {experiment.precision}, {epochs}, seed {experiment.seed}"
    )


def describe_validation(experiment: Experiment, count: int) -> str:
    """Return one line that says by how many images and which attack the epochs are judged."""
    # Not `test_attack`, which takes TensorFlow: a report is made again without it.
    settings = {name: getattr(experiment, f"eval_{name}") for name in ("norm", "restarts", "epsilon")}
    attack = shown_attack({"name": "PGD", "steps": experiment.eval_attack_steps, **settings})
    return f"{count:,} validation images, {attack}, alpha_test {experiment.alpha_test[0]:g}"


def shown_settings(experiment: Experiment) -> dict[str, bool | int | float | str]:
    """Return the settings that TensorBoard shows beside a run's accuracies; the same ones of every run."""
    values = {**dataclasses.asdict(experiment), "dataset": short_name(experiment.dataset)}
    return {name: "none" if values[name] is None else values[name] for name in SHOWN_SETTINGS}


def training_facts(config: dict[str, Any]) -> dict[str, Any]:
    """Return what metrics.json says of a training, given its settings; None for what is not known."""
    names = ["recipe", "method", "alpha_train", "beta", "seed", "precision", *settings_of_method(config.get("method"))]
    facts: dict[str, Any] = {name: config.get(name) for name in names}
    if facts.get("weighting"):
        facts["weighting"] = make_weighting(facts["weighting"], facts["alpha_train"]).describe()
        facts["alpha_train"] = facts["weighting"].get("alpha")  # None of a weighting that has none
    return facts
