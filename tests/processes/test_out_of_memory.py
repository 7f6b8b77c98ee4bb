"""A trainer that the kernel kills for its memory, or that is refused some."""

import os
from pathlib import Path

import numpy as np
import pytest

import holdfast
from tests.processes.jobs import hear, job, leave, tell

# A job that says nothing more is a failure, not a hang.
pytestmark = [pytest.mark.timeout(90), pytest.mark.slow]

LIMIT = 400 << 20
STATE = 4_000_000

#: Takes memory in the middle of writing its second checkpoint, until the kernel ends it.
GREEDY = f"""
from holdfast.storage import Posix
store = holdfast.open(place)
run = store.run("run", save=when.never(), keep=keep.latest(1))
model = {{"w": np.zeros({STATE})}}
run.attach(model=model)
run.save(0).wait()
run.wait()
say("saved")
hear()

class Greedy(Posix):
    hoard = []
    def pwrite(self, fd, data, offset):
        while offset > {STATE * 4}:
            self.hoard.append(np.ones(4 << 20))
        return super().pwrite(fd, data, offset)

store._place.storage.posix = Greedy()
model["w"] += 1
run.save(1).wait()
say("survived")
"""


@pytest.fixture
def limited():
    """Gives a function that puts a process into a group with little memory."""
    group = group_folder() / f"holdfast-test-{os.getpid()}"
    try:
        group.mkdir()
    except OSError as error:
        pytest.skip(f"no memory control group can be made here: {error}")
    unified = (group / "memory.max").exists()
    limits = (
        {"memory.max": LIMIT, "memory.swap.max": 0}
        if unified
        else {"memory.limit_in_bytes": LIMIT, "memory.memsw.limit_in_bytes": LIMIT}
    )
    for name, value in limits.items():
        if (group / name).exists():
            (group / name).write_text(str(value))
    if not any((group / name).exists() for name in limits):
        group.rmdir()
        pytest.skip("the control groups here do not limit memory")
    yield lambda pid: (group / "cgroup.procs").write_text(str(pid))
    group.rmdir()


def group_folder():
    separate = Path("/sys/fs/cgroup/memory")
    return separate if separate.is_dir() else Path("/sys/fs/cgroup")


def test_a_trainer_killed_for_its_memory_in_a_save_keeps_what_it_promised(tmp_path, limited):
    place = tmp_path / "store"
    with job(GREEDY, place) as process:
        assert hear(process) == "saved"
        limited(process.pid)
        tell(process)
        code, log = leave(process)
        assert code == -9, log
    with holdfast.open(place) as store:
        assert [c.step for c in store.checkpoints("run")] == [0]
        assert np.all(store.latest("run").load("model")["w"] == 0)
        assert store.verify().ok
        with store.run("run") as run:
            run.attach(model={"w": np.ones(STATE)})
            assert run.resume() == 1
        assert store.repair().ok


#: Is given no more address space before its state becomes large, and all of it after that.
REFUSED = f"""
import resource
store = holdfast.open(place)
run = store.run("run", save=when.always(), keep=keep.all())
model = {{"w": np.zeros(8)}}
run.attach(model=model)
first = run.step(0)
run.wait()
big = {{"w": np.zeros({STATE * 20})}}
pages = int(open("/proc/self/statm").read().split()[0])
_, most = resource.getrlimit(resource.RLIMIT_AS)
resource.setrlimit(resource.RLIMIT_AS, (pages * 4096 + (32 << 20), most))
run.attach(model=big)
second = run.step(1)
run.wait()
say(second.save and run.stats()["failed"] == 0, second.reason[:7])
resource.setrlimit(resource.RLIMIT_AS, (most, most))
third = run.step(2)
run.wait()
say(third.save, run.stats()["saved"], run.stats()["failed"])
run.close()
"""


def test_a_save_that_gets_no_memory_is_counted_and_training_goes_on(tmp_path):
    place = tmp_path / "store"
    with job(REFUSED, place) as process:
        assert hear(process) == "False failed:"
        assert hear(process) == "True 2 1"
        code, log = leave(process)
    assert code == 0, log
    assert "the save of step 1 of run failed" in log
    with holdfast.open(place) as store:
        assert [c.step for c in store.checkpoints("run")] == [2, 0]
        assert store["run"].status == "finished"
