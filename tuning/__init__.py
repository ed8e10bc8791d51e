"""Search over alpha_train with Keras Tuner."""

import trainers  # noqa: F401  It starts TensorFlow quietly.
from tuning.hypermodel import RobustHyperModel
from tuning.objective import MatchedEvaluation, Objective

__all__ = ["MatchedEvaluation", "Objective", "RobustHyperModel"]
