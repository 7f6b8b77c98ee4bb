"""Two processes that clean up one run, or one that cleans up what another speaks of."""

import threading
from pathlib import Path

import pytest

import holdfast
from holdfast import announcements, keep
from holdfast.errors import NotFoundError
from holdfast.lifecycle import checking, prune, repairing
from tests.runs.samples import manual, on_medium, saved
from tests.storage.faulty import WatchedPosix

# Two that wait for each other are a failure, not a hang.
pytestmark = pytest.mark.timeout(60)


@pytest.fixture
def place(tmp_path):
    """A run with two checkpoints of several items."""
    with holdfast.open(tmp_path) as store, manual(store) as run:
        run.attach(optimizer=[1.0, 2.0], extra=[3.0])
        saved(run, 0, {"loss": 1.0})
        saved(run, 1, {"loss": 2.0})
    return tmp_path


class Pause:
    """A medium that stands still before one call, until it is told to go on."""

    def __init__(self, wanted):
        self._wanted = wanted
        self.reached = threading.Event()
        self.go = threading.Event()
        self.posix = WatchedPosix(self._before)

    def _before(self, name, arguments):
        if not self.reached.is_set() and self._wanted(name, arguments):
            self.reached.set()
            assert self.go.wait(60)


def at(call, ending):
    return lambda name, arguments: name == call and str(arguments[-1]).endswith(ending)


def once_written(text):
    """The journal's lock is given up by then, and the catalog not told yet."""
    written = []

    def wanted(name, arguments):
        if name == "write" and text in bytes(arguments[1][0]):
            written.append(text)
        return bool(written) and name == "close"

    return wanted


def is_waited_for(path: Path) -> bool:
    """Whether somebody waits for the lock of a file, as the kernel tells it."""
    inode = f":{path.stat().st_ino} "
    lines = Path("/proc/locks").read_text().splitlines()
    return any("->" in line and inode in line for line in lines)


def run_beside(place, first, second, wanted):
    """Runs one thing up to a call, the other as far as it gets, and both to their ends.

    Returns:
        What the second one raised, or None.
    """
    pause, raised = Pause(wanted), []

    def beside():
        try:
            with holdfast.open(place) as store:
                second(store)
        except holdfast.HoldfastError as error:
            raised.append(error)

    with holdfast.open(place) as store:
        on_medium(store, pause.posix)
        one = threading.Thread(target=first, args=(store,))
        two = threading.Thread(target=beside)
        one.start()
        assert pause.reached.wait(60)
        two.start()
        while two.is_alive() and not is_waited_for(place / "runs" / "run" / "journal.jsonl"):
            two.join(0.01)
        pause.go.set()
        one.join()
        two.join()
    return raised[0] if raised else None


def thinning(*items):
    return lambda store: store.prune("run", policy=keep.all().items(*items)).apply()


def deleting(store):
    store.prune("run", policy=keep.none()).apply()


def pinning(store):
    store.get("run@step:0").pin()


def check_sound(place):
    """Nothing is damaged or left over, and the catalog tells what the files do."""
    with holdfast.open(place) as store:
        known = {c.id: c.items for c in store.checkpoints("run")}
        assert store.verify().damaged == {}
        assert store.repair().ok
        store.reindex()
        assert {c.id: c.items for c in store.checkpoints("run")} == known
    return known


@pytest.mark.parametrize(
    ("items", "second"),
    [
        (("model", "optimizer"), thinning("model")),
        (("model",), thinning("model", "optimizer")),
        (("model", "optimizer"), deleting),
    ],
    ids=["a-wider-claim-first", "a-narrower-claim-first", "deleted-while-it-is-thinned"],
)
def test_of_two_cleanups_neither_names_files_that_the_other_removes(place, items, second):
    """The slower one finds its plan outdated, and leaves things as they are for now."""
    finish(place)
    assert run_beside(place, thinning(*items), second, at("rename", "manifest.json")) is None
    assert set(check_sound(place).values()) == {items}


def finish(place):
    """Lets the policy alone rule: also the newest may go."""
    with holdfast.open(place) as store:
        store.run("run", keep=keep.all())._session.close("finished", final=True)


def test_a_pin_that_comes_too_late_says_so(place):
    finish(place)
    error = run_beside(place, deleting, pinning, at("unlink", "manifest.json"))
    assert isinstance(error, NotFoundError)
    assert check_sound(place) == {}
    # Nothing was said of what is gone: a tag would have called its deletion off.
    assert b'"t":"pin"' not in (place / "runs/run/journal.jsonl").read_bytes()


def test_a_pin_that_comes_before_the_deletion_keeps_the_checkpoint(place, monkeypatch):
    finish(place)
    real = prune._delete
    pinned = []

    def pin_first(*arguments, **options):
        # The plan is noted by now, and the first deletion is about to begin.
        if not pinned:
            with holdfast.open(place) as other:
                pinned.append(other.get("run@step:1"))
                pinned[0].pin()
        return real(*arguments, **options)

    monkeypatch.setattr(prune, "_delete", pin_first)
    with holdfast.open(place) as store:
        deleting(store)
    assert list(check_sound(place)) == [pinned[0].id]


def test_a_score_that_comes_before_the_deletion_keeps_the_checkpoint(place, monkeypatch):
    finish(place)
    real = prune._delete
    scored = []

    def score_first(*arguments, **options):
        if not scored:
            with holdfast.open(place) as other:
                scored.append(other.get("run@step:0"))
                scored[0].report(val_loss=0.1)
        return real(*arguments, **options)

    monkeypatch.setattr(prune, "_delete", score_first)
    with holdfast.open(place) as store:
        deleting(store)
    assert list(check_sound(place)) == [scored[0].id]


def test_what_another_process_deleted_does_not_come_back_into_the_catalog(place):
    finish(place)
    error = run_beside(place, thinning("model"), deleting, once_written(b'"t":"applied"'))
    assert error is None
    assert check_sound(place) == {}


def test_a_checkpoint_that_is_deleted_before_it_is_catalogued_stays_away(place, monkeypatch):
    real = announcements.saved

    def delete_first(info, **options):
        real(info, **options)
        with holdfast.open(place) as other:
            other.delete(info.id).apply()

    with holdfast.open(place) as store, manual(store) as run:
        monkeypatch.setattr(announcements, "saved", delete_first)
        checkpoint = saved(run, 2)
        monkeypatch.undo()
        assert checkpoint not in run.checkpoints()
        after = saved(run, 3)
        after.verify()
    assert checkpoint.id not in check_sound(place)


def test_an_opener_takes_no_deletion_under_way_for_damage(place, caplog):
    """A folder without a manifest is judged by what the journal says of it now."""
    finish(place)
    pause = Pause(at("unlink", "model.safetensors"))
    with holdfast.open(place) as cleaning, holdfast.open(place) as store:
        history = prune.RunHistory(store._place.journal("run")).refresh()
        on_medium(cleaning, pause.posix)
        thread = threading.Thread(target=deleting, args=(cleaning,))
        thread.start()
        assert pause.reached.wait(60)
        swept = threading.Thread(target=prune.sweep_unfinished, args=(store._place, "run", history))
        swept.start()
        while swept.is_alive() and not is_waited_for(place / "runs/run/journal.jsonl"):
            swept.join(0.01)
        pause.go.set()
        thread.join()
        swept.join()
    assert "set aside as damaged" not in caplog.text
    assert check_sound(place) == {}


def test_a_save_that_ends_beside_a_verification_is_no_lost_manifest(place):
    """It had no manifest when the folders were listed, and is in the catalog a moment later."""
    with holdfast.open(place) as store:
        newest = store.latest("run")
        history = prune.RunHistory(store._place.journal("run")).refresh()
        assert not checking.is_lost(store._place, "run", newest.id, history)
        (newest.path / "manifest.json").unlink()
        assert checking.is_lost(store._place, "run", newest.id, history)


def test_a_doctor_heals_nothing_that_is_thinned_while_it_looks(place, monkeypatch):
    finish(place)
    real = repairing.shard_files
    thinned = []

    def thin_first(*arguments, **options):
        if not thinned:
            with holdfast.open(place) as other:
                thinned.extend(thinning("model")(other).thinned)
        return real(*arguments, **options)

    with holdfast.open(place) as store:
        monkeypatch.setattr(repairing, "shard_files", thin_first)
        found = store.repair(apply=True)
        monkeypatch.undo()
    assert len(thinned) == 2
    assert [finding.kind for finding in found.findings if finding.kind == "damaged"] == []
    assert set(check_sound(place).values()) == {("model",)}
