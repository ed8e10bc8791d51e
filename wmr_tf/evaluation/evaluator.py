"""Attack a whole set of images and measure a classifier's accuracy."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from wmr_tf.attacks import Attack
from wmr_tf.attacks.base import check_test_attack, computed_once, evaluation_of, warn_if_weak
from wmr_tf.attacks.norms import is_zero
from wmr_tf.checks import alphas, at_least, one_of
from wmr_tf.checks import seed as checked_seed
from wmr_tf.engine import seeds
from wmr_tf.engine.distribution import on_every_replica
from wmr_tf.engine.frozen import freeze_in
from wmr_tf.engine.memory import images_at_once
from wmr_tf.engine.precision import COMPUTE, full_float32
from wmr_tf.engine.progress import Progress
from wmr_tf.evaluation.ranges import warn_of_clean
from wmr_tf.evaluation.robustness import Logits, Robustness
from wmr_tf.evaluation.suite import Suite
from wmr_tf.inputs.batches import CheckedBatches, batches_of, checked_batches
from wmr_tf.inputs.classifier import check_model
from wmr_tf.losses import LARGEST_MARGIN, unsaturated_cross_entropy, verdict
from wmr_tf.weights import importance_weights, probability_margin, weighted_in_attack


class RobustnessEvaluator:
    """Evaluates one classifier any number of times with one trace of the attack, as a callback does.

    Scores are computed in float32 in every training precision, and so is the attack unless `attack_precision` is set.

    Args:
        classifier: A Keras model that returns logits.
        attack: The test attack; among its restarts each image keeps the smallest margin. A warning is given if it
            cannot reach the edge of its ball.
        alpha_test: Powers of the non-uniform attacker, each >= 0; none gives A_nat, A_rob and A_sa in one attack.
        seed: Of the attack's random start, which is keyed by the image's position in the data.
        attack_precision: "float32", or "bfloat16" for faster and less exact gradients, where the processor has it, of
            the attack and of the suite's Auto-PGD. Do not base a headline number on it.
        suite: The version of AutoAttack that attacks the same images in the same ball, see `auto_attack`; None for
            none.
        batch_size: How many images to attack together at most, into parts of which larger batches are cut; as many as
            fit a memory budget if not given, see `wmr_tf.engine.memory.images_at_once`.

    Raises:
        InvalidInput: If an alpha is negative or not finite, there is no such precision, or the size is not >= 1.

    Example:
        >>> evaluator = RobustnessEvaluator(classifier, attack, alpha_test=(1.0, 2.0))
        >>> result = evaluator(test, verbose=0)
        >>> result.A_sa(2.0).value <= result.A_sa(1.0).value <= result.A_rob.value
        True
    """

    def __init__(
        self,
        classifier: keras.Model,
        attack: Attack,
        *,
        alpha_test: Iterable[float] | float = (1.0,),
        seed: int = 0,
        attack_precision: str = "float32",
        suite: str | None = "strong",
        batch_size: int | None = None,
    ) -> None:
        check_model(classifier)
        check_test_attack(attack)
        warn_if_weak(attack)
        self.classifier, self.attack = classifier, attack
        self.alphas = alphas("alpha_test", alpha_test, minimum=0)
        seed = checked_seed(seed)
        one_of("attack_precision", attack_precision, COMPUTE)
        self._settings = {"seed": seed, "precision": attack_precision}
        self._batch_size = None if batch_size is None else at_least("batch_size", batch_size, 1)
        how: dict[str, Any] = {"batch_size": batch_size, "seed": seed, "precision": attack_precision}
        ball: dict[str, Any] = {"epsilon": attack.epsilon, "norm": attack.norm}
        self._suite = Suite(classifier, version=suite, **ball, **how) if suite else None
        self._clean_logits = _clean_logits(classifier)
        self._attacked_logits = _attacked_logits(classifier, attack, seed, attack_precision)
        functions, strategy = (self._clean_logits, self._attacked_logits), classifier.distribute_strategy
        self._on_replicas = [on_every_replica(strategy, function) for function in functions]

    @full_float32()
    def __call__(
        self, data: Any, *, verbose: int = 1, outcomes: Path | None = None, at_chance: bool = False
    ) -> Robustness:
        """Attack every image of `data` once for A_rob and A_sa, and once for each alpha_test for A_tr.

        A classifier made under a distribution strategy is evaluated on all its replicas, each with its share of each
        batch; every process gets all results.

        Args:
            data: Batches of (images, labels) as a `tf.data.Dataset`, a list or a `keras.utils.PyDataset`, the same
                images in the same order each time; a `CheckedBatches` is not looked at again.
            verbose: 1 shows a progress bar, 2 prints a line a minute, 0 nothing.
            outcomes: The file in which the suite keeps what it finds, see `auto_attack`.
            at_chance: Whether to warn, before the attacks, of a classifier that is no better than guessing, or that
                seems to expect images in another range.

        Returns:
            Margins and losses, and the accuracies that follow.

        Raises:
            InvalidInput: If a batch is not what it should be, or there is none.
        """
        batches = data if isinstance(data, CheckedBatches) else checked_batches(self.classifier, batches_of(data))
        batches = batches.split(self._batch_size or images_at_once(self.classifier, batches[0][0].shape[1:]))
        # The attack of alpha 0 is the plain one, so that one function serves all.
        attacks = [0.0, *self.alphas]
        attacked: list[list[np.ndarray]] = [[] for _ in attacks]  # the logits of each batch
        progress = Progress(len(batches) * len(attacks), unit="test attack: batch", verbose=verbose)
        position = 0
        clean_logits, attacked_logits = self._on_replicas
        self._trace(batches[0][0])
        clean = [[np.asarray(part) for part in clean_logits(images, labels)] for images, labels in batches]
        of_clean, has_no_gradient = map(np.concatenate, zip(*clean, strict=True))
        labels = np.concatenate([labels for _, labels in batches])
        found = warn_of_clean(lambda x, y: np.asarray(clean_logits(x, y)[0]), batches, of_clean) if at_chance else []
        for images, of_images in batches:
            positions = tf.range(position, position + len(images))
            position += len(images)
            for of_attack, alpha in zip(attacked, attacks, strict=True):
                of_attack.append(np.asarray(attacked_logits(images, of_images, positions, tf.constant(alpha))[0]))
                progress.add(1)
        plain, *weighted = map(np.concatenate, attacked)
        logits = Logits(labels, of_clean, plain, dict(zip(self.alphas, weighted, strict=True)))
        suite = None
        if self._suite and np.isfinite([of_clean, plain]).all():
            suite = self._suite(batches, outcomes=outcomes, verbose=verbose)
        zero_gradients = int(has_no_gradient.sum())
        more: dict[str, Any] = {"zero_gradients": zero_gradients, "found": found, "settings": self._settings}
        return Robustness.of(logits, self.attack, suite=suite, **more)

    def _trace(self, images: tf.Tensor) -> None:
        """Trace both functions, once, for batches of any size: the last one is often smaller."""
        specs = [tf.TensorSpec([None, *images.shape[1:]], tf.float32), tf.TensorSpec([None], tf.int32)]
        self._clean_logits.get_concrete_function(*specs)
        self._attacked_logits.get_concrete_function(*specs, tf.TensorSpec([None], tf.int32), tf.TensorSpec([]))


def _clean_logits(classifier: keras.Model) -> Any:
    """Return the `tf.function` of images and labels to their logits, and to whether an image's gradient is all 0."""

    @tf.function(autograph=False)
    def clean_logits(images: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        logits_of = computed_once(freeze_in("float32", classifier))

        def losses(x: tf.Tensor) -> tf.Tensor:
            return unsaturated_cross_entropy(logits_of(x), labels)

        _, logits, gradient = evaluation_of(losses, logits_of)(images)
        # What leaves a function that is not inlined has no shape for TensorFlow's cost estimates, which complain.
        logits = tf.ensure_shape(logits, logits.shape)
        return logits, tf.cast(is_zero(gradient), tf.int32)  # as numbers: replicas do not gather truth values

    return clean_logits


def _attacked_logits(classifier: keras.Model, attack: Attack, seed: int, precision: str) -> Any:
    """Return the `tf.function` of images, labels, positions and alpha to the logits of the attacked images."""

    @tf.function(autograph=False)
    def attacked_logits(
        images: tf.Tensor, labels: tf.Tensor, positions: tf.Tensor, alpha: tf.Tensor
    ) -> list[tf.Tensor]:
        # Here, so that every call reads the present weights.
        logits_of = {each: freeze_in(each, classifier) for each in sorted({"float32", precision})}

        def weighted_losses(x: tf.Tensor) -> tf.Tensor:
            logits = logits_of[precision](x)
            weights = importance_weights(probability_margin(logits, labels), alpha)
            return weighted_in_attack(weights, unsaturated_cross_entropy(logits, labels))

        attacked = attack(
            weighted_losses,
            images,
            seed=seeds.by_position(seed, positions),
            score_fn=lambda x: _margins(logits_of["float32"](x), labels),
        )
        return [logits_of["float32"](attacked)]

    return attacked_logits


def _margins(logits: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """Return the probability margins by which an attack chooses its points.

    Near 1, to which they all round, they are numbers above it that rise with the logit margin: so the nearest point to
    the boundary is chosen there too.
    """
    margins = verdict(logits, labels)  # NaN where a logit is infinite: then the other is too, and is seen
    return tf.where(margins > LARGEST_MARGIN, 1.0 + margins, probability_margin(logits, labels))
