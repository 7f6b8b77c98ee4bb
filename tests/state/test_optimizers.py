"""Optimizers, schedulers, scalers: their state comes back as it was, and training goes on."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn, optim
from torch.optim import lr_scheduler

from holdfast import items, rng
from holdfast.adapters.torch import optimizers
from tests.state.samples import captured, check_same, restore

OPTIMIZERS = {
    "sgd": lambda p: optim.SGD(p, lr=0.1, momentum=0.9),
    "adam": lambda p: optim.Adam(p, lr=0.01, amsgrad=True),
    "adamw": lambda p: optim.AdamW(p, lr=0.01),
    "adamw with a tensor": lambda p: optim.AdamW(p, lr=torch.tensor(0.01), foreach=False),
    "adagrad": lambda p: optim.Adagrad(p, lr=0.1),
    "rmsprop": lambda p: optim.RMSprop(p, lr=0.01, centered=True, momentum=0.5),
    "adadelta": optim.Adadelta,
    "adamax": optim.Adamax,
    "nadam": optim.NAdam,
    "radam": optim.RAdam,
    "rprop": optim.Rprop,
    "asgd": optim.ASGD,
    "adafactor": optim.Adafactor,
    "lbfgs": lambda p: optim.LBFGS(p, max_iter=3, history_size=4),
}


def network(dtype=torch.float32):
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3)).to(dtype)


def take_steps(model, optimizer, count, seed=0):
    """Takes steps on the same data each time, and returns the losses."""
    generator = torch.Generator().manual_seed(seed)
    losses = []
    for _ in range(count):
        inputs = torch.randn(6, 4, generator=generator).to(next(model.parameters()).dtype)

        def closure(inputs=inputs):
            optimizer.zero_grad()
            loss = model(inputs).square().mean()
            loss.backward()
            return loss

        losses.append(optimizer.step(closure).item())
    return losses


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_a_fresh_optimizer_goes_on_to_the_bit(kind):
    model = network()
    optimizer = OPTIMIZERS[kind](model.parameters())
    take_steps(model, optimizer, 4)
    stored = captured(model), captured(optimizer)
    fresh = network()
    live = OPTIMIZERS[kind](fresh.parameters())
    restore(fresh, stored[0])
    restore(live, stored[1])
    check_same(live.state_dict(), optimizer.state_dict())
    assert take_steps(model, optimizer, 4, seed=1) == take_steps(fresh, live, 4, seed=1)
    check_same(live.state_dict(), optimizer.state_dict())


@pytest.mark.parametrize("kind", ["adamw", "sgd", "lbfgs"])
def test_a_rollback_forgets_what_came_later(kind):
    model = network()
    optimizer = OPTIMIZERS[kind](model.parameters())
    before = copy.deepcopy(optimizer.state_dict())
    stored = captured(optimizer)
    take_steps(model, optimizer, 3)
    restore(optimizer, stored)
    check_same(optimizer.state_dict(), before)


@pytest.mark.parametrize(
    ("parameters", "state"),
    [(torch.bfloat16, torch.float32), (torch.float32, torch.bfloat16), (torch.float64, torch.int8)],
)
def test_state_keeps_the_dtype_that_it_was_stored_with(parameters, state):
    model = network(parameters)
    optimizer = optim.AdamW(model.parameters())
    take_steps(model, optimizer, 2)
    for entry in optimizer.state.values():
        for name in ("exp_avg", "exp_avg_sq"):
            entry[name] = (torch.randn(entry[name].shape) * 50).to(state)
    expected = copy.deepcopy(optimizer.state_dict())
    live = optim.AdamW(network(parameters).parameters())
    restore(live, captured(optimizer))
    assert {entry["exp_avg"].dtype for entry in live.state.values()} == {state}
    check_same(live.state_dict(), expected)


class LowRank(optim.Optimizer):
    """Keeps a moment of another shape than its parameter, under a name that torch has too."""

    def __init__(self, params):
        super().__init__(params, {"lr": 0.1})
        for parameter in self.param_groups[0]["params"]:
            self.state[parameter] = {"exp_avg": torch.ones(parameter.dim())}


def test_only_torchs_own_optimizers_are_held_to_torchs_shapes():
    saved, live = (LowRank(network().parameters()) for _ in range(2))
    restore(live, captured(saved))
    check_same(live.state_dict(), saved.state_dict())


class Nested(optim.Optimizer):
    """Keeps tensors in lists and dicts, as shampoo-like optimizers do."""

    def __init__(self, params):
        super().__init__(params, {"lr": 0.1, "name": "a", "betas": (0.9, 0.99)})

    def step(self, closure=None):
        for group in self.param_groups:
            for parameter in group["params"]:
                self.state[parameter] = {
                    "parts": [torch.ones(2, dtype=torch.float64), {"deep": torch.ones(1)}],
                    "pair": (torch.ones(3, dtype=torch.uint8), 5),
                    "none": None,
                }


def test_nested_state_keeps_its_dtypes_too():
    saved, live = (Nested(network(torch.bfloat16).parameters()) for _ in range(2))
    saved.step()
    expected = copy.deepcopy(saved.state_dict())
    restore(live, captured(saved))
    check_same(live.state_dict(), expected)


def test_groups_come_back_with_all_their_values():
    def build(model, **other):
        first, last = model[0].parameters(), model[2].parameters()
        groups = [{"params": first, "lr": 0.5, "label": "body"}, {"params": last, **other}]
        return optim.AdamW(groups, lr=0.1)

    saved = build(network(), weight_decay=0.3, label="head")
    live = build(network())
    restore(live, captured(saved))
    check_same(live.state_dict(), saved.state_dict())
    assert live.param_groups[1]["label"] == "head"


FLAGS = ["foreach", "fused", "capturable", "differentiable"]


@pytest.mark.parametrize("flag", FLAGS)
def test_how_a_step_is_computed_is_the_live_optimizers_business(flag):
    model = network()
    saved = optim.Adam(model.parameters(), lr=0.5)
    take_steps(model, saved, 1)
    saved.param_groups[0][flag] = not saved.param_groups[0][flag]
    live = optim.Adam(network().parameters(), lr=0.1)
    kept = live.param_groups[0][flag]
    restore(live, captured(saved))
    assert live.param_groups[0][flag] == kept
    assert live.param_groups[0]["lr"] == 0.5


def test_what_is_restored_shares_no_memory_with_what_was_saved():
    model = network()
    optimizer = optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    take_steps(model, optimizer, 1)
    old = next(iter(optimizer.state.values()))["momentum_buffer"]
    expected = old.clone()
    live = optim.SGD(network().parameters(), lr=0.1, momentum=0.9)
    restore(live, captured(optimizer))
    old.zero_()
    assert torch.equal(next(iter(live.state.values()))["momentum_buffer"], expected)


def stepped(kind, steps, dtype=torch.float32):
    model = network(dtype)
    optimizer = OPTIMIZERS[kind](model.parameters())
    take_steps(model, optimizer, steps)
    return model, optimizer


def tensors_of(optimizer):
    """Returns the tensors of the state, by parameter and name."""
    return {
        (index, name): value
        for index, entry in enumerate(optimizer.state.values())
        for name, value in entry.items()
        if isinstance(value, torch.Tensor)
    }


@pytest.mark.parametrize("in_place", [True, False])
@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_live_state_that_fits_is_restored_where_it_lies(kind, in_place):
    _, saved = stepped(kind, 4)
    expected = copy.deepcopy(saved.state_dict())
    model, live = stepped(kind, 2)
    before = {place: id(tensor) for place, tensor in tensors_of(live).items()}
    plan = restore(live, captured(saved), in_place=in_place)
    check_same(live.state_dict(), expected)
    if kind == "lbfgs":
        return
    assert {place: id(tensor) for place, tensor in tensors_of(live).items()} == before
    assert len(plan.buffers) == len(before)
    assert take_steps(model, live, 1, seed=2)


def test_a_backward_pass_over_restored_state_is_refused_as_after_any_change():
    _, saved = stepped("adamw", 3)
    _, live = stepped("adamw", 1)
    versions = {place: tensor._version for place, tensor in tensors_of(live).items()}
    restore(live, captured(saved))
    assert all(tensor._version > versions[place] for place, tensor in tensors_of(live).items())


def other_dtype(entry, parameter):
    entry["exp_avg"] = entry["exp_avg"].double()


def other_shape(entry, parameter):
    entry["exp_avg"] = torch.zeros(3)


def the_gradients_memory(entry, parameter):
    parameter.grad = torch.zeros_like(parameter)
    entry["exp_avg"] = parameter.grad


def the_parameters_memory(entry, parameter):
    entry["exp_avg"] = parameter.detach()


def each_others_memory(entry, parameter):
    entry["exp_avg"] = entry["exp_avg_sq"]


def no_tensor(entry, parameter):
    entry["exp_avg"] = 3.0


UNFIT_STATE = [
    other_dtype, other_shape, the_gradients_memory, the_parameters_memory, each_others_memory,
    no_tensor,
]  # fmt: skip


@pytest.mark.parametrize("spoil", UNFIT_STATE)
def test_live_state_that_is_no_place_for_it_is_built_anew(spoil):
    _, saved = stepped("adamw", 3)
    expected = copy.deepcopy(saved.state_dict())
    model, live = stepped("adamw", 1)
    parameter = next(model.parameters())
    spoil(live.state[parameter], parameter)
    old, weights = live.state[parameter]["exp_avg"], parameter.detach().clone()
    restore(live, captured(saved))
    check_same(live.state_dict(), expected)
    assert live.state[parameter]["exp_avg"] is not old
    assert torch.equal(parameter, weights)


def test_state_that_was_one_tensor_for_two_is_one_again():
    _, saved = stepped("adamw", 2)
    entry = next(iter(saved.state.values()))
    entry["exp_avg_sq"] = entry["exp_avg"]
    _, live = stepped("adamw", 1)
    restore(live, captured(saved))
    entry = next(iter(live.state.values()))
    assert entry["exp_avg_sq"] is entry["exp_avg"]
    check_same(live.state_dict(), saved.state_dict())


@pytest.mark.parametrize("hook", ["pre", "post"])
def test_hooks_on_loading_see_the_whole_stored_state(hook):
    _, saved = stepped("sgd", 2)
    _, live = stepped("sgd", 1)
    old = tensors_of(live)
    seen = []
    register = getattr(live, f"register_load_state_dict_{hook}_hook")
    register(lambda *_: seen.append(tensors_of(live)))
    plan = restore(live, captured(saved))
    assert len(seen) == 1
    assert not plan.buffers
    assert all(tensor is not old[place] for place, tensor in tensors_of(live).items())
    check_same(live.state_dict(), saved.state_dict())


def test_live_state_on_a_device_that_torch_would_not_choose_is_built_anew(monkeypatch):
    _, saved = stepped("adamw", 3)
    expected = copy.deepcopy(saved.state_dict())
    _, live = stepped("adamw", 1)
    before = tensors_of(live)
    monkeypatch.setattr(optimizers, "_CPU", torch.device("meta"))
    restore(live, captured(saved))
    check_same(live.state_dict(), expected)
    moved = {name for (index, name), value in tensors_of(live).items()
             if value is not before[index, name]}  # fmt: skip
    assert moved == {"step"}


def test_steps_go_where_a_capturable_optimizer_has_them():
    _, saved = stepped("adamw", 3)
    _, live = stepped("adamw", 1)
    for group in live.param_groups:
        group["capturable"] = True
    restore(live, captured(saved))
    assert {entry["step"].item() for entry in live.state.values()} == {3.0}
    assert live.param_groups[0]["capturable"] is True


def fewer_groups(model):
    return optim.AdamW(model.parameters())


def fewer_parameters(model):
    return optim.AdamW([{"params": [model[0].weight]}, {"params": list(model[2].parameters())}])


def other_shapes(model):
    return optim.AdamW(
        [{"params": [model[0].bias, model[0].weight]}, {"params": list(model[2].parameters())}]
    )


UNFIT = [
    (fewer_groups, ["optimizer.param_groups: 2 groups in the checkpoint, 1 here"]),
    (
        fewer_parameters,
        ["optimizer.param_groups[0].params: 2 parameters in the checkpoint, 1 here"],
    ),
    (
        other_shapes,
        [
            "optimizer.state[0].exp_avg: shape [8, 4] in the checkpoint, [8] here",
            "optimizer.state[0].exp_avg_sq: shape [8, 4] in the checkpoint, [8] here",
            "optimizer.state[1].exp_avg: shape [8] in the checkpoint, [8, 4] here",
            "optimizer.state[1].exp_avg_sq: shape [8] in the checkpoint, [8, 4] here",
        ],
    ),
]


@pytest.mark.parametrize(("build", "problems"), UNFIT)
def test_groups_and_parameters_that_do_not_fit_are_listed(build, problems):
    model = network()
    parts = [list(model[0].parameters()), list(model[2].parameters())]
    saved = optim.AdamW([{"params": part} for part in parts])
    take_steps(model, saved, 1)
    plan = items.plan_restore(build(network()), captured(saved)[0], path="optimizer")
    assert list(plan.problems) == problems


@pytest.mark.parametrize("state", [[], {}, {"state": {}, "param_groups": [{"params": ["a"]}]}])
def test_what_is_no_state_of_an_optimizer_is_a_problem(state):
    live = optim.SGD(network().parameters(), lr=0.1)
    plan = items.plan_restore(live, captured(state)[0], path="o")
    assert plan.problems == ("o: not the state of an optimizer in the checkpoint",)


def one_cycle(optimizer):
    return lr_scheduler.OneCycleLR(optimizer, max_lr=0.5, total_steps=40)


def sequential(optimizer):
    parts = [
        lr_scheduler.LinearLR(optimizer, total_iters=3),
        lr_scheduler.CosineAnnealingWarmRestarts(optimizer, 4),
        lr_scheduler.MultiStepLR(optimizer, [2, 5]),
    ]
    return lr_scheduler.SequentialLR(optimizer, parts, milestones=[3, 6])


SCHEDULERS = {
    "lambda": lambda o: lr_scheduler.LambdaLR(o, lambda epoch: 0.9**epoch),
    "one cycle": one_cycle,
    "plateau": lambda o: lr_scheduler.ReduceLROnPlateau(o, patience=1),
    "sequential": sequential,
    "exponential": lambda o: lr_scheduler.ExponentialLR(o, 0.9),
    "cyclic": lambda o: lr_scheduler.CyclicLR(o, 0.1, 0.5, step_size_up=3),
}


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("kind", SCHEDULERS)
def test_a_schedule_goes_on(kind):
    def build():
        optimizer = optim.SGD(network().parameters(), lr=0.1, momentum=0.9)
        return optimizer, SCHEDULERS[kind](optimizer)

    def advance(optimizer, scheduler, count):
        rates = []
        for index in range(count):
            optimizer.step()
            loss = [1.0 + index % 3] if kind == "plateau" else []
            scheduler.step(*loss)
            group = optimizer.param_groups[0]
            rates.append((group["lr"], group["momentum"]))
        return rates

    optimizer, scheduler = build()
    advance(optimizer, scheduler, 5)
    stored = captured(optimizer), captured(scheduler)
    live = build()
    restore(live[0], stored[0])
    restore(live[1], stored[1])
    assert advance(optimizer, scheduler, 9) == advance(*live, 9)
    check_same(live[1].state_dict(), scheduler.state_dict())


def test_a_scaler_goes_on():
    saved = torch.amp.GradScaler("cpu", init_scale=8.0, growth_interval=2)
    saved.scale(torch.ones(1))
    saved.update(new_scale=4.0)
    state = saved.state_dict()
    live = torch.amp.GradScaler("cpu")
    restore(live, captured(saved))
    assert live.state_dict() == state
    assert state["scale"] == 4.0


class Loader:
    """A data position in the way of stateful loaders."""

    def __init__(self):
        self.position = 0
        self.order = torch.arange(4)

    def state_dict(self):
        return {"position": self.position, "order": self.order}

    def load_state_dict(self, state):
        self.position = state["position"]
        self.order = state["order"]


def test_any_object_with_a_state_dict_travels():
    saved, live = Loader(), Loader()
    saved.position, saved.order = 7, torch.tensor([3, 1, 0, 2])
    plan = restore(live, captured(saved))
    check_same(live.state_dict(), saved.state_dict())
    assert plan.loaded == ("order",)
    assert live.order is not saved.order


class OwnWay(optim.SGD):
    """An optimizer with a format of its own."""

    def state_dict(self):
        return {"mine": torch.ones(2)}

    def load_state_dict(self, state):
        self.got = state


def test_an_optimizer_with_a_format_of_its_own_is_left_to_itself():
    saved, live = (OwnWay(network().parameters(), lr=0.1) for _ in range(2))
    restore(live, captured(saved))
    check_same(live.got, {"mine": torch.ones(2)})


class Training:
    """Everything of a small training run."""

    def __init__(self):
        self.model = nn.Sequential(nn.Linear(4, 16), nn.Dropout(0.5), nn.ReLU(), nn.Linear(16, 1))
        self.optimizer = optim.AdamW(self.model.parameters(), lr=0.01)
        self.scheduler = lr_scheduler.OneCycleLR(self.optimizer, max_lr=0.1, total_steps=30)

    def run(self, count):
        losses = []
        for _ in range(count):
            inputs = torch.randn(8, 4)
            loss = (self.model(inputs).squeeze() - inputs.sum(1)).square().mean()
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            self.scheduler.step()
            losses.append(loss.item())
        return losses

    @property
    def parts(self):
        return {"model": self.model, "optimizer": self.optimizer, "scheduler": self.scheduler}


def test_resumed_training_gives_the_same_losses_to_the_bit():
    torch.manual_seed(3)
    first = Training()
    first.run(10)
    stored = {name: captured(part, name) for name, part in first.parts.items()}
    stored["rng"] = captured(rng.capture(), "rng")
    expected = first.run(10)

    torch.manual_seed(99)
    second = Training()
    second.run(2)
    second = Training()
    for name, part in second.parts.items():
        restore(part, stored[name], path=name)
    state = rng.capture()
    restore(state, stored["rng"])
    rng.restore(state)
    assert second.run(10) == expected
    assert len(set(expected)) == 10
