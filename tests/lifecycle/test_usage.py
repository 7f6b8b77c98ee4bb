"""What takes space is counted once, and told per run and against a budget."""

import pytest

import holdfast
from holdfast import keep
from holdfast.errors import ConfigError, NotFoundError
from tests.lifecycle.stores import listing, train


@pytest.fixture
def store(tmp_path):
    with holdfast.open(tmp_path / "store") as opened:
        yield opened


def test_stored_bytes_are_the_bytes_of_the_shards_on_disk(store):
    train(store, "a", [1, 2], frozen=7)
    train(store, "b", [3], frozen=7)
    usage = store.usage()
    files = listing(store.path)
    on_disk = sum(size for path, (size, _) in files.items() if path.startswith("shards/"))
    assert usage.stored_nbytes == on_disk
    assert usage.checkpoints == 3
    assert usage.nbytes == sum(checkpoint.nbytes for checkpoint in store.checkpoints())


def test_what_is_unique_to_a_run_is_what_deleting_it_frees(store):
    train(store, "a", [1, 2], frozen=7)
    train(store, "b", [3], frozen=7)
    unique = store.usage().of("a").unique_nbytes
    before = store.usage().stored_nbytes
    assert 0 < unique < store.usage().of("a").stored_nbytes
    assert store.delete("a").apply().freed_nbytes == unique
    assert store.usage().stored_nbytes == before - unique


def test_sharing_is_what_saves(store):
    train(store, "a", [1] * 6, frozen=7)
    usage = store.usage()
    assert usage.saved_nbytes == max(0, usage.nbytes - usage.stored_nbytes)


def test_an_empty_run_and_an_empty_store_take_nothing(store):
    assert store.usage().stored_nbytes == 0
    train(store, "a", [1])
    store.prune("a", policy=keep.none()).apply()
    assert store.usage().of("a").checkpoints == 0
    assert store.usage().stored_nbytes == 0


def test_a_budget_is_compared_with_what_is_stored(store):
    train(store, "a", [1])
    used = store.usage().stored_nbytes
    tight = store.usage().against(used - 1)
    assert (tight.exceeded, tight.over_nbytes, tight.left_nbytes) == (True, 1, 0)
    exact = store.usage().against(used)
    assert (exact.exceeded, exact.over_nbytes, exact.share) == (False, 0, 1.0)
    wide = store.usage().against("2GB", run="a")
    assert (wide.limit_nbytes, wide.left_nbytes) == (2 * 10**9, 2 * 10**9 - used)


@pytest.mark.parametrize("budget", [0, -1, "much"])
def test_a_budget_that_is_none_is_refused(store, budget):
    with pytest.raises(ConfigError):
        store.usage().against(budget)


def test_a_wrong_run_names_the_nearest(store):
    train(store, "digits", [1])
    with pytest.raises(NotFoundError) as missing:
        store.usage().of("digit")
    assert missing.value.nearest == ("digits",)


def test_usage_is_plain_json(store):
    train(store, "a", [1])
    told = store.usage().as_dict()
    assert told["runs"]["a"]["checkpoints"] == told["checkpoints"] == 1
