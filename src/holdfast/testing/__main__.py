"""One sweep in a process of its own: ``python -m holdfast.testing SWEEP SCENARIO FOLDER STRIDE``.

It forks and kills children, which a process with threads must not do. Every line of its output is
JSON: ``{"done": 12, "total": 300}`` as it gets on, at last the outcome.
"""

from __future__ import annotations

import json
import logging
import signal
import sys
import time
from pathlib import Path
from typing import Final, NoReturn

from holdfast.testing.registry import SWEEPS
from holdfast.testing.scenarios import SCENARIOS

#: More often, nobody would see the difference.
_TELL_S: Final = 0.1


class _Reporter:
    def __init__(self) -> None:
        self._told = 0.0

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        if now - self._told >= _TELL_S:
            self._told = now
            _write({"done": done, "total": total})


def _write(value: object) -> None:
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


def _end(number: int, _frame: object) -> NoReturn:
    # An exception, so that what was mounted is unmounted.
    sys.exit(128 + number)


def main(arguments: list[str]) -> None:
    """Runs one sweep and writes its outcome."""
    sweep, scenario, folder, stride = arguments
    logging.disable(logging.CRITICAL)
    signal.signal(signal.SIGTERM, _end)
    outcome = SWEEPS[sweep](
        SCENARIOS[scenario](), Path(folder), stride=int(stride), progress=_Reporter()
    )
    _write({"outcome": outcome.as_dict()})


if __name__ == "__main__":
    main(sys.argv[1:])
