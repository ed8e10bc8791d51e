"""The mark `slow`, for tests of many cases of which a few stand for all in `make test`."""

from collections.abc import Container, Iterable
from typing import Any

import pytest


def some(cases: Iterable[Any], fast: Container[Any]) -> list[Any]:
    """Return cases as parameters of a test, all but those in `fast` marked as slow."""
    return [pytest.param(case, marks=[] if case in fast else pytest.mark.slow) for case in cases]
