"""What is held in memory of a run's checkpoints is what catalog and journal say, whoever acts."""

from __future__ import annotations

import random
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

import holdfast
from holdfast import keep, when
from holdfast.checkpoint import Checkpoint
from holdfast.engine import discard
from holdfast.lifecycle import known
from holdfast.lifecycle.history import RunHistory
from holdfast.lifecycle.known import KnownCheckpoints
from tests.lifecycle.stores import values


class Written:
    """A run that is written here, and looked at and changed by another opening of its store."""

    def __init__(self, path: Path) -> None:
        self.store = holdfast.open(path)
        self.run = self.store.run("run", metric="loss", save=when.never(), keep=keep.all())
        self.run.attach(model=values(0), extra=values(1))
        self.place = self.store._place
        self.known = KnownCheckpoints(
            self.place, "run", RunHistory(self.place.journal("run")).refresh()
        )
        self.other = holdfast.open(path)
        self.step = 0

    def save(self, loss: float = 0.0) -> Checkpoint:
        self.step += 1
        saved = self.run.save(self.step, {"loss": loss}).wait()
        # What follows a save is noted in the journal, too.
        self.run.wait()
        return saved

    def close(self) -> None:
        self.other.close()
        self.store.close()

    def in_memory(self) -> list[str]:
        # As text: NaN differs from itself.
        return [repr(info) for info in self.known.infos()]

    def in_files(self) -> list[str]:
        """What catalog and journal say, read from the beginning."""
        history = RunHistory(self.place.journal("run")).refresh()
        records = self.place.catalog.checkpoints("run", order_by="created_at")
        return [repr(history.overlay(record.info)) for record in records]


@pytest.fixture
def written(tmp_path: Path) -> Iterator[Written]:
    opened = Written(tmp_path / "store")
    yield opened
    opened.close()


class KnownMachine(RuleBasedStateMachine):
    """Saves in one opening of a store, and says and does things in another one."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.written = Written(Path(self.folder.name) / "store")

    def teardown(self) -> None:
        self.written.close()
        self.folder.cleanup()

    @rule(loss=st.sampled_from([0.0, 1.0, float("nan")]))
    def save(self, loss: float) -> None:
        self.written.save(loss)

    @rule(
        chosen=st.randoms(use_true_random=False),
        verb=st.sampled_from(["pin", "unpin", "tag", "untag", "report", "delete", "damage"]),
    )
    def say(self, chosen: random.Random, verb: str) -> None:
        found = self.written.other.checkpoints("run")
        if not found:
            return
        checkpoint = chosen.choice(found)
        if verb in ("pin", "unpin"):
            getattr(checkpoint, verb)()
        elif verb in ("tag", "untag"):
            getattr(checkpoint, verb)("prod")
        elif verb == "report":
            checkpoint.report(acc=0.5)
        elif verb == "delete":
            self.written.other.delete(checkpoint.id).apply()
        else:
            line = {"t": "damaged", "at": 0.0, "id": checkpoint.id, "reason": "x"}
            self.written.other._place.append("run", [line], durable=True)

    @rule(policy=st.sampled_from(["latest(2)", "best(1, 'loss').items('model') | latest(1)"]))
    def prune(self, policy: str) -> None:
        self.written.other.prune("run", policy=policy).apply()

    @rule()
    def rebuild(self) -> None:
        self.written.other.reindex()

    @rule(chosen=st.randoms(use_true_random=False))
    def lose_a_folder(self, chosen: random.Random) -> None:
        found = self.written.other.checkpoints("run")
        if found:
            shutil.rmtree(chosen.choice(found).path)
            self.written.other.reindex()

    @rule()
    def look(self) -> None:
        """Only sometimes: many things may happen between two looks."""
        self.written.known.refresh()
        assert self.written.in_memory() == self.written.in_files()

    @invariant()
    def is_in_order(self) -> None:
        times = [info.created_at for info in self.written.known.infos()]
        assert times == sorted(times)


def test_memory_says_what_catalog_and_journal_say() -> None:
    chosen = settings(
        max_examples=12,
        stateful_step_count=15,
        deadline=None,
        phases=(Phase.explicit, Phase.reuse, Phase.generate),
    )
    run_state_machine_as_test(KnownMachine, settings=chosen)


def test_only_what_is_news_is_looked_up_again(
    written: Written, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved = [written.save() for _ in range(3)]
    assert written.known.refresh().anew
    monkeypatch.setattr(written.place.catalog, "checkpoints", None)
    saved.append(written.save())
    written.other.get(saved[0].id).pin()
    news = written.known.refresh()
    assert (news.anew, news.gone) == (False, ())
    assert [info.id for info in news.learnt] == sorted([saved[0].id, saved[3].id])
    written.other.delete(saved[1].id).apply()
    assert written.known.refresh().gone == (saved[1].id,)
    quiet = written.known.refresh()
    assert (quiet.anew, quiet.learnt, quiet.gone) == (False, (), ())


def test_a_save_that_was_noted_and_not_catalogued_yet_is_looked_for_again(
    written: Written,
) -> None:
    written.save()
    written.known.refresh()
    kept, catalogue = [], written.run._session.saver._catalogue
    written.run._session.saver._catalogue = lambda *told: kept.append(told)  # type: ignore[method-assign]
    late = written.save()
    assert [info.id for info in written.known.refresh().learnt] == []
    with written.place.catalog.transaction():
        catalogue(*kept[0])
    assert [info.id for info in written.known.refresh().learnt] == [late.id]


def test_a_catalog_that_lags_is_brought_up_to_date_first(written: Written) -> None:
    saved, gone = written.save(), written.save()
    written.known.refresh()
    # Deeds and lines alone, as of a process that was killed before it told the catalog.
    discard.delete(written.place.storage, "run", gone.id)
    lines = [
        {"t": "pin", "at": 0.0, "id": saved.id},
        {"t": "applied", "at": 0.0, "deleted": [gone.id], "thinned": [], "spared": []},
    ]
    written.place.journal("run").append(lines, durable=True)
    news = written.known.refresh()
    assert ([info.pinned for info in news.learnt], news.gone) == ([True], (gone.id,))
    assert written.in_memory() == written.in_files()
    assert written.place.catalog.get(gone.id) is None


def test_what_a_rebuild_finds_without_a_line_in_the_journal_is_news(written: Written) -> None:
    saved = [written.save() for _ in range(3)]
    written.known.refresh()
    shutil.rmtree(saved[0].path)
    written.other.reindex()
    news = written.known.refresh()
    assert (news.anew, news.gone) == (True, (saved[0].id,))
    assert written.in_memory() == written.in_files()


def test_after_much_at_once_all_is_read_at_once(
    written: Written, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(known, "_FEW", 3)
    for _ in range(6):
        written.save()
    written.known.refresh()
    written.other.prune("run", policy="latest(2)").apply()
    news = written.known.refresh()
    assert (news.anew, len(news.gone)) == (True, 4)
    assert written.in_memory() == written.in_files()


def test_what_was_to_be_looked_up_is_not_lost_with_an_error(
    written: Written, monkeypatch: pytest.MonkeyPatch
) -> None:
    written.save()
    written.known.refresh()
    saved = written.save()

    def fail(checkpoint_id: str) -> None:
        raise holdfast.IntegrityError(f"{checkpoint_id} cannot be read")

    with monkeypatch.context() as broken:
        broken.setattr(written.place.catalog, "get", fail)
        with pytest.raises(holdfast.IntegrityError):
            written.known.refresh()
    written.known.refresh()
    assert saved.id in [info.id for info in written.known.infos()]
    assert written.in_memory() == written.in_files()
