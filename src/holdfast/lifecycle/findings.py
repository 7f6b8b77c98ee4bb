"""What is not as it should be in a store, and whether that was set right."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from holdfast.errors import HoldfastError

Kind = Literal[
    "interrupted",
    "unfinished",
    "leftover",
    "stray",
    "ownerless",
    "empty",
    "owner",
    "lock",
    "drift",
    "damaged",
]


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is not as it should be.

    Attributes:
        kind: ``interrupted`` (a clean-up), ``unfinished`` (a save), ``leftover`` (a temporary
            file, or a catalog that was set aside), ``stray`` (a file that no manifest names),
            ``ownerless`` (a shard of no checkpoint), ``empty`` (folders of no shard), ``owner``
            (a run whose owner died), ``lock`` (a lock that cannot be opened), ``drift`` (the
            catalog and the files differ) or ``damaged``.
        path: Where, relative to the store.
        what: What was found, as a sentence.
        action: What sets it right.
        done: Whether that was done.
    """

    kind: Kind
    path: str
    what: str
    action: str
    done: bool = False

    @property
    def settled(self) -> bool:
        """Whether nothing is left to do; an empty folder is what any clean-up may leave behind."""
        return self.done or self.kind == "empty"


@dataclass(frozen=True, slots=True)
class Findings:
    """All that was found.

    Attributes:
        findings: Run by run, then of the store as a whole.
        busy: Runs that another process writes: unfinished saves are not looked for in them.
    """

    findings: tuple[Finding, ...] = ()
    busy: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether everything is as it should be, now."""
        return not self.left

    @property
    def left(self) -> tuple[Finding, ...]:
        """What has not been set right."""
        return tuple(finding for finding in self.findings if not finding.settled)

    def as_dict(self) -> dict[str, Any]:
        """Returns it as plain JSON values."""
        return {
            "ok": self.ok,
            "busy": list(self.busy),
            "findings": [
                {
                    "kind": finding.kind,
                    "path": finding.path,
                    "what": finding.what,
                    "action": finding.action,
                    "done": finding.done,
                }
                for finding in self.findings
            ],
        }


class Found:
    """Findings as they come together.

    Args:
        apply: Whether what can be set right is set right at once.
    """

    def __init__(self, *, apply: bool) -> None:
        self.apply = apply
        self.findings: list[Finding] = []

    def act(
        self, kind: Kind, path: str, what: str, action: str, work: Callable[[], object]
    ) -> None:
        """Takes a finding down and, with `apply`, sets it right; a failure of that is told."""
        done = False
        if self.apply:
            try:
                work()
                done = True
            except (HoldfastError, OSError) as error:
                what = f"{what}; setting it right failed: {error}"
        self.findings.append(Finding(kind, path, what, action, done))

    def leave(self, kind: Kind, path: str, what: str, action: str) -> None:
        """Takes a finding down that only people can set right."""
        self.findings.append(Finding(kind, path, what, action))

    def settled(self, kind: Kind, path: str, what: str, action: str) -> None:
        """Takes a finding down that the caller sets right with `apply`."""
        self.findings.append(Finding(kind, path, what, action, self.apply))
