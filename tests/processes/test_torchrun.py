"""A job of several ranks that its launcher tells to end."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import holdfast
from tests.processes.jobs import PROLOGUE

# A launcher that ends nothing is a failure, not a hang.
pytestmark = [pytest.mark.timeout(150), pytest.mark.slow]

TRAINER = """
import torch
import torch.distributed as dist

torch.manual_seed(0)
dist.init_process_group("gloo")
rank = dist.get_rank()
store = holdfast.open(place)
with store.run("run", metric="loss", save=when.preempted(), keep=keep.all()) as run:
    model = torch.nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    run.attach(model=model, optimizer=optimizer)
    first = run.resume()
    for step in range(first, first + 10_000):
        optimizer.zero_grad()
        model(torch.ones(4, 2)).sum().backward()
        optimizer.step()
        verdict = run.step(step, loss=1.0 / (step + 1))
        stopping = torch.tensor(float(run.should_stop))
        dist.all_reduce(stopping, op=dist.ReduceOp.MAX)
        if step == first + 3:
            open(f"{place}-{first}-{rank}", "w").write(str(os.getpid()))
        if stopping:
            if not verdict.save:
                run.save(step, reason="preempted").wait()
            break
open(f"{place}-left-{first}-{rank}", "w").write(f"{step} {model.bias.item()!r}")
dist.destroy_process_group()
"""


def launch(place, script, act):
    """Starts two ranks and acts once both train; returns what they wrote on leaving."""
    log = script.with_name("log")
    with log.open("w") as errors:
        launcher = subprocess.Popen(
            # Python's own spelling of torchrun; on loopback, at a port that is free.
            [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2",
             str(script), str(place)],
            stderr=errors,
            env={**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"},
        )  # fmt: skip
        try:
            act(launcher, wait_until_they_train(place, 0, launcher, log))
            launcher.wait(timeout=60)
        finally:
            # Its ranks end with it.
            launcher.terminate()
            launcher.wait(timeout=60)
    left = [Path(f"{place}-left-0-{rank}") for rank in (0, 1)]
    assert all(path.exists() for path in left), log.read_text()
    return [path.read_text() for path in left]


def wait_until_they_train(place, first, launcher, log):
    paths = [Path(f"{place}-{first}-{rank}") for rank in (0, 1)]
    while not all(path.exists() and path.read_text() for path in paths):
        assert launcher.poll() is None, log.read_text()
    return [int(path.read_text()) for path in paths]


@pytest.mark.parametrize("told", ["launcher", "rank 0", "rank 1"])
def test_all_ranks_leave_after_the_same_step_with_a_last_checkpoint(tmp_path, told):
    place, script = tmp_path / "store", tmp_path / "train.py"
    script.write_text(PROLOGUE + TRAINER)

    def act(launcher, ranks):
        target = {"launcher": launcher.pid, "rank 0": ranks[0], "rank 1": ranks[1]}[told]
        os.kill(target, signal.SIGTERM)

    zero, one = launch(place, script, act)
    assert zero == one
    step, bias = int(zero.split()[0]), float(zero.split()[1])
    with holdfast.open(place) as store:
        newest = store.latest("run")
        assert newest.step == step
        assert float(newest.load("model")["bias"][0]) == pytest.approx(bias, abs=0)
        assert store.verify().ok
