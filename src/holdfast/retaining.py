"""The clean-up that follows each save: what the keep policy lets go, and why the rest stays."""

from __future__ import annotations

import logging
import time

from holdfast.errors import HoldfastError
from holdfast.lifecycle.history import RunHistory
from holdfast.lifecycle.place import Place
from holdfast.lifecycle.prune import apply_plan
from holdfast.lifecycle.reindex import refresh_run
from holdfast.model import Decision, Plan
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
        self._keep = keep
        self._kept_reasons: dict[str, tuple[str, ...]] = {}

    def apply(self, *, finished: bool = False) -> Plan | None:
        """Applies the policy; a failure is logged, and the next save tries again.

        Args:
            finished: Whether the run is over for good.

        Returns:
            What was done; None where it failed.
        """
        try:
            self._history.refresh()
            self._heal_catalog()
            known = self._place.catalog.checkpoints(self._run, order_by="created_at")
            infos = [self._history.overlay(record.info) for record in known]
            plan = self._keep.plan(infos, now=time.time(), finished=finished)
            done = apply_plan(self._place, self._run, plan, history=self._history)
            self._note_kept(plan)
        except HoldfastError as error:
            _log.error("the clean-up of %s failed and is tried again later: %s", self._run, error)
            return None
        return done

    def _heal_catalog(self) -> None:
        """Rebuilds the run's rows if a write of them failed since, for want of room say."""
        seen = self._place.catalog.sync_states().get(self._run)
        if seen is None or seen[0] < self._history.nbytes:
            _log.info("the catalog was behind on %s: brought up to date", self._run)
            refresh_run(self._place, self._run)

    def _note_kept(self, plan: Plan) -> None:
        """Notes why checkpoints stay, where that changed since the last clean-up."""
        now = time.time()
        fresh = {
            info.id: plan.reasons[info.id]
            for info in plan.kept
            if self._kept_reasons.get(info.id) != plan.reasons[info.id]
        }
        self._kept_reasons = {info.id: plan.reasons[info.id] for info in plan.kept}
        if not fresh:
            return
        steps = {info.id: info.step for info in plan.kept}
        decisions = [Decision(now, "kept", "; ".join(why), steps[i], i) for i, why in fresh.items()]
        self._place.append(
            self._run,
            [{"t": "kept", "at": now, "reasons": {i: list(why) for i, why in fresh.items()}}],
            durable=False,
            index=lambda catalog: catalog.add_decisions(self._run, decisions),
        )
