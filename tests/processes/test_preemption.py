"""Jobs that are told to end at any moment of their lives, once or several times."""

import os
import signal

import numpy as np
import pytest

import holdfast
from holdfast import when
from tests.processes.jobs import hear, job, leave, tell
from tests.runs.samples import attached, manual

# A job that says nothing more is a failure, not a hang.
pytestmark = pytest.mark.timeout(90)

#: What a test puts in between is called at its moment; each says its word and waits for another.
TRAINER = """
save = when.every(steps=1000) | when.preempted({signals})
{before}
store = holdfast.open(place)
run = store.run("run", save=save)
model = {{"w": np.zeros(50_000)}}
run.attach(model=model)
{opened}
for step in range(run.resume(), 5):
    model["w"] += 1
    {within}
    run.step(step, loss=1.0)
    {stepped}
    if run.should_stop:
        break
say("left", step)
{after}
"""
MEET = "say('now'); hear()"


def trainer(**moments):
    filled = dict.fromkeys(("signals", "before", "opened", "within", "stepped"), "")
    return TRAINER.format(**{**filled, "after": "run.close()", **moments})


@pytest.fixture
def place(tmp_path):
    return tmp_path / "store"


def newest(place):
    """Returns status, and step and first weight of the newest checkpoint."""
    with holdfast.open(place, mode="r") as store:
        assert store.verify().ok
        checkpoint = store.latest("run")
        return store["run"].status, checkpoint.step, float(checkpoint.load("model")["w"][0])


def send(process, *numbers):
    assert hear(process) == "now"
    for number in numbers:
        process.send_signal(number)
    tell(process)


TERM, USR1, KILL = signal.SIGTERM, signal.SIGUSR1, signal.SIGKILL


@pytest.mark.parametrize(
    ("moments", "number", "step"),
    [
        ({"within": MEET}, TERM, 0),
        ({"stepped": MEET}, TERM, 0),
        ({"opened": MEET}, TERM, 0),
        ({"opened": MEET, "before": "signal.signal(signal.SIGTERM, signal.SIG_IGN)"}, TERM, 0),
        ({"signals": "signals=('USR1',)", "within": MEET}, USR1, 0),
        ({"signals": "signals=('SIGUSR1', 'TERM')", "within": MEET}, TERM, 0),
    ],
    ids=["within-a-step", "after-a-step", "before-the-first", "ignored-before", "usr1", "either"],
)
def test_a_signal_leads_to_a_last_checkpoint_and_the_end(place, moments, number, step):
    with job(trainer(**moments), place) as process:
        send(process, number)
        assert hear(process) == f"left {step}"
        code, log = leave(process)
    assert code == 0, log
    assert newest(place) == ("interrupted", step, step + 1.0)
    assert f"run: step {step} is durable, " in log
    assert f"s after {signal.Signals(number).name}" in log


def test_further_signals_during_the_save_do_not_break_it(place):
    meeting = """
from holdfast.storage import Posix
class Meeting(Posix):
    def fsync(self, fd):
        say("now")
        hear()
        super().fsync(fd)
store._place.storage.posix = Meeting()
os.kill(os.getpid(), signal.SIGTERM)
"""
    with job(trainer(opened=meeting), place) as process:
        # At each fsync: of shards, of the journal, of the manifest, of the run's last line.
        said = []
        for line in process.stdout:
            said.append(line.strip())
            if said[-1] == "now":
                for _ in range(5):
                    process.send_signal(TERM)
                tell(process)
        assert said.count("now") >= 4
        assert "left 0" in said
        code, log = leave(process)
    assert code == 0, log
    assert newest(place) == ("interrupted", 0, 1.0)
    assert log.count("SIGTERM: the next step saves") == 1


@pytest.mark.sweeps
@pytest.mark.parametrize("call", ["create", "pwrite", "write", "fsync", "rename", "fsync_folder"])
def test_a_kill_after_the_grace_period_leaves_the_checkpoint_whole_or_invisible(place, call):
    dying = f"""
from holdfast.storage import Posix
class Dying(Posix):
    def {call}(self, *arguments, **options):
        say("now")
        hear()
        return super().{call}(*arguments, **options)
run.save(0, {{"loss": 1.0}}).wait()
run.wait()
store._place.storage.posix = Dying()
os.kill(os.getpid(), signal.SIGTERM)
"""
    with job(trainer(opened=dying), place) as process:
        assert hear(process) == "now"
        process.kill()
        leave(process)
    with holdfast.open(place) as store, store.run("run", save=when.never()) as run:
        attached(run)
        assert [c.step for c in run.checkpoints()] == [0]
        assert store.verify().ok
        assert store.repair().ok


def test_a_signal_during_resume_is_met_by_the_first_step(place):
    with holdfast.open(place) as store, store.run("run", save=when.never()) as run:
        model = {"w": np.full(50_000, 7.0)}
        run.attach(model=model)
        run.save(3).wait()
    signalled = """
import holdfast.resuming
real = holdfast.resuming.restore
def restore(*arguments, **options):
    os.kill(os.getpid(), signal.SIGTERM)
    real(*arguments, **options)
holdfast.resuming.restore = restore
"""
    with job(trainer(opened=signalled), place) as process:
        assert hear(process) == "left 4"
        code, log = leave(process)
    assert code == 0, log
    assert newest(place) == ("interrupted", 4, 8.0)


@pytest.mark.parametrize(
    ("ending", "statuses"),
    # The line that it writes first may be the metrics', or already that of its status.
    [("run.finish({'loss': 0.5})", {"finished"}), ("run.close()", {"interrupted", "finished"})],
)
def test_a_signal_that_comes_at_the_end_ends_the_process_after_it(place, ending, statuses):
    after = f"""
run.save(4).wait()
from holdfast.storage import Posix
class Signalled(Posix):
    def open_append(self, *arguments):
        os.kill(os.getpid(), signal.SIGTERM)
        return super().open_append(*arguments)
store._place.storage.posix = Signalled()
{ending}
say("went on")
"""
    with job(trainer(after=after), place) as process:
        assert hear(process) == "left 4"
        code, log = leave(process)
    assert code == -TERM, log
    assert "went on" not in log
    status, step, _ = newest(place)
    assert status in statuses
    assert step == 4


def test_a_signal_while_the_run_is_being_opened_ends_the_process_as_ever(place):
    with (
        holdfast.open(place) as store,
        manual(store) as run,
        job(trainer(before="say('now')"), place) as process,
    ):
        assert hear(process) == "now"
        assert any("waiting" in line for line in process.stderr)
        process.send_signal(TERM)
        assert leave(process)[0] == -TERM
        run.save(0).wait()
    with holdfast.open(place) as store:
        assert store["run"].status == "finished"


CHILD = """
run = holdfast.open(place).run("run", save=when.preempted())
run.attach(model={"w": np.zeros(50_000)})
child = os.fork()
if child == 0:
    own = holdfast.open(place).run("child", save=when.preempted())
    own.attach(model={"w": np.zeros(4)})
    for step in range(5):
        say(os.getpid())
        hear()
        own.step(step, loss=1.0)
        if own.should_stop:
            break
    own.close()
    say("child left", step)
    os._exit(0)
say("child ended", os.waitpid(child, 0)[1])
run.save(0).wait()
run.close()
"""


def test_a_forked_child_with_a_run_of_its_own_is_told_to_end_alone(place):
    with job(CHILD, place) as process:
        os.kill(int(hear(process)), TERM)
        tell(process)
        assert [hear(process), hear(process)] == ["child left 0", "child ended 0"]
        code, log = leave(process)
    assert code == 0, log
    with holdfast.open(place) as store:
        assert (store["run"].status, store["child"].status) == ("finished", "interrupted")
        assert store.latest("child").step == 0


def test_a_later_handler_that_calls_nobody_is_warned_of(place):
    later = "signal.signal(signal.SIGTERM, lambda *_: say('later'))"
    with job(trainer(opened=f"{later}\nrun.save(0)\nrun.save(1)\n{MEET}"), place) as process:
        send(process, TERM)
        assert hear(process) == "later"
        assert hear(process) == "left 4"
        code, log = leave(process)
    assert code == 0, log
    assert log.count("another handler for SIGTERM was installed") == 1


def test_a_later_handler_that_calls_the_one_before_it_changes_nothing(place):
    later = """
ours = signal.getsignal(signal.SIGTERM)
def later(number, frame):
    say("later")
    ours(number, frame)
signal.signal(signal.SIGTERM, later)
"""
    with job(trainer(opened=later + MEET), place) as process:
        send(process, TERM)
        assert [hear(process), hear(process)] == ["later", "left 0"]
        code, log = leave(process)
    assert code == 0, log
    assert newest(place) == ("interrupted", 0, 1.0)
