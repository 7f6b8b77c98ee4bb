"""Bytes for a device by pieces; here the device is the host, where each copy is made at once."""

from __future__ import annotations

import pytest
import torch

from holdfast import items
from holdfast.adapters.torch.arrays import TorchLeaf
from holdfast.adapters.torch.arriving import DeviceSink
from tests.state.samples import bits, captured


def send_all(sink, data):
    """Does what a reader does."""
    for begin in range(0, len(data), sink.piece_nbytes):
        piece = data[begin : begin + sink.piece_nbytes]
        sink.room(len(piece))[:] = piece
        sink.send(begin)
    sink.finish()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.bool, torch.complex128])
@pytest.mark.parametrize("piece_nbytes", [1, 7, 64, 1000, 1 << 20])
def test_pieces_come_together_as_the_tensor(dtype, piece_nbytes):
    saved = (torch.randn(5, 3, 4) * 3).to(dtype)
    live = torch.zeros(5, 3, 4, dtype=dtype)
    send_all(DeviceSink(live, piece_nbytes=piece_nbytes), bits(saved))
    assert bits(live) == bits(saved)


def test_a_piece_may_be_read_while_the_one_before_it_is_copied():
    sink = DeviceSink(torch.zeros(100), piece_nbytes=100)
    first, second, third = (sink.room(100) for _ in range(3))
    first[:], second[:] = b"1" * 100, b"2" * 100
    assert bytes(first) == b"1" * 100
    assert bytes(third) == bytes(first)


def test_a_sink_spans_the_memory_of_its_tensor():
    live = torch.zeros(10, 4)
    device, start, end = DeviceSink(live[2:4]).span
    assert (device, start, end - start) == (live.device, live[2].data_ptr(), 32)


def on_device(monkeypatch):
    """Lets every tensor of two dimensions be one that only a sink reaches."""
    memory = TorchLeaf.memory
    monkeypatch.setattr(
        TorchLeaf, "memory", lambda leaf: memory(leaf) if leaf.live.ndim != 2 else None
    )
    monkeypatch.setattr(TorchLeaf, "sink", lambda leaf: DeviceSink(leaf.tensor, piece_nbytes=40))


def fill(plan, buffers):
    for name, sink in plan.sinks.items():
        send_all(sink, bytes(buffers[name]))
    for name, view in plan.buffers.items():
        view[:] = buffers[name]
    staged = {name: bytearray(buffers[name]) for name in plan.rest}
    plan.finish(staged)


def test_a_module_on_a_device_is_restored_through_sinks(monkeypatch):
    saved, live = torch.nn.Linear(6, 5), torch.nn.Linear(6, 5)
    skeleton, buffers = captured(saved)
    on_device(monkeypatch)
    version = live.weight._version
    plan = items.plan_restore(live, skeleton, path="model")
    assert (set(plan.sinks), set(plan.buffers), plan.rest) == ({"weight"}, {"bias"}, {})
    fill(plan, buffers)
    assert torch.equal(live.weight, saved.weight)
    assert torch.equal(live.bias, saved.bias)
    assert live.weight._version > version


def test_device_memory_that_overlaps_is_written_one_after_the_other(monkeypatch):
    base = torch.zeros(4, 4)
    live = {"all": base, "part": base[1:3], "again": base}
    stored = {"all": torch.arange(16.0).view(4, 4), "part": torch.full((2, 4), 9.0)}
    stored["again"] = stored["all"]
    skeleton, buffers = captured(stored)
    on_device(monkeypatch)
    plan = items.plan_restore(live, skeleton, path="state")
    assert set(plan.sinks) == {"all"}
    assert set(plan.rest) == {"part"}
    fill(plan, buffers)
    assert base[1:3].eq(9).all()
    assert base[3].tolist() == [12.0, 13.0, 14.0, 15.0]


def test_one_stored_tensor_for_two_on_a_device_reaches_both(monkeypatch):
    shared = torch.arange(12.0).view(3, 4)
    skeleton, buffers = captured({"a": shared, "b": shared})
    live = {"a": torch.zeros(3, 4), "b": torch.zeros(3, 4)}
    on_device(monkeypatch)
    plan = items.plan_restore(live, skeleton, path="state")
    assert (dict(plan.sinks), set(plan.rest)) == ({}, {"a"})
    fill(plan, buffers)
    assert torch.equal(live["a"], shared)
    assert torch.equal(live["b"], shared)
