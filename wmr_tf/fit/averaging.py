"""The moving average of the weights that an optimizer keeps, in place of the weights themselves."""

import contextlib
from collections.abc import Iterable, Iterator
from typing import Any

import keras

from wmr_tf.checks import require
from wmr_tf.fit.optimizers import inner

_KEEPING = {"EarlyStopping": "restore_best_weights", "ModelCheckpoint": "save_best_only"}
"""Callbacks of Keras that keep the weights of the best epoch, and the argument by which they do."""


@contextlib.contextmanager
def averaged(model: keras.Model) -> Iterator[None]:
    """Let an `AdversarialModel` have the moving average of its weights in the block, if its optimizer keeps one.

    It does with `use_ema=True`; Keras puts the average into the model for good when `fit` ends. Weights that are set in
    the block are the average from then on. BatchNorm's statistics are those of the trained weights, which follow a few
    hundred steps in any case. A plain Keras model is left as it is, since Keras's own `SwapEMAWeights` may be at work.

    Args:
        model: The model, between two steps.

    Example:
        >>> model.compile(optimizer=keras.optimizers.SGD(0.01, use_ema=True, ema_momentum=0.999))
        >>> history = model.fit(train, verbose=0)
        >>> with averaged(model):
        ...     result = wmr_tf.evaluate_robustness(model.classifier, test, attack, verbose=0)
    """
    optimizer: Any = inner(getattr(model, "optimizer", None))  # plain Keras has none before `compile`
    is_kept = hasattr(model, "classifier") and getattr(optimizer, "use_ema", False) and optimizer.built
    pairs = _pairs(optimizer) if is_kept else []
    _exchange(pairs)
    try:
        yield
    finally:
        _exchange(pairs)


def check_leaves_averages(callbacks: Iterable[Any], optimizer: Any) -> None:
    """Check that no callback puts averages into the model where `averaged` does, or keeps what is not the average.

    Raises:
        InvalidInput: If one does.
    """
    kind = keras.callbacks.SwapEMAWeights
    swaps = any(isinstance(callback, kind) and callback.swap_on_epoch for callback in callbacks)
    is_averaged = getattr(inner(optimizer), "use_ema", False)
    for callback in callbacks if is_averaged else ():
        for kept_by, flag in _KEEPING.items():
            keeps = isinstance(callback, getattr(keras.callbacks, kept_by)) and getattr(callback, flag)
            require(
                not keeps,
                "callbacks",
                got=f"{kept_by}({flag}=True) with an optimizer that averages weights (use_ema=True)",
                expected="none that keeps the weights themselves: it is their average that is evaluated",
                fix="Keep the best by wmr_tf.callbacks.SaveBestClassifier, or leave out use_ema.",
            )
    require(
        not swaps,
        "callbacks",
        got="SwapEMAWeights(swap_on_epoch=True)",
        expected="none: RobustEvaluation and SaveBestClassifier take the average of an optimizer with use_ema=True",
        fix="Leave it out.",
    )


def _pairs(optimizer: Any) -> list[tuple[keras.Variable, keras.Variable]]:
    return list(zip(optimizer._trainable_variables, optimizer._model_variables_moving_average, strict=True))


def _exchange(pairs: Iterable[tuple[keras.Variable, keras.Variable]]) -> None:
    for weight, average in pairs:
        value = keras.ops.copy(weight.value)
        weight.assign(average.value)
        average.assign(value)
