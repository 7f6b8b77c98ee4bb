"""Which checkpoint training goes on from, and that it goes on as if it had never stopped."""

import math
import random

import numpy as np
import pytest
import torch
from torch import nn

import holdfast
from holdfast import stop, when
from tests.runs.samples import attached, flip, manual, steps_of


def test_resume_without_a_checkpoint_starts_at_0_and_touches_nothing(store):
    with store.run("run") as run:
        model = attached(run, 5.0)
        assert run.resume() == 0
        assert model["w"].tolist() == [5.0] * 8


def test_resume_takes_the_newest_full_checkpoint(store):
    with manual(store) as run:
        model = attached(run, 1.0)
        run.save(0).wait()
        model["w"][:] = 2.0
        run.save(1).wait()
        model["w"][:] = 3.0
        run.save(2, kind="metrics")
        run.save(3, items=["model"])
        assert run.resume() == 2
        assert model["w"].tolist() == [2.0] * 8


def test_resume_passes_over_a_damaged_checkpoint_and_names_it(store, log):
    with manual(store) as run:
        model = attached(run, 1.0)
        run.save(0).wait()
        model["w"][:] = 2.0
        damaged = run.save(1).wait()
    flip(damaged)
    with manual(store) as run:
        model = attached(run, 9.0)
        assert run.resume() == 1
        assert model["w"].tolist() == [1.0] * 8
        assert steps_of(run) == [0, 1]
        assert store.get(damaged.id).info.damaged
    warnings = [r.getMessage() for r in log.records if r.levelname == "WARNING"]
    assert any(damaged.id in line for line in warnings)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_resume_passes_over_poisoned_weights_and_names_the_checkpoint(store, log, value):
    with store.run("run", save=when.never()) as run:
        model = nn.Linear(2, 2)
        run.attach(model=model)
        healthy = run.save(0).wait()
        with torch.no_grad():
            model.weight[0, 0] = value
        poisoned = run.save(1).wait()
        assert run.resume() == 1
        assert torch.isfinite(model.weight).all()
        assert run.checkpoints() == [poisoned, healthy]
    warning = next(r.getMessage() for r in log.records if poisoned.id in r.getMessage()
                   and r.levelname == "WARNING")  # fmt: skip
    assert "model" in warning


def test_a_mask_of_infinities_is_no_poison(store):
    class Masked(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(2, 2)
            self.register_buffer("mask", torch.full((2, 2), -math.inf))

    with store.run("run", save=when.never()) as run:
        run.attach(model=Masked(), memory={"padding": np.full(3, np.inf)})
        run.save(4).wait()
        assert run.resume() == 5


def test_objects_are_untouched_when_the_only_checkpoint_is_damaged(store):
    with manual(store) as run:
        flip(run.save(0).wait())
        model = attached(run, 7.0)
        assert run.resume() == 0
        assert model["w"].tolist() == [7.0] * 8
        assert steps_of(run) == [0]


def test_resume_says_so_when_it_could_not_leave_the_objects_alone(store):
    with manual(store) as run:
        for step in range(2):
            attached(run, float(step))
            flip(run.save(step).wait())
        attached(run, 7.0)
        with pytest.raises(holdfast.IntegrityError, match="mixture"):
            run.resume()


def test_a_broken_manifest_of_the_newest_does_not_keep_the_run_from_opening(store, log):
    with manual(store) as run:
        run.save(0).wait()
        broken = run.save(1).wait()
    flip(broken, "manifest.json")
    with manual(store) as run:
        assert run.resume() == 1
        run.save(1).wait()
        assert run.resume() == 2
    assert broken.id in log.text


def test_resume_by_reference_takes_what_was_asked_for(store):
    with manual(store, metric="loss") as run:
        model = attached(run)
        for step, loss in enumerate([3.0, 1.0, 2.0]):
            model["w"][:] = loss
            run.save(step, {"loss": loss})
        assert run.resume("best") == 2
        assert model["w"][0] == 1.0
        with pytest.raises(holdfast.NotFoundError):
            run.resume("step:77")
        flip(run.get("step:2"))
        with pytest.raises(holdfast.IntegrityError):
            run.resume("step:2")


def test_resume_of_another_run_starts_a_branch_of_it(store):
    with manual(store, "base") as base:
        attached(base, 4.0)
        origin = base.save(10).wait()
    with manual(store, "tuned", parent="base") as run:
        model = attached(run)
        assert run.resume("base@latest") == 11
        assert model["w"][0] == 4.0
        assert run.save(11).wait().parent == origin.id
        assert run.info.parent == "base"


def test_chosen_items_alone_are_restored(store):
    with manual(store) as run:
        head = {"h": np.ones(2)}
        run.attach(head=head)
        run.save(0)
        head["h"][:] = 5.0
        model = attached(run, 5.0)
        assert run.resume(items=["model"]) == 1
        assert model["w"][0] == 0.0
        assert head["h"][0] == 5.0
        with pytest.raises(holdfast.ConfigError, match="tail"):
            run.resume(items=["tail"])


def test_an_item_that_the_checkpoint_lacks_is_an_error_that_names_it(store):
    with manual(store) as run:
        run.save(0).wait()
        model = attached(run, 3.0)
        run.attach(ema={"w": np.ones(2)})
        with pytest.raises(holdfast.TreeError, match="ema"):
            run.resume()
        assert model["w"][0] == 3.0


def test_rollback_branches_and_the_parent_says_from_where(store):
    with manual(store, metric="loss") as run:
        ids = [run.save(step, {"loss": loss}).wait().id for step, loss in enumerate([2, 1, 3])]
        assert run.rollback() == 2
        branch = run.save(2, {"loss": 0.5}).wait()
        assert branch.parent == ids[1]
        assert run.stats()["best"]["loss"] == (0.5, 2.0)


def test_what_differs_since_the_last_opening_is_logged(store, log, monkeypatch):
    with manual(store, config={"lr": 0.1, "depth": 4}) as run:
        run.save(0)
    real = holdfast.environment.describe()
    changed = {**real, "python": "3.99", "packages": {**real["packages"], "numpy": "9.9"},
               "git": {"commit": "abc"}}  # fmt: skip
    monkeypatch.setattr(holdfast.environment, "describe", lambda: changed)
    with manual(store, config={"lr": 0.2, "width": 8, "depth": 4}) as run:
        log.clear()
        run.resume()
    text = log.text
    for part in ("config lr is 0.2 instead of 0.1", "config width is 8 instead of unset", "3.99",
                 "numpy", "9.9", "commit", "abc"):  # fmt: skip
        assert part in text
    assert "depth" not in text


def test_the_stop_policys_state_is_rebuilt(store):
    def run_of(steps):
        rule = stop.patience("loss", checks=3)
        with store.run("run", save=when.always(), stop=rule) as run:
            attached(run)
            first = run.resume()
            for step in range(first, first + steps):
                run.step(step, loss=1.0)
                if run.should_stop:
                    return step
        return None

    assert run_of(2) is None
    assert run_of(9) == 3


def test_a_resume_gives_the_stop_policy_back_what_it_took(store):
    rule = stop.patience("loss", checks=3)
    with store.run("run", save=when.at(1), stop=rule) as run:
        attached(run)
        for step in range(4):
            run.step(step, loss=1.0)
        assert run.should_stop
        run.resume()
        assert not run.should_stop
        for step, stops in ((2, False), (3, True)):
            run.step(step, loss=1.0)
            assert run.should_stop == stops


class Trainer:
    """Training with every source of randomness that there is."""

    def __init__(self) -> None:
        torch.manual_seed(7)
        data = torch.randn(48, 6)
        self.model = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Dropout(0.3),
                                   nn.Linear(8, 1))  # fmt: skip
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=0.01)
        self.scheduler = torch.optim.lr_scheduler.StepLR(self.optimizer, 3, gamma=0.5)
        self.order = torch.Generator().manual_seed(3)
        self.loader = torch.utils.data.DataLoader(
            torch.utils.data.TensorDataset(data), batch_size=8, shuffle=True, generator=self.order
        )

    def attach(self, run):
        run.attach(model=self.model, optimizer=self.optimizer, scheduler=self.scheduler,
                   order=GeneratorState(self.order))  # fmt: skip

    def epoch(self):
        losses = []
        for (batch,) in self.loader:
            noise = torch.randn(1) + random.random() + np.random.rand()  # noqa: NPY002
            loss = (self.model(batch) + noise).square().mean()
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            losses.append(loss.item())
        self.scheduler.step()
        return losses


class GeneratorState:
    """A generator with the two methods that make it attachable."""

    def __init__(self, generator):
        self.generator = generator

    def state_dict(self):
        return {"state": self.generator.get_state()}

    def load_state_dict(self, state):
        self.generator.set_state(state["state"])


def test_training_after_a_resume_has_bit_identical_losses(store):
    np.random.seed(1)  # noqa: NPY002 - the global one is restored
    with store.run("run", save=when.at(1)) as run:
        trainer = Trainer()
        trainer.attach(run)
        whole = []
        for epoch in range(4):
            whole.append(trainer.epoch())
            run.step(epoch, loss=whole[-1][-1])
    np.random.seed(99)  # noqa: NPY002 - the global one is restored
    random.seed(99)
    with store.run("run", save=when.never()) as run:
        trainer = Trainer()
        trainer.epoch()
        trainer.attach(run)
        first = run.resume()
        assert first == 2
        assert [trainer.epoch() for _ in range(first, 4)] == whole[2:]


def test_resuming_before_anything_is_attached_warns_that_nothing_is_restored(store, log):
    with manual(store) as run:
        run.save(3).wait()
    with store.run("run") as run:
        assert run.resume() == 4
    assert "resumes before anything is attached: nothing is restored" in log.text


def test_an_item_attached_after_resume_is_warned_of(store, caplog):
    for late in (False, True):
        with store.run("late", save=when.never()) as run:
            state = {"w": np.zeros(2)}
            if late:
                run.resume()
            run.attach(model=state)
            run.save(0).wait()
    assert "model attached after resume() and not restored" in caplog.text


def test_objects_are_untouched_when_every_checkpoints_generators_are_damaged(store):
    with manual(store) as run:
        saved = [run.save(step).wait() for step in range(2)]
    # Both have the same generators' states, and so the same file.
    flip(saved[0], "rng.safetensors")
    with store.run("run", save=when.never()) as run:
        model = attached(run, fill=7.0)
        assert run.resume() == 0
        assert (model["w"] == 7.0).all()
