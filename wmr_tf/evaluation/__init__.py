"""How robust a classifier is: accuracies, worst cases, AutoAttack, and what confidence alone does to them."""

from typing import TYPE_CHECKING

from wmr_tf.lazy import lazily

if TYPE_CHECKING:  # late elsewhere: who compares what was measured does not wait for TensorFlow
    from wmr_tf.evaluation import dro, temperature, wasserstein
    from wmr_tf.evaluation.assessment import evaluate_robustness
    from wmr_tf.evaluation.diagnostics import Diagnosis, diagnose
    from wmr_tf.evaluation.evaluator import RobustnessEvaluator
    from wmr_tf.evaluation.radii import Radii, minimal_radii
    from wmr_tf.evaluation.records import save_report
    from wmr_tf.evaluation.robustness import CVAR_LEVELS, Robustness
    from wmr_tf.evaluation.suite import Suite, auto_attack
    from wmr_tf.evaluation.suite_result import SuiteResult
    from wmr_tf.evaluation.weighted import WeightedAccuracy, weighted_accuracy

__all__ = [
    "CVAR_LEVELS",
    "Diagnosis",
    "Radii",
    "Robustness",
    "RobustnessEvaluator",
    "Suite",
    "SuiteResult",
    "WeightedAccuracy",
    "auto_attack",
    "diagnose",
    "dro",
    "evaluate_robustness",
    "minimal_radii",
    "save_report",
    "temperature",
    "wasserstein",
    "weighted_accuracy",
]

_HOMES = {
    "assessment": ("evaluate_robustness",),
    "diagnostics": ("Diagnosis", "diagnose"),
    "evaluator": ("RobustnessEvaluator",),
    "radii": ("Radii", "minimal_radii"),
    "records": ("save_report",),
    "robustness": ("CVAR_LEVELS", "Robustness"),
    "suite": ("Suite", "auto_attack"),
    "suite_result": ("SuiteResult",),
    "weighted": ("WeightedAccuracy", "weighted_accuracy"),
    **{name: (name,) for name in ("dro", "temperature", "wasserstein")},
}

__getattr__, __dir__ = lazily(
    __name__, {name: f"{__name__}.{module}" for module, names in _HOMES.items() for name in names}
)
