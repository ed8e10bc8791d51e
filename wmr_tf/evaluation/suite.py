"""AutoAttack: an ensemble of attacks, each on the images that those before it did not break."""

import time
import warnings
from collections.abc import Hashable, Iterable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from wmr_tf.attacks.base import check_rank, radius_flags, warn_of
from wmr_tf.checks import at_least, number_of, one_of, require
from wmr_tf.checks import seed as checked_seed
from wmr_tf.engine.distribution import is_chief, on_every_replica
from wmr_tf.engine.frozen import freeze_in
from wmr_tf.engine.memory import AT_MOST, images_at_once
from wmr_tf.engine.precision import COMPUTE, full_float32
from wmr_tf.engine.progress import Progress
from wmr_tf.evaluation.outcomes import Outcomes, file_for, identity_of, resumed
from wmr_tf.evaluation.ranges import warn_of_clean
from wmr_tf.evaluation.stages import Batch, Stage
from wmr_tf.evaluation.suite_result import SuiteResult, deviations
from wmr_tf.evaluation.versions import stages_of
from wmr_tf.inputs.batches import CheckedBatches, batches_of, checked_batches
from wmr_tf.inputs.classifier import check_model

SAVE_SECONDS = 30.0
"""How much work a killed evaluation loses at most, but for the batch that it is in."""


class Suite:
    """Attacks one classifier any number of times with one trace an attack, as a callback does.

    Args:
        classifier: A Keras model that returns logits.
        epsilon: Radius of the ball, in units of the images' range [0, 1].
        norm: "linf", "l2" or "l1".
        version: See `auto_attack`.
        batch_size: Images attacked together, at most; as many as fit a memory budget if not given, see
            `wmr_tf.engine.memory.images_at_once`. Results depend on it only by rounding.
        seed: Of all random numbers, which are keyed by attack, run and the image's position in the data.
        precision: "float32", or "bfloat16" for faster and less exact gradients of Auto-PGD. An image counts as broken
            only by its logits in float32.

    Raises:
        InvalidInput: If a setting is out of range.
    """

    def __init__(
        self,
        classifier: keras.Model,
        *,
        epsilon: float,
        norm: str = "linf",
        version: str | Iterable[str] = "standard",
        batch_size: int | None = None,
        seed: int = 0,
        precision: str = "float32",
    ) -> None:
        check_model(classifier)
        version = version if isinstance(version, str) else tuple(version)
        self.classifier = classifier
        self.stages = stages_of(version, epsilon=epsilon, norm=norm)
        self.batch_size = None if batch_size is None else at_least("batch_size", batch_size, 1)
        self.seed, self.precision = checked_seed(seed), one_of("precision", precision, COMPUTE)
        shown = version if isinstance(version, str) else "+".join(version)
        self.settings: dict[str, Any] = {
            "version": shown,
            "norm": norm,
            "epsilon": number_of(epsilon),
            "seed": self.seed,
        }
        if precision != "float32":  # a file of outcomes in float32 does not name it
            self.settings["precision"] = precision
        self._made: dict[Hashable, Any] = {}  # the attacks as functions

    @full_float32()
    def __call__(
        self,
        batches: CheckedBatches,
        *,
        outcomes: Path | None = None,
        verbose: int = 1,
        at_chance: bool = False,
    ) -> SuiteResult:
        """Attack images.

        Args:
            batches: The images and labels.
            outcomes: The file to keep the outcomes in, and to go on from where it is there.
            verbose: 1 shows a progress bar, 2 prints a line a minute, 0 nothing.
            at_chance: Whether to warn, before the attacks, of a classifier that is no better than guessing, or that
                seems to expect images in another range.

        Raises:
            InvalidInput: If the file is of another evaluation, or the classifier gives NaN for a clean or an attacked
                image.
        """
        images = np.concatenate([images for images, _ in batches])
        for stage in self.stages:  # before hours of the first ones
            check_rank(stage.attack, images.shape)
        labels = np.concatenate([labels for _, labels in batches])
        batches = batches.split(self._at_once(images))
        logits = self._clean_logits(batches)
        _check_finite(logits, "clean images", expected="finite logits on every image")
        if at_chance:
            warn_of_clean(lambda x, y: self._clean_logits(CheckedBatches([(x, y)])), batches, logits)
        state = Outcomes.begin(images, labels, logits)
        classes = state.logits.shape[1]
        runs = [(stage, run) for stage in self.stages for run in range(stage.runs_for(classes))]
        identity = identity_of(self.classifier, images, labels, self.settings) if outcomes else {}
        if outcomes:
            state = resumed(outcomes, identity, state)
        self._attack(state, runs, _Saver(outcomes, identity, self.classifier), verbose)
        return SuiteResult(
            state, tuple(stage.name for stage, _ in runs), self.settings, deviations(self.settings["version"], classes)
        )

    def _at_once(self, images: np.ndarray) -> int:
        return self.batch_size or images_at_once(self.classifier, images.shape[1:])

    def _attack(self, state: Outcomes, runs: list[tuple[Stage, int]], saver: "_Saver", verbose: int) -> None:
        """Make the runs that are left, from where `state` is."""
        # Runners-up of the clean image by logit; of equal ones the first, as in argmax.
        ranks = np.argsort(-state.clean_logits, axis=1, kind="stable").astype(np.int32)
        left = sum(stage.passes for stage, _ in runs[state.run :]) * len(state.alive())
        progress = Progress(left, unit="stronger attacks: pass", verbose=verbose)
        for stage, run in runs[state.run :]:
            while len(places := state.alive()[: self._at_once(state.clean)]):
                self._attack_batch(state, stage, run, places, ranks)
                state.done += len(places)
                progress.add(stage.passes * len(places))
                saver.save_if_due(state)
            state.run, state.done = state.run + 1, 0
            now = sum(stage.passes for stage, _ in runs[state.run :]) * len(state.alive())
            progress.expect(now)
        state.finish()
        saver.save(state)

    def _attack_batch(self, state: Outcomes, stage: Stage, run: int, places: np.ndarray, ranks: np.ndarray) -> None:
        size = min(filled_up(len(places)), self._at_once(state.clean))
        padded = np.resize(places, size)  # each again from the first
        targets = ranks[padded, run + 1] if stage.targeted else np.full(len(padded), stage.target, np.int32)
        batch = Batch(
            state.clean[padded],
            state.labels[padded],
            padded.astype(np.int32),
            targets,
            state.carried[padded],
            state.carried_margins[padded],
        )
        seeds = stage.seed(self.seed, tf.constant(batch.positions), tf.constant(run))
        found = self._function(stage, state.clean)(*map(tf.convert_to_tensor, batch), seeds, tf.constant(run))
        points, radii, carried, margins, logits = (np.asarray(part)[: len(places)] for part in found)
        _check_finite(logits, "attacked images", expected="finite logits on every image in the ball", attack=stage.name)
        state.update(places, points, logits)
        state.radii[places] = np.minimum(state.radii[places], radii)
        state.carried[places], state.carried_margins[places] = carried, margins

    def _clean_logits(self, batches: CheckedBatches) -> np.ndarray:
        if "clean" not in self._made:
            shape = [None, *batches[0][0].shape[1:]]
            forward = tf.function(
                lambda images: [freeze_in("float32", self.classifier)(images)],
                input_signature=[tf.TensorSpec(shape)],
                autograph=False,
            )
            forward.get_concrete_function()  # TensorFlow takes many suites for one that traces again in each call
            self._made["clean"] = on_every_replica(self.classifier.distribute_strategy, forward)
        return np.concatenate([self._made["clean"](images)[0] for images, _ in batches])

    def _function(self, stage: Stage, images: np.ndarray) -> Any:
        """Return a stage as a function of a batch, its seeds and the run, made once; it reads the present weights."""
        if stage.trace in self._made:
            return self._made[stage.trace]
        pictures, number = tf.TensorSpec([None, *images.shape[1:]]), tf.TensorSpec([None], tf.int32)
        batch = Batch(pictures, number, number, number, pictures, tf.TensorSpec([None]))
        signature = [*batch, tf.TensorSpec([None, 2], tf.int32), tf.TensorSpec([], tf.int32)]

        @tf.function(input_signature=signature, autograph=False)
        def attack(*arguments: tf.Tensor) -> list[tf.Tensor]:
            *parts, seeds, run = arguments
            precise = freeze_in("float32", self.classifier)
            is_precise = self.precision == "float32" or not stage.allows_bfloat16
            network = precise if is_precise else freeze_in(self.precision, self.classifier)
            found = stage(network, Batch(*parts), run, seeds)
            return [*found, precise(found.points)]

        self._made[stage.trace] = on_every_replica(self.classifier.distribute_strategy, attack)
        return self._made[stage.trace]


def filled_up(count: int) -> int:
    """Return the size of a batch for what is left of the images: the next of few sizes.

    What is left is of another number each time, and TensorFlow keeps kernels of every size that it has seen, which in
    a long training would be hundreds. Up to a batch of 256 there are 16 such sizes. The smallest are close to each
    other: the last image of a large network would otherwise cost as much as 16 in each of a thousand steps.

    Example:
        >>> [filled_up(count) for count in (1, 5, 33, 200)]
        [1, 8, 48, 224]
    """
    if count < 16:
        return 1 << (count - 1).bit_length()
    unit = max(16, 1 << max(count.bit_length() - 3, 0))
    return -(-count // unit) * unit


def _check_finite(logits: np.ndarray, images: str, *, expected: str, attack: str = "") -> None:
    is_wrong = ~np.isfinite(logits).all(axis=1)
    require(
        not is_wrong.any(),
        "classifier",
        got=f"NaN or infinite logits for {is_wrong.sum()} {images}",
        expected=expected,
        fix=f"Look at its layers: no accuracy can be given.{attack and f' The attack was {attack}.'}",
    )


class _Saver:
    """Keeps the outcomes in a file, where there is one, now and then; only the chief of several workers writes."""

    def __init__(self, path: Path | None, identity: dict[str, Any], classifier: keras.Model) -> None:
        self._path = path if path and is_chief(classifier.distribute_strategy) else None
        self._identity, self._saved = identity, time.monotonic()

    def save_if_due(self, state: Outcomes) -> None:
        """Write the file if it has become old; the evaluation can do without, so that a fault is only told of."""
        if time.monotonic() - self._saved > SAVE_SECONDS:
            self._saved = time.monotonic()
            try:
                self.save(state)
            except OSError as error:
                warnings.warn(f"outcomes: {error} The evaluation goes on without.", stacklevel=2)

    def save(self, state: Outcomes) -> None:
        """Write the file."""
        if self._path:
            state.save(self._path, self._identity)
            self._saved = time.monotonic()


def auto_attack(
    classifier: keras.Model,
    data: Any,
    *,
    epsilon: float,
    norm: str = "linf",
    version: str | Iterable[str] = "standard",
    batch_size: int | None = None,
    examples: int | None = None,
    seed: int = 0,
    outcomes: str | Path | None = None,
    verbose: int = 1,
) -> SuiteResult:
    """Attack images with AutoAttack and return the accuracy that is left.

    The attacks run in order, each from the clean images, on those that are still classified correctly. An image is
    broken if one of them finds a misclassified point in the ball.

    Args:
        classifier: A Keras model that returns logits. One made under a distribution strategy is attacked on all its
            replicas, each with its share of each batch.
        data: Batches of (images, labels) as a `tf.data.Dataset`, a list or a `keras.utils.PyDataset`, or a pair of
            arrays; the images are floats in [0, 1].
        epsilon: Radius of the ball in the norm, in units of the images' range [0, 1].
        norm: "linf", "l2" or "l1".
        version: "standard", what the field reports; "plus", more attacks; "rand", for randomised classifiers; "quick",
            the first two attacks of the standard, and not standard; or names of attacks in order, such as
            ("apgd-ce", "square").
        batch_size: Images attacked together, at most; as many as fit a memory budget if not given, see
            `wmr_tf.engine.memory.images_at_once`. Results depend on it only by rounding.
        examples: How many images to attack, the first ones; all if not given.
        seed: Of all random numbers, which are keyed by attack, run and position: no result depends on order or on an
            interruption.
        outcomes: A file (.npz) that is written now and then, and at the end; if it is there, the evaluation goes on
            from it with the same result.
        verbose: 1 shows a progress bar, 2 prints a line a minute, 0 nothing.

    Returns:
        Accuracies, and what is known of every image.

    Raises:
        InvalidInput: If data, classifier or a setting is not what it should be, the file is of another evaluation, or
            the classifier gives NaN for an attacked image.

    Example:
        >>> result = auto_attack(classifier, test, epsilon=0.3, version="quick", verbose=0)
        >>> result.accuracy.value <= result.clean_accuracy.value
        True

    Source: Croce and Hein 2020, "Reliable evaluation of adversarial robustness with an ensemble of diverse
        parameter-free attacks"; constants and order are those of the public code.

    Note: Differs from the public code in this: random numbers are keyed (there, an image's depend on its place among
        the survivors), Square's windows are drawn for each image (there, for a batch), images outside [0, 1] and NaN
        are refused, and the image kept is that of smallest margin.
    """
    suite = Suite(classifier, epsilon=epsilon, norm=norm, version=version, batch_size=batch_size, seed=seed)
    warn_of(radius_flags(suite.settings["epsilon"], norm))
    file = file_for(outcomes, classifier)
    batches = checked_batches(classifier, batches_of(data, batch_size or AT_MOST, examples))
    return suite(batches, outcomes=file, verbose=verbose, at_chance=True)
