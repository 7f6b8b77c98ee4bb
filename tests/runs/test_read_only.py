"""Reading a store writes nothing at all, whoever may write there."""

import os
import subprocess

import pytest

import holdfast
from holdfast import keep
from tests.runs.samples import manual, slow


@pytest.fixture
def filled(place):
    with holdfast.open(place) as store, manual(store, "digits-cnn", metric="loss") as run:
        run.save(0, {"loss": 2.0}).wait()
        run.save(1, {"loss": 1.0}).wait()
    return place


def trace(folder):
    """Returns everything of a folder that a write would change."""
    found = {}
    for path in sorted([folder, *folder.rglob("*")]):
        status = path.lstat()
        content = path.read_bytes() if path.is_file() else b""
        found[str(path)] = (status.st_mode, status.st_size, status.st_mtime_ns, content)
    return found


def read_all(store):
    """Asks a store everything."""
    run = store["digits-cnn"]
    assert run.status == "finished"
    assert run.best().load("model")["w"].tolist() == [0.0] * 8
    assert store.latest().step == 1
    assert store.get("digits-cnn@step:0").metrics == {"loss": 2.0}
    assert store.usage().checkpoints == 2
    assert store.verify().damaged == () or not store.verify().damaged
    assert [info.step for info in store.prune(policy=keep.latest(1)).deleted] == [0]
    assert len(run.decisions()) >= 2
    return True


@pytest.mark.parametrize("catalog", ["as it is", "missing", "behind"])
def test_mode_r_writes_nothing(filled, catalog):
    if catalog == "missing":
        (filled / "catalog.sqlite3").unlink()
    if catalog == "behind":
        with (filled / "runs/digits-cnn/journal.jsonl").open("a") as journal:
            journal.write("torn")
    before = trace(filled)
    with holdfast.open(filled, mode="r") as store:
        assert not store.writable
        assert read_all(store)
    assert trace(filled) == before


def test_mode_r_refuses_every_write_with_a_word_on_what_to_do(filled):
    before = trace(filled)
    with holdfast.open(filled, mode="r") as store:
        checkpoint = store.latest()
        writes = (
            lambda: store.run("digits-cnn"),
            lambda: checkpoint.report(loss=0.1),
            checkpoint.pin,
            lambda: checkpoint.tag("prod"),
            lambda: store.prune(policy=keep.latest(1)).apply(),
            lambda: store.delete("digits-cnn").apply(),
        )
        for write in writes:
            with pytest.raises(holdfast.ConfigError) as caught:
                write()
            assert caught.value.hint
    assert trace(filled) == before


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")
def test_a_place_that_cannot_be_written_is_opened_for_reading(filled, tmp_path, log):
    shown = tmp_path / "shown"
    shown.mkdir()
    if subprocess.run(["mount", "--bind", filled, shown], check=False).returncode:
        pytest.skip("this machine allows no mounts")
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", shown], check=True)
        before = trace(filled)
        with holdfast.open(shown) as store:
            assert not store.writable
            assert read_all(store)
        assert trace(filled) == before
        assert "opened for reading" in log.text
    finally:
        subprocess.run(["umount", shown], check=True)


def test_a_wrong_name_gives_the_nearest(filled):
    with holdfast.open(filled, mode="r") as store:
        with pytest.raises(holdfast.NotFoundError, match="'digits-cnn'") as caught:
            store["digit-cnn"]
        assert caught.value.nearest == ("digits-cnn",)
        assert "digits-cnn" in store
        assert "other" not in store


def test_a_reader_sees_what_is_saved_after_it_opened(filled):
    with holdfast.open(filled, mode="r") as reader, holdfast.open(filled) as store:
        assert reader.latest().step == 1
        with manual(store, "digits-cnn") as run:
            run.save(2, {"loss": 0.5}).wait()
            assert reader.latest().step == 2
            assert reader["digits-cnn"].status == "running"
            assert reader.best("loss").step == 2


def test_a_reader_that_opens_while_a_training_writes_goes_on_seeing_it(filled):
    with holdfast.open(filled) as store, manual(store, "digits-cnn") as run:
        with slow(store) as medium:
            pending = run.save(2, {"loss": 0.5})
            assert medium.waiting.wait(60)
            reader = holdfast.open(filled, mode="r")
            assert reader.latest().step == 1
        with reader:
            pending.wait()
            assert reader.latest().step == 2
