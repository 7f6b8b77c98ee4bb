"""A killed trainer whose data loader's workers live on."""

import os
import signal

import pytest
import torch

import holdfast
from holdfast import opening, when
from tests.processes.jobs import hear, job

# A job that says nothing more is a failure, not a hang.
pytestmark = [pytest.mark.timeout(120), pytest.mark.slow]

TRAINER = """
import torch
from torch.utils.data import DataLoader, Dataset

class Numbers(Dataset):
    def __len__(self):
        return 8

    def __getitem__(self, index):
        if index >= 4:
            # In the middle of its work, it does not look after its parent.
            say("worker", os.getpid())
            signal.pause()
        return torch.tensor([float(index)])

if __name__ == "__main__":
    store = holdfast.open(place)
    with store.run("run", save=when.always()) as run:
        model = torch.nn.Linear(1, 1)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
        run.attach(model=model, optimizer=optimizer)
        loader = DataLoader(Numbers(), num_workers=2, multiprocessing_context=sys.argv[2])
        for step, batch in enumerate(loader):
            model(batch).sum().backward()
            optimizer.step()
            run.step(step, loss=1.0)
            run.wait()
            say("step", step)
"""


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_the_next_trainer_does_not_wait_for_the_workers_of_a_dead_one(
    tmp_path, monkeypatch, caplog, method
):
    monkeypatch.setattr(opening, "LOCK_TIMEOUT_S", 0.0)
    caplog.set_level("INFO", "holdfast")
    place = tmp_path / "store"
    with job(TRAINER, place, method, file=tmp_path / "train.py") as process:
        said = [hear(process) for _ in range(6)]
        workers = [int(line.split()[1]) for line in said if line.startswith("worker")]
        try:
            assert len(workers) == 2
            assert "step 3" in said
            process.kill()
            process.wait(timeout=60)
            for worker in workers:
                os.kill(worker, 0)
            with holdfast.open(place) as store, store.run("run", save=when.never()) as run:
                run.attach(model=torch.nn.Linear(1, 1))
                assert run.resume() == 4
                run.save(4).wait()
        finally:
            for worker in workers:
                os.kill(worker, signal.SIGKILL)
    assert f"(pid {process.pid} on " in caplog.text
