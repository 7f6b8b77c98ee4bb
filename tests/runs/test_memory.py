"""How much memory saves take: what `memory=` allows, and what a copy needs."""

import gc
import json
import logging
import os
import subprocess
import sys
import threading
import weakref
from pathlib import Path

import numpy as np
import pytest
import torch

import holdfast
from holdfast import keep, when
from holdfast.engine import arena, background
from holdfast.watching import STUCK_S, SaveWatch
from tests.engine.kinds import STATES, bits
from tests.runs.media import HangingMedium, in_thread, minutes_of
from tests.runs.samples import Clock, on_medium, saved, steps_of

MB = 1_000_000


@pytest.fixture
def arenas(monkeypatch):
    """Counts the arenas that exist at a time: a function that returns their bytes."""
    living = weakref.WeakSet()
    real = arena.Arena.__init__

    def count(self, nbytes):
        real(self, nbytes)
        living.add(self)

    monkeypatch.setattr(arena.Arena, "__init__", count)

    def sizes():
        gc.collect()
        return sorted(one.nbytes for one in living)

    return sizes


@pytest.fixture
def medium(store, monkeypatch):
    monkeypatch.setattr(background, "_IDLE_S", 0.01)
    medium = HangingMedium()
    on_medium(store, medium)
    yield medium
    medium.wake_up()


def opened(store, nbytes, **options):
    """Returns a run, its model of so many bytes, and the clock of its saves."""
    run = store.run("run", **{"save": when.never(), "keep": keep.all(), **options})
    clock = Clock(now=1000.0)
    run._session.saver.watch = SaveWatch(clock)
    model = {"w": np.zeros(nbytes, "|u1")}
    run.attach(model=model)
    return run, model, clock


@pytest.mark.parametrize(
    ("options", "nbytes", "at_once"),
    [
        ({}, 3 * MB, 1),
        ({"memory": "5MB"}, 3 * MB, 1),
        ({"memory": "9MB"}, 3 * MB, 2),
        ({"memory": "13MB"}, 3 * MB, 3),
        # Memory comes in pieces: many tiny states take more than their bytes.
        ({"memory": "9MB"}, 10, 4),
    ],
)
def test_as_many_saves_are_under_way_as_memory_allows(
    store, medium, arenas, options, nbytes, at_once
):
    run, model, clock = opened(store, nbytes, **options)
    medium.hang_at("fsync")
    pendings = []
    for step in range(at_once):
        model["w"][:] = step + 1
        pendings.append(run.save(step))
    assert medium.waiting.wait(60)
    assert not any(pending.done() for pending in pendings)
    waiting = in_thread(lambda: run.save(at_once), meanwhile=minutes_of(clock, STUCK_S))
    assert isinstance(waiting(), holdfast.SaveError)
    assert len(arenas()) == at_once
    if "memory" in options:
        assert sum(arenas()) <= int(options["memory"][:-2]) * MB
    medium.wake_up()
    for step, pending in enumerate(pendings):
        assert (pending.wait(60).load("model")["w"] == step + 1).all()
    run.close()
    assert arenas() == []


def test_a_newer_save_replaces_an_older_one_in_two_copies(store, medium, arenas):
    run, model, _ = opened(store, 3 * MB, save=when.always(), backlog="latest")
    medium.hang_at("fsync")
    for step in range(6):
        model["w"][:] = step
        run.step(step)
        assert len(arenas()) <= 2
    medium.wake_up()
    run.close()
    assert steps_of(store, "run")[-1] == 5
    assert (store.latest("run").load("model")["w"] == 5).all()


def test_a_state_that_grows_and_shrinks_holds_no_more_than_its_own_size(store, arenas):
    run, _, _ = opened(store, 10)
    for step, megabytes in enumerate([1, 10, 30, 2, 2, 12]):
        model = {"w": np.full(megabytes * MB, step, "|u1")}
        run.attach(model=model)
        assert (saved(run, step).load("model")["w"] == step).all()
        (size,) = arenas()
        assert size <= 2 * megabytes * MB + (8 << 20)
    run.close()
    assert arenas() == []


@pytest.mark.parametrize("memory", [0, -1, "0MB", "much", 1.5, "5"])
def test_memory_that_is_no_size_is_refused(store, memory):
    with pytest.raises(holdfast.ConfigError, match="memory"):
        store.run("run", memory=memory)


# -- larger than what is allowed -------------------------------------------------------------------


@pytest.mark.parametrize("options", [{"memory": 1}, {}], ids=["in place", "copied"])
@pytest.mark.parametrize("name", STATES)
def test_every_kind_of_array_comes_back_to_the_bit(store, options, name):
    value = STATES[name]
    with store.run("run", save=when.never(), **options) as run:
        run.attach(state={"value": value, "odd": torch.ones(3, dtype=torch.int8)})
        found = saved(run, 0).load("state")["value"]
        assert bits(found) == bits(value)
        assert found.dtype == value.dtype
        assert tuple(found.shape) == tuple(value.shape)
        assert store.verify().ok


def test_training_waits_while_it_is_written_from_where_it_lies_and_is_told_once(store, arenas, log):
    with store.run("run", save=when.always(), memory="1MB") as run:
        model = {"w": torch.zeros(500_000), "t": torch.zeros(1000, 500).T}
        run.attach(model=model)
        for step in range(3):
            model["w"].fill_(step)
            model["t"].fill_(-step)
            assert run.step(step)
            model["w"].fill_(9)
            model["t"].fill_(9)
            run.wait()
            found = run.latest().load("model")
            assert (found["w"] == step).all()
            assert (found["t"] == -step).all()
        assert arenas() == []
        assert run.save(3).done()
    told = [r for r in log.records if "training waits for each save" in r.getMessage()]
    assert [r.levelno for r in told] in ([logging.INFO], [logging.WARNING])


def test_what_rests_is_shared_between_saves_in_place(store):
    with store.run("run", save=when.never(), memory=1) as run:
        model = {"base": np.zeros(MB, "|u1"), "head": np.zeros(10_000, "|u1")}
        run.attach(model=model)
        for step in range(3):
            model["head"][:] = step
            checkpoint = saved(run, step)
        assert checkpoint.stored_nbytes < 100_000
        assert (checkpoint.load("model")["head"] == 2).all()


# -- beside a training that goes on ----------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 5000, 400_000])
def test_what_a_loop_writes_after_the_call_is_in_no_checkpoint(store, size):
    model = {"w": torch.zeros(size), "n": np.zeros(size)}
    done = threading.Event()
    turn = threading.Semaphore(0)

    def scribble():
        while turn.acquire(timeout=60) and not done.is_set():
            for _ in range(20):
                model["w"].add_(1)
                model["n"] += 1
            gone.release()

    gone = threading.Semaphore(0)
    with store.run("run", save=when.never()) as run:
        run.attach(model=model)
        writer = threading.Thread(target=scribble)
        writer.start()
        for step in range(8):
            pending = run.save(step)
            turn.release()
            found = pending.wait(60).load("model")
            assert (found["w"] == step * 20).all()
            assert (found["n"] == step * 20).all()
            assert gone.acquire(timeout=60)
        done.set()
        turn.release()
        writer.join(60)


# -- measured in a process of its own --------------------------------------------------------------

SCRIPT = """
import json, logging, sys
import torch
import holdfast
from holdfast import keep, when

def status(name):
    for line in open("/proc/self/status"):
        if line.startswith(name + ":"):
            return int(line.split()[1]) * 1024

path, nbytes, memory = sys.argv[1], int(sys.argv[2]), sys.argv[3] or None
count = 40
state = {f"t{n}": torch.full((nbytes // 4 // count,), float(n)) for n in range(count)}
state["transposed"] = torch.ones(500, nbytes // 4 // count // 500).T
with holdfast.open(path) as store, store.run("run", save=when.never(), memory=memory) as run:
    run.attach(model={"small": torch.zeros(10)})
    run.save(0).wait()
    run.wait()
    run.attach(model=state)
    before = status("VmRSS")
    open("/proc/self/clear_refs", "w").write("5")
    for step in (1, 2):
        for value in state.values():
            value.add_(1)
        run.save(step).wait()
        run.wait()
    print(json.dumps({"extra": status("VmHWM") - before}))
"""


def extra_memory(folder, nbytes, memory):
    """Returns by how many bytes a process grew while it saved a state of so many bytes."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(folder), str(nbytes), memory],
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout)["extra"]


resets_the_peak = pytest.mark.skipif(
    not Path("/proc/self/clear_refs").exists(), reason="the system cannot measure a peak anew"
)


@resets_the_peak
@pytest.mark.parametrize(
    ("nbytes", "memory", "allowed"),
    [
        (200 * MB, "", 1.05 * 200 * MB + 48 * MB),
        (200 * MB, "100MB", 120 * MB),
    ],
)
def test_a_save_takes_no_more_memory_than_it_may(tmp_path, nbytes, memory, allowed):
    assert extra_memory(tmp_path / "store", nbytes, memory) < allowed


@pytest.mark.slow
@resets_the_peak
@pytest.mark.parametrize(
    ("nbytes", "memory", "allowed"),
    [
        (1000 * MB, "", 1.05 * 1000 * MB + 48 * MB),
        (1000 * MB, "900MB", 256 << 20),
    ],
)
def test_a_large_save_takes_no_more_memory_than_it_may(
    tmp_path, record_property, nbytes, memory, allowed
):
    extra = extra_memory(tmp_path / "store", nbytes, memory)
    assert extra < allowed
    how = "in place" if memory else "copied"
    record_property("measured", f"saving 1 GB {how} took {extra / MB:.0f} MB more")
