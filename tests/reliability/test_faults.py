"""Ended or failed at every call: what was promised is there, the rest is whole or invisible."""

import pytest

from holdfast.testing.faultsweeps import compound, failures, kills
from holdfast.testing.registry import SCENARIOS

EVERY = pytest.mark.parametrize("name", SCENARIOS)


@EVERY
@pytest.mark.sweeps
def test_work_that_is_killed_at_any_call_goes_on(tmp_path, stride, measured, name):
    assert measured(kills(SCENARIOS[name](), tmp_path, stride=stride(3))).states


@EVERY
@pytest.mark.sweeps
def test_work_whose_medium_fails_at_any_call_loses_nothing(tmp_path, stride, measured, name):
    assert measured(failures(SCENARIOS[name](), tmp_path, stride=stride(12))).states


@EVERY
@pytest.mark.sweeps
def test_recovering_may_be_killed_at_any_call_too(tmp_path, stride, measured, name):
    assert measured(compound(SCENARIOS[name](), tmp_path, stride=stride(20, 3))).states
