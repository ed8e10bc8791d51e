"""How much each image's loss counts: margins, the weights made of them, and the weightings by name."""

from wmr_tf.weights.exponential import Exponential, as_weighting
from wmr_tf.weights.margins import (
    class_indices,
    importance_weights,
    indices_for,
    is_class,
    number_of_classes,
    of_unit_size,
    probability_margin,
    weighted_in_attack,
)
from wmr_tf.weights.rivals import GAIRAT, MAIL, CVaR, KLBall, Uniform
from wmr_tf.weights.weighting import Detached, Weighting

BY_NAME: dict[str, type[Weighting]] = {
    "exponential": Exponential,
    "uniform": Uniform,
    "mail": MAIL,
    "gairat": GAIRAT,
    "cvar": CVaR,
    "kl_ball": KLBall,
}
"""The weightings by their name on the command line."""

__all__ = [
    "BY_NAME",
    "GAIRAT",
    "MAIL",
    "CVaR",
    "Detached",
    "Exponential",
    "KLBall",
    "Uniform",
    "Weighting",
    "as_weighting",
    "class_indices",
    "importance_weights",
    "indices_for",
    "is_class",
    "number_of_classes",
    "of_unit_size",
    "probability_margin",
    "weighted_in_attack",
]
