"""A shard begun before its digests are known: given up as soon as it is known to be wrong."""

from dataclasses import replace

import numpy as np
import pytest

from holdfast import tree
from holdfast.engine import foreseen
from holdfast.engine.foreseen import ForeseenShard, foresee
from holdfast.engine.hashing import Findings, look_at
from holdfast.engine.shardfile import HeaderTemplate
from holdfast.engine.snapshot import Snapshots
from tests.engine.foresight import RESTING, arrays, leftovers, shrink, storage_at


@pytest.fixture(autouse=True)
def small_sizes(monkeypatch):
    shrink(monkeypatch)


class Scripted:
    """Findings that become known one by one, whenever the writer looks."""

    def __init__(self, arrays, known_after):
        self.found = {array: look_at(array) for array in arrays}
        self.known_after = known_after
        self.looks = 0
        self.waited = []

    def __getitem__(self, array):
        self.waited.append(array.name)
        return self.found[array]

    def so_far(self, arrays):
        self.looks += 1
        return {a: self.found[a] for a in arrays if self.known_after[a.name] < self.looks}


NEVER = 1 << 30


@pytest.mark.parametrize(
    ("known_after", "written"),
    [
        # what stayed the same is known from the first look, from a later one, never
        ({"a": NEVER, "b": 0}, [0]),
        ({"a": NEVER, "b": 1}, [0]),
        ({"a": NEVER, "b": 3}, [8192, 8192]),
        ({"a": NEVER, "b": NEVER}, [8192, 8192, 8192, 8192, 7232]),
    ],
)
def test_a_shard_is_given_up_as_soon_as_so_much_is_the_same(tmp_path, known_after, written):
    state = {"a": np.full(5000, 5, "<f4"), "b": np.full(5000, 1, "<f4")}
    snapshot = Snapshots().take({"model": tree.flatten(state)})
    copy = snapshot.items["model"]
    findings = Scripted(copy.arrays, known_after)
    template = HeaderTemplate([foreseen.entry_of(array, "") for array in copy.arrays], {})
    before = {"a": "0" * 64, "b": findings.found[copy.arrays[1]].digest}
    (shard,) = foresee(copy, [template], before)
    storage = storage_at(tmp_path)
    told = []
    shard.write(storage, ".", snapshot, findings, tell=lambda _, nbytes: told.append(nbytes))
    assert told == [n for n in written if n]
    taken = shard.take()
    assert (taken is None) == (known_after["b"] != NEVER)
    assert len(leftovers(tmp_path)) == (taken is not None)
    assert shard.take() is None
    shard.discard()
    assert len(leftovers(tmp_path)) == (taken is not None)
    if taken is not None:
        taken.discard()
    assert leftovers(tmp_path) == []


def test_a_shard_whose_first_tensor_takes_long_to_hash_is_begun_without_it(tmp_path, monkeypatch):
    snapshot = Snapshots().take({"model": tree.flatten(arrays(a=1)["model"])})
    copy = snapshot.items["model"]
    template = HeaderTemplate([foreseen.entry_of(array, "") for array in copy.arrays], {})
    for most, waited in ((4000, ["a"]), (3999, [])):
        monkeypatch.setattr(foreseen, "_WAITED_NBYTES", most)
        findings = Scripted(copy.arrays, {"a": NEVER})
        (shard,) = foresee(copy, [template], {})
        shard.write(storage_at(tmp_path), ".", snapshot, findings, tell=lambda *_: None)
        shard.discard()
        assert findings.waited == waited


def test_what_little_stays_the_same_does_not_stop_a_shard(tmp_path):
    state = {"a": np.full(1000, 5, "<f4"), "b": np.full(RESTING // 4 - 1, 1, "<f4")}
    snapshot = Snapshots().take({"model": tree.flatten(state)})
    copy = snapshot.items["model"]
    findings = Scripted(copy.arrays, {"a": NEVER, "b": 0})
    template = HeaderTemplate([foreseen.entry_of(array, "") for array in copy.arrays], {})
    (shard,) = foresee(copy, [template], {"b": findings.found[copy.arrays[1]].digest})
    shard.write(storage_at(tmp_path), ".", snapshot, findings, tell=lambda *_: None)
    taken = shard.take()
    assert taken is not None
    taken.discard()


def test_the_template_of_the_parent_is_used_as_long_as_it_fits():
    snapshot = Snapshots().take({"model": tree.flatten(arrays(a=1, b=2)["model"])})
    copy = snapshot.items["model"]
    template = HeaderTemplate([foreseen.entry_of(array, "") for array in copy.arrays], {})
    (same,) = foresee(copy, [template], {})
    assert same.template is template
    tied = replace(copy, aliases={"other": "a"})
    (other,) = foresee(tied, [template], {})
    assert other.template is not template
    assert other.template.aliases == {"other": "a"}
    assert isinstance(other, ForeseenShard)
    assert same.nbytes == template.data_start + 8000


def test_findings_are_the_same_object_for_the_same_bytes():
    snapshot = Snapshots().take({"model": tree.flatten(arrays(a=1, b=1)["model"])})
    one, other = map(look_at, snapshot.items["model"].arrays)
    assert one == other == Findings(one.digest, finite=True)
