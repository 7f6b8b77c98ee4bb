"""A header prepared without its digests is, filled, the header to the byte."""

import json

import pytest
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.engine.shardfile import (
    ALIGNMENT,
    ITEM_NBYTES,
    HeaderTemplate,
    TensorEntry,
    decode_header,
    file_order,
)

ZEROS = "0" * 64
FIRST_DIGEST = blake3((0).to_bytes(8, "little")).hexdigest()
ODD = [
    '"', "\\", '\\"', "a\nb", "\x00", "ü", "層", "😀", ZEROS, f"x{ZEROS}", f"{ZEROS}0", ZEROS * 2,
    FIRST_DIGEST, f"{ZEROS}.{FIRST_DIGEST}", "0" * 63, "0" * 40, '":"',
    ZEROS[:32] + '"' + ZEROS[:32],
]  # fmt: skip
NAMES = st.sampled_from(ODD) | st.text(
    st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12
).filter(lambda name: name != "__metadata__")
DIGESTS = st.binary(min_size=32, max_size=32).map(bytes.hex) | st.just(ZEROS)


@st.composite
def tensors(draw):
    """Draws entries without digests, and aliases."""
    names = draw(st.lists(NAMES, unique=True, min_size=1, max_size=8))
    split = draw(st.integers(1, len(names)))
    entries = []
    for name in names[:split]:
        dtype = draw(st.sampled_from(sorted(ITEM_NBYTES)))
        size = draw(st.integers(0, 5))
        entries.append(TensorEntry(name, dtype, (size,), "", size * ITEM_NBYTES[dtype]))
    return entries, {alias: draw(st.sampled_from(names[:split])) for alias in names[split:]}


def plain(entries, aliases):
    """Returns the bytes of a header, composed in one go as docs/format.md says."""
    dump = lambda value: json.dumps(value, separators=(",", ":"))  # noqa: E731
    members, begin = {}, 0
    metadata = {"holdfast.blake3": dump({e.name: e.digest for e in entries})}
    if aliases:
        metadata["holdfast.aliases"] = dump(dict(sorted(aliases.items())))
    metadata["holdfast.format"] = "1"
    members["__metadata__"] = dict(sorted(metadata.items()))
    for entry in entries:
        end = begin + entry.nbytes
        members[entry.name] = {
            "dtype": entry.dtype,
            "shape": list(entry.shape),
            "data_offsets": [begin, end],
        }
        begin = end
    text = dump(members).encode("ascii")
    length = -(-(8 + len(text)) // ALIGNMENT) * ALIGNMENT
    return (length - 8).to_bytes(8, "little") + text.ljust(length - 8)


@settings(max_examples=200, deadline=None)
@given(drawn=tensors(), data=st.data())
def test_a_filled_template_is_the_header_to_the_byte_however_often_it_is_filled(drawn, data):
    entries, aliases = drawn
    template = HeaderTemplate(entries, aliases)
    placed = file_order(entries)
    assert [entry.name for entry in template.tensors] == [entry.name for entry in placed]
    for _ in range(2):
        digests = data.draw(st.lists(DIGESTS, min_size=len(placed), max_size=len(placed)))
        filled, header = template.fill(digests)
        expected = [e._replace(digest=d) for e, d in zip(placed, digests, strict=True)]
        assert filled == plain(expected, aliases)
        assert len(filled) == template.data_start == header.data_start
        assert [(e.name, e.digest) for e in header.tensors] == [
            (e.name, e.digest) for e in expected
        ]
        assert header.shard == blake3(filled).hexdigest()
        read = decode_header(filled, file_nbytes=header.nbytes, shard=header.shard, path="x")
        assert read == header


@pytest.mark.parametrize("name", ODD, ids=ascii)
def test_a_name_that_looks_like_a_place_for_a_digest_is_none(name):
    entries = [TensorEntry(name, "F32", (1,), "", 4), TensorEntry("b", "F32", (1,), "", 4)]
    placed = file_order(entries)
    digests = [ZEROS, FIRST_DIGEST]
    filled, _ = HeaderTemplate(entries, {"alias": name}).fill(digests)
    expected = [e._replace(digest=d) for e, d in zip(placed, digests, strict=True)]
    assert filled == plain(expected, {"alias": name})


@pytest.mark.parametrize("count", [0, 1, 3])
def test_as_many_digests_as_tensors_are_needed(count):
    entries = [TensorEntry(name, "F32", (1,), "", 4) for name in "ab"]
    with pytest.raises(ValueError, match="zip"):
        HeaderTemplate(entries, {}).fill([ZEROS] * count)


def test_it_describes_what_has_the_same_form_whatever_its_values():
    entries = [TensorEntry("a", "F32", (2, 3), ZEROS, 24), TensorEntry("b", "F64", (1,), ZEROS, 8)]
    template = HeaderTemplate(entries, {"tied": "a"})
    same = file_order(entry._replace(digest=FIRST_DIGEST, begin=77) for entry in entries)
    assert template.describes(same, {"tied": "a"})
    b, a = same
    for others, aliases in (
        (same, {}),
        (same, {"tied": "b"}),
        (same, {"tied": "a", "too": "a"}),
        ([a, b], {"tied": "a"}),
        ([b], {"tied": "a"}),
        ([b, a._replace(name="c")], {"tied": "a"}),
        ([b, a._replace(dtype="I32")], {"tied": "a"}),
        ([b, a._replace(shape=(3, 2))], {"tied": "a"}),
        ([*same, TensorEntry("z", "U8", (0,), "", 0)], {"tied": "a"}),
    ):
        assert not template.describes(others, aliases)


def test_what_was_passed_may_change_afterwards():
    aliases = {"tied": "a"}
    template = HeaderTemplate([TensorEntry("a", "F32", (1,), "", 4)], aliases)
    before = template.fill([ZEROS])
    aliases["other"] = "a"
    assert template.fill([ZEROS]) == before
    assert template.aliases == {"tied": "a"}
