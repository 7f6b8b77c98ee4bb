"""Mutants that no search finds, because they change an order; and those that nothing can notice."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.reliability.mutation.places import Mutant, Source


@dataclass(frozen=True, slots=True)
class Chosen:
    """An edit that is made by hand.

    Attributes:
        path: The file, relative to ``src/holdfast``.
        function: Qualified name of the function.
        kind: As in `Mutant`.
        what: What is otherwise afterwards, as the report says it.
        was: How the statements begin that are replaced, or the first and the last of those that
            change places; each occurs once in the function.
        now: What comes instead; empty where the first statement moves behind the last, or with
            `backwards` the last before the first.
        backwards: See there.
    """

    path: str
    function: str
    kind: str
    what: str
    was: Sequence[str]
    now: str = ""
    backwards: bool = False

    def mutant(self, package: Path) -> Mutant:
        """Returns it as an edit of the source as it is.

        Raises:
            LookupError: The source does not read like that any more: write it down anew.
        """
        source = Source(self.path, (package / self.path).read_bytes())
        block = self._block(source)
        start, end = source.span(block[0])[0], source.span(block[-1])[1]
        now = self.now
        if not now:
            texts = [source.text(statement) for statement in block]
            texts = [texts[-1], *texts[:-1]] if self.backwards else [*texts[1:], texts[0]]
            now = f"\n{' ' * block[0].col_offset}".join(texts)
        return Mutant(self.path, self.function, self.kind, self.what, now, start, end)

    def _block(self, source: Source) -> list[ast.stmt]:
        first, last = self.was[0], self.was[-1]
        for node in ast.walk(source.tree):
            for name in ("body", "orelse", "finalbody"):
                block = getattr(node, name, None)
                if not isinstance(block, list) or not block:
                    continue
                if source.function(block[0]) != self.function:
                    continue
                texts = [source.text(statement) for statement in block]
                begins = [n for n, text in enumerate(texts) if text.startswith(first)]
                ends = [n for n, text in enumerate(texts) if text.startswith(last)]
                if len(begins) == len(ends) == 1 and begins[0] <= ends[0]:
                    return block[begins[0] : ends[0] + 1]
        raise LookupError(f"{self.path} {self.function} does not read any more: {self.was}")


CHOSEN: Final = (
    Chosen(
        "engine/commit.py", "commit", "order",
        "the names of the shards are synced after the manifest",
        ["storage.sync_folder(draft.folder)", "storage.publish("],
    ),
    Chosen(
        "engine/commit.py", "commit", "order",
        "the manifest does not wait for the journal",
        ["journal_nbytes = hashes.beside"],
        "journal_nbytes = 0",
    ),
    Chosen(
        "engine/commit.py", "commit", "recheck",
        "whether the copy was still whole is not asked",
        ["snapshot.require_whole()"],
        "pass",
    ),
    Chosen(
        "engine/discard.py", "delete", "order",
        "the files go before the manifest",
        ["removed = storage.remove(", "files = storage.names(folder)"],
        "files = [name for name in storage.names(folder) if name != names.MANIFEST]\n"
        "    remove_files(storage, folder, files)\n"
        '    removed = storage.remove(f"{folder}/{names.MANIFEST}")',
    ),
    Chosen(
        "engine/discard.py", "thin", "order",
        "the files of thinned items go before the manifest's next generation",
        ["storage.publish("],
        "remove_strays(storage, manifest)\n"
        '        storage.publish(f"{manifest.folder}/{names.MANIFEST}", [encode(manifest)])',
    ),
    Chosen(
        "engine/discard.py", "remove_files", "order",
        "a shard's last name in a checkpoint goes before its name under shards/",
        ["if shard is not None and storage.link_count("],
        "pass",
    ),
    Chosen(
        "lifecycle/prune.py", "apply_plan", "order",
        "a clean-up is noted after it was done",
        ["_note_even_if_full(", "spared = _carry_out("],
    ),
    Chosen(
        "lifecycle/prune.py", "_carry_out", "order",
        "thinning comes before the deletions",
        ["spared = {i for i in deleted", "thinner = {"],
    ),
    Chosen(
        "lifecycle/planning.py", "remove_if_empty", "order",
        "the lock goes before the journal",
        ["for name in (names.JOURNAL, names.LOCK):"],
        "for name in (names.LOCK, names.JOURNAL):\n"
        '        place.storage.remove(f"{folder}/{name}")',
    ),
    Chosen(
        "lifecycle/planning.py", "remove_if_empty", "recheck",
        "whether a run's folder holds something else is not asked",
        ["if set(place.storage.names(folder))"],
        "pass",
    ),
    Chosen(
        "lifecycle/exporting.py", "export", "order",
        "the folder is synced before the export has its name",
        ["target.rename(path)", "_sync_folder(path.parent)"],
    ),
    Chosen(
        "opening.py", "open_run", "order",
        "unfinished saves are removed before an interrupted clean-up is finished",
        ["finish_interrupted(", "sweep_unfinished("],
    ),
    Chosen(
        "storage/draft.py", "Draft.publish", "order",
        "the file has its name before it is synced",
        ["self._posix.fsync(fd)", "self._posix.rename("],
        backwards=True,
    ),
    Chosen(
        "storage/local.py", "LocalStorage.publish", "order",
        "the folder is synced before the file has its name",
        ["try:", "if sync_folder:"],
    ),
)  # fmt: skip

#: Name of a mutant to why nothing can notice it. Whatever makes a difference does not belong here.
EQUIVALENT: Final = {
    "storage/posix.py Posix.fsync: sync: fcntl.fcntl(fd, _F_FULLFSYNC)": (
        "runs on macOS alone, and these tests on Linux"
    ),
    "engine/foreseen.py ForeseenShard._is_wrong: digest: self._before.get(a.name) == one.digest": (
        "decides whether a shard is begun before it is known, not what it holds: without it saves "
        "are slower"
    ),
    "engine/carrying.py _bring: recheck: target.link_count(path) == 1": (
        "a shard that has its second name is offered once more, finds itself there, and stays"
    ),
}


def chosen(package: Path) -> list[Mutant]:
    """Returns the mutants that are made by hand; raises `LookupError` as `Chosen.mutant`."""
    return [one.mutant(package) for one in CHOSEN]
