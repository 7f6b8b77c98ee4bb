"""The golden stores of format 1: read for ever, to the last bit, and damage is always noticed."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
import torch

import holdfast
from holdfast import keep, when
from holdfast.errors import FormatError, HoldfastError, IntegrityError, NotFoundError
from tests.golden import states
from tests.golden.describing import describe, tell
from tests.golden.make_golden import Value

DATA = Path(__file__).parents[1] / "data" / "golden-v1"
STORE = DATA / "store"
EXPECTED = json.loads((DATA / "expected.json").read_text())
HALF_DELETED = "study+trial-7_20251031_142541"

VALUES = [
    (run, int(step), item)
    for run, steps in EXPECTED["values"].items()
    for step, items in steps.items()
    for item in items
]


def files(root):
    """Returns what a write of any kind would change."""
    return {
        str(path.relative_to(root)): (status.st_size, status.st_mtime_ns, status.st_mode)
        for path in sorted(root.rglob("*"))
        for status in [path.lstat()]
    }


@pytest.fixture(scope="module")
def golden():
    with holdfast.open(STORE, mode="r") as store:
        yield store


@pytest.fixture
def copied(tmp_path):
    return Path(shutil.copytree(STORE, tmp_path / "store"))


def test_the_golden_stores_stay_small():
    assert sum(path.stat().st_size for path in DATA.rglob("*") if path.is_file()) < 300_000


@pytest.mark.parametrize("run", EXPECTED["runs"])
def test_everything_that_is_said_of_a_run_is_read_as_it_was_recorded(golden, run):
    wanted = EXPECTED["runs"][run]
    reader = golden[run]
    status = (
        "interrupted" if run == "failed" and wanted["status"] == "running" else wanted["status"]
    )
    assert reader.status == status
    assert dict(reader.config) == wanted["config"]
    assert [[step, repr(value)] for step, value in reader.history("loss")] == wanted["loss"]
    found = {checkpoint.id: checkpoint for checkpoint in reader.checkpoints()}
    assert set(found) == set(wanted["checkpoints"]) - {HALF_DELETED}
    for checkpoint_id, checkpoint in found.items():
        told = wanted["checkpoints"][checkpoint_id]
        assert tell(checkpoint) == told


@pytest.mark.parametrize(("run", "step", "item"), VALUES)
def test_every_value_is_read_back_to_the_bit(golden, run, step, item):
    found = [c for c in golden.checkpoints(run) if c.step == step]
    wanted = EXPECTED["values"][run][str(step)][item]
    if not found:
        # Deleted by its policy, or half-deleted by a clean-up that was interrupted.
        assert (run, step) in {("cnn", 0), ("study/trial-7", 0)}
        return
    (checkpoint,) = found
    if item not in checkpoint.items:
        with pytest.raises(NotFoundError, match="thinned"):
            checkpoint.load(item)
        return
    loaded = checkpoint.load(item)
    if (run, item) == ("cnn", "model"):
        # A module is no mapping of its own: it comes back as one, whose order says nothing.
        loaded = dict(sorted(loaded.items()))
    assert plainly(describe(loaded)) == plainly(wanted)


def plainly(description):
    """Leaves out what a reader without the live module cannot know: its class of parameters."""
    if isinstance(description, dict):
        return {k: plainly(v) for k, v in description.items() if k != "parameter"}
    return [plainly(v) for v in description] if isinstance(description, list) else description


def test_the_expected_values_are_those_of_the_states_in_this_folder():
    """So that the file of expectations and the states cannot drift apart unseen."""
    for name, state in (("dtypes", states.dtypes()), ("nodes", states.nodes())):
        step = {"dtypes": "0", "nodes": "1"}[name]
        assert describe(state) == EXPECTED["values"]["kinds"][step][name]


def test_reading_writes_nothing():
    before = files(DATA)
    with holdfast.open(STORE, mode="r") as store:
        assert not store.writable
        for checkpoint in store.checkpoints():
            for item in checkpoint.items:
                checkpoint.load(item)
        assert store.verify().ok
        store.usage()
    for folder in sorted((DATA / "damaged").iterdir()):
        for act in ACTS.values():
            try:
                act(folder)
            except HoldfastError:
                continue
    assert files(DATA) == before


def test_a_network_is_restored_in_place_and_goes_on_as_the_first_time(copied):
    model, optimizer = states.network()
    for _ in range(4):
        states.train(model, optimizer)
    other, other_optimizer = states.network()
    with holdfast.open(copied) as store:
        assert store.get("cnn@tag:prod").step == 2
        with store.run("cnn", save=when.never(), keep=keep.all()) as run:
            run.attach(model=other, optimizer=other_optimizer)
            assert run.resume() == 3
            drawn = torch.rand(3)
            assert run.resume() == 3
            assert torch.equal(drawn, torch.rand(3))
    states.train(other, other_optimizer)
    assert other.head.weight is other.embed.weight
    for (name, one), two in zip(
        model.state_dict().items(), other.state_dict().values(), strict=True
    ):
        assert torch.equal(one, two), name


def test_opening_for_writing_finishes_the_interrupted_clean_up(copied):
    folder = copied / "runs" / "study+trial-7"
    assert (folder / HALF_DELETED).is_dir()
    with holdfast.open(copied) as store:
        with store.run("study/trial-7", save=when.never(), keep=keep.all()) as run:
            assert [(c.step, c.thinned) for c in run.checkpoints()] == [(2, False), (1, True)]
        assert not (folder / HALF_DELETED).exists()
        assert store["study/trial-7"].get("step:1").items == ("model",)
        assert store.verify().ok
    lines = (folder / "journal.jsonl").read_text().splitlines()
    kinds = [json.loads(line)["t"] for line in lines if line.endswith("}")]
    assert "torn" in kinds
    assert "applied" in kinds


def test_a_store_without_links_is_saved_into_and_shares_from_then_on(copied):
    with (
        holdfast.open(copied) as store,
        store.run("kinds", save=when.never(), keep=keep.all()) as run,
    ):
        run.attach(rest=Value(np.arange(99.0)))
        made = run.save(2, items=["rest"], kind="partial").wait()
        assert made.stored_nbytes == 0
        assert (made.path / "rest.safetensors").stat().st_nlink >= 2
        np.testing.assert_array_equal(made.load("rest"), np.arange(99.0))


def test_any_safetensors_reader_opens_the_shards():
    opened = 0
    for path in STORE.rglob("*.safetensors"):
        with safetensors.safe_open(path, framework="pt") as file:
            digests = json.loads(file.metadata()["holdfast.blake3"])
            assert set(file.keys()) == set(digests)
        opened += 1
    assert opened >= 10
    (rest,) = (STORE / "runs/kinds").glob("*38/rest.safetensors")
    np.testing.assert_array_equal(safetensors.numpy.load_file(rest)["value"], np.arange(99.0))


# -- the damaged ones ------------------------------------------------------------------------------


def load_all(folder):
    with holdfast.open(folder, mode="r") as store:
        checkpoints = store.checkpoints()
        assert checkpoints
        return {
            checkpoint.id: {item: checkpoint.load(item) for item in checkpoint.manifest.items}
            for checkpoint in checkpoints
        }


def verify(folder):
    with holdfast.open(folder, mode="r") as store:
        return store.verify()


ACTS = {"load": load_all, "verify": verify}

# name -> what loading raises, and what opening does
DAMAGED = {
    "nothing": None,
    "header-flipped": IntegrityError,
    "length-flipped": IntegrityError,
    "tensor-flipped": IntegrityError,
    "manifest-flipped": IntegrityError,
    "journal-flipped": None,
    "journal-cut": None,
    # It holds nothing but the store's id, which reading does without.
    "store-file-flipped": None,
    "store-file-newer": FormatError,
    "shard-cut": IntegrityError,
    "shard-missing": IntegrityError,
    "shards-swapped": IntegrityError,
    "shard-zeroed": IntegrityError,
    "manifest-zeroed": IntegrityError,
    "manifest-cut": IntegrityError,
    "manifest-newer": FormatError,
    "manifest-escaping": FormatError,
    "checkpoint-renamed": FormatError,
}
UNREADABLE_STORES = {"store-file-newer"}


def test_the_table_names_every_damaged_store():
    assert set(DAMAGED) == {folder.name for folder in (DATA / "damaged").iterdir()}


@pytest.mark.parametrize(("name", "error"), DAMAGED.items(), ids=DAMAGED.keys())
def test_a_damaged_checkpoint_is_never_handed_out(name, error):
    folder = DATA / "damaged" / name
    if error is None:
        (loaded,) = load_all(folder).values()
        np.testing.assert_array_equal(loaded["one"]["w"], np.arange(8.0) + ord("o"))
        return
    with pytest.raises(error) as caught:
        load_all(folder)
    # A subclass says more than was promised: the class is part of the contract.
    assert type(caught.value) is error
    assert caught.value.hint


# Of holdfast.json, `doctor` tells: no checkpoint rests on it.
@pytest.mark.parametrize("name", sorted(set(DAMAGED) - UNREADABLE_STORES - {"store-file-flipped"}))
def test_a_verification_finds_each_damage_and_nothing_else(name):
    found = verify(DATA / "damaged" / name)
    assert found.ok == (name == "nothing")
    if name.startswith("journal"):
        assert list(found.journals) == ["tiny"]
        assert not found.damaged
    elif name != "nothing":
        assert len(found.damaged) == 1
        assert not found.journals


@pytest.mark.parametrize("name", sorted(UNREADABLE_STORES))
def test_a_store_whose_own_file_is_no_good_is_not_opened(name):
    for mode in ("r", "a"):
        with pytest.raises(DAMAGED[name], match=r"holdfast\.json"):
            holdfast.open(DATA / "damaged" / name, mode=mode)


def test_a_store_whose_own_file_is_damaged_is_read_and_not_written():
    with pytest.raises(IntegrityError, match=r"holdfast\.json"):
        holdfast.open(DATA / "damaged" / "store-file-flipped", mode="a")


def test_the_damage_is_named_to_the_tensor():
    with pytest.raises(IntegrityError) as caught:
        load_all(DATA / "damaged" / "tensor-flipped")
    assert caught.value.tensor == "w"
    assert caught.value.path.endswith("one.safetensors")


def test_a_newer_format_says_what_to_do():
    for name in ("store-file-newer", "manifest-newer"):
        with pytest.raises(FormatError, match="format 2") as caught:
            load_all(DATA / "damaged" / name)
        assert "newer Holdfast" in caught.value.hint
