"""What a checkpoint holds, as the headers of its files say it."""

from __future__ import annotations

from dataclasses import dataclass

from holdfast.engine import reader
from holdfast.engine.manifest import Manifest
from holdfast.lifecycle.loading import telling_deleted
from holdfast.lifecycle.place import Place


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """A tensor of a checkpoint.

    Attributes:
        name: Its name within its item.
        dtype: Its safetensors dtype.
        shape: Its stored shape.
        nbytes: Its length in bytes.
        digest: BLAKE3 of its bytes, in hexadecimal.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    nbytes: int
    digest: str


def tensors_of(place: Place, manifest: Manifest, item: str) -> tuple[StoredTensor, ...]:
    """Returns the tensors of an item by name, those that are tied to another one included.

    Raises:
        NotFoundError: There is no such item (any more).
        IntegrityError, FormatError: A header is damaged, missing, or not in this format.
    """
    with telling_deleted(place, manifest, [item]):
        located = reader.locate(place.storage, manifest, item)
    return tuple(
        StoredTensor(
            name, found.entry.dtype, found.entry.shape, found.entry.nbytes, found.entry.digest
        )
        for name, found in sorted(located.items())
    )
