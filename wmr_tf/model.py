"""The Keras model that trains a classifier adversarially."""

import inspect
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from wmr_tf.checks import at_least, nonnegative, require
from wmr_tf.checks import seed as checked_seed
from wmr_tf.data.pipeline import looked_at, unreadable_reported
from wmr_tf.divergence import Diverged, StopOnDivergence
from wmr_tf.engine import distribution, seeds
from wmr_tf.engine.perturbation import moved_uphill
from wmr_tf.engine.precision import compute_dtypes
from wmr_tf.engine.streams import in_parts
from wmr_tf.fit.averaging import check_leaves_averages
from wmr_tf.fit.optimizers import inner
from wmr_tf.fit.resumable import Resumable, resumable
from wmr_tf.inputs.batches import check_ends, check_first_batch, check_index, first_batch, image_and_index
from wmr_tf.inputs.classifier import check_architecture
from wmr_tf.inputs.watch import Watch
from wmr_tf.losses import cross_entropy
from wmr_tf.methods import Batch, LossFn, Method
from wmr_tf.weights import class_indices

_CLIPS = ("clipnorm", "global_clipnorm", "clipvalue")


@keras.saving.register_keras_serializable("wmr_tf")
class AdversarialModel(keras.Model):
    """Trains a classifier with a method; the classifier is what you save and use afterwards.

    `compile` takes an optimizer and metrics and no loss: the method has its own. In `fit`, "loss" and the metrics
    are of the images that the update saw (the attacked ones in an adversarial method); `evaluate` and
    `validation_data` measure cross-entropy and metrics on the images themselves. Images may come as
    `{"image": images, "index": index}`; methods that keep something for each training image need the index.

    Args:
        classifier: Any Keras model of images, float32 in [0, 1], that returns logits `[batch, classes]`.
        method: How a batch updates it, see `wmr_tf.methods`.
        weight_decay: As in PyTorch: `weight_decay * w` is added to the gradient of every trainable w.
        awp: Adversarial weight perturbation: the gradient of a step is taken where each kernel has been moved uphill by
            this part of its norm, such as the authors' 0.005, for one more pass; see `wmr_tf.engine.perturbation`.
        seed: Of the attacks' random starts; the step and the replica are folded in.

    Raises:
        InvalidInput: If the classifier ends in softmax or sigmoid, or the method cannot train it, or a number is out
            of range, or the method makes other steps than `awp` can be part of.

    Example:
        >>> attack = wmr_tf.attacks.PGD(epsilon=0.3, step_size=0.01, steps=40)
        >>> model = AdversarialModel(classifier, wmr_tf.methods.TRADES(attack, beta=6.0, alpha=2.0))
        >>> model.compile(optimizer="sgd", metrics=["accuracy"])
        >>> history = model.fit(train, epochs=10, verbose=0)
        >>> classifier.save("robust.keras")

    Source: Algorithm 1 of Zeng et al. 2021; awp of Wu et al. 2020.

    Note: Regularisation losses are added to the method's loss; those of activity are from the last forward pass.
    """

    train_function: Any
    resumable: Resumable | None = None
    """The callbacks of a `fit` that `wmr_tf.callbacks.ExactResume` keeps checkpoints of."""

    def __init__(
        self,
        classifier: keras.Model,
        method: Method,
        *,
        weight_decay: float = 0.0,
        awp: float = 0.0,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        check_architecture(classifier)
        require(
            isinstance(method, Method),
            "method",
            got=repr(method),
            expected="one of wmr_tf.methods",
            fix="Pass for instance wmr_tf.methods.TRADES(attack, beta=6.0).",
        )
        # Keras scales the loss if this policy is float16; the classifier itself casts the images, or does not.
        policy = "mixed_float16" if "float16" in compute_dtypes(classifier) else classifier.dtype_policy
        super().__init__(**{"dtype": policy, "autocast": False, **kwargs})
        self.classifier = classifier
        self.method = method
        if classifier.built:
            method.check(classifier)
        self.weight_decay = nonnegative("weight_decay", weight_decay)
        self.awp = nonnegative("awp", awp)
        fix = "Leave out awp or choose another method."
        expected = f"0, since {type(method).__name__} takes the gradient of a step from several passes"
        require(not awp or method.descends, "awp", got=awp, expected=expected, fix=fix)
        self.seed = checked_seed(seed)
        self.built = classifier.built
        self.watch: Watch | None = None

    def build(self, images_shape: tuple[int | None, ...]) -> None:
        """Do nothing: the classifier is built when it is first called, the method by `fit`, which knows a batch."""

    def call(self, images: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Return the classifier's logits `[batch, classes]`."""
        if training:
            return self.classifier(images, training=True)
        return in_parts(lambda part: self.classifier(part, training=training), images)

    def fit(self, x: Any = None, y: Any = None, *args: Any, **kwargs: Any) -> keras.callbacks.History:
        """Train as `keras.Model.fit` does, once the first batches have been looked at.

        Raises:
            InvalidInput: If the model has not been compiled, the data have no end, images, labels or the classifier's
                outputs are not what the losses need, the optimizer clips on several replicas, or the method needs an
                index, or a single replica, and has none, or batches no larger than before. Images and labels of later
                batches are counted as they come, and what is wrong with them is said when the epoch ends.
            Diverged: If the loss or a weight is not finite any more, see `wmr_tf.divergence`.
            OSError: If an image in a file can be read no longer.
        """
        kwargs = _named(super().fit, x, y, *args, **kwargs)
        _check_arguments(x, kwargs, getattr(self, "optimizer", None))
        _look_for_the_largest(kwargs.get("callbacks"))
        validation_data = kwargs.pop("validation_data", None)
        data = x
        before: dict[str, Any] = {}
        first, x = self._checked(x, y, kwargs.get("sample_weight"))
        kwargs["callbacks"] = self._guarded(kwargs.get("callbacks"))
        whole = first[0] is x  # arrays, which Keras cuts into batches
        self._prepare_method(first[0], (kwargs.get("batch_size") or 32) if whole else None)
        if isinstance(validation_data, tuple | list):
            self._checked(*validation_data)
        elif validation_data is not None:
            _, validation_data = self._checked(validation_data)
        if isinstance(x, tf.data.Dataset) or distribution.is_distributed(x):
            kwargs.setdefault("shuffle", False)  # it shuffles itself or not; Keras would warn that it cannot
        while True:  # once, and again for each rollback
            self.resumable = kept = resumable(self, data, **before, **kwargs)
            if kept is None:
                with unreadable_reported():
                    return super().fit(x, y, validation_data=validation_data, **kwargs)
            with kept.running(), unreadable_reported():
                try:
                    return super().fit(x, y, validation_data=validation_data, **{**kwargs, "callbacks": kept})
                except Diverged as diverged:
                    before = kept.go_back(diverged)

    def evaluate(self, x: Any = None, y: Any = None, *args: Any, **kwargs: Any) -> Any:
        """Measure as `keras.Model.evaluate` does, once the first batch has been looked at.

        Raises:
            InvalidInput: If the data have no end, or images, labels or the classifier's outputs are not what the losses
                need.
        """
        if not kwargs.get("_use_cached_eval_dataset"):  # Keras's word for: within `fit`, which has looked at them
            check_ends(x, _named(super().evaluate, x, y, *args, **kwargs).get("steps"), "steps")
            _, x = self._checked(x, y, kwargs.get("sample_weight"))
        return super().evaluate(x, y, *args, **kwargs)

    def train_step(self, data: Any) -> dict[str, Any]:
        """Let the method update the classifier on one batch."""
        images, index, y, sample_weight = self._unpacked(data)
        if self.method.needs_index:
            check_index(index)
        batch = Batch(images, class_indices(y), sample_weight, self._batch_seed(), index)
        logits = self.method.train_batch(self, batch)
        return self._logs(images, y, logits, sample_weight)

    def test_step(self, data: Any) -> dict[str, Any]:
        """Measure cross-entropy and the metrics on one batch of images, not attacked."""
        images, _, y, sample_weight = self._unpacked(data)
        logits = self(images, training=False)
        loss = _weighted_mean(cross_entropy(logits, y), sample_weight)
        self._track(loss, images)
        return self._logs(images, y, logits, sample_weight)

    def make_train_function(self, force: bool = False) -> None:
        """Make the function that `fit` calls for each batch, which is traced anew once a setting changes.

        What is traced holds the settings of model and method as constants.
        """
        if self.train_function is not None and not force:
            return
        super().make_train_function(force=True)
        step, traced = self.train_function, self._settings()

        def train_function(iterator: Any) -> dict[str, Any]:
            if self._settings() != traced:
                self.make_train_function(force=True)
                return self.train_function(iterator)
            if self.resumable is not None and self.resumable.has_passed(iterator):
                return self.get_metrics_result()
            return step(iterator)

        self.train_function = train_function

    def descend(self, batch: Batch, loss_fn: LossFn) -> tf.Tensor:
        """Make one optimiser step on the mean of `loss_fn() -> (losses [batch], logits)`; return the logits."""
        with moved_uphill(self.classifier, lambda: self._scaled_mean(batch, loss_fn), self.awp):
            logits, gradients, _ = self.differentiate(batch, loss_fn)
        self.update(gradients)
        return logits

    def differentiate(
        self, batch: Batch, loss_fn: LossFn, *, at: tf.Tensor | None = None
    ) -> tuple[tf.Tensor, list[tf.Tensor | None], tf.Tensor | None]:
        """Return logits and gradients of the mean of `loss_fn() -> (losses [batch], logits)`, from one pass.

        Args:
            batch: The batch; its sample weights count.
            loss_fn: The loss; regularisation and weight decay are added.
            at: A further tensor `[batch, ...]` to differentiate at, which `loss_fn` computes with.

        Returns:
            The logits `[batch, classes]`; and, scaled as `update` takes them, the gradients for each trainable variable
            and at `at`. In float16 they may have overflowed; `update` then makes no step.
        """
        weights = self.trainable_variables
        watched = [] if at is None else [at]
        with tf.GradientTape() as tape:
            tape.watch(watched)
            losses, logits = loss_fn()
            mean, penalty = _weighted_mean(losses, batch.sample_weight), self._regularisation()
            decay = self.weight_decay * sum(map(_half_square, weights)) if self.weight_decay else 0.0
            # The optimizer sums gradients over replicas, each of which has taken the mean of its own share.
            part = mean * distribution.fraction_of_batch(batch.images) + (penalty + decay) / distribution.replicas()
            scaled = self.optimizer.scale_loss(part)
        gradients = tape.gradient(scaled, [*weights, *watched])
        self._track(mean + penalty, batch.images)
        return logits, gradients[: len(weights)], gradients[-1] if watched else None

    def update(self, gradients: list[tf.Tensor | None]) -> None:
        """Make one optimiser step, given a gradient, or a mean of several, from `differentiate`."""
        if inner(self.optimizer) is not self.optimizer:  # float16, where a replica looks at its own gradients alone
            gradients = distribution.overflown_together(gradients)
        if self.watch:
            self.watch.see_gradients(gradients, self.optimizer.scale_loss(1.0))
        self.optimizer.apply_gradients(zip(gradients, self.trainable_variables, strict=True))

    def get_config(self) -> dict[str, Any]:
        """Return what `keras.saving.load_model` needs to make the same training model again."""
        serialize = keras.saving.serialize_keras_object
        return {
            "name": self.name,
            "classifier": serialize(self.classifier),
            "method": serialize(self.method),
            "weight_decay": self.weight_decay,
            "awp": self.awp,
            "seed": self.seed,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> "AdversarialModel":
        """Return the model that `get_config` describes."""
        return cls(**keras.saving.deserialize_keras_object(config, custom_objects))

    def _guarded(self, callbacks: Any) -> Any:
        """Return the callbacks of a `fit` behind the one that stops it; Keras's own list of them is left as it is."""
        if isinstance(callbacks, keras.callbacks.CallbackList):
            return callbacks
        is_alone = distribution.workers(self.distribute_strategy) == 1
        return [StopOnDivergence(self._classes, is_alone=is_alone), *keras.tree.flatten(callbacks or [])]

    def _scaled_mean(self, batch: Batch, loss_fn: LossFn) -> tf.Tensor:
        losses, _ = loss_fn()
        return self.optimizer.scale_loss(_weighted_mean(losses, batch.sample_weight))

    def _settings(self) -> list[Any]:
        of_method = [getattr(self.method, name) for name in self.method.settings()]
        return [self.method, *of_method, self.weight_decay, self.awp, self.seed]

    def _regularisation(self) -> tf.Tensor:
        # As Keras does it: a layer may add losses in its own precision, and of any shape.
        return sum(tf.reduce_sum(tf.cast(loss, tf.float32)) for loss in self.classifier.losses)

    def _track(self, loss: tf.Tensor, images: tf.Tensor) -> None:
        # Keras's own tracker of "loss": one of ours would stand beside it, and twice in what `evaluate` returns.
        self._loss_tracker.update_state(loss, sample_weight=tf.shape(images)[0])

    def _logs(self, *seen: Any) -> dict[str, Any]:
        return distribution.logs_for_keras(self.compute_metrics(*seen), self.distribute_strategy)

    def _maybe_symbolic_build(self, iterator: Any = None, data_batch: Any = None) -> None:
        # The metrics' and the optimizer's variables: a step that makes any is traced twice, and cannot in a loop. Keras
        # waits for the step unless there is a strategy. Its iterator fails with several workers, and moves a shuffle on
        # by one: `_checked` has come here with the first batch.
        if iterator is not None and self.resumable is not None:
            self.resumable.expect(iterator)
        if data_batch is not None:
            images, labels, sample_weight = keras.utils.unpack_x_y_sample_weight(data_batch)
            with self.distribute_strategy.scope():
                self._symbolic_build(data_batch=(image_and_index(images)[0], labels, sample_weight))

    def _get_metrics_result_or_logs(self, logs: dict[str, Any]) -> dict[str, Any]:
        # What Keras calls when it has come to the end of an epoch, or of an evaluation.
        if self.watch:
            self.watch.check()
        return super()._get_metrics_result_or_logs(logs)

    def _batch_seed(self) -> tf.Tensor:
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        # Not `iterations`, of which several batches whose gradients are accumulated have the same.
        return seeds.fold_in(self.seed, inner(self.optimizer)._iterations, replica)

    def _check_compiled(self) -> None:
        """Check that there is an optimizer, and no loss."""
        fix = 'Call for instance model.compile(optimizer="sgd", metrics=["accuracy"]) first.'
        is_ready = getattr(self, "optimizer", None) is not None
        require(is_ready, "model", got="no optimizer", expected="a model that has been compiled with one", fix=fix)
        has_loss, expected = self._compile_config.config.get("loss") is not None, "none, since the method has its own"
        require(not has_loss, "compile(loss=...)", got="a loss", expected=expected, fix="Leave out loss= in compile().")
        self._compile_loss = None  # which Keras keeps of a `compile` before, that had one

    def _checked(self, x: Any, y: Any = None, sample_weight: Any = None) -> tuple[Any, Any]:
        """Look at the first batch; return it, and `x` such that this batch is not lost."""
        self._check_compiled()
        with looked_at(x), unreadable_reported():
            first, x = first_batch(x, y, sample_weight, self.distribute_strategy)
        with self.distribute_strategy.scope():  # the classifier may be built by this call
            self._classes = check_first_batch(self.classifier, first)
            self.watch = self.watch or Watch(self._classes)
        self.watch.reset()
        self.built = True  # since the classifier is, which has just been called
        self._maybe_symbolic_build(data_batch=first)
        return first, distribution.splittable_by_keras(x, self.distribute_strategy)

    def _prepare_method(self, x: Any, batch_size: int | None) -> None:
        """Show the method the shape of a batch, given the first one, or all the images and the size of a batch."""
        self.method.check(self.classifier)
        images, index = image_and_index(x)
        if self.method.needs_index:
            check_index(index, getattr(self.method, "examples", None))
        shape = tuple(int(side) for side in np.shape(images))
        shape = (min(shape[0], batch_size or shape[0]), *shape[1:])
        if not self.method.built:
            with self.distribute_strategy.scope():
                self.method.build(shape)
        self.method.check_batch(shape)
        replicas = self.distribute_strategy.num_replicas_in_sync
        require(
            replicas == 1 or not self.method.variables,
            f"method {type(self.method).__name__}",
            got=f"{replicas} replicas",
            expected="one, since what it keeps from step to step exists once",
            fix="Train it without a distribution strategy, or choose another method.",
        )
        expected = "0 under a distribution strategy, whose replicas would move the weights apart"
        require(replicas == 1 or not self.awp, "awp", got=self.awp, expected=expected, fix="Leave it out.")
        clips = [name for name in _CLIPS if getattr(inner(self.optimizer), name, None)]
        expected = "none under a distribution strategy: Keras would clip each replica's part, not the gradient"
        require(replicas == 1 or not clips, "optimizer", got=", ".join(clips), expected=expected, fix="Leave it out.")

    def _unpacked(self, data: Any) -> tuple[tf.Tensor, tf.Tensor | None, tf.Tensor, tf.Tensor | None]:
        """Return images, their index if there is one, labels, and sample weights if there are any."""
        self._check_compiled()
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        images, index = image_and_index(x)
        if index is not None:
            index = tf.cast(tf.reshape(index, [-1]), tf.int32)
        if sample_weight is not None:
            sample_weight = tf.cast(tf.reshape(sample_weight, [-1]), tf.float32)
        images = tf.cast(images, tf.float32)
        return images, index, self.watch.usable(images, y) if self.watch else y, sample_weight


def _named(function: Callable[..., Any], x: Any, y: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
    """Return the arguments of Keras's function after images and labels by their names, also those given by their place.

    Raises:
        TypeError: If there are too many, or one is given twice or has a name that the function does not know.
    """
    given = inspect.signature(function).bind(x, y, *args, **kwargs).arguments
    return {name: value for name, value in given.items() if name not in ("x", "y")}


def _check_arguments(x: Any, given: dict[str, Any], optimizer: Any) -> None:
    """Check the arguments of `fit` that Keras would take, and fail at later, train on nothing or never end."""
    for data, steps in ((x, "steps_per_epoch"), (given.get("validation_data"), "validation_steps")):
        check_ends(data, given.get(steps), steps)
    if given.get("batch_size") is not None:
        at_least("batch_size", given["batch_size"], 1)
    at_least("epochs", given.get("epochs", 1), 0)
    callbacks = keras.tree.flatten(given.get("callbacks") or [])
    others = [each for each in callbacks if not isinstance(each, keras.callbacks.Callback)]
    fix = "Pass for instance [wmr_tf.callbacks.RobustEvaluation(validation, attack)]."
    require(not others, "callbacks", got=others, expected="a list of keras.callbacks.Callback", fix=fix)
    check_leaves_averages(callbacks, optimizer)


def _look_for_the_largest(callbacks: Any) -> None:
    """Have callbacks that monitor an accuracy under attack look for the largest, which Keras cannot tell."""
    for callback in keras.tree.flatten(callbacks or []):
        if getattr(callback, "mode", "") == "auto" and str(getattr(callback, "monitor", "")).startswith("val_A_"):
            callback.mode = "max"


def _weighted_mean(losses: tf.Tensor, sample_weight: tf.Tensor | None) -> tf.Tensor:
    # As Keras does it: the sum of the weighted losses over the number of images, not over the sum of the weights.
    return tf.reduce_mean(losses if sample_weight is None else losses * sample_weight)


def _half_square(weight: keras.Variable) -> tf.Tensor:
    return tf.nn.l2_loss(tf.cast(weight, tf.float32))
