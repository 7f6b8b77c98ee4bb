"""Links on a local disk: where there can be none, the caller is told to copy."""

import errno
import os

import pytest

from holdfast.storage import LocalStorage
from tests.storage.faulty import failing


@pytest.fixture
def storage(tmp_path):
    storage = LocalStorage(tmp_path)
    storage.publish("a", [b"shard"])
    return storage


@pytest.mark.parametrize(
    "code", [errno.EMLINK, errno.EPERM, errno.EOPNOTSUPP, errno.EXDEV, errno.ENOENT]
)
def test_where_no_link_can_be_the_caller_is_told_to_copy(tmp_path, storage, code):
    limited = LocalStorage(tmp_path, posix=failing("link", code))
    assert limited.link("a", "b") is False
    assert limited.link("a", "b") is True


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
