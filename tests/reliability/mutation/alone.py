"""One sweep by itself, up to the first violation: ``python -m ... replays|kills FOLDER``."""

from __future__ import annotations

import logging
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from holdfast.testing.faultsweeps import kills
from holdfast.testing.replay import replays
from holdfast.testing.scenario import ViolationError
from holdfast.testing.training import Training

#: Enough to save, to thin and to delete.
_LOSSES: Final = (3.0, 1.0, 2.0)
_STRIDES: Final = {"replays": 5, "kills": 3}


class _FoundError(BaseException):
    """The first violation; no handler of errors catches it."""


class _UpToTheFirst(Training):
    """A training whose first violation ends the sweep."""

    def __init__(self) -> None:
        super().__init__(losses=_LOSSES)
        self.states = 0

    def check(self, root: Path, promised: Sequence[str]) -> None:
        self.states += 1
        try:
            super().check(root, promised)
        except Exception as error:
            raise _FoundError(f"{type(error).__name__}: {error}") from error


def main(sweep: str, folder: Path) -> None:
    """Writes how many states it took, or that none was harmed."""
    logging.disable(logging.CRITICAL)
    scenario = _UpToTheFirst()
    memory = Path("/dev/shm")
    try:
        with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else folder) as scratch:
            if sweep == "replays":
                states = Path(scratch)
                outcome = replays(scenario, folder, stride=_STRIDES[sweep], scratch=states)
            else:
                outcome = kills(scenario, folder, stride=_STRIDES[sweep])
    except _FoundError:
        _say(f"state {scenario.states}")
    except ViolationError as error:
        _say(f"the work ends: {error}")
    else:
        # Some violations end the work itself, and come to no check.
        found = f"{outcome.violated} of" if outcome.violated else "nothing in"
        _say(f"{found} {outcome.states}")


def _say(line: str) -> None:
    print(line.splitlines()[0], flush=True)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
