"""Search over alpha_train with Keras Tuner."""

from typing import TYPE_CHECKING

from wmr_tf.lazy import lazily

if TYPE_CHECKING:
    from tuning.hypermodel import RobustHyperModel
    from tuning.objective import MatchedEvaluation, Objective

__all__ = ["MatchedEvaluation", "Objective", "RobustHyperModel"]

__getattr__, __dir__ = lazily(
    __name__,
    {
        "MatchedEvaluation": "tuning.objective",
        "Objective": "tuning.objective",
        "RobustHyperModel": "tuning.hypermodel",
    },
    extra="tuner",
)
