"""What other tools wrote becomes a checkpoint, exactly, and no code in it ever runs."""

import json
import os
from datetime import UTC, datetime

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

import holdfast
from holdfast import keep, when
from holdfast.errors import ConfigError, FormatError, LockedError
from holdfast.lifecycle.importing import read_foreign
from tests.lifecycle.stores import outcome, train
from tests.lifecycle.test_exporting import every_dtype, same, save, trained


@pytest.fixture
def store(tmp_path):
    with holdfast.open(tmp_path / "store") as opened:
        yield opened


# -- safetensors -------------------------------------------------------------------------------


def test_a_file_of_the_safetensors_library_is_read_to_the_bit(store, tmp_path):
    state = every_dtype()
    save_file(state, tmp_path / "net.safetensors")
    got = store.import_checkpoint(tmp_path / "net.safetensors", run="a", metadata={"from": "hub"})
    assert (got.kind, got.items, got.step, got.reason) == ("weights", ("model",), 0, "imported")
    assert same(got.load("model"), state)
    assert got.metadata == {"imported_from": "net.safetensors", "from": "hub"}
    assert store.latest("a") == got
    got.verify()


def test_it_restores_into_a_model(store, tmp_path):
    model, _ = trained()
    save_file(model.state_dict(), tmp_path / "net.safetensors")
    got = store.import_checkpoint(tmp_path / "net.safetensors", run="a")
    fresh = trained()[0]
    with torch.no_grad():
        for tensor in fresh.state_dict().values():
            tensor.zero_()
    got.restore(model=fresh)
    assert same(dict(fresh.state_dict()), dict(model.state_dict()))


def test_a_folder_of_files_without_an_index_has_an_item_for_each(tmp_path):
    save_file({"w": torch.ones(2)}, tmp_path / "encoder.safetensors")
    save_file({"w": torch.zeros(2)}, tmp_path / "decoder part.safetensors")
    items = read_foreign(tmp_path).items
    assert set(items) == {"encoder", "decoder-part"}
    assert same(items["encoder"], {"w": torch.ones(2)})


# -- Hugging Face ------------------------------------------------------------------------------


def hugging_face(folder, *, split: bool) -> dict[str, torch.Tensor]:
    state = {"a.weight": torch.ones(3), "b.weight": torch.zeros(2)}
    (folder / "config.json").write_text('{"model_type": "tiny"}')
    if not split:
        save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
        return state
    weight_map = {}
    for number, (name, tensor) in enumerate(state.items(), start=1):
        file = f"model-{number:05d}-of-00002.safetensors"
        save_file({name: tensor}, folder / file)
        weight_map[name] = file
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    return state


@pytest.mark.parametrize("split", [False, True])
def test_a_folder_of_hugging_face_is_read_with_its_training_state(store, tmp_path, split):
    state = hugging_face(tmp_path, split=split)
    (tmp_path / "trainer_state.json").write_text(
        '{"global_step": 20, "epoch": 1.5, "log_history": ['
        '{"step": 10, "loss": 3.0, "epoch": 0.7}, {"step": 20, "loss": 2.0}, '
        '{"step": 20, "eval_loss": NaN, "note": "x"}, {"step": 30, "loss": 1.0}]}'
    )
    (tmp_path / "training_args.bin").write_bytes(b"no weights")
    got = store.import_checkpoint(tmp_path, run="a")
    assert same(got.load("model"), state)
    assert (got.step, got.epoch, got.metrics, got.kind) == (20, 1, {"loss": 2.0}, "weights")
    assert got.config == {"model_type": "tiny"}


def test_a_folder_with_an_older_file_of_torchs_is_read(tmp_path):
    torch.save({"w": torch.ones(2)}, tmp_path / "pytorch_model.bin")  # noqa: TID251
    assert same(read_foreign(tmp_path).items["model"], {"w": torch.ones(2)})


@pytest.mark.parametrize(
    ("index", "complaint"),
    [
        ({"weight_map": {"a": "../../etc/passwd"}}, "lies elsewhere"),
        ({"weight_map": {"a": "/etc/passwd"}}, "lies elsewhere"),
        ({"weight_map": {"a": "gone.safetensors"}}, "missing"),
        ({"weight_map": {"zzz": "model.safetensors"}}, "none of its files holds"),
        ({"weight_map": []}, None),
        ([], "no JSON object"),
    ],
)
def test_an_index_that_lies_is_refused(tmp_path, index, complaint):
    save_file({"a": torch.ones(2)}, tmp_path / "model.safetensors")
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    if complaint is None:
        assert read_foreign(tmp_path).items == {"model": {}}
        return
    with pytest.raises(FormatError, match=complaint):
        read_foreign(tmp_path)


# -- torch -------------------------------------------------------------------------------------


def test_a_bare_state_dict_is_the_model(store, tmp_path):
    model, _ = trained()
    torch.save(model.state_dict(), tmp_path / "net.pth")  # noqa: TID251
    got = store.import_checkpoint(tmp_path / "net.pth", run="a")
    assert got.kind == "weights"
    assert same(dict(got.load("model")), dict(model.state_dict()))


def test_a_training_checkpoint_comes_apart_into_items_and_what_is_said(store, tmp_path):
    model, optimizer = trained()
    torch.save(  # noqa: TID251
        {
            "model_state_dict": model.state_dict(),
            "optimizer_state_dict": optimizer.state_dict(),
            "epoch": 4, "global_step": 400, "loss": 0.25, "arch": "mlp",
        },
        tmp_path / "last.ckpt",
    )  # fmt: skip
    got = store.import_checkpoint(tmp_path / "last.ckpt", run="a", metrics={"accuracy": 0.5})
    assert (got.kind, got.step, got.epoch) == ("full", 400, 4)
    assert got.metrics == {"loss": 0.25, "accuracy": 0.5}
    assert got.metadata["arch"] == "mlp"
    assert set(got.items) == {"model", "optimizer"}
    assert same(got.load("optimizer"), optimizer.state_dict())


class Payload:
    """What an attacker's file would hold: it makes a folder when it is unpickled."""

    def __init__(self, path) -> None:
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_code_in_a_file_is_not_run(store, tmp_path):
    torch.save({"w": Payload(tmp_path / "owned")}, tmp_path / "evil.pt")  # noqa: TID251
    with pytest.raises(FormatError, match="refused by torch") as refused:
        store.import_checkpoint(tmp_path / "evil.pt", run="a")
    assert "safetensors" in refused.value.hint
    assert not (tmp_path / "owned").exists()
    assert store.runs() == []


@pytest.mark.parametrize("content", [b"", b"junk", b"PK\x03\x04broken", b"\x80\x02}q\x00."])
def test_a_broken_file_of_torchs_is_refused_or_holds_nothing(tmp_path, content):
    (tmp_path / "x.pt").write_bytes(content)
    found = outcome(lambda: read_foreign(tmp_path / "x.pt").items)
    assert found == {"model": {}} or (isinstance(found, FormatError) and "x.pt" in found.message)


# -- our own exports ---------------------------------------------------------------------------


def test_an_export_comes_back_with_everything(store, tmp_path):
    model, optimizer = trained()
    extra = {"time": datetime(2026, 1, 1, tzinfo=UTC), "array": np.arange(3.0), "pair": (1, None)}
    saved = save(
        store, {"model": model, "optimizer": optimizer, "extra": extra}, config={"lr": 0.1}
    )
    saved.report(accuracy=0.75)
    folder = saved.export(tmp_path / "out")
    with holdfast.open(tmp_path / "elsewhere") as other:
        got = other.import_checkpoint(folder, run="b")
        assert (got.kind, got.step, got.config) == ("full", 7, {"lr": 0.1})
        assert got.metrics == {"loss": 0.5, "accuracy": 0.75}
        assert set(got.items) == set(saved.items)
        for item in ("model", "optimizer"):
            assert same(got.load(item), saved.load(item))
        for item in saved.items:
            digests = [{s.shard for s in c.manifest.items[item].shards} for c in (got, saved)]
            assert digests[0] == digests[1], item
        assert {k: repr(v) for k, v in got.load("extra").items()} == {
            k: repr(v) for k, v in extra.items()
        }


def test_an_imported_run_can_be_gone_on_with(store, tmp_path):
    model, optimizer = trained()
    folder = save(store, {"model": model, "optimizer": optimizer}).export(tmp_path / "out")
    store.import_checkpoint(folder, run="b")
    fresh = trained()[0]
    run = store.run("b", save=when.never())
    run.attach(model=fresh, optimizer=torch.optim.AdamW(fresh.parameters()))
    assert run.resume() == 8
    run.close()
    assert same(dict(fresh.state_dict()), dict(model.state_dict()))


def test_a_metrics_checkpoint_comes_back(store, tmp_path):
    folder = save(store, {}, kind="metrics").export(tmp_path / "out")
    got = store.import_checkpoint(folder, run="b")
    assert (got.kind, got.metrics, got.items) == ("metrics", {"loss": 0.5}, ())


def test_a_hugging_face_export_of_ours_keeps_step_and_metrics(store, tmp_path):
    folder = save(store, {"model": {"w": torch.ones(2)}}, config={"n": 1}).export(
        tmp_path / "out", "huggingface"
    )
    got = store.import_checkpoint(folder, run="b")
    assert (got.step, got.metrics, got.config) == (7, {"loss": 0.5}, {"n": 1})


# -- runs --------------------------------------------------------------------------------------


def test_an_import_deletes_nothing_and_keeps_the_runs_metric(store, tmp_path):
    before = train(store, "a", [3, 2, 1], policy=keep.latest(3))
    save_file({"w": torch.ones(2)}, tmp_path / "x.safetensors")
    got = store.import_checkpoint(tmp_path / "x.safetensors", run="a", step=9, metrics={"loss": 5})
    assert set(store.checkpoints("a")) == {*before, got}
    assert store["a"].metric == "loss"
    assert store["a"].best() == before[-1]
    assert got.step == 9


def test_a_run_that_is_written_takes_no_import(store, tmp_path):
    train(store, "a", [1], finish=False)
    save_file({"w": torch.ones(2)}, tmp_path / "x.safetensors")
    with pytest.raises(LockedError):
        store.import_checkpoint(tmp_path / "x.safetensors", run="a")


def test_what_is_no_checkpoint_is_refused_and_makes_no_run(store, tmp_path):
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "empty").mkdir()
    for name in ("nothing.pt", "notes.txt", "empty"):
        with pytest.raises(ConfigError):
            store.import_checkpoint(tmp_path / name, run="a")
    assert store.runs() == []


# -- hostile files -----------------------------------------------------------------------------


SOUND = {
    "w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]},
    "v": {"dtype": "U8", "shape": [3], "data_offsets": [8, 11]},
}


def write_raw(path, header: bytes, data: bytes = bytes(11)) -> None:
    path.write_bytes(len(header).to_bytes(8, "little") + header + data)


@pytest.mark.parametrize(
    "change",
    [
        {"w": {"dtype": "F32", "shape": [3], "data_offsets": [0, 8]}},
        {"w": {"dtype": "F32", "shape": [-2], "data_offsets": [0, 8]}},
        {"w": {"dtype": "F32", "shape": [2], "data_offsets": [-8, 0]}},
        {"w": {"dtype": "F32", "shape": [2], "data_offsets": [8, 16]}},
        {"w": {"dtype": "F99", "shape": [2], "data_offsets": [0, 8]}},
        {"w": {"dtype": "F32", "shape": [True, 2], "data_offsets": [0, 8]}},
        {"w": {"dtype": "F32", "data_offsets": [0, 8]}},
        {"w": 3},
        {"x": {"dtype": "F32", "shape": [2**40], "data_offsets": [11, 2**42 + 11]}},
        {"x": {"dtype": "U8", "shape": [4], "data_offsets": [4, 8]}},
    ],
)
def test_a_header_that_does_not_add_up_is_refused(tmp_path, change):
    write_raw(tmp_path / "x.safetensors", json.dumps({**SOUND, **change}).encode())
    with pytest.raises(FormatError):
        read_foreign(tmp_path / "x.safetensors")


def test_a_sound_header_is_read(tmp_path):
    write_raw(tmp_path / "x.safetensors", json.dumps(SOUND).encode())
    state = read_foreign(tmp_path / "x.safetensors").items["model"]
    assert same(state["w"], torch.zeros(2))


@settings(max_examples=120, deadline=None)
@given(st.data())
def test_any_bytes_are_read_or_refused(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "fuzz.safetensors"
    header = bytearray(json.dumps(SOUND).encode())
    raw = bytearray(len(header).to_bytes(8, "little") + header + bytes(11))
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(raw[: data.draw(st.integers(0, len(raw)))])
    found = outcome(lambda: read_foreign(path).items["model"])
    if isinstance(found, dict):
        assert sum(tensor.nbytes for tensor in found.values()) <= 11
    else:
        assert isinstance(found, FormatError)
        assert found.hint
