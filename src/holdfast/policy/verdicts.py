"""Verdicts joined: what several policies said, as one answer with every reason that counted."""

from __future__ import annotations

from collections.abc import Sequence

from holdfast.model import Verdict


def any_of(verdicts: Sequence[Verdict]) -> Verdict:
    """Returns yes when one said yes, with the reasons of those that did; else all reasons."""
    yes = [verdict.reason for verdict in verdicts if verdict.save]
    if yes:
        return Verdict(True, "; ".join(yes))
    return Verdict(False, "; ".join(verdict.reason for verdict in verdicts))


def all_of(verdicts: Sequence[Verdict]) -> Verdict:
    """Returns yes when all said yes; else no, with the reasons of those that refused."""
    no = [verdict.reason for verdict in verdicts if not verdict.save]
    if no:
        return Verdict(False, "; ".join(no))
    return Verdict(True, " and ".join(verdict.reason for verdict in verdicts))


def opposite(verdict: Verdict) -> Verdict:
    """Returns the other answer; its code names what it is the opposite of."""
    numbers = verdict.reason.partition(":")[2].strip()
    return Verdict(not verdict.save, f"not ({verdict.code}): {numbers}")
