"""Trainers that are killed, stopped, or out of memory, and what the next one finds."""

import logging
import os
import re
import signal

import numpy as np
import pytest

import holdfast
from holdfast import opening, when
from tests.processes.jobs import hear, job, leave, tell

# A job that says nothing more is a failure, not a hang.
pytestmark = pytest.mark.timeout(90)

TRAINER = """
import multiprocessing
store = holdfast.open(place)
{before}
run = store.run("run", save=when.every(steps=2))
run.attach(model={{"w": np.zeros(4)}})
for step in range(3):
    run.step(step, loss=1.0)
run.wait()
{after}
signal.pause()
"""
FORK = """
if os.fork() == 0:
    {first}
    say(os.getpid())
    signal.pause()
"""
START = """
worker = multiprocessing.get_context({method!r}).Process(target=signal.pause, daemon=True)
worker.start()
say(worker.pid)
"""


@pytest.fixture
def place(tmp_path):
    return tmp_path / "store"


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    """Nobody waits for a lock that a dead process holds."""
    monkeypatch.setattr(opening, "LOCK_TIMEOUT_S", 0.0)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", FORK.format(first="pass")),
        (FORK.format(first="pass"), ""),
        ("", FORK.format(first='list(holdfast.open(place)["run"].checkpoints())')),
        ("", FORK.format(first='store["run"].status')),
        ("", START.format(method="fork")),
        ("", START.format(method="spawn")),
        ("", START.format(method="forkserver")),
    ],
    ids=[
        "forked",
        "forked-before",
        "opened-the-store",
        "used-the-store",
        "fork",
        "spawn",
        "server",
    ],
)
def test_workers_of_a_killed_trainer_keep_nobody_waiting(place, caplog, before, after):
    caplog.set_level(logging.INFO, "holdfast")
    with job(TRAINER.format(before=before, after=after), place) as process:
        worker = int(hear(process))
        try:
            wait_until_idle(process, place)
            process.kill()
            process.wait(timeout=60)
            os.kill(worker, 0)
            with holdfast.open(place) as store, store.run("run", save=when.never()) as run:
                run.attach(model={"w": np.zeros(4)})
                assert run.resume() == 2
                run.save(2).wait()
        finally:
            os.kill(worker, signal.SIGKILL)
    words = rf"the last owner of run \(pid {process.pid} on .*, since 20.* UTC\) died after step 2"
    assert re.search(words, caplog.text)


def wait_until_idle(process, place):
    """Until the trainer's checkpoint is durable and its steps are noted, once a second."""
    while True:
        with holdfast.open(place, mode="r") as store:
            noted = "run" in store and len(store["run"].history("loss")) == 3
            if noted and store.checkpoints("run"):
                return
        assert process.poll() is None


@pytest.mark.parametrize(
    ("call", "ending", "left", "said"),
    [
        ("rename", "/manifest.json", [0], "removed 1 unfinished saves of run"),
        ("unlink", "/manifest.json", [1], "finishing an interrupted clean-up of run: 1 check"),
        ("unlink", "/model.safetensors", [1], "finishing an interrupted clean-up of run: 1 check"),
    ],
)
def test_the_next_owner_finishes_what_a_killed_one_began_and_says_so(
    place, caplog, call, ending, left, said
):
    caplog.set_level(logging.INFO, "holdfast")
    script = f"""
from holdfast.storage import Posix

class Ending(Posix):
    def {call}(self, *paths):
        if paths[-1].endswith({ending!r}):
            os.kill(os.getpid(), signal.SIGKILL)
        super().{call}(*paths)

store = holdfast.open(place)
with store.run("run", save=when.never(), keep=keep.latest(1)) as run:
    run.attach(model={{"w": np.zeros(4)}})
    run.save(0).wait()
    run.wait()
    store._place.storage.posix = Ending()
    run.save(1).wait()
    run.wait()
"""
    with job(script, place) as process:
        code, log = leave(process)
        assert code == -signal.SIGKILL, log
    with holdfast.open(place) as store, store.run("run", save=when.never()) as run:
        assert [c.step for c in run.checkpoints()] == left
        assert store.verify().ok
        assert store.repair().ok
    assert said in caplog.text
    assert f"pid {process.pid} on " in caplog.text


HOLDER = """
run = holdfast.open(place).run("run", save=when.never())
run.attach(model={"w": np.zeros(4)})
say("open")
hear()
run.save(0).wait()
run.close()
say("closed")
"""


def test_a_stopped_owner_keeps_its_run_and_goes_on_unharmed(place):
    with job(HOLDER, place) as process, holdfast.open(place) as store:
        assert hear(process) == "open"
        process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)
        with pytest.raises(holdfast.LockedError, match="that process is stopped") as caught:
            store.run("run")
        assert caught.value.holder.startswith(f"pid {process.pid} on ")
        assert f"kill -CONT {process.pid}" in caught.value.hint
        assert store["run"].status == "running"
        process.send_signal(signal.SIGCONT)
        tell(process)
        assert hear(process) == "closed"
        assert store.run("run").latest().step == 0


def test_a_store_behind_a_symbolic_link_is_known_to_be_open_here(place, monkeypatch):
    monkeypatch.setattr(opening, "LOCK_TIMEOUT_S", 1000.0)
    alias = place.with_name("alias")
    with holdfast.open(place) as store, store.run("run", save=when.never()):
        alias.symlink_to(place)
        with (
            holdfast.open(alias) as other,
            pytest.raises(holdfast.LockedError, match="in this process already"),
        ):
            other.run("run")
