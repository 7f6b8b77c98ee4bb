"""Cutting the power at every call: what was promised is there when the machine comes back.

The work runs on a filesystem of its own, which is shut down at the n-th call without a flush of its
log, as a loss of power does it, and mounted again. What was not synced is gone then.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, get_args

from holdfast.storage.faults import CALLS, Fault, FaultyPosix
from holdfast.testing.disturbing import KILLED, Bench, in_child, judged
from holdfast.testing.loopdisk import Cut, LoopDisk, enter_own_mounts, missing_for
from holdfast.testing.outcome import Outcome, Progress, Tally
from holdfast.testing.reporting import reported
from holdfast.testing.scenario import Scenario

FILESYSTEMS: Final = ("ext4", "xfs")


def cuts(
    scenario: Scenario,
    folder: Path,
    *,
    filesystem: str = "ext4",
    stride: int = 1,
    calls: Sequence[str] = CALLS,
    medium: type[FaultyPosix] = FaultyPosix,
    progress: Progress = lambda a, b: None,
) -> Outcome:
    """Cuts the power before each call, and after each promise; twice each.

    Once without what the filesystem has in its log by chance, once with it.

    Args:
        scenario: The work.
        folder: An empty folder, on the disk that the filesystem's image is to lie on.
        filesystem: ``ext4`` or ``xfs``.
        stride: Every how many calls.
        calls: Which calls; none leaves the promises.
        medium: Makes the system calls; a test passes some of which one does nothing.
        progress: See `Tally`.
    """

    def explore(bench: PowerBench, tally: Tally) -> None:
        count = bench.disturb(Fault(0, calls=calls))[2]
        states = [
            (at, how)
            for number, how in enumerate(get_args(Cut))
            # Another start for each, so that the stride does not meet the same calls twice.
            for at in range(1 + number * stride // 2, count + 1, stride)
        ]
        tally.total = len(states)
        for at, how in states:
            bench.how = how
            status, call, _ = bench.disturb(Fault(at, calls=calls))
            # Threads do not make their calls in the same order every time: it may be over before.
            if status == KILLED:
                wrong = bench.judge()
                where = f"power cut at {call} (call {at}, {how})"
                tally.add(f"{call}, {how}", wrong and f"{where}: {wrong}")

    return _swept(
        "power cut",
        scenario,
        folder,
        filesystem=filesystem,
        medium=medium,
        explore=explore,
        progress=progress,
    )


def cuts_while_recovering(
    scenario: Scenario,
    folder: Path,
    *,
    filesystem: str = "ext4",
    stride: int = 1,
    second: int = 5,
    medium: type[FaultyPosix] = FaultyPosix,
    progress: Progress = lambda a, b: None,
) -> Outcome:
    """Cuts the power, and cuts it again while the next process recovers and goes on.

    Args:
        scenario: The work.
        folder: As in `cuts`, and so are the others.
        filesystem: See there.
        stride: Every how many calls the power is cut first.
        second: Every how many calls it is cut again.
        medium: See there.
        progress: See `Tally`.
    """

    def explore(bench: PowerBench, tally: Tally) -> None:
        calls = bench.disturb(Fault(0))[2]
        firsts = range(1, calls + 1, stride)
        tally.total = len(firsts) * max(1, calls // second // 2)
        for number, first in enumerate(firsts):
            at = 1 + number % second
            while True:
                bench.disturb(Fault(first))
                # The recovering process goes on with the work, so it comes to an end of its own.
                status, call, _ = bench.go_on(Fault(at))
                if status != KILLED:
                    break
                wrong = bench.judge()
                where = f"power cut at call {first}, then at {call} (call {at})"
                tally.add(call, wrong and f"{where}: {wrong}")
                at += second

    return _swept(
        "power cut while recovering",
        scenario,
        folder,
        filesystem=filesystem,
        medium=medium,
        explore=explore,
        progress=progress,
    )


class PowerBench(Bench):
    """A bench on a filesystem that loses its power when the work is ended.

    Args:
        scenario: The work.
        folder: An empty folder outside of it, for what is to survive.
        disk: The filesystem, mounted.
        medium: Makes the system calls.

    Attributes:
        how: What the next cut leaves.
    """

    def __init__(
        self, scenario: Scenario, folder: Path, disk: LoopDisk, *, medium: type[FaultyPosix]
    ) -> None:
        super().__init__(
            scenario,
            folder,
            medium=medium,
            root=disk.mount_point / "store",
            ending=lambda: disk.cut(self.how),
        )
        self.how: Cut = "synced"
        self._disk = disk
        self._wrong = folder / "wrong"

    def fresh(self) -> None:
        """Puts the store back to where the work starts, durably."""
        super().fresh()
        self._disk.sync()

    def go_on(self, fault: Fault) -> tuple[int, str, int]:
        """Goes on from where the last one ended, and brings the power back where it was cut."""
        ended = super().go_on(fault)
        if ended[0] == KILLED:
            self._disk.unmount()
            self._disk.mount()
        return ended

    def judge(self) -> str:
        """Returns what does not hold; empty where all does.

        In a child, so that nothing of the filesystem stays open.
        """

        def look() -> None:
            self._wrong.write_text(judged(self.check))

        self._wrong.write_text("the check ended without a word")
        in_child(look, self._wrong)
        return self._wrong.read_text()


Explore = Callable[[PowerBench, Tally], None]


def _swept(
    name: str,
    scenario: Scenario,
    folder: Path,
    *,
    filesystem: str,
    medium: type[FaultyPosix],
    explore: Explore,
    progress: Progress,
) -> Outcome:
    """Runs a sweep in a process with mounts of its own; says why where that is not possible."""
    name = f"{name}, {filesystem}"

    def work(told: Progress) -> Outcome:
        tally = Tally(name, scenario.name, told)
        try:
            enter_own_mounts()
            disk = LoopDisk(folder, filesystem)
        except OSError as error:
            return Outcome(name, scenario.name, skipped=f"no loop-mounted filesystem: {error}")
        with disk:
            bench = PowerBench(scenario, folder, disk, medium=medium)
            explore(bench, tally)
        return tally.outcome()

    reason = missing_for(filesystem, folder)
    if reason:
        return Outcome(name, scenario.name, skipped=reason)
    return reported(work, progress)
