"""What a verification read, and what it found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Verification:
    """What was read, and what is damaged.

    Attributes:
        checked: Ids of the checkpoints that were read, in the order of reading.
        damaged: Id to one sentence per damaged file or tensor; also of checkpoints that were not
            asked for and hold a damaged file that was read.
        unread: Id to why it could not be read now and may be sound: no permission, too many open
            files. Nothing is noted of it.
        skipped: Ids of the checkpoints that were left out, having been verified since.
        files: How many shard files were read, each once.
        nbytes: Their length in bytes, each file counted once.
        journals: Run to one sentence per damage of its journal.
        strays: Id to names in its folder that its manifest does not name; no damage.
    """

    checked: tuple[str, ...] = ()
    damaged: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    nbytes: int = 0
    journals: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    strays: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    skipped: tuple[str, ...] = ()
    files: int = 0
    unread: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether nothing is damaged, and all that was asked for could be read."""
        return not (self.damaged or self.journals or self.unread)

    @property
    def intact(self) -> tuple[str, ...]:
        """Ids of the checkpoints that were read and are sound."""
        return tuple(i for i in self.checked if i not in self.damaged)

    def as_dict(self) -> dict[str, Any]:
        """Returns it as plain JSON values."""
        return {
            "ok": self.ok,
            "checked": list(self.checked),
            "skipped": list(self.skipped),
            "damaged": _lists(self.damaged),
            "unread": _lists(self.unread),
            "files": self.files,
            "nbytes": self.nbytes,
            "journals": _lists(self.journals),
            "strays": _lists(self.strays),
        }


def _lists(found: Mapping[str, tuple[str, ...]]) -> dict[str, list[str]]:
    return {name: list(texts) for name, texts in found.items()}
