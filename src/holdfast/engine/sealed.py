"""JSON that proves itself: strict parsing, and objects that end in their own digest."""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Mapping
from typing import Any, Final

from blake3 import blake3

from holdfast.errors import ConfigError, FormatError, IntegrityError

#: How deep what people attach may be nested; walking it must not meet the limit of recursion.
MAX_NESTING: Final = 100
#: Digits of an integer in JSON: Python's own limit, which a program may have lifted
#: (`sys.set_int_max_str_digits`). The time that they take grows with their square.
_MAX_DIGITS: Final = 4300

#: Length of ``,"digest":"<64 digits>"}\n``.
_SEAL_NBYTES = 78
_SEAL_START = b',"digest":"'
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
_NON_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


def dump_strict(value: object) -> bytes:
    """Returns compact ASCII JSON; non-finite floats must have been replaced before."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False).encode("ascii")


def parse_strict(data: bytes, *, path: str) -> Any:
    """Parses JSON that has no duplicate names, no NaN and no number beyond floats.

    Raises:
        FormatError: It is not such JSON, not UTF-8, or nested too deeply to parse.
    """
    try:
        # Decoded here: json would guess UTF-16 and UTF-32, too.
        text = data.decode("utf-8")
        whole = None if 0 < sys.get_int_max_str_digits() <= _MAX_DIGITS else _whole
        value = json.loads(text, parse_constant=_refuse, parse_int=whole)
        # What is written out to the same text had no name twice and no 1e999. Asking at each
        # object takes five times as long, and is only needed for what we did not write ourselves.
        if json.dumps(value, separators=(",", ":")) != text.rstrip(" "):
            # Given up first: two of them at once would double the memory.
            value = None
            value = json.loads(
                text,
                object_pairs_hook=_unique,
                parse_constant=_refuse,
                parse_float=_finite,
                parse_int=whole,
            )
        if _SURROGATE.search(text):
            # Half of a pair is no text: it could be neither shown nor indexed.
            json.dumps(value, ensure_ascii=False).encode("utf-8")
        return value
    except (ValueError, RecursionError) as error:
        raise FormatError(
            f"{path} is not valid JSON: {error}", hint="restore it or delete it"
        ) from error


def seal(members: Mapping[str, object]) -> bytes:
    """Returns an object as sealed JSON (docs/format.md, "Sealed JSON")."""
    body = dump_strict(dict(members))[:-1]
    return body + _SEAL_START + blake3(body).hexdigest().encode() + b'"}\n'


def unseal(data: bytes, *, path: str) -> dict[str, Any]:
    """Checks and parses sealed JSON; the digest itself is left out of what is returned.

    Raises:
        IntegrityError: The bytes do not match their digest.
        FormatError: They do, but are no JSON object.
    """
    body, tail = data[:-_SEAL_NBYTES], data[-_SEAL_NBYTES:]
    if tail != _SEAL_START + blake3(body).hexdigest().encode() + b'"}\n':
        raise IntegrityError(
            f"{path} is damaged: its content does not match its digest",
            hint="use another checkpoint or a mirror; `holdfast verify` lists what is intact",
            path=path,
        )
    parsed = parse_strict(body + b"}", path=path)
    if not isinstance(parsed, dict):
        raise FormatError(f"{path} holds no JSON object", hint="restore it or delete it")
    return parsed


def encode_numbers(value: object, *, depth: int = 0) -> object:
    """Returns JSON-like data with non-finite floats as ``"NaN"``, ``"Infinity"``, ``"-Infinity"``.

    What JSON has no form for (paths, dates, tensors) becomes its text: this is for what people
    attach to read later, not for state.

    Args:
        value: The data.
        depth: How many containers it lies in.

    Raises:
        ConfigError: It is nested more than `MAX_NESTING` deep, or holds itself.
    """
    if depth > MAX_NESTING:
        raise ConfigError(
            f"a value is nested more than {MAX_NESTING} levels deep, or holds itself",
            hint="attach flatter metadata or configuration; state goes into items",
        )
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else ("Infinity" if value > 0 else "-Infinity")
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, Mapping):
        return {_text(k): encode_numbers(inner, depth=depth + 1) for k, inner in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [encode_numbers(inner, depth=depth + 1) for inner in value]
    item = getattr(value, "item", None)
    if callable(item) and getattr(value, "shape", None) == ():
        # A scalar of numpy or a framework; what it holds, where that is a number.
        inner = item()
        return encode_numbers(inner) if isinstance(inner, (bool, int, float)) else _text(inner)
    return _text(value)


def check_nesting(value: object, *, what: str) -> None:
    """Raises `FormatError` where parsed JSON is nested more than `MAX_NESTING` deep."""
    level = [value]
    for _ in range(MAX_NESTING + 1):
        level = [
            part
            for holder in level
            if isinstance(holder, (dict, list))
            for part in (holder.values() if isinstance(holder, dict) else holder)
        ]
        if not level:
            return
    raise FormatError(
        f"{what} is nested more than {MAX_NESTING} levels deep", hint="do not use this file"
    )


def decode_metrics(value: object, *, path: str) -> dict[str, float]:
    """Returns metrics as floats.

    Raises:
        FormatError: They are not an object of numbers.
    """
    if not isinstance(value, dict):
        raise FormatError(f"{path}: metrics are not an object", hint="restore the file")
    metrics: dict[str, float] = {}
    for name, number in value.items():
        if isinstance(number, (int, float)) and not isinstance(number, bool):
            try:
                metrics[name] = float(number)
            except OverflowError as error:
                raise FormatError(
                    f"{path}: the metric {name!r} is too large", hint="restore the file"
                ) from error
        elif isinstance(number, str) and number in _NON_FINITE:
            metrics[name] = _NON_FINITE[number]
        else:
            raise FormatError(f"{path}: the metric {name!r} is no number", hint="restore the file")
    return metrics


def _text(value: object) -> str:
    # Lone surrogates, from undecodable file names, are shown as escapes: no reader takes them.
    return str(value).encode("utf-8", "backslashreplace").decode("utf-8")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a name occurs twice in one object")
    return members


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"the number {text[:40]} is beyond what floats hold")
    return number


def _whole(text: str) -> int:
    if len(text) > _MAX_DIGITS:
        raise ValueError(f"an integer of {len(text)} digits")
    return int(text)


def _refuse(constant: str) -> object:
    raise ValueError(f"{constant} is no JSON number")
