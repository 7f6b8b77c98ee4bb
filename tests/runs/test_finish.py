"""The final checkpoint, and `CheckpointStrategy`."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

import holdfast
from holdfast import when
from tests.runs.samples import attached, manual, steps_of


def git(folder, *words):
    identity = ["-c", "user.name=t", "-c", "user.email=t@t"]
    return subprocess.run(
        ["git", *identity, *words], cwd=folder, check=True, capture_output=True, text=True
    ).stdout.strip()


@pytest.fixture
def repository(tmp_path, monkeypatch):
    folder = tmp_path / "code"
    folder.mkdir()
    git(folder, "init", "-q")
    (folder / "train.py").write_text("1")
    git(folder, "add", ".")
    git(folder, "commit", "-q", "-m", "first")
    monkeypatch.chdir(folder)
    return folder


@pytest.mark.parametrize("dirty", [False, True])
def test_the_final_checkpoint_holds_what_reproducing_it_takes(
    store, repository, monkeypatch, dirty
):
    if dirty:
        (repository / "train.py").write_text("2")
    monkeypatch.setattr(sys, "argv", ["train.py", "--lr", "0.1"])
    torch.manual_seed(1234)
    with manual(store, config={"lr": 0.1, "layers": [1, 2]}) as run:
        run.step(0, loss=1.0)
        run.step(7, loss=0.5)
        final = run.finish({"test_loss": 0.4})
    assert (final.step, final.kind) == (7, "full")
    assert final.reason == "final"
    assert final.metrics == {"loss": 0.5, "test_loss": 0.4}
    assert final.config == {"lr": 0.1, "layers": [1, 2]}
    assert final.metadata["final"] is True
    found = final.metadata["environment"]
    assert found["git"] == {"commit": git(repository, "rev-parse", "HEAD"),
                            "branch": git(repository, "rev-parse", "--abbrev-ref", "HEAD"),
                            "dirty": dirty}  # fmt: skip
    assert found["seeds"]["torch"] == {"cpu": 1234}
    assert found["packages"]["numpy"]
    assert found["packages"]["torch"] == torch.__version__
    assert found["python"] == sys.version.split()[0]
    assert found["command"] == ["train.py", "--lr", "0.1"]
    assert found["hardware"]["processors"] >= 1
    assert found["hardware"]["memory_nbytes"] > 0
    assert store["run"].status == "finished"


def test_a_run_without_anything_attached_finishes_with_metrics_only(store):
    with store.run("run", save=when.never()) as run:
        run.step(0, loss=1.0)
        final = run.finish()
    assert (final.kind, final.metrics) == ("metrics", {"loss": 1.0})


def test_a_final_save_that_fails_leaves_the_run_open(store, monkeypatch):
    with manual(store) as run:
        run.step(0, loss=1.0)
        with monkeypatch.context() as patched:
            patched.setattr(store._place.storage, "make_folder", _full)
            with pytest.raises(holdfast.StorageFullError):
                run.finish()
        assert run.status == "running"
        assert run.finish().step == 0


def _full(*_, **__):
    raise holdfast.StorageFullError("no room")


@pytest.mark.parametrize(
    ("strategy", "kept", "best"),
    [
        (holdfast.CheckpointStrategy(2, "loss", "min"), [1, 3], 3),
        (holdfast.CheckpointStrategy(2, "loss"), [2, 4], 2),
        (holdfast.CheckpointStrategy(2), [3, 4], 4),
        (holdfast.CheckpointStrategy(), [1, 2, 3, 4], 4),
        (holdfast.CheckpointStrategy(0), [], None),
    ],
    ids=str,
)
def test_checkpoint_strategy_keeps_and_points_as_ray_did(store, strategy, kept, best):
    with store.run("run", save=when.always(), keep=strategy) as run:
        attached(run)
        for step, loss in enumerate([2.0, 4.0, 1.0, 3.0], start=1):
            run.step(step, loss=loss)
            run.wait()
        assert steps_of(run) == kept
        assert run.latest_checkpoint_dir == store.path / "runs" / "run"
        path = run.best_checkpoint_path
        if best is None:
            assert path is None
        else:
            assert Path(path) == run.get(f"step:{best}").path
            assert (Path(path) / "model.safetensors").exists()


def test_other_policies_point_at_the_best_by_the_runs_metric(store):
    with manual(store, metric="loss") as run:
        assert run.best_checkpoint_path is None
        run.save(0, {"loss": 1.0}).wait()
        run.save(1, {"loss": 2.0}).wait()
        assert run.best_checkpoint_path == run.get("step:0").path


def test_a_run_that_goes_on_after_finish_is_running_again(store):
    with manual(store) as run:
        run.step(0, loss=1.0)
        run.finish()
    with manual(store) as run:
        assert store["run"].status == "running"
        assert run.resume() == 1
        assert run.stats()["best"]["loss"] == (1.0, 1.0)
