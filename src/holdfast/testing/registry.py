"""Sweeps by name, as a certificate and a worker process speak of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final

from holdfast.testing import flips
from holdfast.testing.faultsweeps import compound, failures, failures_after_kills, kills
from holdfast.testing.outcome import Outcome
from holdfast.testing.powercut import cuts
from holdfast.testing.replay import replays
from holdfast.testing.scenario import Scenario

_FLIPS: Final = 10_000


def _damage(
    sweep: Callable[..., Outcome], _scenario: Scenario, folder: Path, **options: Any
) -> Outcome:
    return sweep(folder, **options)


def _random(_scenario: Scenario, folder: Path, *, stride: int, **options: Any) -> Outcome:
    return flips.flips(folder, count=_FLIPS // stride, **options)


#: Each takes a scenario, an empty folder, `stride` and `progress`. What damages files does so to a
#: finished store of its own, whatever the scenario.
SWEEPS: Final[Mapping[str, Callable[..., Outcome]]] = {
    "kills": kills,
    "failures": failures,
    "compound": compound,
    "failures-after-kills": failures_after_kills,
    "replays": replays,
    "cuts-ext4": partial(cuts, filesystem="ext4"),
    "cuts-xfs": partial(cuts, filesystem="xfs"),
    "flips": _random,
    "regions": partial(_damage, flips.regions),
    "lengths": partial(_damage, flips.lengths),
    "exchanges": partial(_damage, flips.exchanges),
}
