"""Links: a shard's names are its reference count."""

import errno
import os

import pytest

from holdfast.errors import SaveError
from holdfast.storage import LocalStorage
from tests.storage.faulty import failing, names_in


@pytest.fixture
def storage(tmp_path):
    storage = LocalStorage(tmp_path)
    storage.publish("a", [b"shard"])
    return storage


def test_a_link_is_the_same_file_under_another_name(storage, tmp_path):
    assert storage.link("a", "b") is True
    assert (tmp_path / "a").samefile(tmp_path / "b")
    assert storage.link_count("a") == storage.link_count("b") == 2
    storage.remove("a")
    assert storage.read("b") == b"shard"
    assert (storage.link_count("a"), storage.link_count("b")) == (0, 1)


def test_a_source_that_is_gone_is_no_error_but_a_taken_name_is(storage):
    assert storage.link("gone", "b") is False
    with pytest.raises(FileExistsError):
        storage.link("a", "a")


@pytest.mark.parametrize(
    "code", [errno.EMLINK, errno.EPERM, errno.EOPNOTSUPP, errno.EXDEV, errno.ENOENT]
)
def test_where_no_link_can_be_the_caller_is_told_to_copy(tmp_path, storage, code):
    limited = LocalStorage(tmp_path, posix=failing("link", code))
    assert limited.link("a", "b") is False
    assert limited.link("a", "b") is True


def test_a_failing_medium_is_not_taken_for_a_missing_feature(tmp_path, storage):
    broken = LocalStorage(tmp_path, posix=failing("link", errno.EIO))
    with pytest.raises(SaveError, match="linking b"):
        broken.link("a", "b")


def test_relinking_takes_a_name_over_and_leaves_no_temporary_one(storage, tmp_path):
    storage.publish("other", [b"cut"])
    storage.relink("a", "other")
    assert (tmp_path / "a").samefile(tmp_path / "other")
    # Once more, with two names of one file, where rename() does nothing.
    storage.relink("a", "other")
    assert names_in(tmp_path) == ["a", "other"]
    assert storage.link_count("a") == 2


@pytest.mark.parametrize("call", ["link", "rename"])
def test_a_relink_that_fails_changes_nothing(tmp_path, storage, call):
    storage.publish("other", [b"cut"])
    broken = LocalStorage(tmp_path, posix=failing(call, errno.EIO))
    with pytest.raises(SaveError):
        broken.relink("a", "other")
    assert names_in(tmp_path) == ["a", "other"]
    assert storage.read("other") == b"cut"


@pytest.mark.slow
def test_at_the_real_limit_of_links_the_caller_is_told_to_copy(tmp_path, record_property):
    storage = LocalStorage(tmp_path)
    storage.publish("a", [b"shard"])
    limit = os.pathconf(tmp_path, "PC_LINK_MAX")
    if limit > 70_000:
        pytest.skip(f"this filesystem allows {limit} links")
    (tmp_path / "names").mkdir()
    made = 1
    while storage.link("a", f"names/{made}"):
        made += 1
    assert storage.link_count("a") == made == limit
    record_property("measured", f"links to one file on this filesystem: {made}")
    # What commit does then: the copy takes the shared name over, and can be linked to again.
    storage.publish("b", [b"shard"])
    storage.relink("b", "names/1")
    assert storage.link("names/1", "c") is True
