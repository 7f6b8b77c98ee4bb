"""Loads read what they need and nothing else; restores need no second copy of a state."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap

import numpy as np
import pytest

import holdfast
from holdfast import keep, when
from holdfast.storage.openfiles import OpenFile

NBYTES = 1 << 20
#: What a header with its digests may take, and the manifest.
OVERHEAD = 64 << 10


@pytest.fixture
def checkpoint(tmp_path):
    model = {
        "encoder": {"a": np.ones(NBYTES, np.uint8), "b": np.full(NBYTES, 2, np.uint8)},
        "head": np.full(NBYTES, 3, np.uint8),
    }
    other = {"moments": np.full(4 * NBYTES, 4, np.uint8)}
    with holdfast.open(tmp_path / "store") as store:
        with store.run("run", save=when.never(), keep=keep.all()) as run:
            run.attach(model=model, optimizer=other)
            saved = run.save(0).wait()
        yield store.get(saved.id)


@pytest.fixture
def read(monkeypatch):
    """Returns the bytes of every read, as the system call returned them."""
    counts = []
    original = OpenFile._read

    def counted(self, offset, buffers):
        count = original(self, offset, buffers)
        counts.append(count)
        return count

    monkeypatch.setattr(OpenFile, "_read", counted)
    return counts


LOADS = [
    ("one array", lambda c: c.load("model", keys="head"), 1),
    ("arrays by a pattern", lambda c: c.load("model", keys="encoder.*"), 2),
    ("one item of several", lambda c: c.load("model"), 3),
    (
        "a live item of several",
        lambda c: c.restore(model={"encoder": {"a": live(), "b": live()}, "head": live()}),
        3,
    ),
    ("all", lambda c: c.verify(), 7),
]


def live():
    return np.zeros(NBYTES, np.uint8)


@pytest.mark.parametrize(("load", "tensors"), [row[1:] for row in LOADS], ids=[r[0] for r in LOADS])
def test_only_what_is_needed_is_read(checkpoint, read, load, tensors):
    load(checkpoint)
    assert 0 <= sum(read) - tensors * NBYTES <= OVERHEAD


# A process of its own: the peak of this one is long behind.
MEMORY = """
    import gc, json, os, sys
    import numpy as np, torch
    import holdfast
    from holdfast import when

    folder, kind, nbytes = sys.argv[1], sys.argv[2], int(sys.argv[3])
    count = nbytes // 4 // 16

    def module():
        parts = [torch.nn.Parameter(torch.ones(count)) for _ in range(16)]
        return torch.nn.ParameterList(parts)

    def trees():
        return {f"t{i}": torch.ones(count) for i in range(16)}

    def arrays():
        return {f"t{i}": np.ones(count, np.float32) for i in range(16)}

    def adam():
        parameters = [torch.nn.Parameter(torch.ones(count // 2)) for _ in range(16)]
        optimizer = torch.optim.Adam(parameters, foreach=False)
        for parameter in parameters:
            parameter.grad = torch.ones(count // 2)
        optimizer.step()
        for parameter in parameters:
            parameter.grad = None
        return optimizer

    def peak():
        with open("/proc/self/status") as status:
            return next(int(l.split()[1]) << 10 for l in status if l.startswith("VmHWM"))

    live = {"module": module, "dict": trees, "arrays": arrays, "adam": adam}[kind]()
    with holdfast.open(folder) as store:
        if len(sys.argv) > 4:
            with store.run("run", save=when.never()) as run:
                run.attach(item=live)
                run.save(0).wait()
        else:
            checkpoint = store.latest("run")
            checkpoint.manifest
            gc.collect()
            with open("/proc/self/clear_refs", "w") as file:
                file.write("5")
            before = peak()
            checkpoint.restore(item=live)
            print(json.dumps(peak() - before))
"""


def peak_of_restoring(folder, kind, nbytes):
    """Returns by how much restoring raised the peak of a process that holds the live objects."""
    command = [sys.executable, "-c", textwrap.dedent(MEMORY), str(folder), kind, str(nbytes)]
    subprocess.run([*command, "save"], check=True, capture_output=True)
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(done.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")
@pytest.mark.parametrize("kind", ["module", "dict", "arrays", "adam"])
def test_restoring_into_live_objects_needs_no_second_copy(tmp_path, kind, record_property):
    nbytes = 320 << 20
    extra = peak_of_restoring(tmp_path / "store", kind, nbytes)
    record_property("measured", f"restoring a {kind} of 320 MiB took {extra / 2**20:.1f} MiB more")
    assert extra < nbytes // 10 + (64 << 20)
