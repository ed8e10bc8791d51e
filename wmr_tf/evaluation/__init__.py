"""How robust a classifier is: accuracies, worst cases, AutoAttack, and what confidence alone does to them."""

from wmr_tf.evaluation import dro, temperature, wasserstein
from wmr_tf.evaluation.diagnostics import Diagnosis, diagnose
from wmr_tf.evaluation.evaluator import RobustnessEvaluator, evaluate_robustness
from wmr_tf.evaluation.robustness import CVAR_LEVELS, Robustness, WeightedAccuracy, weighted_accuracy
from wmr_tf.evaluation.suite import Suite, SuiteResult, auto_attack

__all__ = [
    "CVAR_LEVELS",
    "Diagnosis",
    "Robustness",
    "RobustnessEvaluator",
    "Suite",
    "SuiteResult",
    "WeightedAccuracy",
    "auto_attack",
    "diagnose",
    "dro",
    "evaluate_robustness",
    "temperature",
    "wasserstein",
    "weighted_accuracy",
]
