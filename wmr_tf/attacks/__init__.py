"""Attacks on images: frozen settings, called with a loss."""

from wmr_tf.attacks.apgd import APGD
from wmr_tf.attacks.base import Attack, input_gradient
from wmr_tf.attacks.fab import FAB
from wmr_tf.attacks.momentum import MomentumPGD
from wmr_tf.attacks.n_fgsm import NFGSM
from wmr_tf.attacks.norms import NORMS
from wmr_tf.attacks.pgd import FGSM, PGD, STARTS
from wmr_tf.attacks.square import Square

__all__ = [
    "APGD",
    "FAB",
    "FGSM",
    "MomentumPGD",
    "NFGSM",
    "NORMS",
    "PGD",
    "STARTS",
    "Attack",
    "Square",
    "input_gradient",
]
