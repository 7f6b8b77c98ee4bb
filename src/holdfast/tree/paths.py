"""Where something is in a tree: as people read it, and as arrays are named."""

from __future__ import annotations

import re
from collections.abc import Sequence
from enum import Enum

from holdfast.errors import TreeError

#: Dots inside are fine: modules name their parameters ``layer.0.weight``.
_PLAIN = re.compile(r"[A-Za-z_]\w*|\w+(?:\.\w+)+", re.ASCII)

#: From here on integers are hexadecimal.
MAX_DECIMAL = 2**256

#: What an array is called that is a whole item.
ROOT_NAME = "value"
#: A member of safetensors headers, and one of skeletons.
FORBIDDEN = ("__metadata__", "$")


def render(base: str, keys: Sequence[object]) -> str:
    """Returns a path for messages: ``optimizer.param_groups[0]['odd key']``."""
    text = base
    for key in keys:
        if isinstance(key, str) and _PLAIN.fullmatch(key):
            text += f".{key}" if text else key
        else:
            text = f"{text or 'state'}[{shown(key)}]"
    return text or "state"


def shown(key: object) -> str:
    """Returns a key as messages show it."""
    try:
        return repr(key)
    except ValueError:
        # Python refuses to write integers of thousands of digits in decimal.
        return f"<a huge {type(key).__name__}>"


def array_name(keys: Sequence[object]) -> str:
    """Returns the name of the array at a path inside an item: its keys joined by dots.

    Raises:
        TreeError: It would not be a name.
    """
    name = ".".join(_component(key) for key in keys) if keys else ROOT_NAME
    if not name or name in FORBIDDEN or not encodable(name):
        raise TreeError(
            f"would be stored under the name {name!r}, which arrays cannot have",
            hint="give the key another name",
        )
    return name


def _component(key: object) -> str:
    if isinstance(key, Enum):
        return key.name
    if key is None or isinstance(key, bool):
        return {None: "null", True: "true", False: "false"}[key]
    if isinstance(key, tuple):
        return f"({','.join(_component(part) for part in key)})"
    if isinstance(key, int):
        return decimal(key)
    return str(key)


def decimal(number: int) -> str:
    """Returns an integer in decimal, or in hexadecimal from 2**256 on: linear, without a limit."""
    return str(number) if abs(number) < MAX_DECIMAL else hex(number)


def encodable(text: str) -> bool:
    """Returns whether a text is valid Unicode (a lone surrogate is not)."""
    if text.isascii():
        return True
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
