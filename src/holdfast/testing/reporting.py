"""A sweep in a child process of its own, which tells how it gets on and what it found."""

from __future__ import annotations

import json
import os
import signal
import traceback
from collections.abc import Callable
from typing import Any

from holdfast.errors import HoldfastError
from holdfast.testing.outcome import Outcome, Progress

Work = Callable[[Progress], Outcome]


def reported(work: Work, progress: Progress) -> Outcome:
    """Returns the outcome of a sweep that runs in a forked child.

    What the child changes about itself, such as its mounts, ends with it. It ends, too, when this
    process does, for nobody reads what it tells then.

    Args:
        work: The sweep, passed what it reports its progress to.
        progress: Told what it reports.

    Raises:
        HoldfastError: The sweep itself failed.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        _report(work, writing)
    os.close(writing)
    found: dict[str, Any] = {}
    try:
        with os.fdopen(reading, encoding="utf-8") as lines:
            for line in lines:
                found = json.loads(line)
                if "progress" in found:
                    progress(*found["progress"])
    finally:
        if "progress" in found or not found:
            # Left in the middle: by Ctrl-C, or by an error of `progress`.
            os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    if "outcome" not in found:
        raise HoldfastError(
            f"a sweep ended before its time: {found.get('failed', 'its process was killed')}",
            hint="check that the disk has room and the process memory, then run it again",
        )
    return Outcome.from_dict(found["outcome"])


def _report(work: Work, writing: int) -> None:
    """Works, tells, and ends the process."""

    def tell(**message: object) -> None:
        os.write(writing, json.dumps(message).encode() + b"\n")

    try:
        outcome = work(lambda done, total: tell(progress=[done, total]))
        tell(outcome=outcome.as_dict())
    except BaseException:  # noqa: BLE001 - told to the parent, in full
        tell(failed=traceback.format_exc()[-3000:])
    finally:
        os._exit(0)
