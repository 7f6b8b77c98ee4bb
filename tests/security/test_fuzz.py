"""Mutated files, sealed again so that they get past their digest: read, or refused with an error.

`HOLDFAST_FUZZ_EXAMPLES=20000` makes each search as long as that; the default is short. What was
found once stands in corpus/, and is replayed first. A hang ends with the test's timeout, and memory
with the limit on the address space.
"""

import copy
import json
import os
import shutil
import tempfile
from pathlib import Path

import pytest
import torch
from blake3 import blake3
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import holdfast
from holdfast.engine.sealed import unseal
from holdfast.errors import ConfigError, FormatError, HoldfastError, IntegrityError, NotFoundError
from holdfast.lifecycle.importing import Foreign, read_foreign
from tests.lifecycle.stores import outcome
from tests.security.hostile import (
    RUN,
    folders_of,
    journal_of,
    seal_members,
    sealed_line,
    small_store,
    use,
    write,
)

EXAMPLES = int(os.environ.get("HOLDFAST_FUZZ_EXAMPLES", "0"))
CORPUS = Path(__file__).parent / "corpus"
MEMORY_NBYTES = 8 << 30
#: What reading may end with; saving and locking have others.
REFUSALS = (FormatError, IntegrityError, NotFoundError, ConfigError)

pytestmark = pytest.mark.timeout(max(120, 5 * EXAMPLES))


def searched(examples):
    options = settings(
        max_examples=EXAMPLES or examples,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )
    return lambda test: pytest.mark.slow(options(test))


@pytest.fixture(autouse=True)
def bounded_memory(memory_limit):
    with memory_limit(MEMORY_NBYTES):
        yield


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    return small_store(tmp_path_factory.mktemp("fuzz") / "store")


SPECIAL = st.sampled_from(
    [None, True, False, 0, 1, -1, 2**31, 2**53, 2**63 - 1, 2**63, 2**64, 10**300, 1.5, -0.0, 1e308,
     "", "x", "..", "../x", "/", "\0", "NaN", "Infinity", "\x1b[2J", "\ud800", "\u202e", "a" * 300,
     RUN, f"{RUN}_20250101_000000", "a" * 64, "model.safetensors", "$", "array", "tensor",
     "float32", [], {}, [[]], [{}], {"$": "tensor"}, {"a": {"a": {}}}, [0] * 70,
     [2**62, 2**62], [0, 2**62]]
)  # fmt: skip
VALUES = st.recursive(
    SPECIAL
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=4),
    lambda part: (
        st.lists(part, max_size=3) | st.dictionaries(st.text(max_size=3), part, max_size=3)
    ),
    max_leaves=8,
)


def places(node, path=()):
    """Lists the paths of all values in a JSON value."""
    found = [path]
    if isinstance(node, (dict, list)):
        for key, part in node.items() if isinstance(node, dict) else enumerate(node):
            found += places(part, (*path, key))
    return found


@st.composite
def edited(draw, value):
    """Draws the value with up to three of its parts replaced, removed, doubled or swapped."""
    value = copy.deepcopy(value)
    for _ in range(draw(st.integers(1, 3))):
        known = [path for path in places(value) if path]
        if not known:
            return draw(VALUES)
        path = draw(st.sampled_from(known))
        owner = value
        for key in path[:-1]:
            owner = owner[key]
        match draw(st.sampled_from(["replace", "remove", "copy", "rename"])):
            case "replace":
                owner[path[-1]] = draw(VALUES)
            case "remove":
                del owner[path[-1]]
            case "copy":
                owner[path[-1]] = copy.deepcopy(at(value, draw(st.sampled_from(known))))
            case "rename" if isinstance(owner, dict):
                owner[draw(st.text(max_size=3) | st.sampled_from(["../x", "$", ""]))] = owner.pop(
                    path[-1]
                )
            case _:
                owner.insert(0, draw(VALUES))
    return value


def at(value, path):
    for key in path:
        value = value[key]
    return value


@st.composite
def flipped(draw, data):
    """Draws bytes with some of them changed, cut out or doubled."""
    data = bytearray(data)
    for _ in range(draw(st.integers(1, 4))):
        begin = draw(st.integers(0, max(0, len(data) - 1)))
        end = min(len(data), begin + draw(st.integers(0, 8)))
        data[begin:end] = draw(st.binary(max_size=8) | st.just(bytes(data[begin:end]) * 2))
    return bytes(data)


def tried(original, change):
    """Uses a copy of the store with one change, and returns what was refused."""
    with tempfile.TemporaryDirectory(dir=original.parent) as folder:
        root = shutil.copytree(original, Path(folder) / "store")
        change(root)
        refused = use(root)
    assert all(isinstance(error, HoldfastError) and error.message for error in refused)
    return refused


def opened(original, change):
    """Reads a copy of the store with one change: open, look up, load, verify."""
    with tempfile.TemporaryDirectory(dir=original.parent) as folder:
        root = shutil.copytree(original, Path(folder) / "store")
        change(root)
        refused = outcome(lambda: read_all(root))
        assert refused is None or isinstance(refused, REFUSALS)


def read_all(root):
    with holdfast.open(root, mode="r") as store:
        for checkpoint in store.checkpoints():
            for item in checkpoint.items:
                checkpoint.load(item)
            checkpoint.verify()


def manifest(root):
    return folders_of(root)[0] / "manifest.json"


def replacing(path, data):
    return lambda root: write(path(root), data)


@searched(30)
@given(data=st.data())
def test_manifests_with_other_members(original, data):
    members = unseal(manifest(original).read_bytes(), path="x")
    sealed = seal_members(data.draw(edited(members)))
    opened(original, replacing(manifest, sealed))


@searched(20)
@given(data=st.data())
def test_manifests_with_other_skeletons(original, data):
    members = unseal(manifest(original).read_bytes(), path="x")
    item = data.draw(st.sampled_from(sorted(members["items"])))
    part = members["items"][item]
    part["skeleton"] = data.draw(edited(part["skeleton"]))
    opened(original, replacing(manifest, seal_members(members)))


@searched(20)
@given(data=st.data())
def test_manifests_with_other_bytes(original, data):
    body = manifest(original).read_bytes()[:-78]
    changed = data.draw(flipped(body))
    sealed = changed + b',"digest":"' + blake3(changed).hexdigest().encode() + b'"}\n'
    opened(original, replacing(manifest, sealed))


@searched(12)
@given(data=st.data())
def test_journals_with_other_lines(original, data):
    lines = journal_of(original).read_bytes().splitlines()
    number = data.draw(st.integers(0, len(lines) - 1))
    record = json.loads(lines[number])
    del record["digest"]
    changed = sealed_line(json.dumps(data.draw(edited(record)))[:-1])
    lines[number] = changed.rstrip(b"\n")
    tried(original, replacing(journal_of, b"\n".join([*lines, changed])))


@searched(8)
@given(data=st.data())
def test_journals_with_other_bytes(original, data):
    tried(original, replacing(journal_of, data.draw(flipped(journal_of(original).read_bytes()))))


@searched(20)
@given(data=st.data())
def test_the_stores_own_file_with_other_members(original, data):
    members = unseal((original / "holdfast.json").read_bytes(), path="x")
    sealed = seal_members(data.draw(edited(members)))
    opened(original, lambda root: write(root / "holdfast.json", sealed))


@searched(30)
@given(data=st.data())
def test_headers_of_shards_with_other_members(original, data):
    """The header is sealed by its name: the manifest is changed to name what it is now."""
    path = folders_of(original)[0] / "model.safetensors"
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    inner = header["__metadata__"]
    if data.draw(st.booleans()):
        digests = data.draw(edited(json.loads(inner["holdfast.blake3"])))
        inner["holdfast.blake3"] = json.dumps(digests)
    if data.draw(st.booleans()):
        inner["holdfast.aliases"] = json.dumps(data.draw(edited({"alias": "weight", "x": "bias"})))
    if data.draw(st.booleans()):
        header = data.draw(edited(header))
    text = json.dumps(header).encode()
    prefix = len(text).to_bytes(8, "little") + text
    shard = prefix + content[8 + length :]

    def change(root):
        members = unseal(manifest(root).read_bytes(), path="x")
        entry = members["items"]["model"]["shards"][0]
        entry["shard"], entry["nbytes"] = blake3(prefix).hexdigest(), len(shard)
        write(manifest(root), seal_members(members))
        write(folders_of(root)[0] / "model.safetensors", shard)

    opened(original, change)


@pytest.fixture(scope="module")
def foreign(original, tmp_path_factory):
    """An export, a folder of several files with an index, and a torch file."""
    folder = tmp_path_factory.mktemp("foreign")
    with holdfast.open(original, mode="r") as store:
        checkpoint = store.latest(RUN)
        checkpoint.export(folder / "export")
        checkpoint.export(folder / "hf", "huggingface")
    index = {"weight_map": {"weight": "model.safetensors", "bias": "model.safetensors"}}
    (folder / "hf/model.safetensors.index.json").write_text(json.dumps(index))
    trainer = {"global_step": 3, "epoch": 1.5, "log_history": [{"step": 1, "loss": 0.5}]}
    (folder / "hf/trainer_state.json").write_text(json.dumps(trainer))
    torch.save({"model": {"w": torch.ones(2)}, "step": 3}, folder / "a.pt")  # noqa: TID251 - read back
    return folder


def imported(path):
    result = outcome(lambda: read_foreign(path))
    assert isinstance(result, (Foreign, FormatError, ConfigError))


JSONS = ["export/checkpoint.json", "hf/model.safetensors.index.json", "hf/trainer_state.json"]


@searched(40)
@given(data=st.data(), name=st.sampled_from(JSONS))
def test_descriptions_of_other_tools_with_other_members(foreign, data, name):
    with tempfile.TemporaryDirectory(dir=foreign) as folder:
        source, file = name.split("/")
        copied = shutil.copytree(foreign / source, Path(folder) / source)
        value = data.draw(edited(json.loads((copied / file).read_text())))
        (copied / file).write_text(json.dumps(value))
        imported(copied)


@searched(60)
@given(data=st.data(), name=st.sampled_from(["hf/model.safetensors", "a.pt"]))
def test_files_of_other_tools_with_other_bytes(foreign, data, name):
    with tempfile.TemporaryDirectory(dir=foreign) as folder:
        path = Path(folder) / Path(name).name
        path.write_bytes(data.draw(flipped((foreign / name).read_bytes())))
        imported(path)


@searched(40)
@given(data=st.data())
def test_headers_of_other_tools_with_other_members(foreign, data):
    content = (foreign / "hf/model.safetensors").read_bytes()
    length = int.from_bytes(content[:8], "little")
    text = json.dumps(data.draw(edited(json.loads(content[8 : 8 + length])))).encode()
    with tempfile.TemporaryDirectory(dir=foreign) as folder:
        path = Path(folder) / "a.safetensors"
        path.write_bytes(len(text).to_bytes(8, "little") + text + content[8 + length :])
        imported(path)


@pytest.mark.parametrize("path", sorted(CORPUS.glob("journal-*.json")), ids=lambda path: path.stem)
def test_what_was_found_in_journals_once_stays_mended(original, path):
    records = json.loads(path.read_text(encoding="utf-8"))
    for record in records:
        # An id that is not given is that of a checkpoint which is there.
        record.setdefault("id", folders_of(original)[0].name)
    lines = b"".join(sealed_line(json.dumps(record)[:-1]) for record in records)
    change = replacing(journal_of, journal_of(original).read_bytes() + lines)
    assert tried(original, change) == []


@pytest.mark.parametrize("path", sorted(CORPUS.glob("manifest-*.json")), ids=lambda path: path.stem)
def test_what_was_found_in_manifests_once_stays_mended(original, path):
    members = unseal(manifest(original).read_bytes(), path="x")
    members |= json.loads(path.read_text(encoding="utf-8"))
    opened(original, replacing(manifest, seal_members(members)))


def test_there_is_a_corpus_and_each_file_is_explained():
    told = (CORPUS / "README.md").read_text(encoding="utf-8")
    files = sorted(path.name for path in CORPUS.glob("*.json"))
    assert len(files) > 3
    assert [name for name in files if f"`{name}`" not in told] == []
