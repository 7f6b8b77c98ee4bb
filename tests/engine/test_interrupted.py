"""What a run's journal says of an interrupted clean-up, and finishing it when the run is opened."""

import json
import shutil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import holdfast
from holdfast import keep, when
from holdfast.engine.journal import Journal
from holdfast.lifecycle.history import RunHistory
from holdfast.storage import LocalStorage

RUN = "digits"


class Value:
    def __init__(self, value):
        self.value = value

    def state_dict(self):
        return self.value

    def load_state_dict(self, value):
        self.value = value


def open_run(store):
    return store.run(RUN, metric="loss", save=when.never(), keep=keep.all())


@pytest.fixture
def root(tmp_path):
    """A store with three checkpoints of two items."""
    with holdfast.open(tmp_path / "store") as store, open_run(store) as run:
        run.attach(model=Value({"w": np.arange(3.0)}), extra=Value({"n": np.arange(4)}))
        for step in range(3):
            run.save(step, {"loss": 1.0}, items=["model", "extra"], kind="partial").wait()
    return tmp_path / "store"


def ids_of(root):
    return sorted(path.parent.name for path in root.glob("runs/*/*/manifest.json"))


def journal_of(root):
    return Journal(LocalStorage(root), f"runs/{RUN}/journal.jsonl")


def plan(root, *, deleted=(), thinned=None):
    """Notes a clean-up of which nothing was done, as one does who is killed right then."""
    journal_of(root).append(
        [
            {
                "t": "plan",
                "at": 1.0,
                "deleted": list(deleted),
                "thinned": thinned or {},
                "reasons": {},
            }
        ],
        durable=True,
    )


def reopen(root):
    with holdfast.open(root) as store, open_run(store):
        pass
    return ids_of(root)


def test_an_interrupted_clean_up_is_finished(root):
    first, second, third = ids_of(root)
    plan(root, deleted=[first], thinned={second: ["model"]})
    assert reopen(root) == [second, third]
    with holdfast.open(root, mode="r") as store:
        assert store.get(second).items == ("model",)
        assert store.get(third).items == ("model", "extra")
    # Finished once: nothing is left to do.
    assert reopen(root) == [second, third]


LATER = {
    "pinned": lambda checkpoint: checkpoint.pin(),
    "tagged": lambda checkpoint: checkpoint.tag("prod"),
    "scored": lambda checkpoint: checkpoint.report(val_loss=0.1),
}


@pytest.mark.parametrize("say", LATER.values(), ids=LATER.keys())
def test_what_was_said_after_the_plan_saves_a_checkpoint_from_it(root, say):
    first, second, third = ids_of(root)
    plan(root, deleted=[first, second])
    with holdfast.open(root) as store:
        say(store.get(first))
    assert reopen(root) == [first, third]
    with holdfast.open(root) as store:
        assert [c.id for c in store.checkpoints(RUN)] == [third, first]
        assert store.verify().ok


def test_a_damaged_checkpoint_does_not_keep_its_run_from_being_opened(root):
    first, second, third = ids_of(root)
    plan(root, deleted=[first], thinned={second: ["model"]})
    path = root / "runs" / RUN / second / "manifest.json"
    path.chmod(0o644)
    path.write_bytes(b"\0" * path.stat().st_size)
    assert reopen(root) == [second, third]


ESCAPING = ["", ".", "..", "../digits", "lock", "a/b_20251031_142530", "../x_20251031_142530", 5]


@pytest.mark.parametrize("name", ESCAPING, ids=repr)
def test_a_plan_that_leads_out_of_the_runs_checkpoints_is_not_followed(root, name):
    before = ids_of(root)
    (root / "runs" / "x_20251031_142530").mkdir()
    (root / "runs" / "x_20251031_142530" / "keep").write_text("mine")
    plan(root, deleted=[name])
    assert reopen(root) == before
    assert (root / "runs" / "x_20251031_142530" / "keep").read_text() == "mine"
    history = RunHistory(journal_of(root)).refresh()
    assert len(history.damage) == 1


def test_the_folder_of_another_runs_checkpoint_is_neither_read_nor_removed(root):
    mine = ids_of(root)
    with (
        holdfast.open(root) as store,
        store.run("other", save=when.never(), keep=keep.all()) as run,
    ):
        run.attach(model=Value({"w": np.arange(3.0)}))
        other = run.save(0, items=["model"], kind="partial").wait()
    strange = shutil.copytree(other.path, root / "runs" / RUN / other.id)
    unfinished = root / "runs" / RUN / "other_20251031_142531"
    unfinished.mkdir()
    assert reopen(root) == sorted([*mine, other.id, other.id])
    assert (strange / "model.safetensors").exists()
    assert unfinished.is_dir()
    with holdfast.open(root) as store:
        store.reindex()
        assert sorted(c.id for c in store.checkpoints(RUN)) == mine
        assert [c.id for c in store.checkpoints("other")] == [other.id]


KINDS = [
    "run", "status", "resumed", "steps", "save", "failed", "report", "pin", "unpin", "tag",
    "untag", "damaged", "healthy", "plan", "applied", "kept", "torn", "later",
]  # fmt: skip
MEMBERS = [
    "at", "id", "step", "rows", "metrics", "tags", "reasons", "deleted", "thinned", "created_at",
    "kind", "reason", "name", "status", "awaiting", "epoch", "error", "spared", "config",
]  # fmt: skip
ODD = st.recursive(
    st.none() | st.booleans() | st.integers() | st.just(10**400) | st.just("NaN")
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from(["digits_20251031_142530", "x", "", "model"]),
    lambda inner: st.lists(inner, max_size=6)
    | st.dictionaries(st.sampled_from(["digits_20251031_142530", "a"]), inner, max_size=2),
    max_leaves=8,
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(KINDS), st.dictionaries(st.sampled_from(MEMBERS), ODD))))
def test_lines_of_any_content_are_facts_or_damage(tmp_path_factory, lines):
    folder = tmp_path_factory.mktemp("journal")
    journal = Journal(LocalStorage(folder), "journal.jsonl")
    journal.append([{**members, "t": kind} for kind, members in lines], durable=False)
    history = RunHistory(journal).refresh()
    assert history.nbytes == journal.nbytes
    assert len(history.damage) <= len(lines)
    json.dumps(history.damage)
