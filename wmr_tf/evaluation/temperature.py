"""Temperature: what a classifier's confidence alone does to the weighted accuracies.

Dividing the logits by a number changes no prediction and so not A_rob on given images, but it changes the margins and
with them A_sa. Compare two defences at the same mean top probability before you call one of them more robust.
"""

import keras
import numpy as np

from wmr_tf.checks import positive, require


def mean_top_probability(logits: np.ndarray, temperature: float = 1.0) -> float:
    """Return the mean over images of `max_k softmax(logits / temperature)[k]`.

    Args:
        logits: Floats `[images, classes]`.
        temperature: A number > 0.

    Returns:
        A number in [1 / classes, 1].

    Example:
        >>> round(mean_top_probability(np.array([[0.0, 1.0]])), 3)
        0.731
    """
    scaled = np.asarray(logits, np.float64) / temperature
    # exp(max - max) = 1 over the sum is the top probability.
    return float(np.mean(1.0 / np.exp(scaled - scaled.max(axis=1, keepdims=True)).sum(axis=1)))


def temperature_for(logits: np.ndarray, top_probability: float) -> float:
    """Return the temperature at which the mean top probability of `logits` is `top_probability`.

    Args:
        logits: Floats `[images, classes]`, for instance of clean validation images.
        top_probability: The mean top probability to reach, in (1 / classes, 1).

    Returns:
        The temperature, by bisection, to a relative 1e-9.

    Raises:
        InvalidInput: If no temperature between 1e-6 and 1e6 gives that probability.
    """
    low, high = np.log(1e-6), np.log(1e6)
    reachable = mean_top_probability(logits, np.exp(high)), mean_top_probability(logits, np.exp(low))
    require(
        reachable[0] <= top_probability <= reachable[1],
        "top_probability",
        got=top_probability,
        expected=f"a number in [{reachable[0]:.4f}, {reachable[1]:.4f}]",
        fix="Take the mean top probability of another classifier with as many classes.",
    )
    while high - low > 1e-9:
        middle = (low + high) / 2
        low, high = (middle, high) if mean_top_probability(logits, np.exp(middle)) > top_probability else (low, middle)
    return float(np.exp((low + high) / 2))


def at_temperature(classifier: keras.Model, temperature: float) -> keras.Model:
    """Return the classifier with its logits divided by `temperature`: the same predictions, another confidence.

    Raises:
        InvalidInput: If the temperature is not a finite number > 0.
    """
    scale = 1.0 / positive("temperature", temperature)
    return keras.Sequential([classifier, keras.layers.Rescaling(scale, dtype="float32")])
