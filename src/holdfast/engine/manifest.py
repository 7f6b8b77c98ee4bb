"""The manifest: the file that makes a checkpoint exist (docs/format.md, "The manifest")."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from holdfast.engine import names
from holdfast.engine.members import integer, moment, size, text_list, typed
from holdfast.engine.sealed import check_nesting, decode_metrics, encode_numbers, seal, unseal
from holdfast.errors import ConfigError, FormatError
from holdfast.model import KINDS, CheckpointInfo, CheckpointRecord, Kind, Metrics

FORMAT: Final = 1
#: Parsed, it takes up to some thirty times as much memory.
MAX_NBYTES: Final = 256 << 20


@dataclass(frozen=True, slots=True)
class StoredShard:
    """A shard as a manifest names it: its file in the checkpoint's folder, its name, its length."""

    file: str
    shard: str
    nbytes: int


@dataclass(frozen=True, slots=True)
class IndexFile:
    """The file that says which tensor of an item is in which shard."""

    file: str
    nbytes: int
    digest: str


@dataclass(frozen=True, slots=True)
class StoredItem:
    """One item of a checkpoint.

    Attributes:
        skeleton: Its state without the arrays.
        shards: Where the arrays are.
        nbytes: Bytes of the arrays.
        finite: Whether all floating-point weights are finite.
        parameters: Whether it has trainable parameters.
        index: The index file, where there are several shards.
    """

    skeleton: Any
    shards: tuple[StoredShard, ...] = ()
    nbytes: int = 0
    finite: bool = True
    parameters: bool = False
    index: IndexFile | None = None

    @property
    def files(self) -> tuple[str, ...]:
        """Names of all its files in the checkpoint's folder."""
        files = tuple(shard.file for shard in self.shards)
        return (*files, self.index.file) if self.index else files


@dataclass(frozen=True, slots=True)
class Manifest:
    """A checkpoint, as its folder describes it; attributes as in docs/format.md."""

    id: str
    run: str
    step: int
    created_at: float
    reason: str
    items: Mapping[str, StoredItem]
    kind: Kind = "full"
    epoch: int | None = None
    generation: int = 1
    thinned: tuple[str, ...] = ()
    parent: str | None = None
    metrics: Metrics = field(default_factory=dict)
    metadata: Mapping[str, Any] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    awaiting: tuple[str, ...] = ()
    nbytes: int = 0
    stored_nbytes: int = 0
    journal_nbytes: int = 0

    @property
    def folder(self) -> str:
        """The checkpoint's folder, relative to the store."""
        return names.folder_of_checkpoint(self.run, self.id)

    @property
    def poisoned(self) -> tuple[str, ...]:
        """Names of the items whose weights hold NaN or infinite values.

        Where any item has trainable parameters, only such items count: masks and replay buffers
        may hold infinities by design.
        """
        deciding = {n: i for n, i in self.items.items() if i.parameters} or self.items
        return tuple(name for name, item in deciding.items() if not item.finite)

    def record(self) -> CheckpointRecord:
        """Returns what the catalog keeps of it; pins, tags and late metrics are not in here."""
        info = CheckpointInfo(
            id=self.id,
            run=self.run,
            step=self.step,
            created_at=self.created_at,
            metrics=dict(self.metrics),
            kind=self.kind,
            awaiting=self.awaiting,
            epoch=self.epoch,
            shards={s.shard: s.nbytes for item in self.items.values() for s in item.shards},
            items=tuple(self.items),
            thinned=bool(self.thinned),
            item_shards={n: tuple(s.shard for s in i.shards) for n, i in self.items.items()},
            reason=self.reason,
            parent=self.parent,
        )
        return CheckpointRecord(
            info=info,
            nbytes=self.nbytes,
            stored_nbytes=self.stored_nbytes,
            generation=self.generation,
            # As it reads when it comes from the file: the catalog holds the same either way.
            metadata={name: encode_numbers(value) for name, value in self.metadata.items()},
            finite={name: item.finite for name, item in self.items.items()},
        )


def encode(manifest: Manifest) -> bytes:
    """Returns the bytes of ``manifest.json``.

    Raises:
        ConfigError: They are more than a reader takes.
    """
    data = seal(
        {
            "format": FORMAT,
            "id": manifest.id,
            "run": manifest.run,
            "step": manifest.step,
            "epoch": manifest.epoch,
            "created_at": manifest.created_at,
            "reason": manifest.reason,
            "kind": manifest.kind,
            "generation": manifest.generation,
            "thinned": list(manifest.thinned),
            "parent": manifest.parent,
            "metrics": encode_numbers(manifest.metrics),
            "metadata": encode_numbers(manifest.metadata),
            "config": encode_numbers(manifest.config),
            "awaiting": list(manifest.awaiting),
            "nbytes": manifest.nbytes,
            "stored_nbytes": manifest.stored_nbytes,
            "journal_nbytes": manifest.journal_nbytes,
            "items": {name: _encode_item(item) for name, item in manifest.items.items()},
        }
    )
    if len(data) > MAX_NBYTES:
        raise ConfigError(
            f"the manifest of {manifest.id} would have {len(data)} bytes, and {MAX_NBYTES} is most",
            hint="keep long lists of numbers and large metadata in arrays",
        )
    return data


def decode(data: bytes, *, run: str, checkpoint_id: str, path: str) -> Manifest:
    """Checks and parses the bytes of a manifest.

    Args:
        data: The whole file.
        run: The run in whose folder it lies.
        checkpoint_id: The folder in which it lies.
        path: For messages.

    Raises:
        IntegrityError: The bytes do not match their digest.
        FormatError: They do, but break a rule, are of a newer format, or belong elsewhere.
    """
    members = unseal(data, path=path)
    check_format(members, path=path)
    try:
        manifest = _interpret(members, path)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, ConfigError) as error:
        raise FormatError(
            f"{path} breaks the format: {type(error).__name__}: {error}",
            hint="do not use this checkpoint",
        ) from error
    if (manifest.run, manifest.id) != (run, checkpoint_id) or names.run_of_id(manifest.id) != run:
        raise FormatError(
            f"{path} is the manifest of {manifest.id!r} and lies in the wrong folder",
            hint="move the folder back to where it came from",
        )
    return manifest


def check_format(members: Mapping[str, Any], *, path: str) -> None:
    """Refuses a file of a newer format.

    Raises:
        FormatError: It is newer, or says no version.
    """
    version = members.get("format")
    if type(version) is not int or version < 1:
        raise FormatError(f"{path} does not say its format", hint="restore it from a copy")
    if version > FORMAT:
        raise FormatError(
            f"{path} has format {version}; this Holdfast reads up to {FORMAT}",
            hint="install a newer Holdfast: pip install --upgrade holdfast",
        )


def _encode_item(item: StoredItem) -> dict[str, object]:
    index = item.index
    return {
        "skeleton": item.skeleton,
        "shards": [
            {"file": shard.file, "shard": shard.shard, "nbytes": shard.nbytes}
            for shard in item.shards
        ],
        "index": index and {"file": index.file, "nbytes": index.nbytes, "blake3": index.digest},
        "nbytes": item.nbytes,
        "finite": item.finite,
        "parameters": item.parameters,
    }


def _interpret(members: Mapping[str, Any], path: str) -> Manifest:
    if typed(members["kind"], str) not in KINDS:
        raise ValueError(f"unknown kind {members['kind']!r}")
    for name in ("metadata", "config"):
        check_nesting(typed(members[name], dict), what=f"{path}: its {name}")
    epoch = members["epoch"]
    return Manifest(
        id=typed(members["id"], str),
        run=names.check_run(typed(members["run"], str)),
        step=size(members["step"]),
        epoch=None if epoch is None else integer(epoch),
        created_at=moment(members["created_at"]),
        reason=typed(members["reason"], str),
        kind=members["kind"],
        generation=size(members["generation"]),
        thinned=text_list(members["thinned"]),
        parent=None if members["parent"] is None else typed(members["parent"], str),
        metrics=decode_metrics(members["metrics"], path=path),
        metadata=members["metadata"],
        config=members["config"],
        awaiting=text_list(members["awaiting"]),
        nbytes=size(members["nbytes"]),
        stored_nbytes=size(members["stored_nbytes"]),
        journal_nbytes=size(members["journal_nbytes"]),
        items={
            names.check_item(name): _decode_item(item) for name, item in members["items"].items()
        },
    )


def _decode_item(members: Mapping[str, Any]) -> StoredItem:
    index = members["index"]
    return StoredItem(
        skeleton=members["skeleton"],
        shards=tuple(
            StoredShard(
                names.check_file(shard["file"]),
                names.check_digest(shard["shard"]),
                size(shard["nbytes"]),
            )
            for shard in members["shards"]
        ),
        nbytes=size(members["nbytes"]),
        finite=typed(members["finite"], bool),
        parameters=typed(members["parameters"], bool),
        index=None
        if index is None
        else IndexFile(
            names.check_file(index["file"]),
            _index_size(index["nbytes"]),
            names.check_digest(index["blake3"]),
        ),
    )


def _index_size(value: object) -> int:
    nbytes = size(value)
    if nbytes > MAX_NBYTES:
        raise ValueError(f"an index of {nbytes} bytes")
    return nbytes
