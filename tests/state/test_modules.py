"""Modules: names without wrappers, restored where they lie, and all that does not fit."""

from __future__ import annotations

import copy
from collections import OrderedDict

import pytest
import torch
from torch import nn

from holdfast import items, tree
from holdfast.errors import TreeError
from tests.state.samples import captured, check_same, restore


def network():
    return nn.Sequential(
        nn.Conv1d(1, 4, 3), nn.BatchNorm1d(4), nn.Flatten(), nn.Linear(4 * 6, 2), nn.PReLU()
    )


def trained(seed=0):
    torch.manual_seed(seed)
    model = network()
    model(torch.randn(5, 1, 8))
    for parameter in model.parameters():
        parameter.data.add_(torch.randn_like(parameter))
    return model


def state_of(module):
    return {name: value.clone() for name, value in module.state_dict().items()}


@pytest.mark.parametrize("in_place", [True, False])
def test_parameters_and_buffers_come_back_where_they_lie(in_place):
    saved, live = trained(), network()
    live[0].weight.requires_grad_(False)
    before = [
        (id(tensor), tensor.data_ptr(), tensor.requires_grad)
        for tensor in (*live.parameters(), *live.buffers())
    ]
    plan = restore(live, captured(saved), in_place=in_place)
    check_same(state_of(live), state_of(saved))
    after = [
        (id(tensor), tensor.data_ptr(), tensor.requires_grad)
        for tensor in (*live.parameters(), *live.buffers())
    ]
    assert before == after
    assert plan.buffers.keys() == plan.needed == set(saved.state_dict())


def test_loading_gives_what_the_state_dict_shows():
    skeleton, buffers = captured(trained())
    state = tree.unflatten(skeleton, buffers)
    assert {type(value) for value in state.values()} == {nn.Parameter, torch.Tensor}
    assert not any(value.requires_grad for value in state.values())
    live = network()
    live.load_state_dict(state)
    check_same(state_of(live), state_of(trained()))


def test_frozen_parameters_are_known_to_be_stable():
    model = network()
    model[0].requires_grad_(False)
    flat = items.capture(model, path="model")
    assert {name for name, leaf in flat.leaves.items() if leaf.stable} == {"0.weight", "0.bias"}
    trainable = {name for name, leaf in flat.leaves.items() if leaf.node(name).get("parameter")}
    assert trainable == dict(model.named_parameters()).keys()


def test_buffers_that_are_not_persistent_stay_out():
    model = nn.Module()
    model.register_buffer("kept", torch.ones(1))
    model.register_buffer("scratch", torch.ones(1), persistent=False)
    assert list(items.capture(model, path="m").leaves) == ["kept"]


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(5, 3)
        self.head = nn.Linear(3, 5, bias=False)
        self.head.weight = self.embed.weight


class Untied(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(5, 3)
        self.head = nn.Linear(3, 5, bias=False)


@pytest.mark.parametrize("kind", [Tied, Untied])
def test_tied_weights_are_stored_once_and_fit_both(kind):
    saved = Tied()
    flat = items.capture(saved, path="m")
    assert list(flat.leaves) == ["embed.weight"]
    assert flat.aliases == {"head.weight": "embed.weight"}
    live = kind()
    plan = restore(live, captured(saved))
    check_same(state_of(live), state_of(saved))
    assert (live.head.weight is live.embed.weight) == (kind is Tied)
    assert plan.loaded == ("embed.weight", "head.weight")


def test_weights_that_were_not_tied_go_into_tied_ones_one_after_the_other():
    saved, live = Untied(), Tied()
    plan = restore(live, captured(saved))
    assert plan.buffers.keys() == {"embed.weight"}
    assert torch.equal(live.embed.weight, saved.head.weight)


def wrap_nothing(model):
    return model


def wrap_compiled(model):
    return torch.compile(model)


def wrap_inside(model):
    model[0] = torch.compile(model[0])
    return model


def wrap_parallel(model):
    return nn.DataParallel(model)


def wrap_twice(model):
    return nn.DataParallel(torch.compile(model))


WRAPPERS = [wrap_nothing, wrap_compiled, wrap_inside, wrap_parallel, wrap_twice]


@pytest.mark.parametrize("into", WRAPPERS)
@pytest.mark.parametrize("out_of", WRAPPERS)
def test_names_are_bare_whatever_wraps_the_model(out_of, into):
    saved = out_of(trained())
    assert list(items.capture(saved, path="m").leaves) == list(network().state_dict())
    model = network()
    live = into(model)
    plan = restore(live, captured(saved))
    check_same(list(state_of(model).values()), list(state_of(trained()).values()))
    assert plan.loaded == tuple(network().state_dict())


def test_a_child_that_is_called_module_keeps_its_name():
    model = nn.Module()
    model.module = nn.Linear(1, 1)
    assert list(items.capture(model, path="m").leaves) == ["module.weight", "module.bias"]


def test_two_names_that_are_one_without_wrappers_are_refused():
    model = nn.Module()
    model.a = nn.Linear(1, 1)
    model._orig_mod = nn.Module()
    model._orig_mod.a = nn.Linear(1, 1)
    with pytest.raises(TreeError, match=r"m: '_orig_mod.a.weight' and 'a.weight' are both"):
        items.capture(model, path="m")


def test_all_that_does_not_fit_is_listed_and_partial_loads_the_rest():
    saved = nn.ModuleDict({"a": nn.Linear(2, 2), "b": nn.Linear(2, 3), "c": nn.Linear(1, 1).half()})
    live = nn.ModuleDict({"a": nn.Linear(2, 2), "b": nn.Linear(2, 4), "c": nn.Linear(1, 1),
                          "d": nn.Linear(1, 1)})  # fmt: skip
    saved["old"] = nn.Linear(1, 1, bias=False)
    before = state_of(live)
    skeleton, buffers = captured(saved)
    plan = items.plan_restore(live, skeleton, path="model")
    assert list(plan.problems) == [
        "model.b.weight: shape [3, 2] in the checkpoint, [4, 2] here",
        "model.b.bias: shape [3] in the checkpoint, [4] here",
        "model.c.weight: dtype float16 in the checkpoint, float32 here",
        "model.c.bias: dtype float16 in the checkpoint, float32 here",
        "model.d.weight: missing in the checkpoint",
        "model.d.bias: missing in the checkpoint",
        "model.old.weight: unexpected, the module has none of that name",
    ]
    with pytest.raises(TreeError, match=r"model\.old\.weight"):
        plan.finish(buffers)
    check_same(state_of(live), before)
    plan = restore(live, (skeleton, buffers), partial=True)
    assert plan.loaded == ("a.weight", "a.bias")
    assert plan.needed == {"a.weight", "a.bias"}
    assert torch.equal(live["a"].weight, saved["a"].weight)
    for name in before.keys() - {"a.weight", "a.bias"}:
        check_same(state_of(live)[name], before[name])


class Counting(nn.Linear):
    def __init__(self):
        super().__init__(2, 2)
        self.seen = {"batches": 0, "hist": torch.zeros(3)}

    def get_extra_state(self):
        return self.seen

    def set_extra_state(self, state):
        self.seen = state


def test_extra_states_travel():
    saved = nn.Sequential(Counting(), nn.DataParallel(Counting()))
    saved[1].module.seen = {"batches": 7, "hist": torch.arange(3.0)}
    live = nn.Sequential(Counting(), Counting())
    plan = restore(live, captured(saved))
    check_same(live[1].seen, {"batches": 7, "hist": torch.arange(3.0)})
    assert "1._extra_state" in plan.loaded
    assert torch.equal(live[0].weight, saved[0].weight)


def test_an_extra_state_that_cannot_be_stored_is_named():
    model = Counting()
    model.seen = object()
    with pytest.raises(TreeError, match=r"model\._extra_state: <class 'object'>"):
        items.capture(model, path="model")


class Packed(nn.Module):
    """Saves its weight in another form than it has, as quantized layers do."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(2, 2)
        self.register_buffer("loads", torch.zeros(()), persistent=False)
        self._register_state_dict_hook(Packed._pack)

    @staticmethod
    def _pack(module, state, prefix, metadata):
        state[prefix + "packed"] = state.pop(prefix + "inner.weight").detach() * 2

    def _load_from_state_dict(self, state, prefix, *rest):
        with torch.no_grad():
            self.inner.weight.copy_(state.pop(prefix + "packed") / 2)
        self.loads += 1
        state[prefix + "inner.weight"] = self.inner.weight.detach().clone()

    def load_state_dict(self, state, strict=True, assign=False):
        state = dict(state)
        self._load_from_state_dict(state, "")
        self.inner.load_state_dict(
            {key.removeprefix("inner."): value for key, value in state.items()}, strict=strict
        )


def test_a_module_that_loads_in_its_own_way_is_asked_to():
    saved, live = Packed(), Packed()
    plan = restore(live, captured(saved))
    assert plan.buffers == {}
    assert plan.needed == {"packed", "inner.bias"}
    assert live.loads == 1
    check_same(state_of(live.inner), state_of(saved.inner))


def test_an_entry_that_is_a_copy_reaches_the_parameter():
    def copied(module, state, prefix, metadata):
        state[prefix + "weight"] = state[prefix + "weight"].detach().clone()

    saved, live = nn.Linear(2, 2), nn.Linear(2, 2)
    live._register_state_dict_hook(copied)
    restore(live, captured(saved))
    assert torch.equal(live.weight, saved.weight)


def test_a_load_hook_is_called():
    calls = []
    live = nn.Linear(2, 2)
    live.register_load_state_dict_post_hook(lambda module, keys: calls.append(module))
    saved = nn.Linear(2, 2)
    restore(live, captured(saved))
    assert calls == [live]
    check_same(state_of(live), state_of(saved))


def test_a_moving_average_travels_with_its_count():
    model = trained()
    saved = torch.optim.swa_utils.AveragedModel(model)
    saved.update_parameters(model)
    saved.update_parameters(trained(1))
    live = torch.optim.swa_utils.AveragedModel(network())
    restore(live, captured(saved))
    assert live.n_averaged == 2
    check_same(state_of(live), state_of(saved))


def test_an_uninitialized_module_is_refused_both_ways():
    lazy = nn.Sequential(nn.LazyLinear(2))
    with pytest.raises(TreeError, match=r"m.0.weight: .* not initialized yet.*forward pass"):
        items.capture(lazy, path="m")
    plan = items.plan_restore(lazy, captured(nn.Sequential(nn.Linear(2, 2)))[0], path="m")
    assert len(plan.problems) == 2
    assert "forward pass" in plan.problems[0]


def test_a_module_on_the_meta_device_is_a_problem():
    with torch.device("meta"):
        live = nn.Linear(2, 2)
    plan = items.plan_restore(live, captured(nn.Linear(2, 2))[0], path="m")
    assert [line.partition(":")[0] for line in plan.problems] == ["m.weight", "m.bias"]


@pytest.mark.parametrize("state", [[1], {"weight": 3}, {"weight": {"a": torch.ones(1)}}])
def test_what_is_no_state_of_a_module_is_a_problem(state):
    stored = captured(state)
    plan = items.plan_restore(nn.Linear(2, 2), stored[0], path="m")
    assert plan.problems
    assert restore(nn.Linear(2, 2), stored, partial=True).loaded == ()


def test_a_state_dict_in_a_dict_keeps_its_versions():
    state = network().state_dict()
    stored = captured({"model": state})
    back = tree.unflatten(*stored)["model"]
    assert type(back) is OrderedDict
    check_same(back._metadata, state._metadata)
    live = {"model": copy.deepcopy(trained().state_dict())}
    inner = live["model"]
    restore(live, stored)
    assert live["model"] is inner
    check_same(dict(inner), dict(state))
