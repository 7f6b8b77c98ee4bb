"""The records that every layer speaks in: frozen values, no I/O, no clock."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from holdfast.errors import ConfigError, MetricError

Mode = Literal["min", "max"]
Kind = Literal["full", "weights", "partial", "metrics"]
Metrics = Mapping[str, float]

#: ``full``: everything attached. ``weights``: what an inference needs. ``partial``: chosen items.
#: ``metrics``: no arrays at all.
KINDS: tuple[Kind, ...] = ("full", "weights", "partial", "metrics")


@dataclass(frozen=True, slots=True)
class CheckpointInfo:
    """What is known of a checkpoint without reading its shards.

    Attributes:
        id: ``<run>_<YYYYMMDD>_<HHMMSS>`` in UTC, unique in its store and never used twice.
        run: Name of its run.
        step: Training step whose state it holds.
        created_at: Seconds since the epoch, UTC; rises strictly within a run.
        metrics: Metric name to value, flat (``{"eval/loss": 0.3}``); late reports included.
        pinned: Whether it is protected from every policy.
        tags: Its tags, sorted.
        kind: One of `KINDS`; a thinned checkpoint keeps the kind it was saved as.
        damaged: Whether a verification found it broken.
        awaiting: Metrics whose late report it was promised; it is not deleted before.
        epoch: Epoch of the step, where it was given.
        shards: Shard name to stored bytes. A shard may belong to several checkpoints.
        items: Names of the items that it holds (now, that is, after thinning).
        thinned: Whether items were taken away from it.
        item_shards: Item name to the names of its shards.
        reason: Why it was saved.
        parent: Id of the checkpoint that its state descends from.
    """

    id: str
    run: str
    step: int
    created_at: float
    metrics: Metrics = field(default_factory=dict)
    pinned: bool = False
    tags: tuple[str, ...] = ()
    kind: Kind = "full"
    damaged: bool = False
    awaiting: tuple[str, ...] = ()
    epoch: int | None = None
    shards: Mapping[str, int] = field(default_factory=dict)
    items: tuple[str, ...] = ()
    thinned: bool = False
    item_shards: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    reason: str = ""
    parent: str | None = None

    def __post_init__(self) -> None:
        """Takes nested metrics as the slashed names that they are."""
        if _nested(self.metrics):
            object.__setattr__(self, "metrics", flatten_metrics(self.metrics))


@dataclass(frozen=True, slots=True)
class Verdict:
    """A policy's answer and its reason.

    Attributes:
        save: What was decided: save now, or, from a stop policy, stop now.
        reason: A short code, a colon, and the numbers: ``"improved: loss 0.23 (best 0.25)"``. The
            code of a manual save is what its caller passed.
    """

    save: bool
    reason: str

    def __bool__(self) -> bool:
        return self.save

    @property
    def stop(self) -> bool:
        """The decision of a stop policy (the same field under its own name)."""
        return self.save

    @property
    def code(self) -> str:
        """The reason's code alone: ``"improved"``, ``"interval"``, ``"forced"``."""
        return reason_code(self.reason)


def reason_code(reason: str) -> str:
    """Returns the part of a reason that stands before its numbers."""
    return reason.partition(":")[0].strip()


@dataclass(frozen=True, slots=True)
class Moment:
    """All that a save policy may look at.

    Attributes:
        step: The step just taken.
        now: Seconds since the epoch, UTC.
        metrics: Reported at this very step, flat.
        epoch: Epoch of the step, where it was given.
        last_saved: The newest checkpoint of this lineage, saves in flight included.
        best: Metric to ``(lowest, highest)`` over the checkpoints of this lineage.
        preempted: Whether a signal asked the process to end.
        interrupted: Whether Ctrl-C or an exception ended the loop.
        stall_s: How long recent saves held up training, in seconds; None before the first.
        write_s: How long recent saves took until durable, in seconds; None before the first.
        started_at: When this process opened the run; None where nobody said.
    """

    step: int
    now: float
    metrics: Metrics = field(default_factory=dict)
    epoch: int | None = None
    last_saved: CheckpointInfo | None = None
    best: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    preempted: bool = False
    interrupted: bool = False
    stall_s: float | None = None
    write_s: float | None = None
    started_at: float | None = None

    def __post_init__(self) -> None:
        """Takes nested metrics as the slashed names that they are."""
        if _nested(self.metrics):
            object.__setattr__(self, "metrics", flatten_metrics(self.metrics))


@dataclass(frozen=True, slots=True)
class Plan:
    """What a clean-up keeps, thins and deletes, and why.

    Attributes:
        kept: Checkpoints that stay, thinned ones among them; oldest first.
        deleted: Checkpoints that go; oldest first.
        thinned: Those of `kept` that lose items.
        reasons: Checkpoint id to sentences; every checkpoint has at least one.
        freed_nbytes: Bytes of shards that nothing in the plan's scope needs afterwards.
        remaining: Id of a thinned checkpoint to the items that it keeps.
    """

    kept: tuple[CheckpointInfo, ...]
    deleted: tuple[CheckpointInfo, ...]
    thinned: tuple[CheckpointInfo, ...]
    reasons: Mapping[str, tuple[str, ...]]
    freed_nbytes: int = 0
    remaining: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    executor: Callable[[Plan], Plan] | None = field(default=None, repr=False, compare=False)

    def fate(self, checkpoint_id: str) -> Literal["kept", "thinned", "deleted"]:
        """Returns what happens to a checkpoint; raises `KeyError` for one not in the plan."""
        if checkpoint_id not in self.reasons:
            raise KeyError(checkpoint_id)
        if any(info.id == checkpoint_id for info in self.deleted):
            return "deleted"
        return "thinned" if checkpoint_id in self.remaining else "kept"

    def apply(self) -> Plan:
        """Carries the plan out and returns what was done of it.

        What changed since the plan was made is looked at again first: a checkpoint that was
        pinned, tagged or awaits a score by now stays.

        Raises:
            ConfigError: The plan came from a policy alone and not from a store.
        """
        if self.executor is None:
            raise ConfigError(
                "this plan belongs to no store, so there is nothing to apply it to",
                hint="plans from Store.prune() and Store.delete() can be applied",
            )
        return self.executor(self)


_MIN_WORDS = frozenset({"loss", "error", "mae", "mse", "rmse", "perplexity", "wer", "cer", "fid"})
_MAX_WORDS = frozenset(
    {"accuracy", "acc", "f1", "auc", "reward", "score", "bleu", "rouge", "iou", "map", "ndcg"}
)
_WORD_BREAK = re.compile(r"[/_.\-]+")


def metric_mode(metric: str, mode: str | None = None) -> Mode:
    """Returns the direction of a metric: as given, or by the last word of its name.

    Args:
        metric: Metric name; a prefix does not matter (``val_loss``, ``eval/accuracy``).
        mode: ``"min"``, ``"max"``, or None to go by the name.

    Raises:
        ConfigError: The mode is neither, or the name says nothing and no mode was given.
    """
    if mode is not None:
        if mode == "min":
            return "min"
        if mode == "max":
            return "max"
        raise ConfigError(f"mode={mode!r} is not a direction", hint='pass mode="min" or mode="max"')
    word = _WORD_BREAK.split(metric.lower())[-1]
    if word in _MIN_WORDS:
        return "min"
    if word in _MAX_WORDS:
        return "max"
    raise ConfigError(
        f"the metric {metric!r} does not say by its name whether low or high is better",
        hint=f'pass mode="min" or mode="max" together with {metric!r}',
    )


def flatten_metrics(metrics: Mapping[str, object] | None, prefix: str = "") -> dict[str, float]:
    """Returns metrics as flat names to floats; ``{"eval": {"loss": 1}}`` is ``{"eval/loss": 1.0}``.

    Anything with ``item()`` (numpy scalars, one-element tensors) is taken at its value.

    Raises:
        MetricError: A value is not one number, two spellings of a name collide, or a name is no
            text that can be stored.
    """
    flat: dict[str, float] = {}
    for key, value in (metrics or {}).items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            nested = flatten_metrics(value, prefix=f"{name}/")
        else:
            nested = {_storable(name): _number(name, value)}
        for inner, number in nested.items():
            if inner in flat:
                raise MetricError(
                    f"the metric {inner!r} was passed twice",
                    hint="nested and slashed names are the same metric; pass one of them",
                )
            flat[inner] = number
    return flat


def _storable(name: str) -> str:
    if not name.isascii() and name.encode(errors="replace").decode() != name:
        raise MetricError(
            f"the metric {name!r:.100} has half a character in its name",
            hint="a lone surrogate cannot be stored: decode the name without surrogateescape",
        )
    return name


def _nested(metrics: Mapping[str, object]) -> bool:
    return any(isinstance(value, Mapping) for value in metrics.values())


def _number(name: str, value: object) -> float:
    if isinstance(value, (int, float)):
        return float(value)
    item = getattr(value, "item", None)
    if callable(item):
        try:
            return float(item())
        except (TypeError, ValueError, RuntimeError) as error:
            raise MetricError(
                f"the metric {name!r} is {type(value).__name__}, not one number: {error}",
                hint="reduce it first, for example with .mean()",
            ) from error
    raise MetricError(
        f"the metric {name!r} is {type(value).__name__}, not a number",
        hint="pass int, float, or something with item()",
    )


RunStatus = Literal["running", "finished", "failed", "interrupted"]
Fate = Literal["saved", "skipped", "failed", "kept", "thinned", "deleted"]


@dataclass(frozen=True, slots=True)
class RunInfo:
    """What is known of a run.

    Attributes:
        name: Its name, unique in its store.
        created_at: When it was first opened, seconds since the epoch, UTC.
        status: ``running``, ``finished``, ``failed`` or ``interrupted`` (``running`` without a
            living owner reads as ``interrupted``).
        metric: What "best" means for it, where it was said.
        mode: Direction of `metric`.
        config: The configuration that its last opening passed.
        policies: ``save``, ``keep`` and ``stop`` as text.
        parent: Name of the run that it was started from.
        environment: Versions, hardware, command line and commit of its last opening.
    """

    name: str
    created_at: float
    status: RunStatus = "running"
    metric: str | None = None
    mode: Mode | None = None
    config: Mapping[str, object] = field(default_factory=dict)
    policies: Mapping[str, str] = field(default_factory=dict)
    parent: str | None = None
    environment: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class CheckpointRecord:
    """A checkpoint as the catalog holds it: what policies see, and what people ask for besides.

    Attributes:
        info: What policies see.
        nbytes: Logical bytes: the arrays of all items.
        stored_nbytes: Bytes that this checkpoint was the first to write.
        generation: 1 when saved, one more with each thinning.
        metadata: What the caller attached (batch, session, ...).
        finite: Item name to whether all its floats are finite.
    """

    info: CheckpointInfo
    nbytes: int = 0
    stored_nbytes: int = 0
    generation: int = 1
    metadata: Mapping[str, object] = field(default_factory=dict)
    finite: Mapping[str, bool] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class StepRow:
    """One call of `Run.step`: what was reported and what was decided."""

    step: int
    at: float
    metrics: Metrics
    epoch: int | None = None
    saved: bool = False
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Decision:
    """One decision on a step or a checkpoint, with its reason.

    Attributes:
        at: When, seconds since the epoch, UTC.
        fate: What was decided.
        reason: Why, as a sentence.
        step: The step it was about.
        checkpoint_id: The checkpoint it was about; None for a skipped step.
    """

    at: float
    fate: Fate
    reason: str
    step: int
    checkpoint_id: str | None = None


@dataclass(frozen=True, slots=True)
class SaveTimes:
    """How long a save took.

    Attributes:
        checkpoint_id: The checkpoint that came of it.
        step: Its step.
        at: When it was durable, seconds since the epoch, UTC.
        stall_s: How long it held up training, in seconds.
        write_s: How long it took from then until it was durable, in seconds.
    """

    checkpoint_id: str
    step: int
    at: float
    stall_s: float
    write_s: float


@dataclass(frozen=True, slots=True)
class RunFacts:
    """All facts of one run, as its manifests and its journal tell them.

    Attributes:
        run: The run.
        checkpoints: Those that exist.
        steps: What counts of what it reported.
        decisions: What was decided, oldest first.
        journal_nbytes: Length of the part of its journal that was read.
        folder_mtime_ns: When its folder changed last, before it was listed.
        pending: Ids that may come or go without the journal or the run's folder changing: saves
            without a manifest yet, and what an open clean-up thins or deletes.
        times: How long its saves took, oldest first.
    """

    run: RunInfo
    checkpoints: tuple[CheckpointRecord, ...]
    steps: tuple[StepRow, ...]
    decisions: tuple[Decision, ...]
    journal_nbytes: int = 0
    folder_mtime_ns: int = 0
    pending: tuple[str, ...] = ()
    times: tuple[SaveTimes, ...] = ()
