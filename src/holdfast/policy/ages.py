"""Ages and rates as people write them: ``"7d"``, ``"2026-01-31"``, ``"50MB/s"``."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from holdfast.errors import ConfigError
from holdfast.policy import arguments
from holdfast.policy.thresholds import Size

_AGE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([a-z]+)\s*", re.IGNORECASE)
_UNITS_S = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}
_PER_SECOND = "/s"
_HINT = 'pass an age such as "7d", "12h" or "30m", a date such as "2026-01-31", or seconds'


def moment_of(value: float | str, *, now: float, asker: str) -> float:
    """Returns the moment that an age or a date means, in seconds since the epoch.

    Args:
        value: Seconds before now; an age as text, in s, m or min, h, d or w; or a date, or a date
            and a time, in ISO 8601 (in UTC where it names no zone).
        now: The present, seconds since the epoch.
        asker: What asked, for the message.

    Raises:
        ConfigError: It is none of these, or lies in the future.
    """
    at = now - _seconds(value, asker) if _is_age(value) else _date(str(value), asker)
    if at > now:
        raise ConfigError(f"{asker}={value!r} lies in the future", hint=_HINT)
    return at


def rate_of(value: float | str, *, asker: str) -> float:
    """Returns a rate in bytes per second: a number of them, or text such as ``"50MB/s"``.

    Raises:
        ConfigError: It is neither, or not above 0.
    """
    if not isinstance(value, str):
        return arguments.positive(value, "bytes per second", asker=asker)
    size = value.strip()
    if size.lower().endswith(_PER_SECOND):
        size = size[: -len(_PER_SECOND)]
    try:
        return float(Size.of(size, asker=asker).nbytes)
    except ConfigError as error:
        raise ConfigError(
            f"{asker}={value!r} is not a rate",
            hint='pass bytes per second as a number, or a text such as "50MB/s"',
        ) from error


def _is_age(value: float | str) -> bool:
    return not isinstance(value, str) or _AGE.fullmatch(value) is not None


def _seconds(value: float | str, asker: str) -> float:
    match = _AGE.fullmatch(value) if isinstance(value, str) else None
    if match is not None:
        unit = _UNITS_S.get(match[2].lower())
        if unit is None:
            raise ConfigError(f"{asker}={value!r} has an unknown unit {match[2]!r}", hint=_HINT)
        return float(match[1]) * unit
    seconds = arguments.real(value, "seconds", asker=asker)
    if seconds < 0:
        raise ConfigError(f"{asker}={value!r} is below 0", hint=_HINT)
    return seconds


def _date(text: str, asker: str) -> float:
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        raise ConfigError(f"{asker}={text!r} is neither an age nor a date", hint=_HINT) from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
