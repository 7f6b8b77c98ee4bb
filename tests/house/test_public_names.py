"""The public face: every promised name is there, and no other."""

import inspect

import pytest

import holdfast
from holdfast import errors

ERRORS = (
    "HoldfastError", "ConfigError", "MetricError", "TreeError", "NotFoundError", "LockedError",
    "StorageFullError", "SaveError", "IntegrityError", "FormatError",
)  # fmt: skip
NAMES = (
    "open", "when", "keep", "stop", "preset", "Store", "Run", "Checkpoint", "CheckpointInfo",
    "CheckpointStrategy", "Moment", "Verdict", "Plan", "Pending", "save_checkpoint",
    "load_best_checkpoint", "get_checkpoint_manager", "certify", *ERRORS,
)  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_a_promised_name_is_public(name):
    assert getattr(holdfast, name) is not None
    assert name in holdfast.__all__
    assert name in dir(holdfast)


def test_every_public_name_can_be_had():
    assert [name for name in holdfast.__all__ if not hasattr(holdfast, name)] == []


def test_a_wrong_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="chekpoint"):
        holdfast.chekpoint


@pytest.mark.parametrize("name", ERRORS)
def test_every_error_has_its_own_exit_code_and_says_what_to_do(name):
    error = getattr(errors, name)("the thing is broken", hint="mend it")
    assert isinstance(error, errors.HoldfastError)
    assert (error.message, error.hint) == ("the thing is broken", "mend it")
    assert "mend it" in str(error)
    codes = {kind.exit_code for kind in (getattr(errors, other) for other in ERRORS)}
    assert len(codes) == len(ERRORS)


def test_the_error_tree_holds_no_error_that_is_not_public():
    tree = {name for name, kind in inspect.getmembers(errors, inspect.isclass)}
    assert tree == set(ERRORS)


@pytest.mark.parametrize("name", NAMES)
def test_every_public_name_is_documented(name):
    assert inspect.getdoc(getattr(holdfast, name))
