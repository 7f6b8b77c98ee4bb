"""What a run says of itself is in the journal after a power cut, from the moment it returned.

The medium is a model of a disk that loses all that was not synced, so a line that was only written
is gone in it.
"""

import json

import pytest

import holdfast
from holdfast import keep, when
from holdfast.session import Session
from holdfast.storage.recording import Data, Naming, RecordingPosix, Synced
from holdfast.testing.disk import Disk, Image
from holdfast.testing.scenario import Weights, opened
from tests.runs.samples import flip, weights

KEEP_ALL = keep.all()


class Watched:
    """A store whose every change is written down."""

    def __init__(self, root):
        self.root = root
        image, known = Image.read(root, without=("catalog.sqlite3", "lock"))
        self.start = image
        self.posix = RecordingPosix(known)
        self.store = opened(root, self.posix)

    def left(self, number=None):
        """Returns what a power cut would leave after an operation."""
        disk = Disk(self.start)
        for at, operation in enumerate(self.posix.operations[:number]):
            disk.do(at, operation)
        return disk.after_crash({})

    def kinds(self, number=None):
        """Returns the kinds of the lines of the journal that a power cut would leave."""
        left = self.left(number)
        journal = left.names.get(f"{self.root}/runs/a", {}).get("journal.jsonl")
        return [json.loads(line)["t"] for line in left.data.get(journal, b"").splitlines()]


@pytest.fixture
def watched(tmp_path):
    """A store with two checkpoints of a run that ended, opened anew."""
    with holdfast.open(tmp_path / "store") as store:
        run = store.run("a", metric="loss", save=when.never(), keep=KEEP_ALL)
        model = Weights(weights())
        run.attach(model=model)
        for step in range(2):
            model.state = weights(step)
            run.save(step, {"loss": float(step)}).wait()
        run.close()
    found = Watched(tmp_path / "store")
    yield found
    found.store.close()


def begun(store, policy=KEEP_ALL):
    run = store.run("a", metric="loss", save=when.never(), keep=policy)
    run.attach(model=Weights(weights()))
    return run


def pin(watched):
    watched.store.latest("a").pin()


def tag(watched):
    watched.store.latest("a").tag("good")


def report(watched):
    watched.store.latest("a").report(score=0.5)


def verify(watched):
    flip(watched.store.latest("a"))
    watched.store.verify()


@pytest.mark.parametrize(
    ("say", "kind"), [(pin, "pin"), (tag, "tag"), (report, "report"), (verify, "damaged")]
)
def test_what_is_said_of_a_checkpoint_is_durable_on_return(watched, say, kind):
    say(watched)
    assert watched.kinds()[-1] == kind


def test_the_opening_the_resuming_and_the_end_of_a_run_are_durable_on_return(watched):
    run = begun(watched.store)
    assert watched.kinds()[-1] == "run"
    run.resume()
    assert watched.kinds()[-1] == "resumed"
    run.close()
    assert watched.kinds()[-1] == "status"


def test_a_damaged_checkpoint_that_resuming_passes_over_is_noted_durably(watched, monkeypatch):
    flip(watched.store.latest("a"))
    known = []
    go_on = Session.go_on_from

    def look(session, checkpoint):
        known.extend(watched.kinds())
        go_on(session, checkpoint)

    monkeypatch.setattr(Session, "go_on_from", look)
    with begun(watched.store) as run:
        assert run.resume() == 1
    assert known[-1] == "damaged"


def test_a_save_is_noted_before_its_manifest_and_a_clean_up_before_its_first_deletion(watched):
    with begun(watched.store, keep.latest(1)) as run:
        run.save(2, {"loss": 0.5}).wait()
    operations = watched.posix.operations
    named = index_of(operations, "move", "manifest.json")
    gone = index_of(operations, "leave", "manifest.json")
    assert watched.kinds(named)[-1] == "save"
    assert watched.kinds(gone)[-1] == "plan"


def test_a_file_that_was_linked_again_is_there_after_a_power_cut(watched):
    folder = watched.store.latest("a").path
    (folder / "model.safetensors").unlink()
    again = Watched(watched.root)
    again.store.repair(apply=True)
    again.store.close()
    assert "model.safetensors" in again.left().names[str(folder)]


def test_a_run_that_was_deleted_stays_away_after_a_power_cut(watched):
    watched.store.delete("a").apply()
    operations = watched.posix.operations
    gone = index_of(operations, "rmdir", "a")
    assert Synced(f"{watched.root}/runs") in operations[gone:]


def test_a_dead_owner_is_noted_durably(watched):
    # Its lock is gone, as after the end of its process, and its last line says that it runs.
    begun(watched.store)._session._opened.lock.release()
    watched.store.repair(apply=True)
    assert watched.kinds()[-1] == "status"


def test_a_lost_manifest_is_noted_durably_before_the_run_is_opened(watched):
    (watched.store.latest("a").path / "manifest.json").unlink()
    with begun(watched.store):
        operations = watched.posix.operations
        opening = next(
            number
            for number, operation in enumerate(operations)
            if isinstance(operation, Data) and b'"t":"run"' in (operation.data or b"")
        )
    assert watched.kinds(opening)[-1] == "damaged"


def index_of(operations, kind, name):
    return next(
        number
        for number, operation in enumerate(operations)
        if isinstance(operation, Naming) and (operation.kind, operation.name) == (kind, name)
    )
