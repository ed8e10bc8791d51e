"""Attacks on images: frozen settings, called with a loss."""

from wmr_tf.attacks.base import Attack
from wmr_tf.attacks.pgd import FGSM, PGD, STARTS

__all__ = ["FGSM", "PGD", "STARTS", "Attack"]
