"""One writer per run, whoever forks, dies or waits; any number of readers."""

import os

import numpy as np
import pytest

import holdfast
from holdfast import opening, when
from holdfast.storage import FileLock
from tests.processes.jobs import hear, job, leave, tell

# A job that says nothing more is a failure, not a hang.
pytestmark = pytest.mark.timeout(90)

HOLDER = """
run = holdfast.open(place).run("run", save=when.never())
run.attach(model={"w": np.zeros(4)})
say(os.getpid())
hear()
run.save(0).wait()
run.close()
say("closed")
hear()
"""


@pytest.fixture
def place(tmp_path):
    return tmp_path / "store"


def test_a_second_writer_is_refused_and_told_who_holds_the_run(place, monkeypatch):
    monkeypatch.setattr(opening, "LOCK_TIMEOUT_S", 0.0)
    with job(HOLDER, place) as process, holdfast.open(place) as store:
        holder = hear(process)
        with pytest.raises(holdfast.LockedError, match=f"pid {holder} on ") as caught:
            store.run("run")
        assert caught.value.holder.startswith(f"pid {holder}")
        assert caught.value.hint
        assert store["run"].status == "running"
        with store.run("run", if_exists="new") as other:
            assert other.name == "run-2"


def test_a_restarted_job_waits_for_the_one_that_is_ending(place, monkeypatch):
    monkeypatch.setattr(opening, "LOCK_TIMEOUT_S", 60.0)
    with job(HOLDER, place) as process, holdfast.open(place) as store:
        hear(process)
        real = opening.LOCK_TIMEOUT_S
        tell(process)
        with store.run("run", save=when.never()) as run:
            assert run.latest().step == 0
        assert real == 60.0
        assert hear(process) == "closed"


def test_a_killed_writer_holds_nothing(place, monkeypatch):
    monkeypatch.setattr(opening, "LOCK_TIMEOUT_S", 10.0)
    with job(HOLDER, place) as process, holdfast.open(place) as store:
        hear(process)
        process.kill()
        leave(process)
        with store.run("run") as run:
            assert run.status == "running"


def test_a_forked_child_of_a_dead_trainer_does_not_keep_its_lock(place, monkeypatch):
    monkeypatch.setattr(opening, "LOCK_TIMEOUT_S", 10.0)
    script = """
run = holdfast.open(place).run("run", save=when.never())
child = os.fork()
if child == 0:
    signal.pause()
say(child)
hear()
os.kill(os.getpid(), signal.SIGKILL)
"""
    with job(script, place) as process, holdfast.open(place) as store:
        child = int(hear(process))
        try:
            tell(process)
            process.wait(timeout=60)
            os.kill(child, 0)
            with store.run("run") as run:
                assert run.status == "running"
        finally:
            os.kill(child, 9)


def test_a_forked_child_leaves_the_parents_run_alone(place):
    script = """
store = holdfast.open(place)
with store.run("run", save=when.never()) as run:
    run.attach(model={"w": np.zeros(4)})
    child = os.fork()
    if child == 0:
        try:
            run.save(0)
        except holdfast.ConfigError as error:
            say("child:", type(error).__name__)
        sys.exit(0)
    say("child ended", os.waitpid(child, 0)[1])
    run.save(1).wait()
"""
    with job(script, place) as process:
        assert hear(process) == "child: ConfigError"
        assert hear(process) == "child ended 0"
        code, log = leave(process)
    assert code == 0, log
    with holdfast.open(place) as store:
        assert [c.step for c in store.checkpoints("run")] == [1]
        assert store["run"].status == "finished"


WORKER = """
rank = int(os.environ["RANK"])
store = holdfast.open(place)
with store.run("run", metric="loss", save=when.always(), if_exists="resume") as run:
    model = {"w": np.zeros(4)}
    run.attach(model=model)
    first = run.resume()
    say("opened", first)
    hear()
    for step in range(first, first + 2):
        model["w"] += 1
        verdict = run.step(step, {"loss": 1.0 / (step + 1)}, metadata={"session": "s-1"})
        pending = run.save(step, kind="metrics")
        pending.wait()
        run.wait()
    say(rank, bool(verdict), run.stats()["failed"], model["w"][0])
    hear()
    run.finish()
"""


def test_nobody_meets_a_locked_error_of_its_own_job(place):
    for start in (0, 2):
        jobs = [job(WORKER, place, RANK=str(rank)) for rank in range(3)]
        with jobs[0] as zero, jobs[1] as one, jobs[2] as two:
            ranks = [zero, one, two]
            assert [hear(process) for process in ranks] == [f"opened {start}"] * 3
            for process in ranks:
                tell(process)
            said = [hear(process) for process in ranks]
            weight = float(start + 2)
            assert said == [f"0 True 0 {weight}", f"1 False 0 {weight}", f"2 False 0 {weight}"]
            for process in ranks:
                tell(process)
            for process in ranks:
                code, log = leave(process)
                assert code == 0, log
        with holdfast.open(place) as store:
            full = [c for c in store.checkpoints("run") if c.kind == "full"]
            # Each job leaves a final checkpoint besides that of its last step.
            finals = [1, 3][: 1 + start // 2]
            assert sorted(c.step for c in full) == sorted([*range(start + 2), *finals])
            assert np.all(store.latest("run").load("model")["w"] == weight)


@pytest.mark.parametrize("times", [1, 3])
def test_a_run_is_begun_though_a_doctor_removes_its_empty_folder_in_between(
    place, monkeypatch, times
):
    original, left = FileLock._try, [None] * times

    def beaten_to_it(lock):
        if left and lock._path.name == "lock" and lock._path.parent.name == "run":
            left.pop()
            lock._path.parent.rmdir()
        return original(lock)

    monkeypatch.setattr(FileLock, "_try", beaten_to_it)
    with holdfast.open(place) as store, store.run("run", save=when.never()) as run:
        run.attach(model={"w": np.zeros(4)})
        run.save(0).wait()
    assert not left
    with holdfast.open(place) as store:
        assert store.repair().ok
        assert store.latest("run").step == 0


def test_a_folder_that_does_not_stay_is_one_clear_error(place, monkeypatch):
    original = FileLock._try

    def beaten_to_it(lock):
        if lock._path.parent.name == "run":
            lock._path.parent.rmdir()
        return original(lock)

    monkeypatch.setattr(FileLock, "_try", beaten_to_it)
    with (
        holdfast.open(place) as store,
        pytest.raises(holdfast.SaveError, match=r"runs/run is removed as often as it is made"),
    ):
        store.run("run")


def test_a_clean_up_passes_over_a_run_that_another_one_removes(place, monkeypatch):
    with holdfast.open(place) as store:
        (place / "runs" / "run").mkdir(parents=True)
        original = FileLock._try

        def beaten_to_it(lock):
            if lock._path.parent.name == "run":
                lock._path.parent.rmdir()
                monkeypatch.setattr(FileLock, "_try", original)
            return original(lock)

        monkeypatch.setattr(FileLock, "_try", beaten_to_it)
        assert store.repair(apply=True).ok
        assert not (place / "runs" / "run").exists()
