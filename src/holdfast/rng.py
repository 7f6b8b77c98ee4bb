"""The state of the global random number generators, as a storable tree.

python's ``random``, numpy's global generator where ``numpy.random`` is imported, and whatever each
present framework has: torch's of the CPU and of every CUDA device.
"""

from __future__ import annotations

import logging
import random
import struct
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np

from holdfast import frameworks
from holdfast.errors import TreeError

_log = logging.getLogger(__name__)


def capture() -> dict[str, object]:
    """Returns the state of every generator; the next numbers depend on nothing else."""
    state: dict[str, object] = {"python": _python()}
    if "numpy.random" in sys.modules:
        state["numpy"] = np.random.get_state(legacy=False)  # noqa: NPY002 - the global one is meant
    state["frameworks"] = {
        framework.name: framework.rng_state() for framework in frameworks.present()
    }
    return state


def restore(state: object) -> None:
    """Sets every generator to what `capture` returned.

    A framework that is not installed here is left out with a warning.

    Raises:
        TreeError: It is not such a state; generators before the odd one are set already.
    """
    parts = _mapping(state, "rng")
    try:
        _set_python(_mapping(parts.get("python"), "rng.python"))
        if "numpy" in parts:
            numbers = dict(_mapping(parts["numpy"], "rng.numpy"))
            np.random.set_state(numbers)  # noqa: NPY002 - the global one is meant
        for name, inner in _mapping(parts.get("frameworks"), "rng.frameworks").items():
            framework = frameworks.load(str(name))
            if framework is None:
                _log.warning("The random state of %s is left out: it is not installed", name)
            else:
                framework.set_rng_state(_mapping(inner, f"rng.frameworks.{name}"))
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise TreeError(
            f"rng: the stored state of the random number generators does not fit: {error}",
            hint="restore without it, and seed the generators again",
            problems=(f"rng: {error}",),
        ) from error


def _mapping(value: object, path: str) -> Mapping[Any, Any]:
    if isinstance(value, Mapping):
        return value
    raise TreeError(
        f"{path}: {type(value).__name__} is not the state of random number generators",
        hint="pass what rng.capture() returned",
        problems=(f"{path}: {type(value).__name__}",),
    )


def _python() -> dict[str, object]:
    version, words, gauss = random.getstate()
    # As an array: 625 numbers in a skeleton would be the longest part of most manifests. Packed
    # first, which is three times faster than numpy's own way with a tuple.
    packed = bytearray(struct.pack(f"={len(words)}I", *words))
    return {"version": version, "words": np.frombuffer(packed, np.uint32), "gauss": gauss}


def _set_python(state: Mapping[str, Any]) -> None:
    words = tuple(int(word) for word in state["words"])
    random.setstate((state["version"], words, state["gauss"]))
