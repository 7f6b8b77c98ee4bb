"""A process that is killed in the middle of the line that it adds to another's journal."""

import logging

import pytest

import holdfast
from holdfast.engine.journal import Journal
from tests.processes.jobs import hear, job, leave, tell
from tests.runs.samples import manual, saved

# A job that says nothing more is a failure, not a hang.
pytestmark = pytest.mark.timeout(90)

#: Writes a part of the line, and dies of it as of SIGKILL.
REPORTER = """
from holdfast.storage import Posix
part = float(sys.argv[2])

class Torn(Posix):
    def write(self, fd, parts):
        data = b"".join(bytes(one) for one in parts)
        if b'"t":"report"' in data:
            os.write(fd, data[: int(part * len(data))] if part <= 1 else data)
            os.kill(os.getpid(), signal.SIGKILL)
        return super().write(fd, parts)

store = holdfast.open(place)
store._place.storage.posix = Torn()
checkpoint = store.get("run@step:0")
say("ready")
hear()
checkpoint.report(val_loss=0.25)
"""


@pytest.mark.parametrize("part", [0.0, 0.2, 0.5, 0.99, 1.0])
def test_a_report_cut_off_in_its_line_is_whole_or_absent_and_holds_up_nobody(
    tmp_path, caplog, part
):
    caplog.set_level(logging.WARNING, "holdfast")
    with holdfast.open(tmp_path) as store, manual(store) as run:
        first = saved(run, 0, {"loss": 1.0})
        with job(REPORTER, tmp_path, part) as process:
            assert hear(process) == "ready"
            tell(process)
            code, log = leave(process)
            assert code == -9, log
        whole = {"loss": 1.0, "val_loss": 0.25} if part == 1.0 else {"loss": 1.0}
        # The trainer goes on, and so does whoever reports after that.
        run.step(1, loss=0.5)
        second = saved(run, 1)
        with holdfast.open(tmp_path) as other:
            assert other.get(first.id).metrics == whole
            other.get(second.id).report(val_loss=0.125)
        assert run.best("val_loss") == second
        reading = Journal(store._place.storage, "runs/run/journal.jsonl").read()
        assert (reading.damage, reading.torn_nbytes) == ((), 0)
        torn = [record["nbytes"] for record in reading.records if record["t"] == "torn"]
        assert len(torn) == (1 if 0 < part < 1 else 0)
        assert store.verify().ok
    with holdfast.open(tmp_path) as store:
        store.reindex()
        assert store.get(first.id).metrics == whole
        assert store.get(second.id).metrics == {"loss": 0.5, "val_loss": 0.125}
    assert "does not match its digest" not in caplog.text
