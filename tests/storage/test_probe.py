"""Probing: what a place can do is found by trying, and nothing is left behind."""

import os
import shutil
import threading
from pathlib import Path

import pytest

from holdfast.storage import probe
from holdfast.storage.probe import filesystem_of
from tests.storage.faulty import names_in

SHARED_MEMORY = Path("/dev/shm")


def test_the_place_of_these_tests_is_described_and_left_as_it_was(tmp_path):
    found = probe(tmp_path)
    assert names_in(tmp_path) == []
    assert found.filesystem == filesystem_of(tmp_path)
    assert found.folder_sync
    if found.filesystem in {"ext4", "xfs", "btrfs", "tmpfs"}:
        assert found.hard_links
        assert found.sqlite_wal
    if found.filesystem in {"ext4", "xfs"}:
        assert found.direct_alignment in {512, 4096}


def test_shared_memory_is_known_for_what_it_is(tmp_path):
    if not os.access(SHARED_MEMORY, os.W_OK) or filesystem_of(SHARED_MEMORY) != "tmpfs":
        pytest.skip("there is no /dev/shm to write")
    folder = SHARED_MEMORY / f"holdfast-test-{os.getpid()}"
    folder.mkdir()
    try:
        found = probe(folder)
        assert (found.filesystem, found.hard_links, found.folder_sync) == ("tmpfs", True, True)
        assert names_in(folder) == []
    finally:
        folder.rmdir()


def test_a_place_that_cannot_be_written_is_an_error(tmp_path):
    with pytest.raises(OSError):
        probe(tmp_path / "nowhere")


def test_a_medium_without_links_or_folder_syncs_is_seen(tmp_path, monkeypatch):
    def refuse(*_arguments, **_options):
        raise PermissionError

    monkeypatch.setattr(os, "link", refuse)
    monkeypatch.setattr(os, "fsync", refuse)
    found = probe(tmp_path)
    assert (found.hard_links, found.folder_sync) == (False, False)
    assert names_in(tmp_path) == []


def test_a_medium_that_copies_where_it_should_link_has_no_links(tmp_path, monkeypatch):
    # Links are the reference counts: one that counts nothing would let a shard be deleted that
    # another checkpoint holds.
    monkeypatch.setattr(os, "link", shutil.copyfile)
    assert not probe(tmp_path).hard_links
    assert names_in(tmp_path) == []


def test_what_a_killed_probe_left_misleads_no_later_one(tmp_path):
    for name in (f".tmp-probe-{os.getpid()}", f".tmp-probe-{os.getpid()}-link"):
        (tmp_path / name).write_bytes(b"holdfast")
    assert probe(tmp_path).hard_links


def test_threads_that_probe_at_once_find_the_same(tmp_path):
    found = []
    threads = [
        threading.Thread(target=lambda: found.extend(probe(tmp_path) for _ in range(20)))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 80
    assert len(set(found)) == 1
