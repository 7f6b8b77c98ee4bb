"""Shard headers: as safetensors readers want them, and refused when they break a rule."""

import json
import tracemalloc

import numpy as np
import pytest
import safetensors
import safetensors.numpy
import safetensors.torch
import torch
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.engine.shardfile import (
    ITEM_NBYTES,
    MAX_HEADER_NBYTES,
    TensorEntry,
    decode_header,
    encode_header,
    header_nbytes,
)
from holdfast.errors import FormatError, IntegrityError

NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12).filter(
    lambda name: name != "__metadata__"
)


@st.composite
def shards(draw):
    """Draws entries with their bytes, and aliases."""
    names = draw(st.lists(NAMES, unique=True, min_size=1, max_size=6))
    split = draw(st.integers(1, len(names)))
    data, entries = {}, []
    for name in names[:split]:
        dtype = draw(st.sampled_from(sorted(ITEM_NBYTES)))
        shape = tuple(draw(st.lists(st.integers(0, 3), max_size=3)))
        nbytes = int(np.prod(shape, dtype=int)) * ITEM_NBYTES[dtype]
        data[name] = draw(st.binary(min_size=nbytes, max_size=nbytes))
        entries.append(TensorEntry(name, dtype, shape, blake3(data[name]).hexdigest(), nbytes))
    aliases = {alias: draw(st.sampled_from(names[:split])) for alias in names[split:]}
    return entries, data, aliases


def whole_file(entries, data, aliases):
    prefix, header = encode_header(entries, aliases)
    return prefix + b"".join(data[entry.name] for entry in header.tensors), header


def decode(file, *, shard=None):
    nbytes = header_nbytes(file[:8], file_nbytes=len(file), path="x")
    name = shard or blake3(file[:nbytes]).hexdigest()
    return decode_header(file[:nbytes], file_nbytes=len(file), shard=name, path="x")


@settings(max_examples=150, deadline=None)
@given(shards())
def test_a_header_says_what_was_put_into_it(drawn):
    entries, data, aliases = drawn
    file, header = whole_file(entries, data, aliases)
    assert header.data_start % 4096 == 0
    assert header.shard == blake3(file[: header.data_start]).hexdigest()
    assert header.nbytes == len(file)
    assert decode(file, shard=header.shard) == header
    read = {e.name: (e.dtype, e.shape, e.digest, e.nbytes) for e in header.tensors}
    assert read == {e.name: (e.dtype, e.shape, e.digest, e.nbytes) for e in entries}
    assert header.aliases == aliases
    for entry in header.tensors:
        begin = header.data_start + entry.begin
        assert file[begin : begin + entry.nbytes] == data[entry.name]
        assert entry.begin % ITEM_NBYTES[entry.dtype] == 0


@settings(max_examples=60, deadline=None)
@given(shards())
def test_safetensors_reads_every_tensor_of_every_file(tmp_path_factory, drawn):
    entries, data, aliases = drawn
    file, header = whole_file(entries, data, aliases)
    path = tmp_path_factory.getbasetemp() / "shard.safetensors"
    path.write_bytes(file)
    with safetensors.safe_open(path, framework="pt") as opened:
        assert set(opened.keys()) == {entry.name for entry in entries}
        metadata = opened.metadata()
    assert json.loads(metadata["holdfast.blake3"]) == {e.name: e.digest for e in entries}
    assert metadata["holdfast.format"] == "1"
    assert ("holdfast.aliases" in metadata) == bool(aliases)
    tensors = safetensors.torch.load_file(path)
    for entry in header.tensors:
        tensor = tensors[entry.name]
        assert tuple(tensor.shape) == entry.shape
        flat = tensor.contiguous().reshape(-1)
        raw = flat.view(dtype=torch.uint8).numpy().tobytes() if len(flat) else b""
        assert raw == data[entry.name]


def test_numpy_reads_what_numpy_has():
    kinds = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "U8": "|u1", "BOOL": "|b1"}
    data = {kind: np.arange(6).astype(dtype).tobytes() for kind, dtype in kinds.items()}
    entries = [
        TensorEntry(kind, kind, (2, 3), blake3(data[kind]).hexdigest(), len(data[kind]))
        for kind in kinds
    ]
    file, _ = whole_file(entries, data, {})
    arrays = safetensors.numpy.load(file)
    for kind, dtype in kinds.items():
        np.testing.assert_array_equal(arrays[kind], np.arange(6).astype(dtype).reshape(2, 3))


def test_the_same_tensors_in_any_order_make_the_same_shard():
    entries = [TensorEntry(name, "F32", (1,), "0" * 64, 4) for name in "cab"]
    assert encode_header(entries, {}) == encode_header(reversed(entries), {})


def test_a_header_of_any_length_is_padded_to_a_page():
    lengths = set()
    for count in range(1, 60):
        entries = [TensorEntry(f"t{n:02}", "F32", (1,), "0" * 64, 4) for n in range(count)]
        prefix, header = encode_header(entries, {})
        assert len(prefix) == header.data_start == 8 + int.from_bytes(prefix[:8], "little")
        lengths.add(len(prefix))
    assert lengths == {4096, 8192}


# -- what is refused -----------------------------------------------------------------------------

DIGEST = blake3(b"abcd").hexdigest()


def members(**changes):
    """Returns a header's members, with some changed; a tensor `w` of four bytes."""
    base = {
        "__metadata__": {"holdfast.blake3": json.dumps({"w": DIGEST}), "holdfast.format": "1"},
        "w": {"dtype": "U8", "shape": [4], "data_offsets": [0, 4]},
    }
    return {**base, **changes}


def raw(content):
    text = content if isinstance(content, bytes) else json.dumps(content).encode()
    return len(text).to_bytes(8, "little") + text + b"abcd"


def metadata(**changes):
    named = {f"holdfast.{key}": value for key, value in changes.items()}
    return {**members()["__metadata__"], **named}


def tensor(**changes):
    return members(w={"dtype": "U8", "shape": [4], "data_offsets": [0, 4], **changes})


BROKEN = {
    "no metadata": {k: v for k, v in members().items() if k == "w"},
    "no object": [1, 2],
    "metadata no object": members(__metadata__=[1]),
    "metadata of numbers": members(__metadata__={**metadata(), "x": 1}),
    "another format": members(__metadata__=metadata(format="2")),
    "no digests": members(__metadata__={"holdfast.format": "1"}),
    "digests no object": members(__metadata__=metadata(blake3="[]")),
    "digests no JSON": members(__metadata__=metadata(blake3="{")),
    "a tensor without digest": members(__metadata__=metadata(blake3="{}")),
    "a digest that is none": members(__metadata__=metadata(blake3='{"w":[1]}')),
    "a digest that is cut": members(__metadata__=metadata(blake3=json.dumps({"w": DIGEST[:-1]}))),
    "a digest too many": members(
        __metadata__=metadata(blake3=json.dumps({"w": DIGEST, "v": DIGEST}))
    ),
    "an alias of nothing": members(__metadata__=metadata(aliases='{"a":"v"}')),
    "an alias of a list": members(__metadata__=metadata(aliases='{"a":["w"]}')),
    "an alias that is a tensor": members(__metadata__=metadata(aliases='{"w":"w"}')),
    "aliases no object": members(__metadata__=metadata(aliases="[]")),
    "a shape too large": tensor(shape=[5]),
    "a negative extent": tensor(shape=[-4]),
    "a product of negatives": tensor(shape=[-2, -2]),
    "a truth value as an extent": tensor(shape=[True, 4]),
    "a float as an extent": tensor(shape=[4.0]),
    "too many dimensions": tensor(shape=[1] * 65 + [4]),
    "huge extents": tensor(shape=[1 << 4000, 0]),
    "a nested shape": tensor(shape=[[4]]),
    "a shape that is text": tensor(shape="4"),
    "an unknown dtype": tensor(dtype="F4"),
    "a dtype that is a list": tensor(dtype=["U8"]),
    "another member": tensor(extra=[[[[[1]]]]]),
    "a gap at the start": tensor(data_offsets=[1, 5]),
    "offsets turned around": tensor(data_offsets=[4, 0]),
    "three offsets": tensor(data_offsets=[0, 2, 4]),
    "a tensor that is a list": members(w=[0, 4]),
    "an overlap": members(
        __metadata__=metadata(blake3=json.dumps({"w": DIGEST, "v": DIGEST})),
        v={"dtype": "U8", "shape": [4], "data_offsets": [0, 4]},
    ),
    "a name twice": json.dumps(members()).encode()[:-1] + b',"w":{}}',
    "no JSON": b"\0" * 100,
    "nothing": b"",
    "not UTF-8": b'{"\xff":1}',
    "deep": b'{"w":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
}


@pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN.keys())
def test_an_intact_header_that_breaks_a_rule_is_a_format_error(content):
    with pytest.raises(FormatError):
        decode(raw(content))


def test_the_header_that_they_are_made_of_is_fine():
    assert [entry.name for entry in decode(raw(members())).tensors] == ["w"]


@pytest.mark.parametrize("change", [b"", b"abcd" * 2, b"x"], ids=["cut", "doubled", "shorter"])
def test_a_file_of_another_length_than_its_header_says_is_damage(change):
    file = raw(members())[:-4] + change
    with pytest.raises(IntegrityError):
        decode(file)


@pytest.mark.parametrize("length", [MAX_HEADER_NBYTES, 1 << 40, (1 << 64) - 1])
def test_an_absurd_length_is_refused_before_anything_is_read(length):
    with pytest.raises(IntegrityError):
        header_nbytes(length.to_bytes(8, "little"), file_nbytes=1 << 50, path="x")


def test_every_flipped_byte_of_a_header_is_damage():
    file = raw(members())
    name = blake3(file[:-4]).hexdigest()
    for position in range(len(file) - 4):
        flipped = bytearray(file)
        flipped[position] ^= 0x20
        with pytest.raises(IntegrityError):
            decode(bytes(flipped), shard=name)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_mutated_headers_are_refused_or_read_and_never_crash(data):
    text = bytearray(json.dumps(members(__metadata__=metadata(aliases='{"a":"w"}'))).encode())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(text) - 1))
        piece = data.draw(st.sampled_from([b"", b"9", b"-", b'"', b"[", b"}", b"1e9", b"\xff"]))
        text[at : at + data.draw(st.integers(0, 3))] = piece
    tracemalloc.start()
    try:
        header = decode(raw(bytes(text)))
    except (FormatError, IntegrityError):
        header = None
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 4 << 20
    if header is not None:
        assert header.nbytes == header.data_start + 4
