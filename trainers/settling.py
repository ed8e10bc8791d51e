"""From what is given to all settings: the recipe for the rest, and the lengths that follow a radius."""

from collections.abc import Mapping
from typing import Any

from trainers.method import RECIPES_NORM
from trainers.recipes import PAPER, Epsilons, recipe
from wmr_tf.checks import require


def settled(dataset: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a recipe with what is given in their place, lengths computed from the radii they follow.

    Args:
        dataset: The name or address of the data set.
        given: The method, and whatever differs from its recipe.

    Raises:
        InvalidInput: If there is no such recipe, or a radius is none.
    """
    usual = recipe(dataset, given["method"], given.get("recipe", PAPER))
    settings = {**usual, **given}
    # Natural training has no radius that its evaluation could follow.
    standard = {"epsilon": recipe(dataset, "pgd")["epsilon"], **usual}
    radii = {**standard, **settings}
    following = [name for name, value in settings.items() if isinstance(value, Epsilons)]
    for name in sorted(following, key=lambda name: name != "eval_epsilon"):  # which others follow
        length = settings[name]
        found = length.of(radii[length.radius])
        if found == 0 and name != "eval_epsilon":  # a step is longer than a radius of 0
            found = length.of(_standard(standard, length.radius))
        radii[name] = settings[name] = found
    return settings


def _standard(radii: Mapping[str, Any], name: str) -> float:
    """Return a radius of the recipe, which may follow the training attack's."""
    radius = radii[name]
    return radius.of(radii["epsilon"]) if isinstance(radius, Epsilons) else radius


def check_own_radii(dataset: str, given: Mapping[str, Any]) -> None:
    """Check that a changed norm comes with a radius and step size of its own: 0.3 is much in linf and little in l1.

    Args:
        dataset: The name or address of the data set.
        given: The method, and whatever differs from its recipe.

    Raises:
        InvalidInput: If it comes without them.
    """
    usual = recipe(dataset, given["method"], given.get("recipe", PAPER))
    following = {name for name, value in usual.items() if isinstance(value, Epsilons)}
    norms = [given.get(name, RECIPES_NORM) for name in ("norm", "eval_norm")]
    if norms[0] != norms[1]:
        following.discard("eval_epsilon")
    for prefix, norm in zip(("", "eval_"), norms, strict=True):
        lengths = f"{prefix}epsilon", f"{prefix}attack_step_size"
        missing = [f"--{name}" for name in lengths if name not in following | given.keys()]
        require(
            norm == RECIPES_NORM or not missing,
            f"{prefix}norm",
            got=f"{norm} without {' and '.join(missing)}",
            expected="a radius and a step size that are meant for the norm",
            fix=f"Pass {' and '.join(missing)} too; the recipe's are for {RECIPES_NORM}.",
        )
    follows_other = isinstance(usual.get("eval_epsilon"), Epsilons) and "eval_epsilon" not in given
    require(
        norms[0] == norms[1] or not follows_other,
        "norm",
        got=f"{norms[0]} with --eval_norm={norms[1]} and without --eval_epsilon",
        expected="a radius for each of the two",
        fix=f"Pass --eval_epsilon, or --eval_norm={norms[0]}.",
    )
