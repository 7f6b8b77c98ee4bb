"""Members of a journal's lines as the values that they must be; errors as `engine.members`."""

from __future__ import annotations

from typing import Any, cast

from holdfast.engine import names
from holdfast.engine.journal import Record
from holdfast.engine.members import text_list, typed
from holdfast.engine.sealed import check_nesting


def id_of(record: Record) -> str:
    """Returns the checkpoint that a line speaks of."""
    return _checked_id(record["id"])


def ids_in(value: object) -> tuple[str, ...]:
    """Returns a list of checkpoints."""
    return tuple(map(_checked_id, typed(value, list)))


def thinned_in(value: object) -> dict[str, tuple[str, ...]]:
    """Returns checkpoints and the items that each keeps."""
    return {_checked_id(i): text_list(items) for i, items in typed(value, dict).items()}


def one_of(value: object, known: tuple[object, ...]) -> object:
    """Returns a value that is among those that are known."""
    if value not in known:
        raise ValueError(f"{value!r:.80} is none of {', '.join(map(str, known))}")
    return value


def attached(record: Record, name: str) -> dict[str, Any]:
    """Returns an object of the user's; none where the line has none.

    Raises:
        FormatError: It is nested too deep.
    """
    value: dict[str, Any] = typed(record.get(name) or {}, dict)
    check_nesting(value, what=name)
    return value


def checkpoints_in(record: Record) -> list[str]:
    """Returns the ids in a line, whatever it says of them; why one is kept changes nothing."""
    named = [record.get("id")]
    for key in ("deleted", "thinned", "spared"):
        listed = record.get(key)
        named += listed if isinstance(listed, (list, dict)) else ()
    return [name for name in named if isinstance(name, str)]


def _checked_id(text: object) -> str:
    """Returns an id: a deletion goes by it, and none may lead out of the run's folder."""
    if not names.is_id(typed(text, str)):
        raise ValueError(f"{text!r:.80} is not the id of a checkpoint")
    return cast("str", text)
