"""Every setting of a run, once: the flags, the tuner and the report's captions derive from these dataclasses.

They are made and checked without TensorFlow, which takes seconds to import.
"""

from __future__ import annotations

import dataclasses
import os
from typing import Any

from trainers.settings.base import COMMON, DATA, RUN, if_given, setting
from trainers.settings.cluster import STRATEGIES, checked_tf_config
from trainers.settings.evaluation import Evaluation
from trainers.settings.network import Network
from trainers.settings.recipes import PAPER, RECIPES
from trainers.settings.training import Training
from wmr_tf.checks import at_least, one_of, require
from wmr_tf.names import ON_DIVERGENCE, ON_MASKED
from wmr_tf.saving import model_file


def _strategy_flag() -> Any:
    """Return the field of `--strategy`."""
    return setting(
        "Devices: one (none), all of this machine (mirrored) or those of all workers in TF_CONFIG (multi_worker).",
        "none",
        choices=STRATEGIES,
        section=RUN,
    )


SELECTABLE = ("val_A_strong", "val_A_rob", "val_A_nat", "val_A_sa", "val_A_tr")
"""What the best epoch can be the best of."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelEvaluation(Evaluation):
    """The evaluation of a saved classifier."""

    model: str = setting("The .keras file of a classifier that returns logits; it has to be given.", "", section=COMMON)
    diagnose: bool = setting(
        "Look for what makes robust accuracies wrong, in 18 checks on the first 128 images.", False, section=COMMON
    )
    strategy: str = _strategy_flag()

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of("strategy", self.strategy, STRATEGIES)
        require(
            bool(self.model),
            "model",
            got="nothing",
            expected="the .keras file of a classifier",
            fix="Pass --model=runs/NAME/best.keras.",
        )

    def check_place(self) -> None:
        """Check also the model and the workers; see `Evaluation.check_place`."""
        super().check_place()
        model_file(self.model)
        _check_workers(self.strategy)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Experiment(Evaluation, Network, Training):
    """A training run and its evaluation."""

    recipe: str = setting(
        "Which settings the flags that are not given have; their defaults here are those of paper.",
        PAPER,
        choices=RECIPES,
        section=COMMON,
    )
    select: str = setting(
        "What best.keras is the best epoch of, on validation images; val_A_sa and val_A_tr at the first alpha_test.",
        "val_A_strong",
        choices=SELECTABLE,
    )
    on_masked: str = setting(
        "What to do when the classifier hides from the test attack; roll_back stops, and goes back to the last epoch "
        "before.",
        "warn",
        choices=ON_MASKED,
        section=RUN,
    )
    on_divergence: str = setting(
        "What to do when the loss or a weight is not finite any more, or the classifier has become constant; rollback "
        "goes back one checkpoint with half the learning rate, at most three times.",
        "stop",
        choices=ON_DIVERGENCE,
        section=RUN,
    )
    eval_every: int = setting(
        "Evaluate on validation images every so many epochs, after the first and after the last.", 1
    )
    strategy: str = _strategy_flag()
    deterministic: bool = setting("Whether two runs give identical weights, at some cost in speed.", False, section=RUN)
    train_examples: int | None = setting("How many training images to use, the first ones.", section=DATA, unset="all")
    validation_examples: int | None = setting(
        "How many validation images to evaluate each epoch, the first ones.", section=DATA, unset="all"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_network()
        one_of("strategy", self.strategy, STRATEGIES)
        one_of("select", self.select, SELECTABLE)
        one_of("on_masked", self.on_masked, ON_MASKED)
        one_of("on_divergence", self.on_divergence, ON_DIVERGENCE)
        require(
            self.on_divergence == "stop" or self.strategy != "multi_worker",
            "on_divergence",
            got="rollback with several workers",
            expected="stop",
            fix="Leave it out, or train without --strategy=multi_worker.",
        )
        at_least("eval_every", self.eval_every, 1)
        for name in ("train_examples", "validation_examples"):
            if_given(at_least, name, getattr(self, name), 1)
        self.check_training()
        one_device = {
            "warm_start": "free, by which it trains, has one perturbation for all batches",
            "awp": "replicas would move the weights apart",
            "clip_norm": "each replica would clip its part of the gradient",
        }
        for name, reason in one_device.items():
            require(
                not getattr(self, name) or self.strategy == "none",
                name,
                got=f"{getattr(self, name)} with strategy {self.strategy!r}",
                expected=f"none, since {reason}",
                fix=f"Leave out --{name} or --strategy.",
            )

    def check_place(self) -> None:
        """Check also the weights to start from and the workers; see `Evaluation.check_place`."""
        super().check_place()
        self.check_files()
        _check_workers(self.strategy)

    def warming(self) -> Experiment:
        """Return the settings of the warm start, without weights: with those of alpha 2 free collapses on MNIST."""
        shared = ["recipe", "epsilon", "norm", "architecture", "batch_size", "precision", "seed"]
        shared += ["eval_norm", "eval_epsilon"]
        own: dict[str, Any] = {"epochs": self.warm_start, "alpha_train": 0.0, "warm_start": 0}
        own |= {"schedule": "one_cycle", "averaging": None}
        return Experiment.of(self.dataset, "free", **{name: getattr(self, name) for name in shared}, **own)

    def use_threads(self) -> None:
        """Do so in a way that is right for training the network; see `Evaluation.use_threads`."""
        self._use_threads(batch_norm=self.may_have_batch_norm)


def _check_workers(strategy: str) -> None:
    if strategy == "multi_worker":
        checked_tf_config(os.environ.get("TF_CONFIG"))
