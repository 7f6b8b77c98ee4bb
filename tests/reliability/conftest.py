"""How many states the sweeps explore: some of them by default, all with HOLDFAST_SWEEP=full."""

import os

import pytest


@pytest.fixture
def stride():
    """Returns what chooses a sweep's stride: ``stride(quick, full=1)``."""
    full_sweep = os.environ.get("HOLDFAST_SWEEP") == "full"

    def choose(quick, full=1):
        return full if full_sweep else quick

    return choose


@pytest.fixture
def holds(record_property):
    """Returns what asserts that a sweep explored enough and found nothing, and prints its count."""

    def check_holds(outcome, *, least):
        if outcome.skipped:
            pytest.skip(outcome.skipped)
        assert outcome.violations == ()
        assert outcome.states >= least, outcome
        record_property("measured", f"{outcome.sweep}, {outcome.scenario}: {outcome.states} states")

    return check_holds
