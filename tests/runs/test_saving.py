"""What is saved, what is refused, and what happens when the medium is slow or fails."""

import errno
import logging
import os
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

import holdfast
from holdfast import keep, when
from tests.runs.samples import FailingPosix, attached, manual, on_medium, saved, slow, steps_of


def broken(store):
    """Returns a medium that refuses what is written."""
    on_medium(store, medium := FailingPosix())
    medium.error = OSError(errno.EIO, "Input/output error")
    return medium


def test_what_is_saved_is_the_state_at_the_call(store):
    with store.run("run", save=when.never()) as run:
        model = attached(run, 1.0)
        with slow(store) as medium:
            pending = run.save(0)
            assert medium.waiting.wait(60)
            model["w"][:] = 2.0
        assert pending.wait().load("model")["w"].tolist() == [1.0] * 8


def test_attach_refuses_what_cannot_be_stored_with_its_path(store):
    class Odd:
        pass

    with store.run("run") as run:
        with pytest.raises(holdfast.TreeError) as caught:
            run.attach(optimizer={"groups": [{"foo": Odd(), "bar": {1, Odd()}}]}, model={"w": 1})
        assert "optimizer.groups[0].foo" in str(caught.value)
        assert caught.value.hint
        assert not run._session.attached


def test_attach_logs_the_plan(store, log):
    with store.run("run", metric="loss", keep=keep.best(10) | keep.latest(2)) as run:
        run.attach(model={"w": np.zeros(250_000)})
    assert re.search(r"2\.0MB a checkpoint, 12 kept, 24\.\dMB; [\d.]+[kMGT]?B free", log.text)


def test_new_state_is_checked_when_it_appears_and_training_goes_on(store, log):
    with pytest.raises(holdfast.TreeError), store.run("run", save=when.always()) as run:  # noqa: PT012
        optimizer = {"state": {}}
        run.attach(optimizer=optimizer)
        optimizer["state"]["late"] = object()
        verdict = run.step(0, loss=1.0)
        assert not verdict
        assert "optimizer.state.late" in verdict.reason
        assert run.stats()["failed"] == 1
        assert not run.step(1, loss=1.0)
    assert "optimizer.state.late" in log.text


def test_state_that_appears_later_is_saved(store):
    with manual(store) as run:
        optimizer: dict[str, object] = {}
        run.attach(optimizer=optimizer)
        run.save(0)
        optimizer["momentum"] = np.ones(3)
        assert run.save(1).wait().load("optimizer")["momentum"].tolist() == [1.0] * 3


def test_a_state_dict_that_raises_does_not_end_training(store, log):
    class Fragile:
        fine = True

        def state_dict(self):
            if not self.fine:
                raise RuntimeError("device lost")
            return {"w": 1}

        def load_state_dict(self, state):
            self.fine = state == {"w": 1}

    with store.run("run", save=when.always()) as run:
        owner = Fragile()
        run.attach(owner=owner)
        owner.fine = False
        assert run.step(0).code == "failed"
        owner.fine = True
        assert run.step(1)
    assert "device lost" in log.text


def test_backlog_wait_holds_the_next_save_until_the_one_before_is_durable(store):
    with store.run("run", save=when.always()) as run:
        attached(run)
        run.step(0)
        run.step(1)
        assert steps_of(run)[:1] == [0]
        run.wait()
        assert steps_of(run) == [0, 1]
        assert run.stats()["dropped"] == 0


def test_backlog_skip_leaves_the_next_save_out(store):
    with store.run("run", save=when.always(), backlog="skip") as run:
        attached(run)
        with slow(store) as medium:
            assert run.step(0)
            assert medium.waiting.wait(60)
            verdict = run.step(1)
            assert not verdict
            assert verdict.code == "skipped"
        run.wait()
        assert run.step(2)
        run.wait()
        assert steps_of(run) == [0, 2]
        assert run.stats()["dropped"] == 1


def test_backlog_latest_replaces_the_save_that_has_not_begun(store):
    with store.run("run", save=when.always(), backlog="latest") as run:
        attached(run)
        with slow(store) as medium:
            run.step(0, loss=3.0)
            assert medium.waiting.wait(60)
            run.step(1, loss=1.0)
            run.step(2, loss=2.0)
        run.wait()
        assert steps_of(run) == [0, 2]
        assert run.stats()["dropped"] == 1
        assert run.stats()["best"]["loss"] == (2.0, 3.0)
        assert run.latest().parent == run.get("step:0").id


def test_a_save_behind_one_that_fails_descends_from_the_last_durable_one(store):
    with pytest.raises(holdfast.SaveError), _latest(store) as run:  # noqa: PT012
        attached(run)
        durable = run.save(0, {"loss": 9.0}).wait()
        with slow(store) as medium:
            run.step(1, loss=1.0)
            assert medium.waiting.wait(60)
            run.step(2, loss=5.0)
            medium.write = broken_write(medium, times=1)
        run.wait()
        assert steps_of(run) == [0, 2]
        assert run.latest().parent == durable.id
        raise run._session.saver.counters.last_error
    with _latest(store) as run:
        assert run.stats()["best"]["loss"] == (5.0, 9.0)


def _latest(store):
    return store.run("run", save=when.always(), backlog="latest")


def broken_write(medium, *, times):
    """Returns a write that fails so many times, then works."""
    left = [times]
    real = medium.write

    def write(fd, parts):
        if left[0]:
            left[0] -= 1
            raise OSError(errno.EIO, "Input/output error")
        return real(fd, parts)

    return write


def test_a_background_failure_is_logged_raised_by_its_wait_and_shown(store, log):
    with pytest.raises(holdfast.SaveError, match="Input/output"), manual(store) as run:  # noqa: PT012
        before = saved(run, 0)
        medium = broken(store)
        pending = run.save(1)
        with pytest.raises(holdfast.SaveError):
            pending.wait()
        assert pending.done()
        assert isinstance(pending.exception(), holdfast.SaveError)
        assert run.stats()["failed"] == 1
        assert "Input/output" in run.stats()["last_error"]
        assert run.checkpoints() == [before]
        assert before.load("model")["w"].tolist() == [0.0] * 8
        assert not run.step(2, loss=1.0)
        medium.error = None
    errors = [r for r in log.records if r.levelno == logging.ERROR]
    assert "step 1" in errors[0].getMessage()


def test_leaving_does_not_raise_a_failure_that_a_later_save_made_good(store):
    with manual(store) as run:
        medium = broken(store)
        pending = run.save(0)
        assert isinstance(pending.exception() or _failure(pending), holdfast.SaveError)
        medium.error = None
        run.save(1).wait()
    assert steps_of(store, "run") == [1]


def _failure(pending):
    with pytest.raises(holdfast.SaveError) as caught:
        pending.wait()
    return caught.value


def test_the_loops_own_error_is_not_hidden_by_a_failed_save(store, log):
    with pytest.raises(ZeroDivisionError), manual(store) as run:  # noqa: PT012
        broken(store)
        run.save(0)
        run.wait()
        _ = 1 / 0
    assert "on leaving run" in log.text


def test_in_raise_mode_the_next_step_raises_a_failure_once(store):
    with manual(store, on_save_error="raise") as run:
        medium = broken(store)
        run.save(0)
        run.wait()
        with pytest.raises(holdfast.SaveError):
            run.step(1)
        medium.error = None
        run.step(2)
        run.save(3)


def test_a_failed_save_leaves_no_file_behind(store):
    with manual(store) as run:
        medium = broken(store)
        _failure(run.save(0))
        medium.error = None
        folders = [path for path in (store.path / "runs/run").iterdir() if path.is_dir()]
        assert folders == []
        run.save(1)


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small medium needs root")
@pytest.mark.parametrize("left", [0, 500_000])
def test_a_full_disk_ends_nothing_and_the_next_save_tries_again(tmp_path, left):
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(disk)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("this machine allows no mounts")
    try:
        _fill_and_go_on(disk, left)
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def _fill_and_go_on(disk, left):
    with holdfast.open(disk / "store") as store, store.run("run", save=when.always()) as run:
        model = {"w": np.zeros(125_000)}
        run.attach(model=model)
        run.step(0, loss=1.0)
        run.wait()
        free = shutil.disk_usage(disk).free
        (disk / "stuff").write_bytes(bytes(free - left))
        model["w"][:] = 1.0
        run.step(1, loss=0.5)
        run.wait()
        assert "free" in run.stats()["last_error"]
        assert isinstance(run._session.saver.counters.last_error, holdfast.StorageFullError)
        earlier = run.get("step:0")
        assert earlier.load("model")["w"][0] == 0.0
        (disk / "stuff").unlink()
        run.step(2, loss=0.4)
        run.wait()
        assert steps_of(run) == [0, 2]
        assert run.latest().load("model")["w"][0] == 1.0
        assert [row.step for row in run.steps()] == [0, 1, 2]


def test_metadata_that_json_has_no_form_for_is_catalogued_as_it_is_stored(store):
    with manual(store) as run:
        metadata = {"epoch": np.int64(3), "rate": np.float32(0.5), "from": Path("data"), "ids": {1}}
        saved = run.save(0, metadata=metadata).wait()
        expected = {"epoch": 3, "rate": 0.5, "from": "data", "ids": [1]}
        assert saved.metadata == expected
        assert run.latest().metadata == expected
    store.reindex()
    assert store.latest("run").metadata == expected
