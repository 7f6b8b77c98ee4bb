"""What the conformance of storage is tested with: a medium's abilities, and changes to disturb."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar, Final

from holdfast.storage import LocalStorage, Posix
from holdfast.storage.draft import ALIGNMENT
from holdfast.storage.local import TEMPORARY_PREFIX

Seen = Mapping[str, bytes | None]

OLD: Final = b"old content " * 100
NEW: Final = b"new content, which is longer " * 1000


class Medium:
    """What the tests of a backend say of it; the defaults are those of a local disk.

    A subclass provides a fixture ``storage``: an empty place. It overrides what its medium cannot
    do, and `through` where changes do not go through `Posix`.

    Attributes:
        hard_links: Whether a file can have two names.
        appends: Whether a file can be appended to, by one process at a time.
        injectable: Whether `through` can put faults under a storage.
    """

    hard_links: ClassVar[bool] = True
    appends: ClassVar[bool] = True
    injectable: ClassVar[bool] = True

    def through(self, storage: LocalStorage, posix: Posix) -> LocalStorage:
        """Returns the same place with every change going through these system calls."""
        disturbed = LocalStorage(storage.root, posix=posix)
        disturbed.direct = storage.direct
        return disturbed


@dataclass(frozen=True, slots=True)
class Change:
    """One change of a folder's content.

    Attributes:
        name: What it does.
        make: Does it, below a folder.
        between: Whether content is allowed that is neither that before nor that after; told what
            there is, and what there is afterwards.
    """

    name: str
    make: Callable[[LocalStorage, str], object]
    between: Callable[[Seen, Seen], bool] = lambda now, after: False


def begin(storage: LocalStorage, base: str) -> None:
    """Makes the folder that changes are made in."""
    storage.make_folder(f"{base}/empty")
    for name in ("old", "other"):
        storage.publish(f"{base}/{name}", [name.encode(), OLD])


def seen(storage: LocalStorage, base: str) -> dict[str, bytes | None]:
    """Returns the content below a folder: path to bytes, None for a folder; no unfinished files."""
    found: dict[str, bytes | None] = {}
    folders = set(storage.folders(base))
    for name in storage.names(base):
        path = f"{base}/{name}"
        if name in folders:
            found[f"{name}/"] = None
            inner = seen(storage, path)
            found.update({f"{name}/{key}": value for key, value in inner.items()})
        elif not name.startswith(TEMPORARY_PREFIX):
            found[name] = storage.read(path)
    return found


def unfinished(storage: LocalStorage, base: str) -> list[str]:
    """Returns the names of unfinished files below a folder."""
    found = [name for name in storage.names(base) if name.startswith(TEMPORARY_PREFIX)]
    for folder in storage.folders(base):
        found += unfinished(storage, f"{base}/{folder}")
    return found


def write_draft(storage: LocalStorage, folder: str, name: str) -> None:
    """Writes a file piece by piece, and discards it when the medium fails, as a save does."""
    draft = storage.draft(folder, name, start=ALIGNMENT, expected=ALIGNMENT + len(NEW))
    try:
        for begins in range(0, len(NEW), 7000):
            draft.append(NEW[begins : begins + 7000])
        draft.fill_start(bytes(ALIGNMENT))
        storage.publish_draft(draft, f"{folder}/{name}")
    except BaseException:
        draft.discard()
        raise


def append_lines(storage: LocalStorage, path: str) -> None:
    """Appends two lines, durably."""
    with storage.appending(path) as file:
        file.append(b"another line\n", durable=False)
        file.append(b"and another one\n", durable=True)


def append_twice(storage: LocalStorage, path: str) -> None:
    """Appends, and appends again."""
    append_lines(storage, path)
    append_lines(storage, path)


def _torn(now: Seen, after: Seen) -> bool:
    """An append may be cut off anywhere; what was there before stays."""
    whole = after["log"] or b""
    return {**now, "log": whole} == after and whole.startswith(now["log"] or b"")


CHANGES: Final = (
    Change("publish a new file", lambda s, b: s.publish(f"{b}/new", [NEW[:100], NEW[100:]])),
    Change("publish in place of a file", lambda s, b: s.publish(f"{b}/old", [NEW])),
    Change("publish exclusively", lambda s, b: s.publish(f"{b}/new", [NEW], exclusive=True)),
    Change("write a draft", lambda s, b: write_draft(s, b, "new")),
    Change("remove a file", lambda s, b: s.remove(f"{b}/old")),
    Change("remove a folder", lambda s, b: s.remove_folder(f"{b}/empty")),
    Change(
        "make folders",
        lambda s, b: s.make_folder(f"{b}/one/two"),
        # One after another, from the top.
        between=lambda now, after: {**now, "one/two/": None} == after,
    ),
)
LINKING: Final = (
    Change("link", lambda s, b: s.link(f"{b}/old", f"{b}/second")),
    Change("relink", lambda s, b: s.relink(f"{b}/other", f"{b}/old")),
)
APPENDING: Final = (
    Change("append to a new file", lambda s, b: append_lines(s, f"{b}/log"), between=_torn),
    Change("append again", lambda s, b: append_twice(s, f"{b}/log"), between=_torn),
)
