"""Training methods: one file each, and their names on the command line."""

from wmr_tf.methods.base import Batch, Learner, Method
from wmr_tf.methods.natural import Natural
from wmr_tf.methods.pgd import PGD
from wmr_tf.methods.trades import TRADES

BY_NAME: dict[str, type[Method]] = {"natural": Natural, "pgd": PGD, "trades": TRADES}

__all__ = ["BY_NAME", "PGD", "TRADES", "Batch", "Learner", "Method", "Natural"]
