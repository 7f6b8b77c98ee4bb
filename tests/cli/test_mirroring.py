"""`holdfast mirror`, and the way back from a mirror at three in the morning."""

import shutil

import pytest

import holdfast
from tests.lifecycle.stores import flip


@pytest.fixture
def second(root):
    return root.with_name("second place")


def newest(root):
    with holdfast.open(root, mode="r") as store:
        return store.latest("digits-cnn").path


def test_a_mirror_is_made_where_it_is_named_and_remembered_from_then_on(ask, root, second):
    first = ask(root, "mirror", "--to", second)
    assert (first.code, "checkpoints copied" in first.out) == (0, True)
    again = ask(root, "mirror", "--json")
    assert again.data["ok"]
    assert again.data["mirrors"][0]["mirror"] == str(second)
    assert again.data["mirrors"][0]["copied"] == []
    assert ask(second, "verify").code == 0


def test_one_run_can_be_mirrored_alone(ask, root, second):
    assert ask(root, "mirror", "study/trial-7", "--to", second, "--quiet").code == 0
    with holdfast.open(second, mode="r") as store:
        assert [run.name for run in store.runs()] == ["study/trial-7"]


def test_what_could_not_be_copied_is_in_the_exit_code(ask, root, second):
    flip(newest(root) / "model.safetensors")
    damaged = ask(root, "mirror", "--to", second)
    assert damaged.code == 5
    assert "was not copied" in damaged.err
    shutil.rmtree(second)
    second.mkdir()
    gone = ask(root, "mirror")
    assert gone.code == 8
    assert "is gone" in gone.err


def test_without_a_mirror_the_answer_says_how_to_name_one(ask, root):
    answer = ask(root, "mirror")
    assert answer.code == 2
    assert "has no mirror" in answer.err


def test_doctor_mends_from_the_mirror_that_the_store_remembers(ask, root, second):
    ask(root, "mirror", "--to", second)
    shutil.rmtree(newest(root))
    assert ask(root, "doctor", "--apply").code == 0
    assert ask(root, "verify").code == 0
    assert newest(root).exists()


def test_doctor_heals_damage_that_verify_found_and_nothing_is_left(ask, root, second):
    ask(root, "mirror", "--to", second)
    damaged = newest(root)
    flip(damaged / "model.safetensors")
    assert ask(root, "verify").code == 5
    assert newest(root) != damaged
    assert ask(root, "doctor").code == 1
    assert ask(root, "doctor", "--apply").code == 0
    assert newest(root) == damaged
    assert (ask(root, "verify").code, ask(root, "doctor").code) == (0, 0)


@pytest.mark.parametrize("spoil", [flip, lambda path: path.unlink()])
def test_a_damaged_store_file_comes_from_the_mirror_that_the_store_remembers(
    ask, root, second, spoil
):
    ask(root, "mirror", "--to", second)
    with holdfast.open(root, mode="r") as store:
        name = store.id
    spoil(root / "holdfast.json")
    assert ask(root, "doctor", "--apply").code == 0
    with holdfast.open(root, mode="r") as store:
        assert store.id == name
    assert ask(root, "mirror").code == 0


@pytest.mark.parametrize("left", ["nothing", "an empty folder", "half of it"])
def test_a_store_that_is_gone_comes_back_by_the_command_that_opening_names(ask, root, second, left):
    ask(root, "mirror", "--to", second)
    before = {c["id"] for c in ask(root, "ls", "--json").data}
    if left == "half of it":
        shutil.rmtree(root / "runs" / "digits-cnn")
    else:
        shutil.rmtree(root)
    if left == "an empty folder":
        root.mkdir()
    answer = ask(root, "doctor", "--apply", "--mirror", second)
    assert answer.code == 0, answer.err
    assert {c["id"] for c in ask(root, "ls", "--json").data} == before
    assert ask(root, "verify").code == 0


def test_nothing_comes_back_from_a_mirror_that_is_not_there(ask, root, second):
    shutil.rmtree(root)
    answer = ask(root, "doctor", "--apply", "--mirror", second)
    assert answer.code == 3
    assert "mounted" in answer.err
    assert not root.exists()
