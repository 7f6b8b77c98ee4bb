"""Where a checkpoint's state comes from, back to what was deleted, and what was made of it."""

import numpy as np

import holdfast
from holdfast import keep, when
from holdfast.insight.ancestry import ancestry_of


def test_a_line_goes_back_to_what_was_deleted_and_on_to_its_branches(tmp_path):
    with holdfast.open(tmp_path / "store") as store:
        with store.run("r", save=when.never(), keep=keep.all()) as run:
            run.attach(model={"w": np.zeros(2)})
            ids = [run.save(step, {"loss": 1.0}).wait().id for step in range(4)]
            run.rollback(ids[2])
            branch = run.save(9, {"loss": 1.0}).wait().id
        found = ancestry_of(store, store.get(ids[3]))
        assert [info.id for info in found.parents] == [ids[2], ids[1], ids[0]]
        assert (found.lost, found.children) == (None, ())
        assert [one.id for one in ancestry_of(store, store.get(ids[2])).children] == [
            ids[3],
            branch,
        ]
        store.delete(ids[1]).apply()
        found = ancestry_of(store, store.get(branch))
        assert ([info.id for info in found.parents], found.lost) == ([ids[2]], ids[1])
        assert [one.id for one in ancestry_of(store, store.get(ids[0])).children] == []


def test_a_filter_chooses_by_the_parent(tmp_path):
    with holdfast.open(tmp_path / "store") as store:
        with store.run("r", save=when.never(), keep=keep.all()) as run:
            run.attach(model={"w": np.zeros(2)})
            ids = [run.save(step, {"loss": 1.0}).wait().id for step in range(3)]
        assert [one.id for one in store.checkpoints(where=f"parent = {ids[0]}")] == [ids[1]]
        assert store.count(where=f"parent = {ids[0]}") == 1
        # Without a parent there is nothing to compare.
        assert [one.id for one in store.checkpoints(where="parent != x")] == [ids[2], ids[1]]
