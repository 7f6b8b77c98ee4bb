"""Stores as somebody hostile would make them: any content, sealed as if it were right."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from blake3 import blake3

import holdfast
from holdfast import keep, when
from holdfast.checkpoint import Checkpoint
from holdfast.engine.sealed import unseal
from holdfast.errors import HoldfastError
from tests.lifecycle.stores import train

RUN = "mine"


def small_store(root: Path) -> Path:
    """Makes a store of a run with two checkpoints, and no catalog."""
    with holdfast.open(root) as store:
        checkpoint = train(store, RUN, [2, 1], frozen=7, config={"lr": 0.1})[0]
        checkpoint.tag("prod")
        checkpoint.report(accuracy=0.5)
    forget_catalog(root)
    return root


def forget_catalog(root: Path) -> None:
    for path in root.glob("catalog.sqlite3*"):
        path.unlink()


def sealed(text: str) -> bytes:
    """Seals any text of an object without its last brace, well formed or not."""
    body = text.encode("utf-8", "surrogatepass")
    return body + b',"digest":"' + blake3(body).hexdigest().encode() + b'"}\n'


def seal_members(members: Any) -> bytes:
    return sealed(json.dumps(members)[:-1])


def sealed_line(text: str) -> bytes:
    """The same for a line of a journal."""
    body = text.encode("utf-8", "surrogatepass")
    return body + b',"digest":"' + blake3(body).hexdigest(length=8).encode() + b'"}\n'


def line(record: Any) -> bytes:
    return sealed_line(json.dumps(record)[:-1])


def journal_of(root: Path, run: str = RUN) -> Path:
    return root / "runs" / run / "journal.jsonl"


def append(root: Path, *records: Any, run: str = RUN) -> None:
    with journal_of(root, run).open("ab") as file:
        file.writelines(map(line, records))
    forget_catalog(root)


def folders_of(root: Path, run: str = RUN) -> list[Path]:
    return sorted(path for path in (root / "runs" / run).iterdir() if path.is_dir())


def write(path: Path, data: bytes) -> None:
    """Replaces a published file, and whatever stands in its place."""
    path.unlink(missing_ok=True)
    path.write_bytes(data)


def edit(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Changes the members of a sealed file, and seals it again."""
    members = unseal(path.read_bytes(), path=str(path))
    changed = change(members)
    write(path, seal_members(members if changed is None else changed))


def use(root: Path) -> list[HoldfastError]:
    """Does with a store what can be done, and returns what was refused; any other error goes up."""
    refused: list[HoldfastError] = []

    def attempt(call: Callable[[], Any]) -> Any:
        try:
            return call()
        except HoldfastError as error:
            refused.append(error)
            return None

    for mode in ("r", "a"):
        store = attempt(lambda mode=mode: holdfast.open(root, mode=mode))
        if store is None:
            continue
        for checkpoint in attempt(store.checkpoints) or ():
            _read(attempt, store, checkpoint)
        for run in attempt(store.runs) or ():
            _ask(attempt, store, run)
        attempt(store.usage)
        if mode == "a":
            _change(attempt, store)
        attempt(store.close)
    return refused


def _ask(attempt: Callable[..., Any], store: holdfast.Store, run: Any) -> None:
    for ask in (run.best, run.latest, run.checkpoints, run.metric_names, lambda: run.info):
        attempt(ask)
    attempt(lambda: store.prune(run.name))
    attempt(lambda: store.explain(f"{run.name}@step:0"))


def _read(attempt: Callable[..., Any], store: holdfast.Store, checkpoint: Checkpoint) -> None:
    for item in checkpoint.items:
        attempt(lambda item=item: checkpoint.load(item))
    for ask in (checkpoint.verify, lambda: checkpoint.config, lambda: checkpoint.path):
        attempt(ask)
    attempt(lambda: store.diff(checkpoint, checkpoint, norms=True))
    attempt(lambda: store.explain(checkpoint.id))


def _change(attempt: Callable[..., Any], store: holdfast.Store) -> None:
    run = attempt(
        lambda: store.run(RUN, metric="loss", save=when.never(), keep=keep.latest(1) | keep.best(1))
    )
    if run is not None:
        attempt(run.resume)
        attempt(lambda: run.save(5, {"loss": 0.1}).wait())
        attempt(run.close)
    attempt(store.verify)
    attempt(lambda: store.repair(apply=True))
    attempt(store.reindex)
