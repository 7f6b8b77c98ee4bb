"""A disk that fills up at any moment: training goes on, nothing saved is lost, room comes back."""

import contextlib

import numpy as np
import pytest

import holdfast
from holdfast import keep, when
from holdfast.storage.faults import FaultyPosix
from holdfast.testing.scenario import on_disk, opened, require_tidy
from tests import disks

RUN = "study/cnn"
STATE_NBYTES = 600_000
#: What a failed save leaves: lines of the journal, rows of the catalog.
NOTES_NBYTES = 160 << 10
LOSSES = (1.0, 3.0, 2.0)

BOTH = pytest.mark.parametrize("filesystem", disks.FILESYSTEMS)


class FillingPosix(FaultyPosix):
    """System calls during which somebody else fills the disk, at the n-th after `arm`."""

    def __init__(self, folder):
        self.folder = folder
        self.at = 0
        self.call = ""
        super().__init__()

    def arm(self, at):
        self.count, self.at, self.call = 0, at, ""

    def _call(self, name, make, *arguments, **options):
        self.count += 1
        if self.count == self.at:
            self.call = name
            disks.fill(self.folder)
        return make(*arguments, **options)


class Job:
    """A training on a small disk, three checkpoints old."""

    def __init__(self, disk):
        self.disk = disk
        self.posix = FillingPosix(disk)
        self.root = disk / "store"
        self.state = {"rests": np.ones(10_000), "w": np.zeros(STATE_NBYTES // 8)}
        self.store = opened(self.root, self.posix)
        policy = keep.best(1).items("model") | keep.latest(2)
        self.run = self.store.run(RUN, metric="loss", save=when.never(), keep=policy)
        self.run.attach(model=self.state, extra={"numbers": np.arange(5)})
        self.run.resume()
        for step, loss in enumerate(LOSSES):
            self.save(step, loss).wait()
        self.run.wait()

    def save(self, step, loss=5.0):
        self.state["w"][:] = step
        return self.run.save(step, {"loss": loss})

    def try_to_save(self, step):
        """Saves where there may be no room; returns the checkpoint, or None."""
        before = self.run.stats()["failed"]
        pending, checkpoint = self.save(step), None
        with contextlib.suppress(holdfast.StorageFullError):
            checkpoint = pending.wait()
        error = pending.exception()
        # Said by its Pending and counted once: never silent, never twice.
        assert error is None or isinstance(error, holdfast.StorageFullError)
        assert self.run.stats()["failed"] - before == (error is not None)
        self.run.wait()
        return checkpoint

    def check_intact(self, wanted, saved):
        """Asserts that these steps, the clean-up's choice, are there and load to the bit.

        While there is no room at all, the catalog may miss what was saved last, and list what is
        gone.
        """
        listed = [*self.store.checkpoints(RUN), *([saved] if saved else [])]
        there = on_disk(self.root)
        found = {c.step: c for c in listed if c.id in there}
        assert found.keys() >= set(wanted), (found, wanted)
        for step, checkpoint in found.items():
            assert (checkpoint.load("model")["w"] == step).all()
            checkpoint.verify()

    def close(self):
        self.run.close()
        self.store.close()


@pytest.fixture
def disk(tmp_path, request):
    with disks.small_disk(tmp_path, request.param) as folder:
        yield folder


def check_recovered(job, step):
    """Asserts that with room again the next save works, and the next process finds it all."""
    disks.empty(job.disk)
    job.save(step).wait()
    job.close()
    with holdfast.open(job.root) as store:
        found = store.checkpoints(RUN)
        assert found[0].step == step
        assert store.verify().ok
        with store.run(RUN, save=when.never(), keep=keep.all()) as run:
            require_tidy(job.root, RUN)
            state = {"rests": np.zeros(10_000), "w": np.zeros(STATE_NBYTES // 8)}
            run.attach(model=state, extra={"numbers": np.zeros(5, int)})
            assert run.resume() == step + 1
            assert (state["w"] == step).all()


def explore_room(disk, sizes):
    """Saves with exactly so many bytes left, each time; returns how many of them had room."""
    job = Job(disk)
    saved = 0
    step = len(LOSSES)
    kept = [0, 1, 2]
    for size in sizes:
        disks.fill(disk, leave=size)
        before = disks.free(disk)
        checkpoint = job.try_to_save(step)
        if checkpoint:
            saved += 1
            kept = [0, kept[-1], step]
        else:
            # The temporary space is back at once; what stays are notes.
            assert disks.free(disk) >= before - NOTES_NBYTES, size
            require_tidy(job.root, RUN)
        job.check_intact(kept, checkpoint)
        disks.empty(disk)
        step += 1
    check_recovered(job, step)
    return saved


@pytest.mark.parametrize("disk", disks.FILESYSTEMS, indirect=True)
def test_a_save_with_too_little_room_fails_and_nothing_else_does(disk):
    assert explore_room(disk, [0, 4096, 100_000, STATE_NBYTES, 2 << 20]) == 1


@pytest.mark.sweeps
@pytest.mark.parametrize("disk", disks.FILESYSTEMS, indirect=True)
def test_a_save_with_any_number_of_bytes_left_is_whole_or_undone(disk, stride, record_property):
    sizes = range(0, STATE_NBYTES + (200 << 10), stride(16, 4) << 10)
    saved = explore_room(disk, sizes)
    assert 0 < saved < len(sizes)
    record_property("measured", f"full disk: {len(sizes)} sizes of room, {saved} were enough")


def explore_moments(disk, step):
    """Fills the disk at every n-th call of a save; returns call to how often."""
    calls = {}
    job = Job(disk)
    at, number = 1, len(LOSSES)
    while True:
        disks.empty(disk)
        job.posix.arm(at)
        saved = job.try_to_save(number)
        call = job.posix.call
        job.posix.arm(0)
        if not call:
            break
        calls[call] = calls.get(call, 0) + 1
        job.check_intact([0], saved)
        # A clean-up works on the full disk, too.
        job.store.prune(RUN, policy=keep.best(1, "loss", mode="min") | keep.latest(2)).apply()
        job.check_intact([0], saved)
        at, number = at + step, number + 1
    check_recovered(job, number)
    return calls


@pytest.mark.parametrize("disk", disks.FILESYSTEMS, indirect=True)
def test_a_disk_that_fills_up_in_the_middle_of_a_save_loses_nothing(disk):
    assert sum(explore_moments(disk, 17).values()) >= 2


@pytest.mark.sweeps
@pytest.mark.parametrize("disk", disks.FILESYSTEMS, indirect=True)
def test_a_disk_that_fills_up_at_any_call_of_a_save_loses_nothing(disk, stride, record_property):
    calls = explore_moments(disk, stride(2))
    assert sum(calls.values()) >= 20
    each = ", ".join(f"{call} {count}" for call, count in calls.items())
    record_property("measured", f"disk filled up at {sum(calls.values())} calls: {each}")
