"""Manifests: read back as they were written, and refused when a rule is broken."""

import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.engine import manifest as manifests
from holdfast.engine.manifest import (
    MAX_NBYTES,
    IndexFile,
    Manifest,
    StoredItem,
    StoredShard,
    decode,
    encode,
)
from holdfast.engine.sealed import seal, unseal
from holdfast.errors import FormatError, IntegrityError
from holdfast.model import KINDS

RUN, ID = "study/cnn", "study+cnn_20251031_142530"
SHARDS = (
    StoredShard("model-00001-of-00002.safetensors", "a" * 64, 5000),
    StoredShard("model-00002-of-00002.safetensors", "b" * 64, 6000),
)
MANIFEST = Manifest(
    id=ID,
    run=RUN,
    step=7,
    created_at=1761920730.25,
    reason="improved: loss 0.23 (best 0.25)",
    items={
        "model": StoredItem(
            {"w": {"$": "tensor", "array": "w", "dtype": "float32", "shape": [2]}},
            SHARDS,
            nbytes=900,
            finite=False,
            parameters=True,
            index=IndexFile("model.safetensors.index.json", 99, "c" * 64),
        ),
        "notes": StoredItem({"text": "a"}),
    },
    epoch=3,
    generation=2,
    thinned=("optimizer",),
    parent="study+cnn_20251031_142529-2",
    metrics={"loss": 0.5, "best": math.inf},
    metadata={"batch": 3, "nested": {"a": [1, None]}},
    config={"lr": 0.1},
    awaiting=("val_loss",),
    nbytes=900,
    stored_nbytes=5000,
    journal_nbytes=1234,
)
DATA = encode(MANIFEST)


def read(data, *, run=RUN, checkpoint_id=ID):
    return decode(data, run=run, checkpoint_id=checkpoint_id, path="x/manifest.json")


def changed(**members):
    """Returns the bytes of the manifest with other members, sealed as if they were right."""
    return seal({**unseal(DATA, path="x"), **members})


def with_item(**members):
    item = unseal(DATA, path="x")["items"]["model"]
    return changed(items={"model": {**item, **members}})


def test_a_manifest_comes_back_as_it_was():
    assert read(DATA) == MANIFEST


@settings(max_examples=100)
@given(
    st.builds(
        Manifest,
        id=st.just(ID),
        run=st.just(RUN),
        step=st.integers(0, 2**63 - 1),
        created_at=st.floats(0, 2e11),
        reason=st.text(st.characters(exclude_categories=["Cs"])),
        items=st.just({}),
        kind=st.sampled_from(KINDS),
        epoch=st.none() | st.integers(-5, 2**40),
        generation=st.integers(1, 9),
        metrics=st.dictionaries(st.text("ab/", min_size=1), st.floats(allow_nan=False)),
        awaiting=st.lists(st.text("ab", min_size=1)).map(tuple),
        nbytes=st.integers(0, 2**50),
        journal_nbytes=st.integers(0, 2**50),
    )
)
def test_any_manifest_comes_back_as_it_was(manifest):
    assert read(encode(manifest)) == manifest


def test_a_metric_that_is_no_number_comes_back_as_one():
    loss = read(encode(replace(MANIFEST, metrics={"loss": math.nan}))).metrics["loss"]
    assert math.isnan(loss)


def test_every_flipped_byte_is_damage():
    for position in range(len(DATA)):
        flipped = bytearray(DATA)
        flipped[position] ^= 0x04
        with pytest.raises(IntegrityError):
            read(bytes(flipped))


@pytest.mark.parametrize(
    ("run", "checkpoint_id"),
    [
        ("study/other", ID),
        ("study", ID),
        (RUN, "study+cnn_20251031_142531"),
        (RUN, ID + "-2"),
    ],
)
def test_a_manifest_in_the_wrong_folder_is_refused(run, checkpoint_id):
    with pytest.raises(FormatError, match="wrong folder"):
        read(DATA, run=run, checkpoint_id=checkpoint_id)


def test_an_id_that_is_not_of_its_run_is_refused():
    data = changed(run="other")
    with pytest.raises(FormatError, match="wrong folder"):
        read(data, run="other")


@pytest.mark.parametrize("version", [2, 99, 10**30])
def test_a_newer_format_is_refused_with_what_to_do(version):
    with pytest.raises(FormatError, match=f"format {version}") as caught:
        read(changed(format=version))
    assert "newer Holdfast" in caught.value.hint


@pytest.mark.parametrize("version", [None, 0, -1, "1", 1.0, True, [1]])
def test_a_manifest_that_does_not_say_its_format_is_refused(version):
    with pytest.raises(FormatError, match="format"):
        read(changed(format=version))


FILES = [
    "../x.safetensors", "a/b.safetensors", "/etc/passwd", ".tmp-a.safetensors", "x.bin", "",
    "..", "a\0.safetensors", "a\n.safetensors", "model.safetensors.bak", None, 5, ["a.safetensors"],
    "manifest.json", "ä.safetensors", "a.safetensors\n",
]  # fmt: skip


@pytest.mark.parametrize("file", FILES, ids=repr)
def test_a_file_that_is_none_of_the_folders_own_is_refused(file):
    shard = {"file": file, "shard": "a" * 64, "nbytes": 1}
    with pytest.raises(FormatError):
        read(with_item(shards=[shard]))
    with pytest.raises(FormatError):
        read(with_item(index={"file": file, "nbytes": 1, "blake3": "a" * 64}))


BROKEN = {
    "a negative step": {"step": -1},
    "a step that is true": {"step": True},
    "a fraction of a step": {"step": 1.0},
    "a step that no index holds": {"step": 1 << 63},
    "an epoch that no index holds": {"epoch": -(1 << 80)},
    "an epoch as text": {"epoch": "1"},
    "a time as text": {"created_at": "nan"},
    "a time that is true": {"created_at": True},
    "a time beyond floats": {"created_at": 10**400},
    "a time beyond calendars": {"created_at": 1e12},
    "a time before all": {"created_at": -1.0},
    "an unknown kind": {"kind": "half"},
    "a kind that is a list": {"kind": ["full"]},
    "a run that is no name": {"run": "../x"},
    "an item that is no name": {"items": {"../x": unseal(DATA, path="x")["items"]["notes"]}},
    "items that are a list": {"items": []},
    "an item that is a list": {"items": {"a": []}},
    "thinned as text": {"thinned": "abc"},
    "awaiting as text": {"awaiting": "abc"},
    "awaiting numbers": {"awaiting": [1]},
    "a parent that is a number": {"parent": 5},
    "a metric as text": {"metrics": {"loss": "0.5"}},
    "a metric beyond floats": {"metrics": {"loss": 10**400}},
    "metrics as a list": {"metrics": []},
    "metadata as a list": {"metadata": []},
    "config as text": {"config": "a"},
    "a reason that is none": {"reason": None},
    "negative bytes": {"nbytes": -1},
    "an id that is none": {"id": "x"},
    "an id that is a number": {"id": 5},
}
GOOD = {"file": "a.safetensors", "shard": "a" * 64, "nbytes": 1}
BROKEN_ITEMS = {
    "a shard that is no digest": {"shards": [{**GOOD, "shard": "A" * 64}]},
    "a digest with a line feed": {"shards": [{**GOOD, "shard": "a" * 64 + "\n"}]},
    "a shard without length": {"shards": [{"file": "a.safetensors", "shard": "a" * 64}]},
    "a shard of negative length": {"shards": [{**GOOD, "nbytes": -1}]},
    "shards that are text": {"shards": "abc"},
    "an index that is zero": {"index": 0},
    "an index that is empty": {"index": {}},
    "an index beyond any reader": {
        "index": {"file": "a.safetensors.index.json", "nbytes": MAX_NBYTES + 1, "blake3": "a" * 64}
    },
    "finite as a number": {"finite": 1},
    "parameters as text": {"parameters": "yes"},
}


@pytest.mark.parametrize("members", BROKEN.values(), ids=BROKEN.keys())
def test_an_intact_manifest_that_breaks_a_rule_is_a_format_error(members):
    with pytest.raises(FormatError):
        read(changed(**members))


def test_the_item_that_they_are_made_of_is_fine():
    index = {"file": "a.safetensors.index.json", "nbytes": MAX_NBYTES, "blake3": "a" * 64}
    assert read(with_item(index=index)).items


@pytest.mark.parametrize("members", BROKEN_ITEMS.values(), ids=BROKEN_ITEMS.keys())
def test_an_intact_item_that_breaks_a_rule_is_a_format_error(members):
    with pytest.raises(FormatError):
        read(with_item(**members))


@pytest.mark.parametrize("name", sorted(unseal(DATA, path="x")))
def test_every_member_is_needed(name):
    members = unseal(DATA, path="x")
    del members[name]
    with pytest.raises(FormatError):
        read(seal(members))


def test_members_of_later_versions_are_passed_over():
    assert read(changed(colour="red")) == MANIFEST


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.text("abw", max_size=2), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(name=st.sampled_from(sorted(unseal(DATA, path="x"))), value=JSON)
def test_a_member_of_any_value_is_read_or_refused(name, value):
    data = seal({**unseal(DATA, path="x"), name: value})
    try:
        manifest = read(data)
    except FormatError:
        return
    assert isinstance(manifest, Manifest)


POISONED = [
    ({"a": (True, True), "b": (True, False)}, ()),
    ({"a": (False, True), "b": (True, False)}, ("a",)),
    ({"a": (True, True), "b": (False, False)}, ()),
    ({"a": (True, False), "b": (False, False)}, ("b",)),
    ({}, ()),
]


@pytest.mark.parametrize(("items", "expected"), POISONED, ids=repr)
def test_only_trainable_weights_poison_where_there_are_any(items, expected):
    stored = {n: StoredItem({}, finite=f, parameters=p) for n, (f, p) in items.items()}
    assert replace(MANIFEST, items=stored).poisoned == expected


def test_the_record_for_the_catalog_tells_what_the_manifest_holds():
    record = MANIFEST.record()
    assert record.info.shards == {"a" * 64: 5000, "b" * 64: 6000}
    assert record.info.item_shards == {"model": ("a" * 64, "b" * 64), "notes": ()}
    assert (record.info.items, record.info.thinned) == (("model", "notes"), True)
    assert record.finite == {"model": False, "notes": True}
    assert manifests.FORMAT == 1
