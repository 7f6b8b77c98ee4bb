"""Ending or failing a piece of work at every call, one after another."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Final

from holdfast.storage.faults import FAILING, Fault
from holdfast.testing.disturbing import Bench, judged
from holdfast.testing.outcome import Outcome, Progress, Tally
from holdfast.testing.scenario import Scenario, ViolationError

ERRORS: Final = (errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.EMFILE)


def kills(
    scenario: Scenario, folder: Path, *, stride: int = 1, progress: Progress = lambda a, b: None
) -> Outcome:
    """Ends the process before each call, and in the middle of each write.

    Args:
        scenario: The work.
        folder: An empty folder, on the medium that is to be proven.
        stride: Every how many calls.
        progress: See `Tally`.
    """
    bench = Bench(scenario, folder)
    tally = Tally("kill", scenario.name, progress)
    _, _, calls = bench.disturb(Fault(0))
    writes = bench.disturb(Fault(0, calls=("write", "pwrite")))[2]
    faults = [Fault(at, "crash") for at in range(1, calls + 1, stride)]
    faults += [Fault(at, "tear", calls=("write", "pwrite")) for at in range(1, writes + 1, stride)]
    tally.total = len(faults)
    for fault in faults:
        _explore(bench, fault, tally)
    return tally.outcome()


def failures(
    scenario: Scenario, folder: Path, *, stride: int = 1, progress: Progress = lambda a, b: None
) -> Outcome:
    """Fails each call with each error that a medium answers it with: once, and from then on.

    Arguments as `kills`.
    """
    bench = Bench(scenario, folder)
    tally = Tally("failure", scenario.name, progress)
    faults = []
    for number, error in enumerate(ERRORS):
        calls = bench.disturb(Fault(0, "fail", calls=FAILING[error]))[2]
        for lasting in (False, True):
            # Another start for each, so that the stride does not meet the same calls every time.
            first = 1 + (2 * number + lasting) % stride
            faults += [
                Fault(at, "fail", error, lasting, FAILING[error])
                for at in range(first, calls + 1, stride)
            ]
    tally.total = len(faults)
    for fault in faults:
        _explore(bench, fault, tally)
    return tally.outcome()


def compound(
    scenario: Scenario,
    folder: Path,
    *,
    stride: int = 1,
    second: int | None = None,
    progress: Progress = lambda a, b: None,
) -> Outcome:
    """Ends the process at a call, then ends the one that recovers, too, and then the next.

    Args:
        scenario: The work.
        folder: An empty folder, on the medium that is to be proven.
        stride: Every how many calls the first one ends.
        second: Every how many calls the recovering one does; left out, every fifth, or as often as
            the first where that is less often.
        progress: See `Tally`.
    """
    bench = Bench(scenario, folder)
    tally = Tally("kill while recovering", scenario.name, progress)
    calls = bench.disturb(Fault(0))[2]
    second = second or max(5, stride)
    firsts = range(1, calls + 1, stride)
    tally.total = len(firsts) * max(1, calls // second // 2)
    for number, first in enumerate(firsts):
        # The recovering process goes on with the work, so it comes to an end of its own.
        at = 1 + number % second
        while True:
            bench.disturb(Fault(first))
            status, call, _ = bench.go_on(Fault(at))
            if status == 0:
                break
            bench.go_on(Fault(max(1, at // 2)))
            wrong = judged(bench.check)
            tally.add(call, wrong and f"call {first}, then {call} (call {at}): {wrong}")
            at += second
    return tally.outcome()


def failures_after_kills(
    scenario: Scenario,
    folder: Path,
    *,
    stride: int = 1,
    second: int | None = None,
    progress: Progress = lambda a, b: None,
) -> Outcome:
    """Ends the process at a call, then fails the one that recovers, once or from a call on.

    Errors and their lasting take turns from state to state.

    Args:
        scenario: The work.
        folder: An empty folder, on the medium that is to be proven.
        stride: Every how many calls the first one ends.
        second: Every how many calls of the recovering one fail; left out, as `compound`.
        progress: See `Tally`.
    """
    bench = Bench(scenario, folder)
    tally = Tally("failure while recovering", scenario.name, progress)
    calls = bench.disturb(Fault(0))[2]
    second = second or max(5, stride)
    kinds = [(error, lasting) for error in (errno.EIO, errno.ENOSPC) for lasting in (False, True)]
    firsts = range(1, calls + 1, stride)
    tally.total = len(firsts) * max(1, calls // second // 2)
    for number, first in enumerate(firsts):
        for at in range(1 + number % second, calls + 1, second):
            error, lasting = kinds[tally.states % len(kinds)]
            fault = Fault(at, "fail", error, lasting, FAILING[error])
            try:
                bench.disturb(Fault(first))
                call = bench.go_on(fault)[1]
            except ViolationError as violation:
                tally.add("broken", f"call {first}, then {_said(fault)} (call {at}): {violation}")
                continue
            if not call:
                break
            wrong = judged(bench.check)
            kind = f"{call} {_said(fault)}"
            tally.add(kind, wrong and f"call {first}, then {kind} (call {at}): {wrong}")
    return tally.outcome()


def _said(fault: Fault) -> str:
    if fault.action != "fail":
        return fault.action
    return f"{errno.errorcode[fault.error]}{' from then on' if fault.lasting else ''}"


def _explore(bench: Bench, fault: Fault, tally: Tally) -> None:
    what = _said(fault)
    try:
        _, call, _ = bench.disturb(fault)
    except ViolationError as error:
        tally.add(what, f"{what} at call {fault.at}: {error}")
        return
    if not call:
        # Threads do not make their calls in the same order every time: the work was over before.
        return
    wrong = judged(bench.check)
    kind = f"{call} {what}" if fault.action == "fail" else call
    tally.add(kind, wrong and f"{what} at {call} (call {fault.at}): {wrong}")
