"""Why a step was saved or not, and what became of its checkpoint, in sentences."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from holdfast.model import Decision, Plan
from holdfast.readable import metrics_text, moment
from holdfast.reading import Explanation
from holdfast.store import Store

_VERBS: Final = {
    "saved": "was saved",
    "skipped": "was not saved",
    "failed": "could not be saved",
    "kept": "was kept",
    "thinned": "was thinned",
    "deleted": "was deleted",
}
_WOULD: Final = {"kept": "keep", "thinned": "thin", "deleted": "delete"}


@dataclass(frozen=True, slots=True)
class Story:
    """What is to be told of a step.

    Attributes:
        step: The step.
        checkpoint: Id of its checkpoint, if one exists.
        sentences: What happened, from the first word to the last.
    """

    step: int
    checkpoint: str | None
    sentences: tuple[str, ...]


def story_of(store: Store, run: str, asked: str) -> Story:
    """Returns why a step of a run was saved or not, and what became of its checkpoint.

    Args:
        store: The store.
        run: The run.
        asked: A step, a checkpoint's id, or what `Store.get` takes behind the ``@``.

    Raises:
        NotFoundError: Nothing is known of it.
        ConfigError: It is neither a step nor a reference.
    """
    text = asked.strip().removeprefix("step ")
    if text.isascii() and text.isdigit():
        text = f"{run}@step:{text}"
    elif "@" not in text and text.partition(":")[0] in ("best", "latest", "step", "tag"):
        text = f"{run}@{text}"
    told = store.explain(text)
    plan = store.prune(told.run) if told.checkpoint else None
    return Story(
        told.step,
        told.checkpoint.id if told.checkpoint else None,
        tuple(_sentences(told, plan)),
    )


def _sentences(told: Explanation, plan: Plan | None) -> list[str]:
    said = []
    reported = {name: value for row in told.rows for name, value in row.metrics.items()}
    if reported:
        said.append(f"Step {told.step} reported {metrics_text(reported)}.")
    decided = {(decision.at, decision.fate) for decision in told.decisions}
    said += [
        f"At {moment(row.at)} it was not saved: {row.reason}."
        for row in told.rows
        if not row.saved and row.reason and (row.at, "skipped") not in decided
    ]
    said += [_sentence(decision) for decision in told.decisions]
    if told.checkpoint is None:
        gone = any(decision.fate == "deleted" for decision in told.decisions)
        said.append("It does not exist any more." if gone else "There is no checkpoint of it.")
    elif plan is not None and told.checkpoint.id in plan.reasons:
        why = "; ".join(plan.reasons[told.checkpoint.id])
        said.append(f"A clean-up now would {_WOULD[plan.fate(told.checkpoint.id)]} it: {why}.")
    return said


def _sentence(decision: Decision) -> str:
    what = decision.checkpoint_id or f"step {decision.step}"
    return f"At {moment(decision.at)} {what} {_VERBS[decision.fate]}: {decision.reason}."
