"""An export has its name when all of it is on the medium, and keeps it after a power cut."""

import os
from pathlib import Path

import pytest

import holdfast
from tests.lifecycle.stores import train


@pytest.fixture
def told(monkeypatch):
    """Returns what was synced and named, in order; a file is called by its last name."""
    calls = []
    sync, rename = os.fsync, Path.rename

    def note(fd):
        sync(fd)
        calls.append(("sync", shown(Path(f"/proc/self/fd/{fd}").readlink())))

    def name(path, target):
        calls.append(("rename", shown(Path(target))))
        return rename(path, target)

    monkeypatch.setattr(os, "fsync", note)
    monkeypatch.setattr(Path, "rename", name)
    return calls


def shown(path):
    """Returns a file's name; what is written under a temporary name is called as it will be."""
    return "out" if path.name.startswith(".out.tmp-") else path.name


@pytest.mark.parametrize("format", ["safetensors", "huggingface", "torch"])
def test_every_file_is_synced_then_their_folder_then_the_name(tmp_path, told, format):
    with holdfast.open(tmp_path / "store") as store:
        saved = train(store, "a", [1.0], config={"model_config": {"layers": 2}})[0]
        (tmp_path / "exports").mkdir()
        told.clear()
        saved.export(tmp_path / "exports" / "out", format)
    named = told.index(("rename", "out"))
    files = {path.name for path in (tmp_path / "exports").rglob("*")}
    assert {name for call, name in told[:named] if call == "sync"} == files
    assert told[named - 1] == ("sync", "out")
    assert told[named + 1 :] == [("sync", "exports")]
