"""All scenarios by name: what `holdfast certify` and the tests disturb."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Final

from holdfast.testing.leftovers import Recovering, Repairing
from holdfast.testing.mirrors import Healing, Mirroring
from holdfast.testing.saying import Importing, Reindexing, Reporting
from holdfast.testing.scenario import Scenario
from holdfast.testing.training import Training
from holdfast.testing.upkeep import Deleting, Pruning

#: Numbers of 8 bytes that make a shard large enough to be written ahead of its digest.
_LARGE: Final = 1 << 18

#: Name to what makes the scenario; the name is that of the scenario itself.
SCENARIOS: Final[Mapping[str, Callable[[], Scenario]]] = MappingProxyType(
    {
        "training": Training,
        "training, large": partial(Training, _LARGE),
        "recovery": Recovering,
        "prune": Pruning,
        "delete": Deleting,
        "repair": Repairing,
        "reindex": Reindexing,
        "reindex, catalog lost": partial(Reindexing, lost=True),
        "late words": Reporting,
        "import": Importing,
        "mirror": Mirroring,
        "heal": Healing,
    }
)
