"""Making a checkpoint out of what another tool wrote."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from holdfast import keep, tree, when
from holdfast.attached import Attached, Chosen
from holdfast.checkpoint import Checkpoint
from holdfast.engine import names
from holdfast.lifecycle.importing import Foreign
from holdfast.lifecycle.place import Place
from holdfast.model import Kind, Metrics, StepRow
from holdfast.opening import RunOptions, open_run
from holdfast.session import Session
from holdfast.stepping import check_step


class _States(Attached):
    """States that are stored as they are: no live objects, no random numbers of this process."""

    def __init__(self, states: Mapping[str, object]) -> None:
        super().__init__()
        self._states = {names.check_item(name): state for name, state in states.items()}

    def capture(self, kind: Kind, chosen: Chosen) -> dict[str, tree.Flat]:
        """Returns all of the states, whatever the kind: the file has decided what there is."""
        return {name: tree.flatten(state, path=name) for name, state in self._states.items()}


def adopt(
    place: Place,
    foreign: Foreign,
    *,
    run: str,
    step: int | None,
    metrics: Metrics,
    metadata: Mapping[str, Any],
) -> Checkpoint:
    """Saves what another tool wrote as a checkpoint of a run, durable on return.

    A run that exists keeps its metric; nothing in it is deleted, and it keeps everything until it
    is opened with a policy again.

    Args:
        place: The store.
        foreign: What was read.
        run: Name of the run.
        step: Its step; None for what the files say, or 0.
        metrics: Metrics, over those that the files tell.
        metadata: The same for metadata.

    Raises:
        ConfigError: The run's name or the step is not allowed.
        TreeError: Something in the files cannot be stored.
        LockedError: Another process writes the run.
        SaveError, StorageFullError: It could not be made durable.
    """
    known = place.catalog.run(run)
    options = RunOptions(
        save=when.never(),
        keep=keep.all(),
        metric=known.metric if known else None,
        mode=known.mode if known else None,
        config=foreign.config or (known.config if known else {}),
        parent=known.parent if known else None,
    ).bound()
    number = step if step is not None else (foreign.step or 0)
    row = StepRow(
        check_step(number),
        time.time(),
        {**foreign.metrics, **metrics},
        foreign.epoch,
        saved=True,
        reason="imported",
    )
    states = _States(foreign.items)
    opened = open_run(place, run, options)
    try:
        session = Session(place, opened, options)
    except BaseException:
        opened.lock.release()
        raise
    try:
        session.attached = states
        pending = session.submit(
            row,
            started=time.perf_counter(),
            kind=foreign.kind,
            metadata={**foreign.metadata, **metadata},
        )[1]
        checkpoint = pending.wait()
    except BaseException:
        session.close("failed")
        raise
    session.close("finished")
    return checkpoint
