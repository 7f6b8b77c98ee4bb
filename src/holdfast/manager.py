"""The one-call API: no loop to hand over, just a call after each batch.

Everything it does is done by a `Store` and its `Run`s; this module adds the rules and the return
values that such a call promises.
"""

from __future__ import annotations

import atexit
import logging
import math
import time
from collections.abc import Mapping
from numbers import Integral
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

from holdfast import announcements, keep, store, when
from holdfast.checkpoint import Checkpoint
from holdfast.errors import (
    ConfigError,
    LockedError,
    NotFoundError,
    SaveError,
    StorageFullError,
)
from holdfast.lifecycle.usage import Usage
from holdfast.model import CheckpointInfo, Mode, metric_mode
from holdfast.policy.saving import SavePolicy
from holdfast.policy.thresholds import Size
from holdfast.presets import preset_numbers
from holdfast.run import Run

_log = logging.getLogger("holdfast")

Strategy = Literal["every_batch", "if_better", "hybrid"]

_DEFAULT_FOLDER = "models/checkpoints"


class CheckpointManager:
    """Saves models by name after each batch; made by `get_checkpoint_manager`.

    Each model is a run of the store in the folder, opened when it is first saved.
    """

    def __init__(
        self,
        checkpoint_dir: str | Path,
        *,
        max_checkpoints: int,
        metric_name: str,
        metric_mode_: Mode,
        save: SavePolicy,
        budget_nbytes: int | None,
    ) -> None:
        self._store = store.open(checkpoint_dir)
        self._metric = metric_name
        self._mode: Mode = metric_mode_
        self._save = save
        self._keep = keep.best(max_checkpoints, metric_name, mode=metric_mode_)
        self._budget_nbytes = budget_nbytes
        self._runs: dict[str, Run] = {}
        self._models: dict[str, object] = {}
        self._failures = 0

    def __enter__(self) -> CheckpointManager:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def store(self) -> store.Store:
        """The store behind it."""
        return self._store

    def save_checkpoint(
        self,
        *,
        model: object,
        model_name: str,
        model_type: str = "",
        performance_metrics: Mapping[str, Any],
        training_metadata: Mapping[str, Any] | None = None,
        force_save: bool = False,
    ) -> CheckpointInfo | None:
        """Saves a model, if the rules say that it is worth it.

        A failing medium never ends training: the failure is logged and counted.

        Args:
            model: What to save: a module, or a dict of modules, optimizers and arrays.
            model_name: Names the run, and begins the checkpoint's id.
            model_type: Stored with the checkpoint.
            performance_metrics: Any number of metrics.
            training_metadata: Stored with the checkpoint: epoch, batch, session, ...
            force_save: Save whatever the rules say.

        Returns:
            The checkpoint, durable by now; None when it was not worth saving, or when saving
            failed.

        Raises:
            ConfigError, MetricError, TreeError: The arguments cannot be stored.
        """
        metadata = {"model_type": model_type, **(training_metadata or {})}
        try:
            run = self._run(model_name, model)
            return self._save_in(run, performance_metrics, metadata, force=force_save)
        except (SaveError, StorageFullError, LockedError) as error:
            self._failures += 1
            _log.error("Checkpoint of %s not saved, training goes on: %s", model_name, error)
            return None

    def load_best_checkpoint(
        self, model_name: str, *, model: object | None = None, metric_name: str | None = None
    ) -> Checkpoint:
        """Returns the best checkpoint of a model.

        Args:
            model_name: The model.
            model: Restored in place where given.
            metric_name: What best means; left out, the manager's metric.

        Raises:
            NotFoundError: There is none with a finite value.
        """
        metric = metric_name or self._metric
        mode = self._mode if metric == self._metric else None
        best = self._store.best(metric, run=model_name, mode=mode)
        if model is not None:
            best.restore(model=model)
        return best

    def stats(self) -> dict[str, Any]:
        """Returns what there is, per model and in all.

        Per model and in all: checkpoints kept, saves of this process that succeeded and failed,
        best loss and accuracy (None where not reported), bytes stored, age of the last checkpoint
        in seconds. In all, also the budget.
        """
        usage = self._store.usage()
        models = {run.name: self._stats_of(run.name, usage) for run in self._store.runs()}
        every = list(models.values())
        return {
            "models": models,
            "checkpoints": sum(model["checkpoints"] for model in every),
            "saved": sum(model["saved"] for model in every),
            "failed": self._failures + sum(model["failed"] for model in every),
            "best_loss": min(_known(every, "best_loss"), default=None),
            "best_accuracy": max(_known(every, "best_accuracy"), default=None),
            "last_age_s": min(_known(every, "last_age_s"), default=None),
            "stored_nbytes": usage.stored_nbytes,
            "budget_nbytes": self._budget_nbytes,
            "disk_usage": self._usage_text(usage.stored_nbytes),
        }

    def summary(self) -> str:
        """Returns the closing summary, and logs it."""
        stats = self.stats()
        lines = [
            f"{stats['checkpoints']} checkpoints, {stats['failed']} failed saves, disk usage "
            + stats["disk_usage"]
        ]
        for name, model in stats["models"].items():
            best = {
                metric: model[f"best_{metric}"]
                for metric in ("loss", "accuracy")
                if model[f"best_{metric}"] is not None
            }
            text = f"{name}: {model['checkpoints']} checkpoints"
            lines.append(f"{text}, best {announcements.metrics_line(best)}" if best else text)
        announcements.summary(str(self._store.path), lines)
        return "\n".join(lines)

    def close(self) -> None:
        """Finishes what is under way and gives the models' runs up.

        Saves that failed were logged and counted when they did; they are no error here.
        """
        self._runs.clear()
        self._models.clear()
        try:
            self._store.close()
        except (SaveError, StorageFullError) as error:
            _log.error("on closing %s: %s", self._store.path, error)

    def _save_in(
        self, run: Run, reported: Mapping[str, Any], metadata: dict[str, Any], *, force: bool
    ) -> CheckpointInfo | None:
        last = run.last_step
        step = 0 if last is None else last + 1
        epoch = metadata.get("epoch")
        epoch = int(epoch) if isinstance(epoch, Integral) else None
        if force:
            pending = run.save(step, reported, reason="forced", metadata=metadata)
            return pending.wait().info
        verdict = run.step(step, reported, epoch=epoch, metadata=metadata)
        if not verdict.save:
            return None
        run.wait()
        try:
            return run.get(f"step:{step}").info
        except NotFoundError:
            # The save failed behind our back: it was logged and counted there.
            return None

    def _run(self, name: str, model: object) -> Run:
        run = self._runs.get(name)
        if run is None:
            opened = self._store.run(
                name, metric=self._metric, mode=self._mode, save=self._save, keep=self._keep
            )
            if not isinstance(opened, Run):
                raise SaveError(
                    f"{name} is saved by the process with RANK=0, not by this one",
                    hint="call save_checkpoint there alone",
                )
            run = self._runs[name] = opened
        if self._models.get(name) is not model:
            run.attach(model=model)
            self._models[name] = model
        return run

    def _stats_of(self, name: str, usage: Usage) -> dict[str, Any]:
        kept = self._store[name].checkpoints()
        mine = self._runs[name].stats() if name in self._runs else {}
        best = mine.get("best", {})
        infos = [checkpoint.metrics for checkpoint in kept]
        return {
            "checkpoints": len(kept),
            "saved": mine.get("saved", 0),
            "failed": mine.get("failed", 0),
            "best_loss": min(_values("loss", infos, best), default=None),
            "best_accuracy": max(_values("accuracy", infos, best), default=None),
            "stored_nbytes": usage.of(name).stored_nbytes,
            "last_age_s": max(0.0, time.time() - kept[0].created_at) if kept else None,
        }

    def _usage_text(self, nbytes: int) -> str:
        text = announcements.nbytes_text(nbytes)
        if self._budget_nbytes is None:
            return text
        return f"{text} / {announcements.nbytes_text(self._budget_nbytes)}"


def get_checkpoint_manager(
    checkpoint_dir: str | Path = _DEFAULT_FOLDER,
    max_checkpoints: int = 10,
    metric_name: str = "accuracy",
    *,
    mode: Mode | None = None,
    strategy: Strategy = "hybrid",
    preset: str | None = None,
    every: int = 100,
    by: float | str = 0,
    budget: int | str | None = None,
) -> CheckpointManager:
    """Returns the manager of a folder; one folder has one manager in a process.

    Args:
        checkpoint_dir: Where the checkpoints are.
        max_checkpoints: How many of the best stay per model.
        metric_name: What best means.
        mode: Its direction, where its name does not say it.
        strategy: ``"every_batch"``; ``"if_better"`` (loss lower or accuracy higher, or the metric
            better); ``"hybrid"``: if better, or every so many batches as a backup.
        preset: ``"conservative"``, ``"balanced"`` or ``"aggressive"``: takes the place of
            `max_checkpoints`, `every` and `by`; see `holdfast.preset`.
        every: Batches between backups.
        by: How much better is worth a checkpoint: absolute, or ``"0.5%"``.
        budget: Bytes that the checkpoints may take, for `CheckpointManager.stats` to compare with.

    Raises:
        ConfigError: An argument cannot be meant, or the metric's direction is unknown.
    """
    direction = metric_mode(metric_name, mode)
    if preset is not None:
        numbers = preset_numbers(preset)
        max_checkpoints, every, by = numbers.keep, numbers.every, numbers.by
    key = str(Path(checkpoint_dir).absolute())
    before = _managers.pop(key, None)
    if before is not None:
        before.close()
    manager = CheckpointManager(
        checkpoint_dir,
        max_checkpoints=max_checkpoints,
        metric_name=metric_name,
        metric_mode_=direction,
        save=_rule(strategy, metric_name, direction, every=every, by=by),
        budget_nbytes=None if budget is None else Size.of(budget, asker="budget").nbytes,
    )
    _managers[key] = manager
    return manager


def save_checkpoint(
    *,
    model: object,
    model_name: str,
    model_type: str = "",
    performance_metrics: Mapping[str, Any],
    training_metadata: Mapping[str, Any] | None = None,
    force_save: bool = False,
) -> CheckpointInfo | None:
    """Saves a model with the manager got last, or with a default one; see `CheckpointManager`."""
    return _current().save_checkpoint(
        model=model,
        model_name=model_name,
        model_type=model_type,
        performance_metrics=performance_metrics,
        training_metadata=training_metadata,
        force_save=force_save,
    )


def load_best_checkpoint(model_name: str, *, model: object | None = None) -> Checkpoint:
    """Returns the best checkpoint of a model by the current manager's metric."""
    return _current().load_best_checkpoint(model_name, model=model)


#: One per folder: two managers of a folder would lock each other out of its runs. In order of
#: use; the last one is what the module's functions mean.
_managers: dict[str, CheckpointManager] = {}


def _current() -> CheckpointManager:
    return next(reversed(_managers.values())) if _managers else get_checkpoint_manager()


def _rule(strategy: str, metric: str, mode: Mode, *, every: int, by: float | str) -> SavePolicy:
    if strategy == "every_batch":
        return when.always()
    better = when.improved("loss", by=by) | when.improved("accuracy", by=by)
    if metric not in ("loss", "accuracy"):
        better = better | when.improved(metric, mode=mode, by=by)
    if strategy == "if_better":
        return better
    if strategy == "hybrid":
        return better | when.every(steps=every)
    raise ConfigError(f"strategy={strategy!r} is unknown", hint="every_batch, if_better or hybrid")


def _values(
    name: str, metrics: list[dict[str, float]], lineage: Mapping[str, tuple[float, float]]
) -> list[float]:
    """Returns the finite values of a metric: of what is kept, and the extremes of the lineage."""
    values = [m[name] for m in metrics if name in m and math.isfinite(m[name])]
    return [*values, *lineage.get(name, ())]


def _known(models: list[dict[str, Any]], name: str) -> list[float]:
    return [model[name] for model in models if model[name] is not None]


def _close_all() -> None:
    for manager in _managers.values():
        manager.close()
    _managers.clear()


atexit.register(_close_all)
