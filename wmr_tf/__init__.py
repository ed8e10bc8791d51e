"""Adversarial training and evaluation for Keras under attackers who choose which images to attack."""

from wmr_tf import architectures, attacks, callbacks, data, losses, methods, weights
from wmr_tf.checks import InvalidInput
from wmr_tf.evaluation import (
    Diagnosis,
    Robustness,
    auto_attack,
    diagnose,
    dro,
    evaluate_robustness,
    save_report,
    temperature,
    wasserstein,
)
from wmr_tf.model import AdversarialModel

__version__ = "0.1.0"

__all__ = [
    "AdversarialModel",
    "Diagnosis",
    "InvalidInput",
    "Robustness",
    "architectures",
    "attacks",
    "auto_attack",
    "callbacks",
    "data",
    "diagnose",
    "dro",
    "evaluate_robustness",
    "losses",
    "methods",
    "save_report",
    "temperature",
    "wasserstein",
    "weights",
]
