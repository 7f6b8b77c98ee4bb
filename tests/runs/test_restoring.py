"""Kinds of checkpoints, and how they are put back."""

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn

import holdfast
from holdfast import keep, when
from tests.runs.samples import attached, flip, manual


def network():
    return nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))


@pytest.fixture
def run(store):
    with store.run("run", save=when.never(), keep=keep.all()) as opened:
        yield opened


def test_the_kinds_hold_what_they_say(run):
    model = network()
    run.attach(model=model, optimizer=torch.optim.SGD(model.parameters(), momentum=0.9))
    run.attach(extra={"n": 1})
    assert run.save(0).wait().items == ("model", "optimizer", "extra", "rng")
    assert run.save(1, kind="weights").wait().items == ("model",)
    assert run.save(2, items=["optimizer"]).wait().items == ("optimizer",)
    assert run.save(3, kind="metrics").wait().items == ()
    assert [c.kind for c in run.checkpoints(order_by="step")] == [
        "full",
        "weights",
        "partial",
        "metrics",
    ]


def test_a_partial_checkpoint_holds_the_chosen_parameters(run):
    model = network()
    run.attach(model=model)
    head = run.save(0, items={"model": "2.*"}).wait()
    assert head.kind == "partial"
    assert sorted(head.load("model", keys="*")) == ["2.bias", "2.weight"]
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    assert sorted(head.restore(model=model, partial=True)) == ["model.2.bias", "model.2.weight"]
    assert model[2].weight.any()
    assert not model[0].weight.any()


@pytest.mark.parametrize(
    ("items", "words"),
    [(["tail"], "tail"), ({"model": "9.*"}, "9.*"), ([], "items")],
)
def test_choosing_what_is_not_there_is_an_error_that_names_it(run, items, words):
    run.attach(model=network())
    with pytest.raises(holdfast.ConfigError) as caught:
        run.save(0, items=items)
    assert words in str(caught.value)


def test_any_safetensors_reader_opens_a_checkpoint(run):
    model = network()
    run.attach(model=model)
    checkpoint = run.save(0).wait()
    tensors: dict[str, torch.Tensor] = {}
    for file in checkpoint.path.glob("model*.safetensors"):
        tensors |= safetensors.torch.load_file(file)
    state = model.state_dict()
    assert tensors.keys() == state.keys()
    assert all(torch.equal(tensors[name], state[name]) for name in state)


def test_tied_weights_and_a_copy_for_averages_come_back(run):
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = nn.Embedding(5, 3)
            self.head = nn.Linear(3, 5, bias=False)
            self.head.weight = self.embed.weight

    model = Tied()
    ema = torch.optim.swa_utils.AveragedModel(network())
    run.attach(model=model, ema=ema)
    checkpoint = run.save(0).wait()
    before = model.embed.weight.detach().clone()
    with torch.no_grad():
        model.embed.weight.zero_()
    checkpoint.restore(model=model, ema=ema)
    assert torch.equal(model.head.weight, before)
    assert model.head.weight is model.embed.weight
    (file,) = checkpoint.path.glob("model*.safetensors")
    assert len(safetensors.torch.load_file(file)) == 1


def test_ten_checkpoints_of_a_mostly_frozen_model_take_less_than_two_states(store):
    model = nn.Sequential(nn.Linear(300, 300), nn.Linear(300, 30))
    model[0].requires_grad_(False)
    with store.run("run", save=when.never()) as run:
        run.attach(model=model)
        for step in range(10):
            with torch.no_grad():
                model[1].weight += 1
            run.save(step, kind="weights").wait()
        state = sum(p.numel() * 4 for p in model.parameters())
        stored = {p.stat().st_ino: p.stat().st_size for p in store.path.rglob("*.safetensors")}
        assert sum(stored.values()) <= 2.0 * state
        assert store.usage().stored_nbytes <= 2.0 * state
        shown = [c.load("model")["1.weight"][0, 0].item() for c in run.checkpoints()]
        assert shown == sorted(shown, reverse=True)
        assert len(set(shown)) == 10


def test_a_mismatch_is_one_error_that_lists_all_before_anything_changed(run):
    run.attach(model=network())
    checkpoint = run.save(0).wait()
    other = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 7), nn.Linear(7, 1))
    before = {name: value.clone() for name, value in other.state_dict().items()}
    with pytest.raises(holdfast.TreeError) as caught:
        checkpoint.restore(model=other)
    told = "\n".join(caught.value.problems)
    for name in ("model.2.weight", "model.2.bias", "model.3.weight", "model.3.bias"):
        assert name in told
    assert "0.weight" not in told
    assert all(torch.equal(before[name], value) for name, value in other.state_dict().items())


def test_a_partial_restore_loads_what_fits_and_returns_it(run):
    run.attach(model=network())
    checkpoint = run.save(0).wait()
    other = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 7))
    loaded = checkpoint.restore(model=other, partial=True)
    assert sorted(loaded) == ["model.0.bias", "model.0.weight"]
    assert torch.equal(other[0].weight, run._session.attached.objects["model"][0].weight)


def test_another_dtype_is_a_mismatch(run):
    run.attach(model=network())
    checkpoint = run.save(0).wait()
    with pytest.raises(holdfast.TreeError, match="dtype"):
        checkpoint.restore(model=network().double())


def test_load_never_hands_out_a_damaged_value(run):
    attached(run)
    checkpoint = run.save(0).wait()
    flip(checkpoint)
    with pytest.raises(holdfast.IntegrityError) as caught:
        checkpoint.load("model")
    assert checkpoint.id in str(caught.value) or caught.value.path
    with pytest.raises(holdfast.IntegrityError):
        checkpoint.verify()


def test_a_damaged_restore_says_that_the_objects_are_mixed(run):
    model = attached(run)
    checkpoint = run.save(0).wait()
    flip(checkpoint)
    with pytest.raises(holdfast.IntegrityError, match="mix"):
        checkpoint.restore(model=model)


def test_load_into_a_live_object_and_by_pattern_and_cast(run):
    run.attach(model=network())
    checkpoint = run.save(0).wait()
    fresh = network()
    assert checkpoint.load("model", into=fresh) is fresh
    assert torch.equal(fresh[0].weight, checkpoint.load("model")["0.weight"])
    half = checkpoint.load("model", keys="0.*", dtype=torch.float16)
    assert {name: value.dtype for name, value in half.items()} == {
        "0.bias": torch.float16,
        "0.weight": torch.float16,
    }
    with pytest.raises(holdfast.NotFoundError, match="9"):
        checkpoint.load("model", keys="9.*")
    with pytest.raises(holdfast.NotFoundError, match="nothing"):
        checkpoint.load("nothing")


def test_names_are_stored_bare_and_wrappers_get_theirs_back(run):
    plain = network()
    wrapped = nn.DataParallel(plain)
    run.attach(model=wrapped)
    checkpoint = run.save(0).wait()
    assert "0.weight" in checkpoint.load("model")
    other = network()
    checkpoint.restore(model=other)
    assert torch.equal(other[2].weight, plain[2].weight)
    checkpoint.restore(model=nn.DataParallel(network()))


def test_a_thinned_checkpoint_says_so_and_still_gives_its_items(store):
    with manual(store, keep=keep.latest(5).items("model") | keep.latest(1)) as run:
        run.attach(optimizer={"m": np.ones(3)})
        run.save(0)
        run.save(1)
        run.wait()
        thinned = run.get("step:0")
        assert thinned.thinned
        assert thinned.kind == "full"
        assert thinned.load("model")["w"].tolist() == [0.0] * 8
        with pytest.raises(holdfast.NotFoundError, match="optimizer"):
            thinned.load("optimizer")
        assert not (thinned.path / "optimizer.safetensors").exists()


def test_pins_tags_and_exports_reach_the_checkpoint(store, tmp_path):
    with manual(store) as run:
        checkpoint = run.save(0).wait()
    checkpoint.pin()
    checkpoint.tag("prod", "v1")
    checkpoint.untag("v1")
    again = store.get("run@tag:prod")
    assert again == checkpoint
    assert (again.pinned, again.tags) == (True, ("prod",))
    checkpoint.tag("v2")
    again.tag("v3")
    assert store.get(again.id).tags == ("prod", "v2", "v3")
    exported = checkpoint.export(tmp_path / "out")
    assert any(exported.rglob("*.safetensors"))
