"""Modules and optimizers that are captured again and again, and change in between."""

from __future__ import annotations

import copy
import gc
import types
import weakref

import pytest
import torch
from torch import nn, optim
from torch.nn.utils import parametrize

from holdfast import items
from holdfast.errors import TreeError
from tests.state.samples import attempt, described

OFTEN = 3


def check_like_new(captured, obj):
    """Asserts that what is captured again is what is captured the first time, and returns it."""
    again, problem = attempt(captured.flat)
    fresh, expected = attempt(lambda: items.capture(obj, path="item"))
    assert problem == expected
    if fresh is not None:
        assert described(again) == described(fresh)
    return again


def experienced(obj):
    captured = items.Captured(obj, path="item")
    for _ in range(OFTEN):
        check_like_new(captured, obj)
    return captured


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(2, 2)
        self.body = nn.Sequential(nn.Linear(2, 2, bias=False), nn.BatchNorm1d(2), nn.ReLU())
        self.register_buffer("scratch", torch.zeros(1), persistent=False)
        self.register_buffer("later", None)
        self.register_parameter("never", None)
        self.none = None
        self.add_module("gap", None)
        self.last = nn.Linear(2, 1)

    def forward(self, inputs):
        return self.last(self.body(self.first(inputs)))


#: What a module makes up must lie in one place, or it is another state each time.
ODD = torch.ones(3, requires_grad=True)


class Other(nn.Linear):
    def get_extra_state(self):
        return {"seen": 3, "tensor": ODD}


class Whole(nn.Linear):
    def get_extra_state(self):
        return ODD


class Doubled(nn.Linear):
    def _save_to_state_dict(self, destination, prefix, keep_vars):
        super()._save_to_state_dict(destination, prefix, keep_vars)
        destination[prefix + "more"] = ODD


def renamed(net):
    net.head = net.last
    del net.last


def moved(net):
    net.body.append(net.last)
    del net.last


def shifted(net):
    """A module goes from the front of one to the end of its neighbour."""
    child = net.body[2]
    del net.body[2]
    net.last.add_module("2", child)


def hooked(net):
    net.first._register_state_dict_hook(
        lambda module, state, prefix, metadata: state.update({prefix + "weight": ODD})
    )


def overridden(net):
    own = net.state_dict
    net.state_dict = types.MethodType(
        lambda self, **options: {k: v for k, v in own(**options).items() if "last" in k}, net
    )


def overridden_inside(net):
    net.first.state_dict = types.MethodType(
        lambda self, destination, prefix, keep_vars: destination.update({prefix + "x": 1}),
        net.first,
    )


def replaced(net):
    """The old child lives on."""
    old = net.first
    net.first = nn.Linear(2, 2)
    net.first.seen = [old]


def reordered(net):
    net._modules["first"] = net._modules.pop("first")


def other_class(net):
    net.first.__class__ = Other


MODULE_CHANGES = {
    "nothing": lambda net: None,
    "values": lambda net: net.first.weight.data.add_(1),
    "a parameter": lambda net: setattr(net.first, "weight", nn.Parameter(torch.ones(2, 2))),
    "another shape": lambda net: setattr(net.first, "weight", nn.Parameter(torch.ones(3, 2))),
    "frozen": lambda net: net.first.requires_grad_(False),
    "half": lambda net: net.half(),
    "a parameter that was none": lambda net: setattr(net, "never", nn.Parameter(torch.ones(1))),
    "none that was a parameter": lambda net: setattr(net.first, "bias", None),
    "a buffer that was none": lambda net: setattr(net, "later", torch.ones(1)),
    "a buffer of its own": lambda net: setattr(net, "scratch", torch.ones(4)),
    "a buffer that stays": lambda net: net._non_persistent_buffers_set.clear(),
    "a buffer that goes": lambda net: net._non_persistent_buffers_set.add("later"),
    "a child": lambda net: setattr(net, "new", nn.Linear(1, 1)),
    "a child that was none": lambda net: setattr(net, "gap", nn.Linear(1, 1)),
    "none that was a child": lambda net: setattr(net, "first", None),
    "another child": lambda net: setattr(net, "first", nn.Linear(2, 2)),
    "another child beside the old one": replaced,
    "a child less": lambda net: delattr(net, "first"),
    "renamed": renamed,
    "moved": moved,
    "shifted": shifted,
    "reordered": reordered,
    "tied": lambda net: setattr(net.body[0], "weight", net.first.weight),
    "shared": lambda net: setattr(net, "twin", net.first),
    "a hook": hooked,
    "a hook before": lambda net: net.first.register_state_dict_pre_hook(
        lambda module, prefix, keep: module.bias.data.add_(1)
    ),
    "overridden": overridden,
    "overridden inside": overridden_inside,
    "another class": other_class,
    "an extra state": lambda net: net.add_module("extra", Other(1, 1)),
    "an extra state that is a tensor": lambda net: net.add_module("extra", Whole(1, 1)),
    "saved in its own way": lambda net: net.add_module("own", Doubled(1, 1)),
    "parametrized": lambda net: parametrize.register_parametrization(
        net.first, "weight", nn.Identity()
    ),
    "compiled inside": lambda net: setattr(net, "first", torch.compile(net.first)),
    "parallel inside": lambda net: setattr(net, "first", nn.DataParallel(net.first)),
    "clashing": lambda net: net.add_module("_orig_mod", nn.ModuleDict({"first": nn.Linear(2, 2)})),
    "sparse": lambda net: setattr(net, "later", torch.eye(2).to_sparse()),
    "assigned": lambda net: net.load_state_dict(copy.deepcopy(net.state_dict()), assign=True),
}


@pytest.mark.parametrize("change", MODULE_CHANGES)
def test_a_module_that_changes_is_captured_as_it_is(change):
    net = Net()
    captured = experienced(net)
    MODULE_CHANGES[change](net)
    for _ in range(OFTEN):
        check_like_new(captured, net)


def test_what_was_changed_can_be_changed_back():
    net = Net()
    captured = experienced(net)
    handle = net.register_state_dict_post_hook(lambda module, state, *rest: state.clear())
    for _ in range(OFTEN):
        assert not check_like_new(captured, net).leaves
    handle.remove()
    for _ in range(OFTEN):
        assert len(check_like_new(captured, net).leaves) == 10
    net.body[1].num_batches_tracked = None
    assert len(check_like_new(captured, net).leaves) == 9


@pytest.mark.parametrize(
    "wrap", [torch.compile, nn.DataParallel, lambda net: nn.DataParallel(torch.compile(net))]
)
def test_a_wrapped_module_keeps_its_bare_names(wrap):
    net = Net()
    whole = wrap(net)
    captured = experienced(whole)
    net.first.weight = nn.Parameter(torch.zeros(2, 2))
    flat = check_like_new(captured, whole)
    assert list(flat.leaves) == list(net.state_dict())


@pytest.fixture
def asked(monkeypatch):
    """Counts how often anything is asked for its state_dict()."""
    calls = []
    for kind in (nn.Module, optim.Optimizer):
        own = kind.state_dict

        def counted(self, *args, own=own, **options):
            calls.append(self)
            return own(self, *args, **options)

        monkeypatch.setattr(kind, "state_dict", counted)
    return calls


def trained(net):
    optimizer = optim.Adam(net.parameters())
    net(torch.randn(4, 2)).sum().backward()
    optimizer.step()
    return optimizer


def test_the_usual_module_and_optimizer_are_not_asked_again(asked):
    net = Net()
    optimizer = trained(net)
    both = [items.Captured(obj, path="item") for obj in (net, optimizer)]
    for _ in range(OFTEN):
        outlines = [captured.flat().outline for captured in both]
    asked.clear()
    for _ in range(OFTEN):
        net(torch.randn(4, 2)).sum().backward()
        optimizer.step()
        optimizer.param_groups[0]["lr"] /= 2
        flats = [captured.flat() for captured in both]
        assert flats[1].skeleton["param_groups"][0]["lr"] == optimizer.param_groups[0]["lr"]
        assert [flat.outline for flat in flats] == outlines
    assert asked == []


def test_a_module_that_saves_in_its_own_way_is_asked_each_time(asked):
    net = Net()
    net.own = Other(1, 1)
    captured = items.Captured(net, path="item")
    for _ in range(OFTEN):
        captured.flat()
    asked.clear()
    extra = captured.flat()
    assert asked[0] is net
    assert extra.leaves["own._extra_state.tensor"].node("x").get("requires_grad")


def test_an_extra_state_that_is_a_tensor_is_stored_as_it_is():
    leaves = items.capture(Whole(1, 1), path="item").leaves
    trained = {name: "requires_grad" in leaf.node(name) for name, leaf in leaves.items()}
    assert trained == {"weight": False, "bias": False, "_extra_state": True}


def stepped(optimizer):
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            parameter.grad = torch.ones_like(parameter)
    optimizer.step()


def swapped(optimizer):
    params = optimizer.param_groups[0]["params"]
    params[0], params[1] = params[1], params[0]


def restarted(optimizer):
    first = next(iter(optimizer.state))
    optimizer.state[first] = optimizer.state.pop(first)


def loaded(optimizer):
    optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))


OPTIMIZER_CHANGES = {
    "nothing": lambda o: None,
    "a step": stepped,
    "lr": lambda o: o.param_groups[0].update(lr=0.5),
    "lr as a tensor": lambda o: o.param_groups[0].update(lr=torch.tensor(0.5)),
    "another value": lambda o: o.param_groups[0].update(label="new"),
    "a group": lambda o: o.add_param_group({"params": [nn.Parameter(torch.ones(2))]}),
    "swapped": swapped,
    "a parameter less": lambda o: o.state.pop(o.param_groups[0]["params"].pop()),
    "no state": lambda o: o.state.clear(),
    "another order": restarted,
    "a state by name": lambda o: o.state.update(total=3),
    "loaded": loaded,
    "other moments": lambda o: next(iter(o.state.values())).update(exp_avg=torch.ones(2, 2)),
    "more moments": lambda o: next(iter(o.state.values())).update(more=torch.ones(2)),
    "a hook": lambda o: o.register_state_dict_post_hook(lambda o, state: {"mine": 1, **state}),
    "a hook before": lambda o: o.register_state_dict_pre_hook(stepped),
    "overridden": lambda o: setattr(o, "state_dict", lambda: {"mine": ODD}),
}


@pytest.mark.parametrize("kind", ["fresh", "trained"])
@pytest.mark.parametrize("change", OPTIMIZER_CHANGES)
def test_an_optimizer_that_changes_is_captured_as_it_is(change, kind):
    net = Net()
    optimizer = trained(net) if kind == "trained" else optim.Adam(net.parameters())
    captured = experienced(optimizer)
    if kind == "fresh" and change in ("another order", "other moments", "more moments"):
        stepped(optimizer)
    if kind == "fresh" and change == "a parameter less":
        optimizer.param_groups[0]["params"].pop()
    else:
        OPTIMIZER_CHANGES[change](optimizer)
    for _ in range(OFTEN):
        check_like_new(captured, optimizer)


def test_a_parameter_that_left_its_group_is_torchs_own_error():
    optimizer = trained(Net())
    captured = experienced(optimizer)
    optimizer.param_groups[0]["params"].pop()
    with pytest.raises(KeyError):
        captured.flat()


def test_what_an_object_gave_up_is_not_kept():
    net = Net()
    optimizer = trained(net)
    both = [experienced(net), experienced(optimizer)]
    seen = [
        weakref.ref(net.first), weakref.ref(net.first.weight),
        weakref.ref(next(iter(optimizer.state.values()))["exp_avg"]),
    ]  # fmt: skip
    storage = net.first.weight.untyped_storage()._weak_ref()
    loaded(optimizer)
    optimizer.state.clear()
    optimizer.param_groups[0]["params"].clear()
    net.zero_grad()
    net.first = nn.Linear(2, 2)
    gc.collect()
    assert [ref() for ref in seen] == [None] * 3
    assert torch.UntypedStorage._new_with_weak_ptr(storage) is None
    assert all(captured.flat() is not None for captured in both)


def test_what_was_captured_can_be_swapped_and_resized():
    net = Net()
    experienced(net)
    other = nn.Parameter(torch.zeros(2, 2))
    weight = net.first.weight
    torch.utils.swap_tensors(weight, other)
    assert weight.tolist() == [[0, 0], [0, 0]]
    array = torch.zeros(3).numpy().copy()
    experienced({"a": array})
    array.resize((7,))
    assert array.shape == (7,)


def test_a_module_is_refused_by_its_path_once_it_cannot_be_stored():
    net = Net()
    captured = experienced(net)
    net.first.bias = None
    net.first.register_buffer("odd", torch.eye(2).to_sparse())
    with pytest.raises(TreeError, match=r"item\.first\.odd: the tensor is sparse"):
        captured.flat()
    del net.first.odd
    assert "first.bias" not in check_like_new(captured, net).leaves
