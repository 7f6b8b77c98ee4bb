"""Sweeps by name, as a certificate and a worker process speak of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from holdfast.testing.faultsweeps import compound, failures, failures_after_kills, kills
from holdfast.testing.outcome import Outcome
from holdfast.testing.replay import replays

#: Each takes a scenario, an empty folder, `stride` and `progress`.
SWEEPS: Final[Mapping[str, Callable[..., Outcome]]] = {
    "kills": kills,
    "failures": failures,
    "compound": compound,
    "failures-after-kills": failures_after_kills,
    "replays": replays,
}
