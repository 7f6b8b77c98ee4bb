"""Ended or failed at any call: what was promised is there, the rest is whole or invisible."""

import logging

import pytest

from holdfast.testing import faultsweeps
from holdfast.testing.scenarios import SCENARIOS

#: Every how many states: of kills, of failures, of kills and of errors while recovering from a
#: kill. So that each test explores about fifty; HOLDFAST_SWEEP=full explores all.
STRIDES = {
    "training": (8, 24, 80),
    "training, large": (14, 45, 150),
    "recovery": (8, 25, 60),
    "prune": (4, 12, 24),
    "delete": (4, 10, 20),
    "repair": (2, 6, 12),
    "reindex": (1, 1, 1),
    "reindex, catalog lost": (1, 1, 1),
    "late words": (2, 4, 8),
    "import": (2, 8, 12),
    "mirror": (6, 24, 60),
    "heal": (8, 30, 60),
}

#: Reading the files anew writes nothing but the catalog, whose calls are SQLite's own.
WRITING = [name for name in SCENARIOS if not name.startswith("reindex")]


@pytest.fixture(autouse=True)
def quiet():
    """Keeps what thousands of interrupted saves log out of the report."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def test_every_scenario_has_its_strides_and_its_own_name():
    assert STRIDES.keys() == SCENARIOS.keys()
    assert [make().name for make in SCENARIOS.values()] == list(SCENARIOS)


@pytest.mark.parametrize(
    ("name", "sparse"), [("prune", 16), ("late words", 16), ("mirror", 45), ("heal", 60)]
)
def test_work_that_ends_at_a_call_of_the_medium_goes_on(tmp_path, measured, name, sparse):
    assert measured(faultsweeps.kills(SCENARIOS[name](), tmp_path, stride=sparse)).states


@pytest.mark.sweeps
@pytest.mark.parametrize("name", SCENARIOS)
def test_work_that_ends_at_any_call_of_the_medium_goes_on(tmp_path, measured, stride, name):
    assert measured(
        faultsweeps.kills(SCENARIOS[name](), tmp_path, stride=stride(STRIDES[name][0]))
    ).states


@pytest.mark.sweeps
@pytest.mark.parametrize("name", WRITING)
def test_a_call_of_the_medium_that_fails_costs_nothing_that_was_promised(
    tmp_path, measured, stride, name
):
    assert measured(
        faultsweeps.failures(SCENARIOS[name](), tmp_path, stride=stride(STRIDES[name][1]))
    ).states


@pytest.mark.sweeps
@pytest.mark.parametrize("name", SCENARIOS)
def test_whoever_recovers_may_end_at_any_call_too(tmp_path, measured, stride, name):
    sparse = STRIDES[name][2]
    outcome = measured(
        faultsweeps.compound(
            SCENARIOS[name](), tmp_path, stride=stride(sparse, 5), second=max(2, sparse // 2)
        )
    )
    assert outcome.states


@pytest.mark.sweeps
@pytest.mark.parametrize("name", WRITING)
def test_the_medium_may_fail_whoever_recovers(tmp_path, measured, stride, name):
    sparse = STRIDES[name][2]
    outcome = measured(
        faultsweeps.failures_after_kills(
            SCENARIOS[name](), tmp_path, stride=stride(sparse, 5), second=max(2, sparse // 2)
        )
    )
    assert outcome.states
