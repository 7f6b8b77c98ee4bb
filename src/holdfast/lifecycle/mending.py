"""The files of one checkpoint after another: what is damaged is mended, what is odd is named."""

from __future__ import annotations

import logging
from collections.abc import Collection
from functools import partial
from typing import Final

from holdfast.engine import discard
from holdfast.engine.manifest import Manifest, StoredShard
from holdfast.engine.reader import index_error, read_header
from holdfast.engine.scanning import shard_files
from holdfast.errors import HoldfastError, NotFoundError
from holdfast.lifecycle import checking, healing
from holdfast.lifecycle.findings import Found
from holdfast.lifecycle.history import RunHistory
from holdfast.lifecycle.mirrors import Mirror
from holdfast.lifecycle.place import Place
from holdfast.storage import Identity, LocalStorage, identity, set_aside
from holdfast.storage.local import TEMPORARY_PREFIX

_log = logging.getLogger("holdfast")

_OURS: Final = (".safetensors", ".safetensors.index.json")


class Mender:
    """Looks at checkpoints, and heals them from sound copies of the store and its mirrors.

    Args:
        place: The store.
        found: Where findings go.
        mirrors: Where else sound copies are looked for.

    Attributes:
        needed: Names of shards that a damaged checkpoint may still be healed from.
    """

    def __init__(self, place: Place, found: Found, mirrors: Collection[Mirror]) -> None:
        self.needed: set[str] = set()
        self._place = place
        self._found = found
        self._mirrors = mirrors
        self._holders: dict[str, tuple[str, ...]] | None = None
        self._sound: set[tuple[str, Identity]] = set()

    def mend(self, manifest: Manifest, history: RunHistory, *, noted: bool, doubted: bool) -> None:
        """Looks at a checkpoint's files, and heals those that are not sound.

        Args:
            manifest: The checkpoint.
            history: What its run's journal says.
            noted: Whether it is noted as damaged.
            doubted: Whether its tensors are read although it is not.
        """
        if noted or doubted or not self._looks_sound(manifest):
            self._heal(manifest, history, noted=noted, thoroughly=noted or doubted)

    def _looks_sound(self, manifest: Manifest) -> bool:
        """Returns whether all files are there, with their length, header or content.

        A shard that many checkpoints hold is looked at once.
        """
        storage = self._place.storage
        try:
            for path, shard in shard_files(manifest).items():
                found = identity(storage, path)
                if found is None or found.nbytes != shard.nbytes:
                    return False
                if (shard.shard, found) not in self._sound:
                    read_header(storage, manifest.folder, shard)
                    self._sound.add((shard.shard, found))
        except (HoldfastError, FileNotFoundError):
            return False
        indexes = (item.index for item in manifest.items.values() if item.index is not None)
        return not any(index_error(storage, f"{manifest.folder}/{i.file}", i) for i in indexes)

    def _heal(
        self, manifest: Manifest, history: RunHistory, *, noted: bool, thoroughly: bool
    ) -> None:
        if self._holders is None:
            self._holders = healing.holders(self._place)
        broken = list(
            healing.broken_files(
                self._place,
                manifest,
                self._holders,
                thoroughly=thoroughly,
                mirrors=self._mirrors,
            )
        )
        if broken and not self._stands(manifest):
            # Thinned or deleted by another process while it was read: its files are gone rightly.
            return
        for one in broken:
            if one.shard is not None:
                self.needed.add(one.shard.shard)
                self._forget_damaged_copy(one.shard)
            if one.curable:
                self._found.act("damaged", one.path, one.why, one.action, partial(self._put, one))
            else:
                self._found.leave("damaged", one.path, one.why, one.action)
        if noted and not broken:
            what = f"{manifest.id} is noted as damaged and reads well"
            self._found.settled("drift", manifest.folder, what, "note it as sound")
        if self._found.apply and (broken or noted):
            inspected = checking.inspect(
                self._place, manifest.run, manifest.id, progress=lambda _: None
            )
            if inspected is not None:
                checking.settle(self._place, manifest.run, manifest.id, inspected, history)

    def _stands(self, manifest: Manifest) -> bool:
        try:
            return self._place.manifest(manifest.id).generation == manifest.generation
        except NotFoundError:
            return False

    def _put(self, broken: healing.Broken) -> None:
        healing.heal(self._place, broken)
        _log.info("%s was put right", broken.path)

    def _forget_damaged_copy(self, shard: StoredShard) -> None:
        """Takes a damaged shard's second name away: a later save would link it as sound.

        Where that is the file's only name, the file goes to the quarantine: nothing is deleted.
        """
        folder, second = healing.second_name(shard)
        path = f"{folder}/{second.file}"
        if self._place.storage.size(path) is None:
            return
        if not healing.is_sound(self._place, folder, second):
            alone = self._place.storage.link_count(path) == 1
            self._found.act(
                "damaged",
                path,
                "a damaged shard that later saves would reuse",
                "move it to quarantine/" if alone else "remove this name of it",
                partial(set_aside if alone else LocalStorage.remove, self._place.storage, path),
            )

    def strays(self, manifest: Manifest) -> None:
        """Finds files in a checkpoint's folder that its manifest does not name."""
        for name in checking.strays_of(self._place, manifest):
            path = f"{manifest.folder}/{name}"
            what = "a file that the checkpoint's manifest does not name"
            if name.startswith(TEMPORARY_PREFIX) or name.endswith(_OURS):
                self._found.act(
                    "stray",
                    path,
                    what,
                    "remove it",
                    partial(discard.remove_files, self._place.storage, manifest.folder, [name]),
                )
            else:
                self._found.leave("stray", path, what, "keep it elsewhere")
