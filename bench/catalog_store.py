"""A store of a million checkpoints to ask things of, made in about a minute.

What a catalog answers from is made as a rebuild makes it: `Catalog.replace_run` with the facts of
each run, in one `Catalog.rebuilding`. Run folders and journals are real, so the marks by which an
opening finds what the catalog lags behind fit (docs/decisions/003). Manifests are real where a
measurement goes through them: in the runs named here that are saved into, and for what `best` and
`latest` answer with, because these look whether the checkpoint is still there.
"""

from __future__ import annotations

import hashlib
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import holdfast
from holdfast.engine import names
from holdfast.engine.journal import encode_line
from holdfast.engine.manifest import Manifest, StoredItem, encode
from holdfast.lifecycle.place import Place
from holdfast.model import (
    CheckpointInfo,
    CheckpointRecord,
    Decision,
    Kind,
    RunFacts,
    RunInfo,
    StepRow,
)

#: When the first checkpoint of the store was made; one follows each second.
_EPOCH = 1_700_000_000.0
_METRICS = ("loss", "val_loss", "accuracy", "lr")
_SHARD_NBYTES = 4_000_000
_STEPS_OF_A_RUN = 10
#: One run in so many starts from another one and holds its frozen shard, too.
_FAMILY = 10


@dataclass(frozen=True, slots=True)
class Made:
    """A store that was made.

    Attributes:
        checkpoints: How many checkpoints it has.
        seconds: How long its catalog took to be filled.
    """

    checkpoints: int
    seconds: float


def make_store(folder: Path, *, checkpoints: int, runs: int, catalog: str | None = None) -> Made:
    """Makes a store of so many checkpoints in so many runs, in one filling of its catalog."""
    each = checkpoints // runs
    with holdfast.open(folder, catalog=catalog) as store:
        place = store._place
        seconds = 0.0
        began = time.perf_counter()
        with place.catalog.rebuilding():
            seconds += time.perf_counter() - began
            for number, run in enumerate(run_names(runs)):
                facts = facts_of(place, run, number, each)
                began = time.perf_counter()
                place.catalog.replace_run(facts)
                seconds += time.perf_counter() - began
            began = time.perf_counter()
        seconds += time.perf_counter() - began
        _make_answers_real(place, run_names(runs)[runs // 2])
    return Made(each * runs, seconds)


def _make_answers_real(place: Place, run: str) -> None:
    """Writes the manifests of what `best` and `latest` answer, over all runs and within one."""
    for within in (None, run):
        answers = [
            place.catalog.best("val_loss", "min", run=within),
            place.catalog.best("accuracy", "max", run=within),
            place.catalog.latest(within),
        ]
        for record in answers:
            assert record is not None
            if not place.has_manifest(record.info.run, record.info.id):
                write_manifest(place, record.info)
                place.mark_seen(record.info.run)


def run_names(count: int) -> list[str]:
    """Returns names as a study of many trials has them."""
    return [f"study-{number // 100:03d}/trial-{number:05d}" for number in range(count)]


def facts_of(place: Place, run: str, number: int, checkpoints: int) -> RunFacts:
    """Returns the facts of a run that exists but for its manifests; makes folder and journal."""
    chance = random.Random(number)
    records = tuple(_records(run, number, checkpoints, chance))
    began = records[0].info.created_at if records else _EPOCH
    nbytes = _make_run(place, run, began)
    saved = [
        Decision(r.info.created_at, "saved", r.info.reason, r.info.step, r.info.id) for r in records
    ]
    steps = [
        StepRow(step, began + step, {"loss": chance.random()}) for step in range(_STEPS_OF_A_RUN)
    ]
    return RunFacts(
        run=RunInfo(run, began, status="finished", metric="val_loss"),
        checkpoints=records,
        steps=tuple(steps),
        decisions=tuple(saved),
        journal_nbytes=nbytes,
        folder_mtime_ns=place.storage.modified_ns(names.folder_of_run(run)),
    )


def make_real_run(place: Place, run: str, checkpoints: int) -> None:
    """Makes a run of whole checkpoints without arrays: manifests, journal and all, unsynced."""
    infos = [
        _info(run, number, _EPOCH + number, {"loss": 1 + 1 / (1 + number % 97), "step": number})
        for number in range(checkpoints)
    ]
    folder = Path(place.storage.absolute(names.folder_of_run(run)))
    folder.mkdir(parents=True)
    lines = [_run_line(run, _EPOCH)]
    for info in infos:
        lines.append(
            {
                "t": "save",
                "at": info.created_at,
                "id": info.id,
                "step": info.step,
                "created_at": info.created_at,
                "reason": info.reason,
                "kind": info.kind,
                "metrics": dict(info.metrics),
            }
        )
        write_manifest(place, info)
    (folder / names.JOURNAL).write_bytes(b"".join(map(encode_line, lines)))


def write_manifest(place: Place, info: CheckpointInfo) -> None:
    """Writes the manifest of a checkpoint whose only item holds no array."""
    manifest = Manifest(
        id=info.id,
        run=info.run,
        step=info.step,
        created_at=info.created_at,
        reason=info.reason,
        kind=info.kind,
        metrics=info.metrics,
        items={"model": StoredItem(skeleton={"epoch": info.step})},
    )
    folder = Path(place.storage.absolute(manifest.folder))
    folder.mkdir(parents=True)
    (folder / names.MANIFEST).write_bytes(encode(manifest))


def _records(
    run: str, number: int, checkpoints: int, chance: random.Random
) -> Iterator[CheckpointRecord]:
    frozen = _shard(f"frozen of {number - number % _FAMILY}")
    for index in range(checkpoints):
        created_at = _EPOCH + number * checkpoints + index
        kind: Kind = "metrics" if index % 10 == 9 else "full"
        metrics = {name: chance.random() for name in _METRICS}
        info = _info(run, index, created_at, metrics, kind=kind)
        if kind == "full":
            own = _shard(info.id)
            info = replace(
                info,
                shards={frozen: _SHARD_NBYTES, own: _SHARD_NBYTES},
                items=("model", "optimizer"),
                item_shards={"model": (frozen,), "optimizer": (own,)},
                tags=("prod",) if chance.random() < 0.0005 else (),
                pinned=chance.random() < 0.001,
            )
        yield CheckpointRecord(
            info,
            nbytes=sum(info.shards.values()),
            stored_nbytes=_SHARD_NBYTES if info.shards else 0,
            metadata={"batch": index},
            finite={"model": True, "optimizer": True},
        )


def _info(
    run: str, index: int, created_at: float, metrics: dict[str, float], *, kind: Kind = "full"
) -> CheckpointInfo:
    return CheckpointInfo(
        id=names.make_id(run, created_at, 1),
        run=run,
        step=100 * index,
        created_at=created_at,
        metrics=metrics,
        kind=kind,
        epoch=index // 10,
        items=("model",),
        item_shards={"model": ()},
        reason="interval: 100 of 100 steps" if index % 3 else "improved: val_loss 0.31",
    )


def _make_run(place: Place, run: str, began: float) -> int:
    folder = Path(place.storage.absolute(names.folder_of_run(run)))
    folder.mkdir()
    lines: Sequence[dict[str, object]] = (
        _run_line(run, began),
        {"t": "status", "at": began, "status": "finished", "final": True},
    )
    return (folder / names.JOURNAL).write_bytes(b"".join(map(encode_line, lines)))


def _run_line(run: str, began: float) -> dict[str, object]:
    return {"t": "run", "at": began, "name": run, "created_at": began, "metric": "val_loss"}


def _shard(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
