"""The numbers behind the alarms, one function each, with their limits and what each says."""

import itertools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from wmr_tf.evaluation.flags import MASKED_GAP, SQUARE_HELPS, allowed
from wmr_tf.evaluation.outcomes import logit_margins
from wmr_tf.evaluation.probes import WHOLE_BOX, Probes

SAME_DIRECTION = 1e-4
"""Up to which l2 distance two rows of logits of unit length are the same; the public AutoAttack's."""

SUM_SLACK, RANGE_SLACK = 0.05, 0.01
"""How far the sums of nearly-probabilities may be from their median, and their values outside of [0, the median]."""

SCALE_MOVES, MORE_MOVES, RISES, SILENT = 0.01, 0.005, 0.002, 0.01
"""By how much A may fall with the logits' scale and with more starts or steps, and rise with epsilon; and which share
of images may be broken on the way of plain PGD and not at its end."""

UNSTABLE, INCOMPLETE = 0.1, 0.05
"""The thresholds of the published indicators of attack failure I2 and I4."""

LAST_STEPS = 10
"""In which an attack must no longer get further (I4)."""


class Found(NamedTuple):
    """The number that a check found, and its limit: it raises a flag if the number is larger."""

    value: float
    threshold: float


def _share(mask: np.ndarray) -> float:
    return float(np.mean(mask))


def _loss(before: np.ndarray, after: np.ndarray) -> float:
    """Return the share of images that are in the first mask and not in the second."""
    return _share(before & ~after)


def _randomised(probes: Probes) -> Found:
    outputs = probes.outputs.astype(np.float64)
    unit = outputs / np.maximum(np.linalg.norm(outputs, axis=2, keepdims=True), 1e-12)
    moved = np.linalg.norm(unit - unit[0], axis=2) > SAME_DIRECTION
    return Found(_share((moved | (outputs.argmax(axis=2) != outputs[0].argmax(axis=1))).any(axis=0)), 0)


def _probabilities(probes: Probes) -> Found:
    """Find the share of rows that are like probabilities, up to a common factor; they are if all rows are."""
    outputs = probes.outputs[0]
    sums = outputs.sum(axis=1)
    whole = np.median(sums)
    in_range = (outputs >= -RANGE_SLACK * whole).all(axis=1) & (outputs <= (1 + RANGE_SLACK) * whole).all(axis=1)
    return Found(_share(in_range & (np.abs(sums - whole) <= SUM_SLACK * whole)), _all_but_one(probes))


def _all_but_one(probes: Probes) -> float:
    return 1 - 1 / len(probes.images)


def _at_chance(probes: Probes) -> Found:
    n, classes = probes.logits.shape
    return Found(_share(~probes.is_correct), 1 - allowed(1 / classes, n) - 1 / n)


def _constant(probes: Probes) -> Found:
    if len(np.unique(probes.labels)) == 1:
        return Found(0, 1)
    return Found(_share(probes.logits.argmax(axis=1) == probes.logits[0].argmax()), _all_but_one(probes))


def _zero_gradients(probes: Probes) -> Found:
    return Found(_share(probes.has_no_gradient), 0)


def _unstable(probes: Probes) -> Found:
    margins, noisy = (logit_margins(logits, probes.labels) for logits in (probes.logits, probes.noisy_logits))
    change = np.abs(noisy - margins) / np.where(margins == 0, 1, np.abs(margins))
    return Found(float(np.mean(np.minimum(change, 1))), UNSTABLE)


def _epsilon_0(probes: Probes) -> Found:
    clean = probes.outputs[0].argmax(axis=1) == probes.labels
    return Found(_share(clean != probes.at_0), allowed(RISES, len(clean)))


def _rises(probes: Probes) -> Found:
    whole = WHOLE_BOX[probes.norm](probes.values)
    quarter, half, twice = (probes.survivors(min(share * probes.epsilon, whole)) for share in (0.25, 0.5, 2.0))
    ladder = [probes.at_0, quarter, half, probes.after_short, twice]
    left = [int(survivors.sum()) for survivors in ladder]  # whole numbers, so that without a rise it is exactly 0
    rises = [(larger - smaller) / len(probes.images) for smaller, larger in itertools.pairwise(left)]
    return Found(max(rises), allowed(RISES, len(probes.images)))


def _unbounded(probes: Probes) -> Found:
    return Found(_share(probes.survivors(WHOLE_BOX[probes.norm](probes.values))), 0)


def _restarts(probes: Probes) -> Found:
    return Found(_loss(probes.after_short, probes.after_restart), allowed(MORE_MOVES, len(probes.images)))


def _more_steps(probes: Probes) -> Found:
    return Found(_loss(probes.after_restart, probes.after_long), allowed(MORE_MOVES, len(probes.images)))


def _logit_scale(probes: Probes) -> Found:
    """Find what other temperatures break on top; that an attack is weaker at some of them does no harm."""
    return Found(_loss(probes.after_long, probes.after_scaled), allowed(SCALE_MOVES, len(probes.images)))


def _square_helps(probes: Probes) -> Found:
    return Found(_loss(probes.after_scaled, probes.after_search), allowed(SQUARE_HELPS, len(probes.images)))


def _masked(probes: Probes) -> Found:
    after_test = probes.is_correct & (probes.test_path[-1] > 0)
    return Found(_loss(after_test, probes.after_short), allowed(MASKED_GAP, len(after_test)))


def _silent_success(probes: Probes) -> Found:
    path = probes.test_path
    return Found(_share((path[-1] > 0) & (path < 0).any(axis=0)), allowed(SILENT, len(probes.images)))


def _incomplete(probes: Probes) -> Found:
    """Find how far the margin still fell in the last steps, of its whole way, for images that were not broken."""
    lowest = np.minimum.accumulate(probes.firm_path)
    way = lowest[0] - lowest[-1]
    last = (lowest[-1 - LAST_STEPS] - lowest[-1]) / np.where(way == 0, 1, way)
    return Found(float(np.mean(np.where(lowest[-1] > 0, last, 0))), INCOMPLETE)


def _not_finite(probes: Probes) -> Found:
    probes.visit_rim()
    return Found(_share(probes.not_finite()), 0)


def _weights_moved(probes: Probes) -> Found:
    return Found(probes.moved_weights(), 0)


CHECKS: dict[str, tuple[Callable[[Probes], Found], str]] = {
    "randomised": (
        _randomised,
        "two passes over the same image differ, for {value:.1%} of the images. Take version='rand', or switch off what "
        "is random in inference.",
    ),
    "probabilities": (
        _probabilities,
        "{value:.1%} of the outputs are probabilities, or nearly, and not logits: softmax saturates, and the gradient "
        "is lost in it. Take wmr_tf.without_softmax(model).",
    ),
    "at_chance": (
        _at_chance,
        "{value:.1%} of the clean images are misclassified, as by chance. Is the label order right, and are images "
        "scaled as in training?",
    ),
    "constant_classifier": (
        _constant,
        "{value:.1%} of the images get one and the same class. Train again with a smaller learning rate.",
    ),
    "zero_gradients": (
        _zero_gradients,
        "{value:.1%} of the images have a gradient that is 0 everywhere, so that no attack by gradients can move them. "
        "Look for rounding, thresholds or saturation, and trust random search (square) alone.",
    ),
    "unstable_loss": (
        _unstable,
        "the margin changes by {value:.1%} on average with noise of 1/64. Gradients say little of so rough a "
        "function: average them (version='rand'), and trust random search.",
    ),
    "epsilon_0": (
        _epsilon_0,
        "{value:.1%} of the images are right for the user and wrong for an attack at epsilon 0, or the reverse. "
        "Attacks see another classifier than its user: look for randomness, or for layers that ignore training=False.",
    ),
    "rises_with_epsilon": (
        _rises,
        "the accuracy rises by {value:.1%} from one epsilon to a larger one. The attack gets lost: take more steps and "
        "restarts, and trust random search.",
    ),
    "unbounded": (
        _unbounded,
        "{value:.1%} of the images withstand an attack that may change them into any other. Gradients are masked, or "
        "the classifier is constant.",
    ),
    "restarts": (
        _restarts,
        "a second start takes {value:.1%} of the images on top. Take more restarts until nothing moves, and the whole "
        "suite.",
    ),
    "more_steps": (
        _more_steps,
        "four times as many steps take {value:.1%} of the images on top. Take more steps until nothing moves, and the "
        "whole suite.",
    ),
    "logit_scale": (
        _logit_scale,
        "other scales of the logits take {value:.1%} of the images on top: confidence hides them. Attack with losses "
        "that do not depend on it (apgd-dlr, apgd-t).",
    ),
    "square_helps": (
        _square_helps,
        "random search (square) takes {value:.1%} of the images on top of the attacks by gradients: gradients are "
        "masked. Quote no figure without square, and make it search longer.",
    ),
    "masked": (
        _masked,
        "{value:.1%} of the images withstand PGD with 40 short steps and not stronger attacks. Do not quote what "
        "PGD leaves.",
    ),
    "silent_success": (
        _silent_success,
        "{value:.1%} of the images are broken on the way of PGD and not at its end. Count every point of the way, as "
        "Auto-PGD does.",
    ),
    "incomplete_optimisation": (
        _incomplete,
        "the margin still falls by {value:.1%} of its way in the last steps. Take more or longer steps.",
    ),
    "not_finite": (
        _not_finite,
        "the outputs for {value:.1%} of the images, as they are, noisy, brighter, darker or attacked, are NaN or "
        "infinite. No accuracy can be given: look for a logarithm, a root or a division.",
    ),
    "weights_moved": (
        _weights_moved,
        "{value:.0f} of the weights are other ones after evaluating. Look for layers that train in inference, such as "
        "BatchNormalization called with training=True.",
    ),
}
"""The checks by name, in order: what finds the number, and what it says. The last two look back at all others."""
