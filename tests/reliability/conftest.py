"""How much of a sweep is run: a part of it, or with HOLDFAST_SWEEP=full every state."""

import os
import re
from collections import Counter

import pytest

_AND_HOW = re.compile(r"(?<=\w)(,| E[A-Z]+\b).*")


@pytest.fixture
def stride():
    """Returns every how many states are explored: ``stride(quick)``, or 1 in a full run."""

    def choose(quick, full=1):
        return full if os.environ.get("HOLDFAST_SWEEP") == "full" else quick

    return choose


@pytest.fixture
def measured(record_property):
    """Prints what a sweep explored, and fails with what it found."""

    def report(outcome):
        if outcome.skipped:
            pytest.skip(outcome.skipped)
        calls: Counter[str] = Counter()
        for kind, count in outcome.kinds.items():
            # Of "fsync EIO from then on", the call.
            calls[_AND_HOW.sub("", kind)] += count
        kinds = ", ".join(f"{call} {count}" for call, count in calls.items())
        what = f"{outcome.sweep}, {outcome.scenario}: {outcome.states} states ({kinds})"
        record_property("measured", what)
        assert not outcome.violated, "\n".join(outcome.violations)
        return outcome

    return report
