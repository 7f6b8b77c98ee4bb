"""What another process takes away while it is read is no damage: it is gone, and called so."""

from __future__ import annotations

import numpy as np
import pytest

import holdfast
from holdfast import IntegrityError, NotFoundError, keep, when
from holdfast.lifecycle.loading import MixedError
from holdfast.storage import LocalStorage


def state(step):
    return {"a": np.full(1000, step, "<f8"), "b": np.arange(10.0)}


@pytest.fixture
def checkpoint(tmp_path):
    with holdfast.open(tmp_path / "store") as store:
        with store.run("run", save=when.never(), keep=keep.all()) as run:
            model, extra = state(0), {"numbers": np.arange(5)}
            run.attach(model=model, extra=extra)
            saved = run.save(0).wait()
            model["a"] += 1
            run.save(1).wait()
        yield store.get(saved.id)


@pytest.fixture
def while_read(monkeypatch):
    """Does something once, when the first shard is about to be opened."""

    def arrange(action):
        original = LocalStorage.reading

        def reading(self, path):
            if path.endswith(".safetensors"):
                monkeypatch.setattr(LocalStorage, "reading", original)
                action()
            return original(self, path)

        monkeypatch.setattr(LocalStorage, "reading", reading)

    return arrange


READS = {
    "load": lambda c, store, to: c.load("model"),
    "load some": lambda c, store, to: c.load("model", keys="a"),
    "restore": lambda c, store, to: c.restore(model=state(7)),
    "verify": lambda c, store, to: c.verify(),
    "export": lambda c, store, to: c.export(to / "out"),
    "export to torch": lambda c, store, to: c.export(to / "out.pt", format="torch"),
    "diff": lambda c, store, to: store.diff(c.id, store.latest("run").id),
    "diff with norms": lambda c, store, to: store.diff(c.id, store.latest("run").id, norms=True),
}
EACH = pytest.mark.parametrize("read", READS.values(), ids=READS.keys())


def delete(place, checkpoint_id):
    with holdfast.open(place) as other:
        other.delete(checkpoint_id).apply()


@EACH
def test_a_checkpoint_deleted_while_it_is_read_is_not_found(checkpoint, tmp_path, while_read, read):
    with holdfast.open(tmp_path / "store") as store:
        while_read(lambda: delete(tmp_path / "store", checkpoint.id))
        with pytest.raises(NotFoundError, match=checkpoint.id):
            read(checkpoint, store, tmp_path)
        assert not list(tmp_path.glob("*out*"))


def thin(place, run, *items):
    with holdfast.open(place) as other:
        other.prune(run, policy=keep.latest(9).items(*items) | keep.latest(1)).apply()


@EACH
def test_an_item_thinned_away_while_it_is_read_is_not_found(checkpoint, tmp_path, while_read, read):
    with holdfast.open(tmp_path / "store") as store:
        while_read(lambda: thin(tmp_path / "store", "run", "extra"))
        if read is READS["verify"]:
            # What it still holds is sound.
            read(checkpoint, store, tmp_path)
            assert list(checkpoint.manifest.items) == ["extra"]
            return
        with pytest.raises(NotFoundError, match=r"model.*thinned"):
            read(checkpoint, store, tmp_path)
        assert not list(tmp_path.glob("*out*"))


@EACH
def test_a_file_that_is_lost_is_damage(checkpoint, tmp_path, while_read, read):
    with holdfast.open(tmp_path / "store") as store:
        while_read((checkpoint.path / "model.safetensors").unlink)
        with pytest.raises(IntegrityError, match=r"model.safetensors is missing") as raised:
            read(checkpoint, store, tmp_path)
        assert not list(tmp_path.glob("*out*"))
        # Nothing was read into anything yet.
        assert not isinstance(raised.value, MixedError)
