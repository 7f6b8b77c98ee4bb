"""The random number generators go on where they were."""

from __future__ import annotations

import logging
import random

import numpy as np
import pytest
import torch

from holdfast import frameworks, rng, tree
from holdfast.errors import TreeError
from tests.state.samples import stage


def draw():
    """Returns numbers of every generator; normal ones leave half a pair behind."""
    return [
        random.random(),
        random.gauss(0, 1),
        random.getrandbits(100),
        *np.random.random(3),  # noqa: NPY002 - the global generator is meant
        np.random.standard_normal(),  # noqa: NPY002
        *torch.randn(3).tolist(),
        torch.randint(100, (1,)).item(),
    ]


@pytest.mark.parametrize("drawn", [0, 1, 700])
def test_the_next_numbers_are_the_same(drawn):
    random.seed(drawn)
    for _ in range(drawn):
        draw()
    skeleton, buffers = stage(tree.flatten(rng.capture(), path="rng"))
    expected = [draw() for _ in range(3)]
    rng.restore(tree.unflatten(skeleton, buffers))
    assert [draw() for _ in range(3)] == expected
    assert expected[0] != expected[1]


def test_another_bit_generator_of_numpy_travels():
    before = np.random.get_bit_generator()
    try:
        np.random.set_bit_generator(np.random.PCG64(5))
        skeleton, buffers = stage(tree.flatten(rng.capture()))
        expected = draw()
        rng.restore(tree.unflatten(skeleton, buffers))
        assert draw() == expected
    finally:
        np.random.set_bit_generator(before)


def test_the_skeleton_stays_small():
    flat = tree.flatten(rng.capture())
    assert len(str(flat.skeleton)) < 1500
    assert set(flat.leaves) == {"python.words", "numpy.state.key", "frameworks.torch.cpu"}


def without(state, *keys):
    *path, last = keys
    owner = state
    for key in path:
        owner = owner[key]
    del owner[last]
    return state


BROKEN = [
    lambda state: None,
    lambda state: [],
    lambda state: without(state, "python"),
    lambda state: without(state, "python", "words"),
    lambda state: without(state, "frameworks"),
    lambda state: without(state, "frameworks", "torch", "cpu"),
    lambda state: {**state, "python": {**state["python"], "version": 9}},
    lambda state: {**state, "numpy": {"bit_generator": "Other"}},
    lambda state: {**state, "frameworks": {"torch": {"cpu": torch.zeros(3, dtype=torch.uint8)}}},
    lambda state: {**state, "frameworks": {"torch": 5}},
]


@pytest.mark.parametrize("spoil", BROKEN)
def test_what_is_no_state_is_refused(spoil):
    with pytest.raises(TreeError, match="rng") as caught:
        rng.restore(spoil(rng.capture()))
    assert caught.value.problems


def test_a_framework_that_is_gone_is_left_out_with_a_warning(monkeypatch, caplog):
    state = rng.capture()
    monkeypatch.setattr(frameworks, "load", lambda name: None)
    with caplog.at_level(logging.WARNING, logger="holdfast"):
        rng.restore(state)
    assert "torch" in caplog.text


def test_devices_that_are_gone_are_left_out_with_a_warning(caplog):
    state = rng.capture()
    count = torch.cuda.device_count()
    gone = [torch.get_rng_state()] * (count + 1)
    state["frameworks"]["torch"]["cuda"] = gone
    with caplog.at_level(logging.WARNING, logger="holdfast"):
        rng.restore(state)
    assert f"cuda:{count} is left out" in caplog.text
