"""A weighting from the command line: `--weighting=exponential:normalize=true` with `--alpha_train=2`."""

import ast
import dataclasses
from typing import Any

from wmr_tf import weights
from wmr_tf.checks import one_of, refuse, require

FORM = "name or name:option=value,option=value"


def make_weighting(text: str, alpha: float) -> weights.Weighting:
    """Return the weighting that a text stands for.

    Args:
        text: A name of `wmr_tf.weights.BY_NAME`, and after a colon options with commas between them, such as
            "exponential:normalize=true". Numbers and booleans are understood.
        alpha: The power of the attacker, for a weighting that has one.

    Raises:
        InvalidInput: If there is no such weighting or option, or a value is out of range.

    Example:
        >>> make_weighting("exponential:normalize=true", 2.0)
        Exponential(alpha=2.0, stop_gradient=False, normalize=True)
    """
    name, _, listed = text.partition(":")
    kind = weights.BY_NAME[one_of("weighting", name, weights.BY_NAME)]
    settings = {field.name: field.default for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    options: dict[str, Any] = {"alpha": alpha} if "alpha" in settings else {}
    for part in listed.split(",") if listed else ():
        option, _, value = part.partition("=")
        require(bool(value), "weighting", got=repr(text), expected=FORM, fix="Write for instance normalize=true.")
        one_of(f"option of weighting {name}", option, [each for each in settings if each != "alpha"])
        options[option] = _value(f"weighting {name}, {option}", value, type(settings[option]))
    for option in [
        each for each, default in settings.items() if default is dataclasses.MISSING and each not in options
    ]:
        fix = f"Write --weighting={name}:{option}=number."
        refuse("weighting", got=repr(text), expected=f"a value for {option}", fix=fix)
    return kind(**options)


def _value(what: str, text: str, kind: type) -> Any:
    """Return the number or boolean that a text stands for, of the kind that the option's default has."""
    try:
        value = ast.literal_eval(text.title() if text.lower() in ("true", "false") else text)
    except (SyntaxError, ValueError):
        value = None
    is_right = isinstance(value, bool) if kind is bool else isinstance(value, int | float) and type(value) is not bool
    expected = "true or false" if kind is bool else "a number"
    require(is_right, what, got=repr(text), expected=expected, fix=f"Write {what.rpartition(' ')[2]}={expected[:4]}.")
    return value
