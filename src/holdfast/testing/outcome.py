"""What a sweep explored, and what it found."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

Progress = Callable[[int, int], None]

#: Enough to see what is wrong; a defect in the commit is met by hundreds of states.
MAX_VIOLATIONS: Final = 20


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a sweep explored, and what it found.

    Attributes:
        sweep: Its name.
        scenario: What was disturbed.
        states: How many states were recovered and checked.
        kinds: Kind of state to how many there were.
        violations: One sentence per state in which something did not hold; at most
            `MAX_VIOLATIONS`.
        violated: How many states those were in all.
        skipped: Why nothing was explored; empty where something was.
    """

    sweep: str
    scenario: str
    states: int = 0
    kinds: Mapping[str, int] = field(default_factory=dict)
    violations: tuple[str, ...] = ()
    violated: int = 0
    skipped: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Returns it as plain JSON values."""
        return {
            "sweep": self.sweep,
            "scenario": self.scenario,
            "states": self.states,
            "kinds": dict(self.kinds),
            "violations": list(self.violations),
            "violated": self.violated,
            "skipped": self.skipped,
        }

    @classmethod
    def from_dict(cls, members: Mapping[str, Any]) -> Outcome:
        """Returns what `as_dict` described."""
        return cls(**{**members, "violations": tuple(members["violations"])})


class Tally:
    """An outcome under way.

    Args:
        sweep: Its name.
        scenario: What is disturbed.
        progress: Told the number of states so far, and how many there are going to be.
    """

    def __init__(self, sweep: str, scenario: str, progress: Progress) -> None:
        self._sweep = sweep
        self._scenario = scenario
        self._progress = progress
        self.total = 0
        self._kinds: Counter[str] = Counter()
        self._violations: list[str] = []
        self._violated = 0

    def add(self, kind: str, wrong: str = "") -> None:
        """Counts a state; `wrong` says what did not hold in it."""
        self._kinds[kind] += 1
        if wrong:
            self._violated += 1
            if len(self._violations) < MAX_VIOLATIONS:
                self._violations.append(wrong)
        self._progress(self.states, max(self.total, self.states))

    @property
    def states(self) -> int:
        """States so far."""
        return self._kinds.total()

    def outcome(self) -> Outcome:
        """Returns what was found."""
        return Outcome(
            self._sweep,
            self._scenario,
            self.states,
            dict(self._kinds),
            tuple(self._violations),
            self._violated,
        )
