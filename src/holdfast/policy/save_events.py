"""Save rules that look at the process and the clock that was passed in: signals, ends, costs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from holdfast.model import Moment, Verdict
from holdfast.policy.saving import Code, Rule
from holdfast.policy.wording import duration, expression

#: Seconds that a deadline leaves besides the time that saves are known to take.
DEADLINE_RESERVE_S = 30.0


@dataclass(frozen=True, slots=True)
class Preempted(Rule):
    """Due when a signal asked the process to end; see `holdfast.when.preempted`."""

    code: ClassVar[Code] = "preempted"
    listens_to: tuple[str, ...]

    def _judge(self, moment: Moment) -> Verdict:
        names = ", ".join(f"SIG{name}" for name in self.listens_to)
        if moment.preempted:
            return self._because(True, f"the process was asked to end ({names})")
        return self._because(False, f"no signal so far ({names})")

    def __repr__(self) -> str:
        return expression(
            "when.preempted", None if self.listens_to == ("TERM",) else self.listens_to
        )


@dataclass(frozen=True, slots=True)
class Interrupted(Rule):
    """Due when Ctrl-C or an exception ended the loop; see `holdfast.when.interrupted`."""

    code: ClassVar[Code] = "interrupted"

    def _judge(self, moment: Moment) -> Verdict:
        if moment.interrupted:
            return self._because(True, f"the loop ended early at step {moment.step}")
        return self._because(False, "the loop goes on")

    def __repr__(self) -> str:
        return "when.interrupted()"


@dataclass(frozen=True, slots=True)
class Deadline(Rule):
    """Due once before the allotted time ends; see `holdfast.when.deadline`."""

    code: ClassVar[Code] = "deadline"
    minutes: float

    def _judge(self, moment: Moment) -> Verdict:
        if moment.started_at is None:
            return self._because(False, "nobody said when the run started")
        span = 60 * self.minutes
        known = (moment.stall_s or 0.0) + (moment.write_s or 0.0)
        margin = min(2 * known + DEADLINE_RESERVE_S, span / 2)
        left = moment.started_at + span - moment.now
        due_at = moment.started_at + span - margin
        if moment.now < due_at:
            return self._because(
                False, f"{duration(left)} left of {duration(span)}, due with {duration(margin)}"
            )
        last = moment.last_saved
        if last is not None and last.created_at >= due_at:
            return self._because(False, f"step {last.step} was saved for it")
        return self._because(True, f"{duration(left)} left of {duration(span)}")

    def __repr__(self) -> str:
        return expression("when.deadline", self.minutes)


@dataclass(frozen=True, slots=True)
class Budget(Rule):
    """Due as often as a share of the time allows; see `holdfast.when.budget`."""

    code: ClassVar[Code] = "budget"
    overhead: float

    def _judge(self, moment: Moment) -> Verdict:
        last = moment.last_saved
        if last is None or moment.stall_s is None:
            return self._because(True, "what a save costs is not known yet")
        wait = max(moment.stall_s / self.overhead, moment.write_s or 0.0)
        passed = moment.now - last.created_at
        cost = f"a save stalls {duration(moment.stall_s)}, {100 * self.overhead:.3g}% is allowed"
        if passed >= wait:
            return self._because(True, f"{duration(passed)} since the last save ({cost})")
        return self._because(False, f"{duration(passed)} of {duration(wait)} ({cost})")

    def __repr__(self) -> str:
        return expression("when.budget", self.overhead)
