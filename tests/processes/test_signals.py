"""Jobs that are told to end, interrupted, or killed."""

import signal

import numpy as np
import pytest

import holdfast
from tests.processes.jobs import hear, job, leave, tell

# A job that says nothing more is a failure, not a hang.
pytestmark = pytest.mark.timeout(90)

TRAINER = """
def own_handler(number, frame):
    say("own handler")

signal.signal(signal.SIGTERM, own_handler)
store = holdfast.open(place)
save = when.every(steps=1000) | when.preempted() | when.interrupted()
with store.run("run", save=save, backlog="skip") as run:
    model = {"w": np.zeros(4)}
    run.attach(model=model)
    for step in range(run.resume(), 1000):
        say("step", step)
        hear()
        model["w"] += 1
        run.step(step, loss=1.0 / (step + 1))
        if run.should_stop:
            break
say("left", step)
"""


@pytest.fixture
def place(tmp_path):
    return tmp_path / "store"


def start(process, steps):
    for step in range(steps):
        assert hear(process) == f"step {step}"
        tell(process)
    assert hear(process) == f"step {steps}"


def saved(place):
    """Returns status, and step and weights of the newest checkpoint."""
    with holdfast.open(place, mode="r") as store:
        newest = store.latest("run")
        return store["run"].status, newest.step, newest.load("model")["w"].tolist()


def test_sigterm_saves_the_next_step_and_ends_the_loop(place):
    with job(TRAINER, place) as process:
        start(process, 3)
        process.send_signal(signal.SIGTERM)
        assert hear(process) == "own handler"
        tell(process)
        assert hear(process) == "left 3"
        code, log = leave(process)
    assert code == 0, log
    assert saved(place) == ("interrupted", 3, [4.0] * 4)
    assert "SIGTERM" in log


def test_ctrl_c_saves_the_step_and_ends_as_python_does(place):
    with job(TRAINER, place) as process:
        start(process, 2)
        process.send_signal(signal.SIGINT)
        tell(process)
        code, log = leave(process)
    assert code in (1, 130, -signal.SIGINT)
    assert "KeyboardInterrupt" in log
    assert saved(place) == ("interrupted", 2, [3.0] * 4)


def test_a_killed_job_reads_as_interrupted_and_a_restart_goes_on(place):
    saver = TRAINER.replace("steps=1000", "steps=2").replace('"skip"', '"wait"')
    with job(saver, place) as process:
        start(process, 5)
        with holdfast.open(place, mode="r") as store:
            assert store["run"].status == "running"
        process.kill()
        leave(process)
    status, step, weights = saved(place)
    assert status == "interrupted"
    assert (step, weights) in ((3, [4.0] * 4), (1, [2.0] * 4))
    with job(saver, place) as process:
        assert hear(process) == f"step {step + 1}"
        process.kill()


def test_what_was_promised_is_finished_when_the_script_just_ends(place):
    script = """
def train():
    run = holdfast.open(place).run("run", save=when.never())
    run.attach(model={"w": np.zeros(500_000)})
    run.step(3, loss=0.5)
    run.save(3)

train()
"""
    with job(script, place) as process:
        code, log = leave(process)
    assert code == 0, log
    status, step, weights = saved(place)
    assert (status, step, len(weights)) == ("interrupted", 3, 500_000)
    with holdfast.open(place) as store:
        assert store["run"].history("loss") == [(3, 0.5)]


def test_an_exception_that_nobody_catches_reads_as_failed(place):
    script = """
with holdfast.open(place).run("run", save=when.interrupted()) as run:
    run.attach(model={"w": np.ones(4)})
    run.step(0, loss=1.0)
    raise RuntimeError("out of luck")
"""
    with job(script, place) as process:
        code, log = leave(process)
    assert code == 1
    assert "out of luck" in log
    assert saved(place) == ("failed", 0, np.ones(4).tolist())
