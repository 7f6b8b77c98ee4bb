"""Publishing on a local disk, besides what every storage promises (test_conformance.py)."""

import os
import stat

import pytest

from holdfast.errors import SaveError
from holdfast.storage import LocalStorage
from tests.storage.faulty import Recorder

CONTENT = [b"head", memoryview(b"body"), bytearray(b"tail")]
BYTES = b"headbodytail"


def files_in(folder):
    return sorted(p.name for p in folder.rglob("*") if p.is_file())


def test_all_parts_are_written_and_the_file_is_read_only(tmp_path):
    storage = LocalStorage(tmp_path)
    assert storage.publish("a", CONTENT) == len(BYTES)
    assert (tmp_path / "a").read_bytes() == BYTES
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o444
    assert files_in(tmp_path) == ["a"]


def test_two_publishers_of_one_name_use_different_temporary_files(tmp_path):
    recorder = Recorder()
    storage = LocalStorage(tmp_path, posix=recorder.posix)
    storage.publish("a", CONTENT)
    storage.publish("a", CONTENT)
    created = [line for line in recorder.lines if line.startswith("create")]
    assert len(set(created)) == 2


def test_short_writes_are_looped_and_a_lying_one_is_noticed(tmp_path, monkeypatch):
    real = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: real(fd, bytes(data)[:1]))
    assert LocalStorage(tmp_path).publish("a", CONTENT) == len(BYTES)
    assert (tmp_path / "a").read_bytes() == BYTES
    monkeypatch.setattr(os, "write", lambda _fd, data: len(data))
    with pytest.raises(SaveError, match="0 bytes after writing 12"):
        LocalStorage(tmp_path).publish("b", CONTENT)
    assert files_in(tmp_path) == ["a"]


def test_a_write_that_takes_nothing_does_not_go_on_for_ever(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "write", lambda _fd, _data: 0)
    with pytest.raises(SaveError, match="took no bytes"):
        LocalStorage(tmp_path).publish("a", CONTENT)
