"""Saves with shards begun before their digests are known: the same checkpoints as without."""

import errno
import os
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast import tree
from holdfast.engine import discard, names, reader
from holdfast.engine.hashing import HashAhead
from holdfast.errors import SaveError, StorageFullError
from tests.engine.foresight import FORESEEN, arrays, leftovers, shrink, storage_at
from tests.engine.states import RUN, expected, ids, load, problems, save
from tests.engine.states import draft as planned
from tests.storage.faulty import Recorder, WatchedPosix, without_links


@pytest.fixture(autouse=True)
def small_sizes(monkeypatch):
    shrink(monkeypatch)


@pytest.fixture
def storage(tmp_path):
    return storage_at(tmp_path)


def tensor(fill, *, size=1000, dtype=torch.float32, stable=False):
    return torch.nn.Parameter(
        torch.full((size,), float(fill)).to(dtype),
        requires_grad=dtype.is_floating_point and not stable,
    )


def files_begun(recorder):
    """Returns the files of shards that were begun: foreseen ones, and those of known digests."""
    made = [line.split()[1] for line in recorder.lines if line.startswith("create .tmp-")]
    return (
        sum(name.startswith(".tmp-shard-") for name in made),
        sum(".safetensors-" in name for name in made),
    )


def shards_of(committed):
    return {
        item: [(shard.file, shard.shard, shard.nbytes) for shard in stored.shards]
        for item, stored in committed.manifest.items.items()
    }


# -- one save after another ------------------------------------------------------------------------


def both_ways(storage, folder, before, after, **options):
    """Saves a state behind another with and without foresight; returns what was begun for it.

    Asserts that the two checkpoints hold the same, and that nothing else is left.
    """
    first = save(storage, 0, before, **options)
    second = save(storage, 1, changed_all(before), parent=first.shards, **options)
    recorder = Recorder()
    watched = storage_at(folder, recorder.posix)
    third = save(watched, 2, after, parent=second.shards, **options)
    check_holds(storage, third, after)
    assert problems(storage, third.manifest) == []
    assert leftovers(folder) == []
    plain = replace(second.shards, changed={})
    without = save(storage_at(folder), 3, after, parent=plain, run="without", **options)
    assert shards_of(third) == shards_of(without)
    return files_begun(recorder)


def check_holds(storage, committed, items):
    """Asserts that a checkpoint gives back what was saved, under every name."""
    loaded = load(storage, committed.manifest.id)
    for item, value in items.items():
        names_of = tree.flatten(value).aliases | {name: name for name in expected(items)[item]}
        wanted = {name: expected(items)[item][stored] for name, stored in names_of.items()}
        assert loaded[item] == wanted


def changed_all(items):
    """Returns the same items of which every value has changed."""
    with torch.no_grad():
        return {
            item: {
                name: torch.nn.Parameter(value + 1, requires_grad=value.requires_grad)
                if isinstance(value, torch.Tensor)
                else value + 1
                for name, value in values.items()
            }
            for item, values in items.items()
        }


def test_where_all_has_changed_one_file_is_written_and_it_is_the_foreseen_one(storage, tmp_path):
    before = arrays(a=0, b=0, c=0)
    assert both_ways(storage, tmp_path, before, arrays(a=5, b=6, c=7)) == (1, 0)


def test_every_item_is_foreseen_for_itself(storage, tmp_path):
    before = arrays(a=0, b=0) | {"optimizer": arrays(m=0, n=0)["model"]}
    after = arrays(a=5, b=6) | {"optimizer": arrays(m=2, n=3)["model"]}
    assert both_ways(storage, tmp_path, before, after) == (2, 0)


def test_where_nothing_has_changed_nothing_is_stored(storage, tmp_path, in_time):
    before = arrays(a=0, b=0, c=0)
    begun = both_ways(storage, tmp_path, before, changed_all(before))
    assert begun == ((0, 0) if in_time else (1, 0))


WRONG = {
    "half stays the same": lambda state: state.update(a=np.full(1000, 1, "<f4")),
    "a tensor vanishes": lambda state: state.pop("b"),
    "a tensor appears": lambda state: state.update(d=np.full(1000, 3, "<f4")),
    "another dtype": lambda state: state.update(b=np.full(1000, 5, "<i4")),
    "another width": lambda state: state.update(b=np.full(500, 5, "<f8")),
    "another shape": lambda state: state.update(b=state["b"].reshape(10, 100)),
    "another size": lambda state: state.update(b=np.full(2000, 5, "<f4")),
    "an alias appears": lambda state: state.update(tied=state["a"]),
    "one takes the other's place": lambda state: state.update(b=state["a"]),
    "empty": lambda state: state.update(b=np.empty(0, "<f4")),
}


@pytest.fixture(params=[True, False], ids=["in time", "too late"])
def in_time(request, monkeypatch):
    """Whether digests are known while a shard is written, or only once it is."""
    if not request.param:
        monkeypatch.setattr(HashAhead, "so_far", lambda self, arrays: {})
    return request.param


@pytest.mark.parametrize("change", WRONG.values(), ids=WRONG.keys())
@pytest.mark.parametrize("links", [True, False], ids=["links", "no links"])
@pytest.mark.usefixtures("in_time")
def test_what_was_foreseen_wrongly_leaves_nothing_behind(tmp_path, change, links):
    storage = storage_at(tmp_path, None if links else without_links())
    after = arrays(a=5, b=6, c=7)
    change(after["model"])
    both_ways(storage, tmp_path, arrays(a=0, b=0, c=0), after, links=links)


def test_what_was_seen_to_rest_is_not_foreseen_to_change(storage, tmp_path, monkeypatch):
    monkeypatch.setattr(HashAhead, "so_far", lambda self, arrays: {})
    parent = None
    for number in range(2):
        parent = save(storage, number, arrays(a=0, b=number), parent=parent).shards
    recorder = Recorder()
    watched = storage_at(tmp_path, recorder.posix)
    last = save(watched, 2, arrays(a=0, b=2), parent=parent)
    assert files_begun(recorder) == (1, 0)
    check_holds(storage, last, arrays(a=0, b=2))


def test_a_stable_tensor_is_not_foreseen_to_change(storage, tmp_path):
    before = {"model": {"a": tensor(0), "b": tensor(0)}}
    after = {"model": {"a": tensor(5, stable=True), "b": tensor(6)}}
    assert both_ways(storage, tmp_path, before, after) == (0, 2)


def test_an_alias_that_was_there_before_is_foreseen_with_its_tensor(storage, tmp_path):
    def tied(fill):
        shared = np.full(1000, fill, "<f4")
        return {"model": {"a": shared, "b": np.full(1000, fill, "<f4"), "tied": shared}}

    first = save(storage, 0, tied(1.0))
    second = save(storage, 1, tied(2.0), parent=first.shards)
    recorder = Recorder()
    third = save(storage_at(tmp_path, recorder.posix), 2, tied(3.0), parent=second.shards)
    assert files_begun(recorder) == (1, 0)
    check_holds(storage, third, tied(3.0))
    assert {"tied": "a"} in [dict(h.aliases) for h in third.shards.headers["model"]]


def test_small_shards_are_not_worth_foreseeing(storage, tmp_path):
    def little(fill):
        return {"model": {"a": np.full(FORESEEN // 4 - 1, fill, "<f4")}}

    assert both_ways(storage, tmp_path, little(0), little(5)) == (0, 1)


def test_without_links_the_file_of_what_stayed_the_same_is_written_once(tmp_path):
    # Nothing can be shared there, so what was begun may well be what is needed.
    storage = storage_at(tmp_path, without_links())
    state = arrays(a=0, b=0)
    first = save(storage, 0, state, links=False)
    second = save(storage, 1, state, parent=first.shards, links=False)
    assert second.manifest.stored_nbytes == first.manifest.stored_nbytes
    assert leftovers(tmp_path) == []
    assert load(storage, second.manifest.id) == expected(state)


def test_what_is_of_no_use_goes_before_what_is_needed_takes_its_room(
    storage, tmp_path, monkeypatch
):
    monkeypatch.setattr(HashAhead, "so_far", lambda self, arrays: {})
    first = save(storage, 0, arrays(a=0, b=0))
    second = save(storage, 1, arrays(a=1, b=1), parent=first.shards)
    seen = []

    def look(name, arguments):
        if name == "create" and ".safetensors-" in str(arguments[0]):
            seen.append(len(leftovers(tmp_path)))

    recorder = Recorder()
    after = arrays(a=5, b=1)
    save(storage_at(tmp_path, WatchedPosix(look)), 2, after, parent=second.shards)
    assert seen == [0, 0]
    save(storage_at(tmp_path, recorder.posix), 3, after, parent=second.shards)
    assert files_begun(recorder)[0] == 1


# -- a failing medium ------------------------------------------------------------------------------


def failing_at(number, code):
    """Returns system calls of which the n-th fails, by code, and none after it."""
    count = [0]

    def before(name, arguments):
        count[0] += 1
        if count[0] - 1 == number:
            if name == "close":
                os.close(arguments[0])
            raise OSError(code, os.strerror(code))

    return WatchedPosix(before)


@pytest.mark.parametrize(
    ("right", "code", "error"),
    [
        (True, errno.EIO, SaveError),
        (True, errno.ENOSPC, StorageFullError),
        (False, errno.EIO, SaveError),
    ],
)
def test_a_failure_at_any_call_leaves_no_checkpoint_and_the_next_save_works(
    tmp_path, monkeypatch, right, code, error
):
    monkeypatch.setattr(HashAhead, "so_far", lambda self, arrays: {})
    state = arrays(a=2, b=2 if right else 1, size=3000)
    recorder = Recorder()
    kept = two_saves(tmp_path / "counted")
    save(storage_at(tmp_path / "counted", recorder.posix), 2, state, parent=kept.shards)
    assert files_begun(recorder) == ((1, 0) if right else (1, 2))
    assert {"create", "pwrite", "truncate", "fsync", "rename", "link"} <= set(recorder.names)
    for number, call in enumerate(recorder.names):
        if "unlink" in recorder.names[number : number + 2]:
            # What was foreseen wrongly is closed and removed: the save goes on without.
            continue
        folder = tmp_path / str(number)
        kept = two_saves(folder)
        with pytest.raises(error) as caught:
            save(storage_at(folder, failing_at(number, code)), 2, state, parent=kept.shards)
        assert type(caught.value) is error, call
        storage = storage_at(folder)
        # Whether the name of a manifest is durable is only known by its last call.
        last = number == len(recorder.names) - 1
        assert (planned(2).id in ids(storage)) == last
        assert leftovers(folder) == []
        if (folder / planned(2).folder).exists():
            discard.delete(storage, RUN, planned(2).id)
        assert storage.folders(names.folder_of_run(RUN)) == [planned(0).id, planned(1).id]
        again = save(storage, 2, state, parent=kept.shards)
        check_holds(storage, again, state)
        lonely = [p for p in (folder / "shards").rglob("*.safetensors") if p.stat().st_nlink == 1]
        assert lonely == []


def two_saves(folder):
    folder.mkdir()
    storage = storage_at(folder)
    first = save(storage, 0, arrays(a=0, b=0, size=3000))
    return save(storage, 1, arrays(a=1, b=1, size=3000), parent=first.shards)


# -- chains of random saves ------------------------------------------------------------------------

DTYPES = {
    "f4": torch.float32, "f8": torch.float64, "bf": torch.bfloat16, "u1": torch.uint8,
    "i8": torch.int64,
}  # fmt: skip
TENSORS = st.tuples(
    st.integers(0, 2),  # version
    st.sampled_from([0, 1, 900, 4000]),
    st.sampled_from(sorted(DTYPES)),
    st.booleans(),
)


@st.composite
def chains(draw):
    """Draws states one after another: mostly the same structure, with values that go on or rest."""
    state = draw(st.dictionaries(st.sampled_from("abcdef"), TENSORS, min_size=1))
    chain = []
    for _ in range(draw(st.integers(2, 5))):
        if draw(st.integers(0, 3)) == 0:
            state = state | draw(st.dictionaries(st.sampled_from("abcdef"), TENSORS, max_size=2))
            for name in draw(st.sets(st.sampled_from("abcdef"), max_size=1)):
                state.pop(name, None)
        rests = draw(st.sampled_from(["", "", "a", "bc", "abcdef"]))
        state = {
            name: (version if name in rests or stable else version + 1, size, dtype, stable)
            for name, (version, size, dtype, stable) in state.items()
        }
        alias = draw(st.sampled_from([None, None, *sorted(state)]))
        chain.append((dict(state), alias))
    return chain


def tensors(drawn, alias):
    made = {
        name: tensor(version % 100, size=size, dtype=DTYPES[dtype], stable=stable)
        for name, (version, size, dtype, stable) in drawn.items()
    }
    return {"model": made | ({"tied": made[alias]} if alias else {})}


@settings(max_examples=40, deadline=None)
@given(chain=chains(), links=st.booleans())
def test_any_chain_of_saves_is_what_it_is_without_foresight(tmp_path_factory, chain, links):
    folders = [tmp_path_factory.mktemp(name) for name in ("with", "without")]
    with_, without = [storage_at(f, None if links else without_links()) for f in folders]
    one = other = None
    for number, (drawn, alias) in enumerate(chain):
        state = tensors(drawn, alias)
        saved = save(with_, number, state, parent=one, links=links)
        plain = save(without, number, state, parent=other, links=links)
        assert shards_of(saved) == shards_of(plain)
        assert saved.manifest.stored_nbytes == plain.manifest.stored_nbytes
        check_holds(with_, saved, state)
        assert leftovers(folders[0]) == []
        one, other = saved.shards, replace(plain.shards, changed={})
        assert reader.read_manifest(with_, RUN, saved.manifest.id) == saved.manifest
