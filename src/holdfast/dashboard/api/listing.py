"""Pages of a listing that stay together whatever is saved or deleted in between."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import holdfast
from holdfast.errors import ConfigError

_COLUMNS: Final = frozenset({"created_at", "step", "epoch", "nbytes", "id"})
_SEAL_NBYTES: Final = 12
_HINT: Final = "ask for the first page again, without a cursor"


@dataclass(frozen=True, slots=True)
class Question:
    """Which checkpoints are asked for, and in which order; as for `Store.checkpoints`."""

    run: str | None
    where: str | None
    order_by: str

    def text(self) -> str:
        """Returns what tells it from another question."""
        return json.dumps([self.run, self.where, self.order_by])


@dataclass(frozen=True, slots=True)
class Listed:
    """A page.

    Attributes:
        items: Its checkpoints.
        cursor: Where the next page begins; None behind the last one.
        total: How many checkpoints there are now that the listing was begun with.
    """

    items: Sequence[holdfast.Checkpoint]
    cursor: str | None
    total: int


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a page ended.

    Attributes:
        began: When the listing began: what was saved later is not in it.
        offset: How many came before the next page, then.
        id: The last of them.
        value: Its value in the field that the listing is ordered by.
        at: When it was saved.
    """

    began: float
    offset: int
    id: str
    value: float | int | str | None
    at: float


def page(
    store: holdfast.Store, question: Question, *, limit: int, cursor: str | None = None
) -> Listed:
    """Returns a page of a listing.

    All pages together hold each checkpoint once that was there from the first page to the last,
    and none twice, whatever was saved or deleted meanwhile. The offset is a guess: where the row
    before it is not the one at which the last page ended, that place is found by bisection.

    Args:
        store: The store.
        question: What is asked for.
        limit: How many at most.
        cursor: Where to go on; None for the first page.

    Raises:
        ConfigError: The filter or the order cannot be read, or the cursor is none of this question.
        NotFoundError: There is no such run.
    """
    # What is wrong with the filter is said of the text that was passed.
    store.checkpoints(question.run, where=question.where, order_by=question.order_by, limit=0)
    if cursor is None:
        place = _Place(_now(store), 0, "", None, 0.0)
    else:
        place = _decoded(store, question, cursor)
    listing = _Listing(store, question, place.began)
    found, offset = listing.behind(place, limit=limit + 1)
    items = found[:limit]
    following = None
    if len(found) > limit:
        last = items[-1]
        end = _Place(
            place.began, offset + len(items), last.id, listing.value(last), last.created_at
        )
        following = _encoded(store, question, end)
    return Listed(items, following, listing.total())


def rows(store: holdfast.Store, question: Question, *, start: int, end: int) -> Listed:
    """Returns the rows of a listing from an offset up to another one, as it is now.

    Errors as for `page`.
    """
    items = store.checkpoints(
        question.run,
        where=question.where,
        order_by=question.order_by,
        limit=end - start,
        offset=start,
    )
    return Listed(items, None, store.count(question.run, where=question.where))


class _Listing:
    """The checkpoints that a listing began with."""

    def __init__(self, store: holdfast.Store, question: Question, began: float) -> None:
        self._store = store
        self._run = question.run
        self._order_by = question.order_by
        asked = (question.where or "").strip()
        self._where = (
            f"{asked} and created_at <= {began!r}" if asked else f"created_at <= {began!r}"
        )
        self._falls = question.order_by.startswith("-")
        self._field = question.order_by.removeprefix("-")

    def total(self) -> int:
        return self._store.count(self._run, where=self._where)

    def value(self, checkpoint: holdfast.Checkpoint) -> float | int | str | None:
        if self._field in _COLUMNS:
            value: float | int | str | None = getattr(checkpoint, self._field)
            return value
        score = checkpoint.metrics.get(self._field.strip("`"))
        return score if score is not None and math.isfinite(score) else None

    def behind(self, place: _Place, *, limit: int) -> tuple[list[holdfast.Checkpoint], int]:
        """Returns what follows a place, and how many come before it now."""
        if not place.offset:
            return self._rows(0, limit), 0
        found = self._rows(place.offset - 1, limit + 1)
        if found and found[0].id == place.id:
            return found[1:], place.offset
        low, high = 0, self.total()
        while low < high:
            middle = (low + high) // 2
            row = self._rows(middle, 1)
            if row and not self._follows(row[0], place):
                low = middle + 1
            else:
                high = middle
        return self._rows(low, limit), low

    def _rows(self, offset: int, limit: int) -> list[holdfast.Checkpoint]:
        return self._store.checkpoints(
            self._run, where=self._where, order_by=self._order_by, limit=limit, offset=offset
        )

    def _follows(self, row: holdfast.Checkpoint, place: _Place) -> bool:
        """Returns whether a row stands behind a place, in the order that the store lists in."""
        value = self.value(row)
        # Those without a value come last, in either direction.
        if (value is None) != (place.value is None):
            return value is None
        later: tuple[Any, ...] = (row.created_at, row.id)
        than: tuple[Any, ...] = (place.at, place.id)
        if value != place.value:
            later, than, falls = (value,), (place.value,), self._falls
        else:
            # Of one value of a metric the earlier comes first, whatever the direction.
            falls = self._falls and self._field in _COLUMNS
        return later < than if falls else later > than


def _now(store: holdfast.Store) -> float:
    """Returns a moment behind all checkpoints, whatever the clock did."""
    newest = store.checkpoints(limit=1)
    return max([time.time(), *(checkpoint.created_at for checkpoint in newest)])


def _seal(store: holdfast.Store, question: Question, body: bytes) -> bytes:
    """Returns what tells a cursor of this store and this question from any other text."""
    key = f"{store.id} {question.text()}".encode()
    return hmac.digest(hashlib.sha256(key).digest(), body, "sha256")[:_SEAL_NBYTES]


def _encoded(store: holdfast.Store, question: Question, place: _Place) -> str:
    body = json.dumps(asdict(place)).encode()
    return base64.urlsafe_b64encode(_seal(store, question, body) + body).decode().rstrip("=")


def _decoded(store: holdfast.Store, question: Question, cursor: str) -> _Place:
    try:
        raw = base64.b64decode(cursor + "=" * (-len(cursor) % 4), b"-_", validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    seal, body = raw[:_SEAL_NBYTES], raw[_SEAL_NBYTES:]
    if not hmac.compare_digest(seal, _seal(store, question, body)):
        raise ConfigError(
            "this cursor is damaged, or of another store, filter, order or run", hint=_HINT
        )
    # Whoever could seal it knows the store; its members are still what they should be.
    return _Place(**json.loads(body))
