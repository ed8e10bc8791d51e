"""The part of this process in a parallel search, as Keras Tuner's environment variables say."""

import os

from wmr_tf.checks import require

ROLE = ("KERASTUNER_TUNER_ID", "KERASTUNER_ORACLE_IP", "KERASTUNER_ORACLE_PORT")


def check_role() -> None:
    """Check the environment variables of a parallel search.

    Raises:
        InvalidInput: If some are set and some are not, or the port is no number.
    """
    found = [name for name in ROLE if name in os.environ]
    fix = "Set all three, or none to search in this process alone."
    require(len(found) in (0, 3), "environment", got=" and ".join(found), expected=", ".join(ROLE), fix=fix)
    port = os.environ.get(ROLE[2], "1")
    fix = "Choose a free port."
    require(
        port.isdecimal() and 0 < int(port) < 65536,
        ROLE[2],
        got=repr(port),
        expected="a number in [1, 65535]",
        fix=fix,
    )


def is_worker() -> bool:
    """Return whether this process runs the trials that a chief gives out."""
    return ROLE[1] in os.environ and not is_chief()


def is_chief() -> bool:
    """Return whether this process gives out trials to others."""
    return ROLE[1] in os.environ and "chief" in os.environ[ROLE[0]]
