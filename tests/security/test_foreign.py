"""Files of other tools, made by somebody hostile: read within bounds, or refused with a reason."""

import json
import os
import struct
import tarfile
import zipfile
from collections import OrderedDict

import pytest
import torch

import holdfast
from holdfast.errors import ConfigError, FormatError, HoldfastError
from holdfast.lifecycle.importing import read_foreign
from tests.lifecycle.stores import outcome, train


def safetensors(path, members, data=b"", *, length=None):
    """Writes a safetensors file with any header."""
    text = members if isinstance(members, bytes) else json.dumps(members).encode()
    path.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + data)
    return path


def entry(shape, begin=0, end=4, dtype="F32", **more):
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end], **more}


HEADERS = {
    "a million extents": {"a": entry([2**50] * 1_000_000)},
    "sixty-six dimensions": {"a": entry([1] * 66)},
    "a product beyond 64 bits": {"a": entry([2**62, 2**62, 0])},
    "nothing of everything": {"a": entry([0, 2**62], end=0)},
    "an extent below zero": {"a": entry([-1, -1])},
    "a fraction": {"a": entry([1.0])},
    "a truth": {"a": entry([True])},
    "text": {"a": entry("1")},
    "a shape that is a number": {"a": entry(1)},
    "offsets backwards": {"a": entry([1], 4, 0)},
    "offsets beyond the file": {"a": entry([2**40], 0, 2**42)},
    "overlapping": {"a": entry([1]), "b": entry([1])},
    "a gap": {"a": entry([1]), "b": entry([1], 8, 12)},
    "an unknown dtype": {"a": entry([1], dtype="F31")},
    "a dtype that is a list": {"a": entry([1], dtype=["F32"])},
    "three offsets": {"a": {**entry([1]), "data_offsets": [0, 4, 4]}},
    "no offsets": {"a": {"dtype": "F32", "shape": [1]}},
    "an entry that is a list": {"a": []},
    "a list": [],
    "a number": 5,
    "an empty name": {"": entry([1])},
    "a name of skeletons": {"$": entry([1])},
    "a name twice": b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":[]}',
    "deep metadata": b'{"__metadata__":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "half a pair": b'{"\\ud800":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}',
    "a number beyond floats": b'{"a":{"dtype":"F32","shape":[1e999],"data_offsets":[0,4]}}',
    "five thousand digits": b'{"a":{"dtype":"F32","shape":[' + b"9" * 5000 + b"]}}",
    "UTF-16": json.dumps({"a": entry([1])}).encode("utf-16"),
    "a byte order mark": b"\xef\xbb\xbf" + json.dumps({"a": entry([1])}).encode(),
}


@pytest.mark.parametrize("members", HEADERS.values(), ids=HEADERS.keys())
def test_a_header_that_cannot_be_meant_is_refused(tmp_path, members):
    path = safetensors(tmp_path / "a.safetensors", members, bytes(4))
    with pytest.raises(FormatError):
        read_foreign(path)


@pytest.mark.parametrize("length", [2**64 - 1, 2**63, 100 << 20, 5])
def test_a_length_of_a_header_that_the_file_does_not_have_is_refused(tmp_path, length):
    path = safetensors(tmp_path / "a.safetensors", b"{}", length=length)
    with pytest.raises(FormatError, match="no safetensors file"):
        read_foreign(path)


def test_a_file_of_holes_is_refused_before_its_memory_is_taken(tmp_path):
    length = 1 << 43
    path = safetensors(tmp_path / "a.safetensors", {"a": entry([length], 0, length, "U8")})
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size + length)
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (1 << 40, before[1]))
    try:
        with pytest.raises(FormatError, match="more than there is memory"):
            read_foreign(path)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", ["a.safetensors", "a.pt", "a.safetensors.index.json"])
def test_a_pipe_is_no_file(tmp_path, name):
    os.mkfifo(tmp_path / name)
    with pytest.raises(FormatError, match="not a regular file"):
        read_foreign(tmp_path / name)
    if name.endswith((".safetensors", ".json")):
        with pytest.raises((FormatError, ConfigError)):
            read_foreign(tmp_path)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", ["config.json", "trainer_state.json", "checkpoint.json"])
def test_a_description_beyond_its_bounds_is_refused_before_it_is_read(tmp_path, name):
    safetensors(tmp_path / "model.safetensors", {"a": entry([1])}, bytes(4))
    with (tmp_path / name).open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(FormatError, match="more than the"):
        read_foreign(tmp_path)


ELSEWHERE = [
    "../outside.safetensors",
    "/etc/outside.safetensors",
    "folder/outside.safetensors",
    "..",
    ".",
    "",
    ".hidden.safetensors",
    "a\0.safetensors",
    "x" * 300 + ".safetensors",
    "..\\outside.safetensors",
    "．．／outside.safetensors",
    "CON",
    "model\u202e.safetensors",
    5,
    None,
    ["a"],
]


@pytest.mark.parametrize("name", ELSEWHERE, ids=lambda name: repr(name)[:40])
def test_an_index_names_files_of_its_own_folder_alone(tmp_path, name):
    inside = tmp_path / "inside"
    (inside / "folder").mkdir(parents=True)
    for folder in (tmp_path, inside / "folder"):
        safetensors(folder / "outside.safetensors", {"a": entry([1])}, bytes(4))
    index = inside / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": name}}), encoding="utf-8")
    with pytest.raises(FormatError):
        read_foreign(index)


@pytest.mark.parametrize("name", ["../outside", "/etc/outside", "a/b", "..", "", "a\0", "x" * 300])
def test_an_export_names_items_of_its_own_folder_alone(tmp_path, name):
    inside = tmp_path / "inside"
    inside.mkdir()
    safetensors(tmp_path / "outside.safetensors", {"a": entry([1])}, bytes(4))
    described = {"items": {name: {"file": f"{name}.safetensors", "skeleton": {}}}}
    (inside / "checkpoint.json").write_text(json.dumps(described), encoding="utf-8")
    with pytest.raises(FormatError, match="no name of one"):
        read_foreign(inside)


TRAINER = [
    {"global_step": 5, "log_history": [{"step": "4", "loss": 1.0}]},
    {"global_step": 5, "log_history": [{"step": [], "loss": 10**400}]},
    {"global_step": 10**400, "epoch": 10**400, "log_history": [5, None, {"a": {}}]},
    {"global_step": True, "epoch": -1e300, "log_history": {"a": 1}},
    {"epoch": "1", "log_history": None},
]


@pytest.mark.parametrize("state", TRAINER, ids=lambda state: repr(state)[:60])
def test_a_trainers_state_of_any_values_is_read_for_what_it_holds(tmp_path, state):
    safetensors(tmp_path / "model.safetensors", {"a": entry([1])}, bytes(4))
    (tmp_path / "trainer_state.json").write_text(json.dumps(state), encoding="utf-8")
    with holdfast.open(tmp_path / "store") as store:
        checkpoint = store.import_checkpoint(tmp_path, run="imported")
        assert checkpoint.load("model")["a"].tolist() == [0.0]
        assert checkpoint.step in {0, 5}
        assert checkpoint.epoch is None


def test_two_files_never_become_one_item(tmp_path):
    for name in ("a!.safetensors", "a?.safetensors"):
        safetensors(tmp_path / name, {"a": entry([1])}, bytes(4))
    with pytest.raises(FormatError, match="both be the item"):
        read_foreign(tmp_path)


def laughs():
    state = {"weight": torch.zeros(2)}
    for _ in range(60):
        state = {"a": state, "b": state}
    return {"model": state}


def itself():
    state = {"weight": torch.zeros(2)}
    state["again"] = state
    return {"model": state}


STANDS_FOR_MORE = {
    "parts within parts": laughs,
    "itself": itself,
    "one number, repeated": lambda: {"weight": torch.zeros(1).expand(1 << 40)},
    "many views of one tensor": lambda: {
        str(n): torch.zeros(1000).as_strided((500 - n, 500), (1, 1)) for n in range(400)
    },
}


@pytest.mark.timeout(60)
@pytest.mark.parametrize("make", STANDS_FOR_MORE.values(), ids=STANDS_FOR_MORE.keys())
def test_a_torch_file_that_stands_for_more_than_it_holds_is_refused(tmp_path, make):
    path = tmp_path / "a.pt"
    torch.save(make(), path)  # noqa: TID251 - a file of another tool
    with pytest.raises(FormatError, match="far more than it holds"):
        read_foreign(path)


def test_a_torch_archive_that_was_packed_is_refused(tmp_path):
    torch.save({"weight": torch.zeros(1 << 20)}, tmp_path / "a.pt")  # noqa: TID251 - a file of another tool
    with (
        zipfile.ZipFile(tmp_path / "a.pt") as source,
        zipfile.ZipFile(tmp_path / "b.pt", "w", zipfile.ZIP_DEFLATED) as target,
    ):
        for member in source.infolist():
            target.writestr(member.filename, source.read(member))
    assert read_foreign(tmp_path / "a.pt").items["model"]["weight"].shape == (1 << 20,)
    with pytest.raises(FormatError, match="unpacks to more"):
        read_foreign(tmp_path / "b.pt")


class Runs:
    def __reduce__(self):
        return (os.mkdir, ("a-trace-of-code",))


OLD = {"_use_new_zipfile_serialization": False}


@pytest.mark.parametrize("options", [{}, OLD], ids=["archive", "legacy"])
def test_code_in_a_torch_file_does_not_run(tmp_path, monkeypatch, options):
    monkeypatch.chdir(tmp_path)
    torch.save({"model": OrderedDict(a=torch.zeros(1)), "x": Runs()}, tmp_path / "a.pt", **options)  # noqa: TID251 - a file of another tool
    with pytest.raises(FormatError, match="refused by torch"):
        read_foreign(tmp_path / "a.pt")
    assert not (tmp_path / "a-trace-of-code").exists()


def test_a_tape_archive_of_links_is_refused(tmp_path):
    (tmp_path / "secret").write_bytes(b"secret")
    with tarfile.open(tmp_path / "a.pt", "w") as archive:
        for name in ("storages", "tensors", "pickle", "sys_info"):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = tarfile.SYMTYPE, str(tmp_path / "secret")
            archive.addfile(member)
    with pytest.raises(FormatError, match="refused by torch"):
        read_foreign(tmp_path / "a.pt")


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04", b"\x80\x02.", b"\x80\x04\x95" + b"\xff" * 20])
def test_what_is_no_torch_file_is_refused(tmp_path, data):
    (tmp_path / "a.pt").write_bytes(data)
    with pytest.raises(FormatError):
        read_foreign(tmp_path / "a.pt")


TARGETS = ["a\0b", "x" * 300, "missing/../../a", "store"]


@pytest.mark.parametrize("name", TARGETS, ids=lambda name: repr(name)[:20])
@pytest.mark.parametrize("form", ["safetensors", "huggingface", "torch"])
def test_an_export_that_cannot_be_written_leaves_nothing(tmp_path, name, form):
    with holdfast.open(tmp_path / "store") as store:
        checkpoint = train(store, "mine", [1])[0]
        before = sorted(path.name for path in tmp_path.iterdir())
        refused = outcome(lambda: checkpoint.export(tmp_path / name, form))
    assert isinstance(refused, HoldfastError)
    assert sorted(path.name for path in tmp_path.iterdir()) == before
