"""The language of ``where=``: ``loss < 0.3 and tag = prod and run = "digits*"``.

Terms joined by ``and``; each is a field, a comparison, a value. A field that is none of the known
ones is a metric; in backticks or quotes it always is. Pure text to values: no SQL here.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal, NoReturn, cast

from holdfast.errors import ConfigError
from holdfast.model import KINDS

Operator = Literal["<", "<=", ">", ">=", "=", "!="]

NUMBERS = frozenset({"step", "epoch", "created_at"})
FLAGS = frozenset({"pinned", "thinned", "damaged"})
TEXTS = frozenset({"kind", "reason", "run", "id", "parent", "tag"})

EXAMPLE = "loss < 0.3 and step >= 100 and tag = prod"

_TOKEN = re.compile(
    r"""\s*(?:
        (?P<operator><=|>=|!=|==|=|<|>)
      | (?P<quoted>"(?:[^"]|"")*"|'(?:[^']|'')*'|`(?:[^`]|``)*`)
      | (?P<word>[^\s<>=!"'`]+)
    )""",
    re.VERBOSE,
)


@dataclass(frozen=True, slots=True)
class Term:
    """One comparison.

    Attributes:
        field: What is compared; the name of a metric where `metric` is set.
        operator: How.
        value: With what: a number, a flag, or text with ``*`` and ``?`` as wildcards.
        metric: Whether `field` is a metric's name.
    """

    field: str
    operator: Operator
    value: float | int | bool | str
    metric: bool = False


@dataclass(frozen=True, slots=True)
class _Token:
    kind: Literal["operator", "quoted", "word", "end"]
    text: str
    position: int


def parse(where: str) -> tuple[Term, ...]:
    """Returns the terms of a filter; an empty filter has none and matches everything.

    Numbers may be written as dates for ``created_at`` (``2026-01-31``, ``2026-01-31T12:00``; UTC).

    Raises:
        ConfigError: The text is not a filter; the message shows where, the hint an example.
    """
    tokens = _tokens(where)
    if tokens[0].kind == "end":
        return ()
    terms = []
    position = 0
    while True:
        terms.append(_term(where, tokens[position : position + 3]))
        position += 3
        following = tokens[position]
        if following.kind == "end":
            return tuple(terms)
        if following.kind != "word" or following.text.lower() != "and":
            _refuse(where, following, "`and` or the end")
        position += 1


def _tokens(where: str) -> list[_Token]:
    tokens = []
    position = 0
    text = where.rstrip()
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            start = position + len(text[position:]) - len(text[position:].lstrip())
            _refuse(where, _Token("end", text[start], start), "a field, a comparison or a value")
        kind = cast(Literal["operator", "quoted", "word"], match.lastgroup)
        found = match.group(kind)
        tokens.append(_Token(kind, found, match.start(kind)))
        position = match.end()
    # Three ends: a term is always three tokens to look at.
    return tokens + [_Token("end", "", len(text))] * 3


def _term(where: str, tokens: list[_Token]) -> Term:
    field, operator, value = tokens
    if field.kind not in ("word", "quoted") or field.text.lower() == "and":
        _refuse(where, field, "a field")
    if operator.kind != "operator":
        _refuse(where, operator, "one of < <= > >= = !=")
    if value.kind not in ("word", "quoted"):
        _refuse(where, value, "a value")
    name = _bare(field)
    sign = cast(Operator, "=" if operator.text == "==" else operator.text)
    if not name:
        _refuse(where, field, "the name of a field")
    if field.kind == "quoted":
        return Term(name, sign, _number(where, name, value), metric=True)
    if name in FLAGS or name in TEXTS:
        if sign not in ("=", "!="):
            _refuse(where, operator, f"= or != after {name}")
        return Term(name, sign, _choice(where, name, value))
    return Term(name, sign, _number(where, name, value), metric=name not in NUMBERS)


def _choice(where: str, name: str, token: _Token) -> bool | str:
    text = _bare(token)
    if name in FLAGS:
        if text.lower() not in ("true", "false"):
            _refuse(where, token, f"true or false after {name}")
        return text.lower() == "true"
    if name == "kind" and text not in KINDS and not is_pattern(text):
        _refuse(where, token, f"one of {', '.join(KINDS)}")
    return text


def _number(where: str, name: str, token: _Token) -> float | int:
    text = _bare(token)
    try:
        if re.fullmatch(r"[+-]?\d{1,18}", text):
            return int(text)
        number = float(text)
    except ValueError:
        if name == "created_at":
            return _time(where, token)
        _refuse(where, token, f"a number after {name}")
    if not math.isfinite(number):
        _refuse(where, token, f"a finite number after {name}")
    return number


def _time(where: str, token: _Token) -> float:
    try:
        moment = datetime.fromisoformat(_bare(token))
    except ValueError:
        _refuse(where, token, "seconds since the epoch or a date such as 2026-01-31T12:00")
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def is_pattern(text: str) -> bool:
    """Returns whether a text holds a wildcard."""
    return "*" in text or "?" in text


def _bare(token: _Token) -> str:
    if token.kind != "quoted":
        return token.text
    quote = token.text[0]
    return token.text[1:-1].replace(quote * 2, quote)


def _refuse(where: str, token: _Token, expected: str) -> NoReturn:
    found = f"found {token.text!r}" if token.text else "the text ends"
    raise ConfigError(
        f"the filter {where!r} cannot be read: {expected} was expected at position "
        f"{token.position}, {found}\n  {where}\n  {' ' * token.position}^",
        hint=f"for example: {EXAMPLE}",
    )
