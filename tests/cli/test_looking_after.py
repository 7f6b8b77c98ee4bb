"""plan, prune, delete, verify, usage, doctor, reindex, tags, pins, export, import."""

import pytest
from safetensors.numpy import load_file, save_file

import holdfast
from tests.cli.conftest import in_process

POLICY = "best(1, 'val_loss')"


def ids(ask, root, run="digits-cnn"):
    return ask(root, "ls", run, "-q").out.split()


def test_a_plan_changes_nothing_and_gives_a_reason_for_each(ask, root):
    before = ids(ask, root)
    answer = ask(root, "plan", "digits-cnn", "--keep", POLICY)
    assert answer.code == 0
    # The best one, and the newest of a run that may go on.
    assert answer.out.count("  delete  ") == len(before) - 2
    assert f"2 kept, 0 thinned, {len(before) - 2} deleted: frees " in answer.out
    assert ids(ask, root) == before


def test_a_plan_as_json_is_the_plan_that_prune_applies(ask, root):
    plan = ask(root, "plan", "digits-cnn", "--keep", f"keep.{POLICY}", "--json").data
    done = ask(root, "prune", "digits-cnn", "--keep", POLICY, "--yes", "--json").data
    assert (plan.pop("applied"), done.pop("applied")) == (False, True)
    assert plan == done
    assert all(entry["reasons"] for entry in plan["deleted"])
    assert set(ids(ask, root)) == {entry["id"] for entry in plan["kept"]}


def test_prune_says_what_it_freed(ask, root):
    answer = ask(root, "prune", "--keep", POLICY, "-y")
    assert answer.code == 0
    assert "Deleted " in answer.out
    assert ": freed " in answer.out


def test_the_policy_of_the_run_is_the_one_that_counts_without_another(ask, root):
    plan = ask(root, "plan", "digits-cnn", "--json").data
    assert plan["deleted"] == []
    assert any("best 2 by val_loss" in why for why in plan["kept"][0]["reasons"])


@pytest.mark.parametrize("words", [("prune", "--keep", "none()"), ("delete", "digits-cnn")])
def test_nothing_goes_where_nobody_can_be_asked(ask, root, words):
    before = ids(ask, root)
    answer = ask(root, *words)
    assert answer.code == 2
    assert "--yes" in answer.err
    assert ids(ask, root) == before


@pytest.mark.parametrize(
    "text", ["best(", "foo(1)", "best(1).__class__", "__import__('os')", "best(0)", "latest(1) & 2"]
)
def test_a_policy_that_cannot_be_read_is_refused(ask, root, text):
    answer = ask(root, "plan", "--keep", text)
    assert answer.code == 2
    assert answer.out == ""
    assert "policy" in answer.err


def test_delete_takes_runs_by_pattern_and_leaves_the_pinned(ask, root):
    ask(root, "pin", "study/trial-7@latest")
    answer = ask(root, "delete", "study/*", "--yes", "--json")
    assert answer.code == 0
    assert len(ids(ask, root, "study/trial-7")) == 1
    assert ask(root, "delete", "nothing*", "-y").code == 3


def test_delete_takes_one_checkpoint_by_reference(ask, root):
    before = ids(ask, root)
    assert ask(root, "delete", "digits-cnn@latest", "-y").code == 0
    assert ids(ask, root) == before[1:]


def flip(root, run="digits-cnn"):
    """Flips a bit of a tensor of a run's newest checkpoint; returns the checkpoint's id."""
    with holdfast.open(root, mode="r") as store:
        newest = store.latest(run)
    # A shard that no other checkpoint holds: its own name, and the one under shards/.
    shards = newest.path.glob("model*.safetensors")
    path = min(path for path in shards if path.stat().st_nlink == 2)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.chmod(0o644)
    path.write_bytes(data)
    return newest.id


def test_a_sound_store_verifies(ask, root):
    answer = ask(root, "verify")
    assert answer.code == 0
    assert "0 damaged." in answer.out
    assert ask(root, "verify", "digits-cnn", "--json").data["ok"] is True


def test_a_flipped_bit_is_found_and_exits_with_5(ask, root):
    damaged = flip(root)
    answer = ask(root, "verify")
    assert answer.code == 5
    assert damaged in answer.out
    assert damaged in answer.err
    assert "damaged" in ask(root, "ls", "digits-cnn").out
    data = ask(root, "verify", damaged, "--json")
    assert (data.code, list(data.data["damaged"])) == (5, [damaged])
    assert ask(root, "verify", "study/trial-7").code == 0


def test_usage_counts_shared_bytes_once(ask, original):
    data = ask(original, "usage", "--json").data
    assert data["runs"].keys() == {"digits-cnn", "study/trial-7"}
    assert data["stored_nbytes"] < sum(run["stored_nbytes"] for run in data["runs"].values())
    assert data["saved_nbytes"] == max(0, data["nbytes"] - data["stored_nbytes"])
    shown = ask(original, "usage").out
    assert "LOGICAL" in shown
    assert "STORED" in shown
    assert "sharing saves" in shown


def test_usage_stands_against_its_budget(ask, original):
    answer = ask(original, "usage", "--budget", "2GB")
    assert " / 2.0GB  ░" in answer.out
    over = ask(original, "usage", "--budget", "1kB")
    assert "over the budget" in over.out
    assert ask(original, "usage", "--budget", "1kB", "--json").data["budget"]["exceeded"] is True
    assert ask(original, "usage", "--budget", "many").code == 2


def test_doctor_tells_what_the_place_can_do(ask, root):
    answer = ask(root, "doctor")
    assert answer.code == 0
    assert "hard links" in answer.out
    place = ask(root, "doctor", "--json").data["place"]
    assert place.keys() >= {"filesystem", "hard_links", "folder_sync", "sqlite_wal"}


def test_doctor_finds_what_was_left_behind_and_sets_it_right(ask, root):
    # A name that the store's own temporary files have, in a place where they are made.
    with holdfast.open(root, mode="r") as store:
        folder = store.latest("digits-cnn").path
    (folder / ".tmp-left").write_bytes(b"half")
    answer = ask(root, "doctor")
    assert ".tmp-left" in answer.out.replace("\n", "")
    assert "no" in answer.out
    assert (folder / ".tmp-left").exists()
    done = ask(root, "doctor", "--apply", "--json").data
    assert done["ok"] is True
    assert not (folder / ".tmp-left").exists()
    assert not any(
        ".tmp-left" in found["path"] for found in ask(root, "doctor", "--json").data["findings"]
    )


def test_doctor_exits_with_1_while_something_is_left(ask, root):
    with holdfast.open(root, mode="r") as store:
        folder = store.latest("digits-cnn").path
    (folder / ".tmp-left").write_bytes(b"half")
    answer = ask(root, "doctor")
    assert answer.code == 1
    assert "1 finding is left" in answer.err
    assert "--apply" in answer.err
    assert ask(root, "doctor", "--apply").code == 0
    (folder / "notes.txt").write_text("mine")
    assert ask(root, "doctor", "--apply").code == 1
    assert ask(root, "doctor", "--json").data["findings"][0]["kind"] == "stray"


def test_doctor_makes_a_damaged_store_file_anew_when_asked(ask, root):
    before = ask(root, "ls", "--json").data
    (root / "holdfast.json").chmod(0o644)
    (root / "holdfast.json").write_text("{}")
    assert ask(root, "ls", "--json").data == before
    plan = ask(root, "doctor", "--json")
    assert plan.code == 1
    assert plan.data["findings"][0]["path"] == "holdfast.json"
    assert (root / "holdfast.json").read_text() == "{}"
    assert ask(root, "doctor", "--apply").code == 0
    assert ask(root, "doctor").code == 0
    assert ask(root, "ls", "--json").data == before
    assert not list(root.glob("*.damaged-*"))


def test_doctor_runs_where_the_catalog_is_garbage(ask, root):
    before = ask(root, "ls", "--json").data
    for path in root.glob("catalog.sqlite3*"):
        path.unlink()
    (root / "catalog.sqlite3").write_bytes(b"garbage" * 1000)
    assert ask(root, "doctor").code == 1
    assert ask(root, "doctor", "--apply").code == 0
    assert ask(root, "ls", "--json").data == before


def test_verify_leaves_out_what_was_verified_since(ask, root):
    first = ask(root, "verify", "digits-cnn", "--json").data
    again = ask(root, "verify", "--since", "1h", "--rate", "1GB/s", "--json").data
    assert set(again["skipped"]) == set(first["checked"])
    assert not set(again["checked"]) & set(first["checked"])
    answer = ask(root, "verify", "--since", "1h")
    assert "verified since, 0 damaged." in answer.out
    assert "0 checkpoints, 0B in 0 files read" in answer.out
    assert ask(root, "verify", "--since", "never").code == 2
    assert ask(root, "verify", "--rate", "fast").code == 2


@pytest.mark.parametrize("writable", [True, False])
def test_ctrl_c_in_a_verification_says_what_is_noted(ask, root, monkeypatch, writable):
    real = holdfast.Store.verify

    def verify(self, *arguments, **named):
        real(self, "digits-cnn")
        raise KeyboardInterrupt

    monkeypatch.setattr(holdfast.Store, "verify", verify)
    if not writable:
        monkeypatch.setattr(holdfast.Store, "writable", False)
    answer = ask(root, "verify")
    assert answer.code == 130
    assert ("goes on from here" if writable else "Nothing is noted") in answer.err


def test_a_lost_catalog_is_rebuilt(ask, root):
    before = ask(root, "ls", "--json").data
    for path in root.glob("catalog.sqlite3*"):
        path.unlink()
    assert ask(root, "ls", "--json").data == before
    answer = ask(root, "reindex", "--json")
    assert answer.data == {"runs": 2, "checkpoints": len(before)}
    assert (root / "catalog.sqlite3").exists()


def test_tags_and_pins_come_and_go(ask, root):
    tagged = ask(root, "tag", "digits-cnn@best", "prod", "v1", "--json").data
    assert tagged["tags"] == ["prod", "v1"]
    assert ask(root, "show", "digits-cnn@tag:prod", "--json").data["id"] == tagged["id"]
    assert ask(root, "untag", "digits-cnn@tag:prod", "v1").out.endswith("has the tags: prod\n")
    assert "is pinned" in ask(root, "pin", tagged["id"]).out
    assert ask(root, "show", tagged["id"], "--json").data["pinned"] is True
    assert ask(root, "unpin", tagged["id"], "--json").data["pinned"] is False
    assert ask(root, "tag", tagged["id"], "no tag").code == 2


def test_what_is_exported_opens_without_holdfast(ask, root, tmp_path):
    answer = ask(root, "export", "digits-cnn@best", tmp_path / "out", "--json")
    assert answer.code == 0
    assert load_file(tmp_path / "out" / "model.safetensors")["w"].shape == (20, 20)
    assert answer.data["path"] == str(tmp_path / "out")
    taken = ask(root, "export", "digits-cnn@best", tmp_path / "out")
    assert (taken.code, taken.out) == (2, "")


def test_a_safetensors_file_becomes_a_checkpoint(ask, root, tmp_path):
    with holdfast.open(root, mode="r") as store:
        state = store.get("digits-cnn@best").load("model")
    save_file(state, tmp_path / "model.safetensors")
    arguments = ("import", tmp_path / "model.safetensors", "--run", "brought", "--step", 7)
    answer = ask(root, *arguments, "--json")
    assert (answer.code, answer.data["run"], answer.data["step"]) == (0, "brought", 7)
    with holdfast.open(root, mode="r") as store:
        loaded = store.latest("brought").load("model")
    assert all((loaded[name] == state[name]).all() for name in state)


def test_an_import_may_make_the_store(ask, original, tmp_path):
    with holdfast.open(original, mode="r") as store:
        save_file(store.get("digits-cnn@best").load("model"), tmp_path / "a.safetensors")
    answer = in_process(
        "-s", tmp_path / "new", "import", "a.safetensors", "--run", "r", "-q", cwd=tmp_path
    )
    assert answer.code == 0, answer.err
    assert answer.out.startswith("r_")
