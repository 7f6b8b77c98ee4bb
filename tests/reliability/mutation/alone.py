"""One sweep by itself, up to the first violation: ``python -m ... replays|kills FOLDER``."""

from __future__ import annotations

import logging
import shutil
import sys
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
    try:
        if sweep == "replays":
            outcome = replays(scenario, folder, stride=_STRIDES[sweep], scratch=_memory(folder))
        else:
            outcome = kills(scenario, folder, stride=_STRIDES[sweep])
    except _FoundError:
        _say(f"state {scenario.states}")
        return
    except ViolationError as error:
        _say(f"the work ends: {error}")
        return
    finally:
        shutil.rmtree(_memory(folder), ignore_errors=True)
    # Some violations end the work itself, and come to no check.
    if outcome.violated:
        _say(f"{outcome.violated} of {outcome.states}")
    else:
        _say(f"nothing in {outcome.states}")


def _memory(folder: Path) -> Path:
    place = Path("/dev/shm")
    if not place.is_dir():
        return folder / "states"
    return place / f"holdfast-alone-{folder.parent.parent.name}-{folder.parent.name}"


def _say(line: str) -> None:
    print(line.splitlines()[0], flush=True)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
