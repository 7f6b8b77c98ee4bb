"""Paths on a local disk: what is no plain file is neither read nor written through."""

import errno
import os

import pytest

from holdfast.errors import FormatError, HoldfastError, IntegrityError, SaveError
from holdfast.storage import LocalStorage


def test_a_symbolic_link_is_neither_read_nor_written_through(tmp_path):
    outside = tmp_path / "outside"
    outside.write_bytes(b"secret")
    root = tmp_path / "store"
    root.mkdir()
    (root / "link").symlink_to(outside)
    (root / "folder").symlink_to(tmp_path)
    storage = LocalStorage(root)
    with pytest.raises(FormatError, match="symbolic link"):
        storage.read("link")
    with pytest.raises(SaveError), storage.appending("link") as file:
        file.append(b"more", durable=False)
    with pytest.raises(SaveError):
        storage.lock("link").acquire(timeout_s=0)
    assert storage.folders("") == []
    storage.publish("link", [b"own"])
    assert outside.read_bytes() == b"secret"
    assert storage.read("link") == b"own"


def test_what_is_no_regular_file_is_not_read(tmp_path):
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    storage = LocalStorage(tmp_path)
    for path in ("folder", "pipe"):
        with pytest.raises(FormatError, match="not a regular file"):
            storage.read(path)


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (errno.EIO, IntegrityError),
        (errno.EACCES, HoldfastError),
        (errno.EMFILE, HoldfastError),
    ],
)
def test_what_cannot_be_opened_is_damage_only_where_the_medium_says_so(
    tmp_path, monkeypatch, code, expected
):
    def refuse(*_arguments, **_options):
        raise OSError(code, os.strerror(code))

    storage = LocalStorage(tmp_path)
    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(HoldfastError) as caught:
        storage.read("a")
    monkeypatch.undo()
    assert type(caught.value) is expected


def test_a_file_beyond_its_limit_is_refused_before_it_is_read(tmp_path):
    storage = LocalStorage(tmp_path)
    with (tmp_path / "a").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(FormatError, match="more than the 100"):
        storage.read("a", limit=100)
