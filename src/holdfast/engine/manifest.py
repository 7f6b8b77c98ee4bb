"""The manifest: the file that makes a checkpoint exist (docs/format.md, "The manifest")."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar, cast

from holdfast.engine import names
from holdfast.engine.sealed import decode_metrics, encode_numbers, seal, unseal
from holdfast.errors import ConfigError, FormatError
from holdfast.model import KINDS, CheckpointInfo, CheckpointRecord, Kind, Metrics

T = TypeVar("T")

FORMAT: Final = 1
MAX_NBYTES: Final = 1 << 30
#: What an index can hold, and a calendar show.
_INTEGERS: Final = 1 << 63
_YEAR_10000: Final = 253_402_300_800.0


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
    """Returns the bytes of ``manifest.json``."""
    return seal(
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
    if members["kind"] not in KINDS:
        raise ValueError(f"unknown kind {members['kind']!r}")
    epoch = members["epoch"]
    return Manifest(
        id=_typed(members["id"], str),
        run=names.check_run(_typed(members["run"], str)),
        step=_size(members["step"]),
        epoch=None if epoch is None else _integer(epoch),
        created_at=_moment(members["created_at"]),
        reason=_typed(members["reason"], str),
        kind=members["kind"],
        generation=_size(members["generation"]),
        thinned=tuple(_typed(name, str) for name in _typed(members["thinned"], list)),
        parent=None if members["parent"] is None else _typed(members["parent"], str),
        metrics=decode_metrics(members["metrics"], path=path),
        metadata=_typed(members["metadata"], dict),
        config=_typed(members["config"], dict),
        awaiting=tuple(_typed(name, str) for name in _typed(members["awaiting"], list)),
        nbytes=_size(members["nbytes"]),
        stored_nbytes=_size(members["stored_nbytes"]),
        journal_nbytes=_size(members["journal_nbytes"]),
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
                _size(shard["nbytes"]),
            )
            for shard in members["shards"]
        ),
        nbytes=_size(members["nbytes"]),
        finite=_typed(members["finite"], bool),
        parameters=_typed(members["parameters"], bool),
        index=None
        if index is None
        else IndexFile(
            names.check_file(index["file"]),
            _size(index["nbytes"]),
            names.check_digest(index["blake3"]),
        ),
    )


def _typed(value: object, kind: type[T]) -> T:
    if type(value) is not kind:
        raise TypeError(f"{value!r:.40} is not {kind.__name__}")
    return value


def _integer(value: object) -> int:
    number = _typed(value, int)
    if not -_INTEGERS <= number < _INTEGERS:
        raise ValueError(f"{number:.3e} does not fit into 64 bits")
    return number


def _size(value: object) -> int:
    number = _integer(value)
    if number < 0:
        raise ValueError(f"{number} is negative")
    return number


def _moment(value: object) -> float:
    if type(value) not in (int, float):
        raise TypeError(f"{value!r:.40} is no time")
    moment = float(cast("float", value))
    if not 0 <= moment < _YEAR_10000:
        raise ValueError(f"{moment} is no time")
    return moment
