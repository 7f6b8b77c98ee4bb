"""Which checkpoint training goes on from, and putting it back."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping

from holdfast import environment, rng
from holdfast.announcements import inert
from holdfast.attached import RNG
from holdfast.checkpoint import Checkpoint
from holdfast.errors import FormatError, HoldfastError, IntegrityError, NotFoundError, TreeError
from holdfast.lifecycle import withdrawing
from holdfast.lifecycle.loading import MixedError
from holdfast.lifecycle.place import Place
from holdfast.lifecycle.recovering import Mirrors
from holdfast.model import RunInfo

_log = logging.getLogger("holdfast")


def candidates(place: Place, run: str) -> Iterable[Checkpoint]:
    """Yields the checkpoints that training can go on from: full ones, newest first."""
    for record in place.catalog.checkpoints(run, order_by="-created_at"):
        if record.info.kind == "full" and not record.info.thinned:
            yield Checkpoint(place, record)


def restore_newest(
    place: Place, run: str, objects: Mapping[str, object], *, with_rng: bool
) -> Checkpoint | None:
    """Restores the newest checkpoint that is full, intact and finite.

    One that is damaged or lost is taken from a mirror that has it sound. Others are passed over
    with a warning that names them; nothing is deleted.

    Returns:
        The checkpoint, or None where there is none.

    Raises:
        TreeError: An intact checkpoint does not fit the objects.
        IntegrityError: Nothing intact is left, and the objects were written to in finding out.
    """
    mirrors = Mirrors.of(place)
    mirrors.bring_back_all(run)
    found = list(candidates(place, run))
    if _heal_newest(mirrors, found):
        found = list(candidates(place, run))
    mixed: IntegrityError | None = None
    for number, checkpoint in enumerate(found, start=1):
        try:
            if _is_poisoned(checkpoint):
                continue
            if checkpoint.info.damaged or number == len(found):
                # With nothing to fall back on, the objects must not be touched by a damaged one.
                checkpoint.verify()
            _restore_healing(checkpoint, objects, mirrors, with_rng=with_rng)
        except NotFoundError:
            # Deleted by another process since it was listed.
            continue
        except TreeError:
            raise
        except HoldfastError as error:
            _log.warning(
                "%s (step %d) is passed over: %s", checkpoint.id, checkpoint.step, error.message
            )
            _set_aside(place, checkpoint, error)
            if isinstance(error, MixedError):
                mixed = error
            continue
        return checkpoint
    if mixed is not None:
        raise mixed
    return None


def _heal_newest(mirrors: Mirrors, found: Iterable[Checkpoint]) -> bool:
    """Mends what is damaged and newer than the newest sound one; returns whether any was."""
    healed = False
    for checkpoint in found:
        if not checkpoint.info.damaged:
            break
        if _heal(mirrors, checkpoint):
            healed = True
            break
    return healed


def _restore_healing(
    checkpoint: Checkpoint, objects: Mapping[str, object], mirrors: Mirrors, *, with_rng: bool
) -> None:
    """Restores; what turns out damaged is taken from a mirror, and restored then."""
    try:
        restore(checkpoint, objects, with_rng=with_rng)
    except (IntegrityError, FormatError):
        if not _heal(mirrors, checkpoint):
            raise
        restore(checkpoint, objects, with_rng=with_rng)


def _heal(mirrors: Mirrors, checkpoint: Checkpoint) -> bool:
    """Mends a damaged checkpoint from a mirror; returns whether it is sound now."""
    if not mirrors.place.writable:
        return False
    try:
        healed = mirrors.heal(checkpoint.run, checkpoint.id)
    except HoldfastError as error:
        _log.warning("%s could not be healed from a mirror: %s", checkpoint.id, error)
        return False
    if healed:
        _log.warning(
            "%s (step %d) was damaged: healed from a mirror", checkpoint.id, checkpoint.step
        )
    return healed


def _is_poisoned(checkpoint: Checkpoint) -> bool:
    poisoned = checkpoint.manifest.poisoned
    if poisoned:
        _log.warning(
            "%s (step %d) is passed over: %s holds NaN or infinite weights",
            checkpoint.id,
            checkpoint.step,
            " and ".join(poisoned),
        )
    return bool(poisoned)


def restore(checkpoint: Checkpoint, objects: Mapping[str, object], *, with_rng: bool) -> None:
    """Restores objects, and the random number generators last, for restoring may draw numbers.

    Raises:
        IntegrityError: Something is damaged; the objects hold mixed values.
        TreeError: Something does not fit; nothing was changed.
    """
    missing = [name for name in objects if name not in checkpoint.items]
    if missing:
        raise TreeError(
            f"{checkpoint.id} holds no {' and no '.join(missing)}",
            hint=f"it holds {', '.join(checkpoint.items)}; resume(items=[...]) chooses some",
            problems=tuple(f"{name}: missing from the checkpoint" for name in missing),
        )
    # Read before anything is changed: damage of it must not leave the objects half-way.
    generators = checkpoint.load(RNG) if with_rng and RNG in checkpoint.items else None
    if objects:
        checkpoint.restore_objects(objects)
    else:
        checkpoint.verify()
    if generators is not None:
        rng.restore(generators)


def log_differences(before: RunInfo | None, now: RunInfo) -> None:
    """Logs what is not as it was when the run was opened last."""
    if before is None:
        return
    for name in sorted(before.config.keys() | now.config.keys()):
        old, new = before.config.get(name, "unset"), now.config.get(name, "unset")
        if old != new:
            values = map(inert, (name, new, old))
            _log.info("since the last opening, config %s is %s instead of %s", *values)
    for line in environment.differences(before.environment, now.environment):
        _log.info("since the last opening, %s", inert(line))


def _set_aside(place: Place, checkpoint: Checkpoint, error: HoldfastError) -> None:
    """Notes the damage, so that no plan counts on the checkpoint; its files stay as they are."""
    if not place.writable or not isinstance(error, IntegrityError):
        return
    withdrawing.withdraw(place, checkpoint.run, checkpoint.id, error.paths)
    line = {"t": "damaged", "at": time.time(), "id": checkpoint.id, "reason": error.message}
    try:
        place.append(
            checkpoint.run,
            [line],
            durable=True,
            index=lambda catalog: catalog.set_damaged(checkpoint.id, True),
        )
    except HoldfastError as second:
        _log.warning("the damage of %s could not be noted: %s", checkpoint.id, second)
