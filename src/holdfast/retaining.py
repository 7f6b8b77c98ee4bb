"""The clean-up that follows each save: what the keep policy lets go, and why the rest stays."""

from __future__ import annotations

import logging
import time

from holdfast.errors import HoldfastError
from holdfast.lifecycle.history import RunHistory
from holdfast.lifecycle.known import KnownCheckpoints
from holdfast.lifecycle.place import Place
from holdfast.lifecycle.prune import apply_plan
from holdfast.model import Decision, Plan
from holdfast.policy.following import FollowedRun
from holdfast.policy.retention import KeepPolicy

_log = logging.getLogger("holdfast")


class Retention:
    """Applies a run's keep policy.

    Args:
        place: The store.
        run: The run, whose lock this process holds.
        history: What its journal says.
        keep: What stays.
    """

    def __init__(self, place: Place, run: str, *, history: RunHistory, keep: KeepPolicy) -> None:
        self._place = place
        self._run = run
        self._history = history
        self._known = KnownCheckpoints(place, run, history)
        self._followed = FollowedRun(keep, told=_told(history))

    def apply(self, *, finished: bool = False, lags: bool = False) -> Plan | None:
        """Applies the policy; a failure is logged, and the next save tries again.

        Args:
            finished: Whether the run is over for good.
            lags: Whether the catalog misses something: a write to it failed.

        Returns:
            What was done; None where it failed.
        """
        try:
            news = self._known.refresh(lags=lags)
            for checkpoint_id in news.gone:
                self._followed.forget(checkpoint_id)
            for info in news.learnt:
                self._followed.learn(info)
            plan = self._followed.plan(now=time.time(), finished=finished)
            done = apply_plan(self._place, self._run, plan, history=self._history)
            self._note_kept(plan)
        except HoldfastError as error:
            _log.error("the clean-up of %s failed and is tried again later: %s", self._run, error)
            return None
        return done

    def catch_up(self, *, lags: bool) -> bool:
        """Brings the catalog to what it had no room for; returns whether it is up to date.

        Args:
            lags: As for `apply`.
        """
        try:
            return self._known.catch_up(lags=lags)
        except HoldfastError as error:
            _log.warning("the catalog of %s cannot be brought up to date: %s", self._run, error)
            return False

    def _note_kept(self, plan: Plan) -> None:
        """Notes why checkpoints stay, where that changed since the last clean-up."""
        if not plan.kept:
            return
        now = time.time()
        reasons = {info.id: plan.reasons[info.id] for info in plan.kept}
        decisions = [
            Decision(now, "kept", "; ".join(reasons[info.id]), info.step, info.id)
            for info in plan.kept
        ]
        self._place.append(
            self._run,
            [{"t": "kept", "at": now, "reasons": {i: list(why) for i, why in reasons.items()}}],
            durable=False,
            index=lambda catalog: catalog.add_decisions(self._run, decisions),
        )


def _told(history: RunHistory) -> dict[str, list[str]]:
    """Returns why checkpoints stay, as it was noted last."""
    return {
        decision.checkpoint_id: decision.reason.split("; ")
        for decision in history.decisions
        if decision.fate == "kept" and decision.checkpoint_id is not None
    }
