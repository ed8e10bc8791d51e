"""What Keras's optimizers have, whatever is around them and whatever devices they are on."""

from typing import Any

import keras


def inner(optimizer: Any) -> Any:
    """Return the optimizer that makes the steps: in float16 another one, which scales the loss, is around it."""
    return getattr(optimizer, "inner_optimizer", optimizer)


def learning_rate_of(model: Any) -> float:
    """Return the present learning rate of a model's optimizer, on whatever devices it is."""
    return float(keras.ops.convert_to_numpy(model.optimizer.learning_rate))
