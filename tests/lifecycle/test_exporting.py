"""An export is read by other tools without Holdfast, holds everything, and is whole or not there."""  # noqa: E501

import enum
import json
from collections import OrderedDict
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

import holdfast
from holdfast import when
from holdfast.errors import ConfigError, IntegrityError, NotFoundError, SaveError
from holdfast.lifecycle import exporting
from tests.lifecycle.stores import flip, train

FORMATS = ("safetensors", "huggingface", "torch")


class Point(NamedTuple):
    x: float
    y: float


class Color(enum.Enum):
    RED = 1


@pytest.fixture
def store(tmp_path):
    with holdfast.open(tmp_path / "store") as opened:
        yield opened


def save(store, state, **options):
    run = store.run("a", save=when.never(), config=options.pop("config", {}))
    run.attach(**state)
    saved = run.save(7, options.pop("metrics", {"loss": 0.5}), **options).wait()
    run.close()
    return saved


def trained() -> tuple[torch.nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Linear(4, 8), torch.nn.BatchNorm1d(8), torch.nn.Linear(8, 2)
    )
    optimizer = torch.optim.AdamW(model.parameters())
    for _ in range(2):
        optimizer.zero_grad()
        model(torch.randn(5, 4)).square().sum().backward()
        optimizer.step()
    return model, optimizer


def same(one: object, other: object) -> bool:
    if isinstance(one, torch.Tensor):
        return (
            isinstance(other, torch.Tensor)
            and one.dtype == other.dtype
            and one.shape == other.shape
            and torch.equal(
                one.contiguous().view(-1).view(torch.uint8),
                other.contiguous().view(-1).view(torch.uint8),
            )
        )
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    return type(one) is type(other) and one == other


DTYPES = [
    torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn,
    torch.float8_e5m2, torch.complex64, torch.int64, torch.int32, torch.int16, torch.int8,
    torch.uint64, torch.uint32, torch.uint16, torch.uint8, torch.bool,
]  # fmt: skip


def every_dtype() -> dict[str, torch.Tensor]:
    state = {str(dtype): torch.tensor([[0, 1, 1]]).to(dtype) for dtype in DTYPES}
    return {**state, "empty": torch.zeros(0, 3), "scalar": torch.tensor(2.5)}


# -- safetensors -------------------------------------------------------------------------------


def test_a_plain_file_loads_strictly_into_the_model(store, tmp_path):
    model, optimizer = trained()
    saved = save(store, {"model": model, "optimizer": optimizer})
    folder = saved.export(tmp_path / "out")
    fresh = torch.nn.Sequential(
        torch.nn.Linear(4, 8), torch.nn.BatchNorm1d(8), torch.nn.Linear(8, 2)
    )
    fresh.load_state_dict(load_file(folder / "model.safetensors"), strict=True)
    assert same(dict(fresh.state_dict()), dict(model.state_dict()))
    with safe_open(folder / "optimizer.safetensors", framework="pt") as file:
        assert set(file.keys())


@pytest.mark.parametrize("format", ["safetensors", "huggingface"])
def test_every_dtype_is_read_by_the_safetensors_library(store, tmp_path, format):
    state = every_dtype()
    folder = save(store, {"model": state}).export(tmp_path / "out", format)
    assert same(load_file(folder / "model.safetensors"), state)


def test_tied_tensors_are_there_under_each_name(store, tmp_path):
    weight = torch.arange(6.0)
    folder = save(store, {"model": {"in": weight, "out": weight}}).export(tmp_path / "out")
    assert same(load_file(folder / "model.safetensors"), {"in": weight, "out": weight})


def test_an_export_is_a_copy_and_shares_no_file_with_the_store(store, tmp_path):
    saved = save(store, {"model": {"w": torch.ones(3)}})
    folder = saved.export(tmp_path / "out")
    assert all(path.stat().st_nlink == 1 for path in folder.iterdir())
    (folder / "model.safetensors").write_bytes(b"overwritten")
    saved.verify()


def test_what_is_no_tensor_is_in_the_description(store, tmp_path):
    saved = save(
        store,
        {"model": {"w": torch.ones(2), "lr": 0.1}},
        config={"depth": 3},
        metadata={"batch": 9},
        metrics={"loss": float("nan")},
    )
    saved.report(accuracy=0.9)
    folder = saved.export(tmp_path / "out")
    told = json.loads((folder / "checkpoint.json").read_text())
    assert (told["id"], told["step"], told["config"]) == (saved.id, 7, {"depth": 3})
    assert told["metadata"]["batch"] == 9
    assert told["metrics"] == {"loss": "NaN", "accuracy": 0.9}
    assert told["items"]["model"]["skeleton"]["lr"] == 0.1


def test_a_metrics_checkpoint_exports_its_metrics(store, tmp_path):
    folder = save(store, {}, kind="metrics").export(tmp_path / "out")
    assert [path.name for path in folder.iterdir()] == ["checkpoint.json"]


# -- Hugging Face ------------------------------------------------------------------------------


def test_a_large_model_is_split_as_its_index_says(store, tmp_path):
    state = {f"layer.{n}.weight": torch.full((100,), float(n)) for n in range(7)}
    saved = save(store, {"model": state})
    folder = exporting.export(
        store._place, saved.manifest, tmp_path / "out", format="huggingface", shard_nbytes=900
    )
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    assert index["metadata"]["total_size"] == 7 * 400
    assert set(index["weight_map"].values()) == {
        f"model-{n:05d}-of-00004.safetensors" for n in range(1, 5)
    }
    read = {}
    for file in sorted(set(index["weight_map"].values())):
        part = load_file(folder / file)
        assert all(index["weight_map"][name] == file for name in part)
        read |= part
        with safe_open(folder / file, framework="pt") as opened:
            assert opened.metadata() == {"format": "pt"}
    assert same(read, state)


@pytest.mark.parametrize(
    ("config", "metadata", "expected"),
    [
        ({"lr": 1}, {"model_config": {"model_type": "bert"}}, {"model_type": "bert"}),
        ({"lr": 1, "model_config": {"n": 2}}, {}, {"n": 2}),
        ({"lr": 1}, {}, {"lr": 1}),
        ({}, {}, None),
    ],
)
def test_the_models_configuration_is_found_where_it_is_kept(
    store, tmp_path, config, metadata, expected
):
    saved = save(store, {"model": {"w": torch.ones(2)}}, config=config, metadata=metadata)
    path = saved.export(tmp_path / "out", "huggingface") / "config.json"
    assert (json.loads(path.read_text()) if path.exists() else None) == expected


def test_which_item_is_the_model_must_be_clear(store, tmp_path):
    saved = save(store, {"g": {"w": torch.ones(2)}, "d": {"w": torch.zeros(2)}})
    with pytest.raises(ConfigError, match="g, d"):
        saved.export(tmp_path / "out", "huggingface")
    exporting.export(store._place, saved.manifest, tmp_path / "out", format="huggingface", item="d")
    assert same(load_file(tmp_path / "out" / "model.safetensors"), {"w": torch.zeros(2)})
    with pytest.raises(NotFoundError):
        exporting.export(
            store._place, saved.manifest, tmp_path / "other", format="huggingface", item="x"
        )


# -- torch -------------------------------------------------------------------------------------


def test_a_torch_file_loads_without_running_code(store, tmp_path):
    model, optimizer = trained()
    saved = save(store, {"model": model, "optimizer": optimizer})
    path = saved.export(tmp_path / "out.pt", "torch")
    held = torch.load(path, weights_only=True)  # noqa: TID251
    assert set(held) == {"model", "optimizer", "rng"}
    assert same(dict(held["model"]), dict(model.state_dict()))
    assert same(held["optimizer"], optimizer.state_dict())
    fresh = torch.optim.AdamW(trained()[0].parameters())
    fresh.load_state_dict(held["optimizer"])
    assert same(fresh.state_dict(), optimizer.state_dict())


def test_what_torch_has_no_form_for_becomes_its_nearest(store, tmp_path):
    now = datetime(2026, 1, 2, tzinfo=UTC)
    state = {
        "point": Point(1.0, 2.0), "color": Color.RED, "time": now, "raw": b"abc", "none": None,
        "big": b"x" * 5000, "array": np.arange(3, dtype=np.uint16), "swapped": np.array([1, 2], ">i4"),  # noqa: E501
        "words": np.array(["a", "bc"]), "scalar": np.float32(0.5), "ordered": OrderedDict(a=1),
        "keys": {1: "a", (2, 3): "b"}, "tensors": every_dtype(), "complex": np.complex128(1 + 2j),
        "parameter": torch.nn.Parameter(torch.ones(2)), "flag": True, "huge": 2**80,
    }  # fmt: skip
    path = save(store, {"model": state}).export(tmp_path / "out.pt", "torch")
    held = torch.load(path, weights_only=True)["model"]  # noqa: TID251
    expected = {
        **state, "point": (1.0, 2.0), "color": "RED", "time": now.isoformat(),
        "array": torch.arange(3).to(torch.uint16), "swapped": torch.tensor([1, 2]).int(),
        "words": ["a", "bc"], "scalar": 0.5, "complex": 1 + 2j,
    }  # fmt: skip
    for name, value in expected.items():
        assert same(held[name], value), name


def test_one_item_is_written_without_a_wrapping(store, tmp_path):
    saved = save(store, {"model": {"w": torch.ones(2)}})
    path = tmp_path / "model.pt"
    exporting.export(store._place, saved.manifest, path, format="torch", item="model")
    assert same(torch.load(path, weights_only=True), {"w": torch.ones(2)})  # noqa: TID251


def test_metrics_alone_are_no_torch_file(store, tmp_path):
    with pytest.raises(ConfigError, match="only metrics"):
        save(store, {}, kind="metrics").export(tmp_path / "out.pt", "torch")
    assert list(tmp_path.iterdir()) == [store.path]


# -- whole or not there ------------------------------------------------------------------------


@pytest.mark.parametrize("format", FORMATS)
def test_damage_is_found_while_copying_and_nothing_is_left(store, tmp_path, format):
    saved = save(store, {"model": {"w": torch.ones(300)}})
    flip(saved.path / "model.safetensors")
    with pytest.raises(IntegrityError, match="'w'"):
        saved.export(tmp_path / "out", format)
    assert list(tmp_path.iterdir()) == [store.path]


@pytest.mark.parametrize("format", FORMATS)
def test_a_taken_path_is_left_as_it_is(store, tmp_path, format):
    (saved,) = train(store, "a", [1])
    path = tmp_path / "out"
    path.write_text("mine")
    with pytest.raises(ConfigError, match="exists already"):
        saved.export(path, format)
    assert path.read_text() == "mine"


def test_an_unknown_format_lists_those_that_are_known(store, tmp_path):
    (saved,) = train(store, "a", [1])
    with pytest.raises(ConfigError) as refused:
        saved.export(tmp_path / "out", "zip")
    assert all(name in refused.value.hint for name in FORMATS)


def test_a_folder_that_is_not_there_is_named(store, tmp_path):
    (saved,) = train(store, "a", [1])
    with pytest.raises(ConfigError, match="does not exist"):
        saved.export(tmp_path / "no" / "out")


@pytest.mark.parametrize("format", FORMATS)
def test_a_failing_medium_leaves_nothing(store, tmp_path, format, monkeypatch):
    (saved,) = train(store, "a", [1])

    def fail(self: Path, target: Path) -> Path:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(SaveError, match="Input/output error"):
        saved.export(tmp_path / "out", format)
    monkeypatch.undo()
    assert list(tmp_path.iterdir()) == [store.path]
