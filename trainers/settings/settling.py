"""From what is given to all settings: the recipe for the rest, and the lengths that follow a radius."""

from collections.abc import Mapping
from typing import Any

from trainers.settings.method import RECIPES_NORM
from trainers.settings.recipes import PAPER, Epsilons, lengths, recipe
from wmr_tf.checks import radius as checked_radius
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
    trained = recipe(dataset, "pgd")["epsilon"]  # also for natural training, which has no radius to follow
    for each in (usual, settings):
        if isinstance(each["eval_epsilon"], Epsilons):
            epsilon = checked_radius("epsilon", each.get("epsilon", trained), given.get("norm", RECIPES_NORM))
            each["eval_epsilon"] = each["eval_epsilon"].of(epsilon)
    return settings | lengths(settings, usual)


def check_own_radii(dataset: str, given: Mapping[str, Any]) -> None:
    """Check that a changed norm comes with a radius of its own: 0.3 is much in linf and little in l1.

    Args:
        dataset: The name or address of the data set.
        given: The method, and whatever differs from its recipe.

    Raises:
        InvalidInput: If it comes without one.
    """
    norms = {name: given.get(name, RECIPES_NORM) for name in ("norm", "eval_norm")}
    usual = recipe(dataset, given["method"], given.get("recipe", PAPER))["eval_epsilon"]
    follows = isinstance(usual, Epsilons) and "eval_epsilon" not in given
    for name, radius in (("norm", "epsilon"), ("eval_norm", "eval_epsilon")):
        is_own = radius in given or (radius == "eval_epsilon" and follows and norms["norm"] == norms["eval_norm"])
        require(
            norms[name] == RECIPES_NORM or is_own,
            name,
            got=f"{norms[name]} without --{radius}",
            expected="a radius that is meant for the norm",
            fix=f"Pass --{radius} too; the recipe's is for {RECIPES_NORM}.",
        )
    require(
        norms["norm"] == norms["eval_norm"] or not follows,
        "norm",
        got=f"{norms['norm']} with --eval_norm={norms['eval_norm']} and without --eval_epsilon",
        expected="a radius for each of the two",
        fix=f"Pass --eval_epsilon, or --eval_norm={norms['norm']}.",
    )
