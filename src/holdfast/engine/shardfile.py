"""A shard's header: safetensors with a digest per tensor (docs/format.md, "Shards")."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from blake3 import blake3

from holdfast.engine.sealed import dump_strict, parse_strict
from holdfast.errors import FormatError, IntegrityError

FORMAT: Final = "1"
ALIGNMENT: Final = 4096
MAX_HEADER_NBYTES: Final = 100 << 20

#: safetensors dtype to bytes per element.
ITEM_NBYTES: Final[Mapping[str, int]] = {
    "F64": 8, "I64": 8, "U64": 8, "C64": 8,
    "F32": 4, "I32": 4, "U32": 4,
    "F16": 2, "BF16": 2, "I16": 2, "U16": 2,
    "I8": 1, "U8": 1, "BOOL": 1, "F8_E4M3": 1, "F8_E5M2": 1,
}  # fmt: skip


_MEMBERS: Final = frozenset({"dtype", "shape", "data_offsets"})
#: docs/format-state.md, "Dtypes": 64, and one for the item size of raw bytes.
_MAX_DIMENSIONS: Final = 65
_MAX_NBYTES: Final = 1 << 60
_DIGEST_DIGITS: Final = 64


class TensorEntry(NamedTuple):
    """One tensor of a shard; a named tuple, because a save makes thousands of them.

    Attributes:
        name: Its name within its item.
        dtype: safetensors dtype.
        shape: Stored shape.
        digest: BLAKE3 of its bytes, in hexadecimal.
        begin: Offset of its first byte, counted from the end of the header.
        nbytes: Its length.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    digest: str
    nbytes: int
    begin: int = 0


@dataclass(frozen=True, slots=True)
class Header:
    """A shard's header.

    Attributes:
        tensors: In file order.
        aliases: Alias to the name of the tensor it is tied to.
        data_start: Length of the header with its length field: where the first tensor begins.
        shard: The shard's name: the digest of these bytes.
    """

    tensors: tuple[TensorEntry, ...]
    aliases: Mapping[str, str] = field(default_factory=dict)
    data_start: int = 0
    shard: str = ""

    @property
    def nbytes(self) -> int:
        """Length of the whole file."""
        last = self.tensors[-1] if self.tensors else None
        return self.data_start + (last.begin + last.nbytes if last else 0)


def file_order(tensors: Iterable[TensorEntry]) -> list[TensorEntry]:
    """Returns tensors in the order in which a shard holds them: wide elements first, then names.

    Wide elements first keeps each tensor aligned to its element without any gaps.
    """
    return sorted(tensors, key=lambda entry: (-ITEM_NBYTES[entry.dtype], entry.name))


def encode_header(
    tensors: Iterable[TensorEntry], aliases: Mapping[str, str]
) -> tuple[bytes, Header]:
    """Returns the bytes of a header, padded, and what they say.

    Args:
        tensors: In any order; their `begin` is not looked at.
        aliases: Alias to the name of a tensor among them.
    """
    placed = file_order(tensors)
    return HeaderTemplate(placed, aliases).fill([entry.digest for entry in placed])


class HeaderTemplate:
    """A shard's header but for its digests, which are all equally long.

    Args:
        tensors: In any order; their `begin` and `digest` are not looked at.
        aliases: Alias to the name of a tensor among them.

    Attributes:
        tensors: In file order, each with its `begin`.
        aliases: As given.
        data_start: Length of the header with its length field.
    """

    def __init__(self, tensors: Iterable[TensorEntry], aliases: Mapping[str, str]) -> None:
        placed: list[TensorEntry] = []
        begin = 0
        for entry in file_order(tensors):
            placed.append(entry._replace(begin=begin, digest=""))
            begin += entry.nbytes
        self.tensors = tuple(placed)
        self.aliases = dict(aliases)
        parts: list[bytes] = []
        for placeholder in _placeholders():
            text = self._text(placeholder)
            parts = text.split(placeholder.encode())
            # But for a name that holds the very same 64 digits, the first one does.
            if len(parts) == len(placed) + 1:
                break
        length = 8 + sum(map(len, parts)) + _DIGEST_DIGITS * len(placed)
        self.data_start = -(-length // ALIGNMENT) * ALIGNMENT
        self._parts = parts

    def describes(self, tensors: Iterable[TensorEntry], aliases: Mapping[str, str]) -> bool:
        """Whether it is the header of these, given in file order, whatever their values."""
        mine = [(entry.name, entry.dtype, entry.shape) for entry in self.tensors]
        theirs = [(entry.name, entry.dtype, entry.shape) for entry in tensors]
        return mine == theirs and self.aliases == aliases

    def fill(self, digests: Sequence[str]) -> tuple[bytes, Header]:
        """Returns the bytes of the header, padded, and what they say.

        Args:
            digests: One for each of `tensors`, in their order.
        """
        woven = [self._parts[0]]
        for digest, part in zip(digests, self._parts[1:], strict=True):
            woven += (digest.encode(), part)
        text = b"".join(woven)
        data = (self.data_start - 8).to_bytes(8, "little") + text.ljust(self.data_start - 8)
        tensors = tuple(
            TensorEntry(name, dtype, shape, digest, nbytes, begin)
            for (name, dtype, shape, _, nbytes, begin), digest in zip(
                self.tensors, digests, strict=True
            )
        )
        return data, Header(tensors, self.aliases, self.data_start, blake3(data).hexdigest())

    def _text(self, placeholder: str) -> bytes:
        digests = {entry.name: placeholder for entry in self.tensors}
        metadata = {"holdfast.blake3": dump_strict(digests).decode()}
        if self.aliases:
            aliases = dict(sorted(self.aliases.items()))
            metadata["holdfast.aliases"] = dump_strict(aliases).decode()
        metadata["holdfast.format"] = FORMAT
        members: dict[str, object] = {"__metadata__": dict(sorted(metadata.items()))}
        for entry in self.tensors:
            members[entry.name] = {
                "dtype": entry.dtype,
                "shape": list(entry.shape),
                "data_offsets": [entry.begin, entry.begin + entry.nbytes],
            }
        return dump_strict(members)


def _placeholders() -> Iterator[str]:
    yield "0" * _DIGEST_DIGITS
    for number in itertools.count():
        yield blake3(number.to_bytes(8, "little")).hexdigest()


def decode_header(data: bytes, *, file_nbytes: int, shard: str, path: str) -> Header:
    """Checks and parses the first bytes of a shard.

    Args:
        data: The length field and the header.
        file_nbytes: Length of the whole file.
        shard: The name that the manifest gives it.
        path: For messages.

    Raises:
        IntegrityError: The bytes are not those of the shard of that name.
        FormatError: They are, but break a rule of the format.
    """
    if blake3(data).hexdigest() != shard:
        raise IntegrityError(
            f"{path} is damaged: its header does not match the shard's name",
            hint="use another checkpoint or a mirror",
            path=path,
        )
    members = parse_strict(data[8:], path=path)
    try:
        header = _interpret(members, len(data), shard)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise FormatError(
            f"{path} has a header that breaks the format: {error}", hint="delete the checkpoint"
        ) from error
    if header.nbytes != file_nbytes:
        raise IntegrityError(
            f"{path} has {file_nbytes} bytes, its header accounts for {header.nbytes}",
            hint="the file was cut or extended: use another checkpoint or a mirror",
            path=path,
        )
    return header


def header_nbytes(first_eight: bytes, *, file_nbytes: int, path: str) -> int:
    """Returns how many bytes to read for the header, its length field included.

    Raises:
        IntegrityError: The length cannot be right for this file.
    """
    nbytes = 8 + int.from_bytes(first_eight, "little")
    if nbytes > min(file_nbytes, MAX_HEADER_NBYTES):
        raise IntegrityError(
            f"{path} is damaged: its header would have {nbytes} bytes",
            hint="use another checkpoint or a mirror",
            path=path,
        )
    return nbytes


def _interpret(members: dict[str, Any], data_start: int, shard: str) -> Header:
    metadata = members.pop("__metadata__")
    if metadata["holdfast.format"] != FORMAT:
        raise ValueError(f"format {metadata['holdfast.format']!r} instead of {FORMAT!r}")
    digests = parse_strict(metadata["holdfast.blake3"].encode(), path="holdfast.blake3")
    aliases = parse_strict(metadata.get("holdfast.aliases", "{}").encode(), path="holdfast.aliases")
    if not all(isinstance(text, str) for text in metadata.values()):
        raise TypeError("metadata that is no text")
    tensors = [_tensor(name, entry, digests[name]) for name, entry in members.items()]
    if len(digests) != len(tensors):
        unknown = sorted(digests.keys() - members.keys())
        raise ValueError(f"digests of tensors that are not there: {unknown[:3]}")
    end = 0
    for entry in tensors:
        if entry.begin != end:
            raise ValueError("the tensors leave gaps or overlap")
        end += entry.nbytes
    known = members.keys()
    if not all(isinstance(target, str) and target in known for target in aliases.values()):
        raise ValueError("an alias of a tensor that is not there")
    if known & aliases.keys():
        raise ValueError(f"aliases that are tensors, too: {sorted(known & aliases.keys())[:3]}")
    return Header(tuple(tensors), aliases, data_start, shard)


def _tensor(name: str, entry: dict[str, Any], digest: object) -> TensorEntry:
    if entry.keys() != _MEMBERS:
        raise ValueError(f"{name!r} has other members than {sorted(_MEMBERS)}")
    begin, end = entry["data_offsets"]
    shape = tuple(entry["shape"])
    check_extents(name, shape, begin, end)
    if end - begin != math.prod(shape) * ITEM_NBYTES[entry["dtype"]]:
        raise ValueError(f"{name!r} has {end - begin} bytes, not what its shape says")
    if not isinstance(digest, str) or len(digest) != _DIGEST_DIGITS:
        raise ValueError(f"{name!r} has no digest")
    return TensorEntry(name, entry["dtype"], shape, digest, end - begin, begin)


def check_extents(name: str, shape: Sequence[object], begin: object, end: object) -> None:
    """Raises `ValueError` where a shape or offsets are no sizes, or beyond what the format allows.

    They are bounded before they are multiplied: a product of a million extents takes minutes.
    """
    if len(shape) > _MAX_DIMENSIONS:
        raise ValueError(f"{name!r} has {len(shape)} dimensions")
    for extent in (begin, end, *shape):
        if type(extent) is not int or not 0 <= extent < _MAX_NBYTES:
            raise ValueError(f"{name!r} has a shape or offsets that are no sizes")
