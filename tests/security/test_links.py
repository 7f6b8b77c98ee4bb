"""Links out of a store: nothing outside is read, written or deleted through one."""

import os
import socket
import subprocess

import pytest

import holdfast
from holdfast import keep, when
from holdfast.engine import discard
from holdfast.errors import FormatError, HoldfastError
from holdfast.storage import LocalStorage
from tests.lifecycle.stores import outcome, train


def contents(folder):
    """Every file below a folder with its bytes, and its time of modification."""
    return {
        str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """A store of two runs, `mine` with two checkpoints, closed."""
    root = tmp_path_factory.mktemp("links") / "store"
    with holdfast.open(root) as store:
        train(store, "mine", [2, 1], frozen=7)
        train(store, "other", [3])
    return root


@pytest.fixture
def root(original, tmp_path):
    target = tmp_path / "store"
    # With the links between its own files, and none to the original's.
    subprocess.run(["cp", "-a", original, target], check=True)
    return target


def moved_out(root, path):
    """Moves a part of a store to elsewhere, and leaves a link to it."""
    outside = root.parent / "outside"
    (root / path).rename(outside)
    (root / path).symlink_to(outside)
    return outside


def use_everything(root):
    """Opens, reads, saves, prunes, verifies and repairs; returns the refusals."""
    refused = []

    def attempt(call):
        result = outcome(call)
        if isinstance(result, HoldfastError):
            refused.append(result)
        return result

    for mode in ("r", "a"):
        store = attempt(lambda mode=mode: holdfast.open(root, mode=mode))
        if isinstance(store, HoldfastError):
            continue
        for checkpoint in store.checkpoints():
            attempt(lambda checkpoint=checkpoint: checkpoint.load("model"))
            attempt(checkpoint.verify)
        works = (
            lambda store=store: train(store, "mine", [0.5], policy=keep.latest(1)),
            lambda store=store: store.prune("mine", policy=keep.latest(1)).apply(),
            lambda store=store: store.delete("mine*").apply(),
            store.verify,
            lambda store=store: store.repair(apply=True),
            store.reindex,
        )
        for work in works if mode == "a" else ():
            attempt(work)
        attempt(store.close)
    return refused


def a_checkpoint(root):
    return min(path for path in (root / "runs/mine").iterdir() if path.is_dir())


FOLDERS = {
    "a run": lambda root: "runs/mine",
    "the folder of runs": lambda root: "runs",
    "the folder of shards": lambda root: "shards",
    "a checkpoint": lambda root: str(a_checkpoint(root).relative_to(root)),
}


@pytest.mark.parametrize("which", FOLDERS.values(), ids=FOLDERS.keys())
def test_nothing_outside_is_changed_through_a_folder_that_is_a_link(root, which):
    outside = moved_out(root, which(root))
    before = contents(outside)
    use_everything(root)
    assert contents(outside) == before


def test_a_shard_is_not_taken_away_through_a_folder_that_is_a_link(root):
    for folder in sorted((root / "shards").iterdir()):
        outside = root.parent / f"outside-{folder.name}"
        folder.rename(outside)
        folder.symlink_to(outside)
    before = [contents(path) for path in sorted(root.parent.glob("outside-*"))]
    assert len(before) > 2
    with holdfast.open(root) as store:
        assert isinstance(outcome(lambda: store.delete("*").apply()), FormatError)
    assert [contents(path) for path in sorted(root.parent.glob("outside-*"))] == before


def test_an_interrupted_deletion_does_not_go_on_through_a_link(root):
    folder = a_checkpoint(root)
    outside = moved_out(root, str(folder.relative_to(root)))
    before = contents(outside)
    with pytest.raises(FormatError, match="symbolic link"):
        discard.delete(LocalStorage(root), "mine", folder.name)
    assert contents(outside) == before


def link_to_secret(path, secret):
    path.unlink()
    path.symlink_to(secret)


def hang_up(path, _):
    path.unlink()
    os.mkfifo(path)


def listen(path, _):
    path.unlink()
    with socket.socket(socket.AF_UNIX) as listener:
        here = os.open(path.parent, os.O_RDONLY)
        try:
            listener.bind(f"/proc/self/fd/{here}/{path.name}")
        finally:
            os.close(here)


def make_folder(path, _):
    path.unlink()
    path.mkdir()


def be_a_device(path, _):
    path.unlink()
    path.symlink_to("/dev/zero")


FILES = {
    "holdfast.json": lambda root: root / "holdfast.json",
    "a journal": lambda root: root / "runs/mine/journal.jsonl",
    "a lock": lambda root: root / "runs/mine/lock",
    "a manifest": lambda root: a_checkpoint(root) / "manifest.json",
    "a shard": lambda root: a_checkpoint(root) / "model.safetensors",
    "the catalog": lambda root: root / "catalog.sqlite3",
}
TRICKS = {
    "a link": link_to_secret,
    "a pipe": hang_up,
    "a socket": listen,
    "a folder": make_folder,
    "a link to a device": be_a_device,
}


@pytest.mark.timeout(60)
@pytest.mark.parametrize("trick", TRICKS.values(), ids=TRICKS.keys())
@pytest.mark.parametrize("which", FILES.values(), ids=FILES.keys())
def test_what_stands_in_the_place_of_a_file_is_refused_without_waiting(root, which, trick):
    secret = root.parent / "secret"
    secret.write_bytes(b"SQLite format 3\0 and what nobody else may see")
    trick(which(root), secret)
    before = secret.read_bytes()
    refused = use_everything(root)
    assert secret.read_bytes() == before
    assert secret.stat().st_nlink == 1
    assert all("nobody else" not in str(error) for error in refused)
    with holdfast.open(root.parent / "sound") as store:
        assert len(train(store, "mine", [1])) == 1


def test_the_store_itself_may_be_a_link(root):
    link = root.parent / "link"
    link.symlink_to(root)
    with holdfast.open(link) as store:
        train(store, "mine", [0.5])
        assert store.best("loss", run="mine").metrics == {"loss": 0.5}
        assert store.verify().ok


def test_a_run_is_not_opened_in_a_folder_that_is_a_link(tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    with holdfast.open(tmp_path / "store") as store:
        (tmp_path / "store/runs/planted").symlink_to(outside)
        with pytest.raises(FormatError, match="symbolic link"):
            store.run("planted", save=when.never(), keep=keep.all())
    assert list(outside.iterdir()) == []
