"""A checkpoint, as a user holds it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from holdfast.catalog import Catalog
from holdfast.engine import names, scanning
from holdfast.engine.manifest import Manifest
from holdfast.engine.sealed import encode_numbers
from holdfast.errors import ConfigError, HoldfastError, IntegrityError, NotFoundError
from holdfast.lifecycle import contents, exporting, loading
from holdfast.lifecycle.contents import StoredTensor
from holdfast.lifecycle.place import Place
from holdfast.model import CheckpointInfo, CheckpointRecord, Kind, flatten_metrics

Progress = Callable[[int], None]


class Checkpoint:
    """An immutable record of a run at a step.

    Only what is said about it changes: late metrics, pins and tags. This object shows them as
    they were when it was got, and as it changed them itself.
    """

    def __init__(self, place: Place, record: CheckpointRecord) -> None:
        self._place = place
        self._record = record
        self._manifest: Manifest | None = None

    def __repr__(self) -> str:
        return f"<Checkpoint {self.id} step {self.step}, {self.kind}, {self.reason!r}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Checkpoint) and other.id == self.id

    def __hash__(self) -> int:
        return hash(self.id)

    # -- what it is --------------------------------------------------------------------------

    @property
    def info(self) -> CheckpointInfo:
        """What policies see of it."""
        return self._record.info

    @property
    def record(self) -> CheckpointRecord:
        """All that the catalog keeps of it."""
        return self._record

    @property
    def id(self) -> str:
        """``<run>_<YYYYMMDD>_<HHMMSS>``, unique in its store."""
        return self.info.id

    @property
    def run(self) -> str:
        """Name of its run."""
        return self.info.run

    @property
    def step(self) -> int:
        """Training step whose state it holds."""
        return self.info.step

    @property
    def epoch(self) -> int | None:
        """Epoch of the step, where it was given."""
        return self.info.epoch

    @property
    def created_at(self) -> float:
        """Seconds since the epoch, UTC."""
        return self.info.created_at

    @property
    def created(self) -> datetime:
        """The same as a datetime in UTC."""
        return datetime.fromtimestamp(self.created_at, UTC)

    @property
    def reason(self) -> str:
        """Why it was saved: a code, and behind a colon the numbers."""
        return self.info.reason

    @property
    def kind(self) -> Kind:
        """``full``, ``weights``, ``partial`` or ``metrics``."""
        return self.info.kind

    @property
    def thinned(self) -> bool:
        """Whether items were taken away from it."""
        return self.info.thinned

    @property
    def metrics(self) -> dict[str, float]:
        """Metric name to value, late reports included."""
        return dict(self.info.metrics)

    @property
    def metadata(self) -> dict[str, object]:
        """What its caller attached."""
        return dict(self._record.metadata)

    @property
    def config(self) -> dict[str, Any]:
        """The run's configuration when it was saved."""
        return dict(self.manifest.config)

    @property
    def items(self) -> tuple[str, ...]:
        """Names of the items that it holds now."""
        return self.info.items

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays of all its items."""
        return self._record.nbytes

    @property
    def stored_nbytes(self) -> int:
        """Bytes that it was the first to write; shards shared with older ones are not counted."""
        return self._record.stored_nbytes

    @property
    def pinned(self) -> bool:
        """Whether it is protected from every policy."""
        return self.info.pinned

    @property
    def tags(self) -> tuple[str, ...]:
        """Its tags, sorted."""
        return self.info.tags

    @property
    def parent(self) -> str | None:
        """Id of the checkpoint that its state descends from."""
        return self.info.parent

    @property
    def path(self) -> Path:
        """Its folder: plain safetensors files that any reader opens."""
        return Path(self._place.storage.absolute(names.folder_of_checkpoint(self.run, self.id)))

    @property
    def manifest(self) -> Manifest:
        """Its manifest, read and checked when first asked for.

        Raises:
            NotFoundError: It was deleted since.
            IntegrityError, FormatError: The manifest is damaged.
        """
        if self._manifest is None:
            self._manifest = self._place.manifest(self.id)
        return self._manifest

    # -- reading -----------------------------------------------------------------------------

    def load(
        self,
        item: str,
        *,
        keys: str | Iterable[str] | None = None,
        into: object | None = None,
        device: object | None = None,
        dtype: object | None = None,
    ) -> Any:
        """Returns an item's state; every tensor was checked against its digest.

        Args:
            item: Name of the item.
            keys: Glob patterns of array names (``"encoder.*"``); only these are read and
                returned, as a flat dict.
            into: A live object to restore into; it is returned.
            device: Where framework tensors go.
            dtype: What floating-point tensors are cast to.

        Raises:
            NotFoundError: No such item, or no array that matches `keys`.
            IntegrityError: A tensor is damaged.
            TreeError: `into` does not fit.
        """
        if into is None:
            patterns = [keys] if isinstance(keys, str) else keys
            return loading.load_item(
                self._place, self.manifest, item, keys=patterns, device=device, dtype=dtype
            )
        if keys is not None or device is not None or dtype is not None:
            raise ConfigError(
                "load(into=...) takes neither keys, device nor dtype",
                hint="the live object decides where its tensors are and what they hold",
            )
        loading.restore(self._place, self.manifest, {item: into})
        return into

    def restore(self, /, *, partial: bool = False, **objects: object) -> list[str]:
        """Restores live objects in place, exactly, each from the item of its keyword.

        Args:
            partial: Load what fits and leave the rest as it is.
            **objects: Item name to live object: ``restore(model=model)``.

        Returns:
            What was loaded: ``item.array`` for each array.

        Raises:
            TreeError: Something is missing, unexpected, or of another shape or dtype; all of it
                is listed, and nothing was changed.
            IntegrityError: A tensor is damaged; the objects hold mixed values then.
        """
        return loading.restore(self._place, self.manifest, objects, partial=partial)

    def restore_objects(self, objects: Mapping[str, object]) -> list[str]:
        """Does what `restore` does, for item names that are no keywords."""
        return loading.restore(self._place, self.manifest, objects)

    def tensors(self, item: str) -> tuple[StoredTensor, ...]:
        """Returns an item's tensors as their files' headers describe them; none is read.

        Raises:
            NotFoundError: No such item, or it was deleted since.
            IntegrityError, FormatError: A header is damaged, missing, or not in this format.
        """
        return contents.tensors_of(self._place, self.manifest, item)

    def verify(self, *, progress: Progress | None = None) -> None:
        """Reads all of it and compares every digest.

        Raises:
            IntegrityError: Something is damaged or missing; all of it is listed.
            FormatError: The manifest breaks the format.
            NotFoundError: It was deleted since.
        """
        found: Sequence[HoldfastError] = ()
        while True:
            self._manifest = None
            manifest = self.manifest
            found = list(
                scanning.verify(self._place.storage, manifest, progress=progress or _ignore)
            )
            if not found or self._place.manifest(self.id).generation == manifest.generation:
                break
            # Thinned by another process meanwhile: its files are gone rightly.
        if found:
            raise IntegrityError(
                f"{self.id} is damaged: " + "; ".join(error.message for error in found),
                hint="use another checkpoint or a mirror",
                path=getattr(found[0], "path", ""),
                paths=tuple({getattr(error, "path", "") for error in found} - {""}),
            )

    def export(self, path: str | Path, format: str = "safetensors") -> Path:
        """Writes it in a form that needs no Holdfast.

        Args:
            path: What to write; it must not exist yet.
            format: ``"safetensors"`` (a folder of plain files), ``"huggingface"`` (a folder that
                Hugging Face's tools read) or ``"torch"`` (one ``.pt`` file, for
                ``torch.load(weights_only=True)``).

        Returns:
            What was written.

        Raises:
            ConfigError: An unknown format, or the path is taken.
            IntegrityError: A tensor is damaged; nothing is left at `path`.
        """
        return exporting.export(self._place, self.manifest, Path(path), format=format)

    # -- saying something about it -----------------------------------------------------------

    def report(self, **late_metrics: object) -> None:
        """Adds metrics that arrived late; from any process, without the run; durable on return.

        Names with slashes go through a mapping: ``report(eval={"loss": 0.3})`` is ``eval/loss``.

        Raises:
            MetricError: A value is not a number.
            NotFoundError: It was deleted since.
        """
        metrics = flatten_metrics(late_metrics)
        self._say(
            {"t": "report", "metrics": encode_numbers(metrics)},
            lambda catalog: catalog.report(self.id, metrics),
            metrics={**self.metrics, **metrics},
        )

    def pin(self) -> None:
        """Protects it from every policy."""
        self._say({"t": "pin"}, lambda catalog: catalog.set_pinned(self.id, True), pinned=True)

    def unpin(self) -> None:
        """Leaves it to the policies again."""
        self._say({"t": "unpin"}, lambda catalog: catalog.set_pinned(self.id, False), pinned=False)

    def tag(self, *tags: str) -> None:
        """Adds tags."""
        named = set(map(names.check_tag, tags))
        self._retag("tag", named, lambda known: known | named)

    def untag(self, *tags: str) -> None:
        """Takes tags away; one that it does not have is no error."""
        self._retag("untag", tags, lambda known: known - set(tags))

    def _retag(
        self, verb: str, changed: Iterable[str], after: Callable[[set[str]], set[str]]
    ) -> None:
        def index(catalog: Catalog) -> None:
            # What the catalog knows, not this object: another process may have tagged it since.
            known = catalog.get(self.id)
            catalog.set_tags(self.id, after(set(known.info.tags if known else ())))

        line = {"t": verb, "tags": sorted(changed)}
        self._say(line, index, tags=tuple(sorted(after(set(self.tags)))))

    def _say(
        self, record: Mapping[str, object], index: Callable[[Catalog], object], **changes: Any
    ) -> None:
        if not self._place.writable:
            raise ConfigError(
                f"{self._place.label} is open for reading only",
                hint='open it with mode="a" where it can be written',
            )
        self._require_manifest()
        line = {"at": time.time(), "id": self.id, **record}

        def tell(catalog: Catalog) -> None:
            # Its writer has not catalogued it yet, and reads the journal when it does; or has
            # deleted it a moment ago.
            with contextlib.suppress(NotFoundError):
                index(catalog)

        # In one step with the mark of what the catalog has seen: killed between the two, it would
        # be taken to know what it does not.
        # Looked for again with the journal to itself: a clean-up deletes in the same way, and
        # either sees this line or comes first.
        self._place.append(
            self.run, [line], durable=True, index=tell, provided=self._require_manifest
        )
        self._record = replace(self._record, info=replace(self.info, **changes))

    def _require_manifest(self) -> None:
        if not self._place.has_manifest(self.run, self.id):
            raise NotFoundError(f"{self.id} was deleted", hint="`holdfast explain` says why")


def _ignore(_: int) -> None:
    pass
