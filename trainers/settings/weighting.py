"""A weighting from the command line: `--weighting=exponential:normalize=true` with `--alpha_train=2`."""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import Any

import wmr_tf
from wmr_tf.checks import fraction, nonnegative, one_of, positive, power, real, refuse, require
from wmr_tf.names import WEIGHTINGS

FORM = "name or name:option=value,option=value"

# What a number may be. The weighting checks it itself, but too late: it needs TensorFlow.
_CHECKS: dict[str, Callable[[str, Any], float]] = {
    "slope": positive,
    "bias": real,
    "shift": real,
    "level": fraction,
    "rho": nonnegative,
}


def make_weighting(text: str, alpha: float) -> wmr_tf.weights.Weighting:
    """Return the weighting that a text stands for.

    Args:
        text: See `checked_weighting`.
        alpha: The power of the attacker, for a weighting that has one.

    Raises:
        InvalidInput: If there is no such weighting or option, or a value is out of range.

    Example:
        >>> make_weighting("exponential:normalize=true", 2.0)
        Exponential(alpha=2.0, stop_gradient=False, normalize=True)
    """
    name, options = checked_weighting(text, alpha)
    return wmr_tf.weights.BY_NAME[name](**options)


def checked_weighting(text: str, alpha: float) -> tuple[str, dict[str, Any]]:
    """Return the name of a weighting and its settings, which a text stands for.

    Args:
        text: A name of `wmr_tf.names.WEIGHTINGS`, and after a colon options with commas between them, such as
            "exponential:normalize=true". Numbers and booleans are understood.
        alpha: The power of the attacker, for a weighting that has one.

    Raises:
        InvalidInput: If there is no such weighting or option, or a value is out of range.

    Example:
        >>> checked_weighting("exponential:normalize=true", 2.0)
        ('exponential', {'alpha': 2.0, 'normalize': True})
    """
    name, _, listed = text.partition(":")
    settings = WEIGHTINGS[one_of("weighting", name, WEIGHTINGS)]
    options: dict[str, Any] = {"alpha": power("alpha_train", alpha)} if "alpha" in settings else {}
    for part in listed.split(",") if listed else ():
        option, _, value = part.partition("=")
        require(bool(value), "weighting", got=repr(text), expected=FORM, fix="Write for instance normalize=true.")
        one_of(f"option of weighting {name}", option, [each for each in settings if each != "alpha"])
        what = f"weighting {name}, {option}"
        given = _value(what, value, type(settings[option]))
        options[option] = _CHECKS[option](what, given) if option in _CHECKS else given
    for option in [each for each, default in settings.items() if default is None and each not in options]:
        fix = f"Write --weighting={name}:{option}=number."
        refuse("weighting", got=repr(text), expected=f"a value for {option}", fix=fix)
    return name, options


def _value(what: str, text: str, kind: type) -> Any:
    """Return the number or boolean that a text stands for, of the kind that the option's default has."""
    try:
        value = ast.literal_eval(text.title() if text.lower() in ("true", "false") else text)
    except (SyntaxError, ValueError):
        value = None
    is_right = isinstance(value, bool) if kind is bool else isinstance(value, int | float) and type(value) is not bool
    expected, example = ("true or false", "true") if kind is bool else ("a number", "0.5")
    require(is_right, what, got=repr(text), expected=expected, fix=f"Write {what.rpartition(' ')[2]}={example}.")
    return value
