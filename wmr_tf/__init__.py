"""Adversarial training and evaluation for Keras under attackers who choose which images to attack."""

import importlib
import os
import sys
from typing import TYPE_CHECKING

from wmr_tf.checks import InvalidInput
from wmr_tf.lazy import lazily

if TYPE_CHECKING:
    from wmr_tf import architectures, attacks, callbacks, data, losses, methods, weights, zoo
    from wmr_tf.engine.streams import use_all_cores
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
    from wmr_tf.inputs.mending import with_input_range, without_softmax
    from wmr_tf.model import AdversarialModel

__version__ = "0.2.0"

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
    "use_all_cores",
    "wasserstein",
    "weights",
    "with_input_range",
    "without_softmax",
    "zoo",
]

_MODULES = ("architectures", "attacks", "callbacks", "data", "losses", "methods", "weights", "zoo")
_MORE_MODULES = ("alarms", "divergence", "evaluation", "model", "report", "saving")
_OF_EVALUATION = ("Diagnosis", "Robustness", "auto_attack", "diagnose", "evaluate_robustness", "save_report")

__getattr__, __dir__ = lazily(
    __name__,
    {
        "AdversarialModel": "wmr_tf.model",
        "use_all_cores": "wmr_tf.engine.streams",
        "with_input_range": "wmr_tf.inputs.mending",
        "without_softmax": "wmr_tf.inputs.mending",
        **{name: f"wmr_tf.{name}" for name in (*_MODULES, *_MORE_MODULES)},
        **{name: f"wmr_tf.evaluation.{name}" for name in ("dro", "temperature", "wasserstein")},
        **dict.fromkeys(_OF_EVALUATION, "wmr_tf.evaluation"),
    },
)


# Keras finds our classes in saved models once they are registered, which importing this one does. TensorFlow takes
# seconds to import: command lines check what they are given first (and then see to this, in trainers/quiet.py).
def _is_command() -> bool:
    beside = os.path.dirname(os.path.dirname(__file__))  # somebody else may have packages of these names
    packages = {os.path.join(beside, name): sys.modules.get(name) for name in ("trainers", "tuning")}
    return any(path in getattr(package, "__path__", ()) for path, package in packages.items())


if not _is_command():
    importlib.import_module("wmr_tf.model")
