"""References to checkpoints: ``run@best:loss``, ``run@latest``, ``run@step:400``, or an id."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from holdfast.engine import names
from holdfast.errors import ConfigError

_EXAMPLES = "references read run@best:val_loss, run@latest, run@step:400, run@tag:prod, or an id"


@dataclass(frozen=True, slots=True)
class Reference:
    """What a reference says.

    Attributes:
        run: Name of the run.
        by: How the checkpoint is chosen.
        value: The metric (empty for the run's own), step, tag, or id.
    """

    run: str
    by: Literal["best", "latest", "step", "tag", "id"]
    value: str = ""


def parse(text: str) -> Reference:
    """Returns what a reference says.

    Raises:
        ConfigError: It is none.
    """
    if names.is_id(text):
        return Reference(names.run_of_id(text), "id", text)
    run, at, selector = text.rpartition("@")
    if not at:
        raise ConfigError(f"{text!r} is no reference to a checkpoint", hint=_EXAMPLES)
    names.check_run(run)
    by, _, value = selector.partition(":")
    if by == "best":
        return Reference(run, "best", value)
    if by == "latest" and not value:
        return Reference(run, "latest")
    if by == "step" and value.isascii() and value.isdigit():
        return Reference(run, "step", value)
    if by == "tag" and value:
        return Reference(run, "tag", names.check_tag(value))
    raise ConfigError(f"{selector!r} in {text!r} chooses no checkpoint", hint=_EXAMPLES)


def parse_in_run(text: str, run: str) -> Reference:
    """Returns what a reference says within a run, where ``best:loss`` alone is enough too."""
    return parse(text) if "@" in text or names.is_id(text) else parse(f"{run}@{text}")


def is_reference(text: str) -> bool:
    """Returns whether a text is meant as a reference, rightly written or not."""
    return "@" in text or names.is_id(text)
