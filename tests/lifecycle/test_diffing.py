"""Two checkpoints are compared by digest alone, and on request by how far their tensors moved."""

import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import holdfast
from holdfast import when
from holdfast.errors import IntegrityError
from holdfast.lifecycle.diffing import ValueChange, _values
from tests.lifecycle.stores import flip


@pytest.fixture
def store(tmp_path):
    with holdfast.open(tmp_path / "store") as opened:
        yield opened


def save(store, name, state, *, config=None, metadata=None, **metrics):
    run = store.run(name, save=when.never(), config=config or {})
    run.attach(**state)
    saved = run.save(0, metrics, metadata=metadata).wait()
    run.close()
    return saved


def test_tensors_are_told_apart_by_content_dtype_and_shape(store):
    zeros = torch.zeros(4)
    a = save(
        store,
        "a",
        {
            "model": {
                "same": zeros + 1,
                "value": zeros,
                "shape": zeros,
                "dtype": zeros,
                "old": zeros,
            }
        },
    )
    b = save(
        store,
        "b",
        {
            "model": {
                "same": zeros + 1,
                "value": zeros + 2,
                "shape": zeros.view(2, 2),
                "dtype": zeros.int(),
                "new": zeros,
            }
        },
    )
    change = store.diff(a, b).items["model"]
    assert change.same == ("same",)
    assert change.changed == ("dtype", "shape", "value")
    assert (change.added, change.removed) == (("new",), ("old",))
    assert not store.diff(a, b).same_tensors
    assert store.diff(a, a).same_tensors


def test_an_item_of_one_side_counts_whole(store):
    a = save(store, "a", {"model": {"w": torch.ones(2)}})
    b = save(store, "b", {"model": {"w": torch.ones(2)}, "head": {"v": torch.ones(3)}})
    assert store.diff(a, b).items["head"].added == ("v",)
    assert store.diff(b, a).items["head"].removed == ("v",)


def test_tied_tensors_are_compared_under_each_name(store):
    weight = torch.ones(3)
    a = save(store, "a", {"model": {"in": weight, "out": weight}})
    b = save(store, "b", {"model": {"in": torch.ones(3), "out": torch.zeros(3)}})
    change = store.diff(a, b).items["model"]
    assert (change.same, change.changed) == (("in",), ("out",))


def test_late_metrics_count(store):
    a = save(store, "a", {"model": {"w": torch.ones(2)}}, loss=2.0, only_a=1.0)
    b = save(store, "b", {"model": {"w": torch.ones(2)}}, loss=1.5)
    b.report(accuracy=0.75)
    metrics = store.diff(a, store.get(b.id)).metrics
    assert metrics["loss"].delta == -0.5
    assert (metrics["accuracy"].before, metrics["accuracy"].after) == (None, 0.75)
    assert metrics["only_a"].delta is None


def test_configuration_and_metadata_differ_by_dotted_path(store):
    state = {"model": {"w": torch.ones(2)}}
    a = save(
        store,
        "a",
        state,
        config={"opt": {"lr": 1, "wd": 0.1}, "old": None, "n": 1},
        metadata={"b": 1},
    )
    b = save(store, "b", state, config={"opt": {"lr": 2, "wd": 0.1}, "new": [1], "n": 1})
    found = store.diff(a, b)
    assert found.config == {
        "opt.lr": ValueChange("changed", 1, 2),
        "old": ValueChange("removed", before=None),
        "new": ValueChange("added", after=[1]),
    }
    assert found.metadata == {"b": ValueChange("removed", before=1)}


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-3, 3), st.sampled_from([1.0, 0.5, "x"])),
    lambda inner: st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=150, deadline=None)
@given(
    st.dictionaries(st.sampled_from("abc"), JSON, max_size=3),
    st.dictionaries(st.sampled_from("abc"), JSON, max_size=3),
)
def test_no_difference_is_told_where_there_is_none_and_some_where_there_is(before, after):
    found = dict(_values(before, after))
    assert bool(found) == (json.dumps(before, sort_keys=True) != json.dumps(after, sort_keys=True))
    assert not dict(_values(before, before))


@pytest.mark.parametrize(
    "dtype",
    [
        torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn,
        torch.float8_e5m2,
    ],
)  # fmt: skip
def test_norms_are_those_of_the_stored_numbers(store, dtype):
    one = torch.linspace(-2, 2, 37).to(dtype)
    other = torch.linspace(3, -1, 37).to(dtype)
    a = save(store, "a", {"model": {"w": one, "same": one.clone(), "count": torch.tensor(1)}})
    b = save(store, "b", {"model": {"w": other, "same": one.clone(), "count": torch.tensor(2)}})
    moved = store.diff(a, b, norms=True).tensors
    assert set(moved["model"]) == {"w"}
    x, y = one.double().numpy(), other.double().numpy()
    change = moved["model"]["w"]
    assert change.before == pytest.approx(np.linalg.norm(x), rel=1e-12)
    assert change.after == pytest.approx(np.linalg.norm(y), rel=1e-12)
    assert change.difference == pytest.approx(np.linalg.norm(y - x), rel=1e-12)
    assert change.largest == pytest.approx(np.abs(y - x).max(), rel=1e-12)


def test_a_tensor_larger_than_one_piece_is_measured_whole(store):
    one, other = torch.zeros(1_200_000), torch.zeros(1_200_000)
    other[0], other[-1] = 3.0, 4.0
    a, b = (save(store, n, {"model": {"w": w}}) for n, w in (("a", one), ("b", other)))
    change = store.diff(a, b, norms=True).tensors["model"]["w"]
    assert (change.before, change.after, change.difference) == (0.0, 5.0, 5.0)
    assert change.largest == 4.0


def test_a_nan_shows_in_the_norms_and_in_json(store):
    a = save(store, "a", {"model": {"w": torch.ones(3)}}, loss=float("nan"))
    b = save(store, "b", {"model": {"w": torch.tensor([1.0, math.nan, 1.0])}}, loss=1.0)
    found = store.diff(a, b, norms=True)
    assert math.isnan(found.tensors["model"]["w"].largest)
    told = json.loads(json.dumps(found.as_dict(), allow_nan=False))
    assert told["tensors"]["model"]["w"]["difference"] == "NaN"
    assert told["metrics"]["loss"] == {"before": "NaN", "after": 1.0, "delta": "NaN"}


def test_an_empty_tensor_has_no_length_to_move(store):
    a = save(store, "a", {"model": {"w": torch.zeros(0)}})
    b = save(store, "b", {"model": {"w": torch.zeros(0, dtype=torch.float64)}})
    assert store.diff(a, b, norms=True).tensors["model"]["w"].largest == 0.0


def test_norms_never_come_from_damaged_bytes(store):
    a = save(store, "a", {"model": {"w": torch.ones(3)}})
    b = save(store, "b", {"model": {"w": torch.zeros(3)}})
    flip(b.path / "model.safetensors")
    assert store.diff(a, b).items["model"].changed == ("w",)
    with pytest.raises(IntegrityError):
        store.diff(a, b, norms=True)
