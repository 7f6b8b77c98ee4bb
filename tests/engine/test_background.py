"""Background saves: whoever waits hears the truth, and the thread outlives every failure."""

import threading

import pytest

from holdfast.engine.background import Job, Worker
from holdfast.errors import SaveError, StorageFullError


class Bench:
    """A worker, and jobs that wait until they are let go."""

    def __init__(self):
        self.settled = []
        self.dropped = []
        self.worker = Worker("bench", idle=lambda: None)
        self.gate = threading.Event()
        self.begun = threading.Event()

    def job(self, result=None, *, error=None, gated=False, name="job"):
        def work():
            if gated:
                self.begun.set()
                assert self.gate.wait(60)
            if error is not None:
                raise error
            return result

        job = Job(
            work,
            settle=lambda failure: self.settled.append((name, failure)),
            drop=lambda: self.dropped.append(name),
        )
        self.worker.submit(job)
        return job.pending


@pytest.fixture
def bench():
    bench = Bench()
    yield bench
    bench.gate.set()
    bench.worker.stop()


def test_waiting_returns_the_result_and_done_tells_without_waiting(bench):
    pending = bench.job("checkpoint", gated=True)
    assert not pending.done()
    with pytest.raises(TimeoutError, match="it goes on"):
        pending.wait(0)
    bench.gate.set()
    assert pending.wait(60) == "checkpoint"
    assert (pending.done(), pending.exception()) == (True, None)
    assert pending.wait() == "checkpoint"
    assert bench.settled == [("job", None)]


def test_a_failure_is_raised_by_every_wait_and_later_jobs_run(bench):
    error = StorageFullError("no room", hint="prune")
    pending = bench.job(error=error)
    for _ in range(2):
        with pytest.raises(StorageFullError) as caught:
            pending.wait(60)
        assert caught.value is error
    assert pending.exception() is error
    assert bench.job("next").wait(60) == "next"
    assert bench.settled == [("job", error), ("job", None)]


def test_an_unexpected_failure_is_carried_as_the_cause(bench):
    cause = ZeroDivisionError("a defect")
    pending = bench.job(error=cause)
    with pytest.raises(SaveError, match="ZeroDivisionError: a defect") as caught:
        pending.wait(60)
    assert caught.value.__cause__ is cause
    assert bench.job("next").wait(60) == "next"


@pytest.mark.parametrize("error", [None, SaveError("no", hint="try again")])
def test_a_failure_to_take_note_neither_hides_the_result_nor_ends_the_thread(bench, error):
    def settle(_):
        raise RuntimeError("the log is full")

    def work():
        if error is not None:
            raise error
        return "durable"

    job = Job(work, settle=settle, drop=lambda: None)
    bench.worker.submit(job)
    if error is None:
        assert job.pending.wait(60) == "durable"
    else:
        with pytest.raises(SaveError):
            job.pending.wait(60)
    assert bench.worker.drain()
    assert bench.job("next").wait(60) == "next"


def test_a_failure_between_saves_does_not_end_the_thread():
    failed = threading.Event()

    def idle():
        failed.set()
        raise RuntimeError("the journal cannot be written")

    worker = Worker("bench", idle=idle)
    assert failed.wait(60)
    job = Job(lambda: "saved", settle=lambda _: None, drop=lambda: None)
    worker.submit(job)
    assert job.pending.wait(60) == "saved"
    worker.stop()


def test_the_queued_job_gives_way_and_the_one_under_way_does_not(bench):
    first = bench.job("first", gated=True, name="first")
    assert bench.begun.wait(60)
    second = bench.job("second", name="second")
    bench.worker.drop_queued(label="third")
    third = bench.job("third", name="third")
    assert bench.dropped == ["second"]
    with pytest.raises(SaveError, match="replaced by third"):
        second.wait(60)
    bench.gate.set()
    assert (first.wait(60), third.wait(60)) == ("first", "third")
    assert [name for name, _ in bench.settled] == ["first", "third"]


def test_dropping_with_nothing_queued_drops_nothing(bench):
    bench.worker.drop_queued(label="x")
    pending = bench.job("a", gated=True)
    assert bench.begun.wait(60)
    bench.worker.drop_queued(label="x")
    bench.gate.set()
    assert pending.wait(60) == "a"
    assert bench.dropped == []


def test_draining_waits_for_all_and_can_be_told_to_give_up(bench):
    assert bench.worker.drain(give_up=lambda: True)
    bench.job("a", gated=True)
    assert bench.begun.wait(60)
    bench.job("b")
    assert bench.worker.busy
    assert not bench.worker.drain(give_up=lambda: True)
    bench.gate.set()
    assert bench.worker.drain()
    assert not bench.worker.busy
    assert len(bench.settled) == 2


def test_what_follows_a_job_comes_after_its_result_and_before_the_next(bench):
    seen, gate = [], threading.Event()

    def follow():
        assert gate.wait(60)
        seen.append("followed")

    job = Job(lambda: "a", settle=lambda _: None, drop=lambda: None, after=follow)
    bench.worker.submit(job)
    assert job.pending.wait(60) == "a"
    assert seen == []
    # It holds nothing any more, but is not over.
    assert bench.worker.wait_below(1, give_up=lambda: False)
    assert (bench.worker.holding, bench.worker.busy) == (0, True)
    following = Job(lambda: seen.append("next"), settle=lambda _: None, drop=lambda: None)
    bench.worker.submit(following)
    gate.set()
    following.pending.wait(60)
    assert seen == ["followed", "next"]


def test_nothing_follows_a_failure_and_a_failing_follower_ends_nothing(bench):
    seen = []

    def fail():
        raise OSError("no")

    def follow():
        seen.append("followed")
        raise RuntimeError("the clean-up broke")

    for work in (fail, lambda: "done"):
        job = Job(work, settle=lambda _: None, drop=lambda: None, after=follow)
        bench.worker.submit(job)
        assert bench.worker.drain()
    assert seen == ["followed"]
    assert bench.job("next").wait(60) == "next"


def test_waiting_for_room_ends_when_one_is_settled_or_when_it_is_given_up(bench):
    bench.job("a", gated=True)
    assert bench.begun.wait(60)
    bench.job("b")
    assert bench.worker.holding == 2
    assert bench.worker.wait_below(3, give_up=lambda: True)
    assert not bench.worker.wait_below(2, give_up=lambda: True)
    bench.gate.set()
    assert bench.worker.wait_below(1, give_up=lambda: False)


def test_stopping_finishes_what_is_queued():
    bench = Bench()
    first = bench.job("a", gated=True)
    assert bench.begun.wait(60)
    second = bench.job("b")
    bench.gate.set()
    bench.worker.stop()
    assert (first.wait(0), second.wait(0)) == ("a", "b")


def test_a_job_queued_by_another_thread_waits_its_turn_and_none_is_lost(bench):
    bench.job("first", gated=True)
    assert bench.begun.wait(60)
    found = []
    threads = [threading.Thread(target=lambda: found.append(bench.job("next"))) for _ in range(3)]
    for thread in threads:
        thread.start()
    bench.gate.set()
    for thread in threads:
        thread.join(60)
    assert bench.worker.drain()
    assert [pending.wait(0) for pending in found] == ["next"] * 3
