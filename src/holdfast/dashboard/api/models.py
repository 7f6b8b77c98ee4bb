"""What the API answers with: names, types and units."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema

from holdfast.model import Decision

#: A number; what JSON has no number for is text, as in the store's own files.
Number = Annotated[
    float,
    WithJsonSchema(
        {"anyOf": [{"type": "number"}, {"enum": ["NaN", "Infinity", "-Infinity"]}]},
        mode="serialization",
    ),
]
Seconds = Annotated[float, Field(description="Seconds since 1970-01-01T00:00:00Z.")]
Nbytes = Annotated[int, Field(description="Bytes.")]


class Answer(BaseModel):
    """Whatever the API answers with."""

    model_config = ConfigDict(ser_json_inf_nan="strings", from_attributes=True)


class ErrorBody(Answer):
    """What is wrong."""

    kind: str = Field(description="The kind of error: its class, or the name of the status.")
    message: str = Field(description="What is wrong, naming the thing.")
    hint: str = Field(description="What to do about it; may be empty.")
    nearest: list[str] | None = Field(
        default=None, description="Names that exist and look like the one asked for."
    )


class ErrorAnswer(Answer):
    """What every request that is refused is answered with."""

    error: ErrorBody


class AlertAnswer(Answer):
    """Something that needs attention."""

    severity: Literal["error", "warning"]
    kind: str
    run: str = Field(description="The run it is about; empty for the store.")
    text: str
    hint: str = Field(description="What to do.")
    checkpoint: str = Field(description="The checkpoint it is about; empty for none.")


class Health(Answer):
    """How the store stands."""

    holdfast: str = Field(description="The version of Holdfast that answers.")
    store: str = Field(description="The store's path or URL.")
    standing: Literal["ok", "missing", "unreadable"]
    text: str = Field(description="What is wrong; empty while it is `ok`.")
    hint: str = Field(description="What to do about it.")
    version: int = Field(description="A number that grows with every change that was seen.")
    alerts: list[AlertAnswer] = Field(description="What needs attention, the worst first.")


class BudgetAnswer(Answer):
    """Stored bytes against what they may be."""

    used_nbytes: Nbytes
    limit_nbytes: Nbytes
    share: Number = Field(description="Used bytes as a share of the limit.")
    over_nbytes: Nbytes
    left_nbytes: Nbytes


class RunUsageAnswer(Answer):
    """What the checkpoints of a run take."""

    checkpoints: int
    nbytes: Nbytes = Field(description="Bytes, as if nothing were shared.")
    stored_nbytes: Nbytes = Field(description="Bytes of the distinct shards that it holds.")
    unique_nbytes: Nbytes = Field(description="Bytes of the shards that no other run holds.")


class UsageAnswer(Answer):
    """What takes space."""

    checkpoints: int
    nbytes: Nbytes
    stored_nbytes: Nbytes
    saved_nbytes: Nbytes = Field(description="Bytes that sharing saves.")
    runs: dict[str, RunUsageAnswer]
    budget: BudgetAnswer | None = Field(default=None, description="None where no budget was given.")


class RunAnswer(Answer):
    """A run at a glance."""

    name: str
    status: Literal["running", "finished", "failed", "interrupted"]
    created_at: Seconds
    metric: str | None = Field(description='What "best" means for it.')
    mode: Literal["min", "max"] | None = Field(description="The metric's direction, where given.")
    parent: str | None = Field(description="The run that it was started from.")
    steps: int = Field(description="How many steps it recorded.")
    last_step: int | None = Field(description="The newest of them.")
    best: str | None = Field(description="Id of its best checkpoint by its own metric.")
    best_value: Number | None = Field(description="The metric's value there.")
    latest: str | None = Field(description="Id of its newest checkpoint.")
    last_saved_at: Seconds | None = Field(description="When that was saved.")
    checkpoints: int = Field(description="How many it has.")
    nbytes: Nbytes = Field(description="Bytes, as if nothing were shared.")
    stored_nbytes: Nbytes = Field(description="Bytes of the distinct shards that it holds.")
    spark: list[Number] = Field(description="Its metric's course in up to 40 values.")


class RunList(Answer):
    """All runs: running ones first, then the newest."""

    items: list[RunAnswer]
    total: int


class RunDetail(RunAnswer):
    """A run, with how it was opened last."""

    config: dict[str, Any] = Field(description="The configuration that was passed.")
    policies: dict[str, str] = Field(description="`save`, `keep` and `stop` as text.")
    environment: dict[str, Any] = Field(description="Versions, hardware, command line, commit.")


class CheckpointAnswer(Answer):
    """What the catalog knows of a checkpoint."""

    id: str
    run: str
    step: int
    epoch: int | None
    created_at: Seconds
    kind: Literal["full", "weights", "partial", "metrics"]
    reason: str = Field(description="Why it was saved: a code, and behind a colon the numbers.")
    metrics: dict[str, Number] = Field(description="Late reports included.")
    items: list[str] = Field(description="Names of the items that it holds now.")
    tags: list[str]
    pinned: bool = Field(description="Whether it is protected from every policy.")
    thinned: bool = Field(description="Whether items were taken away from it.")
    damaged: bool = Field(description="Whether a verification found it broken.")
    awaiting: list[str] = Field(description="Metrics that are to be reported late.")
    parent: str | None = Field(description="Id of what its state descends from.")
    nbytes: Nbytes = Field(description="Bytes of the arrays of all its items.")
    stored_nbytes: Nbytes = Field(description="Bytes that it was the first to write.")
    metadata: dict[str, Any] = Field(description="What its caller attached.")


class CheckpointPage(Answer):
    """Some of the checkpoints that were asked for."""

    items: list[CheckpointAnswer]
    next: str | None = Field(description="`cursor` of the next page; null behind the last one.")
    total: int = Field(description="How many there are.")


class TensorAnswer(Answer):
    """A tensor, as its file's header describes it."""

    name: str
    dtype: str = Field(description="As safetensors name it: F32, BF16, I64, ...")
    shape: list[int]
    nbytes: Nbytes
    digest: str = Field(description="BLAKE3 of its bytes, in hexadecimal.")


class ItemAnswer(Answer):
    """An item of a checkpoint."""

    name: str
    nbytes: Nbytes
    finite: bool = Field(description="Whether all its floating-point weights are finite.")
    tensors: list[TensorAnswer]


class Relative(Answer):
    """A checkpoint that is above or below another one."""

    id: str
    run: str
    step: int
    created_at: Seconds


class LineageAnswer(Answer):
    """Where a checkpoint's state comes from, and what was made of it."""

    parents: list[Relative] = Field(description="Its parent, that one's, and so on.")
    lost: str | None = Field(description="Id of the deleted one at which the line breaks off.")
    children: list[Relative] = Field(description="What descends from it directly, oldest first.")


class Report(Answer):
    """What one call of `step` reported, and what was decided."""

    step: int
    at: Seconds
    epoch: int | None
    metrics: dict[str, Number]
    saved: bool
    reason: str


class DecisionAnswer(Answer):
    """One decision, with its reason."""

    at: Seconds
    fate: Literal["saved", "skipped", "failed", "kept", "thinned", "deleted"]
    reason: str
    step: int
    checkpoint: str | None = Field(description="Its id; null for a skipped step.")

    @classmethod
    def of(cls, decision: Decision) -> DecisionAnswer:
        """Returns the answer that a decision is."""
        return cls(
            at=decision.at,
            fate=decision.fate,
            reason=decision.reason,
            step=decision.step,
            checkpoint=decision.checkpoint_id,
        )


class DecisionPage(Answer):
    """Some decisions, newest first."""

    items: list[DecisionAnswer]
    next: int | None = Field(description="`before` of the next page; null behind the last one.")
    total: int


class Explanation(Answer):
    """What was decided about a step or a checkpoint, from the first word to the last."""

    run: str
    step: int
    checkpoint: str | None = Field(description="Its id; null where none exists (any more).")
    reports: list[Report]
    decisions: list[DecisionAnswer]


class CheckpointDetail(CheckpointAnswer):
    """All that is known of a checkpoint."""

    path: str = Field(description="Its folder: plain safetensors files.")
    config: dict[str, Any] = Field(description="The run's configuration when it was saved.")
    contents: list[ItemAnswer]
    lineage: LineageAnswer
    explanation: Explanation


class MetricNames(Answer):
    """The metrics that a run reported."""

    items: list[str]
    metric: str | None = Field(description="The run's own.")


class SeriesAnswer(Answer):
    """How a metric went: three columns of one length."""

    metric: str
    steps: list[int]
    at: list[Seconds]
    values: list[Number]
    total: int = Field(description="How many points there are, before any are left out.")


class SeriesList(Answer):
    """How metrics of a run went."""

    run: str
    items: list[SeriesAnswer]


class MarkAnswer(Answer):
    """What became of a checkpoint."""

    id: str = Field(description="Empty for a save that failed before it had one.")
    step: int
    at: Seconds
    fate: Literal["kept", "thinned", "deleted", "failed"]
    reason: str = Field(description="Why it was saved.")
    why: str = Field(description="Why it was kept, thinned or deleted, or how it failed.")
    best: bool
    pinned: bool
    damaged: bool
    tags: list[str]


class MarkList(Answer):
    """What became of each checkpoint, by step."""

    items: list[MarkAnswer]


class MetricChange(Answer):
    """A metric in two checkpoints."""

    before: Number | None
    after: Number | None
    delta: Number | None


class ValueChange(Answer):
    """A value that differs between two checkpoints."""

    kind: Literal["added", "removed", "changed"]
    before: Any
    after: Any


class ItemChange(Answer):
    """The tensors of an item, by name."""

    added: list[str]
    removed: list[str]
    changed: list[str]
    same: list[str]


class TensorChange(Answer):
    """How far a tensor moved: L2 norms, and the largest absolute difference of an element."""

    before: Number
    after: Number
    difference: Number
    largest: Number


class DifferenceAnswer(Answer):
    """How two checkpoints differ."""

    a: str
    b: str
    metrics: dict[str, MetricChange]
    config: dict[str, ValueChange]
    metadata: dict[str, ValueChange]
    items: dict[str, ItemChange]
    tensors: dict[str, dict[str, TensorChange]] = Field(description="Empty without `norms`.")


class HistoryRow(Answer):
    """What one step reported."""

    step: int
    at: Seconds
    loss: Number | None
    accuracy: Number | None


class TrainingMetrics(Answer):
    """A training at a glance; all of it is null while there is no run."""

    run: str | None = None
    status: Literal["running", "finished", "failed", "interrupted"] | None = None
    current_loss: Number | None = None
    current_accuracy: Number | None = None
    best_loss: Number | None = None
    best_accuracy: Number | None = None
    loss_metric: str | None = Field(default=None, description="The metric that counts as its loss.")
    accuracy_metric: str | None = Field(
        default=None, description="The one that counts as its accuracy."
    )
    training_steps: int = 0
    trend: Literal["improving", "stable", "degrading"] | None = None
    trend_metric: str | None = Field(default=None, description="The metric that the trend is of.")
    last_training_at: Seconds | None = None
    history: list[HistoryRow] = Field(default=[], description="The newest reports, oldest first.")


def plain(value: Any) -> Any:
    """Returns a value of a user's as JSON has it, with ``"NaN"`` for what is no number."""
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, dict):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(inner) for inner in value]
    return value
