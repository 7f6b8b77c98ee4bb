"""Sizes that cannot be meant are refused before their memory is taken: there are 2 GiB more."""

import json
import shutil
import sys

import numpy as np
import pytest
from blake3 import blake3

import holdfast
from holdfast import keep, when
from holdfast.engine.manifest import MAX_NBYTES
from holdfast.engine.sealed import MAX_NESTING, encode_numbers, parse_strict, unseal
from holdfast.errors import ConfigError, FormatError, HoldfastError, IntegrityError, SaveError
from tests.lifecycle.stores import outcome
from tests.security.hostile import RUN, edit, folders_of, seal_members, small_store, use, write

MEMORY_NBYTES = 2 << 30


@pytest.fixture(autouse=True)
def bounded_memory(memory_limit):
    with memory_limit(MEMORY_NBYTES):
        yield


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    return small_store(tmp_path_factory.mktemp("sizes") / "store")


@pytest.fixture
def root(original, tmp_path):
    return shutil.copytree(original, tmp_path / "store")


def load(root):
    with holdfast.open(root, mode="r") as store:
        return store.get(folders_of(root)[0].name).load("model")


def with_item(root, **members):
    def change(manifest):
        manifest["items"]["model"].update(members)

    edit(folders_of(root)[0] / "manifest.json", change)


def nested(depth):
    value = 1
    for _ in range(depth):
        value = [value]
    return value


SPARSE = ["holdfast.json", "runs/mine/{id}/manifest.json", "runs/mine/{id}/model.safetensors"]


@pytest.mark.parametrize("name", SPARSE)
def test_a_file_of_a_terabyte_of_holes_is_refused(root, name):
    path = root / name.format(id=folders_of(root)[0].name)
    path.chmod(0o644)
    with path.open("r+b") as file:
        file.truncate(1 << 40)
    assert isinstance(outcome(lambda: load(root)), (FormatError, IntegrityError))
    for error in use(root):
        assert isinstance(error, HoldfastError)


TENSOR = {"$": "tensor", "array": "weight", "dtype": "float32"}
SKELETONS = {
    "larger than any disk": {**TENSOR, "shape": [2**57]},
    "larger than memory": {**TENSOR, "shape": [2**40]},
    "zeros and giants": {**TENSOR, "shape": [0, 2**59, 2**59]},
    "of a shard that is not there": {**TENSOR, "array": "nowhere", "shape": [2**32]},
    "sixty-five dimensions": {**TENSOR, "shape": [1] * 65},
    "below zero": {**TENSOR, "shape": [-1]},
    "fractions": {**TENSOR, "shape": [1.5]},
    "truths": {**TENSOR, "shape": [True]},
    "text": {**TENSOR, "shape": "3"},
    "raw bytes of another length": {"$": "array", "array": "weight", "dtype": "|V999999999",
                                    "shape": [2**20]},
    "a dtype of Python's objects": {"$": "array", "array": "weight", "dtype": "|O8", "shape": [1]},
    "an enormous text": {"$": "scalar", "dtype": "<U999999999", "base64": ""},
    "deep": nested(900),
}  # fmt: skip


@pytest.mark.parametrize("skeleton", SKELETONS.values(), ids=SKELETONS.keys())
def test_an_array_that_cannot_be_there_takes_no_memory(root, skeleton):
    with_item(root, skeleton={"a": skeleton})
    with pytest.raises((FormatError, IntegrityError)):
        load(root)


def test_one_array_in_many_places_is_one_array(root):
    node = {**TENSOR, "shape": [3, 2]}
    with_item(root, skeleton=[node] * 20_000)
    loaded = load(root)
    assert len(loaded) == 20_000
    assert len({id(tensor) for tensor in loaded}) == 1


def reheaded(root, text):
    """Gives the model's shard another header, named and sealed as if it were right."""
    folder = folders_of(root)[0]
    content = (folder / "model.safetensors").read_bytes()
    data = content[8 + int.from_bytes(content[:8], "little") :]
    prefix = len(text).to_bytes(8, "little") + text
    write(folder / "model.safetensors", prefix + data)
    members = unseal((folder / "manifest.json").read_bytes(), path="x")
    members["items"]["model"]["shards"][0] |= {
        "shard": blake3(prefix).hexdigest(),
        "nbytes": len(prefix) + len(data),
    }
    write(folder / "manifest.json", seal_members(members))


def header(tensors, aliases=None, digests=None):
    said = dict.fromkeys(tensors, "a" * 64) if digests is None else digests
    metadata = {"holdfast.format": "1", "holdfast.blake3": json.dumps(said)}
    if aliases is not None:
        metadata["holdfast.aliases"] = json.dumps(aliases)
    return json.dumps({"__metadata__": metadata, **tensors}).encode()


def entry(shape, begin, end, dtype="F32"):
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


WHOLE = {"weight": entry([3, 2], 0, 24), "bias": entry([2], 24, 32)}
HEADERS = {
    "a million extents": header({"weight": entry([2**50] * 1_000_000, 0, 32)}),
    "a product beyond 64 bits": header({"weight": entry([2**59, 2**59], 0, 32)}),
    "nothing of everything": header({**WHOLE, "c": entry([0, 2**62], 32, 32)}),
    "overlapping": header({**WHOLE, "bias": entry([2], 20, 28)}),
    "beyond the file": header({**WHOLE, "c": entry([2**30], 32, 32 + 2**32)}),
    "an alias of an alias": header(WHOLE, {"a": "b", "b": "a"}),
    "an alias of itself": header(WHOLE, {"a": "a"}),
    "an alias that is a list": header(WHOLE, {"a": ["weight"]}),
    "aliases that are a list": header(WHOLE, ["weight"]),
    "aliases that are deep": header(WHOLE, nested(900)),
    "digests that are a list": header(WHOLE, digests=["weight"]),
    "no digests": b'{"__metadata__":{"holdfast.format":"1"}}',
    "no metadata": json.dumps(WHOLE).encode(),
    "a list": b"[]",
    "deep": b"[" * 200_000 + b"]" * 200_000,
    "a name twice": b'{"__metadata__":{"holdfast.format":"1","holdfast.format":"1"}}',
    "metadata in metadata": json.dumps({"__metadata__": {"__metadata__": {}}}).encode(),
    "nothing": b"",
}


@pytest.mark.parametrize("text", HEADERS.values(), ids=HEADERS.keys())
def test_a_header_that_cannot_be_meant_is_refused(root, text):
    reheaded(root, text)
    with pytest.raises((FormatError, IntegrityError)):
        load(root)


@pytest.mark.parametrize("length", [2**64 - 1, 2**63, 2**32, 101 << 20])
def test_a_length_of_a_header_is_no_reason_to_take_memory(root, length):
    path = folders_of(root)[0] / "model.safetensors"
    write(path, length.to_bytes(8, "little") + path.read_bytes()[8:])
    with pytest.raises(IntegrityError, match="its header would have"):
        load(root)


def test_integers_are_bounded_even_where_a_program_lifted_pythons_limit():
    before = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(0)
    try:
        with pytest.raises(FormatError, match="an integer of 5000000 digits"):
            parse_strict(b"[" + b"9" * 5_000_000 + b"]", path="x")
        assert parse_strict(b"[12]", path="x") == [12]
    finally:
        sys.set_int_max_str_digits(before)


@pytest.mark.parametrize("text", [b"[1e999]", b'{"a":-1E400}', b'{"a":{"b":[1,1e309]}}'])
def test_a_number_beyond_floats_is_no_number(text):
    with pytest.raises(FormatError, match="beyond what floats hold"):
        parse_strict(text, path="x")
    assert parse_strict(b"[1e308, -0, 1E-400]", path="x") == [1e308, 0, 0.0]


@pytest.mark.parametrize("name", ["metadata", "config"])
@pytest.mark.parametrize("depth", [MAX_NESTING, MAX_NESTING + 5, 480, 900])
def test_what_people_attach_is_nested_within_bounds(root, name, depth):
    path = folders_of(root)[0] / "manifest.json"
    edit(path, lambda members: {**members, name: {"a": nested(depth - 1)}})
    with holdfast.open(root, mode="r") as store:
        checkpoint = store.get(folders_of(root)[0].name)
        assert checkpoint.info.damaged is (depth > MAX_NESTING)


def test_nobody_attaches_what_nobody_could_read(tmp_path):
    itself: dict[str, object] = {}
    itself["again"] = itself
    for value in (itself, nested(200), {"a": nested(2000)}):
        with pytest.raises(ConfigError, match="nested more than 100 levels"):
            encode_numbers(value)
    with holdfast.open(tmp_path / "store") as store:
        with pytest.raises(ConfigError, match="nested"):
            store.run(RUN, config={"a": itself})
        run = store.run(RUN, save=when.never(), keep=keep.all())
        run.attach(model={"w": np.zeros(2)})
        assert isinstance(outcome(lambda: run.save(0, metadata=itself).wait()), HoldfastError)
        assert run.save(1, metadata={"a": 1}).wait().step == 1
        run.close()


def test_a_manifest_that_no_reader_takes_is_not_written(tmp_path, monkeypatch):
    monkeypatch.setattr("holdfast.engine.manifest.MAX_NBYTES", 4000)
    with holdfast.open(tmp_path / "store") as store:
        run = store.run(RUN, save=when.never(), keep=keep.all())
        run.attach(model={"w": np.zeros(2)})
        refused = outcome(lambda: run.save(0, metadata={"long": "x" * 5000}).wait())
        assert isinstance(refused, (ConfigError, SaveError))
        assert "is most" in str(refused)
        assert run.checkpoints() == []
        assert outcome(run.close) is refused
    assert MAX_NBYTES == 256 << 20
