"""What the API answers with: names, types and units."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema

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
        None, description="Names that exist and look like the one asked for."
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
    budget: BudgetAnswer | None = Field(None, description="None where no budget was given.")


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


def plain(value: Any) -> Any:
    """Returns a value of a user's as JSON has it, with ``"NaN"`` for what is no number."""
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, dict):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(inner) for inner in value]
    return value
