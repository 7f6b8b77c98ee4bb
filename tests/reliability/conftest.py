"""How much of a sweep a test explores: enough to notice, or everything."""

import os
from collections.abc import Callable

import pytest


@pytest.fixture
def stride() -> Callable[..., int]:
    """Returns every how many states are explored.

    Call it with the number for a test run in passing, and the one (1, unless said) for
    ``HOLDFAST_SWEEP=full``.
    """

    def choose(quick: int, full: int = 1) -> int:
        return full if os.environ.get("HOLDFAST_SWEEP") == "full" else quick

    return choose
