"""What a search maximises, as the command line says it; `tuning.objective` measures it."""

import re
from collections.abc import Iterable

from wmr_tf.checks import one_of, refuse, require
from wmr_tf.names import log_key

MATCHED = "_matched"
_TERM = re.compile(r"(?:(\d+(?:\.\d*)?|\.\d+)\*)?(\w+)")


def weights_of(text: str, alpha_test: Iterable[float], alpha_tr: Iterable[float] | None = None) -> dict[str, float]:
    """Return the weight of each key in the text of an objective.

    Args:
        text: A key, or a weighted sum of keys; see `tuning.objective.Objective`.
        alpha_test: The powers of the attacker that are evaluated; they decide which keys there are.
        alpha_tr: Those for which A_tr is measured; all of them if not given.

    Raises:
        InvalidInput: If there is no such key, or the text is no such sum.

    Example:
        >>> weights_of("0.75*val_A_sa+0.25*val_A_nat", (1.0,))
        {'val_A_sa': 0.75, 'val_A_nat': 0.25}
    """
    names = ["val_A_nat", "val_A_rob", "val_A_strong", "val_A_sa", "val_A_tr"]
    alpha_test = tuple(alpha_test)
    names += [log_key("A_sa", alpha) for alpha in alpha_test]
    names += [log_key("A_tr", alpha) for alpha in (alpha_test if alpha_tr is None else alpha_tr)]
    weights: dict[str, float] = {}
    for term in text.replace(" ", "").split("+"):
        if (match := _TERM.fullmatch(term)) is None:
            fix = "Write for instance --objective=0.7*val_A_sa+0.3*val_A_nat."
            refuse("objective", got=repr(text), expected="weight*key+weight*key", fix=fix)
        weight, key = match.groups()
        one_of("objective", key.removesuffix(MATCHED), names)
        weights[key] = weights.get(key, 0.0) + float(weight or 1.0)
    total = sum(weights.values())
    require(total > 0, "objective", got=repr(text), expected="a weight > 0", fix="Raise a weight.")
    return weights


def checked_top_probability(value: float) -> float:
    """Return `value` if it is a number between 0 and 1, and raise `InvalidInput` otherwise."""
    fix = "Take that of the baseline, such as 0.95."
    is_share = isinstance(value, int | float) and 0 < value < 1
    require(is_share, "top_probability", got=repr(value), expected="a number between 0 and 1", fix=fix)
    return value
