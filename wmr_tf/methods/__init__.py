"""Training methods: one file each, and their names on the command line."""

from wmr_tf.engine.frozen import freeze
from wmr_tf.methods.base import AdversarialMethod, Batch, Learner, LossFn, Method, PairMethod, loss_of_pairs
from wmr_tf.methods.fast import Fast
from wmr_tf.methods.free import Free
from wmr_tf.methods.iaat import IAAT
from wmr_tf.methods.mart import MART
from wmr_tf.methods.mixed import Mixed
from wmr_tf.methods.natural import Natural
from wmr_tf.methods.pgd import PGD
from wmr_tf.methods.trades import TRADES
from wmr_tf.methods.yopo import YOPO

BY_NAME: dict[str, type[Method]] = {
    "natural": Natural,
    "pgd": PGD,
    "trades": TRADES,
    "mart": MART,
    "mixed": Mixed,
    "fast": Fast,
    "n_fgsm": Fast,  # another recipe: its attack is NFGSM
    "free": Free,
    "yopo": YOPO,
    "iaat": IAAT,
}
"""The methods by their names on the command line."""

__all__ = [
    "BY_NAME",
    "IAAT",
    "MART",
    "PGD",
    "TRADES",
    "YOPO",
    "AdversarialMethod",
    "Batch",
    "Fast",
    "Free",
    "Learner",
    "LossFn",
    "Method",
    "Mixed",
    "Natural",
    "PairMethod",
    "freeze",
    "loss_of_pairs",
]
