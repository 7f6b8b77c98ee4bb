"""Makes the golden stores of format 1: ``python -m tests.golden.make_golden``.

They are committed, and are read by every later version. This file shows how they came about; it
is run again only for a new version of the format, into a folder of its own.
"""

from __future__ import annotations

import itertools
import json
import logging
import os
import random
import shutil
import sys
import tempfile
from pathlib import Path
from unittest import mock

import numpy as np
import torch

import holdfast
from holdfast import environment, keep, when
from holdfast.engine.journal import Journal
from holdfast.engine.sealed import seal, unseal
from holdfast.storage import LocalStorage
from tests.golden import states
from tests.golden.describing import describe, tell

TARGET = Path(__file__).parents[1] / "data" / "golden-v1"
START = 1_761_920_730.0


class Value:
    """A live object whose state is any value."""

    def __init__(self, value):
        self.value = value

    def state_dict(self):
        return self.value

    def load_state_dict(self, value):
        self.value = value


def main():
    logging.disable(logging.CRITICAL)
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002 - the generator that rng captures
    torch.manual_seed(1)
    clock = itertools.count(START, 0.25)
    tokens = itertools.count(1)
    with (
        tempfile.TemporaryDirectory() as work,
        mock.patch("time.time", side_effect=clock),
        mock.patch("secrets.token_hex", lambda n: f"{next(tokens):0{2 * n}x}"),
        mock.patch.object(environment, "describe", return_value={"python": "3.11.0"}),
    ):
        shutil.rmtree(TARGET, ignore_errors=True)
        expected = make_store(Path(work) / "store")
        publish(Path(work) / "store", TARGET / "store")
        for name, damage in DAMAGES.items():
            make_base(Path(work) / name, items=["one", "two"] if damage is swap else ["one"])
            damage(Path(work) / name)
            publish(Path(work) / name, TARGET / "damaged" / name)
    text = json.dumps(expected, sort_keys=True, separators=(",", ":"))
    (TARGET / "expected.json").write_text(text + "\n")
    sizes = [p.stat().st_size for p in TARGET.rglob("*") if p.is_file()]
    print(f"{len(sizes)} files, {sum(sizes)} bytes", file=sys.stderr)


def publish(store, target):
    """Copies what the format consists of; git keeps neither links nor modes."""
    left_out = shutil.ignore_patterns("shards", "catalog*", "lock")
    shutil.copytree(store, target, ignore=left_out, copy_function=shutil.copyfile)


# -- the store -------------------------------------------------------------------------------------


def make_store(root):
    expected = {}
    with holdfast.open(root) as store:
        expected["cnn"] = make_training(store)
        expected["kinds"] = make_kinds(store)
        expected["study/trial-7"] = make_interrupted(store)
        make_empty(store)
        runs = {}
        for run in store.runs():
            runs[run.name] = {
                "status": run.info.status,
                "config": dict(run.config),
                "loss": [[step, repr(value)] for step, value in run.history("loss")],
                "checkpoints": {c.id: tell(c) for c in run.checkpoints()},
            }
    interrupt(root)
    return {"runs": runs, "values": expected}


def make_training(store):
    """A network: deleted, thinned, full; pinned, tagged, late and NaN metrics."""
    values = {}
    policy = keep.best(1).items("optimizer") | keep.latest(1)
    with store.run(
        "cnn", metric="loss", save=when.always(), keep=policy, config={"lr": 0.01, "nan": np.nan}
    ) as run:
        model, optimizer = states.network()
        run.attach(model=model, optimizer=optimizer)
        run.resume()
        for step, loss in enumerate([3.0, 1.0, float("nan")]):
            states.train(model, optimizer)
            run.step(step, {"loss": loss, "eval": {"acc": step / 7}}, epoch=step // 2)
            run.wait()
            values[str(step)] = {
                "model": describe(dict(sorted(model.state_dict().items()))),
                "optimizer": describe(optimizer.state_dict()),
            }
        run.report(2, val_loss=0.125, extreme=float("inf"))
        run.latest().tag("prod", "best-so-far")
        run.get("step:1").pin()
        run.save(
            3, {"loss": 9.0}, kind="metrics", metadata={"note": "n\u00e4chste", "n": [1, None]}
        )
    return values


def make_kinds(store):
    """Every dtype and every kind of node; one item rests and is shared."""
    values = {}
    with store.run("kinds", save=when.never(), keep=keep.all()) as run:
        items = {"dtypes": states.dtypes(), "nodes": states.nodes(), "rest": np.arange(99.0)}
        run.attach(**{name: Value(value) for name, value in items.items()})
        run.save(0, items=["dtypes", "rest"], kind="partial", reason="manual").wait()
        run.save(1, items=["nodes", "rest"], kind="partial", awaiting=("score",)).wait()
        values["0"] = {name: describe(items[name]) for name in ("dtypes", "rest")}
        values["1"] = {name: describe(items[name]) for name in ("nodes", "rest")}
    return values


def make_interrupted(store):
    """Three checkpoints, of which one is deleted half-way and one is about to be thinned."""
    values = {}
    with store.run("study/trial-7", save=when.never(), keep=keep.all(), parent="cnn") as run:
        for step in range(3):
            items = {"model": np.full(9, step, "<f4"), "extra": {"step": step}}
            run.attach(**{name: Value(value) for name, value in items.items()})
            run.save(step, {"loss": step}, items=list(items), kind="partial").wait()
            values[str(step)] = {name: describe(value) for name, value in items.items()}
    return values


def make_empty(store):
    """A run that failed before it saved anything."""
    try:
        with store.run("failed", save=when.never(), keep=keep.all()) as run:
            run.step(0, loss=1.0)
            raise RuntimeError("diverged")
    except RuntimeError:
        return


def interrupt(root):
    """Leaves what a process that is killed during a clean-up and an append leaves."""
    storage = LocalStorage(root)
    folder = "runs/study+trial-7"
    first, second, _ = sorted(storage.folders(folder))
    plan = {
        "t": "plan",
        "at": START + 1000,
        "deleted": [first],
        "thinned": {second: ["model"]},
        "reasons": {first: ["rank 3"], second: ["rank 2"]},
    }
    Journal(storage, f"{folder}/journal.jsonl").append([plan], durable=True)
    storage.remove(f"{folder}/{first}/manifest.json")
    with (root / folder / "journal.jsonl").open("ab") as file:
        file.write(b'{"t":"report","at":17619')


# -- the damaged ones ------------------------------------------------------------------------------


def make_base(root, *, items):
    """A store of one run and one checkpoint."""
    with (
        holdfast.open(root) as store,
        store.run("tiny", metric="loss", save=when.never(), keep=keep.all()) as run,
    ):
        run.attach(**{name: Value({"w": np.arange(8.0) + ord(name[0])}) for name in items})
        run.save(0, {"loss": 1.0}, items=items, kind="partial").wait()


def the(root, pattern):
    (path,) = root.glob(pattern)
    path.chmod(0o644)
    return path


def flip(pattern, position):
    def damage(root):
        path = the(root, pattern)
        data = bytearray(path.read_bytes())
        data[position % len(data)] ^= 0x10
        path.write_bytes(data)

    return damage


def rewrite(pattern, change):
    def damage(root):
        path = the(root, pattern)
        path.write_bytes(change(path.read_bytes()))

    return damage


def resealed(**changes):
    return lambda data: seal({**unseal(data, path="x"), **changes})


def swap(root):
    one, two = the(root, ONE), the(root, TWO)
    content = one.read_bytes(), two.read_bytes()
    one.write_bytes(content[1])
    two.write_bytes(content[0])


def rename_checkpoint(root):
    (folder,) = root.glob("runs/tiny/tiny_*")
    folder.rename(folder.with_name(folder.name + "-2"))


def escape(data):
    members = unseal(data, path="x")
    members["items"]["one"]["shards"][0]["file"] = "../../../one.safetensors"
    return seal(members)


ONE, TWO = "runs/*/*/one.safetensors", "runs/*/*/two.safetensors"
MANIFEST, JOURNAL = "runs/*/*/manifest.json", "runs/*/journal.jsonl"
DAMAGES = {
    "nothing": lambda root: None,
    "header-flipped": flip(ONE, 40),
    "length-flipped": flip(ONE, 6),
    "tensor-flipped": flip(ONE, -1),
    "manifest-flipped": flip(MANIFEST, 100),
    "journal-flipped": flip(JOURNAL, 100),
    "journal-cut": rewrite(JOURNAL, lambda data: data[: data.index(b"\n") + 1]),
    "store-file-flipped": flip("holdfast.json", 20),
    "store-file-newer": rewrite("holdfast.json", resealed(format=2)),
    "shard-cut": rewrite(ONE, lambda data: data[:-8]),
    "shard-missing": lambda root: the(root, ONE).unlink(),
    "shards-swapped": swap,
    "shard-zeroed": rewrite(ONE, lambda data: bytes(len(data))),
    "manifest-zeroed": rewrite(MANIFEST, lambda data: bytes(len(data))),
    "manifest-cut": rewrite(MANIFEST, lambda data: data[:200]),
    "manifest-newer": rewrite(MANIFEST, resealed(format=2)),
    "manifest-escaping": rewrite(MANIFEST, escape),
    "checkpoint-renamed": rename_checkpoint,
}


if __name__ == "__main__":
    os.umask(0o022)
    main()
