"""Which store a command is about."""

import pytest

import holdfast
from holdfast.cli.finding import find_store, open_store
from holdfast.errors import ConfigError, NotFoundError


@pytest.fixture(autouse=True)
def _no_variable(monkeypatch):
    monkeypatch.delenv("HOLDFAST_STORE", raising=False)


def make(path):
    path.mkdir(parents=True, exist_ok=True)
    (path / "holdfast.json").write_text("{}")
    return str(path)


PLACES = [
    # Folders that are stores; the one that is found from "here".
    ((".", "here", "here/checkpoints"), "here"),
    ((".", "here/checkpoints"), "."),
    (("here/checkpoints", "here/models/checkpoints"), "here/checkpoints"),
    (("here/models/checkpoints",), "here/models/checkpoints"),
]


@pytest.mark.parametrize(("stores", "expected"), PLACES)
def test_the_nearest_store_upwards_comes_before_the_usual_places(tmp_path, stores, expected):
    (tmp_path / "here").mkdir()
    for store in stores:
        make(tmp_path / store)
    assert find_store(None, start=tmp_path / "here") == str(tmp_path / expected)


def test_what_is_given_comes_first_then_the_environment(tmp_path, monkeypatch):
    make(tmp_path)
    monkeypatch.setenv("HOLDFAST_STORE", "from-environment")
    assert find_store("given", start=tmp_path) == "given"
    assert find_store(None, start=tmp_path) == "from-environment"


def test_nothing_found_names_what_was_looked_for(tmp_path):
    with pytest.raises(NotFoundError) as caught:
        find_store(None, start=tmp_path)
    for words in (str(tmp_path), "holdfast.json", "./checkpoints", "./models/checkpoints"):
        assert words in caught.value.message
    assert "--store" in caught.value.hint


@pytest.mark.parametrize("writing", [True, False])
def test_a_mistyped_path_makes_no_store(tmp_path, writing):
    with pytest.raises(NotFoundError):
        open_store(str(tmp_path / "typo"), writing=writing)
    assert list(tmp_path.iterdir()) == []


def test_only_what_writes_opens_for_writing(original, root):
    with open_store(str(original)) as store:
        assert not store.writable
    with open_store(f"file://{root}", writing=True) as store:
        assert store.writable
    with pytest.raises(ConfigError):
        open_store("ftp://somewhere", writing=True)


def test_an_import_may_make_one(tmp_path):
    with open_store(str(tmp_path / "new"), writing=True, create=True) as store:
        assert isinstance(store, holdfast.Store)
    assert (tmp_path / "new" / "holdfast.json").exists()


def test_options_stand_before_the_command_or_after_it(ask, original, monkeypatch, tmp_path):
    before = ask(original, "--json", "runs")
    monkeypatch.chdir(tmp_path)
    after = ask(None, "runs", "--store", original, "--json")
    assert before.out == after.out
    assert ask(None, "runs").code == 3
    # The one that stands nearer to the command is the one that is meant.
    assert ask(tmp_path / "other", "runs", "-s", original).code == 0
