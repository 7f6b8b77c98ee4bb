"""Copies taken beside the training: of one moment, or not taken for a checkpoint at all."""

import copy
import logging
import threading

import pytest
import torch

import holdfast
from holdfast import keep, when
from holdfast.engine.overlap import Overlap

WIDE = 256


class Net(torch.nn.Module):
    """Large enough that its weights are copied late; its running statistics change in forward."""

    def __init__(self):
        super().__init__()
        self.first = torch.nn.Linear(WIDE, WIDE)
        self.norm = torch.nn.BatchNorm1d(WIDE)
        self.last = torch.nn.Linear(WIDE, WIDE)

    def forward(self, x):
        return self.last(self.norm(self.first(x)).relu())


OPTIMIZERS = {
    "adamw": lambda ps: torch.optim.AdamW(ps, lr=0.01),
    "adamw-fused": lambda ps: torch.optim.AdamW(ps, lr=0.01, fused=True),
    "adamw-one-by-one": lambda ps: torch.optim.AdamW(ps, lr=0.01, foreach=False),
    "sgd-momentum": lambda ps: torch.optim.SGD(ps, lr=0.01, momentum=0.9),
    "adam-lr-tensor": lambda ps: torch.optim.Adam(ps, lr=torch.tensor(0.01), capturable=False),
}


class Gate:
    """While it is closed, late copies wait."""

    def __init__(self, monkeypatch):
        self.open = threading.Event()
        self.open.set()
        self.reached = threading.Event()
        original = Overlap._next

        def gated(overlap):
            self.reached.set()
            assert self.open.wait(60)
            return original(overlap)

        monkeypatch.setattr(Overlap, "_next", gated)


@pytest.fixture
def gate(monkeypatch):
    gate = Gate(monkeypatch)
    yield gate
    gate.open.set()


@pytest.fixture
def warned(caplog):
    caplog.set_level(logging.DEBUG, logger="holdfast")

    def count(level=logging.WARNING):
        torn = [r for r in caplog.records if "copied again" in r.getMessage()]
        return sum(r.levelno == level for r in torn)

    return count


class Training:
    """A loop of one network and its optimizers that saves beside the training."""

    def __init__(self, store, optimizer=OPTIMIZERS["adamw"], **options):
        torch.manual_seed(0)
        self.net = Net()
        self.optimizer = optimizer(self.net.parameters())
        options = {"save": when.never(), "keep": keep.all(), "snapshot": "overlap", **options}
        self.run = store.run("run", **options)
        self.run.attach(model=self.net, optimizer=self.optimizer)

    def forward(self):
        self.net(torch.randn(8, WIDE)).square().mean().backward()

    def update(self):
        self.optimizer.step()
        self.optimizer.zero_grad()

    def state(self):
        return copy.deepcopy((self.net.state_dict(), self.optimizer.state_dict()))


def same(checkpoint, state):
    """Asserts that a checkpoint holds exactly a state."""
    model, optimizer = checkpoint.load("model"), checkpoint.load("optimizer")
    for name, value in state[0].items():
        assert torch.equal(model[name], value), name
    for key, entry in state[1]["state"].items():
        for name, value in entry.items():
            found = optimizer["state"][key][name]
            equal = torch.equal(found, value) if isinstance(value, torch.Tensor) else found == value
            assert equal, (key, name)


@pytest.fixture
def training(store):
    training = Training(store)
    with training.run:
        training.forward()
        training.update()
        yield training


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_each_checkpoint_holds_the_state_of_its_step(store, kind, warned):
    training = Training(store, OPTIMIZERS[kind])
    states, pending = [], []
    with training.run as run:
        for step in range(6):
            training.forward()
            training.update()
            states.append(training.state())
            pending.append(run.save(step))
        checkpoints = [one.wait() for one in pending]
    for checkpoint, state in zip(checkpoints, states, strict=True):
        same(checkpoint, state)
    assert warned() == 0


def test_an_optimizer_step_waits_for_the_copies(training, gate):
    before = training.state()
    gate.open.clear()
    pending = training.run.save(0)
    assert gate.reached.wait(60)
    # Neither forward nor backward has to wait.
    training.forward()
    stepping = threading.Thread(target=training.update)
    stepping.start()
    stepping.join(0.2)
    assert stepping.is_alive()
    assert torch.equal(training.net.last.weight, before[0]["last.weight"])
    gate.open.set()
    stepping.join(60)
    assert not torch.equal(training.net.last.weight, before[0]["last.weight"])
    same(pending.wait(), before)


def test_what_changes_in_forward_is_copied_at_once(training, gate):
    before = training.state()
    gate.open.clear()
    pending = training.run.save(0)
    training.forward()
    assert not torch.equal(training.net.norm.running_mean, before[0]["norm.running_mean"])
    gate.open.set()
    same(pending.wait(), before)


def test_accumulated_gradients_disturb_nothing(training, gate, warned):
    before = training.state()
    gate.open.clear()
    pending = training.run.save(0)
    for _ in range(3):
        training.forward()
    gate.open.set()
    training.update()
    same(pending.wait(), before)
    assert warned() == 0


def clip(training):
    with torch.no_grad():
        for parameter in training.net.parameters():
            parameter.clamp_(-0.01, 0.01)


def reload(training):
    other = Net()
    training.net.load_state_dict(other.state_dict())


def move_moments(training):
    for entry in training.optimizer.state.values():
        entry["exp_avg"].zero_()


@pytest.mark.parametrize("write", [clip, reload, move_moments])
def test_what_is_written_too_early_makes_the_copy_be_taken_again(training, gate, warned, write):
    gate.open.clear()
    pending = training.run.save(0)
    assert gate.reached.wait(60)
    write(training)
    written = training.state()
    gate.open.set()
    training.forward()
    # The state just before the update: forward has moved the running statistics on.
    now = training.state()
    training.update()
    same(pending.wait(), now)
    assert torch.equal(now[0]["last.weight"], written[0]["last.weight"])
    assert warned() == 1
    # Told once; what happens again is for whoever looks closely.
    gate.open.clear()
    pending = training.run.save(1)
    write(training)
    gate.open.set()
    training.update()
    pending.wait()
    assert (warned(), warned(logging.DEBUG)) == (1, 1)


def test_a_write_during_the_copy_is_found_before_the_loop_takes_a_step(training, gate, warned):
    gate.open.clear()
    pending = training.run.save(0)
    clip(training)
    gate.open.set()
    # Nobody steps: waiting on the training thread is where it is taken again.
    same(pending.wait(), training.state())
    assert warned() == 1


def test_a_loop_that_sleeps_after_its_save_has_a_checkpoint_meanwhile(training, monkeypatch):
    monkeypatch.setattr("holdfast.engine.overlap._STILL_S", 0.0)
    durable = threading.Event()
    pending = training.run.save(0)

    def watch():
        pending.wait()
        durable.set()

    threading.Thread(target=watch).start()
    # The training thread stands here, in one instruction, until it is durable.
    assert durable.wait(60)


def test_ctrl_c_while_the_state_is_copied_again_reaches_the_loop(training, gate, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    gate.open.clear()
    pending = training.run.save(0)
    clip(training)
    with monkeypatch.context() as patched:
        patched.setattr("holdfast.copying.Copier._take_again", interrupted)
        gate.open.set()
        with pytest.raises(KeyboardInterrupt):
            training.optimizer.step()
    with pytest.raises(holdfast.SaveError, match="interrupted"):
        pending.wait()
    training.run.save(1).wait()


def test_a_parameter_that_is_given_other_memory_keeps_its_values_in_the_checkpoint(training, gate):
    before = training.state()
    gate.open.clear()
    pending = training.run.save(0)
    training.net.last.weight.data = torch.zeros(WIDE, WIDE)
    gate.open.set()
    same(pending.wait(), before)


def test_an_average_of_the_weights_is_updated_before_the_save(store, gate, warned):
    training = Training(store)
    average = torch.optim.swa_utils.AveragedModel(training.net)
    training.run.attach(average=average)
    with training.run as run:
        for step in range(3):
            training.forward()
            training.update()
            average.update_parameters(training.net)
            wanted = copy.deepcopy(average.state_dict())
            gate.open.clear()
            pending = run.save(step)
            gate.open.set()
            training.forward()
        checkpoint = pending.wait()
    loaded = checkpoint.load("average")
    assert torch.equal(loaded["module.last.weight"], wanted["module.last.weight"])
    assert warned() == 0


def test_the_first_of_two_optimizers_waits_too(store, gate):
    training = Training(store)
    head = torch.nn.Linear(WIDE, WIDE)
    second = torch.optim.AdamW(head.parameters())
    training.run.attach(head=head, second=second)
    with training.run as run:
        training.forward()
        training.update()
        before, wanted = training.state(), head.weight.detach().clone()
        gate.open.clear()
        pending = run.save(0)
        head(torch.randn(4, WIDE)).sum().backward()
        stepping = threading.Thread(target=second.step)
        stepping.start()
        stepping.join(0.2)
        assert stepping.is_alive()
        gate.open.set()
        stepping.join(60)
        checkpoint = pending.wait()
    same(checkpoint, before)
    assert torch.equal(checkpoint.load("head")["weight"], wanted)


def test_an_error_in_the_loop_leaves_a_whole_checkpoint(store, gate):
    training = Training(store)
    with pytest.raises(ZeroDivisionError), training.run as run:  # noqa: PT012
        training.forward()
        training.update()
        before = training.state()
        gate.open.clear()
        run.save(0)
        gate.open.set()
        training.forward()
        _ = 1 / 0
    (checkpoint,) = store.checkpoints("run")
    same(checkpoint, before)


def test_resuming_in_between_does_not_mix_two_states(training, gate):
    first = training.state()
    training.run.save(0).wait()
    training.forward()
    training.update()
    second = training.state()
    gate.open.clear()
    pending = training.run.save(1)
    opening = threading.Timer(0.1, gate.open.set)
    opening.start()
    assert training.run.resume("step:0") == 1
    same(pending.wait(), second)
    assert torch.equal(training.net.last.weight, first[0]["last.weight"])


def test_a_save_that_fails_early_gives_its_memory_back_only_when_nothing_writes_into_it(
    training, gate, monkeypatch
):
    before = training.state()
    gate.open.clear()

    def refuse(*_, **__):
        raise holdfast.SaveError("the medium is gone", hint="try another")

    with monkeypatch.context() as broken:
        broken.setattr("holdfast.recorder.StepRecorder.flush", refuse)
        pending = training.run.save(0)
        assert gate.reached.wait(60)
        opening = threading.Timer(0.1, gate.open.set)
        opening.start()
        with pytest.raises(holdfast.SaveError, match="gone"):
            pending.wait()
    same(training.run.save(1).wait(), before)


def test_a_plain_object_is_copied_at_once(store, gate):
    state = {"w": torch.zeros(WIDE, WIDE)}
    with store.run("run", save=when.never(), snapshot="overlap") as run:
        run.attach(state=state)
        gate.open.clear()
        pending = run.save(0)
        state["w"] += 1
        gate.open.set()
        assert not pending.wait().load("state")["w"].any()


def test_memory_that_is_too_small_writes_from_where_it_lies(store):
    training = Training(store, memory="1MB")
    with training.run as run:
        training.forward()
        training.update()
        before = training.state()
        pending = run.save(0)
        assert pending.done()
        training.forward()
        training.update()
        same(pending.wait(), before)
