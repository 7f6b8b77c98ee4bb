"""A store, as a user holds it."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

from holdfast import display, references, when
from holdfast import keep as keep_policies
from holdfast.adopting import adopt
from holdfast.catalog import Watcher
from holdfast.checkpoint import Checkpoint
from holdfast.engine.background import Backlog
from holdfast.errors import ConfigError, HoldfastError
from holdfast.follower import FollowingRun
from holdfast.lifecycle import diffing
from holdfast.lifecycle.importing import read_foreign
from holdfast.lifecycle.place import Place
from holdfast.mirroredplace import open_mirrored
from holdfast.model import Mode, flatten_metrics, metric_mode
from holdfast.opening import (
    IfExists,
    OnSaveError,
    RunOptions,
    SnapshotMode,
    open_run,
    writes_here,
)
from holdfast.policy.retention import KeepPolicy
from holdfast.policy.saving import SavePolicy
from holdfast.policy.stopping import StopPolicy
from holdfast.reading import (
    Explanation,
    RunReader,
    explain,
    find,
    find_best,
    find_latest,
    require_run,
)
from holdfast.run import Run
from holdfast.storage import Capabilities
from holdfast.upkeep import Upkeep

_log = logging.getLogger("holdfast")

_EVERY_STEPS = 100


def open(
    url: str | os.PathLike[str],
    *,
    mode: Literal["a", "r"] = "a",
    catalog: str | None = None,
    mirrors: Iterable[str | os.PathLike[str]] = (),
) -> Store:
    """Opens a store, creating it where there is none.

    Args:
        url: A path, or a ``file://`` URL.
        mode: ``"a"`` to read and write; ``"r"`` for no lock and no write of any kind, chosen by
            itself where the place is not writable.
        catalog: Where the catalog is, instead of in the store: a path, or a SQLAlchemy URL such as
            ``postgresql+psycopg://host/database``.
        mirrors: Folders (paths, or ``file://`` URLs) that are kept up to date behind each run's
            saves, each a complete store by itself. One that cannot be reached holds up nothing:
            it is logged, shown by `Run.stats`, and tried again after each save.

    Raises:
        ConfigError: The place cannot be a store: it is a file, cannot be written, or its kind is
            not supported. Or a mirror is another store, or the store itself.
        NotFoundError: With ``mode="r"``, there is no store; or there is none, and a mirror holds
            what it was: `holdfast doctor --apply --mirror PATH` brings it back.
        FormatError: It was written by a newer Holdfast.
    """
    return Store(open_mirrored(url, mode=mode, catalog=catalog, mirrors=mirrors))


class Store(Upkeep):
    """A place that holds runs; made by `holdfast.open`."""

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self._runs: list[Run | FollowingRun] = []

    def __repr__(self) -> str:
        return f"<Store {self._place.label}>"

    def _repr_html_(self) -> str:
        """Returns what a notebook shows; of a store that cannot be read, why not."""
        try:
            usage, names = self.usage(), self._place.catalog.run_names()
            shown = names[: display.MOST_ROWS]
            runs = [(self[name].info, usage.of(name).checkpoints) for name in shown]
        except HoldfastError as error:
            return display.unreadable_html(repr(self), error.message)
        return display.store_html(
            self._place.label, runs, total=len(names), stored_nbytes=usage.stored_nbytes
        )

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is not None:
            # A loop that broke off did not finish its runs.
            for run in self._runs:
                run.__exit__(kind, error, trace)
        self.close()

    @property
    def path(self) -> Path:
        """The store's folder."""
        return self._place.storage.root

    @property
    def id(self) -> str:
        """What tells it from all other stores."""
        return self._place.store_id

    @property
    def capabilities(self) -> Capabilities | None:
        """What the place can do, as it was found at the opening; None where it is only read."""
        return self._place.capabilities

    @property
    def writable(self) -> bool:
        """Whether it was opened for writing."""
        return self._place.writable

    def close(self) -> None:
        """Closes the runs that are still open, and the catalog.

        Raises:
            SaveError, StorageFullError: The last save of a run failed and none succeeded since;
                the other runs are closed all the same.
        """
        with ExitStack() as stack:
            stack.callback(self._place.catalog.close)
            for run in self._runs:
                stack.callback(run.close)
            self._runs.clear()

    # -- runs --------------------------------------------------------------------------------

    def run(
        self,
        name: str,
        *,
        metric: str | None = None,
        mode: Mode | None = None,
        save: SavePolicy | None = None,
        keep: KeepPolicy | None = None,
        stop: StopPolicy | None = None,
        config: Mapping[str, Any] | None = None,
        if_exists: IfExists = "resume",
        parent: str | None = None,
        on_save_error: OnSaveError = "warn",
        snapshot: SnapshotMode = "copy",
        backlog: Backlog = "wait",
        memory: int | str | None = None,
    ) -> Run | FollowingRun:
        """Opens a run for writing.

        Args:
            name: Letters, digits, ``.``, ``_``, ``-``, and ``/`` to nest.
            metric: What "improved" and "best" mean unless they say otherwise.
            mode: Its direction, ``"min"`` or ``"max"``, where its name does not say it.
            save: When a checkpoint is worth taking. Left out: when the metric improves, and every
                100 steps.
            keep: Which checkpoints stay. Left out: all.
            stop: When training should stop.
            config: Stored with every checkpoint.
            if_exists: ``"resume"``, ``"new"`` (a fresh numbered name) or ``"error"``.
            parent: Name of the run that this one starts from.
            on_save_error: ``"warn"``, or ``"raise"`` by the next `step`.
            snapshot: How the state is copied: ``"copy"`` at once, or ``"overlap"``: parameters
                and optimizer state while the next forward and backward run, up to the next
                ``optimizer.step()``; see docs/guide.md for what that asks of the loop.
            backlog: What a save does while another one is under way: ``"wait"``, ``"skip"``, or
                ``"latest"`` (take the place of the one that has not begun).
            memory: Bytes, or text such as ``"8GB"``, for copies of the state that are not written
                yet. Left out: one state (two with ``backlog="latest"``). More lets several saves
                be under way; a state that is larger is written from where it lies, while
                training waits, with less than 256 MiB besides.

        Raises:
            ConfigError: An argument cannot be meant.
            LockedError: Another process writes this run.
        """
        options = RunOptions(
            save=save if save is not None else _default_save(metric),
            keep=keep if keep is not None else keep_policies.all(),
            stop=stop,
            metric=metric,
            mode=mode,
            config=config or {},
            if_exists=if_exists,
            parent=parent,
            on_save_error=on_save_error,
            backlog=backlog,
            snapshot=snapshot,
            memory=memory,
        ).bound()
        run: Run | FollowingRun
        if writes_here():
            run = self._write(name, options)
        else:
            run = FollowingRun(self._place, name, options)
        self._runs = [*(known for known in self._runs if known.open), run]
        return run

    def _write(self, name: str, options: RunOptions) -> Run:
        self._require_writable()
        opened = open_run(self._place, name, options)
        try:
            return Run(self._place, opened, options)
        except BaseException:
            opened.lock.release()
            raise

    def __getitem__(self, name: str) -> RunReader:
        """Returns a run to read; takes no lock.

        Raises:
            NotFoundError: There is no such run; the error names the nearest one.
        """
        require_run(self._place, name)
        return RunReader(self._place, name)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self._place.catalog.run(name) is not None

    def runs(self) -> list[RunReader]:
        """Returns all runs, to read, sorted by name."""
        return [RunReader(self._place, name) for name in self._place.catalog.run_names()]

    # -- checkpoints -------------------------------------------------------------------------

    def checkpoints(
        self,
        run: str | None = None,
        *,
        where: str | None = None,
        order_by: str = "-created_at",
        limit: int | None = None,
        offset: int = 0,
    ) -> list[Checkpoint]:
        """Returns checkpoints, newest first.

        Args:
            run: Only those of this run.
            where: A filter: ``"loss < 0.3 and step >= 100 and tag = prod"``.
            order_by: A field or metric, with ``-`` in front for descending.
            limit: How many at most.
            offset: How many are passed over before them.

        Raises:
            ConfigError: The filter cannot be read.
            NotFoundError: There is no such run.
        """
        if run is not None:
            require_run(self._place, run)
        found = self._place.catalog.checkpoints(
            run, where=where, order_by=order_by, limit=limit, offset=offset
        )
        return [Checkpoint(self._place, record) for record in found]

    def count(self, run: str | None = None, *, where: str | None = None) -> int:
        """Returns how many checkpoints there are; arguments and errors as `checkpoints`."""
        if run is not None:
            require_run(self._place, run)
        return self._place.catalog.count(run, where=where)

    def watcher(self) -> Watcher:
        """Returns what tells in microseconds whether anything in the store changed.

        For whoever shows a store as it changes: ``watcher.version()`` is another text after every
        commit of any process. Close it before the store.
        """
        return self._place.catalog.watcher()

    def versions(self) -> dict[str, tuple[int, int]]:
        """Returns, by run, what is another pair of numbers after a run changed, in one look."""
        return self._place.catalog.sync_states()

    def get(self, reference: str) -> Checkpoint:
        """Returns the checkpoint that a reference chooses.

        Args:
            reference: ``run@best:val_loss``, ``run@latest``, ``run@step:400``, ``run@tag:prod``,
                or an id.

        Raises:
            NotFoundError: There is none.
            ConfigError: It is no reference.
        """
        return find(self._place, references.parse(reference))

    def best(self, metric: str, *, run: str | None = None, mode: Mode | None = None) -> Checkpoint:
        """Returns the restorable checkpoint that is best by a metric.

        Args:
            metric: The metric.
            run: Only checkpoints of this run.
            mode: The metric's direction, where neither its name nor the run says it.

        Raises:
            NotFoundError: None has a finite value of it.
            ConfigError: Its direction is unknown.
        """
        if run is not None:
            return self[run].best(metric, mode=mode)
        return find_best(self._place, metric, metric_mode(metric, mode), run=None)

    def latest(self, run: str | None = None) -> Checkpoint:
        """Returns the newest restorable checkpoint; raises `NotFoundError` without one."""
        return find_latest(self._place, run)

    def explain(self, reference: str) -> Explanation:
        """Returns why a step was saved or skipped, and what became of its checkpoint and why.

        Args:
            reference: As for `get`; what it chooses may be deleted by now, and a step may have no
                checkpoint at all.

        Raises:
            NotFoundError: Nothing is known of it.
            ConfigError: It is no reference.
        """
        return explain(self._place, references.parse(reference))

    def import_checkpoint(
        self,
        path: str | os.PathLike[str],
        *,
        run: str,
        step: int | None = None,
        metrics: Mapping[str, Any] | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> Checkpoint:
        """Makes a checkpoint out of what another tool wrote; no code in it is run.

        Args:
            path: A safetensors or torch file, a folder of Hugging Face's tools, or an export.
            run: The run that it becomes a checkpoint of; it may exist.
            step: Its step; left out, what the files say, or 0.
            metrics: Metric name to number, over those that the files tell.
            metadata: Stored with it.

        Raises:
            ConfigError: There is nothing that is understood.
            FormatError: A file is damaged, or cannot be read without running code in it.
            LockedError: Another process writes the run.
        """
        self._require_writable()
        return adopt(
            self._place,
            read_foreign(Path(path)),
            run=run,
            step=step,
            metrics=flatten_metrics(metrics),
            metadata=metadata or {},
        )

    def diff(
        self, a: str | Checkpoint, b: str | Checkpoint, *, norms: bool = False
    ) -> diffing.Difference:
        """Returns how two checkpoints differ: metrics, configuration, and tensors by digest.

        Args:
            a: The first, or a reference to it.
            b: The second.
            norms: Read the tensors that changed, and measure how far they moved.
        """
        one, other = (self.get(c) if isinstance(c, str) else c for c in (a, b))
        return diffing.compare(self._place, one.record, other.record, norms=norms)

    def _require_writable(self) -> None:
        if not self._place.writable:
            raise ConfigError(
                f"{self._place.label} is open for reading only",
                hint="open it with mode='a' where it can be written",
            )


def _default_save(metric: str | None) -> SavePolicy:
    regularly = when.every(steps=_EVERY_STEPS)
    return regularly if metric is None else when.improved() | regularly
