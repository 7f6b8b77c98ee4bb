"""Real system calls, SQLite's among them, that fail or are the last: nothing promised is lost."""

import pytest

from holdfast import keep, when
from holdfast.testing.scenario import opened
from holdfast.testing.training import RUN, Training
from tests.reliability.tracing import FAILING, KILLING, Injection, sweep

LARGE = 140_000


class Pruning(Training):
    """A clean-up of a run that kept everything."""

    def __init__(self):
        super().__init__()
        self.name = "prune"

    def open_run(self, store):
        return store.run(RUN, metric="loss", save=when.never(), keep=keep.all())

    def prepare(self, root):
        promised = []
        super().act(root, None, promised.append)
        return promised

    def act(self, root, posix, promise):
        with opened(root, posix) as store:
            policy = keep.best(1, "loss").items("model") | keep.latest(2)
            store.prune(RUN, policy=policy).apply()


class Reindexing(Training):
    """A catalog that is made anew."""

    def __init__(self):
        super().__init__()
        self.name = "reindex"

    def prepare(self, root):
        promised = []
        super().act(root, None, promised.append)
        return promised

    def act(self, root, posix, promise):
        with opened(root, posix) as store:
            store.reindex()


WORKS = pytest.mark.parametrize(
    "work",
    [lambda: Training(losses=(2.0, 1.0, 3.0)), Pruning, Reindexing],
    ids=["training", "prune", "reindex"],
)


def some(numbers, few, first):
    """Returns so many of all numbers of a call, spread, from another one for each call; or all."""
    stride = max(1, len(numbers) // few) if few else 1
    return numbers[first % stride :: stride]


def kills(few):
    def choose(calls):
        for first, call in enumerate(KILLING):
            for at in some(calls[call], few, first):
                yield Injection(call, at)

    return choose


def failures(error, few):
    def choose(calls):
        for first, call in enumerate(FAILING[error]):
            for lasting in (False, True):
                for at in some(calls[call], few, first + 5 * lasting):
                    yield Injection(call, at, error, lasting)

    return choose


@pytest.mark.sweeps
@pytest.mark.parametrize(
    "work", [lambda: Training(LARGE), Pruning, Reindexing], ids=["training", "prune", "reindex"]
)
def test_work_that_the_kernel_kills_at_a_system_call_loses_nothing(
    tmp_path, stride, measured, work
):
    outcome = measured(sweep(work(), tmp_path, kills(stride(4, 0)), name="killed at system calls"))
    assert outcome.states >= 20
    assert outcome.kinds.keys() >= {"openat", "pwrite64", "fsync"}


@pytest.mark.sweeps
@WORKS
@pytest.mark.parametrize("error", FAILING)
def test_a_system_call_that_fails_loses_nothing(tmp_path, stride, measured, work, error):
    # Fewer errors to fewer calls: of those, more.
    few = 8 if error == "EMFILE" else 2
    outcome = measured(
        sweep(work(), tmp_path, failures(error, stride(few, 0)), name=f"system calls with {error}")
    )
    assert outcome.states >= 2
