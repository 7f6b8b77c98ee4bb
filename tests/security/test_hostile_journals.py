"""Lines of a journal with the right digest and the wrong content: passed over, and named."""

import os
import shutil

import pytest

import holdfast
from holdfast.engine.journal import MAX_LINE_NBYTES
from holdfast.errors import ConfigError, FormatError
from tests.security.hostile import (
    RUN,
    append,
    folders_of,
    forget_catalog,
    journal_of,
    sealed_line,
    small_store,
    use,
)

ID = f"{RUN}_20250101_000000"
HUGE = 10**30
ODD = [None, True, 5, -1, HUGE, 1.5, "", "x", [], {}, [1], {"a": 1}, [[]], "Infinity", "nan"]
GOOD = {
    "run": {"name": RUN, "created_at": 1.0, "metric": "loss", "mode": "min", "config": {},
            "policies": {}, "parent": None, "environment": {}},
    "resumed": {"id": ID, "step": 0},
    "steps": {"rows": [[0, 1.0, None, {"loss": 1.0}, False, "because"]]},
    "save": {"id": ID, "step": 0, "epoch": None, "created_at": 1.0, "reason": "manual",
             "kind": "full", "parent": None, "metrics": {}, "awaiting": []},
    "failed": {"id": ID, "step": 0, "error": "because"},
    "report": {"id": ID, "metrics": {"loss": 1.0}},
    "pin": {"id": ID},
    "unpin": {"id": ID},
    "tag": {"id": ID, "tags": ["a"]},
    "untag": {"id": ID, "tags": ["a"]},
    "damaged": {"id": ID, "reason": "because"},
    "healthy": {"id": ID, "reason": ""},
    "plan": {"deleted": [ID], "thinned": {}, "reasons": {}},
    "applied": {"deleted": [ID], "thinned": [], "spared": []},
    "kept": {"reasons": {ID: ["because"]}},
    "status": {"status": "running", "final": False},
}  # fmt: skip


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    return small_store(tmp_path_factory.mktemp("journals") / "store")


@pytest.fixture
def root(original, tmp_path):
    return shutil.copytree(original, tmp_path / "store")


@pytest.mark.slow
@pytest.mark.parametrize("kind", GOOD)
def test_members_of_any_kind_stop_nobody(root, kind):
    lines = [{"t": kind, "at": value, **GOOD[kind]} for value in ODD]
    for member in GOOD[kind]:
        lines += [{"t": kind, "at": 1.0, **GOOD[kind], member: value} for value in ODD]
        lines.append({"t": kind, "at": 1.0, **{k: v for k, v in GOOD[kind].items() if k != member}})
    append(root, *lines)
    use(root)
    with holdfast.open(root) as store:
        assert [run.name for run in store.runs()] == [RUN]
        assert store.get(f"{RUN}@latest").step in {1, 5}


def test_members_of_any_kind_all_in_one_journal_stop_nobody(root):
    append(
        root,
        *(
            {"t": kind, "at": 1.0, **good, member: value}
            for kind, good in GOOD.items()
            for member in good
            for value in ODD
        ),
    )
    use(root)
    with holdfast.open(root) as store:
        assert [run.name for run in store.runs()] == [RUN]
        assert store.get(f"{RUN}@latest").step in {1, 5}


ROWS = [
    [HUGE, 1.0, None, {}, False, ""],
    [0, "nan", None, {}, False, ""],
    [0, 1.0, HUGE, {}, False, ""],
    [0, 1.0, None, {"loss": "Infinity", "a": "NaN"}, False, ""],
    [0, 1.0, None, {"loss": HUGE**20}, False, ""],
    [0, 1.0, None, [], False, ""],
    [0, 1.0, None, {}, False, 5],
    [0, 1.0],
    5,
]


def test_rows_of_any_kind_stop_nobody(root):
    append(root, *({"t": "steps", "at": 1.0, "rows": [row]} for row in ROWS))
    use(root)
    with holdfast.open(root, mode="r") as store:
        assert store[RUN].history("loss")


def test_a_line_that_names_another_run_speaks_for_nobody(root):
    other = root / "runs/other"
    other.mkdir()
    append(root, {"t": "run", "at": 1.0, **GOOD["run"], "metric": "evil"}, run="other")
    with holdfast.open(root, mode="r") as store:
        assert {run.name: run.metric for run in store.runs()} == {RUN: "loss", "other": None}
        assert "other" in store.verify().journals


IDS = [
    "../../../outside_20250101_000000",
    "/etc/x_20250101_000000",
    "a\0b_20250101_000000",
    "x" * 300 + "_20250101_000000",
    "x\x1b[2J_20250101_000000",
    "x\u202e_20250101_000000",
    "\ud800_20250101_000000",
    "..",
    "",
    5,
    None,
]


@pytest.mark.parametrize("checkpoint_id", IDS, ids=lambda text: ascii(text)[:30])
def test_no_line_deletes_or_names_what_is_no_checkpoint(root, checkpoint_id):
    outside = root.parent / "outside_20250101_000000"
    outside.mkdir()
    (outside / "manifest.json").write_bytes(b"not to be deleted")
    append(
        root,
        {"t": "plan", "at": 1.0, "deleted": [checkpoint_id], "thinned": {}, "reasons": {}},
        {"t": "plan", "at": 1.0, "deleted": [], "reasons": {}, "thinned": {str(checkpoint_id): []}},
        {"t": "pin", "at": 1.0, "id": checkpoint_id},
        {"t": "save", "at": 1.0, **GOOD["save"], "id": checkpoint_id},
    )
    use(root)
    assert (outside / "manifest.json").read_bytes() == b"not to be deleted"
    with holdfast.open(root, mode="r") as store:
        assert store.explain(f"{RUN}@step:5").checkpoint is not None


TEXTS = {
    "nested a hundred thousand deep": '{"t":"run","config":' + "[" * 100_000 + "]" * 100_000,
    "nested as deep as parsers go": '{"t":"run","at":1,"name":"mine","created_at":1,"config":{"a":'
    + "[" * 500 + "]" * 500 + "}",
    "a name twice": '{"t":"pin","id":"a","id":"b"',
    "a number beyond floats": '{"t":"save","at":1e999',
    "NaN": '{"t":"save","at":NaN',
    "five thousand digits": '{"t":"save","at":' + "9" * 5000,
    "half a pair": '{"t":"\\ud800"',
    "half a pair, raw": '{"t":"\ud800"',
    "a list": '[{"t":"pin"}',
    "an unknown kind": '{"t":"teleport","id":["a"]',
    "no kind": '{"a":1',
    "a kind that is a list": '{"t":["pin"]',
    "zeros": "\0" * 100,
}  # fmt: skip


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS.keys())
def test_a_line_of_any_text_stops_nobody(root, text):
    with journal_of(root).open("ab") as file:
        file.write(sealed_line(text) + text.encode("utf-8", "surrogatepass") + b"\n")
    use(root)
    with holdfast.open(root, mode="r") as store:
        assert store.latest(RUN).metrics["loss"] <= 1


def test_a_journal_of_holes_is_refused_and_not_read_to_its_end(root):
    with journal_of(root).open("r+b") as file:
        file.truncate(1 << 42)
    use(root)
    refusal = f"a line of more than {MAX_LINE_NBYTES} bytes"
    # One such run closes no store; whoever writes or prunes it is refused.
    with holdfast.open(root) as store:
        assert refusal in store.verify().journals[RUN][0]
        with pytest.raises(FormatError, match=refusal):
            store.run(RUN, metric="loss")
        with pytest.raises(FormatError, match=refusal):
            store.prune(RUN)


def test_a_line_that_no_reader_takes_is_not_written(root, monkeypatch):
    monkeypatch.setattr("holdfast.engine.journal.MAX_LINE_NBYTES", 1000)
    with holdfast.open(root) as store:
        before = journal_of(root).stat().st_size
        with pytest.raises(ConfigError, match="a line of"):
            store.run(RUN, metric="loss", config={"long": "x" * 2000})
        assert journal_of(root).stat().st_size == before


FOLDERS = [b"\xff\xfe", b"a b", b"a\x1b[2J", "ä".encode(), b".hidden", b"x" * 230, b"a++b", b"+"]


def test_a_folder_that_no_run_can_have_is_passed_over(root):
    for name in FOLDERS:
        folder = root / "runs" / os.fsdecode(name)
        folder.mkdir()
        (folder / "journal.jsonl").write_bytes(sealed_line('{"t":"pin","at":1,"id":"a"'))
    forget_catalog(root)
    assert use(root) == []
    with holdfast.open(root, mode="r") as store:
        assert [run.name for run in store.runs()] == [RUN]


def test_a_folder_that_no_checkpoint_can_have_is_passed_over(root):
    for name in (*IDS[3:7], f"other_{ID[-15:]}"):
        if len(name) < 255 and name.isprintable():
            (folders_of(root)[0].parent / name).mkdir()
    (folders_of(root)[0].parent / "x\x1b[2J_20250101_000000").mkdir()
    forget_catalog(root)
    use(root)
    with holdfast.open(root, mode="r") as store:
        assert len(store.checkpoints()) >= 1
