"""Sweeps and scenarios by name, as a certificate and a worker process speak of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Final

from holdfast.testing.faultsweeps import compound, failures, kills
from holdfast.testing.outcome import Outcome
from holdfast.testing.replay import replays
from holdfast.testing.scenario import Scenario
from holdfast.testing.training import Training

#: Enough numbers for shards that are written ahead of their digests, in several pieces.
LARGE: Final = 140_000

SCENARIOS: Final[Mapping[str, Callable[[], Scenario]]] = {
    "training": Training,
    "training-large": partial(Training, LARGE),
}

#: Each takes a scenario, an empty folder, `stride` and `progress`.
SWEEPS: Final[Mapping[str, Callable[..., Outcome]]] = {
    "kills": kills,
    "failures": failures,
    "compound": compound,
    "replays": replays,
}
