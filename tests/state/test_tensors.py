"""torch tensors: every dtype, every stride, tied memory, and the readers of safetensors."""

from __future__ import annotations

import json
import struct

import numpy as np
import pytest
import safetensors.numpy
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast import frameworks, items, tree
from holdfast.errors import ConfigError, TreeError
from tests.state.samples import (
    LIVE,
    TORCH_DTYPES,
    bits,
    captured,
    check_same,
    restore,
    stage,
    there_and_back,
)

pytestmark = pytest.mark.filterwarnings("ignore:ComplexHalf support is experimental")

VIEWS = {
    "whole": lambda base: base,
    "transposed": lambda base: base.t(),
    "strided": lambda base: base[::2, 1::2],
    "offset": lambda base: base[2:],
    "scalar": lambda base: base[1, 1],
    "empty": lambda base: base[:0],
    "expanded": lambda base: base[:1].expand(5, -1),
    "high": lambda base: base[:, None, :, None],
}


def filled(dtype, shape=(4, 6), seed=0):
    """Returns a tensor of random bits (bools are 0 and 1)."""
    count = int(np.prod(shape)) * torch.empty((), dtype=dtype).element_size()
    high = 2 if dtype == torch.bool else 256
    raw = np.random.default_rng(seed).integers(0, high, count, dtype=np.uint8)
    return torch.from_numpy(raw).view(dtype).reshape(shape)


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("dtype", TORCH_DTYPES, ids=str)
def test_every_dtype_and_stride_comes_back_to_the_bit(dtype, view):
    tensor = VIEWS[view](filled(dtype))
    flat = tree.flatten({"w": tensor})
    skeleton, buffers = stage(flat)
    back = tree.unflatten(skeleton, buffers)["w"]
    assert (back.dtype, back.shape) == (tensor.dtype, tensor.shape)
    expected = bytes_by_index(tensor)
    assert bits(back) == expected == bytes(buffers["w"])


def bytes_by_index(tensor):
    """Returns the elements' bytes in C order, copied as raw memory and not by torch's kernels."""
    size = tensor.element_size()
    whole = tensor.untyped_storage()
    memory = bytes(whole.tolist())
    starts = [
        (tensor.storage_offset() + sum(i * s for i, s in zip(index, tensor.stride(), strict=True)))
        * size
        for index in np.ndindex(*tensor.shape)
    ]
    return b"".join(memory[start : start + size] for start in starts)


LAZY = {
    "conjugated": lambda: torch.tensor([1 + 2j, -3j]).conj(),
    "negated": lambda: torch.tensor([1 + 2j, -3j]).conj().imag,
}


@pytest.mark.parametrize("kind", LAZY)
def test_lazy_views_are_stored_by_their_values(kind):
    tensor = LAZY[kind]()
    assert tensor.is_conj() or tensor.is_neg()
    assert torch.equal(there_and_back([tensor])[0], tensor.clone())
    live = LAZY[kind]()
    restore(live, captured(tensor * 2), path="t")
    assert torch.equal(live, tensor * 2)


FLAGS = [
    torch.ones(2, requires_grad=True),
    torch.nn.Parameter(torch.ones(2, dtype=torch.bfloat16)),
    torch.nn.Parameter(torch.ones(2), requires_grad=False),
    torch.nn.Parameter(torch.ones(2, dtype=torch.int8), requires_grad=False),
    torch.ones(2, requires_grad=True) * 2,
]


def test_a_tensor_and_its_lazy_conjugate_are_not_the_same():
    tensor = torch.tensor([1 + 2j, -3j])
    state = {"a": tensor, "b": tensor.conj(), "c": tensor.imag, "d": tensor.conj().imag}
    assert tree.flatten(state).aliases == {}
    back = there_and_back(state)
    assert all(torch.equal(back[name], state[name]) for name in state)


@pytest.mark.parametrize("tensor", FLAGS, ids=str)
def test_flags_come_back(tensor):
    check_same(there_and_back({"w": tensor}), {"w": tensor})


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_views_of_one_storage_come_back_each_for_itself(data):
    base = filled(torch.float32, (8, 8), data.draw(st.integers(0, 9)))
    slices = st.builds(slice, st.integers(0, 7), st.integers(0, 8), st.sampled_from([1, 2, 3]))
    state = {
        str(index): base[data.draw(slices), data.draw(slices)]
        for index in range(data.draw(st.integers(1, 5)))
    }
    flat = tree.flatten(state)
    skeleton, buffers = stage(flat)
    back = tree.unflatten(skeleton, buffers, like=LIVE)
    for name, tensor in state.items():
        assert bits(back[name]) == bits(tensor)
    for alias, name in flat.aliases.items():
        assert back[alias] is back[name]


def test_what_changes_after_the_copy_changes_nothing():
    tensors = {"a": torch.zeros(100), "b": torch.zeros(10, 10).t(), "c": np.zeros(5)}
    skeleton, buffers = stage(tree.flatten(tensors))
    for tensor in tensors.values():
        tensor[:] = 1
    back = tree.unflatten(skeleton, buffers)
    assert all(not array.any() for array in back.values())


def test_tensors_are_built_on_the_buffers():
    skeleton, buffers = stage(tree.flatten({"w": torch.zeros(4, dtype=torch.bfloat16)}))
    back = tree.unflatten(skeleton, buffers)["w"]
    back += 1
    assert buffers["w"] == bytes(bits(back))


CASTS = [
    ("bfloat16", torch.float32, torch.bfloat16),
    (torch.float16, torch.float64, torch.float16),
    (torch.float16, torch.int64, torch.int64),
    ("float32", torch.complex64, torch.complex64),
    ("float64", torch.bool, torch.bool),
]


@pytest.mark.parametrize(("dtype", "before", "after"), CASTS)
def test_floating_tensors_are_cast_and_others_are_not(dtype, before, after):
    assert there_and_back([torch.ones(2, dtype=before)], dtype=dtype)[0].dtype == after


def test_casting_keeps_what_a_parameter_is():
    back = there_and_back([torch.nn.Parameter(torch.ones(2))], dtype="float16", device="cpu")[0]
    assert isinstance(back, torch.nn.Parameter)
    assert back.requires_grad
    assert back.dtype == torch.float16


@pytest.mark.parametrize(("option", "value"), [("dtype", "float5"), ("device", "toaster")])
def test_an_unknown_dtype_or_device_is_a_mistake_of_the_caller(option, value):
    with pytest.raises(ConfigError, match=value):
        there_and_back([torch.ones(1)], **{option: value})


def safetensors_file(flat):
    """Returns the bytes of a safetensors file with the arrays of a flat state."""
    _, buffers = stage(flat)
    header, body = {}, b""
    for name, leaf in flat.leaves.items():
        offsets = [len(body), len(body) + leaf.nbytes]
        header[name] = {"dtype": leaf.dtype, "shape": list(leaf.shape), "data_offsets": offsets}
        body += buffers[name]
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + body


def test_plain_readers_of_safetensors_see_the_same_tensors():
    state = {
        str(dtype).removeprefix("torch."): filled(dtype, (2, 8))
        for dtype in TORCH_DTYPES
        if tree.flatten(torch.empty(1, dtype=dtype)).leaves["value"].shape == (1,)
    }
    assert len(state) == 16
    data = safetensors_file(tree.flatten(state))
    for name, tensor in safetensors.torch.load(data).items():
        assert tensor.dtype == state[name].dtype
        assert bits(tensor) == bits(state[name])
    plain = {name: part for name, part in state.items() if not name.startswith(("bf", "float8"))}
    for name, array in safetensors.numpy.load(safetensors_file(tree.flatten(plain))).items():
        assert array.dtype.name == name
        assert array.tobytes() == bits(state[name])


@pytest.mark.parametrize("dtype", ["float32", "int8", "complex128", "bool"])
def test_without_torch_tensors_are_numpy_arrays(monkeypatch, dtype):
    skeleton, buffers = stage(tree.flatten({"w": torch.ones(2, 3, dtype=getattr(torch, dtype))}))
    monkeypatch.setattr(frameworks, "load", lambda name: None)
    back = tree.unflatten(skeleton, buffers)
    check_same(back, {"w": np.ones((2, 3), dtype)})


def test_without_torch_a_dtype_that_numpy_has_not_asks_for_it(monkeypatch):
    skeleton, buffers = stage(tree.flatten({"w": torch.ones(2, dtype=torch.bfloat16)}))
    monkeypatch.setattr(frameworks, "load", lambda name: None)
    with pytest.raises(ConfigError, match="bfloat16") as caught:
        tree.unflatten(skeleton, buffers)
    assert caught.value.hint == "install torch"


LIVE_TENSORS = {
    "contiguous": lambda: torch.zeros(3, 4),
    "transposed": lambda: torch.zeros(4, 3).t(),
    "strided": lambda: torch.zeros(3, 8)[:, ::2],
    "trainable": lambda: torch.zeros(3, 4, requires_grad=True),
    "parameter": lambda: torch.nn.Parameter(torch.zeros(3, 4)),
}


@pytest.mark.parametrize("in_place", [True, False])
@pytest.mark.parametrize("kind", LIVE_TENSORS)
def test_a_tensor_is_restored_where_it_lies(kind, in_place):
    saved = torch.arange(12.0).reshape(3, 4)
    live = LIVE_TENSORS[kind]()
    before = (live.data_ptr(), live.stride(), live.requires_grad)
    plan = restore(live, captured(saved), in_place=in_place)
    assert torch.equal(live.detach(), saved)
    assert (live.data_ptr(), live.stride(), live.requires_grad) == before
    assert bool(plan.buffers) == live.is_contiguous()
    assert plan.loaded == ("value",)


@pytest.mark.parametrize("kind", ["torch", "numpy"])
def test_odd_strides_of_single_elements_do_not_matter(kind):
    base = torch.zeros(8, 8)[:1, ::2][:, :1]
    live = base if kind == "torch" else base.numpy()
    saved = base.clone() + 5 if kind == "torch" else base.numpy().copy() + 5
    plan = restore(live, captured(saved))
    assert live[0][0] == 5
    assert set(plan.buffers) == {"value"}


def test_a_numpy_array_is_restored_where_it_lies():
    saved = np.arange(6, dtype=">i4").reshape(2, 3)
    for live in (np.zeros((2, 3), ">i4"), np.zeros((2, 6), ">i4")[:, ::2]):
        restore(live, captured(saved))
        assert np.array_equal(live, saved)


MISFITS = [
    (torch.zeros(3), torch.zeros(4), ["w: shape [4] in the checkpoint, [3] here"]),
    (torch.zeros(3), torch.zeros(3).half(), ["w: dtype float16 in the checkpoint, float32 here"]),
    (
        torch.zeros(3),
        torch.zeros(2).half(),
        [
            "w: shape [2] in the checkpoint, [3] here",
            "w: dtype float16 in the checkpoint, float32 here",
        ],
    ),
    (torch.zeros(3), np.zeros(3, "f4"), None),
    (np.zeros(3), torch.zeros(3), None),
    (np.zeros(3), {}, ["w: dict in the checkpoint, an array here"]),
    (torch.zeros(1).expand(3), torch.zeros(3), None),
    (np.broadcast_to(np.zeros(1), (3,)), np.zeros(3), ["w: the live array is read-only"]),
]


@pytest.mark.parametrize(("live", "saved", "problems"), MISFITS)
def test_what_does_not_fit_is_said_and_nothing_changes(live, saved, problems):
    skeleton, buffers = captured(saved)
    plan = items.plan_restore(live, skeleton, path="w")
    assert plan.problems
    assert problems is None or list(plan.problems) == problems
    with pytest.raises(TreeError, match="does not fit w") as caught:
        plan.finish(buffers)
    assert caught.value.problems == plan.problems
    partial = items.plan_restore(live, skeleton, path="w", partial=True)
    assert (partial.problems, partial.loaded, partial.needed) == ((), (), frozenset())


def test_nothing_changes_before_the_end():
    live = torch.zeros(3)
    skeleton, buffers = captured(torch.ones(3))
    plan = items.plan_restore(live, skeleton, path="w")
    with pytest.raises(ConfigError, match="'value' was not read, or not to 12 bytes"):
        plan.finish({"value": bytearray(11)})
    assert live.tolist() == [0, 0, 0]
    plan.finish(buffers)
    assert live.tolist() == [1, 1, 1]


def test_a_backward_pass_over_restored_values_fails_as_after_any_change():
    for in_place in (True, False):
        weight = torch.ones(3, requires_grad=True)
        loss = (weight * weight).sum()
        version = weight._version
        restore(weight, captured(torch.zeros(3)), in_place=in_place)
        assert weight._version > version
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            loss.backward()
        (weight * weight).sum().backward()
        assert weight.grad.tolist() == [0, 0, 0]


def test_a_tensor_of_inference_mode_can_be_restored():
    with torch.inference_mode():
        live = torch.zeros(3)
    restore(live, captured(torch.ones(3)))
    assert live.tolist() == [1, 1, 1]
