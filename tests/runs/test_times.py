"""How long saves took is noted, for charts of them, and survives the catalog."""

from __future__ import annotations

import numpy as np
import pytest

import holdfast
from holdfast import SaveError, keep, when


def test_each_save_notes_how_long_it_held_up_training_and_until_it_was_durable(tmp_path):
    with holdfast.open(tmp_path / "store") as store:
        with store.run("run", save=when.never(), keep=keep.latest(1)) as run:
            run.attach(model={"w": np.zeros(1000)})
            saved = [run.save(step).wait() for step in range(3)]
        times = store["run"].times_since().rows
        # Deleted ones are told of, too.
        assert [(t.checkpoint_id, t.step) for t in times] == [(c.id, c.step) for c in saved]
        assert all(t.stall_s > 0 and t.write_s > 0 for t in times)
        assert all(t.at >= c.created_at for t, c in zip(times, saved, strict=True))
        assert store.verify().ok
        store.reindex()
        assert store["run"].times_since().rows == times


def test_a_save_that_fails_took_no_time_that_counts(tmp_path, monkeypatch):
    with holdfast.open(tmp_path / "store") as store:
        with store.run("run", save=when.never(), keep=keep.all()) as run:
            run.attach(model={"w": np.zeros(10)})
            with monkeypatch.context() as broken:
                broken.setattr("holdfast.storage.posix.Posix.rename", fail)
                with pytest.raises(SaveError):
                    run.save(0).wait()
            run.save(1).wait()
        assert [times.step for times in store["run"].times_since().rows] == [1]


def fail(*_):
    raise OSError(5, "Input/output error")
