"""The one-call interface."""

import errno
import re

import numpy as np
import pytest

import holdfast
from holdfast import manager as managers
from tests.runs.samples import FailingPosix, on_medium


@pytest.fixture
def folder(place):
    yield place
    managers._close_all()


@pytest.fixture
def manager(folder):
    return holdfast.get_checkpoint_manager(folder, metric_name="loss")


def save(source, loss, *, name="transformer", fill=None, **more):
    metrics = {"loss": loss, **more.pop("metrics", {})}
    model = {"w": np.full(4, loss if fill is None else fill)}
    return source.save_checkpoint(
        model=model, model_name=name, model_type="Transformer", performance_metrics=metrics, **more
    )


def test_a_save_returns_the_checkpoints_info_with_an_id_that_reads_well(manager):
    info = save(manager, 0.5)
    assert re.fullmatch(r"transformer_\d{8}_\d{6}", info.id)
    assert info.metrics == {"loss": 0.5}
    again = save(manager, 0.4)
    assert re.fullmatch(r"transformer_\d{8}_\d{6}(-2)?", again.id)
    assert again.id != info.id


def test_what_is_not_worth_saving_returns_none(manager):
    assert save(manager, 0.5)
    assert save(manager, 0.6) is None
    assert save(manager, 0.6, force_save=True).reason == "forced"


def test_metadata_of_the_training_is_stored(manager):
    data = {"epoch": 3, "batch": 17, "total_batches": 100, "session": "s-1", "note": None}
    info = save(manager, 0.5, training_metadata=data)
    found = manager.store.get(info.id)
    assert found.metadata == {"model_type": "Transformer", **data}
    assert found.epoch == 3


@pytest.mark.parametrize(
    ("strategy", "saved"),
    [
        ("every_batch", [0, 1, 2, 3, 4, 5]),
        ("if_better", [0, 2, 3]),
        ("hybrid", [0, 2, 3, 5]),
    ],
)
def test_the_three_strategies(folder, strategy, saved):
    manager = holdfast.get_checkpoint_manager(
        folder, metric_name="loss", strategy=strategy, every=2
    )
    values = [(3, 0.5), (3, 0.5), (2, 0.5), (3, 0.6), (4, 0.1), (5, 0.1)]
    found = [save(manager, loss, metrics={"accuracy": accuracy}) for loss, accuracy in values]
    assert [step for step, info in enumerate(found) if info] == saved
    codes = {info.reason.partition(":")[0] for info in found if info}
    assert codes <= {"improved", "interval", "always"}
    if strategy == "hybrid":
        assert found[5].reason.startswith("interval")
        assert found[3].reason.startswith("improved: accuracy")


@pytest.mark.parametrize(
    ("metric", "values", "best"),
    [("loss", [3, 1, 2], 1), ("accuracy", [0.1, 0.9, 0.2], 0.9), ("reward", [5, 70, 6], 70)],
)
def test_the_best_follows_the_metrics_direction(folder, metric, values, best):
    manager = holdfast.get_checkpoint_manager(folder, metric_name=metric, strategy="every_batch")
    for value in values:
        manager.save_checkpoint(
            model={"w": np.full(2, float(value))},
            model_name="dqn",
            performance_metrics={metric: value},
        )
    model = {"w": np.zeros(2)}
    found = manager.load_best_checkpoint("dqn", model=model)
    assert found.metrics[metric] == best
    assert model["w"].tolist() == [best, best]
    assert holdfast.load_best_checkpoint("dqn") == found


def test_the_best_n_per_model_stay_and_the_newest(folder, caplog):
    manager = holdfast.get_checkpoint_manager(
        folder, max_checkpoints=2, metric_name="loss", strategy="every_batch"
    )
    caplog.set_level("INFO", logger="holdfast")
    for loss in (3, 1, 2, 4, 5):
        save(manager, loss)
        save(manager, loss, name="cnn")
    for name in ("transformer", "cnn"):
        kept = {c.metrics["loss"] for c in manager.store.checkpoints(name)}
        assert kept == {1, 2, 5}
    assert "Deleted 1 old checkpoints for transformer" in [r.getMessage() for r in caplog.records]


def test_the_log_lines_read_as_wished(manager, caplog):
    caplog.set_level("INFO", logger="holdfast")
    info = save(manager, 0.234, metrics={"accuracy": 0.785})
    lines = [r.getMessage() for r in caplog.records]
    at = lines.index(f"Checkpoint saved (improved): {info.id}")
    assert lines[at + 1] == "  Loss: 0.2340, Accuracy: 78.50%"
    assert "  New best! Loss: 0.2340" in lines
    assert "  New best! Accuracy: 78.50%" in lines
    caplog.clear()
    save(manager, 0.5, metrics={"accuracy": 0.8})
    lines = [r.getMessage() for r in caplog.records]
    assert [line for line in lines if "New best" in line] == ["  New best! Accuracy: 80.00%"]


def test_a_failing_save_returns_none_is_logged_and_counted_and_ends_nothing(manager, caplog):
    save(manager, 0.5)
    on_medium(manager.store, medium := FailingPosix())
    medium.error = OSError(errno.EIO, "Input/output error")
    assert save(manager, 0.4) is None
    assert save(manager, 0.3, force_save=True) is None
    medium.error = None
    assert manager.stats()["failed"] >= 2
    assert manager.stats()["models"]["transformer"]["failed"] >= 1
    assert "Input/output" in caplog.text
    assert save(manager, 0.45).metrics == {"loss": 0.45}


def test_a_manager_whose_last_save_failed_closes_quietly(folder, caplog):
    with holdfast.get_checkpoint_manager(folder, metric_name="loss") as manager:
        save(manager, 0.5)
        on_medium(manager.store, medium := FailingPosix())
        medium.error = OSError(errno.EIO, "Input/output error")
        save(manager, 0.4)
        medium.error = None
    assert "on closing" in caplog.text
    assert holdfast.get_checkpoint_manager(folder).load_best_checkpoint(
        "transformer", metric_name="loss"
    ).metrics == {"loss": 0.5}


def test_stats_say_it_per_model_and_in_all(folder):
    manager = holdfast.get_checkpoint_manager(
        folder, metric_name="loss", strategy="every_batch", budget="2GB"
    )
    save(manager, 2.0, metrics={"accuracy": 0.5})
    save(manager, 1.0, metrics={"accuracy": 0.4})
    save(manager, 0.1, name="cnn")
    stats = manager.stats()
    model = stats["models"]["transformer"]
    assert (model["checkpoints"], model["saved"], model["failed"]) == (2, 2, 0)
    assert (model["best_loss"], model["best_accuracy"]) == (1.0, 0.5)
    assert model["last_age_s"] >= 0
    assert (stats["checkpoints"], stats["saved"], stats["failed"]) == (3, 3, 0)
    assert (stats["best_loss"], stats["best_accuracy"]) == (0.1, 0.5)
    assert stats["last_age_s"] >= 0
    assert stats["models"]["cnn"]["best_accuracy"] is None
    assert re.fullmatch(r"\d+(\.\d)?k?B / 2\.0GB", stats["disk_usage"])
    text = manager.summary()
    assert "3 checkpoints, 0 failed saves, disk usage" in text
    assert "cnn: 1 checkpoints, best Loss: 0.1000" in text


@pytest.mark.parametrize(
    ("nbytes", "text"),
    [(0, "0B"), (999, "999B"), (1_800_000_000, "1.8GB"), (2_000_000_000, "2.0GB"),
     (1_500, "1.5kB"), (3_200_000, "3.2MB"), (5e13, "50.0TB")],
)  # fmt: skip
def test_bytes_read_as_people_write_them(nbytes, text):
    assert holdfast.announcements.nbytes_text(nbytes) == text


def test_a_reopened_manager_goes_on(folder):
    first = save(holdfast.get_checkpoint_manager(folder, metric_name="loss"), 0.5)
    manager = holdfast.get_checkpoint_manager(folder, metric_name="loss")
    assert save(manager, 0.6) is None
    better = save(manager, 0.4)
    assert better.step == first.step + 2
    assert better.parent == first.id
    assert manager.load_best_checkpoint("transformer").id == better.id
    assert manager.stats()["checkpoints"] == 2


def test_the_functions_mean_the_manager_that_was_got_last(folder):
    holdfast.get_checkpoint_manager(folder / "one", metric_name="loss")
    two = holdfast.get_checkpoint_manager(folder / "two", metric_name="loss")
    info = save(holdfast, 0.5)
    assert two.store.get(info.id).metrics == {"loss": 0.5}


def test_the_default_folder_is_the_one_that_was_promised(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert holdfast.save_checkpoint(
        model={"w": np.zeros(2)}, model_name="m", performance_metrics={"accuracy": 0.5}
    )
    assert (tmp_path / "models" / "checkpoints" / "runs" / "m").is_dir()


def test_a_dqn_saves_every_so_many_episodes_or_forced(folder):
    manager = holdfast.get_checkpoint_manager(folder, metric_name="reward", by=1e9, every=3)

    def episode(reward, **more):
        return manager.save_checkpoint(
            model={"q": np.zeros(2)}, model_name="dqn", performance_metrics={"reward": reward},
            **more,
        )  # fmt: skip

    found = [episode(float(n)) for n in range(8)]
    assert [n for n, info in enumerate(found) if info] == [0, 3, 6]
    assert episode(1.0, force_save=True).reason == "forced"


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"metric_name": "distance"}, "distance"),
        ({"strategy": "sometimes"}, "sometimes"),
        ({"max_checkpoints": 0}, "0"),
        ({"budget": "lots"}, "lots"),
    ],
)
def test_a_manager_that_cannot_be_meant_is_refused(folder, options, word):
    with pytest.raises(holdfast.ConfigError) as caught:
        holdfast.get_checkpoint_manager(folder, **options)
    assert word in str(caught.value)
    assert caught.value.hint


@pytest.mark.parametrize(
    ("name", "numbers"),
    [("conservative", (20, 50)), ("balanced", (10, 100)), ("aggressive", (5, 200))],
)
def test_presets_work_in_a_run(folder, name, numbers):
    save_policy, keep_policy = holdfast.preset(name)
    kept, every = numbers
    with holdfast.open(folder) as store:
        options = {"metric": "loss", "save": save_policy, "keep": keep_policy}
        with store.run("run", **options) as run:
            run.attach(model={"w": np.zeros(2)})
            saved = [step for step in range(every + 1) if run.step(step, loss=1.0)]
            run.wait()
        assert saved == [0, every]
        assert keep_policy.at_most() == kept


def test_an_epoch_of_numpy_is_the_checkpoints_epoch(manager):
    info = manager.save_checkpoint(
        model={"w": np.zeros(2)},
        model_name="cnn",
        performance_metrics={"loss": 1.0},
        training_metadata={"epoch": np.int64(7)},
    )
    assert info.epoch == 7
